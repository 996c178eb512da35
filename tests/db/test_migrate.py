"""Migrations: up and down, in a race, in print, and beside a host program's own."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from exporter import errors
from exporter.db import connect, migrate
from exporter.paths import known_revisions, migrations_folder
from exporter.settings import Settings
from tests.conftest import MakeDatabase
from tests.postgres import settings_for

CHECKOUT = Path(__file__).parents[2]
HEAD = known_revisions()[-1]

OBJECTS = """
SELECT 'column', c.table_name || '.' || c.column_name || ' ' || c.data_type || ' '
       || c.is_nullable || coalesce(' ' || c.column_default, '')
  FROM information_schema.columns AS c WHERE c.table_schema = %(schema)s
UNION ALL
SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = %(schema)s
UNION ALL
SELECT 'constraint', conrelid::regclass || ' ' || pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = to_regnamespace(%(schema)s)
UNION ALL
SELECT 'routine', proname FROM pg_proc WHERE pronamespace = to_regnamespace(%(schema)s)
UNION ALL
SELECT 'trigger', pg_get_triggerdef(t.oid)
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
 WHERE c.relnamespace = to_regnamespace(%(schema)s) AND NOT t.tgisinternal
ORDER BY 1, 2
"""


def objects(settings: Settings) -> list[tuple[str, str]]:
    """Everything in the toolkit's schema, as text that can be compared."""
    with connect.session(settings, at_head=False) as conn:
        return conn.execute(OBJECTS, {"schema": settings.schema}).fetchall()


@pytest.fixture
def empty(empty_database_url: str) -> Settings:
    return settings_for(empty_database_url)


# --- Scripts --------------------------------------------------------------------------------


def scripts() -> list[Path]:
    return sorted((migrations_folder() / "versions").glob("*.py"))


def test_revisions_are_numbered_without_a_gap_and_follow_one_another() -> None:
    numbers = [f"{number:04}" for number in range(1, len(scripts()) + 1)]
    assert [script.name[:4] for script in scripts()] == numbers
    assert list(known_revisions()) == numbers
    parents = [
        re.search(r"^down_revision(?:: [^=]+)? = (.+)$", script.read_text(), re.MULTILINE)
        for script in scripts()
    ]
    assert [found and found[1] for found in parents] == [
        "None",
        *(f'"{number}"' for number in numbers[:-1]),
    ]


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.stem)
def test_every_revision_says_its_locks_and_its_undo(script: Path) -> None:
    text = script.read_text()
    assert re.search(r"^Locks: ", text, re.MULTILINE)
    assert re.search(r"^Undo: ", text, re.MULTILINE)


def test_the_folder_of_migrations_is_no_package() -> None:
    """With an __init__.py it would hide the alembic package from whoever runs in the checkout."""
    assert not (CHECKOUT / "alembic" / "__init__.py").exists()


# --- Up and down ----------------------------------------------------------------------------


def test_an_upgrade_makes_the_schema_and_its_one_row(empty: Settings) -> None:
    assert migrate.status(empty).state == "absent"
    found = migrate.upgrade(empty)
    assert (found.schema, found.revision, found.state) == ("exporter", HEAD, "at head")
    with connect.session(empty) as conn:
        row = conn.execute("SELECT database_id, length(cursor_secret), revision FROM archive")
        database_id, secret_length, revision = row.fetchone() or ("", 0, -1)
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-\w{12}", database_id
    )
    assert (secret_length, revision) == (32, 0)


def test_a_second_upgrade_changes_nothing(empty: Settings) -> None:
    migrate.upgrade(empty)
    with connect.session(empty) as conn:
        before = conn.execute("SELECT * FROM archive").fetchall()
        migrate.upgrade(empty)
        assert conn.execute("SELECT * FROM archive").fetchall() == before


def test_down_to_the_base_and_up_again_gives_the_same_schema(empty: Settings) -> None:
    migrate.upgrade(empty)
    first = objects(empty)
    assert migrate.downgrade(empty, "base").state == "absent"
    left = [text for kind, text in objects(empty) if "alembic_version" not in text]
    assert left == []
    migrate.upgrade(empty)
    assert objects(empty) == first


@pytest.mark.parametrize("revision", known_revisions()[:-1])
def test_every_revision_can_be_stepped_back_from_and_to(empty: Settings, revision: str) -> None:
    migrate.upgrade(empty, revision)
    there = objects(empty)
    migrate.upgrade(empty)
    found = migrate.downgrade(empty, revision)
    assert (found.revision, found.state) == (revision, "behind")
    assert objects(empty) == there


