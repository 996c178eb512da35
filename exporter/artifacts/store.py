"""A run's artifact: what may be handed out of a plan, and what starts over.

A split snapshot is handed out as stored, without a look inside. A legacy one goes through
surgery in memory, and whatever cannot be proven free of the log is refused whole.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg

from exporter.artifacts import plans
from exporter.artifacts.plans import PlanTable
from exporter.core import runzip
from exporter.core.runzip import Buffer, Refusal
from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)

Connection = psycopg.Connection[Any]

#: Never in a list, a table, a log line or an error: whoever renders rows leaves these out.
DENIED: Final = frozenset(
    {"run_track_activity_jsonl", "run_track_activity_ref", "run_zip_snapshot", "body"}
)
_CHUNK = 1024 * 1024


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
    layout, data, reason = row
    if layout is not None and layout >= 2:
        return [data]
    if is_cut_over(conn):
        raise unavailable(plan, "not split, and the cutover is done")
    if reason is not None:
        raise unavailable(plan, reason)
    try:
        return runzip.sanitise(data)
    except Refusal as refusal:
        raise unavailable(plan, refusal.code) from refusal


def read_log(conn: Connection, plan: UUID, purpose: str) -> Iterator[bytes]:
    """The exact bytes of the raw log, in chunks; the read is recorded before the first one.

    Raises ExporterError when there is none, or when what is stored is not what was stored.
    """
    data = stored_log(conn, plan)
    if data is None:
        raise no_artifact(plan, "log")
    table = plans.find(conn)
    facts = conn.execute(table.fill(QUERIES["facts"]), {"plan": plan}).fetchone()
    size = facts[3] if facts else None
    audit = {"plan": plan, "kind": "log", "bytes": size or 0, "purpose": purpose}
    conn.execute(QUERIES["audit"], audit)
    return data


def stored_log(conn: Connection, plan: UUID) -> Iterator[bytes] | None:
    """The exact bytes of the raw log for the program itself, None when the plan has none."""
    table = plans.find(conn)
    facts = conn.execute(table.fill(QUERIES["facts"]), {"plan": plan}).fetchone()
    if facts is None or not (facts[5] or facts[6]):
        return None
    size, encoding, reference = facts[3:6]
    if reference:
        return _unpacked(conn, plan, reference)
    if encoding == "utf8-lossy":
        return _original(conn, plan, size)
    with conn.cursor(binary=True) as cursor:
        row = cursor.execute(table.fill(QUERIES["log_text"]), {"plan": plan}).fetchone()
    return iter([row[0]]) if row else None


def _original(conn: Connection, plan: UUID, size: int) -> Iterator[bytes]:
    row = conn.execute(QUERIES["log_original"], {"plan": plan, "bytes": size}).fetchone()
    if row is None or hashlib.sha256(row[0]).digest() != bytes(row[1]):
        raise ExporterError(f"log_unavailable: the exact log of plan {plan} is not stored")
    return iter([row[0]])


def _unpacked(conn: Connection, plan: UUID, reference: dict[str, Any]) -> Iterator[bytes]:
    """A log out of the table of packed logs, checked before and while it is unpacked."""
    digest = bytes.fromhex(reference["key"])
    with conn.cursor(binary=True) as cursor:
        row = cursor.execute(QUERIES["blob"], {"sha256": digest}).fetchone()
    if row is None or hashlib.sha256(row[0]).digest() != digest:
        raise ExporterError(f"log_unavailable: the packed log of plan {plan} is not stored")
    return _gunzip(row[0])


def _gunzip(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(31)
    data = packed
    while data and not unpacker.eof:
        yield unpacker.decompress(data, _CHUNK)
        data = unpacker.unconsumed_tail
    yield unpacker.flush()


# --- Overview -------------------------------------------------------------------------------


def overview(conn: Connection, plan: UUID) -> dict[str, Any]:
    """Cost and tokens of a run, per model and in total; what is not known is None, not 0."""
    table = plans.find(conn)
    facts = conn.execute(table.fill(QUERIES["facts"]), {"plan": plan}).fetchone()
    if facts is None:
        raise no_artifact(plan, "row")
    found = _column_object(facts[7])
    source = "column" if found is not None else None
    is_legacy = facts[0] is None or facts[0] < 2
    # The archive of a split row is never opened for this: what is not in the column is not there.
    if found is None and is_legacy and facts[1]:
        found = _member_object(conn, table, plan)
        source = "snapshot" if found is not None else None
    return {"plan": str(plan), "source": source, **_panel(found or {})}


def _column_object(text: str | None) -> dict[str, runzip.Json] | None:
    if text is None:
        return None
    found = runzip.parse_overview(text.encode())
    if found is None and text.startswith('"'):
        import json

        found = runzip.parse_overview(str(json.loads(text)).encode())
    return found


def _member_object(
    conn: Connection, table: PlanTable, plan: UUID
) -> dict[str, runzip.Json] | None:  # fmt: skip
    row = conn.execute(table.fill(QUERIES["snapshot"]), {"plan": plan}, binary=True).fetchone()
    try:
        archive = runzip.inspect(row[1] if row else b"")
        if archive.overview is None:
            return None
        limit = archive.limits.overview_bytes
        raw = bytearray()
        for chunk in runzip.read_member(archive, archive.overview):
            raw += chunk
            if len(raw) > limit:
                return None
    except Refusal:
        return None
    return runzip.parse_overview(bytes(raw))


def _panel(found: dict[str, Any]) -> dict[str, Any]:
    models = found.get("models")
    entries = models if isinstance(models, dict) else {}
    shown = [
        {"model": name, **_model(value)}
        for name, value in entries.items()
        if isinstance(value, dict)
    ]
    calls = sum(model["calls"] or 0 for model in shown)
    cost, status = _cost(found.get("total_cost"), calls)
    kinds = ("input_tokens", "output_tokens", "thinking_tokens")
    tokens = {name: found.get(f"total_{name}") for name in kinds}
    known = [value for value in tokens.values() if value is not None]
    total = found.get("total_tokens")
    return {
        "total_cost": cost, "cost_status": status, "currency": None if cost is None else "USD",
        "calls": calls or None, **tokens,
        "total_tokens": total if total is not None else (sum(known) if known else None),
        "models": shown, "has_data": bool(found),
    }  # fmt: skip


def _model(value: dict[str, Any]) -> dict[str, Any]:
    calls = value.get("calls")
    cost, status = _cost(value.get("total_cost"), calls or 0)
    names = ("input_tokens", "output_tokens", "thinking_tokens", "total_tokens")
    return {
        "calls": calls, "cost": cost, "cost_status": status,
        **{name: value.get(name) for name in names},
    }  # fmt: skip


def _cost(value: Any, calls: int) -> tuple[float | None, str]:
    """Programs write 0 both for "free" and for "the provider did not say"."""
    if value:
        return value, "reported"
    return None, "unknown" if calls else "none"


# --- Proof ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offender:
    """A split row that is not what it should be."""

    plan: UUID
    reason: str
    is_demoted: bool


def verify(conn: Connection, sample: int | None = None) -> tuple[int, list[Offender]]:
    """Look into split snapshots: all of them, or `sample` from a random key on.

    Returns how many were looked at, and the offenders. One that may hold the log becomes a
    legacy row at once, so that it is never handed out as stored.
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
            offender = _look(conn, table, row)
            if offender is not None:
                offenders.append(offender)
        rows = [] if sample else _split_plans(conn, table, rows[-1][0], None)
    return seen, offenders


def _split_plans(
    conn: Connection, table: PlanTable, after: UUID | None, count: int | None
) -> list[tuple[Any, ...]]:
    parameters = {"after": after, "count": count or 200}
    return conn.execute(table.fill(QUERIES["split_plans"]), parameters).fetchall()


def _look(conn: Connection, table: PlanTable, row: tuple[Any, ...]) -> Offender | None:
    plan, _, generation, is_cut, digest = row
    with conn.cursor(binary=True) as cursor:
        found = cursor.execute(table.fill(QUERIES["snapshot"]), {"plan": plan}).fetchone()
    if found is None or not found[1] or found[0] is None or found[0] < 2:
        return None
    actual = hashlib.sha256(found[1]).digest()
    try:
        runzip.verify(found[1])
    except Refusal as refusal:
        parameters = {"plan": plan, "generation": generation, "sha256": actual}
        demoted = conn.execute(table.fill(QUERIES["demote"]), parameters).rowcount == 1
        return Offender(plan, refusal.code, demoted)
    if digest is not None and bytes(digest) != actual:
        return Offender(plan, "HASH_DIFFERS", False)
    return Offender(plan, "LOG_LENGTH_DIFFERS", False) if is_cut else None


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
