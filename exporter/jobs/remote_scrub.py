"""The remotes backfill: take credentials out of every stored git remote.

A page of one table is one unit, in the order of its primary key; SQL finds, Python decides. The
rows change by their own keys in one transaction per page. What may still hold a credential after
the rewriting is reported in quarantine by a digest of its key and the rule that fired.
No remote, and nothing made of one that could be undone, is ever written anywhere else.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import sql

from exporter.core.identity import derive_identity
from exporter.core.intake import row_uuid
from exporter.core.pace import BatchSize
from exporter.core.remotes import may_hold_credential, storage_form, suspect_rules
from exporter.db import queries
from exporter.jobs import ledger
from exporter.jobs.job import Connection, Lease, Tally

QUERIES = queries.load(__file__)

#: Rewritten, moved or merged; may still hold a credential; gone before we came.
SCRUBBED, SUSPECT, UNCHANGED = "SCRUBBED", "QUARANTINED", "SKIPPED_CHANGED"
REASONS: Final = {
    "url_path": "REMOTE_URL_PATH",
    "scp_path": "REMOTE_SCP_PATH",
    "token": "REMOTE_TOKEN",
}
#: A page is one transaction, and its rows are locked in another program's tables meanwhile: so
#: many rows, or so many seconds, whichever is less.
PAGE_ROWS = 50
PAGE_SECONDS = 0.1
_FACTS = ("project", "machine", "root_path", "worktree_root_path")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with remotes: its columns, and those of its primary key."""

    schema: str
    name: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def is_ours(self) -> bool:
        return self.name == "project_observations"

    @property
    def moves(self) -> bool:
        """Whether a new remote is a new key."""
        return "git_remote" in self.keys

    @property
    def same(self) -> sql.Composed:
        """The condition that names one row by its key."""
        parts = [_equals(key, "old" if key == "git_remote" else key) for key in self.keys]
        return sql.SQL(" AND ").join(parts)


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was found. Its remote never shows."""

    key: tuple[Any, ...] = field(repr=False)
    old: str = field(repr=False)
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """A unit: some rows of one table."""

    table: Table
    rows: tuple[Row, ...]


def _equals(column: str, parameter: str) -> sql.Composed:
    return sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(parameter))


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


@dataclass
class RemoteScrub:
    """The job; see `exporter.jobs.job.Job` for what each method promises."""

    name: str = "remotes"
    version: int = 1
    #: Rows have no entries to claim, so one worker walks through all of them.
    is_exclusive: bool = True
    _tables: list[Table] | None = None
    _position: Page | None = None
    _is_over: bool = False
    _size: BatchSize = field(default_factory=lambda: BatchSize(PAGE_ROWS, PAGE_SECONDS, 10.0))

    def forget(self) -> None:
        self._tables = None

    def prepare(self, conn: Connection) -> None:
        pass

    def remaining(self, conn: Connection) -> int:
        """Rows that are dirty: none after a full pass, whatever is only suspect."""
        return sum(self._count(conn, table, QUERIES["dirty"]) for table in self.tables(conn))

    def expected(self, conn: Connection) -> int:
        """Those and the suspect ones, which are looked at one by one in every run."""
        found = sql.SQL("({}) OR ({})").format(QUERIES["dirty"], QUERIES["suspect"])
        return sum(self._count(conn, table, found) for table in self.tables(conn))

    def unreadable(self, conn: Connection) -> list[str]:
        """Tables whose rows this role may not count, as SCHEMA.NAME."""
        return [
            f"{table.schema}.{table.name}"
            for table in self.tables(conn)
            if conn.execute(
                QUERIES["is_readable"], {"schema": table.schema, "table": table.name}
            ).fetchone() != (True,)
        ]  # fmt: skip

    def _count(self, conn: Connection, table: Table, found: sql.Composable) -> int:
        statement = QUERIES["count"].format(table=table.identifier, found=found)
        row = conn.execute(statement, {}).fetchone()
        return int(row[0]) if row else 0

    def tables(self, conn: Connection) -> list[Table]:
        if self._tables is None:
            rows = conn.execute(QUERIES["tables"]).fetchall()
            found = [Table(row[0], row[1], tuple(row[2]), tuple(row[3])) for row in rows]
            self._tables = [table for table in found if table.keys]
        return self._tables

    def claim(self, conn: Connection, lease: Lease, count: int) -> Sequence[Page]:
        if self._is_over:
            return []
        pages = self.pending(conn, self._position, min(count, self._size.rows))
        if not pages:
            self._is_over = True
            conn.execute(QUERIES["forget_reports"], {"run_id": lease.run_id})
            _validate_guard(conn)
        else:
            self._position = pages[-1]
        return pages

    def is_waiting(self, conn: Connection, lease: Lease) -> bool:
        return False

    def pending(self, conn: Connection, after: Page | None, count: int) -> Sequence[Page]:
        """The next page after the given one, of its table or of the next that has one."""
        tables = self.tables(conn)
        start = tables.index(after.table) if after is not None and after.table in tables else 0
        for table in tables[start:]:
            key = after.rows[-1].key if after is not None and after.table == table else None
            rows = _page(conn, table, key, count)
            if rows:
                return [Page(table, rows)]
        return []

    def preview(self, conn: Connection, unit: Page) -> Tally:
        outcomes: dict[str, int] = {}
        for row in unit.rows:
            try:
                outcome = _foreseen(unit.table, row)
            except ValueError:
                outcome = SUSPECT
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return Tally(outcomes)

    def perform(self, conn: Connection, lease: Lease, unit: Page) -> Tally:
        outcomes: dict[str, int] = {}
        started = time.monotonic()
        with conn.transaction():
            ledger.hold(conn, lease)
            for row in unit.rows:
                change = _change_ours if unit.table.is_ours else _change_theirs
                outcome = change(conn, unit.table, row)
                rules = () if unit.table.is_ours else suspect_rules(storage_form(row.old))
                if rules and outcome != UNCHANGED:
                    _report(conn, lease, unit.table, row, rules)
                    outcome = SUSPECT
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        self._size.took(len(unit.rows), time.monotonic() - started)
        return Tally(outcomes)

    def read_back(self, conn: Connection, lease: Lease, unit: Page) -> Tally | None:
        # Doing a page again finds what is done and leaves it.
        return None

    def refuse(
        self, conn: Connection, lease: Lease, unit: Page, reason: str, facts: Mapping[str, Any]
    ) -> Tally:
        """A page that fails is done row by row, so that only the row at fault is left out."""
        total = Tally()
        for row in unit.rows:
            try:
                total += self.perform(conn, lease, Page(unit.table, (row,)))
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                known = {**facts, "error": type(error).__name__, "table": unit.table.name}
                ledger.report(conn, lease, _digest(conn, unit.table, row), reason, known)
                total += Tally({SUSPECT: 1})
        return total


def _validate_guard(conn: Connection) -> None:
    """Let the server prove that our own table is clean, now that a pass over it is done.

    Its guard keeps new rows out either way. What is in the way now (a lock, or a role that does
    not own the table) is left to a later run.
    """
    row = conn.execute(QUERIES["guard_is_open"]).fetchone()
    if row and row[0]:
        in_the_way = (
            psycopg.errors.CheckViolation,
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.LockNotAvailable,
        )
        with suppress(*in_the_way):
            conn.execute(QUERIES["validate_guard"])


def _page(
    conn: Connection, table: Table, after: tuple[Any, ...] | None, count: int
) -> tuple[Row, ...]:  # fmt: skip
    facts = [name for name in _FACTS if name in table.columns]
    beyond: sql.Composable = sql.SQL("true")
    parameters: dict[str, Any] = {"count": count}
    if after is not None:
        holes = sql.SQL(", ").join(sql.Placeholder(f"after_{key}") for key in table.keys)
        beyond = sql.SQL("({}) > ({})").format(_names(table.keys), holes)
        parameters |= {f"after_{key}": part for key, part in zip(table.keys, after, strict=True)}
    statement = QUERIES["page"].format(
        table=table.identifier, keys=_names(table.keys), facts=_names(facts), after=beyond,
        order=_names(table.keys), dirty=QUERIES["dirty"], suspect=QUERIES["suspect"],
    )  # fmt: skip
    width = len(table.keys)
    return tuple(
        Row(tuple(row[:width]), row[width], dict(zip(facts, row[width + 1 :], strict=True)))
        for row in conn.execute(statement, parameters)
    )


def _foreseen(table: Table, row: Row) -> str:
    """The outcome that a row would have."""
    if table.is_ours:
        return SCRUBBED
    return SUSPECT if suspect_rules(storage_form(row.old)) else SCRUBBED


def _report(
    conn: Connection, lease: Lease, table: Table, row: Row, rules: Sequence[str]
) -> None:  # fmt: skip
    facts = {
        "table": f"{table.schema}.{table.name}",
        "project": row.facts["project"],
        "machine": row.facts["machine"],
    }
    ledger.report(conn, lease, _digest(conn, table, row), REASONS[rules[0]], facts)


def _digest(conn: Connection, table: Table, row: Row) -> str:
    """Names a row without its text; the archive's own id keeps others from trying guesses."""
    salt = conn.execute(QUERIES["salt"]).fetchone()
    parts = [str(salt), table.schema, table.name, *map(str, row.key)]
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _change_theirs(conn: Connection, table: Table, row: Row) -> str:
    """Rewrite one row of agentsview's, merging it with the row that it becomes equal to."""
    new = storage_form(row.old)
    if new == row.old:
        return SCRUBBED
    root, worktree = row.facts["root_path"], row.facts.get("worktree_root_path", "")
    identity = derive_identity(root, new, worktree)
    parameters = {
        **dict(zip(table.keys, row.key, strict=True)), **row.facts, "old": row.old, "new": new,
        "normalized": (identity.normalized_remote if identity else None) or "",
        "key_source": identity.key_source if identity else "",
        "key": identity.key if identity else "",
    }  # fmt: skip
    parameters.pop("git_remote", None)
    if not table.moves:
        statement = QUERIES["rewrite"].format(table=table.identifier, same=table.same)
        return SCRUBBED if conn.execute(statement, parameters).rowcount else UNCHANGED
    return SCRUBBED if _move(conn, table, parameters) else UNCHANGED


