"""Three roles and what each may do: the statements that grant it, and the proof that it is all.

The reader exports, the operator imports and runs jobs, the admin reads what is secret. What a role
may do with a table stands in one table below; a table without a rule is the admin's alone. Grants
are made per column where a table holds anything that the role has no business with.

:func:`statements` is pure: from facts of the catalogue to statements. They say all that a role has
on a table, so applying them twice is the same as once, and what was granted by hand is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

import psycopg
from psycopg import sql

from exporter.db import queries
from exporter.errors import BadInput, ExporterError, MissingRights

QUERIES = queries.load(__file__)

#: Wait for one lock; the grants are asked for again by whoever runs the command again.
LOCK_TIMEOUT = "2s"


class Purpose(Enum):
    """What a role is for."""

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"


#: Privilege to columns; None: all of them, those of later migrations too.
Rights: TypeAlias = Mapping[str, frozenset[str] | None]

NOTHING: Final[Rights] = {}
READ: Final[Rights] = {"SELECT": None}
ADD: Final[Rights] = {"SELECT": None, "INSERT": None, "UPDATE": None}
CHANGE: Final[Rights] = {**ADD, "DELETE": None}
#: As CHANGE, and ANALYZE after an import, which only PostgreSQL 17 can grant.
IMPORT: Final[Rights] = {**CHANGE, "MAINTAIN": None}


def _on(**columns: str) -> Rights:
    return {name.upper(): frozenset(names.split()) for name, names in columns.items()}


_CONTENT_FREE = (READ, IMPORT, IMPORT)
#: The arbiter of an insert that may meet a copy must be readable, and sizes are added up where
#: there is an object store; the bytes themselves need not be.
_KEEP_ORIGINAL = _on(
    select="original_id plan_id generation kind member_path sha256 byte_length ref",
    insert="plan_id generation kind member_path sha256 byte_length body ref",
)
_KEEP_BLOB = _on(
    select="sha256 byte_length original_id",
    insert="sha256 encoding byte_length body original_id first_byte frame_end",
    update="created_at",
)
_KEPT: Rights = {
    "SELECT": None,
    "INSERT": None,
    "DELETE": None,
    **_on(update="body ref created_at"),
}
#: The archive's row: the secret that signs cursors is for who exports, and for nobody else.
_ARCHIVE = "only_row database_id revision revision_token created_at"

#: Table of ours to the rights of reader, operator and admin.
RULES: Final[Mapping[str, tuple[Rights, Rights, Rights]]] = {
    "alembic_version": (READ, READ, CHANGE),
    "archive": (
        READ,
        _on(select=_ARCHIVE, update="revision revision_token"),
        _on(select=_ARCHIVE, update="revision revision_token"),
    ),
    **dict.fromkeys(
        (
            *("sources", "import_runs", "revisions", "models", "source_prices", "model_rates"),
            *("sessions", "session_changes", "session_models", "session_lines"),
            *("usage_rows", "activity_points", "billing_rows"),
            *("pending_usage", "repeated_keys", "repeated_usage", "usage_slots"),
            *("project_observations", "worktree_mappings"),
        ),
        _CONTENT_FREE,
    ),
    "jobs": (READ, ADD, CHANGE),
    "job_runs": (READ, ADD, CHANGE),
    "job_leases": (_on(select="job released_at lease_until"), ADD, CHANGE),
    # Counts for the reader, never which plan.
    "job_items": (_on(select="job status outcome reason"), CHANGE, CHANGE),
    "adopted_tables": (READ, READ, CHANGE),
    "artifact_originals": (NOTHING, _KEEP_ORIGINAL, _KEPT),
    "artifact_blobs": (NOTHING, _KEEP_BLOB, CHANGE),
    # Addresses and sizes; the objects themselves are behind the store's own keys.
    "artifact_objects": (NOTHING, ADD, CHANGE),
    # Who read and when are filled in by the server: nobody is granted these two columns.
    "artifact_reads": (NOTHING, NOTHING, {**READ, **_on(insert="plan_id kind bytes purpose")}),
}
#: Tables of a later migration that has not been given a rule.
UNKNOWN: Final = (NOTHING, NOTHING, CHANGE)
#: Functions of ours that do a backfill's work on logs with the rights of their owner.
GUARDED: Final = ("keep_standing_log(uuid, bigint)", "standing_log_bytes(uuid)")
#: Tables of another program whose git remotes the backfill scrubs in place.
REMOTES: Final = (NOTHING, CHANGE, CHANGE)

_PLAN_FACTS = (
    "id state timestamp_created run_generation run_artifact_layout_version"
    " run_track_activity_bytes run_track_activity_encoding run_activity_overview_json"
)
_PLAN_WRITES = (
    "run_artifact_layout_version run_zip_snapshot run_track_activity_jsonl"
    " run_track_activity_bytes run_track_activity_encoding run_track_activity_ref"
    " run_activity_overview_json"
)
#: The plan table. The backfill reads legacy snapshots, which it takes apart; the logs that stand in
#: rows it writes and does not read.
PLANS: Final = (
    _on(select=_PLAN_FACTS),
    _on(select=f"{_PLAN_FACTS} run_zip_snapshot", update=_PLAN_WRITES),
    {"SELECT": None, "UPDATE": None},
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table that grants are about."""

    schema: str
    name: str
    owner: str
    columns: tuple[str, ...]
    kind: Literal["own", "plans", "remotes"] = "own"
    #: Whether the role of the connection may grant on it.
    is_ours_to_grant: bool = True

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def rules(self) -> tuple[Rights, Rights, Rights]:
        """Rights of reader, operator and admin."""
        if self.kind == "plans":
            return PLANS
        return REMOTES if self.kind == "remotes" else RULES.get(self.name, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Role:
    """A role as the server has it."""

    name: str
    purposes: frozenset[Purpose]
    is_superuser: bool = False
    #: Rights on the database itself that it lacks; PUBLIC has both unless somebody took them.
    lacks: tuple[str, ...] = ()
    #: Schemas that it may enter already, by PUBLIC or otherwise.
    schemas: frozenset[str] = frozenset()

    @property
    def is_bound(self) -> bool:
        """Whether something must be out of its reach."""
        return Purpose.ADMIN not in self.purposes


@dataclass(frozen=True, slots=True)
class Facts:
    """What the statements are made from."""

    database: str
    schema: str
    #: server_version_num.
    version: int
    roles: tuple[Role, ...]
    tables: tuple[Table, ...]

    @property
    def unknown_tables(self) -> list[str]:
        return [t.name for t in self.tables if t.kind == "own" and t.name not in RULES]

    @property
    def left_out(self) -> list[Table]:
        """Tables of other programs that this connection's role may not grant on."""
        return [t for t in self.tables if t.kind == "remotes" and not t.is_ours_to_grant]


def rights(table: Table, role: Role, version: int) -> dict[str, frozenset[str] | None]:
    """What a role may do with a table: the union over its purposes, of columns that exist."""
    found: dict[str, frozenset[str] | None] = {}
    present = frozenset(table.columns)
    for purpose, given in zip(Purpose, table.rules, strict=True):
        if purpose not in role.purposes:
            continue
        for privilege, columns in given.items():
            if privilege == "MAINTAIN" and version < 170000:
                continue
            before = found.get(privilege, frozenset())
            if columns is None or before is None:
                found[privilege] = None
            else:
                found[privilege] = before | (columns & present)
    return {name: columns for name, columns in found.items() if columns is None or columns}


def statements(facts: Facts) -> list[sql.Composed]:
    """The grants as statements, in an order in which they can run in one transaction.

    Raises ExporterError when a role that must not read everything owns a table or is a superuser.
    """
    for role in facts.roles:
        _refuse_unbindable(role, facts.tables)
    made: list[sql.Composed] = []
    for role in facts.roles:
        made += _on_places(facts, role)
        for table in facts.tables:
            # An owner has all rights; taking them back would take them from the owner's program.
            if table.owner != role.name:
                made += _on_table(table, role, rights(table, role, facts.version))
    return made


def script(facts: Facts) -> str:
    """The same as a script for psql, which stops at the first failure and then changes nothing."""
    lines = [statement.as_string(None) + ";" for statement in statements(facts)]
    head = ["\\set ON_ERROR_STOP on", "BEGIN;", f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}';"]
    return "\n".join([*head, *lines, "COMMIT;"]) + "\n"


def _refuse_unbindable(role: Role, tables: Iterable[Table]) -> None:
    if not role.is_bound:
        return
    what = "is a superuser" if role.is_superuser else ""
    for table in tables:
        if table.owner == role.name and table.kind != "remotes":
            what = what or f"owns {table.schema}.{table.name}"
    if what:
        raise ExporterError(
            f'the role "{role.name}" {what}, and no grant can keep it from reading everything',
            hint="name a role that was made for this",
        )


def _on_places(facts: Facts, role: Role) -> list[sql.Composed]:
    """Rights on the database, on the schemas and on our functions."""
    name, schema = sql.Identifier(role.name), sql.Identifier(facts.schema)
    made = [
        sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
            sql.SQL(lacking), sql.Identifier(facts.database), name
        )
        for lacking in role.lacks
        if lacking == "CONNECT" or role.purposes != {Purpose.READER}
    ]
    made.append(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(schema, name))
    made.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, name))
    made.append(sql.SQL("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {} TO {}").format(schema, name))
    if role.purposes == {Purpose.READER}:
        made += [
            sql.SQL("REVOKE EXECUTE ON FUNCTION {}.{} FROM {}").format(
                schema, sql.SQL(function), name
            )
            for function in GUARDED
        ]
    used = {
        table.schema
        for table in facts.tables
        if table.schema not in (facts.schema, *role.schemas) and rights(table, role, facts.version)
    }
    made += [
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(other), name)
        for other in sorted(used)
    ]
    return made


