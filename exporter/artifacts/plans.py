"""Where the plan table is: its owner's name and schema, looked up anew for every run.

The owner's program renames ``task_item`` to ``plans`` when it feels like it, so no name is kept.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)

INDEX = "exporter_pending_snapshots"


@dataclass(frozen=True, slots=True)
class PlanTable:
    """The adopted table, and whether its pending rows can be found by index."""

    schema: str
    name: str
    is_indexed: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def fill(self, statement: sql.SQL) -> sql.Composed:
        """A statement with ``{plans}`` in it, ready to run."""
        return statement.format(plans=self.identifier)


def find(conn: psycopg.Connection[Any]) -> PlanTable:
    """Find the plan table. Raises ExporterError when there is none, or more than one."""
    found = conn.execute(QUERIES["candidates"]).fetchall()
    names = ", ".join(f"{schema}.{name}" for schema, name, _, _ in found)
    if len(found) > 1:
        raise ExporterError(
            f"several tables could be the plan table: {names}",
            hint="move the ones that are not in use to another name",
        )
    if not found or not found[0][3]:
        what = f"{names} has no run_generation column" if found else "there is no plan table"
        raise ExporterError(
            what, hint="adopt it: 'exporter db downgrade 0004', then 'exporter db upgrade'"
        )
    return PlanTable(*found[0][:3])


def make_index(conn: psycopg.Connection[Any], table: PlanTable) -> bool:
    """Build the index of pending rows without stopping writers, when it is absent or broken.

    Outside a transaction. False when that did not work now; everything works without it, slower.
    """
    if table.is_indexed:
        return True
    index = sql.Identifier(table.schema, INDEX)
    try:
        conn.execute(QUERIES["drop_index"].format(index=index))
        conn.execute(table.fill(QUERIES["make_index"]))
    except psycopg.Error:
        with suppress(psycopg.Error):
            conn.execute(QUERIES["drop_index"].format(index=index))
        return False
    return True
