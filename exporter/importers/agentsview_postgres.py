"""Read agentsview's shared PostgreSQL: bounded batches, short read-only transactions, no object.

Columns are probed at the start of every run, because the owner may upgrade between two runs. Its
tables are never found by a bare name of another schema, and nothing of ours touches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, Literal, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from exporter.core.intake import (
    MAX_ID_BYTES,
    Repairs,
    SourceEvent,
    SourceMessage,
    SourceSession,
)
from exporter.core.numbers import is_money
from exporter.db import queries
from exporter.db.connect import connect, read_snapshot, translated
from exporter.errors import (
    BadInput,
    DatabaseError,
    DatabaseMissing,
    ExporterError,
    MissingRights,
    ServerUnreachable,
    SourceNotRecognised,
    WrongPassword,
)
from exporter.importers.source import (
    Listed,
    SourceBilling,
    SourceInfo,
    SourceMapping,
    SourceObservation,
    SourcePrice,
    Whole,
    missing_column,
)
from exporter.settings import Settings, libpq_url

QUERIES = queries.load(__file__)
KIND: Final = "agentsview-postgresql"
READING: Final = "3"
_FETCH: Final = 5_000
#: What to do about the source's server; the errors' own words are about the archive's.
_HINTS: Final[Mapping[type[DatabaseError], str]] = {
    ServerUnreachable: "start that server or check the URL given as SOURCE",
    WrongPassword: "check the user and password in SOURCE or in ~/.pgpass",
    DatabaseMissing: "check the database name in SOURCE",
    MissingRights: "grant it to the role in SOURCE, or name another role there",
}

_RATES: Final = ("input", "output", "cache_creation", "cache_read")
_OBSERVATION_TABLES: Final = (
    "project_identity_observations",
    "source_project_identity_observations",
)


class _Column(NamedTuple):
    """How a column is read: as what, and what stands where it is absent or null."""

    kind: Literal["text", "whole", "flag", "time", "money"]
    default: LiteralString


#: Types by kind; text is read of any type.
_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "whole": frozenset(("int2", "int4", "int8")),
    "flag": frozenset(("bool",)),
    "time": frozenset(("timestamptz", "timestamp", "date")),
    "money": frozenset(("float4", "float8", "numeric", "int2", "int4", "int8")),
}
_TEXT: Final = _Column("text", "''")
_TEXT_OR_NULL: Final = _Column("text", "NULL::text")
_WHOLE: Final = _Column("whole", "0")
_WHOLE_OR_NULL: Final = _Column("whole", "NULL::bigint")
_FLAG: Final = _Column("flag", "false")
_TIME: Final = _Column("time", "NULL::text")
_MONEY: Final = _Column("money", "NULL::text")
_OBSERVATION: Final[Mapping[str, _Column]] = {
    **dict.fromkeys(("project", "machine", "root_path", "git_remote", "git_remote_name"), _TEXT),
    **dict.fromkeys(("worktree_name", "worktree_root_path"), _TEXT),
    "observed_at": _TIME,
}
#: What is read of each table, those of sessions in the order of `SourceSession`. A column that is
#: not here, such as a message's content, may rightly be hidden from the role.
_COLUMNS: Final[Mapping[str, Mapping[str, _Column]]] = {
    "sessions": {
        **dict.fromkeys(("id", "project", "machine", "agent"), _TEXT),
        **dict.fromkeys(("cwd", "git_branch", "file_path"), _TEXT),
        **dict.fromkeys(("started_at", "ended_at", "created_at", "deleted_at"), _TIME),
        **dict.fromkeys(("message_count", "user_message_count"), _WHOLE),
        "parent_session_id": _TEXT_OR_NULL,
        "relationship_type": _TEXT,
        "is_automated": _FLAG,
        **dict.fromkeys(("total_output_tokens", "peak_context_tokens"), _WHOLE),
        **dict.fromkeys(("has_total_output_tokens", "has_peak_context_tokens"), _FLAG),
        "outcome": _Column("text", "'unknown'"),
        "health_grade": _TEXT_OR_NULL,
        **dict.fromkeys(("tool_failure_signal_count", "secret_leak_count"), _WHOLE),
        "termination_status": _TEXT_OR_NULL,
    },
    "messages": {
        "session_id": _TEXT,
        "ordinal": _WHOLE_OR_NULL,
        "role": _TEXT,
        "timestamp": _TIME,
        "is_system": _FLAG,
        **dict.fromkeys(("model", "token_usage", "claude_message_id"), _TEXT),
        **dict.fromkeys(("claude_request_id", "source_uuid"), _TEXT),
    },
    "usage_events": {
        "session_id": _TEXT,
        **dict.fromkeys(("id", "message_ordinal"), _WHOLE_OR_NULL),
        **dict.fromkeys(("source", "model"), _TEXT),
        **dict.fromkeys(("input_tokens", "output_tokens"), _WHOLE),
        **dict.fromkeys(("cache_creation_input_tokens", "cache_read_input_tokens"), _WHOLE),
        "reasoning_tokens": _WHOLE,
        **dict.fromkeys(("cost_usd", "cost_microdollars"), _MONEY),
        "occurred_at": _TIME,
        "dedup_key": _TEXT,
    },
    "excluded_sessions": {"id": _TEXT},
    "model_pricing": {
        "model_pattern": _TEXT,
        **dict.fromkeys((f"{kind}_per_mtok" for kind in _RATES), _Column("money", "'0'")),
        **dict.fromkeys(
            (f"{kind}_microdollars_per_mtok" for kind in _RATES), _Column("money", "'0'")
        ),
        "updated_at": _TEXT,
    },
    "cursor_usage_events": {
        "occurred_at": _TIME,
        "model": _TEXT,
        **dict.fromkeys(("input_tokens", "output_tokens"), _WHOLE),
        **dict.fromkeys(("cache_write_tokens", "cache_read_tokens"), _WHOLE),
        **dict.fromkeys(("charged_cents", "charged_microdollars"), _MONEY),
        "is_headless": _FLAG,
        "dedup_key": _TEXT,
    },
    "source_worktree_project_mappings": {
        **dict.fromkeys(("machine", "path_prefix"), _TEXT),
        "layout": _Column("text", "'explicit'"),
        "project": _TEXT,
        "enabled": _Column("flag", "true"),
    },
    **dict.fromkeys(_OBSERVATION_TABLES, _OBSERVATION),
}


class PostgresSource:
    """An agentsview schema behind a URL. See `exporter.importers.source.Source`."""

    def __init__(self, url: str, schema: str) -> None:
        """Connect and probe. Raises `SourceNotRecognised` or an error of the connection."""
        if not schema.isidentifier() or not schema.isascii():
            raise BadInput("--source-schema", "it is no plain name", accepted="agentsview")
        self.repairs = Repairs()
        self._settings = replace(Settings(), database_url=libpq_url("SOURCE", url), schema=schema)
        self._schema = schema
        with self._named():
            self._conn = connect(self._settings, application_name="exporter import (source)")
        self._is_closed = False
        try:
            with self._named():
                # Before the schema, which belongs to somebody else: a function there that is named
                # like one of the server's must not be called in its place.
                self._conn.execute(
                    sql.SQL("SET search_path TO pg_catalog, {}").format(sql.Identifier(schema))
                )
                self._columns = self._table_columns()
                self.info = self._probe()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the source's server as ours, which say that it is SOURCE they are about."""
        try:
            with translated(self._settings.place):
                yield
        except BadInput as error:
            problem = error.message.removeprefix(f"{error.name}: ")
            raise BadInput("SOURCE", problem, accepted=error.accepted) from None
        except DatabaseError as error:
            for kind, hint in _HINTS.items():
                if isinstance(error, kind):
                    error.hint = hint
            raise

    def close(self) -> None:
        self._is_closed = True
        self._conn.close()

    def reopen_if_replaced(self) -> None:
        """A server's tables are not replaced by another file."""

    def watermark(self) -> str:
        """None that could be trusted: the listing of the sessions decides."""
        return ""

    def _table_columns(self) -> dict[str, dict[str, str]]:
        """Name and type of each column that the role may read, by table."""
        columns: dict[str, dict[str, str]] = {}
        hidden: dict[str, set[str]] = {}
        for table, column, kind, readable in self._conn.execute(
            QUERIES["columns"], {"schema": self._schema}
        ):
            if readable:
                columns.setdefault(table, {})[column] = kind
            else:
                hidden.setdefault(table, set()).add(column)
        for table in sorted(_COLUMNS.keys() & hidden.keys()):
            if table not in columns or hidden[table] & _COLUMNS[table].keys():
                raise MissingRights(f"SELECT on {self._schema}.{table} of the source")
        return columns

    def _probe(self) -> SourceInfo:
        missing = {"sessions", "messages", "usage_events"} - self._columns.keys()
        if missing:
            known = ", ".join(sorted(self._columns)[:6]) or "no table that this role may see"
            raise self._not_recognised(
                f"a database whose schema {self._schema} lacks {', '.join(sorted(missing))}"
                f" (it has {known})"
            )
        if not self._columns["usage_events"].keys() & {"cost_usd", "cost_microdollars"}:
            raise self._not_recognised(
                f"a database whose {self._schema}.usage_events has neither cost_usd nor "
                "cost_microdollars"
            )
        if lacking := missing_column(self._columns) or self._odd_column():
            raise self._not_recognised(f"a database with {self._schema}.{lacking}")
        version = None
        if self._columns["sessions"].get("data_version") in _TYPES["whole"]:
            version = self._conn.execute(QUERIES["data_version"]).fetchone()
        return SourceInfo(
            KIND,
            self._identity(),
            "",
            f"{self._settings.place} schema {self._schema}",
            "later" if self._has("usage_events", "cost_microdollars") else "0.37.1",
            version[0] if version else None,
        )

    def _odd_column(self) -> str | None:
        """The first column of a type that it cannot be read as."""
        for table, wanted in _COLUMNS.items():
            for name, column in wanted.items():
                found = self._columns.get(table, {}).get(name)
                if found and found not in _TYPES.get(column.kind, (found,)):
                    return f"{table}.{name} of type {found}"
        return None

    def _identity(self) -> str:
        """The cluster, database and schema; a role that may not see the cluster's number names
        the place instead."""
        try:
            row = self._conn.execute(QUERIES["cluster"]).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            row = None
        where = f"{row[0]}/{row[1]}" if row else self._settings.place
        return blake2b(f"{where}/{self._schema}".encode(), digest_size=16).hexdigest()

    def _not_recognised(self, found: str) -> SourceNotRecognised:
        return SourceNotRecognised(
            self._settings.place, found, wanted="agentsview's schema; name it with --source-schema"
        )

    def _has(self, table: str, column: str) -> bool:
        return column in self._columns.get(table, ())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._named(), read_snapshot(self._conn):
            yield

    def _column(self, table: str, name: str, *, raw: bool = False) -> sql.Composable:
        """A column as it is read; ``raw`` leaves times as they are."""
        kind, default = _COLUMNS[table][name]
        if not self._has(table, name):
            return sql.SQL(default)
        column: sql.Composable = sql.Identifier(name)
        if kind == "time":
            return column if raw else _time_text(column)
        if kind in ("text", "money"):
            column = sql.SQL("{}::text").format(column)
        return sql.SQL("coalesce({}, {})").format(column, sql.SQL(default))

    def _select(self, table: str, names: Iterable[str], *, raw: bool = False) -> sql.Composed:
        return sql.SQL(", ").join([self._column(table, name, raw=raw) for name in names])

    def _stream(
        self, query: sql.Composed | sql.SQL, parameters: dict[str, Any] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Rows through a server-side cursor: a page at a time, whatever their number."""
        try:
            with self._reading(), self._conn.cursor(name="source") as cursor:
                cursor.itersize = _FETCH
                cursor.execute(query, parameters)
                yield from cursor
        except (ExporterError, psycopg.Error):
            # A generator that a signal left half way ends only after the connection was closed.
            if not self._is_closed:
                raise

    # -- sessions -----------------------------------------------------------------------------

    def listing(self) -> Iterator[Listed]:
        moving = [
            sql.Identifier(name)
            for name in ("updated_at", "data_version", "transcript_revision")
            if self._has("sessions", name)
        ]
        columns = [
            self._column("sessions", name, raw=True)
            for name in _COLUMNS["sessions"]
            if self._has("sessions", name)
        ]
        query = QUERIES["listing"].format(
            id=self._column("sessions", "id"),
            count=self._column("sessions", "message_count"),
            columns=sql.SQL(", ").join([*columns, *moving]),
            reading=sql.Literal(READING),
        )
        for row in self._stream(query):
            if not row[0] or len(row[0].encode()) > MAX_ID_BYTES:
                self.repairs.add("refused_id")
            else:
                yield Listed(*row)

    def excluded(self) -> list[str]:
        if "excluded_sessions" not in self._columns:
            return []
        ids = self._select("excluded_sessions", ["id"])
        return [row[0] for row in self._stream(QUERIES["excluded"].format(columns=ids)) if row[0]]

    def sessions(self, ids: Sequence[str]) -> Iterator[Whole]:
        wanted = {"ids": list(ids)}
        in_dollars = self._has("usage_events", "cost_usd")
        with self._reading():
            messages: dict[str, list[SourceMessage]] = {}
            for row in self._conn.execute(self._query("messages"), wanted):
                messages.setdefault(row[0], []).append(SourceMessage._make(row))
            events: dict[str, list[SourceEvent]] = {}
            for row in self._conn.execute(self._event_query(), wanted):
                cost = self._dollars(row[10], in_dollars)
                events.setdefault(row[0], []).append(
                    SourceEvent._make((*row[:10], cost, *row[11:]))
                )
            rows = self._conn.execute(self._query("sessions"), wanted)
            # Of several rows with one id, which only a table without a key can hold, one counts.
            found = {row[0]: SourceSession._make(row) for row in rows}
        for key, session in found.items():
            yield Whole(session, messages.get(key, []), events.get(key, []))

    def _query(self, table: str) -> sql.Composed:
        return QUERIES[table].format(columns=self._select(table, _COLUMNS[table]))

    def _event_query(self) -> sql.Composed:
        absent = "cost_microdollars" if self._has("usage_events", "cost_usd") else "cost_usd"
        names = [name for name in _COLUMNS["usage_events"] if name != absent]
        return QUERIES["events"].format(columns=self._select("usage_events", names))

    def _dollars(self, stored: str | None, in_dollars: bool) -> Decimal | None:
        """A stored cost as exact dollars; what is no amount of money is no cost, and is counted."""
        if stored is None:
            return None
        amount = Decimal(stored)
        if not is_money(float(amount)):
            self.repairs.add("cost")
            return None
        return amount if in_dollars else amount / 1_000_000

    # -- the rest -----------------------------------------------------------------------------

    def prices(self) -> Iterator[SourcePrice]:
        if "model_pricing" not in self._columns:
            return
        micro = self._has("model_pricing", "input_microdollars_per_mtok")
        form = "{}_microdollars_per_mtok" if micro else "{}_per_mtok"
        names = ("model_pattern", *map(form.format, _RATES), "updated_at")
        query = QUERIES["prices"].format(columns=self._select("model_pricing", names))
        for pattern, *stored, updated_at in self._stream(query):
            a, b, c, d = (float(rate) / 1e6 if micro else float(rate) for rate in stored)
            # Negative rates are amounts: they come over as they are.
            if all(map(is_money, (a, b, c, d))):
                yield SourcePrice(pattern, a, b, c, d, updated_at)
            else:
                self.repairs.add("rate")

    def observations(self) -> Iterator[SourceObservation]:
        for table in _OBSERVATION_TABLES:
            if table in self._columns:
                later = self._has(table, "worktree_relationship")
                columns = {name: self._column(table, name) for name in _OBSERVATION}
                query = QUERIES["observations"].format(
                    table=sql.Identifier(table),
                    worktree=QUERIES["later_worktree" if later else "worktree"].format(**columns),
                    **columns,
                )
                for row in self._stream(query, {"local": self._pushers()}):
                    yield SourceObservation._make(row)

    def _pushers(self) -> list[str]:
        """The machines that push here. A push renames `local` in sessions to its machine, but
        leaves it in observations, which therefore speak of every one of them."""
        if "sync_metadata" not in self._columns:
            return []
        return sorted({row[0] for row in self._conn.execute(QUERIES["pushers"])})

    def mappings(self) -> Iterator[SourceMapping]:
        table = "source_worktree_project_mappings"
        if table in self._columns:
            query = QUERIES["mappings"].format(columns=self._select(table, _COLUMNS[table]))
            for row in self._stream(query):
                yield SourceMapping._make(row)

    def billing(self) -> Iterator[SourceBilling]:
        table = "cursor_usage_events"
        charged = next(
            (c for c in ("charged_cents", "charged_microdollars") if self._has(table, c)), None
        )
        if charged is None:
            return
        scale = Decimal(100 if charged == "charged_cents" else 1_000_000)
        absent = {"charged_cents", "charged_microdollars"} - {charged}
        names = [name for name in _COLUMNS[table] if name not in absent]
        query = QUERIES["billing"].format(columns=self._select(table, names))
        for *facts, amount, is_headless, key in self._stream(query):
            dollars = self._dollars(amount, True) or Decimal(0)
            at, model, a, b, c, d = facts
            yield SourceBilling(at or "", model, a, b, c, d, dollars / scale, is_headless, key)


def _time_text(column: sql.Composable) -> sql.Composed:
    """RFC 3339 in UTC of a timestamptz, without trailing zeros; null where it has no such text."""
    return QUERIES["time_text"].format(at=column)