def _on_table(
    table: Table, role: Role, given: Mapping[str, frozenset[str] | None]
) -> list[sql.Composed]:
    name = sql.Identifier(role.name)
    made = []
    # In tables of other programs a role may have more for reasons of its own; the plan table is
    # one of them, but holds what a bound role must not see.
    if table.kind == "own" or (table.kind == "plans" and role.is_bound):
        made.append(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(table.identifier, name))
    if given:
        parts = sql.SQL(", ").join(
            _privilege(privilege, columns, table) for privilege, columns in given.items()
        )
        made.append(sql.SQL("GRANT {} ON TABLE {} TO {}").format(parts, table.identifier, name))
    return made


def _privilege(privilege: str, columns: frozenset[str] | None, table: Table) -> sql.Composed:
    if columns is None:
        return sql.SQL("{}").format(sql.SQL(privilege))
    named = [sql.Identifier(column) for column in table.columns if column in columns]
    return sql.SQL("{} ({})").format(sql.SQL(privilege), sql.SQL(", ").join(named))


# --- The database ---------------------------------------------------------------------------


def read_facts(
    conn: psycopg.Connection[Any],
    schema: str,
    plan_table: tuple[str, str] | None,
    roles: Mapping[Purpose, str],
) -> Facts:
    """Look up roles and tables. Raises BadInput for a role that the server does not have.

    ``plan_table`` is schema and name of the adopted table, ``roles`` what each purpose's role is.
    """
    names = sorted(set(roles.values()))
    rows = conn.execute(QUERIES["roles"], {"roles": names}).fetchall()
    known = {row[0]: row[1:] for row in rows}
    for purpose, name in roles.items():
        if name not in known:
            _refuse_unknown(purpose, name)
    places = {
        "schema": schema,
        "plan_schema": plan_table[0] if plan_table else None,
        "plan_table": plan_table[1] if plan_table else None,
    }
    tables = tuple(
        Table(place, name, owner, tuple(columns), kind, may_grant)
        for place, name, owner, may_grant, kind, columns in conn.execute(QUERIES["tables"], places)
    )
    return Facts(
        conn.info.dbname, schema, conn.info.server_version,
        tuple(_role(name, known[name], roles) for name in names), tables,
    )  # fmt: skip


