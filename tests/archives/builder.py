"""Small agentsview archives, made without the program: an SQLite file or a PostgreSQL schema.

``SqliteArchive`` and ``PgArchive`` share one set of factories. Every factory makes one row, has
a default for every column, and takes any column of the table by name; names and values are
those of release 0.37.1 (``cost_usd`` in dollars, ``charged_cents`` in cents) in every era, and
are turned into the later era's columns and units on the way in.

    with SqliteArchive(tmp_path / "sessions.db") as archive:
        session = archive.add_session(project="tern")
        archive.add_message(session, model="orca-large-2", token_usage={"input_tokens": 5})

What must never leave an archive (prompts, titles, tool data) is filled with ``CONTENT``, so a
test can look for it where it should not be.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, LiteralString, Self

if TYPE_CHECKING:
    import psycopg

Era = Literal["0.37.1", "later"]
Row = dict[str, Any]

#: Stands where a real archive holds words of a person or a model.
CONTENT = "content that stays behind"

DATABASE_ID = "7c1e4a52-9b0d-4f6e-8a35-d2c9b1f07e64"
ARCHIVE_ID = "1f0b7d6e-52c4-4a9d-b7a1-0c6f3e8d9a25"
OWNER_MARKER = "5d1c0c1f0f6b4a6d9b0e2d7a84c3f911"
STAMP = "2026-03-04T10:30:01.000Z"

LAYOUTS = Path(__file__).parent
_SQLITE_LAYOUT = {"0.37.1": "agentsview_0_37_1.sql", "later": "agentsview_later.sql"}
_PG_LAYOUT = {"0.37.1": "agentsview_pg_0_37_1.sql", "later": "agentsview_pg_later.sql"}

#: Money columns of the later era: new name, and how many of its units make one of the old.
LATER_MONEY: dict[str, dict[str, tuple[str, int]]] = {
    "usage_events": {"cost_usd": ("cost_microdollars", 1_000_000)},
    "cursor_usage_events": {
        "charged_cents": ("charged_microdollars", 10_000),
        "cursor_token_fee": ("cursor_token_fee_microdollars", 10_000),
    },
    "model_pricing": {
        f"{rate}_per_mtok": (f"{rate}_microdollars_per_mtok", 1_000_000)
        for rate in ("input", "output", "cache_creation", "cache_read")
    },
}


def layout(era: Era, store: Literal["sqlite", "postgresql"] = "sqlite") -> str:
    """The statements that make an empty archive of this era."""
    names = _SQLITE_LAYOUT if store == "sqlite" else _PG_LAYOUT
    return (LAYOUTS / names[era]).read_text(encoding="utf-8")


def later_money(table: str, row: Mapping[str, Any]) -> Row:
    """The row with its money moved to whole microdollars, where the later era holds it."""
    renamed = dict(row)
    for old, (new, scale) in LATER_MONEY.get(table, {}).items():
        if old in renamed:
            value = renamed.pop(old)
            renamed.setdefault(new, None if value is None else round(value * scale))
    return renamed


class _Archive:
    """The factories. A store supplies how to look up columns, insert a row and count."""

    era: Era
    _made = 0
    _observations = "project_identity_observations"
    _mappings = "worktree_project_mappings"
    _snapshots = "session_project_identity_snapshots"

    def _columns(self, table: str) -> set[str]:
        raise NotImplementedError

    def _insert(self, table: str, row: Row) -> None:
        raise NotImplementedError

    def _next_ordinal(self, session_id: str) -> int:
        raise NotImplementedError

    def _add(self, table: str, defaults: Row, over: Row) -> None:
        row = self._translated(table, {**defaults, **over})
        known = self._columns(table)
        if not known:
            raise LookupError(f"an archive of era {self.era} holds no {table}")
        if unknown := sorted(set(row) & set(over) - known):
            raise TypeError(f"{table} has no column {', '.join(unknown)}")
        self._insert(table, {name: value for name, value in row.items() if name in known})

    def _translated(self, table: str, row: Row) -> Row:
        return later_money(table, row) if self.era == "later" else row

    def _number(self) -> int:
        self._made += 1
        return self._made

    def add_session(self, id: str | None = None, **over: Any) -> str:
        """An interactive, ended, visible session that a default export shows; gives its id."""
        session_id = id if id is not None else f"session-{self._number():04d}"
        defaults: Row = {
            "id": session_id,
            "project": "tern",
            "machine": "oak",
            "agent": "claude",
            "first_message": CONTENT,
            "display_name": CONTENT,
            "started_at": "2026-03-04T10:00:00Z",
            "ended_at": "2026-03-04T10:30:00Z",
            "created_at": STAMP,
            "message_count": 3,
            "user_message_count": 2,
            "relationship_type": "",
            "outcome": "completed",
            "health_grade": "A",
            "data_version": 59 if self.era == "0.37.1" else 143,
            **self._session_owner(),
        }
        self._add("sessions", defaults, over)
        return session_id

    def _session_owner(self) -> Row:
        return {}

    def add_message(self, session_id: str, **over: Any) -> int:
        """A message of the session without usage; gives its ordinal.

        ``token_usage`` may be a mapping, which is written as the JSON text a provider sends.
        """
        ordinal = int(over.pop("ordinal", self._next_ordinal(session_id)))
        usage = over.pop("token_usage", "")
        defaults: Row = {
            "session_id": session_id,
            "ordinal": ordinal,
            "role": "user" if ordinal % 2 == 0 else "assistant",
            "content": CONTENT,
            "content_length": len(CONTENT),
            "timestamp": f"2026-03-04T10:{ordinal % 30:02d}:00Z",
            "model": "",
            "token_usage": usage if isinstance(usage, str | bytes) else json.dumps(usage),
        }
        self._add("messages", defaults, over)
        return ordinal

    def add_event(self, session_id: str, **over: Any) -> None:
        """A usage event of the session that carries no cost of its own."""
        defaults: Row = {
            "session_id": session_id,
            "message_ordinal": None,
            "source": "generation",
            "model": "orca-large-2",
            "cost_usd": None,
            "occurred_at": "2026-03-04T10:15:00Z",
            "dedup_key": "",
        }
        self._add("usage_events", defaults, over)

    def add_observation(self, project: str = "tern", **over: Any) -> None:
        """A sighting of the project's root on machine oak, without a remote."""
        defaults: Row = {
            "project": project,
            "machine": "oak",
            "root_path": f"/srv/{project}",
            "git_remote": "",
            "git_remote_name": "origin" if over.get("git_remote") else "",
            "worktree_name": "",
            "worktree_root_path": "",
            "observed_at": "2026-03-04T10:00:00Z",
        }
        self._add(self._observations, defaults, over)

    def add_mapping(self, path_prefix: str, project: str = "tern", **over: Any) -> None:
        """An enabled rule of machine oak that says which project a path belongs to."""
        defaults: Row = {
            "machine": "oak",
            "path_prefix": path_prefix,
            "layout": "explicit",
            "project": project,
            "enabled": True,
            "created_at": STAMP,
            "updated_at": STAMP,
        }
        self._add(self._mappings, defaults, over)

    def add_price(
        self,
        model_pattern: str,
        input: float = 3.0,
        output: float = 15.0,
        cache_creation: float = 3.75,
        cache_read: float = 0.3,
        **over: Any,
    ) -> None:
        """A price row: four rates in dollars for a million tokens."""
        defaults: Row = {
            "model_pattern": model_pattern,
            "input_per_mtok": input,
            "output_per_mtok": output,
            "cache_creation_per_mtok": cache_creation,
            "cache_read_per_mtok": cache_read,
            "updated_at": "2026-02-10T06:30:00.250Z",
        }
        self._add("model_pricing", defaults, over)

    def add_cursor_usage(self, **over: Any) -> None:
        """A billing line of the Cursor product, which belongs to no session."""
        defaults: Row = {
            "occurred_at": "2026-03-04T10:20:00Z",
            "model": "orca-large-2",
            "kind": "usage-based",
            "input_tokens": 1200,
            "output_tokens": 300,
            "cache_write_tokens": 0,
            "cache_read_tokens": 4000,
            "charged_cents": 1.5,
            "cursor_token_fee": 0.25,
            "user_id": "user-1",
            "user_email": "ana@example.net",
            "is_headless": False,
            "dedup_key": hashlib.sha256(f"billing {self._number()}".encode()).hexdigest(),
        }
        self._add("cursor_usage_events", defaults, over)

    def add_snapshot(self, session_id: str, project: str = "tern", **over: Any) -> None:
        """The later era's identity of one session, which its program writes for every session."""
        defaults: Row = {
            "session_id": session_id,
            "source_session_id": session_id,
            "project": project,
            "machine": "oak",
            "root_path": f"/srv/{project}",
            "worktree_relationship": "unknown",
            "checkout_state": "branch",
            "git_branch": "main",
            "remote_resolution": "unknown",
            "observed_at": "2026-03-04T10:00:00Z",
        }
        self._add(self._snapshots, defaults, over)

    def exclude(self, session_id: str) -> None:
        """A tombstone: the session is gone for good and must not come back."""
        self._add("excluded_sessions", {"id": session_id, "created_at": STAMP}, {})

    def star(self, session_id: str) -> None:
        """A person's mark on a session."""
        self._add("starred_sessions", {"session_id": session_id, "created_at": STAMP}, {})


