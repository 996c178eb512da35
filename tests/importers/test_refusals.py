"""What is no agentsview archive is refused by name of what it is, and nothing changes."""

from __future__ import annotations

import gzip
import io
import os
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing, redirect_stderr
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from exporter.cli.main import run
from tests.archives.builder import PgArchive, SqliteArchive
from tests.archives.pipeline import Pipeline


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("not a database\n" * 20)


def json_text(path: Path) -> None:
    path.write_text('{"type":"meta","schema_version":1}\n')


def a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sessions.db", b"x")


def a_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(b"x" * 100))


def encrypted(path: Path) -> None:
    path.write_bytes(b"\x8a" + os.urandom(8191))


def another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE invoices (id INTEGER)")


def too_old(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        for table in ("sessions", "messages", "usage_events"):
            db.execute(f"CREATE TABLE {table} (id TEXT)")


def truncated(path: Path) -> None:
    with SqliteArchive(path) as archive:
        for _ in range(200):
            archive.add_message(archive.add_session())
    os.truncate(path, path.stat().st_size // 2)


def damaged(path: Path) -> None:
    with SqliteArchive(path) as archive:
        for _ in range(200):
            archive.add_message(archive.add_session())
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)


def folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (empty, "an empty file"),
        (text, "a text file"),
        (json_text, "JSON text"),
        (a_zip, "a zip archive"),
        (a_gzip, "a gzip file"),
        (encrypted, "an encrypted one"),
        (another_program, "it has invoices"),
        (too_old, "neither cost_usd nor cost_microdollars"),
        (truncated, "truncated"),
        (damaged, "damaged"),
        (folder, "a folder without a sessions.db"),
        (missing, "does not exist"),
    ],
)
def test_a_source_that_is_something_else_is_named(
    world: Pipeline, tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "source.db"
    make(path)
    code, stderr = import_said(world, str(path))
    assert code == 1
    assert said in stderr
    assert str(path) in stderr
    row = world.conn.execute("SELECT count(*) FROM sources").fetchone()
    assert row == (0,) or make is damaged, "nothing was changed"


def test_an_unknown_scheme_is_told_without_what_it_carries(world: Pipeline) -> None:
    secret = "-".join(("pass", "word"))
    code, stderr = import_said(world, f"mysql://me:{secret}@db.example/archive")
    assert (code, secret in stderr) == (1, False)
    assert "mysql://" in stderr


def test_a_postgresql_without_the_schema_is_told(world: Pipeline) -> None:
    code, stderr = import_said(world, world.url)
    assert code == 1
    assert "schema agentsview lacks messages, sessions, usage_events" in stderr


def test_a_schema_name_that_cannot_be_meant_is_wrong_usage(world: Pipeline) -> None:
    code, stderr = import_said(world, world.url, "--source-schema", 'a"; DROP')
    assert code == 2
    assert "--source-schema" in stderr


def import_said(world: Pipeline, source: str, *flags: str) -> tuple[int, str]:
    """Exit code and stderr of an import that must fail with one line and no trace-back."""
    stderr = io.StringIO()
    with redirect_stderr(stderr):
        code = run(["import", "agentsview", source, "--database-url", world.url, *flags])
    said = stderr.getvalue()
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1 or code == 2
    return code, said


def test_a_role_that_may_read_only_some_tables_erases_nothing(
    world: Pipeline, make_database: Callable[..., str]
) -> None:
    url = make_database(migrated=False)
    role = f"reader_{os.getpid()}"
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        PgArchive(conn).add_session("a")
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'".encode())
        conn.execute(f"GRANT USAGE ON SCHEMA agentsview TO {role}".encode())
        for table in ("sessions", "messages", "usage_events"):
            conn.execute(f"GRANT SELECT ON agentsview.{table} TO {role}".encode())
        info = conninfo_to_dict(url)
        where = f"host={info['host']}&port={info['port']}&user={role}&password={role}"
        code, stderr = import_said(world, f"postgresql:///{info['dbname']}?{where}")
        conn.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
    assert code == 1
    assert "SELECT on agentsview." in stderr
