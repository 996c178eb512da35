"""Connections: what they are set up with, and what every failure says."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from exporter import errors
from exporter.db import connect
from exporter.paths import known_revisions
from exporter.settings import Settings, load
from tests.db import cluster
from tests.postgres import settings_for

SECRET = "hunter2"


def value(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query).fetchone()
    assert row
    return row[0]


def with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    joined = f"{parts.query}&{query}" if parts.query else query
    return urlunsplit(parts._replace(query=joined))


# --- What a connection is -------------------------------------------------------------------


def test_a_session_is_utc_autocommit_and_sees_the_toolkits_schema_first(settings: Settings) -> None:
    with connect.session(settings) as conn:
        assert conn.autocommit
        names = ("TimeZone", "search_path", "lock_timeout", "statement_timeout", "application_name")
        assert [value(conn, f"SHOW {name}") for name in names] == [
            "UTC",
            "exporter, pg_catalog",
            "10s",
            "0",
            "exporter",
        ]
        assert connect.server_version(conn).major >= 14
    assert conn.closed


def test_timeouts_come_from_the_environment(database_url: str) -> None:
    variables = {"EXPORTER_LOCK_TIMEOUT_MS": "1500", "EXPORTER_STATEMENT_TIMEOUT_MS": "60000"}
    with connect.session(settings_for(database_url, **variables)) as conn:
        assert value(conn, "SHOW lock_timeout") == "1500ms"
        assert value(conn, "SHOW statement_timeout") == "1min"


def test_what_the_url_says_wins_over_our_defaults(database_url: str) -> None:
    url = with_query(database_url, "application_name=mine")
    with connect.session(settings_for(url)) as conn:
        assert value(conn, "SHOW application_name") == "mine"


def test_a_snapshot_sees_one_instant_and_writes_nothing(settings: Settings) -> None:
    with connect.session(settings) as reader, connect.session(settings) as writer:
        with connect.read_snapshot(reader):
            before = value(reader, "SELECT revision FROM archive")
            writer.execute("UPDATE archive SET revision = revision + 1")
            assert value(reader, "SELECT revision FROM archive") == before
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), reader.transaction():
                reader.execute("UPDATE archive SET revision = 0")
        assert value(reader, "SELECT revision FROM archive") == before + 1


def test_a_snapshot_inside_a_transaction_is_a_savepoint(conn: psycopg.Connection[Any]) -> None:
    with connect.read_snapshot(conn):
        assert value(conn, "SELECT count(*) FROM archive") == 1


# --- Servers that cannot be used ------------------------------------------------------------


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken but not listened on: nobody else opens it meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def failure(url: str) -> errors.ExporterError:
    with pytest.raises(errors.ExporterError) as caught, connect.session(settings_for(url)):
        pass
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_server_that_does_not_answer_is_named_without_its_password(closed_port: int) -> None:
    error = failure(f"postgresql://me:{SECRET}@127.0.0.1:{closed_port}/a")
    assert isinstance(error, errors.ServerUnreachable)
    assert error.place == f"postgresql://me@127.0.0.1:{closed_port}/a"
    assert (error.reason, error.retryable) == ("connection refused", True)


def test_a_socket_that_does_not_exist_is_named() -> None:
    error = failure("postgresql:///a?host=%2Fno%2Fsuch%2Ffolder")
    assert isinstance(error, errors.ServerUnreachable)
    assert error.reason == "no such socket"


def test_a_server_that_says_nothing_is_given_up_on() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = failure(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/a?connect_timeout=2")
    assert isinstance(error, errors.ServerUnreachable)
    assert error.reason == "no answer in time"


def test_something_that_is_no_postgresql_is_unreachable() -> None:
    def answer() -> None:
        peer, _ = other.accept()
        with peer:
            peer.recv(100)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        error = failure(f"postgresql://127.0.0.1:{other.getsockname()[1]}/a?sslmode=disable")
        thread.join()
    assert isinstance(error, errors.ServerUnreachable)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@h:no-port/a",
        f"postgresql://me:{SECRET}%zz@h/a",
        f"postgresql://me:x@{SECRET}:y@h/a",
        f"postgresql://h/a?no_such_option={SECRET}",
        f"host=h password={SECRET} {SECRET}",
        f"postgresql://me:x@{SECRET}\x01/a",
        f"postgresql://me:{SECRET}",
        f"postgresql://me:{SECRET}@h/a?connect_timeout=soon",
        f"postgresql://me:{SECRET}@\udcff/a",
        f"postgresql://me:{SECRET}@{'x' * 5_000}/a",
    ],
    ids=lambda url: url[:40],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    failure(url)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("sslmode=sometimes", "sslmode"),
        ("sslnegotiation=direct&sslmode=prefer", "sslmode"),
        ("target_session_attrs=any-old", "target_session_attrs"),
        ("keepalives=x", "keepalives"),
        ("max_protocol_version=9", "max_protocol_version"),
        ("hostaddr=127.0.0.1,127.0.0.2,127.0.0.3", "hostaddr"),
        ("service=no-such-service", "service"),
        ("port=1,2", "port"),
    ],
)
def test_a_value_that_libpq_refuses_is_named(query: str, name: str) -> None:
    error = failure(f"postgresql://me:{SECRET}@127.0.0.1/a?{query}")
    assert isinstance(error, errors.BadInput)
    assert f"its {name}," in str(error)


def test_several_hosts_are_tried_and_named(closed_port: int) -> None:
    error = failure(f"postgresql://me:{SECRET}@127.0.0.1:{closed_port},[::1]:{closed_port}/a")
    assert isinstance(error, errors.ServerUnreachable)
    assert error.place == f"postgresql://me@127.0.0.1:{closed_port},[::1]:{closed_port}/a"


def test_libpqs_variables_are_hidden_from_the_embedded_server_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGSERVICE", "x")
    monkeypatch.setenv("PGX_OF_ANOTHER_PROGRAM", "y")
    with connect._own_server_only(Settings()):
        assert "PGSERVICE" not in os.environ
        assert os.environ["PGX_OF_ANOTHER_PROGRAM"] == "y"
    assert os.environ["PGSERVICE"] == "x"
    with connect._own_server_only(Settings(database_url="postgresql://h/a")):
        assert os.environ["PGSERVICE"] == "x"


@pytest.mark.parametrize("name", ["PGTZ", "PGSERVICE", "PGSSLMODE", "PGOPTIONS"])
def test_variables_that_would_fail_do_not_reach_the_embedded_server(
    database_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """PGTZ is read last, when the server has answered already."""
    monkeypatch.setattr(connect, "database_url", lambda _: database_url)
    monkeypatch.setenv(name, "no/such-thing")
    with connect.session(Settings()) as conn:
        assert value(conn, "SHOW TimeZone") == "UTC"
    with pytest.raises(errors.ExporterError):
        connect.connect(settings_for(database_url))


def test_a_connection_by_url_does_not_wait_for_another_connection(database_url: str) -> None:
    opened = threading.Event()

    def open_one() -> None:
        connect.connect(settings_for(database_url)).close()
        opened.set()

    with connect._hiding:
        thread = threading.Thread(target=open_one, daemon=True)
        thread.start()
        assert opened.wait(20)
    thread.join()


@pytest.fixture(scope="module")
def password_url() -> Iterator[str]:
    programs = cluster.debian_programs()
    if programs is None:
        pytest.skip("needs a PostgreSQL of the system's packages, to ask for a password over TCP")
    with cluster.password_cluster(programs) as url:
        yield url


def test_a_wrong_password_is_told_without_it(password_url: str) -> None:
    error = failure(password_url.replace(cluster.PASSWORD, f"wrong-{SECRET}"))
    assert isinstance(error, errors.WrongPassword)
    assert "wrong password" in str(error)


def test_a_missing_password_is_told(password_url: str) -> None:
    error = failure(password_url.replace(f":{cluster.PASSWORD}", ""))
    assert isinstance(error, errors.WrongPassword)
    assert "none was given" in str(error)


def test_an_unknown_user_reads_like_a_wrong_password(password_url: str) -> None:
    assert isinstance(failure(password_url.replace("//owner:", "//nobody:")), errors.WrongPassword)


def test_the_same_server_is_used_with_the_right_password(password_url: str) -> None:
    with connect.session(load(password_url, {}), at_head=False) as conn:
        assert value(conn, "SELECT current_user") == "owner"


def test_a_database_that_does_not_exist_is_told(postgres_run: Any) -> None:
    error = failure(postgres_run.url_of("no_such_database"))
    assert isinstance(error, errors.DatabaseMissing)


def test_a_database_that_is_not_utf8_is_refused(postgres_run: Any) -> None:
    with psycopg.connect(postgres_run.url, autocommit=True) as admin:
        name = sql.Identifier(f"exporter_test_ascii_{postgres_run.folder.name[-8:].lower()}")
        admin.execute(
            sql.SQL(
                "CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII'"
                " LC_COLLATE 'C' LC_CTYPE 'C'"
                + (" LOCALE_PROVIDER libc" if admin.info.server_version >= 150000 else "")
            ).format(name)
        )
        try:
            error = failure(postgres_run.url_of(name.as_string().strip('"')))
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
    assert isinstance(error, errors.ServerUnsupported)
    assert "SQL_ASCII" in str(error)


# --- Schemas that cannot be used ------------------------------------------------------------


def test_an_empty_database_is_not_at_head(empty_database_url: str) -> None:
    error = failure(empty_database_url)
    assert isinstance(error, errors.NotAtHead)
    assert (error.found, error.head) == (None, known_revisions()[-1])


def test_an_older_schema_is_not_at_head(database_url: str) -> None:
    with connect.session(settings_for(database_url)) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '0001'")
    error = failure(database_url)
    assert isinstance(error, errors.NotAtHead)
    assert error.found == "0001"


def test_a_newer_schema_is_refused(database_url: str) -> None:
    with connect.session(settings_for(database_url)) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    error = failure(database_url)
    assert isinstance(error, errors.DatabaseNewer)
    assert error.found == "9999"


@pytest.fixture
def role_without_rights(database_url: str, postgres_run: Any) -> Iterator[str]:
    name = f"exporter_test_role_{postgres_run.worker}_{postgres_run.folder.name[-8:].lower()}"
    role = sql.Identifier(name)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {}").format(role))
        yield name
        admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_role_without_rights_is_told_apart_from_an_absent_schema(
    database_url: str, role_without_rights: str
) -> None:
    error = failure(with_query(database_url, f"options=-c%20role%3D{role_without_rights}"))
    assert isinstance(error, errors.MissingRights)
    assert "permission denied for schema exporter" in str(error)


def test_a_role_that_may_enter_but_not_read_lacks_a_right(
    database_url: str, role_without_rights: str
) -> None:
    with connect.session(settings_for(database_url)) as conn:
        grant = sql.SQL("GRANT USAGE ON SCHEMA exporter TO {}")
        conn.execute(grant.format(sql.Identifier(role_without_rights)))
    error = failure(with_query(database_url, f"options=-c%20role%3D{role_without_rights}"))
    assert isinstance(error, errors.MissingRights)
    assert error.sqlstate == "42501"


# --- Failures while working -----------------------------------------------------------------


def failing(settings: Settings, statement: str) -> errors.ExporterError:
    with pytest.raises(errors.ExporterError) as caught, connect.session(settings) as conn:
        conn.execute(statement)
    return caught.value


def test_a_server_that_goes_away_is_unreachable(settings: Settings) -> None:
    error = failing(settings, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert isinstance(error, errors.ServerUnreachable)
    assert error.retryable


def test_a_statement_that_takes_too_long_names_the_timeout(database_url: str) -> None:
    hurried = settings_for(database_url, EXPORTER_STATEMENT_TIMEOUT_MS="50")
    error = failing(hurried, "SELECT pg_sleep(5)")
    assert isinstance(error, errors.DatabaseError)
    assert error.sqlstate == "57014"


def test_a_lock_that_does_not_come_is_worth_another_try(database_url: str) -> None:
    hurried = settings_for(database_url, EXPORTER_LOCK_TIMEOUT_MS="50")
    with connect.session(hurried) as holder, holder.transaction():
        holder.execute("LOCK TABLE archive")
        error = failing(hurried, "SELECT * FROM archive")
    assert isinstance(error, errors.DatabaseBusy)
    assert (error.sqlstate, error.retryable) == ("55P03", True)


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT '{SECRET}'::integer",
        f"SELECT '{{\"a\": {SECRET}'::json",
        f"INSERT INTO archive (database_id) VALUES ('{SECRET}')",
        f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}'; END $$",
    ],
    ids=["bad number", "bad json", "constraint", "raised"],
)
def test_bad_data_is_not_quoted(settings: Settings, statement: str) -> None:
    error = failing(settings, statement)
    assert isinstance(error, errors.DatabaseError)
    assert SECRET not in str(error)


def test_a_violated_constraint_is_named(settings: Settings) -> None:
    error = failing(settings, "INSERT INTO archive DEFAULT VALUES")
    assert "UniqueViolation on archive_one_row" in str(error)
