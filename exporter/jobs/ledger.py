"""The job ledger: runs, leases, items, quarantine. The only queries on its tables.

A worker holds one lease, which a thread of its own renews; the items it claims carry the lease's
number. Whoever goes silent for `LEASE_SECONDS` loses them to the next who asks, and what it
writes afterwards finds another number on the item and changes nothing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from exporter.db import queries
from exporter.errors import ExporterError, LeaseHeld
from exporter.jobs.job import Connection, Job, Lease, LeaseLost, Opener, Tally, alive

QUERIES = queries.load(__file__)

#: A worker that says nothing for so long is taken for dead. With a unit that a living worker is
#: busy with in between, its work is in other hands within ten seconds.
LEASE_SECONDS = 7.0
HEARTBEAT_SECONDS = 1.5
#: So often an item may be in the hands of a worker that dies, among others.
FREE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One claimed row: its key as text, the generation it was seen in, and how often tried."""

    item: str
    generation: int
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an item. `facts` and `notes` hold codes, sizes and counts, never content."""

    status: str
    outcome: str
    reason: str | None = None
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] | None = None
    source_bytes: int | None = None
    source_sha256: bytes | None = None
    result_bytes: int | None = None
    result_sha256: bytes | None = None
    seconds: float | None = None


def begin_run(conn: Connection, job: Job) -> int:
    """Record a new run of a job and return its number."""
    with conn.transaction():
        conn.execute(QUERIES["begin_job"], {"job": job.name, "version": job.version})
        return int(_one(conn.execute(QUERIES["begin_run"], {"job": job.name}))[0])


def end_run(
    conn: Connection, job: Job, run_id: int, state: str, tally: Tally, *, is_finished: bool
) -> None:
    """Record the end of a run: `state` is finished, stopped or failed.

    `is_finished` says that nothing is left of the whole job.
    """
    parameters = {
        "job": job.name, "run_id": run_id, "state": state, "finished": is_finished,
        "counts": json.dumps(dict(tally.outcomes)),
    }  # fmt: skip
    with conn.transaction():
        conn.execute(QUERIES["end_run"], parameters)
        conn.execute(QUERIES["end_job"], parameters)


@contextmanager
def lease(opener: Opener, conn: Connection, job: Job, run_id: int) -> Iterator[Lease]:
    """Take a lease and keep it while the block runs. Raises LeaseHeld."""
    with kept(opener, conn, take(conn, job, run_id)) as taken:
        yield taken


def take(
    conn: Connection, job: Job, run_id: int, pause: Callable[[], bool] | None = None
) -> Lease:  # fmt: skip
    """Take a lease, which lasts for seconds unless it is kept.

    Raises LeaseHeld when the job allows one worker and there is one. With `pause`, which waits a
    moment and says whether to go on, a holder has to give a sign of life first: the lease of one
    that was killed, or that a lost answer left behind, is waited for until it runs out.
    """
    parameters = {
        "job": job.name, "run_id": run_id, "is_exclusive": job.is_exclusive,
        "holder": f"{socket.gethostname()} pid {os.getpid()}", "seconds": LEASE_SECONDS,
    }  # fmt: skip
    seen = None
    while True:
        with conn.transaction():
            conn.execute(QUERIES["trim_leases"], parameters)
            conn.execute(QUERIES["expire_exclusive"], parameters)
            row = conn.execute(QUERIES["take_lease"], parameters).fetchone()
        if row is not None:
            return Lease(job.name, row[0], run_id)
        found = conn.execute(QUERIES["holder"], parameters).fetchone()
        is_alive = found is not None and seen not in (None, found)
        if is_alive or pause is None or not pause():
            raise LeaseHeld(f"the job {job.name}", found[0] if found else "just ended")
        seen = found


@contextmanager
def kept(opener: Opener, conn: Connection, taken: Lease) -> Iterator[Lease]:
    """Renew a lease while the block runs; units still claimed at its end are free at once."""
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(opener, taken, stop), daemon=True)
    beat.start()
    try:
        yield taken
    finally:
        stop.set()
        beat.join(timeout=HEARTBEAT_SECONDS)
        # That the connection is gone shows at the first try; if the second one fails too, the
        # lease runs out by itself.
        for _ in range(2):
            with suppress(psycopg.Error, ExporterError), alive(conn, opener) as usable:
                _release(usable, taken)
                break


def hold(conn: Connection, held: Lease) -> None:
    """Inside a transaction: make sure until its end that the lease is ours. Raises LeaseLost."""
    if conn.execute(QUERIES["hold_lease"], {"lease": held.number}).fetchone() is None:
        raise LeaseLost


def claim(conn: Connection, held: Lease, count: int) -> list[Item]:
    """Take up to `count` waiting items, in the order of their keys.

    A worker asks when it has none left. What the ledger says is in its hands all the same was
    claimed in a transaction whose answer never came, and is given to it again.
    An item that was in hand when workers died comes alone and last, so that it can be told which
    of them it was that killed them.
    """
    parameters = {
        "job": held.job, "lease": held.number, "run_id": held.run_id, "count": count,
        "tries": FREE_TRIES,
    }  # fmt: skip
    rows = conn.execute(QUERIES["claim"], parameters).fetchall()
    if not rows:
        alone = {**parameters, "count": 1, "tries": 2**31 - 1}
        rows = conn.execute(QUERIES["claim"], alone).fetchall()
    return sorted((Item(*row) for row in rows), key=lambda found: found.item)


def is_leased_elsewhere(conn: Connection, held: Lease) -> bool:
    """Whether other workers have items in hand, alive or not."""
    parameters = {"job": held.job, "lease": held.number, "seconds": LEASE_SECONDS}
    conn.execute(QUERIES["trim_leases"], parameters)
    return bool(_one(conn.execute(QUERIES["is_leased_elsewhere"], parameters))[0])


def settle(conn: Connection, held: Lease, item: Item, settled: Settled) -> None:
    """Inside a transaction: record what became of an item. Raises LeaseLost when it is not ours.

    Called first in its transaction: it is the guard that keeps late workers from writing.
    """
    parameters = {
        "job": held.job, "lease": held.number, "item": item.item, "generation": item.generation,
        "status": settled.status, "outcome": settled.outcome, "reason": settled.reason,
        "notes": list(settled.notes), "facts": json.dumps(dict(settled.facts or {})),
        "source_bytes": settled.source_bytes, "source_sha256": settled.source_sha256,
        "result_bytes": settled.result_bytes, "result_sha256": settled.result_sha256,
        "seconds": settled.seconds,
    }  # fmt: skip
    if conn.execute(QUERIES["settle"], parameters).rowcount != 1:
        raise LeaseLost


def read_back(conn: Connection, held: Lease, item: Item) -> Tally | None:
    """What we did to an item before the connection broke; None: it is still ours to do.

    Raises LeaseLost when it is in other hands.
    """
    parameters = {"job": held.job, "item": item.item, "generation": item.generation}
    row = conn.execute(QUERIES["read_item"], parameters).fetchone()
    if row is None or row[1] != held.number:
        raise LeaseLost
    status, _, outcome, bytes_in, bytes_out = row
    return None if status == "leased" else Tally({outcome: 1}, bytes_in, bytes_out)


def report(
    conn: Connection, held: Lease, key: str, reason: str, facts: Mapping[str, Any]
) -> None:  # fmt: skip
    """Put something found into quarantine; found again, it stays one entry."""
    parameters = {
        "job": held.job, "item": key, "reason": reason, "facts": json.dumps(dict(facts)),
        "run_id": held.run_id,
    }  # fmt: skip
    conn.execute(QUERIES["report"], parameters)


def status(conn: Connection) -> list[dict[str, Any]]:
    """Every job: state, last finish, live workers, items by status, quarantine by reason."""
    found: dict[str, dict[str, Any]] = {}
    for job, state, finished_at, counts, run_id, workers in conn.execute(QUERIES["jobs"]):
        found[job] = {
            "job": job, "state": state, "run": run_id, "workers": workers,
            "finished_at": finished_at.isoformat() if finished_at else None,
            "last_counts": counts, "items": {}, "quarantine": {},
        }  # fmt: skip
    for job, item_status, _, count in conn.execute(QUERIES["item_counts"]):
        items = found[job]["items"]
        items[item_status] = items.get(item_status, 0) + count
    for job, reason, count in conn.execute(QUERIES["reasons"]):
        found[job]["quarantine"][reason] = count
    return list(found.values())


def quarantined(
    conn: Connection, *, job: str | None = None, reason: str | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """Entries of the quarantine, in the order of their keys."""
    parameters = {"job": job, "reason": reason, "limit": limit}
    return [
        {"job": name, "item": item, "generation": generation, "reason": why, "facts": facts,
         "at": at.isoformat()}
        for name, item, generation, why, facts, at in conn.execute(
            QUERIES["quarantined"], parameters)
    ]  # fmt: skip


def requeue(conn: Connection, reason: str) -> int:
    """Let the next run try again what is quarantined for this reason; returns how many entries."""
    return conn.execute(QUERIES["requeue"], {"reason": reason}).rowcount


def split_plans(conn: Connection, plans: sql.Identifier, count: int = 1000) -> Iterator[UUID]:
    """Plans whose snapshots were replaced and, as far as sizes tell, not touched since, by key."""
    after = ""
    statement = QUERIES["split_plans"].format(plans=plans)
    while rows := conn.execute(statement, {"after": after, "count": count}).fetchall():
        for (plan,) in rows:
            yield plan
        after = str(rows[-1][0])


# --- Leases ---------------------------------------------------------------------------------


def _release(conn: Connection, held: Lease) -> None:
    parameters = {"job": held.job, "lease": held.number}
    with conn.transaction():
        conn.execute(QUERIES["release_items"], parameters)
        conn.execute(QUERIES["release_lease"], parameters)


def _renew(conn: Connection, held: Lease) -> None:
    conn.execute(QUERIES["renew_lease"], {"lease": held.number, "seconds": LEASE_SECONDS})


def _beat(opener: Opener, held: Lease, stop: threading.Event) -> None:
    """Renew the lease until told to stop, over a connection of its own.

    A failure is no news here: the next beat tries again, and if none succeeds the lease runs out.
    """
    conn: Connection | None = None
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            if conn is None or conn.closed:
                conn = opener()
            _renew(conn, held)
        except (psycopg.Error, ExporterError):
            if conn is not None:
                conn.close()
            conn = None
    if conn is not None:
        conn.close()


def _one(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    assert row is not None
    return row
