"""A source archive, our database behind it, and the export command, within one process.

A test says what is in the source; leaving the ``source`` block brings it over. What the command
answers is looked at as a process would show it, but without the cost of starting one, and one
database serves many tests, emptied in between.

    with world.source() as archive:
        archive.add_session("a", project="tern")
    assert world.ids("--project", "tern") == ["a"]
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from exporter.db.connect import connect
from exporter.importers.agentsview import Summary, import_archive
from exporter.importers.agentsview_sqlite import SqliteSource
from exporter.progress import SILENT
from tests.archives.builder import SqliteArchive
from tests.archives.inside import run_inside
from tests.interop.compare import document
from tests.interop.origin import Result
from tests.postgres import settings_for

#: What imports write, each table before those that it refers to. The archive's own identity and
#: the list of its revisions stay.
IMPORTED = (
    *("session_lines", "session_models", "session_changes", "usage_rows", "activity_points"),
    *("billing_rows", "project_observations", "worktree_mappings", "source_prices"),
    *("sessions", "model_rates", "models", "import_runs", "sources"),
    *("usage_slots", "repeated_usage", "repeated_keys", "pending_usage"),
)

#: The model of the one price in an empty source. Without any stored price the built-in ones are in
#: force, and each export would spend most of its time on the digest of those thousands.
UNUSED = "narwhal-1"


class Pipeline:
    """The road of one archive, from its rows to the exported text. Use as a context manager."""

    def __init__(self, database_url: str, folder: Path) -> None:
        """``database_url`` is a migrated database of our own, ``folder`` an empty one."""
        self.url = database_url
        self.settings = settings_for(database_url)
        self.path = folder / "sessions.db"
        self._empty = folder / "empty.db"

    def __enter__(self) -> Self:
        with SqliteArchive(self._empty) as archive:
            archive.add_price(UNUSED)
        self.conn = connect(self.settings)
        self._writer = connect(self.settings)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.conn.close()
        self._writer.close()

    def begin_again(self) -> None:
        """Empty both sides: a source with a price and nothing else, and nothing imported."""
        shutil.copyfile(self._empty, self.path)
        for table in IMPORTED:
            self.conn.execute(f"DELETE FROM {table}".encode())

    def forget_prices(self) -> None:
        """Take the price out of the empty source, for tests that count or digest price rows."""
        with SqliteArchive(self.path) as archive:
            archive.execute("DELETE FROM model_pricing")

    @contextmanager
    def source(self) -> Iterator[SqliteArchive]:
        """The source archive, to be filled or changed; it is imported when the block ends."""
        with SqliteArchive(self.path) as archive:
            yield archive
        self.bring()

    def bring(self) -> Summary:
        """Import the source as it is now."""
        source = SqliteSource(self.path)
        try:
            return import_archive(self.conn, lambda: nullcontext(self._writer), source, SILENT)
        finally:
            source.close()

    def sessions(self, *flags: str) -> Result:
        """Run ``exporter sessions`` with these flags."""
        code, out, err = run_inside(["sessions", "--database-url", self.url, *flags])
        return Result(code, out.decode(), err.decode())

    def export(self, *flags: str) -> dict[str, Any]:
        """The exported document, of a run that succeeded without a word."""
        result = self.sessions(*flags)
        assert (result.exit, result.stderr) == (0, "")
        return document(result.stdout)

    def rows(self, *flags: str) -> dict[str, dict[str, Any]]:
        """The exported sessions by id, in their order."""
        return {row["id"]: row for row in self.export(*flags)["sessions"]}

    def ids(self, *flags: str) -> list[str]:
        """The ids of the exported sessions, in their order."""
        return [row["id"] for row in self.export(*flags)["sessions"]]

    def cursor(self, *flags: str) -> str:
        """The cursor that a page with these flags ends with; there must be one."""
        following = self.export(*flags)["cursor"]["next"]
        assert following
        return str(following)
