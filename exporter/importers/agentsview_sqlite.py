"""Read an agentsview SQLite archive, beside its live owner and without disturbing it.

The file is opened read-only by URI, every read is one short transaction, and the owner's write
lock is never touched. Columns are probed, not versions: a column that an older or later layout
lacks is read as its default. Message text, titles, prompts and tool data are never selected.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tomllib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from hashlib import blake2b
from itertools import groupby
from math import inf, nan
from operator import itemgetter
from pathlib import Path
from stat import S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK
from typing import Any, Final
from urllib.parse import quote

from exporter.core.intake import (
    MAX_ID_BYTES,
    Repairs,
    SourceEvent,
    SourceMessage,
    SourceSession,
)
from exporter.core.numbers import is_money
from exporter.core.remotes import hide_credentials
from exporter.errors import SourceNotRecognised, SourceUnreadable
from exporter.importers.source import (
    Listed,
    SourceBilling,
    SourceInfo,
    SourceMapping,
    SourceObservation,
    SourcePrice,
    SourceReplaced,
    Whole,
    missing_column,
)

KIND: Final = "agentsview-sqlite"
#: Part of every fingerprint: a new reading of the same rows must read them all again.
READING: Final = "3"
_BUSY_SECONDS: Final = 10.0
_MAGIC: Final = b"SQLite format 3\0"
#: A configuration of more bytes, or with a longer line, is none: reading a dotted key of TOML takes
#: time with the square of its length.
_MOST_CONFIG: Final = 256_000
_MOST_LINE: Final = 4_096
#: Longest path in a message.
_MOST_SHOWN: Final = 300

_RATES: Final = ("input", "output", "cache_creation", "cache_read")
#: What stands for a column that an archive lacks, by table; None: it cannot be absent. The columns
#: of sessions are in the order of `SourceSession`.
_COLUMNS: Final[dict[str, dict[str, str | None]]] = {
    "sessions": {
        "id": None,
        "project": "''",
        "machine": "'local'",
        "agent": "'claude'",
        "cwd": "''",
        "git_branch": "''",
        "file_path": "''",
        "started_at": "NULL",
        "ended_at": "NULL",
        "created_at": "NULL",
        "deleted_at": "NULL",
        "message_count": "0",
        "user_message_count": "0",
        "parent_session_id": "NULL",
        "relationship_type": "''",
        "is_automated": "0",
        "total_output_tokens": "0",
        "peak_context_tokens": "0",
        "has_total_output_tokens": "0",
        "has_peak_context_tokens": "0",
        "outcome": "'unknown'",
        "health_grade": "NULL",
        "tool_failure_signal_count": "0",
        "secret_leak_count": "0",
        "termination_status": "NULL",
    },
    "messages": {
        **dict.fromkeys(("session_id", "ordinal", "role", "timestamp")),
        **dict.fromkeys(("id", "is_system"), "0"),
        **dict.fromkeys(("model", "token_usage"), "''"),
        **dict.fromkeys(("claude_message_id", "claude_request_id", "source_uuid"), "''"),
    },
    "usage_events": {
        **dict.fromkeys(("session_id", "id", "model")),
        **dict.fromkeys(("message_ordinal", "occurred_at"), "NULL"),
        **dict.fromkeys(("source", "dedup_key"), "''"),
        **dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens"), "0"),
        **dict.fromkeys(("cache_creation_input_tokens", "cache_read_input_tokens"), "0"),
    },
    "cursor_usage_events": {
        **dict.fromkeys(("occurred_at", "model")),
        **dict.fromkeys(("input_tokens", "output_tokens", "is_headless"), "0"),
        **dict.fromkeys(("cache_write_tokens", "cache_read_tokens"), "0"),
        "dedup_key": "''",
    },
    "model_pricing": {
        "model_pattern": None,
        **dict.fromkeys((f"{kind}_per_mtok" for kind in _RATES), "0"),
        **dict.fromkeys((f"{kind}_microdollars_per_mtok" for kind in _RATES), "0"),
        "updated_at": "''",
    },
    "project_identity_observations": {
        **dict.fromkeys(("project", "machine", "root_path")),
        **dict.fromkeys(("git_remote", "git_remote_name", "worktree_name"), "''"),
        **dict.fromkeys(("worktree_root_path", "observed_at"), "''"),
    },
    "worktree_project_mappings": {
        **dict.fromkeys(("machine", "path_prefix", "project")),
        "layout": "'explicit'",
        "enabled": "1",
    },
    "excluded_sessions": {"id": None},
    "archive_metadata": dict.fromkeys(("key", "value")),
}
#: Bookkeeping that moves whenever the owner parses a transcript again.
_MOVING_COLUMNS: Final = (
    "file_size",
    "file_mtime",
    "file_hash",
    "next_ordinal",
    "last_entry_uuid",
    "local_modified_at",
    "data_version",
    "transcript_revision",
)

# The statements name columns in braces: `_sql` puts the default where the archive lacks one.
# Values are cast in SQL: SQLite lets any column hold any type, and a cast costs nothing there.
# Ids compare as bytes, whatever the columns say, for that is how they are matched here.
_MESSAGES: Final = """
SELECT session_id, CASE typeof({ordinal}) WHEN 'integer' THEN {ordinal} END,
    ifnull(CAST({role} AS TEXT), ''), CAST({timestamp} AS TEXT), {is_system} IS TRUE,
    ifnull(CAST({model} AS TEXT), ''), ifnull(CAST({token_usage} AS TEXT), ''),
    ifnull(CAST({claude_message_id} AS TEXT), ''), ifnull(CAST({claude_request_id} AS TEXT), ''),
    ifnull(CAST({source_uuid} AS TEXT), '')
