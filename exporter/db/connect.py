"""Connections to PostgreSQL, and the one place where driver errors become ours.

Every connection is autocommit, in UTC, and sees the toolkit's schema first: SQL files name tables
without a schema, so ``EXPORTER_SCHEMA`` works everywhere. A unit of work is one
``with conn.transaction()``; an export reads inside one :func:`read_snapshot`.

:func:`session` is what a command uses. :func:`connect` is for callers that keep connections of
their own (workers, tests); they pass a failure through :func:`translate`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from exporter import errors
from exporter.errors import ExporterError
from exporter.paths import known_revisions
from exporter.settings import Settings, libpq_variables_hidden

#: The oldest server that the toolkit's SQL runs on, as server_version_num.
OLDEST_SERVER = 140000

#: Sent unless the URL says otherwise: a dead peer is noticed within about a minute.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10}

_SET_UP = """
SELECT set_config('search_path', quote_ident(%(schema)s) || ', pg_catalog', false),
       set_config('TimeZone', 'UTC', false),
       set_config('DateStyle', 'ISO, YMD', false),
       set_config('lock_timeout', %(lock_timeout_ms)s::text, false),
       set_config('statement_timeout', %(statement_timeout_ms)s::text, false)
"""

_SCHEMA_STATE = """
SELECT nspname,
       has_schema_privilege(oid, 'USAGE'),
       pg_catalog.to_regclass(quote_ident(nspname) || '.alembic_version') IS NOT NULL
  FROM pg_catalog.pg_namespace
 WHERE quote_ident(nspname) = btrim(split_part(current_setting('search_path'), ',', 1))
"""


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """The server's own version number."""

    #: server_version_num, such as 150018 for 15.18.
    number: int

    @property
    def major(self) -> int:
        return self.number // 10_000

    def __str__(self) -> str:
        return f"{self.major}.{self.number % 10_000}"


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The schema of a database beside what this program knows."""

    schema: str
    #: Revision found; None when there are no tables of ours.
    revision: str | None
    head: str
    state: Literal["absent", "behind", "at head", "newer"]


def database_url(settings: Settings) -> str:
    """The URL to connect to; starts the embedded server when no other is named."""
    if settings.database_url:
        return settings.database_url
    from exporter.db import server

    return server.start(settings.home)


def connect(
    settings: Settings, *, autocommit: bool = True, application_name: str = "exporter"
) -> psycopg.Connection[TupleRow]:
    """Open one connection, set up as the module says.

    The schema need not exist. Raises a DatabaseError of ours, never one of the driver's.
    """
    conninfo = _conninfo(settings, application_name)
    try:
        with _own_server_only(settings):
            conn = psycopg.connect(conninfo, autocommit=True)
    except psycopg.Error as error:
        raise translate(error, settings.place) from error
    except ValueError:
        # Among others a host name that cannot be one; the text may quote any part of the URL.
        raise _unreadable_url() from None
    try:
        with translated(settings.place):
            _set_up(conn, settings)
            conn.autocommit = autocommit
    except BaseException:
        conn.close()
        raise
    return conn


@contextmanager
def session(
    settings: Settings, *, at_head: bool = True, application_name: str = "exporter"
) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection for one command: opened, checked to be at head, closed at the end.

    Driver errors that leave the block come out as ours. ``at_head=False`` skips the check.
    """
    conn = connect(settings, application_name=application_name)
    try:
        with translated(settings.place):
            if at_head:
                require_head(conn)
            yield conn
    finally:
        conn.close()