def _role(name: str, row: Sequence[Any], roles: Mapping[Purpose, str]) -> Role:
    is_superuser, may_connect, may_use_temp, schemas = row
    lacks = [
        privilege
        for privilege, has in (("CONNECT", may_connect), ("TEMPORARY", may_use_temp))
        if not has
    ]
    purposes = frozenset(purpose for purpose, other in roles.items() if other == name)
    return Role(name, purposes, is_superuser, tuple(lacks), frozenset(schemas))


def _refuse_unknown(purpose: Purpose, name: str) -> None:
    statement = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)).as_string(None)
    raise BadInput(
        f"--{purpose.value}",
        f'the server has no role "{name}"',
        accepted=f"a role that exists; this makes it: {statement}",
    )


def apply(conn: psycopg.Connection[Any], facts: Facts) -> int:
    """Run the grants in one transaction, and prove in it that no role has more than its rights.

    Tables that are `left_out` are passed over. Returns the number of statements. Raises
    MissingRights when the connection's role may not grant, and ExporterError when a role would
    have more by another road; then nothing changed.
    """
    facts = replace(facts, tables=tuple(t for t in facts.tables if t not in facts.left_out))
    for table in facts.tables:
        if not table.is_ours_to_grant:
            raise MissingRights(
                f"to grant on {table.schema}.{table.name}, which its owner {table.owner} has"
            )
    made = statements(facts)
    with conn.transaction():
        conn.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        for statement in made:
            conn.execute(statement)
        _prove(conn, facts)
    return len(made)


def _prove(conn: psycopg.Connection[Any], facts: Facts) -> None:
    """Raise ExporterError when a bound role may do anything that it was not granted here."""
    bound = {role.name: role for role in facts.roles if role.is_bound}
    tables = {
        (table.schema, table.name): table for table in facts.tables if table.kind != "remotes"
    }
    parameters = {
        "roles": list(bound),
        "schemas": [schema for schema, _ in tables],
        "tables": [name for _, name in tables],
    }
    for role, schema, name, column, privilege in conn.execute(QUERIES["effective"], parameters):
        given = rights(tables[schema, name], bound[role], facts.version)
        columns = given.get(privilege, frozenset())
        if columns is not None and column not in columns:
            what = f"{schema}.{name}" + (f".{column}" if column else "")
            raise ExporterError(
                f'the role "{role}" may also {privilege} {what}, through PUBLIC or another role',
                hint="revoke that right there, or take the role out of the other one",
            )


def ungranted(conn: psycopg.Connection[Any], schema: str) -> list[str]:
    """Tables and functions of ours that came after grants; none where none were ever applied."""
    return [row[0] for row in conn.execute(QUERIES["ungranted"], {"schema": schema})]


def require(
    conn: psycopg.Connection[Any], schema: str, table: str, privilege: str, *columns: str
) -> None:
    """Raise MissingRights, naming right and column, when this connection's role lacks one."""
    parameters = {
        "schema": schema, "table": table, "privilege": privilege, "columns": list(columns),
    }  # fmt: skip
    row = conn.execute(QUERIES["lacking"], parameters).fetchone()
    if row is not None:
        raise MissingRights(f"{privilege} on {schema}.{table}.{row[0]}")