FROM messages WHERE session_id IN (SELECT value FROM json_each(?))
ORDER BY session_id COLLATE BINARY, ordinal
"""
_EVENTS: Final = """
SELECT session_id, CASE typeof({id}) WHEN 'integer' THEN {id} END, {message_ordinal},
    ifnull(CAST({source} AS TEXT), ''), ifnull(CAST({model} AS TEXT), ''), {input_tokens},
    {output_tokens}, {cache_creation_input_tokens}, {cache_read_input_tokens}, {reasoning_tokens},
    {cost}, CAST({occurred_at} AS TEXT), ifnull(CAST({dedup_key} AS TEXT), '')
FROM usage_events WHERE session_id IN (SELECT value FROM json_each(?))
ORDER BY session_id COLLATE BINARY, id
"""
_SESSIONS: Final = f"""
SELECT {", ".join(f"{{{name}}}" for name in _COLUMNS["sessions"])} FROM sessions
WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id COLLATE BINARY
"""
# What a fingerprint must see of the messages, from covering indexes alone: every time and role, and
# every usage text. `fold` is a checksum with a start value; a sum of them has no order. Roles and
# times are cut: no text of theirs that means something is as long.
#: The owner's index of usage texts. The planner would rather read every message's row.
_USAGE_INDEX: Final = "idx_messages_usage_covering"
_MESSAGE_MARKS: Final = """
SELECT session_id, count(*), sum({id} & 4294967295),
    group_concat(ifnull({ordinal}, '') || ' ' || ifnull(substr({role}, 1, 16), '') || ' '
        || ifnull(substr({timestamp}, 1, 64), ''))
FROM messages GROUP BY session_id COLLATE BINARY ORDER BY session_id COLLATE BINARY
"""
_USAGE_MARKS: Final = """
SELECT session_id, count(*),
    sum(fold(CAST({model} || ' ' || ifnull({claude_message_id}, '') || ' '
        || ifnull({claude_request_id}, '') || ' ' || {token_usage} AS BLOB),
        ifnull({ordinal}, 0) & 4294967295))
FROM messages {index} WHERE {token_usage} != '' AND {model} != '' AND {model} != '<synthetic>'
GROUP BY session_id COLLATE BINARY ORDER BY session_id COLLATE BINARY
"""
_EVENT_MARKS: Final = """
SELECT session_id, count(*), sum(fold(CAST(quote({message_ordinal}) || quote({source})
    || quote({model}) || quote({input_tokens}) || quote({output_tokens})
    || quote({cache_creation_input_tokens}) || quote({cache_read_input_tokens})
    || quote({reasoning_tokens}) || quote({cost}) || quote({occurred_at}) || quote({dedup_key})
    AS BLOB), ifnull({id}, 0) & 4294967295))
