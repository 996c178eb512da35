"""A plan's row for people and programs: any column of the adopted table but the denied ones.

The table is another program's, so its columns are looked up. What is denied (`core.denylist`), and
every other column of bytes, is never selected; whether it is there and how long it is may be told.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from exporter.artifacts import plans
from exporter.artifacts.plans import PlanTable
from exporter.core.denylist import is_denied, refuse_denied
from exporter.db import grants, queries
from exporter.errors import BadInput, ExporterError

QUERIES = queries.load(__file__)

Connection = psycopg.Connection[Any]

_TEXTS = ("text", "character varying", "bytea")


@dataclass(frozen=True, slots=True)
class Shown:
    """Fields by name, in the order of the table, and the columns that the role may not read."""

    fields: dict[str, Any]
    withheld: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Field:
    """Something to select: a column, or what may be told of one that is not shown."""

    name: str
    column: str
    expression: sql.Composed
    is_readable: bool


def show(conn: Connection, plan: UUID, names: Sequence[str] = ()) -> Shown:
    """The fields of a plan, or those of the given names.

    Raises BadInput for a denied or unknown name, MissingRights for one that the role may not read,
    ExporterError for an unknown plan.
    """
    refuse_denied(names, "--field")
    table = plans.find(conn)
    known = {field.name: field for field in _fields(conn, table)}
    for name in names:
        if name not in known:
            raise BadInput("--field", f"there is no field {name}", accepted=", ".join(known))
        grants.require(conn, table.schema, table.name, "SELECT", known[name].column)
    chosen = [known[name] for name in names] or [f for f in known.values() if f.is_readable]
    withheld = [] if names else [f.name for f in known.values() if not f.is_readable]
    grants.require(conn, table.schema, table.name, "SELECT", "id")
    selected = sql.SQL(", ").join(field.expression for field in chosen)
    statement = QUERIES["row"].format(fields=selected, plans=table.identifier)
    row = conn.execute(statement, {"plan": plan}).fetchone()
    if row is None:
        raise no_row(plan)
    return Shown(json.loads(row[0]), tuple(withheld))


def no_row(plan: UUID) -> ExporterError:
    return ExporterError(f"there is no plan {plan}", hint="check its id")


def _fields(conn: Connection, table: PlanTable) -> list[_Field]:
    place = {"schema": table.schema, "table": table.name}
    columns = conn.execute(QUERIES["columns"], place).fetchall()
    taken = {name for name, _, _ in columns}
    found = []
    for name, type_name, is_readable in columns:
        column = sql.Identifier("p", name)
        if not is_denied(name) and type_name != "bytea":
            found.append(_Field(name, name, sql.Composed([column]), is_readable))
            continue
        derived = [(f"has_{name}", "{} IS NOT NULL AS {}")]
        if type_name in _TEXTS:
            derived.append((f"{name}_bytes", "octet_length({}) AS {}"))
        for told, form in derived:
            if told not in taken:
                expression = sql.SQL(form).format(column, sql.Identifier(told))
                found.append(_Field(told, name, expression, is_readable))
    return found


# --- What an owner may have -----------------------------------------------------------------


def require_owner(conn: Connection, plan: UUID, user: str) -> None:
    """Raise ExporterError unless the plan is the user's. Reads nothing of the plan but its owner.

    An unknown plan is told before a foreign one, a foreign one before anything of its content.
    """
    table = plans.find(conn)
    try:
        row = conn.execute(table.fill(QUERIES["owner"]), {"plan": plan}).fetchone()
    except psycopg.errors.UndefinedColumn as error:
        raise ExporterError(
            f"{table.schema}.{table.name} has no user_id, so no plan of it has an owner",
            hint="let the service decide, and give a ticket",
        ) from error
    if row is None:
        raise no_row(plan)
    if row[0] is None or row[0] != user:
        raise ExporterError(f"forbidden: plan {plan} is not this user's", hint="nothing was read")


def report(conn: Connection, plan: UUID) -> bytes:
    """The report of a plan as UTF-8. Raises ExporterError for a failed or stopped plan."""
    table = plans.find(conn)
    row = conn.execute(table.fill(QUERIES["report"]), {"plan": plan}).fetchone()
    if row is None:
        raise no_row(plan)
    if row[0] is None or row[1]:
        raise ExporterError(f"plan {plan} has no report", hint="only a completed plan has one")
    return str(row[0]).encode()
