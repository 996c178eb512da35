"""Move packed logs and kept originals into the object store, or out of it.

Each one by itself: the bytes are where they go before the reference changes, and it changes only
if it is still what was read. Killed and run again, a move goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from exporter.artifacts import logs, plans
from exporter.artifacts.objects import Objects
from exporter.artifacts.plans import PlanTable
from exporter.db import queries
from exporter.errors import ExporterError, ObjectStoreError

QUERIES = queries.load(__file__)

Connection = psycopg.Connection[Any]
Target = Literal["store", "database"]


@dataclass(slots=True)
class Moved:
    """What a move did. `unavailable` counts what could not be read and stayed as it was."""

    logs: int = 0
    originals: int = 0
    size: int = 0
    unavailable: int = 0


def move(
    conn: Connection, target: Target, objects: Objects, inline_max_bytes: int | None = None
) -> Moved:
    """Move every packed log, and originals: to the store those larger than `inline_max_bytes`.

    What is left behind where it came from is collected later. Raises ObjectStoreError when the
    store itself does not work.
    """
    limit = logs.INLINE_MAX_BYTES if inline_max_bytes is None else inline_max_bytes
    table = plans.find(conn)
    moved = Moved()
    for plan, generation, ref in _logs(conn, table, target):
        try:
            size = _move_log(conn, table, target, objects, plan, generation, ref)
        except ObjectStoreError:
            raise
        except ExporterError:
            moved.unavailable += 1
        else:
            moved.logs += size is not None
            moved.size += size or 0
    for number, plan in _originals(conn, target, limit):
        try:
            size = _move_original(conn, target, objects, number, plan)
        except ObjectStoreError:
            raise
        except ExporterError:
            moved.unavailable += 1
        else:
            moved.originals += size is not None
            moved.size += size or 0
    return moved


def _logs(
    conn: Connection, table: PlanTable, target: Target
) -> Iterator[tuple[UUID, int, logs.Reference]]:
    after: UUID | None = None
    while True:
        parameters = {"after": after, "is_inside": target == "store"}
        rows = conn.execute(table.fill(QUERIES["logs"]), parameters).fetchall()
        if not rows:
            return
        after = rows[-1][0]
        yield from rows


def _move_log(
    conn: Connection, table: PlanTable, target: Target, objects: Objects, plan: UUID,
    generation: int, ref: logs.Reference,
) -> int | None:  # fmt: skip
    """Move one log; returns its packed size, or None when somebody changed the plan."""
    if target == "store":
        body = logs.packed_bytes(conn, bytes.fromhex(ref["key"]))
        if body is None:
            raise ExporterError(f"log_unavailable: the packed log of plan {plan} is not stored")
        new = logs.put(conn, objects, body, encoding="gzip", plain_bytes=ref["bytes"])
    else:
        body = b"".join(logs.read(ref, objects, f"the log of plan {plan}"))
        packed = logs.Packed.of(body)
        new = logs.reference(packed, ref["bytes"])
    values = {"plan": plan, "generation": generation, "old": Jsonb(ref), "new": Jsonb(new)}
    with conn.transaction():
        if conn.execute(table.fill(QUERIES["refer"]), values).rowcount != 1:
            return None
        if target == "store":
            logs.hold(conn, new)
        else:
            logs.keep_packed(conn, packed)
    return len(body)


def _originals(conn: Connection, target: Target, limit: int) -> Iterator[tuple[int, UUID]]:
    after = 0
    while True:
        parameters = {"after": after, "is_inside": target == "store", "limit": limit}
        rows = conn.execute(QUERIES["originals"], parameters).fetchall()
        if not rows:
            return
        after = rows[-1][0]
        yield from rows


def _move_original(
    conn: Connection, target: Target, objects: Objects, number: int, plan: UUID
) -> int | None:
    """Move one original; returns its size, or None when it is no longer there."""
    data = logs.original(conn, number, objects, plan)
    if data is None:
        return None
    ref = None
    if target == "store":
        ref = logs.put(conn, objects, data, encoding="identity", plain_bytes=len(data))
    values = {
        "original": number, "body": data if ref is None else None,
        "ref": None if ref is None else Jsonb(ref), "is_inside": target == "store",
    }  # fmt: skip
    with conn.transaction():
        if ref is not None:
            logs.hold(conn, ref)
            logs.write_out_parts(conn, number)
        changed = conn.execute(QUERIES["replace"], values).rowcount
    return len(data) if changed == 1 else None