FROM usage_events GROUP BY session_id COLLATE BINARY ORDER BY session_id COLLATE BINARY
"""
_PRICES: Final = "SELECT {{model_pattern}}, {rates}, {{updated_at}} FROM model_pricing"
_OBSERVATIONS: Final = """
SELECT DISTINCT {project}, {machine}, {root_path}, {git_remote}, {git_remote_name},
    {worktree_name}, {worktree_root_path}, {observed_at} FROM project_identity_observations
"""
# Later releases name the worktree of every checkout; v1 names it only without a remote.
_LATER_OBSERVATIONS: Final = _OBSERVATIONS.replace(
    "{worktree_name}, {worktree_root_path}",
    "iif({git_remote} = '', {worktree_name}, ''), iif({git_remote} = '', {worktree_root_path}, '')",
)
_MAPPINGS: Final = """
SELECT {machine}, {path_prefix}, {layout}, {project}, {enabled} FROM worktree_project_mappings
"""
_BILLING: Final = """
SELECT {occurred_at}, {model}, {charged}, {is_headless}, {dedup_key}, {input_tokens},
    {output_tokens}, {cache_write_tokens}, {cache_read_tokens} FROM cursor_usage_events
"""


class SqliteSource:
    """An agentsview archive file or data folder. See `exporter.importers.source.Source`."""

    def __init__(self, path: Path) -> None:
        """Open and probe the archive. Raises `SourceNotRecognised` or `SourceUnreadable`."""
        self.repairs = Repairs()
        self._path = _database_path(path)
        self._is_closed = False
        _check_file(self._path)
        self._open()
        try:
            self.info = self._probe()
        except sqlite3.DatabaseError as error:
            self.close()
            raise _unreadable(self._path, error) from None
        except BaseException:
            self.close()
            raise

    # -- opening ------------------------------------------------------------------------------

    def _open(self) -> None:
        uri = f"file:{quote(os.fsencode(self._path.resolve()))}?mode=ro"
        try:
            self._db = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA query_only = ON")
            # Expressions of the schema, such as those of indexes, run nothing that could do harm.
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.create_function("fold", 2, zlib.crc32, deterministic=True)
            self._columns = self._table_columns()
        except sqlite3.DatabaseError as error:
            raise _unreadable(self._path, error) from None
        self._identity = _file_identity(self._path)

    def close(self) -> None:
        self._is_closed = True
        self._db.close()

    def reopen_if_replaced(self) -> None:
        """Raise `SourceReplaced` when a resync of the owner put another file under the name."""
        if _file_identity(self._path) == self._identity:
            return
        self._db.close()
        self.repairs.counts.clear()
        _check_file(self._path)
        self._open()
        try:
            self.info = self._probe()
        except sqlite3.DatabaseError as error:
            raise _unreadable(self._path, error) from None
        raise SourceReplaced

    def _table_columns(self) -> dict[str, set[str]]:
        """Columns of every table that is read; of others the name alone."""
        names = self._db.execute(
            "SELECT CAST(name AS BLOB) FROM sqlite_master WHERE type = 'table'"
        )
        tables = {row[0].decode("utf-8", "replace").lower(): row[0] for row in names}
        found: dict[str, set[str]] = {name: set() for name in tables}
        for table in _COLUMNS.keys() & tables.keys():
            columns = self._db.execute("SELECT lower(name) FROM pragma_table_xinfo(?)", (table,))
            found[table] = {row[0] for row in columns}
        return found

    def _probe(self) -> SourceInfo:
        self._check_layout()
        metadata = self._metadata()
        database_id = metadata.get("database_id", "")
        archive_id = metadata.get("archive_id", "") or database_id
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        place = os.fsencode(self._path.resolve())
        return SourceInfo(
            KIND,
            archive_id or f"path:{blake2b(place).hexdigest()[:32]}",
            database_id,
            hide_credentials(os.fsencode(self._path).decode("utf-8", "replace")),
            "later" if self._has("usage_events", "cost_microdollars") else "0.37.1",
            version,
        )

    def _check_layout(self) -> None:
        """Refuse what is no archive of agentsview, or lacks a column that nothing can stand for."""
        (encoding,) = self._db.execute("PRAGMA encoding").fetchone()
        if encoding != "UTF-8":
            raise _not_recognised(self._path, f"a SQLite database in {encoding}, not in UTF-8")
        missing = {"sessions", "messages", "usage_events"} - self._columns.keys()
        if missing:
            raise _not_recognised(
                self._path,
                f"a SQLite database without the table {_listed(missing)}"
                + (f" (it has {_listed(self._columns)})" if self._columns else " (it has none)"),
            )
        if not self._columns["usage_events"] & {"cost_usd", "cost_microdollars"}:
            raise _not_recognised(
                self._path,
                "a SQLite database whose usage_events has neither cost_usd nor cost_microdollars, "
                "so it is older than agentsview 0.37 or something else",
            )
        if lacking := missing_column(self._columns):
            raise _not_recognised(self._path, f"a SQLite database with the table {lacking}")

    def _has(self, table: str, column: str) -> bool:
        return column in self._columns.get(table, ())

    def _sql(self, table: str, statement: str, **more: str) -> str:
        """The statement with each ``{column}`` of the table as its name or its default."""
        have = self._columns[table]
        columns = {
            name: name if absent is None or name in have else absent
            for name, absent in _COLUMNS[table].items()
        }
        return statement.format_map({**columns, **more})

    def _metadata(self) -> dict[str, str]:
        """The ids of the archive; one that is no plain text counts as absent."""
        if "archive_metadata" not in self._columns:
            return {}
        rows = self._db.execute(
            "SELECT CAST(key AS TEXT), CAST(value AS BLOB) FROM archive_metadata"
            " WHERE key IN ('database_id', 'archive_id') ORDER BY key"
        )
        found = {}
        for key, raw in rows:
            value = _plain_id(raw)
            if value is None or not value.isprintable() or hide_credentials(value) != value:
                self.repairs.add("archive_id")
            else:
                found[key] = value.strip()
        return found

    # -- what changed -------------------------------------------------------------------------

    def watermark(self) -> str:
        parts = [READING, str(self.info.data_version)]
        for suffix in ("", "-wal"):
            stat = _stat(f"{self._path}{suffix}")
            if stat is not None and stat.st_size:
                parts.append(f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}")
        config = _stat(self._config_path())
        parts.append("-" if config is None else str(config.st_mtime_ns))
        return " ".join(parts)

    def listing(self) -> Iterator[Listed]:
        """Every session in id order. Ids that cannot be kept are refused, and counted as such."""
        with self._reading(bytes):
            marks = [_Marks(self._db.execute(query)) for query in self._mark_queries()]
            before = None
            for raw_id, text in self._db.execute(self._listing_query()):
                name = _plain_id(raw_id)
                if name is None or raw_id == before:
                    self.repairs.add("refused_id")
                    continue
                before = raw_id
                seen = [mark.of(raw_id) for mark in marks]
                weight = seen[0][0] if seen[0] else 0
                fingerprint = blake2b(text, digest_size=16)
                fingerprint.update(repr(seen).encode())
                yield Listed(name, fingerprint.hexdigest(), weight)

    def _listing_query(self) -> str:
        """Each session as one text of all its columns, which SQLite makes faster than we could."""
        have = self._columns["sessions"]
        columns = [name for name in (*_COLUMNS["sessions"], *_MOVING_COLUMNS) if name in have]
        text = " || ',' || ".join([f"'{READING}'", *(f"quote({name})" for name in columns)])
        return (
            f"SELECT CASE typeof(id) WHEN 'text' THEN CAST(id AS BLOB) END, CAST({text} AS BLOB)"
            " FROM sessions ORDER BY id COLLATE BINARY"
        )

    def _mark_queries(self) -> tuple[str, str, str]:
        usage = self._sql("messages", _USAGE_MARKS, index=f"INDEXED BY {_USAGE_INDEX}")
        try:
            self._db.execute(f"EXPLAIN {usage}").close()
        except sqlite3.OperationalError:
            # There is no such index, or it is another than the owner's.
            usage = self._sql("messages", _USAGE_MARKS, index="")
        return (
            self._sql("messages", _MESSAGE_MARKS),
            usage,
            self._sql("usage_events", _EVENT_MARKS, cost=self._cost_column()),
        )

    def excluded(self) -> list[str]:
        if "excluded_sessions" not in self._columns:
            return []
        with self._reading(bytes):
            rows = self._db.execute("SELECT CAST(id AS BLOB) FROM excluded_sessions").fetchall()
        return [name for row in rows if (name := _plain_id(row[0])) is not None]

    # -- sessions -----------------------------------------------------------------------------

    def sessions(self, ids: Sequence[str]) -> Iterator[Whole]:
        wanted = json.dumps(list(ids))
        try:
            with self._reading():
                found = self._read_sessions(wanted)
        except SourceUnreadable:
            # SQLite reports text that is not UTF-8 as a failed read; reading it with replacement
            # takes a Python call per value, so only the batch that needs it pays for it.
            with self._reading(self._lenient_text):
                found = self._read_sessions(wanted)
        yield from found

    def _read_sessions(self, wanted: str) -> list[Whole]:
        query = self._sql("messages", _MESSAGES)
        rows = map(SourceMessage._make, self._db.execute(query, (wanted,)))
        messages = {key: list(group) for key, group in groupby(rows, itemgetter(0))}
        events: dict[str, list[SourceEvent]] = {}
        query = self._sql("usage_events", _EVENTS, cost=self._cost_column())
        for row in self._db.execute(query, (wanted,)):
            events.setdefault(row[0], []).append(self._event(row))
        query = self._sql("sessions", _SESSIONS)
        sessions = {row[0]: self._session(row) for row in self._db.execute(query, (wanted,))}
        return [
            Whole(session, messages.get(key, []), events.get(key, []))
            for key, session in sessions.items()
        ]

    def _lenient_text(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.repairs.add("text")
            return value.decode("utf-8", "replace")

    def _session(self, row: tuple[Any, ...]) -> SourceSession:
        text, optional, whole = self.repairs.text, self.repairs.optional_text, self.repairs.whole
        readers = (
            (text,) * 7
            + (optional,) * 4
            + (whole,) * 2
            + (optional, text)
            + (whole,) * 5
            + (text, optional)
            + (whole,) * 2
            + (optional,)
        )
        values = [read(value) for read, value in zip(readers, row, strict=True)]
        for flag in (15, 18, 19):
            values[flag] = values[flag] != 0
        return SourceSession._make(values)

    def _cost_column(self) -> str:
        return "cost_usd" if self._has("usage_events", "cost_usd") else "cost_microdollars"

    def _event(self, row: tuple[Any, ...]) -> SourceEvent:
        whole = self.repairs.whole
        return SourceEvent(
            row[0],
            row[1],
            None if row[2] is None else whole(row[2]),
            self.repairs.text(row[3]),
            row[4],
            whole(row[5]),
            whole(row[6]),
            whole(row[7]),
            whole(row[8]),
            whole(row[9]),
            self._cost(row[10]),
            row[11],
            row[12],
        )

    def _cost(self, value: object) -> Decimal | None:
        """A stored cost as exact dollars; what is no amount of money is no cost, and is counted."""
        if value is None:
            return None
        if isinstance(value, (int, float)):
            amount = Decimal(repr(value))
            if is_money(float(value)):
                return amount if self._cost_column() == "cost_usd" else amount / 1_000_000
        self.repairs.add("cost")
        return None

    def _amount(self, value: object) -> Decimal:
        """A charged amount in its stored unit; what is no usable number is 0, and is counted."""
        if isinstance(value, (int, float)) and is_money(float(value)):
            return Decimal(repr(value))
        if value is not None:
            self.repairs.add("cost")
        return Decimal(0)

    # -- the rest -----------------------------------------------------------------------------

    def prices(self) -> Iterator[SourcePrice]:
        yield from self._custom_prices()
        if "model_pricing" not in self._columns:
            return
        micro = self._has("model_pricing", "input_microdollars_per_mtok")
        form = "{{{}_microdollars_per_mtok}}" if micro else "{{{}_per_mtok}}"
        query = _PRICES.format(rates=", ".join(map(form.format, _RATES)))
        with self._reading(self._lenient_text):
            for row in self._db.execute(self._sql("model_pricing", query)):
                pattern = self.repairs.text(row[0])
                if not pattern.startswith("_"):
                    scale = 1e6 if micro else 1.0
                    yield from self._price(pattern, row[1:5], scale, self.repairs.text(row[5]))

    def _price(
        self,
        pattern: str,
        rates: Iterable[object],
        scale: float,
        updated_at: str,
        is_custom: bool = False,
    ) -> Iterator[SourcePrice]:
        """The row, or nothing where a rate is no amount of money; that is counted.

        Negative rates are amounts: they come over as they are.
        """
        values = [_as_double(rate) / scale for rate in rates]
        if all(map(is_money, values)):
            a, b, c, d = values
            yield SourcePrice(pattern, a, b, c, d, updated_at, is_custom)
        else:
            self.repairs.add("rate")

    def _config_path(self) -> Path:
        return self._path.parent / "config.toml"

    def _custom_prices(self) -> Iterator[SourcePrice]:
        """The owner's custom rates. Nothing else of that file, which holds secrets, is read."""
        path = self._config_path()
        stat = _stat(path)
        if stat is None:
            return
        try:
            if not S_ISREG(stat.st_mode) or stat.st_size > _MOST_CONFIG:
                raise OSError
            text = path.read_text("utf-8", "replace")
            if max(map(len, text.splitlines()), default=0) > _MOST_LINE:
                raise ValueError
            document = tomllib.loads(text)
        except (OSError, ValueError, RecursionError):
            self.repairs.add("config")
            return
        table = document.get("custom_model_pricing")
        for pattern, rates in table.items() if isinstance(table, dict) else ():
            fields = rates if isinstance(rates, dict) else {}
            values = [fields.get(name, 0) for name in _RATES]
            yield from self._price(self.repairs.text(pattern), values, 1.0, "", is_custom=True)

    def observations(self) -> Iterator[SourceObservation]:
        table = "project_identity_observations"
        if table not in self._columns:
            return
        later = self._has(table, "worktree_relationship")
        query = self._sql(table, _LATER_OBSERVATIONS if later else _OBSERVATIONS)
        with self._reading(self._lenient_text):
            for row in self._db.execute(query):
                yield SourceObservation._make(self.repairs.text(value) for value in row)

    def mappings(self) -> Iterator[SourceMapping]:
        if "worktree_project_mappings" not in self._columns:
            return
        with self._reading(self._lenient_text):
            for row in self._db.execute(self._sql("worktree_project_mappings", _MAPPINGS)):
                machine, prefix, layout, project = map(self.repairs.text, row[:4])
                enabled = self.repairs.whole(row[4]) != 0
                yield SourceMapping(machine, prefix, layout, project, enabled)

    def billing(self) -> Iterator[SourceBilling]:
        have = self._columns.get("cursor_usage_events", set())
        charged = next((c for c in ("charged_cents", "charged_microdollars") if c in have), None)
        if charged is None:
            return
        scale = Decimal(100 if charged == "charged_cents" else 1_000_000)
        whole = self.repairs.whole
        with self._reading(self._lenient_text):
            for row in self._db.execute(
                self._sql("cursor_usage_events", _BILLING, charged=charged)
            ):
                amount = self._amount(row[2])
                yield SourceBilling(
                    self.repairs.text(row[0]),
                    self.repairs.text(row[1]),
                    whole(row[5]),
                    whole(row[6]),
                    whole(row[7]),
                    whole(row[8]),
                    amount / scale,
                    whole(row[3]) != 0,
                    self.repairs.text(row[4]),
                )

    # -- one short transaction ----------------------------------------------------------------

    @contextmanager
    def _reading(self, text: Callable[[bytes], object] = str) -> Iterator[None]:
        """One consistent, short read; ``text`` makes values of SQLite's text."""
        self._db.text_factory = text
        try:
            self._db.execute("BEGIN")
            yield
        except sqlite3.DatabaseError as error:
            raise _unreadable(self._path, error) from None
        finally:
            # A generator that a signal left half way ends only after the database was closed.
            if not self._is_closed:
                self._db.text_factory = str
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