def test_two_databases_have_two_ids(make_database: MakeDatabase) -> None:
    ids = set()
    for _ in range(2):
        settings = settings_for(make_database(migrated=False))
        migrate.upgrade(settings)
        with connect.session(settings) as conn:
            ids.update(conn.execute("SELECT database_id FROM archive").fetchall())
    assert len(ids) == 2


def test_another_schema_holds_everything(empty_database_url: str) -> None:
    settings = settings_for(empty_database_url, EXPORTER_SCHEMA="archive_2")
    migrate.upgrade(settings)
    with connect.session(settings) as conn:
        schemas = conn.execute(
            "SELECT DISTINCT table_schema FROM information_schema.tables"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    assert schemas == [("archive_2",)]
    assert migrate.status(settings_for(empty_database_url)).state == "absent"
    assert migrate.downgrade(settings, "base").state == "absent"


def test_a_role_that_may_not_create_schemas_uses_the_one_made_for_it(
    empty_database_url: str, postgres_run: Any
) -> None:
    role = f"exporter_test_maker_{postgres_run.worker}"
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role}")
        try:
            admin.execute(f"CREATE SCHEMA exporter AUTHORIZATION {role}")
            joiner = "&" if "?" in empty_database_url else "?"
            url = f"{empty_database_url}{joiner}options=-c%20role%3D{role}"
            assert migrate.upgrade(settings_for(url)).state == "at head"
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")


# --- What is refused, and failures ----------------------------------------------------------


@pytest.mark.parametrize("revision", ["9999", "nonsense", "../x", "0001+9"])
def test_an_unknown_revision_is_refused_with_the_known_ones(empty: Settings, revision: str) -> None:
    with pytest.raises(errors.BadInput) as caught:
        migrate.upgrade(empty, revision)
    assert HEAD in caught.value.accepted
    assert objects(empty) == []


def test_a_newer_database_is_left_alone(settings: Settings) -> None:
    with connect.session(settings) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    before = objects(settings)
    for act in (migrate.upgrade, lambda given: migrate.downgrade(given, "base")):
        with pytest.raises(errors.DatabaseNewer):
            act(settings)
    assert objects(settings) == before
    assert migrate.status(settings).state == "newer"


