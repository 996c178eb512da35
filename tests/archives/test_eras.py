"""One set of rows, in every era and store that we import, is exported as one and the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.archives.builder import Era, PgArchive, SqliteArchive
from tests.interop.compare import compare, document
from tests.interop.ours import Ours
from tests.interop.widen import AnyArchive, price_anywhere, widen_anywhere


def _fill(archive: AnyArchive) -> None:
    widen_anywhere(archive)
    price_anywhere(archive)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, make_database: Callable[..., str]) -> Ours:
    """The archive of 0.37.1, imported: the one that the interop tests hold to the origin."""
    path = tmp_path_factory.mktemp("expected") / "sessions.db"
    with SqliteArchive(path) as archive:
        _fill(archive)
    ours = Ours(make_database())
    ours.bring(path)
    return ours


def _later_file(folder: Path, make_database: Callable[..., str]) -> str:
    with SqliteArchive(folder / "sessions.db", "later") as archive:
        _fill(archive)
    return str(folder / "sessions.db")


def _shared(era: Era) -> Callable[[Path, Callable[..., str]], str]:
    def make(folder: Path, make_database: Callable[..., str]) -> str:
        url = make_database(migrated=False)
        with psycopg.connect(url) as conn:
            _fill(PgArchive(conn, era=era))
        return url

    return make


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(_later_file, id="later file"),
        pytest.param(_shared("0.37.1"), id="PostgreSQL"),
        pytest.param(_shared("later"), id="later PostgreSQL"),
    ],
)
def test_every_layout_exports_the_same(
    expected: Ours,
    source: Callable[[Path, Callable[..., str]], str],
    tmp_path: Path,
    make_database: Callable[..., str],
) -> None:
    """Selection, order, usage, costs, projects and worktrees do not depend on the layout."""
    ours = Ours(make_database())
    ours.bring(source(tmp_path, make_database))
    flags = ("--include-one-shot", "--include-automated", "--all")
    told = document(ours.export_sessions(*flags).stdout)
    owed = document(expected.export_sessions(*flags).stdout)
    assert len(owed["sessions"]) > 100
    differences = compare(told, owed)
    assert not differences, "\n".join(differences[:20])