def _as_double(value: object) -> float:
    """A stored rate; NaN for what is no number, such as text and NULL."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _in_range(value) if is_number else nan  # type: ignore[arg-type]


def _in_range(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf


def _plain_id(raw: bytes | None) -> str | None:
    """An id as the archive can keep it; None for one that is no text, or too long for an index."""
    if raw is None or b"\0" in raw or len(raw) > MAX_ID_BYTES:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


class _Marks:
    """A stream of (session id, …) in id order, asked for rising ids only."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)
        self._next = next(self._rows, None)

    def of(self, session_id: bytes) -> tuple[Any, ...] | None:
        # Ids that are no text come before all others, or after them.
        while self._next is not None and (
            not isinstance(self._next[0], bytes) or self._next[0] < session_id
        ):
            self._next = next(self._rows, None)
        if self._next is not None and self._next[0] == session_id:
            return self._next[1:]
        return None


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")


def _database_path(path: Path) -> Path:
    found = _stat_or_refuse(path)
    if found is None:
        raise SourceUnreadable(_shown(path), "it does not exist", hint="check the path")
    if not S_ISDIR(found.st_mode):
        return path
    inside = path / "sessions.db"
    if _stat_or_refuse(inside) is None:
        raise _not_recognised(path, "a folder without a sessions.db")
    return inside