def test_an_upgrade_that_fails_half_way_changes_nothing(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last script fails on a table that is in its way; the ones before it are undone too."""
    with connect.session(empty, at_head=False) as conn:
        conn.execute("CREATE SCHEMA exporter")
        conn.execute("CREATE TABLE sources (in_the_way integer)")
    with pytest.raises(errors.DatabaseError) as caught:
        migrate.upgrade(empty)
    assert caught.value.sqlstate == "42P07"
    assert [text for kind, text in objects(empty) if kind == "column"] == [
        "sources.in_the_way integer YES"
    ]
    assert migrate.status(empty).state == "absent"


def test_a_role_without_rights_is_told(empty_database_url: str, postgres_run: Any) -> None:
    role = f"exporter_test_nobody_{postgres_run.worker}"
    joiner = "&" if "?" in empty_database_url else "?"
    url = f"{empty_database_url}{joiner}options=-c%20role%3D{role}"
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role}")
        try:
            with pytest.raises(errors.MissingRights, match="permission denied for database"):
                migrate.upgrade(settings_for(url))
        finally:
            admin.execute(f"DROP ROLE {role}")


# --- Races ----------------------------------------------------------------------------------


def upgrade_in_processes(url: str, count: int) -> list[str]:
    command_line = [sys.executable, "-m", "exporter", "db", "upgrade"]
    environ = {**os.environ, "EXPORTER_DATABASE_URL": url}
    running = [
        subprocess.Popen(
            command_line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(count)
    ]
    return [process.communicate(timeout=200)[0] for process in running]


def test_eight_racing_processes_apply_everything_once(empty: Settings) -> None:
    assert empty.database_url
    answers = upgrade_in_processes(empty.database_url, 8)
    assert answers == [f"schema exporter: revision {HEAD} (at head)\n"] * 8
    with connect.session(empty) as conn:
        assert conn.execute("SELECT count(*) FROM archive").fetchone() == (1,)


def first_turns(settings: Settings, count: int) -> list[sqlalchemy.exc.DBAPIError]:
    """Let threads make schema and version table at the same moment; the errors of the losers."""
    barrier = threading.Barrier(count)
    lost: list[sqlalchemy.exc.DBAPIError] = []

    def race() -> None:
        barrier.wait()
        try:
            with migrate._transaction(settings) as connection:
                migrate._take_turn(connection, settings.schema)
        except sqlalchemy.exc.DBAPIError as error:
            lost.append(error)

    threads = [threading.Thread(target=race) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return lost


def test_who_loses_the_race_for_the_first_turn_may_try_again(make_database: MakeDatabase) -> None:
    for _ in range(3):
        settings = settings_for(make_database(migrated=False))
        final = [
            error for error in first_turns(settings, 4) if not migrate._worth_another_try(error)
        ]
        assert final == []
        assert migrate.upgrade(settings).state == "at head"


def test_an_upgrade_waits_for_a_lock_and_goes_on_when_it_is_free(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 50)
    migrate.upgrade(empty, "0001")
    with connect.session(empty, at_head=False) as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE alembic_version IN ROW EXCLUSIVE MODE")
        threading.Timer(0.6, lambda: holder.execute("COMMIT")).start()
        assert migrate.upgrade(empty).state == "at head"


def test_an_upgrade_gives_up_when_a_lock_never_comes(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(migrate, "PATIENCE_SECONDS", 0.2)
    migrate.upgrade(empty, "0001")
    with connect.session(empty, at_head=False) as holder, holder.transaction():
        holder.execute("LOCK TABLE alembic_version IN ROW EXCLUSIVE MODE")
        with pytest.raises(errors.DatabaseBusy):
            migrate.upgrade(empty)
    assert migrate.status(empty).revision == "0001"


# --- In print -------------------------------------------------------------------------------


def printed(settings: Settings, revision: str = "head", *, undo: bool = False) -> str:
    out = io.StringIO()
    migrate.print_sql(settings, revision, out, undo=undo)
    return out.getvalue()


def test_the_printed_upgrade_run_by_hand_gives_the_same_schema(
    make_database: MakeDatabase, settings: Settings
) -> None:
    by_hand = settings_for(make_database(migrated=False))
    with psycopg.connect(by_hand.database_url or "", autocommit=True) as conn:
        conn.execute(printed(by_hand))
    assert migrate.status(by_hand).state == "at head"
    assert objects(by_hand) == objects(settings)
    assert migrate.upgrade(by_hand).state == "at head"


def test_the_printed_undo_run_by_hand_goes_back(settings: Settings) -> None:
    with psycopg.connect(settings.database_url or "", autocommit=True) as conn:
        conn.execute(printed(settings, f"{HEAD}:base", undo=True))
    assert migrate.status(settings).state == "absent"


def test_printing_opens_no_database_and_shows_no_secret() -> None:
    unreachable = settings_for("postgresql://me:hunter2@127.0.0.1:1/a", EXPORTER_SCHEMA="other")
    text = printed(unreachable)
    assert 'CREATE SCHEMA IF NOT EXISTS "other"' in text
    assert "hunter2" not in text


# --- The alembic program and host programs --------------------------------------------------


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "EXPORTER_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_alembic_program_works_from_the_checkout(empty: Settings) -> None:
    assert empty.database_url
    looked = alembic(empty.database_url, "current")
    assert (looked.returncode, objects(empty)) == (0, [])
    up = alembic(empty.database_url, "upgrade", "head")
    assert up.returncode == 0, up.stderr
    assert up.stdout == ""
    assert f"-> {HEAD}" in up.stderr
    assert migrate.status(empty).state == "at head"
    assert alembic(empty.database_url, "current").stdout == f"{HEAD} (head)\n"
    down = alembic(empty.database_url, "downgrade", "base")
    assert (down.returncode, migrate.status(empty).state) == (0, "absent")
    offline = alembic(empty.database_url, "upgrade", "head", "--sql")
    assert offline.stdout == printed(empty)


@pytest.fixture
def host(empty_database_url: str) -> Iterator[sqlalchemy.Engine]:
    """A host program's own engine, with its own alembic table in its own schema."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(empty_database_url),
        poolclass=sqlalchemy.NullPool,
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE public.alembic_version (version_num text)")
        connection.exec_driver_sql("INSERT INTO public.alembic_version VALUES ('theirs')")
    yield engine
    engine.dispose()


def test_a_host_program_gives_its_connection_and_keeps_its_transaction(
    host: sqlalchemy.Engine, empty_database_url: str
) -> None:
    settings = settings_for(empty_database_url)
    with host.connect() as connection:
        config = Config(attributes={"connection": connection, "settings": settings})
        config.set_main_option("script_location", str(migrations_folder()))
        config.set_main_option("path_separator", "os")
        with connection.begin() as transaction:
            command.upgrade(config, "head")
            transaction.rollback()
        assert migrate.status(settings).state == "absent"
        command.upgrade(config, "head")
    assert migrate.status(settings).state == "at head"
    with host.connect() as connection:
        theirs = connection.exec_driver_sql("SELECT version_num FROM public.alembic_version")
        assert theirs.scalar_one() == "theirs"
