"""Read an agentsview SQLite archive, beside its live owner and without disturbing it.

The file is opened read-only by URI, every read is one short transaction, and the owner's write
lock is never touched. Columns are probed, not versions: a column that an older or later layout
lacks is read as its default. Message text, titles, prompts and tool data are never selected.
"""

from __future__ import annotations

import json
import sqlite3
import tomllib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from hashlib import blake2b
from itertools import groupby
from math import nan
from operator import itemgetter
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from exporter.core.intake import (
    MAX_ID_BYTES,
    Repairs,
    SourceEvent,
    SourceMessage,
    SourceSession,
    is_money,
)
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
)

KIND: Final = "agentsview-sqlite"
#: Part of every fingerprint: a new reading of the same rows must read them all again.
READING: Final = "1"
_BUSY_SECONDS: Final = 10.0
_MAGIC: Final = b"SQLite format 3\0"

#: (column, SQL where the column is absent), in the order of `SourceSession`.
_SESSION_COLUMNS: Final = (
    ("id", "''"),
    ("project", "''"),
    ("machine", "'local'"),
    ("agent", "'claude'"),
    ("cwd", "''"),
    ("git_branch", "''"),
    ("file_path", "''"),
    ("started_at", "NULL"),
    ("ended_at", "NULL"),
    ("created_at", "NULL"),
    ("deleted_at", "NULL"),
    ("message_count", "0"),
    ("user_message_count", "0"),
    ("parent_session_id", "NULL"),
    ("relationship_type", "''"),
    ("is_automated", "0"),
    ("total_output_tokens", "0"),
    ("peak_context_tokens", "0"),
    ("has_total_output_tokens", "0"),
    ("has_peak_context_tokens", "0"),
    ("outcome", "'unknown'"),
    ("health_grade", "NULL"),
    ("tool_failure_signal_count", "0"),
    ("secret_leak_count", "0"),
    ("termination_status", "NULL"),
)
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
_OBSERVATION_COLUMNS: Final = (
    "project",
    "machine",
    "root_path",
    "git_remote",
    "git_remote_name",
    "worktree_name",
    "worktree_root_path",
    "observed_at",
)

# Values are cast in SQL: SQLite lets any column hold any type, and a cast costs nothing there.
_MESSAGES: Final = """
SELECT session_id, CAST(ordinal AS INTEGER), CAST(role AS TEXT), CAST(timestamp AS TEXT),
    is_system IS TRUE, ifnull(CAST(model AS TEXT), ''), ifnull(CAST(token_usage AS TEXT), ''),
    ifnull(CAST(claude_message_id AS TEXT), ''), ifnull(CAST(claude_request_id AS TEXT), ''),
    ifnull(CAST(source_uuid AS TEXT), '')
FROM messages WHERE session_id IN (SELECT value FROM json_each(?))
ORDER BY session_id, ordinal
"""
_EVENTS: Final = """
SELECT session_id, id, message_ordinal, ifnull(CAST(source AS TEXT), ''),
    ifnull(CAST(model AS TEXT), ''), input_tokens, output_tokens, cache_creation_input_tokens,
    cache_read_input_tokens, reasoning_tokens, {cost}, CAST(occurred_at AS TEXT),
    ifnull(CAST(dedup_key AS TEXT), '')
FROM usage_events WHERE session_id IN (SELECT value FROM json_each(?))
ORDER BY session_id, id
"""
# What a fingerprint must see of the messages, from covering indexes alone: every time and role, and
# every usage text. `fold` is a checksum with a start value; a sum of them has no order.
#: The owner's index of usage texts. The planner would rather read every message's row.
_USAGE_INDEX: Final = "idx_messages_usage_covering"
_MESSAGE_MARKS: Final = """
SELECT session_id, count(*), sum(id & 4294967295),
    group_concat(ordinal || ' ' || role || ' ' || ifnull(timestamp, ''))
FROM messages GROUP BY session_id ORDER BY session_id
"""
_USAGE_MARKS: Final = """
SELECT session_id, count(*),
    sum(fold(CAST(model || ' ' || ifnull(claude_message_id, '') || ' '
        || ifnull(claude_request_id, '') || ' ' || token_usage AS BLOB),
        ifnull(ordinal, 0) & 4294967295))
FROM messages {index} WHERE token_usage != '' AND model != '' AND model != '<synthetic>'
GROUP BY session_id ORDER BY session_id
"""
_EVENT_MARKS: Final = """
SELECT session_id, count(*), sum(fold(CAST(quote(message_ordinal) || quote(source)
    || quote(model) || quote(input_tokens) || quote(output_tokens)
    || quote(cache_creation_input_tokens) || quote(cache_read_input_tokens)
    || quote(reasoning_tokens) || quote({cost}) || quote(occurred_at) || quote(dedup_key)
    AS BLOB), id & 4294967295))
FROM usage_events GROUP BY session_id ORDER BY session_id
"""