def _move(conn: Connection, table: Table, parameters: Mapping[str, Any]) -> bool:
    """Give a row another key: copy, take its scopes along, remove. False when it was gone."""
    is_first_layout = table.name == "project_identity_observations"
    is_needless = False
    if is_first_layout and not parameters["new"]:
        statement = QUERIES["has_other"].format(table=table.identifier)
        found = conn.execute(statement, parameters).fetchone()
        is_needless = bool(found and found[0])
    if not is_needless:
        conn.execute(_copying(table), parameters)
        if table.name == "source_project_identity_observations":
            _move_scopes(conn, table, parameters)
    removal = QUERIES["remove"].format(table=table.identifier, same=table.same)
    was_there = conn.execute(removal, parameters).rowcount > 0
    if is_first_layout and parameters["new"] and was_there:
        statement = QUERIES["remove_fallback"].format(table=table.identifier)
        conn.execute(statement, parameters)
    return was_there


def _copying(table: Table) -> sql.Composed:
    """The statement that copies a row to its new key, or into the row that has it already."""
    replaced = {
        "git_remote": "new", "normalized_remote": "normalized", "key_source": "key_source",
        "key": "key",
    }  # fmt: skip
    values = [
        sql.Placeholder(replaced[name]) if name in replaced else sql.Identifier(name)
        for name in table.columns
    ]
    overwrite = [
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name))
        for name in table.columns
        if name not in table.keys
    ]
    return QUERIES["move"].format(
        table=table.identifier, columns=_names(table.columns), values=sql.SQL(", ").join(values),
        same=table.same, keys=_names(table.keys), overwrite=sql.SQL(", ").join(overwrite),
    )  # fmt: skip


