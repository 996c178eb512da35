"""Archives that lack columns, or allow what their owner's do not: read, or told in a line."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from exporter.cli.main import run
from exporter.errors import SourceNotRecognised
from exporter.importers import agentsview_postgres, agentsview_sqlite
from exporter.importers.agentsview_postgres import PostgresSource
from exporter.importers.agentsview_sqlite import SqliteSource
from exporter.importers.source import REQUIRED
from tests.archives.builder import Era, PgArchive, SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.importers.test_hostile_values import fill

ERAS: tuple[Era, ...] = ("0.37.1", "later")
EVERYTHING = ("--all", "--include-one-shot", "--include-automated")


def told(world: Pipeline, source: str, *flags: str) -> tuple[int, str]:
    """Exit code and stderr of an import; never more than two lines, and never a trace-back."""
    stderr = io.StringIO()
    with redirect_stderr(stderr):
        code = run(["import", "agentsview", source, "--database-url", world.url, *flags])
    said = stderr.getvalue()
    assert "Traceback" not in said
    assert "unexpected" not in said
    assert len(said.splitlines()) <= (2 if code == 2 else 1)
    return code, said


# -- columns that are not there -----------------------------------------------------------------


def without(path: Path, table: str, column: str) -> bool:
    """Take a column away, with the indexes that need it; False where there is none."""
    with SqliteArchive(path) as archive:
        columns = [row[1] for row in archive.execute(f"PRAGMA table_info({table})")]
        if column not in columns:
            return False
        names = ", ".join(name for name in columns if name != column)
        archive.execute(f"CREATE TABLE narrow AS SELECT {names} FROM {table}")
        archive.execute(f"DROP TABLE {table}")
        archive.execute(f"ALTER TABLE narrow RENAME TO {table}")
    return True


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("table", agentsview_sqlite._COLUMNS)
def test_a_sqlite_archive_may_lack_any_column_that_is_not_required(
    tmp_path: Path, era: Era, table: str
) -> None:
    full = tmp_path / "full.db"
    with SqliteArchive(full, era) as archive:
        fill(archive)
    for column in agentsview_sqlite._COLUMNS[table]:
        path = tmp_path / f"{column}.db"
        shutil.copyfile(full, path)
        if not without(path, table, column):
            continue
        if column in REQUIRED[table]:
            with pytest.raises(SourceNotRecognised, match=f"{table} without the column {column}"):
                SqliteSource(path)
            continue
        with closing(SqliteSource(path)) as source:
            read(source)


def read(source: Any) -> list[Any]:
    """Everything that a source has to say."""
    said = [*source.prices(), *source.observations(), *source.mappings(), *source.billing()]
    ids = [row.id for row in source.listing()]
    return [*said, *source.excluded(), *source.sessions(ids)]


def test_an_archive_without_any_optional_column_is_imported(world: Pipeline) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive)
    for table, columns in agentsview_sqlite._COLUMNS.items():
        for column in columns:
            if column not in REQUIRED[table] and table not in ("sessions", "model_pricing"):
                without(world.path, table, column)
    world.bring()
    rows = world.rows(*EVERYTHING)
    assert set(rows) == {"sound", "first", "second"}
    assert rows["sound"]["model_usage"]["cost_usd"] == 0.25, "the event's, without any token"


@pytest.fixture(scope="module")
def shared(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A PostgreSQL where shared archives can be made."""
    with psycopg.connect(make_database(migrated=False), autocommit=True) as conn:
        yield conn


def url_of(conn: psycopg.Connection[Any]) -> str:
    info = conn.info
    return f"postgresql://{info.user}@/{info.dbname}?host={info.host}&port={info.port}"


@pytest.fixture(params=ERAS)
def pushed(shared: psycopg.Connection[Any], request: pytest.FixtureRequest) -> Iterator[PgArchive]:
    """A filled schema of each era."""
    archive = PgArchive(shared, "agentsview", request.param)
    fill(archive)
    yield archive
    shared.execute("DROP SCHEMA agentsview CASCADE")


def there(pushed: PgArchive, table: str) -> list[str]:
    """The columns of a table that are read and that this era has."""
    return [name for name in agentsview_postgres._COLUMNS[table] if name in pushed._columns(table)]


