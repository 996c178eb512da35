"""A run's artifact: what may be handed out of a plan, and what starts over.

A split snapshot is handed out as stored, without a look inside. A legacy one goes through
surgery in memory, and whatever cannot be proven free of the log is refused whole.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from exporter.artifacts import logs, panel, plans
from exporter.artifacts.objects import Objects
from exporter.artifacts.plans import PlanTable
from exporter.core import runzip
from exporter.core.runzip import Buffer, Refusal
from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)

Connection = psycopg.Connection[Any]


def unavailable(plan: UUID, why: str) -> ExporterError:
    """Nothing of the content may be sent; `why` is a code or a few words."""
    return ExporterError(
        f"content_unavailable: the snapshot of plan {plan} ({why})",
        hint="see 'exporter jobs quarantine'",
    )


def no_artifact(plan: UUID, what: str) -> ExporterError:
    return ExporterError(f"plan {plan} has no {what}", hint="check its id")


def download(conn: Connection, plan: UUID) -> Sequence[Buffer]:
    """The snapshot as it may be handed out, as buffers to write in turn.

    Raises ExporterError, before anything is handed out, for what cannot be proven clean.
    """
    table = plans.find(conn)
    with conn.cursor(binary=True) as cursor:
        row = cursor.execute(table.fill(QUERIES["snapshot"]), {"plan": plan}).fetchone()
    if row is None or not row[1]:
        raise no_artifact(plan, "snapshot")
    layout, data, reason, digest = row
    if layout is not None and layout >= 2 and (_is_ours(data, digest) or _is_clean(data)):
        return [data]
    if is_cut_over(conn):
        raise unavailable(plan, "not split, and the cutover is done")
    if reason is not None:
        raise unavailable(plan, reason)
    try:
        return runzip.sanitise(data)
    except Refusal as refusal:
        raise unavailable(plan, refusal.code) from refusal


def _is_ours(data: bytes, digest: bytes | None) -> bool:
    """Whether bytes are what was proven; of a plan that its owner split, nothing is known.

    The hash of the bytes at hand: a length may be the same by chance, and no number that the
    server gives a stored value is on the ledger.
    """
    return digest is None or hashlib.sha256(data).digest() == digest


def record_proven(conn: Connection, plan: UUID, generation: int, data: bytes) -> None:
    """Inside the transaction that stores a proven snapshot: note which bytes were proven.

    A program that knows nothing of the split may put others in their place and leave the layout.
    """
    parameters = {
        "plan": plan, "generation": generation, "bytes": len(data),
        "sha256": hashlib.sha256(data).digest(),
    }  # fmt: skip
    conn.execute(QUERIES["record_proven"], parameters)


def _is_clean(data: bytes) -> bool:
    """Whether bytes that somebody else stored as split are proven to be free of the log."""
    try:
        runzip.verify(data)
    except Refusal:
        return False
    return True


def read_log(
    conn: Connection, plan: UUID, purpose: str, objects: Objects | None = None
) -> Iterator[bytes]:
    """The exact bytes of the raw log, in chunks; the read is recorded before the first one.

    Raises ExporterError when there is none, and (log_unavailable) when what is stored is not what
    was stored, or is in an object store that does not give it back.
    """
    data = stored_log(conn, plan, objects)
    if data is None:
        raise no_artifact(plan, "log")
    table = plans.find(conn)
    facts = conn.execute(table.fill(QUERIES["facts"]), {"plan": plan}).fetchone()
    size = facts[3] if facts else None
    audit = {"plan": plan, "kind": "log", "bytes": size or 0, "purpose": purpose}
    conn.execute(QUERIES["audit"], audit)
    return data


def stored_log(
    conn: Connection, plan: UUID, objects: Objects | None = None
) -> Iterator[bytes] | None:
    """The exact bytes of the raw log for the program itself, None when the plan has none.

    The plan's owner, which knows of text and size only, leaves our other columns as they were
    with an earlier run: beside a text a reference does not count, nor does a reference alone.
    """
    table = plans.find(conn)
    facts = conn.execute(table.fill(QUERIES["facts"]), {"plan": plan}).fetchone()
    if facts is None:
        return None
    size, encoding, reference, text_size = facts[3:7]
    if text_size is None:
        if size is None or not reference:
            return None
        if reference["store"] != "table":
            return _gunzip(plan, logs.read(reference, objects, f"the log of plan {plan}"))
        return _unpacked(conn, plan, reference)
    with conn.cursor(binary=True) as cursor:
        row = cursor.execute(table.fill(QUERIES["log_text"]), {"plan": plan}).fetchone()
    text = row[0] if row else b""
    if encoding != "utf8-lossy":
        return iter([text])
    return iter([_exact(conn, plan, text, size, objects)])


def _exact(
    conn: Connection, plan: UUID, text: bytes, size: int | None, objects: Objects | None
) -> bytes:  # fmt: skip
    """The kept bytes that the text was made of; or the text, when it is itself all there is.

    The encoding may be that of an earlier run, and so may be what was kept.
    """
    for (number,) in conn.execute(QUERIES["log_original"], {"plan": plan, "bytes": size}):
        data = logs.original(conn, number, objects, plan)
        if data is not None:
            reader = runzip.LogText()
            if reader.feed(data) + reader.finish() == text:
                return data
    if size is not None and len(text) != size:
        raise ExporterError(f"log_unavailable: the exact log of plan {plan} is not stored")
    return text


def _unpacked(conn: Connection, plan: UUID, reference: dict[str, Any]) -> Iterator[bytes]:
    """A log out of the table of packed logs, checked before and while it is unpacked."""
    digest = bytes.fromhex(reference["key"])
    packed = logs.packed_bytes(conn, digest)
    if packed is None:
        raise ExporterError(f"log_unavailable: the packed log of plan {plan} is not stored")
    return _gunzip(plan, [packed])


def _gunzip(plan: UUID, packed: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack in bounded chunks what comes in chunks; that it is what was stored was checked."""
    try:
        yield from runzip.gunzip(packed)
    except runzip.BrokenStream as error:
        raise ExporterError(
            f"log_unavailable: the packed log of plan {plan} cannot be unpacked",
            hint="it is still in the kept snapshot, see 'exporter artifacts originals'",
        ) from error