class SqliteArchive(_Archive):
    """An archive file, made on first use and opened again afterwards.

    A new file gets the layout of ``era`` and a database id; of an existing one the era is read
    from its columns, so the same factories widen an archive that the program itself made.
    """

    def __init__(self, path: str | Path, era: Era = "0.37.1") -> None:
        self.path = Path(path)
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = OFF")
        self.era = era if fresh else self._era_found()
        if fresh:
            self._create()
        else:
            self._made = self._count("sessions") + self._count("cursor_usage_events")
        self.connection.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _create(self) -> None:
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.executescript(layout(self.era))
        self.set_metadata("database_id", DATABASE_ID)
        if self.era == "later":
            self.set_metadata("archive_id", ARCHIVE_ID)
            self.set_metadata("archive_salt", hashlib.sha256(b"salt").hexdigest())

    def _era_found(self) -> Era:
        return "later" if "cost_microdollars" in self._columns("usage_events") else "0.37.1"

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self.connection.execute(f'PRAGMA table_info("{table}")')}

    def _insert(self, table: str, row: Row) -> None:
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        self.connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values())
        )

    def _count(self, table: str) -> int:
        return int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def _next_ordinal(self, session_id: str) -> int:
        query = "SELECT coalesce(max(ordinal), -1) + 1 FROM messages WHERE session_id = ?"
        return int(self.connection.execute(query, (session_id,)).fetchone()[0])

    def set_metadata(self, key: str, value: str | None) -> None:
        """An entry of archive_metadata, replaced if present; ``None`` removes it."""
        self.connection.execute("DELETE FROM archive_metadata WHERE key = ?", (key,))
        if value is not None:
            row = {"key": key, "value": value, "created_at": STAMP, "updated_at": STAMP}
            self._insert("archive_metadata", row)

    def update_session(self, session_id: str, **changes: Any) -> None:
        """Change columns of a session, as a later sync of the program would."""
        marks = ", ".join(f"{name} = ?" for name in changes)
        self.execute(f"UPDATE sessions SET {marks} WHERE id = ?", [*changes.values(), session_id])

    def delete_session(self, session_id: str) -> None:
        """Take a session and everything that belongs to it out of the archive."""
        for table in ("tool_calls", "usage_events", "messages", "starred_sessions"):
            self.execute(f"DELETE FROM {table} WHERE session_id = ?", [session_id])
        self.execute("DELETE FROM sessions WHERE id = ?", [session_id])

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement, for what no factory makes."""
        return self.connection.execute(statement, values)

    def commit(self) -> None:
        """Let other readers see what was added so far."""
        self.connection.execute("COMMIT")
        self.connection.execute("BEGIN")

    def close(self) -> None:
        """Commit and let go of the file."""
        self.connection.execute("COMMIT")
        self.connection.close()


class PgArchive(_Archive):
    """A PostgreSQL schema as the program's ``pg push`` fills it.

    The schema and its tables are made when the schema is missing. A text that is no time is
    stored as NULL, and a fraction is cut to microseconds, as the program does. Every statement
    runs on the caller's connection; with autocommit off, committing is the caller's.
    """

    def __init__(
        self, conn: psycopg.Connection[Any], schema: str = "agentsview", era: Era = "0.37.1"
    ) -> None:
        self.conn = conn
        self.schema = schema
        self.era = era
        self._known: dict[str, dict[str, str]] = {}
        if self._exists():
            self._made = self._count("sessions") + self._count("cursor_usage_events")
        else:
            self._create()
        if era == "later":
            self._observations = "source_project_identity_observations"
            self._mappings = "source_worktree_project_mappings"
            self._snapshots = "source_session_project_identity_snapshots"

    def _exists(self) -> bool:
        query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s"
        return self.conn.execute(query, (self.schema,)).fetchone() is not None

    def _create(self) -> None:
        from psycopg import sql

        name = sql.Identifier(self.schema)
        before = self.conn.execute("SELECT current_setting('search_path')").fetchone()
        self.conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
        self.conn.execute(sql.SQL("SET search_path TO {}").format(name))
        self.conn.execute(layout(self.era, "postgresql").encode())
        self.conn.execute("SELECT set_config('search_path', %s, false)", before)
        self.set_metadata(f"push_marker:{OWNER_MARKER}", "oak")
        if self.era == "later":
            salt = hashlib.sha256(b"salt").hexdigest()
            row = {"source_archive_id": ARCHIVE_ID, "source_archive_salt": salt}
            self._insert("source_archives", row)

    def _types(self, table: str) -> dict[str, str]:
        query = (
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s"
        )
        if table not in self._known:
            self._known[table] = dict(self.conn.execute(query, (self.schema, table)).fetchall())
        return self._known[table]

    def _columns(self, table: str) -> set[str]:
        return set(self._types(table))

    def _insert(self, table: str, row: Row) -> None:
        from psycopg import sql

        types = self._types(table)
        statement = sql.SQL("INSERT INTO {}.{} ({}) VALUES ({})").format(
            sql.Identifier(self.schema),
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() * len(row)),
        )
        self.conn.execute(statement, [_pg_value(types[name], name, row[name]) for name in row])

    def _count(self, table: str) -> int:
        return self._number_from("SELECT count(*) FROM {}", table)

    def _next_ordinal(self, session_id: str) -> int:
        query = "SELECT coalesce(max(ordinal), -1) + 1 FROM {} WHERE session_id = %s"
        return self._number_from(query, "messages", [session_id])

    def _number_from(self, query: LiteralString, table: str, values: Sequence[Any] = ()) -> int:
        row = self.execute(query, table, values).fetchone()
        assert row is not None
        return int(row[0])

    def execute(
        self, statement: LiteralString, table: str, values: Sequence[Any] = ()
    ) -> psycopg.Cursor[Any]:
        """Run one statement with ``{}`` standing for a table of the archive."""
        from psycopg import sql

        name = sql.Identifier(self.schema, table)
        return self.conn.execute(sql.SQL(statement).format(name), values)

    def _session_owner(self) -> Row:
        if self.era == "0.37.1":
            return {"owner_marker": OWNER_MARKER}
        return {
            "owner_marker": OWNER_MARKER,
            "source_archive_id": ARCHIVE_ID,
            "source_database_generation": DATABASE_ID,
        }

    def _translated(self, table: str, row: Row) -> Row:
        row = super()._translated(table, row)
        if self.era == "later" and table in (self._observations, self._mappings, self._snapshots):
            row = {"source_archive_id": ARCHIVE_ID, **row}
        if self.era == "later" and table == self._snapshots:
            row = {"source_database_generation": DATABASE_ID, **row}
        return row

    def set_metadata(self, key: str, value: str | None) -> None:
        """An entry of sync_metadata, replaced if present; ``None`` removes it."""
        self.execute("DELETE FROM {} WHERE key = %s", "sync_metadata", [key])
        if value is not None:
            self._insert("sync_metadata", {"key": key, "value": value})

    def update_session(self, session_id: str, **changes: Any) -> None:
        """Change columns of a session and its push stamp, as a later push would."""
        from psycopg import sql

        columns = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in changes
        )
        statement = sql.SQL("UPDATE {} SET {}, updated_at = clock_timestamp() WHERE id = %s")
        types = self._types("sessions")
        self.conn.execute(
            statement.format(sql.Identifier(self.schema, "sessions"), columns),
            [*(_pg_value(types[name], name, changes[name]) for name in changes), session_id],
        )

    def delete_session(self, session_id: str) -> None:
        """Take a session and everything that belongs to it out of the archive."""
        self.execute("DELETE FROM {} WHERE session_id = %s", "usage_events", [session_id])
        self.execute("DELETE FROM {} WHERE id = %s", "sessions", [session_id])


def _pg_value(data_type: str, column: str, value: Any) -> Any:
    """A value of the SQLite archive as the program writes it to a column of this type."""
    if data_type == "boolean" and value is not None:
        return bool(value)
    if data_type == "timestamp with time zone" and isinstance(value, str):
        return _pg_time(value) or (NO_CREATION if column == "created_at" else None)
    return value


#: What the program stores where the text of a session's creation is no time.
NO_CREATION = "0001-01-01T00:00:00Z"


def _pg_time(text: str) -> str | None:
    """The text cut to microseconds, as the program does; ``None`` for what is no time."""
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?", text, re.ASCII
    )
    if not found:
        return None
    cut = found[1] + (found[2] or "")[:7]
    try:
        datetime.fromisoformat(found[1])
    except ValueError:
        return None
    return cut + (found[3] or "Z")