class SqliteSource:
    """An agentsview archive file or data folder. See `exporter.importers.source.Source`."""

    def __init__(self, path: Path) -> None:
        """Open and probe the archive. Raises `SourceNotRecognised` or `SourceUnreadable`."""
        self.repairs = Repairs()
        self._path = _database_path(path)
        _check_file(self._path)
        self._open()
        try:
            self.info = self._probe()
        except BaseException:
            self._db.close()
            raise

    # -- opening ------------------------------------------------------------------------------

    def _open(self) -> None:
        uri = f"file:{quote(str(self._path.resolve()))}?mode=ro"
        try:
            self._db = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA query_only = ON")
            self._db.create_function("fold", 2, zlib.crc32, deterministic=True)
            self._columns = self._table_columns()
        except sqlite3.DatabaseError as error:
            raise _unreadable(self._path, error) from None
        self._identity = _file_identity(self._path)

    def close(self) -> None:
        self._db.close()

    def reopen_if_replaced(self) -> None:
        """Raise `SourceReplaced` when a resync of the owner put another file under the name."""
        if _file_identity(self._path) == self._identity:
            return
        self._db.close()
        _check_file(self._path)
        self._open()
        self.info = self._probe()
        raise SourceReplaced

    def _table_columns(self) -> dict[str, set[str]]:
        names = self._db.execute(
            "SELECT m.name, p.name FROM sqlite_master AS m, pragma_table_info(m.name) AS p"
            " WHERE m.type = 'table'"
        )
        columns: dict[str, set[str]] = {}
        for table, column in names:
            columns.setdefault(table, set()).add(column)
        return columns

    def _probe(self) -> SourceInfo:
        missing = {"sessions", "messages", "usage_events"} - self._columns.keys()
        if missing:
            raise _not_recognised(
                self._path,
                f"a SQLite database without the table {_listed(missing)}"
                + (f" (it has {_listed(self._columns)})" if self._columns else " (it has none)"),
            )
        events = self._columns["usage_events"]
        if not events & {"cost_usd", "cost_microdollars"}:
            raise _not_recognised(
                self._path,
                "a SQLite database whose usage_events has neither cost_usd nor cost_microdollars, "
                "so it is older than agentsview 0.37 or something else",
            )
        metadata = self._metadata()
        database_id = metadata.get("database_id", "").strip()
        archive_id = metadata.get("archive_id", "").strip() or database_id
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return SourceInfo(
            KIND,
            archive_id or f"path:{blake2b(str(self._path.resolve()).encode()).hexdigest()[:32]}",
            database_id,
            str(self._path),
            "later" if "cost_microdollars" in events else "0.37.1",
            version,
        )

    def _metadata(self) -> dict[str, str]:
        if "archive_metadata" not in self._columns:
            return {}
        rows = self._db.execute(
            "SELECT key, value FROM archive_metadata WHERE key IN ('database_id', 'archive_id')"
        )
        return {str(key): str(value) for key, value in rows}

    # -- what changed -------------------------------------------------------------------------

    def watermark(self) -> str:
        parts = [READING, str(self.info.data_version)]
        for suffix in ("", "-wal"):
            try:
                stat = Path(f"{self._path}{suffix}").stat()
            except FileNotFoundError:
                continue
            if stat.st_size:
                parts.append(f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}")
        config = self._config_path()
        parts.append(str(config.stat().st_mtime_ns) if config.exists() else "-")
        return " ".join(parts)

    def listing(self) -> Iterator[Listed]:
        """Every session in id order. Ids that are no text are refused, and counted as such."""
        with self._reading(bytes):
            marks = [_Marks(self._db.execute(query)) for query in self._mark_queries()]
            for raw_id, text in self._db.execute(self._listing_query()):
                name = _plain_id(raw_id)
                if name is None:
                    self.repairs.add("refused_id")
                    continue
                seen = [mark.of(raw_id) for mark in marks]
                weight = seen[0][0] if seen[0] else 0
                fingerprint = blake2b(text, digest_size=16)
                fingerprint.update(repr(seen).encode())
                yield Listed(name, fingerprint.hexdigest(), weight)

    def _listing_query(self) -> str:
        """Each session as one text of all its columns, which SQLite makes faster than we could."""
        have = self._columns["sessions"]
        columns = [name for name, _ in _SESSION_COLUMNS if name in have]
        columns += [name for name in _MOVING_COLUMNS if name in have]
        text = " || ',' || ".join([f"'{READING}'", *(f"quote({name})" for name in columns)])
        return (
            f"SELECT CAST(id AS BLOB), CAST({text} AS BLOB) FROM sessions"
            " WHERE typeof(id) = 'text' ORDER BY id"
        )

    def _mark_queries(self) -> tuple[str, str, str]:
        index = f"INDEXED BY {_USAGE_INDEX}" if _USAGE_INDEX in self._indexes() else ""
        return (
            _MESSAGE_MARKS,
            _USAGE_MARKS.format(index=index),
            _EVENT_MARKS.format(cost=self._cost_column()),
        )

    def _indexes(self) -> set[str]:
        rows = self._db.execute("SELECT CAST(name AS BLOB) FROM sqlite_master WHERE type = 'index'")
        return {row[0].decode() for row in rows}

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
        rows = map(SourceMessage._make, self._db.execute(_MESSAGES, (wanted,)))
        messages = {key: list(group) for key, group in groupby(rows, itemgetter(0))}
        events: dict[str, list[SourceEvent]] = {}
        for row in self._db.execute(_EVENTS.format(cost=self._cost_column()), (wanted,)):
            events.setdefault(row[0], []).append(self._event(row))
        sessions = map(self._session, self._db.execute(self._session_query(), (wanted,)))
        return [Whole(s, messages.get(s.id, []), events.get(s.id, [])) for s in sessions]

    def _lenient_text(self, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.repairs.add("text")
            return value.decode("utf-8", "replace")

    def _session_query(self) -> str:
        have = self._columns["sessions"]
        columns = ", ".join(name if name in have else absent for name, absent in _SESSION_COLUMNS)
        return (
            f"SELECT {columns} FROM sessions"
            " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        )

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
        return "cost_usd" if "cost_usd" in self._columns["usage_events"] else "cost_microdollars"

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
        micro = "input_microdollars_per_mtok" in self._columns["model_pricing"]
        rates = ", ".join(
            f"{kind}_microdollars_per_mtok / 1e6" if micro else f"{kind}_per_mtok"
            for kind in ("input", "output", "cache_creation", "cache_read")
        )
        with self._reading(self._lenient_text):
            for row in self._db.execute(
                f"SELECT model_pattern, {rates}, updated_at FROM model_pricing"
            ):
                pattern = self.repairs.text(row[0])
                if not pattern.startswith("_"):
                    yield from self._price(pattern, row[1:5], self.repairs.text(row[5]))

    def _price(
        self, pattern: str, rates: Iterable[object], updated_at: str, is_custom: bool = False
    ) -> Iterator[SourcePrice]:
        """The row, or nothing where a rate is no amount of money; that is counted."""
        try:
            values = [float(rate) for rate in rates]  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            values = [nan]
        if all(map(is_money, values)):
            a, b, c, d = values
            yield SourcePrice(pattern, a, b, c, d, updated_at, is_custom)
        else:
            self.repairs.add("rate")

    def _config_path(self) -> Path:
        return self._path.parent / "config.toml"

    def _custom_prices(self) -> Iterator[SourcePrice]:
        """The owner's custom rates. Nothing else of that file, which holds secrets, is read."""
        try:
            document = tomllib.loads(self._config_path().read_text("utf-8", "replace"))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError):
            self.repairs.add("config")
            return
        table = document.get("custom_model_pricing")
        for pattern, rates in table.items() if isinstance(table, dict) else ():
            fields = rates if isinstance(rates, dict) else {}
            names = ("input", "output", "cache_creation", "cache_read")
            values = [fields.get(name, 0) for name in names]
            yield from self._price(self.repairs.text(pattern), values, "", is_custom=True)

    def observations(self) -> Iterator[SourceObservation]:
        if "project_identity_observations" not in self._columns:
            return
        # Later releases name the worktree of every checkout; v1 names it only without a remote.
        later = "worktree_relationship" in self._columns["project_identity_observations"]
        names = ", ".join(
            f"iif(git_remote = '', {name}, '')" if later and "worktree" in name else name
            for name in _OBSERVATION_COLUMNS
        )
        with self._reading(self._lenient_text):
            for row in self._db.execute(
                f"SELECT DISTINCT {names} FROM project_identity_observations"
            ):
                yield SourceObservation._make(self.repairs.text(value) for value in row)

    def mappings(self) -> Iterator[SourceMapping]:
        have = self._columns.get("worktree_project_mappings", set())
        if not have:
            return
        layout_column = "layout" if "layout" in have else "'explicit'"
        with self._reading(self._lenient_text):
            for row in self._db.execute(
                f"SELECT machine, path_prefix, {layout_column}, project, enabled"
                " FROM worktree_project_mappings"
            ):
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
                f"SELECT occurred_at, model, {charged}, is_headless, dedup_key, input_tokens,"
                " output_tokens, cache_write_tokens, cache_read_tokens FROM cursor_usage_events"
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
            self._db.text_factory = str
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


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
        while self._next is not None and self._next[0] < session_id:
            self._next = next(self._rows, None)
        if self._next is not None and self._next[0] == session_id:
            return self._next[1:]
        return None


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")


def _database_path(path: Path) -> Path:
    if not path.exists():
        raise SourceUnreadable(str(path), "it does not exist", hint="check the path")
    if path.is_dir():
        inside = path / "sessions.db"
        if not inside.exists():
            raise _not_recognised(path, "a folder without a sessions.db")
        return inside
    return path


def _check_file(path: Path) -> None:
    """Refuse by name what is no complete SQLite file, before SQLite says something vaguer."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise SourceUnreadable(str(path), error.strerror or "no access") from None
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
            str(path),
            f"it is truncated: {size} bytes of {page * pages}",
            hint="copy it again together with its -wal file",
        )


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
        raise SourceUnreadable(str(path), error.strerror or "no access") from None
    return stat.st_dev, stat.st_ino


def _not_recognised(path: Path, found: str) -> SourceNotRecognised:
    return SourceNotRecognised(
        str(path), found, wanted="agentsview archives: a data folder or its sessions.db"
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
            return SourceUnreadable(str(path), f"{problem}, {name}", hint=hint)
    return SourceUnreadable(str(path), name)