def _move_scopes(conn: Connection, table: Table, parameters: Mapping[str, Any]) -> None:
    name = "source_project_identity_observation_scopes"
    found = conn.execute(
        "SELECT to_regclass(quote_ident(%s) || '.' || quote_ident(%s))", [table.schema, name]
    ).fetchone()
    if found and found[0]:
        scopes = sql.Identifier(table.schema, name)
        conn.execute(QUERIES["move_scopes"].format(scopes=scopes, same=table.same), parameters)


def _change_ours(conn: Connection, table: Table, row: Row) -> str:
    """Rewrite one row of the archive; a text that may hold a credential goes, its key stays."""
    root, worktree = row.facts["root_path"], row.facts["worktree_root_path"]
    identity = derive_identity(root, row.old, worktree)
    is_redacted = may_hold_credential(row.old)
    new = "" if is_redacted else storage_form(row.old)
    kept_key = identity.key if is_redacted and identity else ""
    natural = (row.facts["project"], row.facts["machine"], root, new, kept_key)
    normalized = identity.normalized_remote if identity and not is_redacted else None
    parameters = {
        **dict(zip(table.keys, row.key, strict=True)), "old": row.old, "new": new,
        "new_key": row_uuid("\x1f".join(natural)), "is_redacted": is_redacted,
        "normalized": None if normalized and "\ufffd" in normalized else normalized,
        "key": identity.key if identity else None,
        "key_source": identity.key_source if identity else None,
    }  # fmt: skip
    if str(parameters["observation_key"]).replace("-", "") != parameters["new_key"]:
        rival = conn.execute(QUERIES["own_rival"], parameters).fetchone()
        if rival is not None:
            gone = parameters["observation_key"] if rival[0] else parameters["new_key"]
            conn.execute(QUERIES["own_remove"], {**parameters, "gone": gone})
            if rival[0]:
                return SCRUBBED
    return SCRUBBED if conn.execute(QUERIES["own_rewrite"], parameters).rowcount else UNCHANGED