def _stat(path: str | Path) -> os.stat_result | None:
    """What the system knows of a file, None where it is not there or may not be looked at."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _stat_or_refuse(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise SourceUnreadable(_shown(path), error.strerror or "no access") from None


def _shown(path: Path) -> str:
    """A path for a message: as text, and not for pages."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}\u2026"


def _check_file(path: Path) -> None:
    """Refuse by name what is no complete SQLite file, before SQLite says something vaguer."""
    # Opening anything else than a file may wait for ever, also where SQLite looks for its own.
    for suffix in ("", "-wal", "-shm", "-journal"):
        found = _stat(f"{path}{suffix}")
        if found is not None and not S_ISREG(found.st_mode):
            beside = f"a database beside a {suffix} that is " if suffix else ""
            raise _not_recognised(path, beside + _kind_of_entry(found.st_mode))
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise SourceUnreadable(_shown(path), error.strerror or "no access") from None
    if size == 0:
        raise _not_recognised(path, "an empty file")
    if not header.startswith(_MAGIC):
        raise _not_recognised(path, _kind_of(header))
    page = int.from_bytes(header[16:18], "big")
    page = 65_536 if page == 1 else page
    pages = int.from_bytes(header[28:32], "big")
    # The page count holds only if the last writer kept it, which it shows by two equal counters.
    if len(header) < 100 or (header[24:28] == header[92:96] and size < page * pages):
        raise SourceUnreadable(
            _shown(path),
            f"it is truncated: {size} bytes of {page * pages}",
            hint="copy it again together with its -wal file",
        )


