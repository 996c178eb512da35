"""Processes that read for an import: they neither block one another nor lose what they meet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.db.connect import connect
from exporter.errors import DatabaseBusy, ExporterError, SourceUnreadable
from exporter.importers import agentsview, load
from exporter.importers.agentsview import Summary, import_archive
from exporter.importers.agentsview_sqlite import SqliteSource
from exporter.progress import SILENT
from exporter.settings import Settings
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.importers.test_import import fill

MODEL = "orca-large-2"
USAGE = {"input_tokens": 1200, "output_tokens": 300}


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read by readers."""
    monkeypatch.setattr(agentsview, "APART_MESSAGES", 0)
    monkeypatch.setattr(agentsview, "_cores", lambda: 2)


def bring(
    world: Pipeline,
    *,
    connect_by: Callable[[], Any] | None = None,
    open_source: Callable[[], Any] | None = None,
) -> Summary:
    with closing(SqliteSource(world.path)) as source:
        return import_archive(
            world.conn,
            connect_by or partial(connect, world.settings),
            source,
            SILENT,
            open_source=open_source or partial(SqliteSource, world.path),
        )


# -- what readers run, found by name in their own processes ---------------------------------------


def connect_as_import_only(settings: Settings, importer: int) -> Any:
    """A server that lets nobody else in than the process of the import."""
    if os.getpid() != importer:
        raise DatabaseBusy("the server has no connection left", sqlstate="53300")
    return connect(settings)


def connect_slowly_or_not(settings: Settings, importer: int, marker: Path) -> Any:
    """A server that lets in one of the readers only."""
    if os.getpid() != importer:
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            raise DatabaseBusy("the server has no connection left", sqlstate="53300") from None
    return connect(settings)


def open_with_a_fault(path: Path, word: str) -> Any:
    raise RuntimeError(word)


def open_with_repairs(path: Path) -> Any:
    source = SqliteSource(path)
    source.repairs.add("archive_id")
    return source


def open_and_dawdle(path: Path) -> Any:
    time.sleep(1)
    return SqliteSource(path)


# -- pipes ----------------------------------------------------------------------------------------


def test_large_batches_in_both_directions_do_not_wait_for_each_other(world: Pipeline) -> None:
    count = 6_000
    with SqliteArchive(world.path) as archive:
        for number in range(count):
            name = archive.add_session(f"{number:06}-" + "i" * 493, cwd="/home/kit/tern")
            archive.add_message(name, model=MODEL, token_usage=USAGE)
    found: list[Summary] = []
    thread = threading.Thread(target=lambda: found.append(bring(world)), daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive(), "the import and its readers wait for each other"
    assert (found[0].new, found[0].messages) == (count, count)


# -- no connection left ---------------------------------------------------------------------------


def test_without_a_connection_for_readers_the_import_reads_by_itself(world: Pipeline) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 6)
    only = partial(connect_as_import_only, world.settings, os.getpid())
    assert bring(world, connect_by=only).new == 6
    assert sorted(world.ids()) == [f"s{number}" for number in range(6)]


def test_what_a_reader_without_a_connection_leaves_over_is_read_all_the_same(
    world: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agentsview, "BATCH_SESSIONS", 2)
    with SqliteArchive(world.path) as archive:
        fill(archive, 23)
    one = partial(connect_slowly_or_not, world.settings, os.getpid(), tmp_path / "taken")
    assert bring(world, connect_by=one).new == 23
    assert len(world.ids()) == 23


def test_a_role_with_as_many_connections_as_an_import_needs_by_itself_can_import(
    world: Pipeline,
) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 6)
    conn = world.conn
    (owner,) = conn.execute("SELECT quote_ident(current_user)").fetchone() or ("",)
    try:
        conn.execute("DROP ROLE IF EXISTS few_connections")
        # The limit of a role does not hold for superusers, so this one gets its rights by name.
        conn.execute(
            f"CREATE ROLE few_connections LOGIN CONNECTION LIMIT 1 IN ROLE {owner}".encode()
        )
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("the role of the tests may not create roles")
    try:
        if not can_log_in(world):
            pytest.skip("the server wants a password of new roles")
        few = partial(connect_as, world.settings, "few_connections", os.getpid())
        assert bring(world, connect_by=few).new == 6
    finally:
        conn.execute("DROP ROLE few_connections")


def as_role(settings: Settings, role: str) -> Settings:
    from dataclasses import replace

    from psycopg.conninfo import make_conninfo

    assert settings.database_url
    return replace(settings, database_url=make_conninfo(settings.database_url, user=role))


def can_log_in(world: Pipeline) -> bool:
    try:
        connect(as_role(world.settings, "few_connections")).close()
    except ExporterError:
        return False
    return True