@contextmanager
def read_snapshot(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """One ``REPEATABLE READ READ ONLY`` transaction: all reads inside see one instant.

    Inside a transaction of the caller's this is only a savepoint: what the caller began stands,
    and it is the caller who must have asked for a snapshot.
    """
    outermost = conn.info.transaction_status == TransactionStatus.IDLE
    with conn.transaction():
        if outermost:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def server_version(conn: psycopg.Connection[Any]) -> ServerVersion:
    """The version of the server at the other end; costs no round trip."""
    return ServerVersion(conn.info.server_version)


def require_head(conn: psycopg.Connection[Any]) -> None:
    """Refuse a database whose schema is not exactly the one this program was written for.

    One query when all is well. Raises NotAtHead, DatabaseNewer or MissingRights.
    """
    head = known_revisions()[-1]
    found = current_revisions(conn)
    if found == {head}:
        return
    unknown = found - set(known_revisions())
    if unknown:
        raise errors.DatabaseNewer(max(unknown), head)
    raise errors.NotAtHead(max(found, default=None), head)


def schema_status(conn: psycopg.Connection[Any], schema: str) -> SchemaStatus:
    """Where the toolkit's schema stands; changes nothing."""
    known = known_revisions()
    found = current_revisions(conn)
    revision = max(found, default=None)
    state: Literal["absent", "behind", "at head", "newer"] = "behind"
    if revision is None:
        state = "absent"
    elif found - set(known):
        state = "newer"
    elif found == {known[-1]}:
        state = "at head"
    return SchemaStatus(schema, revision, known[-1], state)


def current_revisions(conn: psycopg.Connection[Any]) -> set[str]:
    """Revision ids stored in the toolkit's schema; empty when it is absent or at base.

    More than one only after somebody ran a branched history by hand. Raises MissingRights when
    the role may not look. Works inside a transaction and outside.
    """
    try:
        with conn.transaction():
            return {row[0] for row in conn.execute("SELECT version_num FROM alembic_version")}
    except psycopg.errors.UndefinedTable:
        # Without USAGE on the schema its tables look absent too: tell the two apart.
        state = conn.execute(_SCHEMA_STATE).fetchone()
    if state and not state[1]:
        raise errors.MissingRights(f"permission denied for schema {state[0]}")
    return set()


# --- Opening --------------------------------------------------------------------------------


def _conninfo(settings: Settings, application_name: str) -> str:
    """The URL with our defaults for what it leaves open."""
    url = database_url(settings)
    try:
        given = conninfo_to_dict(url)
        defaults: dict[str, str | int] = {
            "connect_timeout": settings.connect_timeout_seconds,
            "application_name": application_name,
            "client_encoding": "UTF8",
            **_KEEPALIVE,
        }
        return make_conninfo(url, **{k: v for k, v in defaults.items() if k not in given})
    except (psycopg.Error, ValueError):
        # libpq quotes parts of the text, and with a stray "@" that part may be the password.
        raise _unreadable_url() from None


def _unreadable_url(problem: str = "libpq cannot read it") -> errors.BadInput:
    return errors.BadInput(
        "database URL",
        problem,
        accepted="postgresql://USER@HOST:5432/DATABASE, special characters as %XX",
    )


#: Held while the environment lacks what libpq reads there.
_hiding = threading.Lock()


@contextmanager
def _own_server_only(settings: Settings) -> Iterator[None]:
    """Keep libpq's variables from leading elsewhere while the embedded server is connected to.

    For a URL that the user gave they keep their meaning, and nothing waits. They stay hidden until
    the connection stands: libpq reads some (``PGTZ``, ``PGDATESTYLE``, ``PGGEQO``) only when it has
    reached the server.
    """
    if settings.database_url:
        yield
        return
    with _hiding, libpq_variables_hidden():
        yield


def _set_up(conn: psycopg.Connection[Any], settings: Settings) -> None:
    if conn.info.server_version < OLDEST_SERVER:
        version = server_version(conn)
        raise errors.ServerUnsupported(f"the server is PostgreSQL {version}, older than 14")
    encoding = conn.info.parameter_status("server_encoding")
    if encoding and encoding != "UTF8":
        raise errors.ServerUnsupported(f"the database is encoded in {encoding}, not in UTF-8")
    conn.execute(
        _SET_UP,
        {
            "schema": settings.schema,
            "lock_timeout_ms": settings.lock_timeout_ms,
            "statement_timeout_ms": settings.statement_timeout_ms,
        },
    )
    # A server on a system that cannot watch a socket refuses this one; nothing is lost but speed
    # in noticing that we went away.
    with suppress(psycopg.DatabaseError):
        conn.execute("SET client_connection_check_interval = '10s'")


# --- Errors ---------------------------------------------------------------------------------


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn driver errors that leave the block into ours; ``place`` names the database."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, place) from error


def translate(error: psycopg.Error, place: str) -> ExporterError:
    """Our error for one of the driver's; SQLSTATE decides.

    libpq reports no SQLSTATE for a failed connection attempt, so its English text is read there;
    a server that speaks another language gets the general sentence.
    """
    if error.sqlstate is None:
        return _translate_connecting(error, place)
    state = error.sqlstate
    text = _public_text(error)
    match state[:2], state:
        case "28", _:
            return errors.WrongPassword(place, text, sqlstate=state)
        case _, "42501":
            return errors.MissingRights(text)
        case _, "3D000":
            return errors.DatabaseMissing(place)
        case "08", _:
            return errors.ServerUnreachable(place, "the connection was lost", sqlstate=state)
        case _, "57P01" | "57P02" | "57P03" | "57P05":
            return errors.ServerUnreachable(place, "the server is going down", sqlstate=state)
    return _translate_statement(state, text)


def _translate_statement(state: str, text: str) -> ExporterError:
    busy = {
        "55P03": "another transaction holds a lock that is needed",
        "40001": "another transaction changed the same rows",
        "40P01": "two transactions waited for one another",
        "53300": "the server has no connection left",
    }
    failed = {
        "57014": ("the statement was cancelled or took too long", "raise the statement timeout"),
        "53100": ("the server's disk is full", "free space on the server and run again"),
        "53200": ("the server is out of memory", "lower work_mem or free memory on the server"),
        "25006": ("the server is read-only", "connect to the primary server"),
    }
    if state in busy:
        return errors.DatabaseBusy(busy[state], sqlstate=state, hint="run again in a moment")
    if state in failed:
        message, hint = failed[state]
        return errors.DatabaseError(message, sqlstate=state, hint=hint)
    return errors.DatabaseError(
        f"the database failed with SQLSTATE {state} ({text})", sqlstate=state
    )


def _public_text(error: psycopg.Error) -> str:
    """The server's primary message where it can hold no data value, else the name of the error.

    Messages of classes 22 and 23 quote the offending value.
    """
    if error.sqlstate and error.sqlstate[:2] in ("22", "23", "P0"):
        named = error.diag.constraint_name or error.diag.table_name
        return type(error).__name__ + (f" on {named}" if named else "")
    return (error.diag.message_primary or type(error).__name__).strip()


#: libpq's complaints about a value of the URL, or of one of its variables.
_REFUSED_VALUES: tuple[tuple[str, str], ...] = (
    (r"invalid port number|could not match .* port numbers|Servname not supported", "port"),
    (r'definition of service "', "service"),
    (r"could not match .* host names", "hostaddr"),
    (r'invalid integer value .* for connection option "(\w+)"', ""),
    (r"(?:invalid|weak) (\w+) (?:value: )?\"", ""),
    (r"invalid (SSL protocol version range|\w+protocol_version)", ""),
    (r"bad value for (\w+)", ""),
)
#: libpq's and the server's English phrases while connecting, most telling first.
_CONNECTING: tuple[tuple[str, str], ...] = (
    (r"password authentication failed", "wrong password"),
    (r"no password supplied", "it wants a password and none was given"),
    (r"no pg_hba\.conf entry", "its pg_hba.conf does not let this user in"),
    (r"(authentication failed|role .* does not exist|not permitted to log in)", "unknown user"),
)
_UNREACHABLE: tuple[tuple[str, str], ...] = (
    (r"Connection refused", "connection refused"),
    (
        r"could not translate host name|failed to resolve host|Name or service not known",
        "unknown host name",
    ),
    (r"Unix-domain socket path .* is too long", "the path of its socket is too long"),
    (r"timeout expired|timed out", "no answer in time"),
    (r"No such file or directory", "no such socket"),
    (r"(starting up|shutting down|in recovery)", "the server is starting or stopping"),
    (r"(too many clients|too many connections|connection slots)", "it has no connection left"),
    (
        r"(server closed the connection|terminating connection|connection is lost)",
        "connection lost",
    ),
    (r"(No route to host|Network is unreachable)", "no route to the host"),
    (r"SSL|certificate", "TLS could not be agreed"),
    (r"Permission denied", "permission denied on its socket"),
)


def _translate_connecting(error: psycopg.Error, place: str) -> ExporterError:
    text = str(error)
    for pattern, name in _REFUSED_VALUES:
        refused = re.search(pattern, text)
        if refused:
            what = name or refused[1]
            return _unreadable_url(f"its {what}, or the one set for libpq, is not understood")
    if re.search(r'database ".*" does not exist', text):
        return errors.DatabaseMissing(place)
    denied = re.search(r"(permission denied for database [^\n]*)", text)
    if denied:
        return errors.MissingRights(denied[1])
    for pattern, reason in _CONNECTING:
        if re.search(pattern, text):
            return errors.WrongPassword(place, reason)
    for pattern, reason in _UNREACHABLE:
        if re.search(pattern, text):
            return errors.ServerUnreachable(place, reason)
    if isinstance(error, psycopg.OperationalError):
        return errors.ServerUnreachable(place, "the connection failed")
    return errors.DatabaseError(f"the database driver failed ({type(error).__name__})")


def schema_identifier(settings: Settings) -> sql.Identifier:
    """The toolkit's schema as a quoted name, for the few statements that must spell it out."""
    return sql.Identifier(settings.schema)
