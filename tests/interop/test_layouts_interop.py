"""The layout files describe what the program really makes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.archives.builder import PgArchive, SqliteArchive
from tests.interop.compare import document
from tests.interop.origin import Origin
from tests.interop.transcripts import write_home

Tables = dict[str, set[tuple[Any, ...]]]


def _sqlite_tables(path: Path) -> Tables:
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {
            name: {row[1:] for row in db.execute(f'PRAGMA table_info("{name}")')} for name in names
        }


def _pg_tables(conn: psycopg.Connection[Any]) -> Tables:
    query = """
        SELECT table_name, column_name, data_type, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'agentsview'
    """
    tables: Tables = {}
    for name, *column in conn.execute(query):
        tables.setdefault(name, set()).add(tuple(column))
    return tables


def test_the_sqlite_layout_is_the_programs_own(origin: Origin, tmp_path: Path) -> None:
    """Every table of the file has the columns, defaults and keys of a fresh archive."""
    origin.sync()
    with SqliteArchive(tmp_path / "built.db"):
        pass
    real = _sqlite_tables(origin.archive)
    for name, columns in _sqlite_tables(tmp_path / "built.db").items():
        assert columns == real[name], name


def test_the_program_reads_an_archive_made_by_the_builder(origin: Origin) -> None:
    """The layout holds all that the program asks for, and its data version is accepted."""
    with origin.build() as archive:
        archive.add_session("a")
    done = origin.export_sessions()
    assert done.exit == 0, done.stderr
    assert [row["id"] for row in document(done.stdout)["sessions"]] == ["a"]


def test_the_postgresql_layout_is_the_programs_own(
    origin: Origin, make_database: Callable[..., str]
) -> None:
    """Every table of the file has the columns and defaults of a schema made by a push."""
    real_url, built_url = make_database(migrated=False), make_database(migrated=False)
    write_home(origin.home)
    done = origin.run("pg", "push", AGENTSVIEW_PG_URL=real_url, AGENTSVIEW_PG_MACHINE="workshop")
    if "TLS" in done.stderr:
        pytest.skip("agentsview pushes to a server elsewhere by TLS only")
    assert done.exit == 0, done.stderr
    with psycopg.connect(built_url) as conn:
        PgArchive(conn)
        built = _pg_tables(conn)
    with psycopg.connect(real_url) as conn:
        real = _pg_tables(conn)
    for name, columns in built.items():
        assert columns == real[name], name
