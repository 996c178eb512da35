"""Read agentsview's shared PostgreSQL: bounded batches, short read-only transactions, no object.

Columns are probed at the start of every run, because the owner may upgrade between two runs. Its
tables are never found by a bare name of another schema, and nothing of ours touches them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

import psycopg
from psycopg import sql

from exporter.core.intake import (
    MAX_ID_BYTES,
    Repairs,
    SourceEvent,
    SourceMessage,
    SourceSession,
    is_money,
)
from exporter.db import queries
from exporter.db.connect import connect, read_snapshot, translated
from exporter.errors import BadInput, MissingRights, SourceNotRecognised
from exporter.importers.source import (
    Listed,
    SourceBilling,
    SourceInfo,
    SourceMapping,
    SourceObservation,
    SourcePrice,
    Whole,
)
from exporter.settings import Settings, libpq_url

QUERIES = queries.load(__file__)
KIND: Final = "agentsview-postgresql"
READING: Final = "1"
_FETCH: Final = 5_000

#: (column, SQL where the column is absent or null), in the order of `SourceSession`. None: the
#: column is always there and null is a value of its own.
_SESSION_COLUMNS: Final = (
    ("id", None),
    ("project", None),
    ("machine", None),
    ("agent", None),
    ("cwd", "''"),
    ("git_branch", "''"),
    ("file_path", "''"),
    ("started_at", None),
    ("ended_at", None),
    ("created_at", None),
    ("deleted_at", "NULL::timestamptz"),
    ("message_count", None),
    ("user_message_count", None),
    ("parent_session_id", "NULL"),
    ("relationship_type", "''"),
    ("is_automated", "false"),
    ("total_output_tokens", "0"),
    ("peak_context_tokens", "0"),
    ("has_total_output_tokens", "false"),
    ("has_peak_context_tokens", "false"),
    ("outcome", "'unknown'"),
    ("health_grade", "NULL"),
    ("tool_failure_signal_count", "0"),
    ("secret_leak_count", "0"),
    ("termination_status", "NULL"),
)
_TIMES: Final = frozenset(("started_at", "ended_at", "created_at", "deleted_at"))
_OBSERVATION_TABLES: Final = (
    "project_identity_observations",
    "source_project_identity_observations",
)


#: What is read of each table; nothing named: the table as a whole.
_READ: Final[dict[str, frozenset[str]]] = {
    "sessions": frozenset(name for name, _ in _SESSION_COLUMNS),
    "messages": frozenset(
        (
            *("session_id", "ordinal", "role", "timestamp", "is_system", "model", "token_usage"),
            *("claude_message_id", "claude_request_id", "source_uuid"),
        )
    ),
    "usage_events": frozenset(),
    "excluded_sessions": frozenset(),
    "model_pricing": frozenset(),
    "cursor_usage_events": frozenset(),
    "source_worktree_project_mappings": frozenset(),
    **dict.fromkeys(_OBSERVATION_TABLES, frozenset()),
}


class PostgresSource:
    """An agentsview schema behind a URL. See `exporter.importers.source.Source`."""

    def __init__(self, url: str, schema: str) -> None:
        """Connect and probe. Raises `SourceNotRecognised` or an error of the connection."""
        if not schema.isidentifier() or not schema.isascii():
            raise BadInput("--source-schema", "it is no plain name", accepted="agentsview")
        self.repairs = Repairs()
        self._settings = replace(Settings(), database_url=libpq_url("SOURCE", url), schema=schema)
        self._conn = connect(self._settings, application_name="exporter import (source)")
        self._schema = schema
        try:
            with translated(self._settings.place):
                self._columns = self._table_columns()
                self.info = self._probe()
        except BaseException:
            self._conn.close()
            raise

    def close(self) -> None:
        self._conn.close()

    def reopen_if_replaced(self) -> None:
        """A server's tables are not replaced by another file."""

    def watermark(self) -> str:
        """None that could be trusted: the listing of the sessions decides."""
        return ""

    def _table_columns(self) -> dict[str, set[str]]:
        columns: dict[str, set[str]] = {}
        hidden: dict[str, set[str]] = {}
        for table, column, readable in self._conn.execute(
            QUERIES["columns"], {"schema": self._schema}
        ):
            (columns if readable else hidden).setdefault(table, set()).add(column)
        for table in sorted(_READ.keys() & hidden.keys()):
            # A column that is not read, such as a message's content, may rightly be hidden.
            missing = hidden[table] & _READ[table] if _READ[table] else hidden[table]
            if missing and (_READ[table] or table not in columns):
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
        if not self._columns["usage_events"] & {"cost_usd", "cost_microdollars"}:
            raise self._not_recognised(
                f"a database whose {self._schema}.usage_events has neither cost_usd nor "
                "cost_microdollars"
            )
        version = self._conn.execute(QUERIES["data_version"]).fetchone()
        return SourceInfo(
            KIND,
            self._identity(),
            "",
            f"{self._settings.place} schema {self._schema}",
            "later" if self._has("usage_events", "cost_microdollars") else "0.37.1",
            version[0] if version else None,
        )

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
        with translated(self._settings.place), read_snapshot(self._conn):
            yield

    def _stream(
        self, query: sql.Composed | sql.SQL, parameters: dict[str, Any] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Rows through a server-side cursor: a page at a time, whatever their number."""
        with self._reading(), self._conn.cursor(name="source") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(query, parameters)
            yield from cursor

    # -- sessions -----------------------------------------------------------------------------

    def listing(self) -> Iterator[Listed]:
        moving = [
            sql.Identifier("s", name)
            for name in ("updated_at", "data_version", "transcript_revision")
            if self._has("sessions", name)
        ]
        columns = sql.SQL(", ").join([*self._session_columns(), *moving])
        query = QUERIES["listing"].format(columns=columns, reading=sql.Literal(READING))
        for row in self._stream(query):
            if len(row[0].encode()) > MAX_ID_BYTES:
                self.repairs.add("refused_id")
            else:
                yield Listed(row[0], row[1], row[2])

    def excluded(self) -> list[str]:
        if "excluded_sessions" not in self._columns:
            return []
        return [row[0] for row in self._stream(QUERIES["excluded"])]

    def _session_columns(self) -> list[sql.Composable]:
        columns: list[sql.Composable] = []
        for name, absent in _SESSION_COLUMNS:
            column = sql.Identifier("s", name)
            if absent is None:
                columns.append(column)
            elif not self._has("sessions", name):
                columns.append(sql.SQL(absent))
            else:
                columns.append(sql.SQL("coalesce({}, {})").format(column, sql.SQL(absent)))
        return columns

    def sessions(self, ids: Sequence[str]) -> Iterator[Whole]:
        wanted = {"ids": list(ids)}
        with self._reading():
            messages: dict[str, list[SourceMessage]] = {}
            for row in self._conn.execute(self._message_query(), wanted):
                messages.setdefault(row[0], []).append(SourceMessage._make(row))
            events: dict[str, list[SourceEvent]] = {}
            for row in self._conn.execute(self._event_query(), wanted):
                cost = self._dollars(row[10], "cost_usd" in self._columns["usage_events"])
                events.setdefault(row[0], []).append(
                    SourceEvent._make((*row[:10], cost, *row[11:]))
                )
            found = [SourceSession._make(row) for row in self._conn.execute(self._query(), wanted)]
        for session in found:
            yield Whole(session, messages.get(session.id, []), events.get(session.id, []))

    def _query(self) -> sql.Composed:
        columns = [
            _time_text(column) if name in _TIMES else column
            for (name, _), column in zip(_SESSION_COLUMNS, self._session_columns(), strict=True)
        ]
        return QUERIES["sessions"].format(columns=sql.SQL(", ").join(columns))

    def _message_query(self) -> sql.Composed:
        return QUERIES["messages"].format(at=_time_text(sql.Identifier("timestamp")))

    def _event_query(self) -> sql.Composed:
        column = "cost_usd" if self._has("usage_events", "cost_usd") else "cost_microdollars"
        return QUERIES["events"].format(
            cost=sql.Identifier(column), at=_time_text(sql.Identifier("occurred_at"))
        )

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
        have = self._columns.get("model_pricing", set())
        if not have:
            return
        micro = "input_microdollars_per_mtok" in have
        kinds = ("input", "output", "cache_creation", "cache_read")
        form = "{}_microdollars_per_mtok" if micro else "{}_per_mtok"
        rates = sql.SQL(", ").join(sql.Identifier(form.format(kind)) for kind in kinds)
        for pattern, *stored, updated_at in self._stream(QUERIES["prices"].format(rates=rates)):
            a, b, c, d = (rate / 1_000_000 if micro else float(rate) for rate in stored)
            if all(map(is_money, (a, b, c, d))):
                yield SourcePrice(pattern, a, b, c, d, updated_at)
            else:
                self.repairs.add("rate")

    def observations(self) -> Iterator[SourceObservation]:
        for table in _OBSERVATION_TABLES:
            if table in self._columns:
                later = self._has(table, "worktree_relationship")
                query = QUERIES["observations"].format(
                    table=sql.Identifier(table),
                    at=_time_text(sql.Identifier("observed_at")),
                    worktree=QUERIES["later_worktree" if later else "worktree"],
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
        if "source_worktree_project_mappings" in self._columns:
            for row in self._stream(QUERIES["mappings"]):
                yield SourceMapping._make(row)

    def billing(self) -> Iterator[SourceBilling]:
        have = self._columns.get("cursor_usage_events", set())
        charged = next((c for c in ("charged_cents", "charged_microdollars") if c in have), None)
        if charged is None:
            return
        scale = Decimal(100 if charged == "charged_cents" else 1_000_000)
        query = QUERIES["billing"].format(
            charged=sql.Identifier(charged), at=_time_text(sql.Identifier("occurred_at"))
        )
        for *facts, amount, is_headless, key in self._stream(query):
            dollars = self._dollars(amount, True) or Decimal(0)
            at, model, a, b, c, d = facts
            yield SourceBilling(at or "", model, a, b, c, d, dollars / scale, is_headless, key)


def _time_text(column: sql.Composable) -> sql.Composed:
    """RFC 3339 in UTC of a timestamptz, without trailing zeros; null where it has no such text."""
    return QUERIES["time_text"].format(at=column)