def _kind_of_entry(mode: int) -> str:
    for is_kind, name in ((S_ISDIR, "a folder"), (S_ISFIFO, "a pipe"), (S_ISSOCK, "a socket")):
        if is_kind(mode):
            return name
    return "a device"


def _kind_of(header: bytes) -> str:
    for magic, name in (
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip file"),
        (b"PGDMP", "a pg_dump archive"),
        (b"{", "JSON text"),
    ):
        if header.startswith(magic):
            return name
    return "a text file" if header.isascii() else "no SQLite database, or an encrypted one"


def _file_identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise SourceUnreadable(_shown(path), error.strerror or "no access") from None
    return stat.st_dev, stat.st_ino


def _not_recognised(path: Path, found: str) -> SourceNotRecognised:
    return SourceNotRecognised(
        _shown(path), found, wanted="agentsview archives: a data folder or its sessions.db"
    )


def _unreadable(path: Path, error: sqlite3.Error) -> SourceUnreadable:
    """SQLite's complaint as one sentence. Its own text may quote stored values: only its code."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    known = {
        "SQLITE_NOTADB": ("it is encrypted or no SQLite database", "name a plain sessions.db"),
        "SQLITE_CORRUPT": ("it is damaged", "copy it again together with its -wal file"),
        "SQLITE_CANTOPEN": ("SQLite cannot open it", "its folder must allow a -shm file"),
        "SQLITE_BUSY": ("another program holds it locked", "try again"),
    }
    for code, (problem, hint) in known.items():
        if name.startswith(code):
            return SourceUnreadable(_shown(path), f"{problem}, {name}", hint=hint)
    return SourceUnreadable(_shown(path), name)
