"""Old raw logs go: the newest stay, and the rest of each plan stays as it is.

Only split plans are purged. In a legacy plan the log may still be inside the snapshot, from where
the backfill would bring it back; so it is left whole, counted, and purged after its split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from exporter.artifacts import plans
from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)

#: How many logs may be kept.
KEEP: Final = (10, 25, 50, 100, 250, 500)
#: Plans changed in one transaction.
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Purged:
    """How many logs went, and why others did not."""

    purged: int
    #: A run is at work on them and may go on with their log.
    busy: int
    #: Legacy plans beyond the newest that have a log column.
    legacy: int
    #: Legacy plans in all, each with a log in its snapshot or not.
    unsplit: int


def purge(conn: psycopg.Connection[Any], keep: int, *, is_dry_run: bool = False) -> Purged:
    """Remove all raw logs but those of the `keep` plans that were created last.

    Raises ExporterError when the plan table does not say when a plan was created.
    """
    table = plans.find(conn)
    place = {"schema": table.schema, "table": table.name}
    row = conn.execute(QUERIES["has_time"], place).fetchone()
    if row is None or not row[0]:
        raise ExporterError(
            f"{table.schema}.{table.name} has no timestamp_created, so no log is older than another"
        )
    beyond = conn.execute(table.fill(QUERIES["beyond"]), {"keep": keep}).fetchall()
    ready = [(plan, generation) for plan, generation, split, busy in beyond if split and not busy]
    done = len(ready)
    if not is_dry_run:
        done = 0
        for start in range(0, len(ready), _BATCH):
            ids, generations = zip(*ready[start : start + _BATCH], strict=True)
            chosen = {"plans": list(ids), "generations": list(generations)}
            done += conn.execute(table.fill(QUERIES["purge"]), chosen).rowcount
    unsplit = conn.execute(table.fill(QUERIES["legacy"])).fetchone()
    return Purged(
        done,
        sum(split and busy for _, _, split, busy in beyond) + len(ready) - done,
        sum(not split for _, _, split, _ in beyond),
        unsplit[0] if unsplit else 0,
    )