def connect_as(settings: Settings, role: str, importer: int) -> Any:
    """The import as itself, its readers as a role of one connection that is taken already."""
    if os.getpid() == importer:
        return connect(settings)
    taken = connect(as_role(settings, role))
    try:
        return connect(as_role(settings, role))
    finally:
        taken.close()


# -- what readers meet ----------------------------------------------------------------------------


def test_a_fault_of_a_reader_is_told_in_a_sentence(
    world: Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive)
    word = "".join(("qu", "okka"))
    with pytest.raises(ExporterError, match="an unexpected RuntimeError") as raised:
        bring(world, open_source=partial(open_with_a_fault, world.path, word))
    assert "run the same command again" in raised.value.hint
    assert capfd.readouterr().err == ""


INTERRUPTED_EARLY = """
import os, signal, time
from multiprocessing import get_context
from exporter.importers.readers import _interrupts_ignored

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)
    process = get_context("spawn").Process(target=time.sleep, args=(0.5,))
    with _interrupts_ignored():
        process.start()
    assert signal.getsignal(signal.SIGINT) is before
    for _ in range(30):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.01)
    process.join()
    raise SystemExit(process.exitcode)
"""


def test_a_reader_that_is_interrupted_while_it_starts_is_silent(tmp_path: Path) -> None:
    script = tmp_path / "early.py"
    script.write_text(INTERRUPTED_EARLY)
    done = subprocess.run([sys.executable, script], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_what_readers_repair_while_they_open_is_not_counted_again(world: Pipeline) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive)
    summary = bring(world, open_source=partial(open_with_repairs, world.path))
    assert summary.repairs == {}


# -- sources that are replaced --------------------------------------------------------------------


def rebuilt_archive(path: Path, sessions: int, project: str) -> None:
    with SqliteArchive(path) as archive:
        fill(archive, sessions)
        archive.update_session(f"s{sessions - 1}", project=project)


def test_a_source_replaced_before_its_readers_start_is_started_over(
    world: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 6)
    rebuilt = tmp_path / "rebuilt.db"
    rebuilt_archive(rebuilt, 8, "rebuilt")
    count = load.count_pending

    def replace_first(*arguments: Any, **options: Any) -> Any:
        if rebuilt.exists():
            rebuilt.rename(world.path)
        return count(*arguments, **options)

    monkeypatch.setattr(load, "count_pending", replace_first)
    summary = bring(world)
    assert sorted(world.ids()) == [f"s{number}" for number in range(8)]
    assert world.rows()["s7"]["project"] == "rebuilt"
    assert (summary.new, summary.same, summary.messages) == (8, 0, 16)


@pytest.mark.parametrize("is_apart", [False, True], ids=["alone", "readers"])
def test_what_an_attempt_before_a_replacement_did_is_counted_once(
    world: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_apart: bool
) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 6)
        archive.add_session("r" * 600)
        archive.add_session("t\ufffd")
    rebuilt = tmp_path / "rebuilt.db"
    rebuilt.write_bytes(world.path.read_bytes())
    monkeypatch.setattr(agentsview, "BATCH_SESSIONS", 2)
    monkeypatch.setattr(agentsview, "APART_MESSAGES", 0 if is_apart else 1 << 60)
    write = load.write_sessions

    def replace_after_the_first(*arguments: Any) -> Any:
        counts = write(*arguments)
        if rebuilt.exists():
            rebuilt.rename(world.path)
        return counts

    monkeypatch.setattr(load, "write_sessions", replace_after_the_first)
    summary = bring(world)
    assert (summary.new, summary.changed, summary.same, summary.refused) == (6, 0, 0, 2)
    assert summary.refusals == {"id": 1, "id_not_text": 1}
    assert len(world.ids()) == 6


def test_a_replacement_that_cannot_be_read_is_told(
    world: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive)
    other = tmp_path / "other.db"
    rebuilt_archive(other, 2, "rebuilt")
    with closing(SqliteSource(world.path)) as source:
        os.replace(other, world.path)
        probe = SqliteSource._probe

        def damaged(self: SqliteSource) -> Any:
            probe(self)
            self._db.execute("SELECT * FROM no_such_table")

        monkeypatch.setattr(SqliteSource, "_probe", damaged)
        with pytest.raises(SourceUnreadable):
            source.reopen_if_replaced()


def test_the_record_of_a_run_says_how_long_it_took(world: Pipeline) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive)
    bring(world)
    row = world.conn.execute("SELECT counts FROM import_runs").fetchone()
    assert row is not None
    assert row[0]["seconds"] > 0
    assert row[0]["rows_per_second"] > 0
