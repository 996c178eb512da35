"""A snapshot brought by an administrator takes the place of a plan's own, if it is proven clean.

What it replaces is kept by the same rule as what the backfill replaces: in the database, or in
the object store, where it is whole before the transaction begins.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final
from uuid import UUID

import psycopg

from exporter.artifacts import logs, plans, store
from exporter.artifacts.logs import Placement
from exporter.artifacts.plans import PlanTable
from exporter.core import runzip
from exporter.core.runzip import NoteKind, Refusal
from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)

#: Notes on members that the backfill leaves out of what is served: they could be unpacked into
#: another folder than the one that was meant.
_LEAVES_ITS_FOLDER: Final = (NoteKind.UNSAFE_NAME, NoteKind.SYMLINK)


def put(
    conn: psycopg.Connection[Any], plan: UUID, data: bytes, placement: Placement | None = None
) -> int:
    """Store a snapshot as the plan's and return the plan's new generation.

    The snapshot before it is kept as an original, where `placement` says; report, log and overview
    stay. Raises ExporterError, with the plan unchanged, for what may hold the log, cannot be
    read in one way only or could leave the folder it is unpacked into, for a plan that a run is
    at work on, and when the snapshot that was to be kept in the object store was itself replaced
    meanwhile.
    """
    _check(plan, data)
    table = plans.find(conn)
    values = {"plan": plan, "snapshot": data, "sha256": hashlib.sha256(data).digest()}
    _require_idle(plan, conn.execute(table.fill(QUERIES["state"]), values).fetchone())
    outside = _put_outside(conn, table, values, placement or Placement())
    with conn.transaction():
        found = conn.execute(table.fill(QUERIES["lock"]), values).fetchone()
        generation = _require_idle(plan, found)
        if outside is None:
            conn.execute(table.fill(QUERIES["keep_replaced"]), values)
        else:
            row = conn.execute(table.fill(QUERIES["digest"]), values).fetchone()
            if row is None or row[0] != bytes.fromhex(outside["sha256"]):
                raise ExporterError(
                    f"the snapshot of plan {plan} was replaced by somebody else just now",
                    hint="nothing was stored; look at the plan, then run the same command again",
                )
            logs.hold(conn, outside)
            logs.keep_original(conn, plan, generation, "snapshot", "", None, outside)
        row = conn.execute(table.fill(QUERIES["put"]), values).fetchone()
        if row is None or row[1] != len(data):
            raise ExporterError("the server stored another length than was sent")
        conn.execute(QUERIES["close_quarantine"], {"plan": plan})
        store.record_proven(conn, plan, row[0], data)
    return int(row[0])


def _check(plan: UUID, data: bytes) -> None:
    """Raise ExporterError, with the code of what was found, for bytes that may not be served."""
    try:
        runzip.verify(data)
    except Refusal as refusal:
        raise ExporterError(
            f"the upload for plan {plan} was refused ({refusal.code})",
            hint="nothing was stored; upload an archive without the internal log",
        ) from refusal
    found = {note.kind for note in runzip.inspect(data).notes}
    for kind in _LEAVES_ITS_FOLDER:
        if kind in found:
            raise ExporterError(
                f"the upload for plan {plan} was refused ({kind})",
                hint="nothing was stored; upload an archive of plain files and folders whose names"
                " are relative and have no '..'",
            )


def _require_idle(plan: UUID, found: tuple[Any, ...] | None) -> int:
    """The plan's generation. Raises ExporterError when there is none or a run is at work on it."""
    if found is None:
        raise ExporterError(f"there is no plan {plan}", hint="check its id")
    if found[0]:
        raise ExporterError(
            f"a run is at work on plan {plan}, and its results would be lost",
            hint="stop it or wait for its end",
        )
    return int(found[1])


def _put_outside(
    conn: psycopg.Connection[Any], table: PlanTable, values: dict[str, Any], placement: Placement
) -> logs.Reference | None:
    """Put the snapshot that is about to be replaced into the object store, if it belongs there.

    None: it is to be kept in the database, or there is nothing to keep.
    """
    if placement.objects is None:
        return None
    limits = {**values, "largest": placement.largest_inside(conn)}
    row = conn.execute(table.fill(QUERIES["large"]), limits, binary=True).fetchone()
    if row is None or hashlib.sha256(row[0]).digest() == values["sha256"]:
        return None
    return logs.put(conn, placement.objects, row[0], encoding="identity", plain_bytes=len(row[0]))