# --- Overview -------------------------------------------------------------------------------


def overview(conn: Connection, plan: UUID) -> dict[str, Any]:
    """Cost and tokens of a run, per model and in total; what is not known is None, not 0."""
    return panel.of_plan(conn, plan)


# --- Proof ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offender:
    """A split row that is not what it should be."""

    plan: UUID
    reason: str
    is_demoted: bool


def verify(
    conn: Connection, sample: int | None = None, objects: Objects | None = None
) -> tuple[int, list[Offender]]:
    """Look into split snapshots and packed logs: all of them, or `sample` from a random key on.

    Returns how many were looked at, and the offenders. One that may hold the log becomes a
    legacy row at once, so that it is never handed out as stored. One that was exchanged for
    another that is clean and whole is an offender once, and then what the ledger says. A log that
    is elsewhere is read to its end.
    """
    table = plans.find(conn)
    offenders: list[Offender] = []
    seen = 0
    after = UUID(int=random.getrandbits(128)) if sample else None
    rows = _split_plans(conn, table, after, sample)
    if sample and len(rows) < sample:
        found = {row[0] for row in rows}
        rest = _split_plans(conn, table, None, sample)
        rows += [row for row in rest if row[0] not in found][: sample - len(rows)]
    while rows:
        for row in rows:
            seen += 1
            offender = _look(conn, table, row, objects)
            if offender is not None:
                offenders.append(offender)
        rows = [] if sample else _split_plans(conn, table, rows[-1][0], None)
    return seen, offenders


def _split_plans(
    conn: Connection, table: PlanTable, after: UUID | None, count: int | None
) -> list[tuple[Any, ...]]:
    parameters = {"after": after, "count": count or 200}
    return conn.execute(table.fill(QUERIES["split_plans"]), parameters).fetchall()


def _look(
    conn: Connection, table: PlanTable, row: tuple[Any, ...], objects: Objects | None
) -> Offender | None:  # fmt: skip
    plan, _, generation, is_cut, digest = row
    with conn.cursor(binary=True) as cursor:
        found = cursor.execute(table.fill(QUERIES["snapshot"]), {"plan": plan}).fetchone()
    if found is None or not found[1] or found[0] is None or found[0] < 2:
        return None
    actual = hashlib.sha256(found[1]).digest()
    try:
        report = runzip.verify(found[1])
    except Refusal as refusal:
        parameters = {"plan": plan, "generation": generation, "sha256": actual}
        demoted = conn.execute(table.fill(QUERIES["demote"]), parameters).rowcount == 1
        return Offender(plan, refusal.code, demoted)
    if digest is not None and bytes(digest) != actual:
        if not report.corrupt:
            settled = {
                "plan": plan, "generation": generation, "bytes": len(found[1]), "actual": actual,
                "known": digest,
            }  # fmt: skip
            conn.execute(QUERIES["settle_exchanged"], settled)
        return Offender(plan, "HASH_DIFFERS", False)
    if is_cut:
        return Offender(plan, "LOG_LENGTH_DIFFERS", False)
    facts = conn.execute(table.fill(QUERIES["facts"]), {"plan": plan}).fetchone()
    is_packed = facts is not None and facts[5] and facts[6] is None
    found_fault = logs.fault(conn, facts[5], objects) if facts and is_packed else None
    return Offender(plan, found_fault, False) if found_fault else None


# --- Changes --------------------------------------------------------------------------------


def reset(conn: Connection, plan: UUID) -> int:
    """Start a plan over, as a retry does; returns its new generation.

    Raises ExporterError unless it failed, was stopped, or was asked to stop.
    """
    table = plans.find(conn)
    row = conn.execute(table.fill(QUERIES["reset"]), {"plan": plan}).fetchone()
    if row is None:
        raise ExporterError(
            f"plan {plan} was not reset: it is unknown, or neither failed nor stopped",
            hint="only a failed or stopped plan starts over",
        )
    return int(row[0])


def cut_over(conn: Connection) -> tuple[int, int]:
    """Record that legacy rows are history: from now on they are not handed out at all.

    Changes nothing while legacy or quarantined rows remain. Returns the two counts.
    """
    table = plans.find(conn)
    with conn.transaction():
        row = conn.execute(table.fill(QUERIES["open_work"])).fetchone()
        assert row is not None
        if not any(row):
            conn.execute(QUERIES["cut_over"])
    return row[0], row[1]


def is_cut_over(conn: Connection) -> bool:
    row = conn.execute(QUERIES["is_cut_over"]).fetchone()
    return bool(row and row[0])
