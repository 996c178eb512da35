"""Roll-back: the snapshot that a split replaced goes back into its plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporter.artifacts import logs, plans
from exporter.artifacts.objects import Objects
from exporter.db import queries
from exporter.errors import ExporterError
from exporter.jobs.job import Connection

QUERIES = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Restored:
    """A snapshot that was put back: its bytes, and whether a purged log is back inside it."""

    size: int
    unpurges: bool


def restore(
    conn: Connection, plan: Any, objects: Objects | None = None, *, unpurges: bool = True
) -> Restored:
    """Put the snapshot back that the split of a plan replaced.

    The log columns are cleared when the split took the log out of that snapshot, and only then.
    The plan stays out of later runs until its reason RESTORED is retried. Raises ExporterError
    when nothing was kept, when it is in an object store that does not give it back, when the
    plan was changed since: then the newer bytes win; and, unless `unpurges`, when its log was
    purged.
    """
    table = plans.find(conn)
    row = conn.execute(table.fill(QUERIES["find_original"]), {"plan": plan}).fetchone()
    # Over the network and so outside the transaction; what is kept never changes.
    data = logs.original(conn, row[0], objects, plan) if row and row[3] and row[4] else None
    with conn.transaction():
        found = conn.execute(table.fill(QUERIES["find_original"]), {"plan": plan}).fetchone()
        if found is None:
            raise ExporterError(
                f"no split of plan {plan} is on the ledger",
                hint="it was never split, or is back: see 'exporter jobs quarantine RESTORED'",
            )
        original, size, generation, is_untouched, is_outside, has_log, is_purged = found[:7]
        is_same = row is not None and row[0] == original and (data is None) != is_outside
        if not is_untouched or not is_same:
            raise ExporterError(
                f"plan {plan} was changed after its split",
                hint="reset it first if the kept snapshot is really the one to have",
            )
        if is_purged and not unpurges:
            raise ExporterError(
                f"the log of plan {plan} was purged, and would be back with its snapshot",
                hint=f"'exporter jobs restore {plan}' puts both back",
            )
        values = {
            "plan": plan, "original": original, "data": data, "has_log": has_log,
            "stands": found[7], "log_stood": found[8],
        }  # fmt: skip
        conn.execute(table.fill(QUERIES["restore"]), values)
        marked = {"plan": plan, "generation": generation, "source_bytes": size}
        conn.execute(QUERIES["mark_restored"], marked)
    return Restored(int(size), is_purged)
