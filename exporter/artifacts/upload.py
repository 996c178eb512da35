"""A snapshot brought by an administrator takes the place of a plan's own, if it is proven clean."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import psycopg

from exporter.artifacts import plans
from exporter.core import runzip
from exporter.core.runzip import Refusal
from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)


def put(conn: psycopg.Connection[Any], plan: UUID, data: bytes) -> int:
    """Store a snapshot as the plan's and return the plan's new generation.

    The snapshot before it is kept as an original; report, log and overview stay. Raises
    ExporterError, with nothing stored, for what may hold the log or cannot be read in one way
    only, and for a plan that a run is at work on.
    """
    try:
        runzip.verify(data)
    except Refusal as refusal:
        raise ExporterError(
            f"the upload for plan {plan} was refused ({refusal.code})",
            hint="nothing was stored; upload an archive without the internal log",
        ) from refusal
    table = plans.find(conn)
    values = {"plan": plan, "snapshot": data, "sha256": hashlib.sha256(data).digest()}
    with conn.transaction():
        found = conn.execute(table.fill(QUERIES["lock"]), values).fetchone()
        if found is None:
            raise ExporterError(f"there is no plan {plan}", hint="check its id")
        if found[0]:
            raise ExporterError(
                f"a run is at work on plan {plan}, and its results would be lost",
                hint="stop it or wait for its end",
            )
        conn.execute(table.fill(QUERIES["keep_replaced"]), values)
        row = conn.execute(table.fill(QUERIES["put"]), values).fetchone()
        if row is None or row[1] != len(data):
            raise ExporterError("the server stored another length than was sent")
        conn.execute(QUERIES["close_quarantine"], {"plan": plan})
    return int(row[0])
