"""The builder makes what its layout files describe, in every era and store."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.archives.builder import CONTENT, Era, PgArchive, SqliteArchive
from tests.archives.sample import sample_archive

ERAS: tuple[Era, ...] = ("0.37.1", "later")


def test_a_session_needs_no_values(tmp_path: Path) -> None:
    """The defaults are those of a session that an export shows."""
    with SqliteArchive(tmp_path / "sessions.db") as archive:
        name = archive.add_session()
        row = archive.execute(
            "SELECT id, message_count, user_message_count, ended_at, first_message FROM sessions"
        ).fetchone()
    assert row == (name, 3, 2, "2026-03-04T10:30:00Z", CONTENT)


@pytest.mark.parametrize("era", ERAS)
def test_an_archive_is_opened_again_in_its_own_era(tmp_path: Path, era: Era) -> None:
    """Later rows join the earlier ones, and ids go on counting."""
    path = tmp_path / "sessions.db"
    with SqliteArchive(path, era) as archive:
        first = archive.add_session()
    with SqliteArchive(path) as archive:
        assert archive.era == era
        second = archive.add_session()
        archive.add_message(second)
        assert archive.add_message(second) == 1
        assert archive.execute("SELECT count(*) FROM sessions").fetchone() == (2,)
    assert first != second


def test_a_wrong_column_is_named(tmp_path: Path) -> None:
    """A misspelt override must not pass for a default."""
    with (
        SqliteArchive(tmp_path / "sessions.db") as archive,
        pytest.raises(TypeError, match="sessions has no column projekt"),
    ):
        archive.add_session(projekt="tern")


def test_later_money_is_whole_microdollars(tmp_path: Path) -> None:
    """Dollars and cents of the factories become the units of the era."""
    with SqliteArchive(tmp_path / "sessions.db", "later") as archive:
        archive.add_event(archive.add_session(), cost_usd=0.0040005)
        archive.add_price("orca-large-2", 3, 15, 3.75, 0.3)
        archive.add_cursor_usage(charged_cents=1.5)
        read = archive.execute
        assert read("SELECT cost_microdollars FROM usage_events").fetchone() == (4000,)
        assert read("SELECT charged_microdollars FROM cursor_usage_events").fetchone() == (15000,)
        row = read("SELECT cache_creation_microdollars_per_mtok FROM model_pricing").fetchone()
        assert row == (3_750_000,)


@pytest.mark.parametrize("era", ERAS)
def test_postgresql_takes_the_same_factories(database: str, era: Era) -> None:
    """Every factory that both stores have makes one row in each."""
    with psycopg.connect(database, autocommit=True) as conn:
        archive = PgArchive(conn, "shared", era)
        name = archive.add_session(ended_at="whenever", is_automated=1)
        archive.add_message(name, timestamp="2026-03-04T10:00:00.123456789Z")
        archive.add_event(name, cost_usd=0.25)
        archive.add_observation("tern")
        archive.add_price("orca-large-2")
        archive.add_cursor_usage()
        archive.exclude("gone")
        archive.star(name)
        archive.update_session(name, outcome="errored")
        row = conn.execute("SELECT ended_at, is_automated, outcome FROM shared.sessions").fetchone()
        assert row == (None, True, "errored")
        moment = conn.execute("SELECT extract(microsecond FROM timestamp) FROM shared.messages")
        assert moment.fetchone() == (123456,)
        archive.delete_session(name)
        assert PgArchive(conn, "shared", era).add_session() != name


def test_postgresql_of_the_first_era_has_no_mappings(database: str) -> None:
    """What a store does not hold cannot be added to it."""
    with psycopg.connect(database, autocommit=True) as conn:
        archive = PgArchive(conn)
        with pytest.raises(LookupError, match="holds no worktree_project_mappings"):
            archive.add_mapping("/srv/tern")


@pytest.fixture
def database(make_database: Callable[..., str]) -> str:
    """An empty database."""
    return make_database(migrated=False)


def test_the_sample_is_the_same_on_each_run(tmp_path: Path) -> None:
    """Made in this process and by the command, it holds the same rows."""
    sample_archive(tmp_path / "one.db")
    command = [sys.executable, "-m", "tests.archives.sample", str(tmp_path / "two.db")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert _dump(tmp_path / "one.db") == _dump(tmp_path / "two.db")


def _dump(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())