def change(pushed: PgArchive, statement: LiteralString, table: str, column: str = "") -> None:
    """Run a statement with the table, and the column, in place of ``{}``."""
    names = [sql.Identifier(pushed.schema, table), sql.Identifier(column)]
    pushed.conn.execute(sql.SQL(statement).format(*names))


@pytest.mark.parametrize("table", agentsview_postgres._COLUMNS)
def test_a_postgresql_archive_may_lack_any_column_that_is_not_required(
    pushed: PgArchive, table: str
) -> None:
    for column in there(pushed, table):
        change(pushed, "ALTER TABLE {} RENAME COLUMN {} TO was_there", table, column)
        if column in REQUIRED[table] or column.startswith("cost"):
            wanted = "neither" if column.startswith("cost") else f"without the column {column}"
            with pytest.raises(SourceNotRecognised, match=wanted):
                PostgresSource(url_of(pushed.conn), "agentsview")
        else:
            with closing(PostgresSource(url_of(pushed.conn), "agentsview")) as source:
                read(source)
        change(pushed, "ALTER TABLE {} RENAME COLUMN was_there TO {}", table, column)


@pytest.mark.parametrize("table", agentsview_postgres._COLUMNS)
def test_a_postgresql_archive_may_hold_null_in_any_column(
    world: Pipeline, pushed: PgArchive, table: str
) -> None:
    columns = there(pushed, table)
    if not columns:
        return
    change(pushed, "CREATE TABLE agentsview.loose AS SELECT * FROM {}", table)
    change(pushed, "DROP TABLE {} CASCADE", table)
    change(pushed, "ALTER TABLE agentsview.loose RENAME TO {1}", table, table)
    link = {"sessions": "id", "messages": "session_id", "usage_events": "session_id"}.get(table)
    row = row_of(pushed, table)
    for number, column in enumerate(columns):
        own: dict[str, Any] = (
            {link: f"h{number}"} if link == "id" else {link: "first"} if link else {}
        )
        if "ordinal" in columns:
            own["ordinal"] = 10 + number
        pushed._insert(table, {**row, **own, column: None})
    code, said = told(world, url_of(pushed.conn), "--quiet")
    assert code == (3 if table == "sessions" else 0), said
    usage = world.rows(*EVERYTHING)["sound"]["model_usage"]
    assert usage["cost_usd"] == pytest.approx(0.25 + 3 * (1200 * 3 + 300 * 15) / 1e6, abs=1e-9)


def row_of(pushed: PgArchive, table: str) -> dict[str, Any]:
    """The last row of a table, by column, without the number that the table gives."""
    place = sql.Identifier(pushed.schema, table)
    cursor = pushed.conn.execute(sql.SQL("SELECT * FROM {} ORDER BY 1 DESC LIMIT 1").format(place))
    names = [column.name for column in cursor.description or ()]
    found = cursor.fetchone()
    assert found is not None
    return dict(zip(names, found, strict=True))


def test_a_postgresql_column_of_another_type_is_named(pushed: PgArchive) -> None:
    statement = "ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT, ALTER COLUMN {} TYPE text"
    name = sql.Identifier("input_tokens")
    place = sql.Identifier("agentsview", "usage_events")
    pushed.conn.execute(sql.SQL(statement).format(place, name, name))
    with pytest.raises(SourceNotRecognised, match=r"usage_events\.input_tokens of type text"):
        PostgresSource(url_of(pushed.conn), "agentsview")


def test_a_view_in_place_of_a_table_may_hold_rows_twice(world: Pipeline, pushed: PgArchive) -> None:
    conn = pushed.conn
    conn.execute("CREATE SCHEMA seen")
    try:
        for table in ("sessions", "messages", "usage_events"):
            conn.execute(
                f"CREATE VIEW seen.{table} AS SELECT * FROM agentsview.{table}"
                f" UNION ALL SELECT * FROM agentsview.{table}".encode()
            )
        code, said = told(world, url_of(conn), "--source-schema", "seen", "--quiet")
        assert code == 0, said
        assert set(world.rows(*EVERYTHING)) == {"sound", "first", "second"}
    finally:
        conn.execute("DROP SCHEMA seen CASCADE")


def test_functions_of_the_sources_schema_are_not_called(pushed: PgArchive) -> None:
    pushed.conn.execute(
        "CREATE FUNCTION agentsview.md5(text) RETURNS text LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'called'; END$$"
    )
    with closing(PostgresSource(url_of(pushed.conn), "agentsview")) as source:
        assert len(list(source.listing())) == 3
