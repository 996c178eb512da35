"""Remove packed logs and originals that nothing refers to any more.

Resets, purges and broken-off runs leave them behind. Only what is older than a limit goes: a job
puts an object first and refers to it later. How what comes into use meanwhile is kept although it
is old is told in `exporter.artifacts.logs`; the part played here is to lock first and to ask for
references afterwards, in a statement of its own that sees everything committed until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from exporter.artifacts import plans
from exporter.artifacts.objects import Objects, is_key
from exporter.artifacts.plans import PlanTable
from exporter.db import queries

QUERIES = queries.load(__file__)

Connection = psycopg.Connection[Any]

#: Hours that something unused is left alone, unless said otherwise.
OLDER_THAN: Final = 24.0
#: Rows locked at a time, and objects removed while they are.
BATCH: Final = 50


@dataclass(slots=True)
class Collected:
    """What was removed, or would be: objects of the store, packed logs of the table, bytes."""

    objects: int = 0
    blobs: int = 0
    size: int = 0


class _Look(Exception):
    """Ends a transaction that is not to change anything."""


def collect(
    conn: Connection, objects: Objects | None = None, *, older_than: float = OLDER_THAN,
    is_dry_run: bool = False,
) -> Collected:  # fmt: skip
    """Remove what is unused and more than `older_than` hours old; of the store only if it is given.

    Stopped anywhere it leaves nothing wrong, and several may run at once.
    """
    table = plans.find(conn)
    row = conn.execute(QUERIES["limit"], {"age": timedelta(hours=older_than)}).fetchone()
    assert row is not None
    limit: datetime = row[0]
    found = Collected()
    if is_dry_run:
        _preview(conn, table, objects, limit, found)
        return found
    while _collect_blobs(conn, table, limit, found):
        pass
    if objects is not None:
        objects.delete_partial(_archive(conn), limit)
        _adopt(conn, objects, limit)
        while _collect_objects(conn, table, objects, limit, found):
            pass
    return found


def _collect_blobs(conn: Connection, table: PlanTable, limit: datetime, found: Collected) -> bool:
    """Remove a batch of the table of packed logs; False: there are no more."""
    with _read_committed(conn):
        parameters = {"limit": limit, "count": BATCH}
        rows = conn.execute(table.fill(QUERIES["lock_blobs"]), parameters).fetchall()
        keys = {"keys": [row[0] for row in rows]}
        gone = conn.execute(table.fill(QUERIES["delete_blobs"]), keys).fetchall()
    found.blobs += len(gone)
    found.size += sum(size for (size,) in gone)
    return bool(gone)


def _collect_objects(
    conn: Connection, table: PlanTable, objects: Objects, limit: datetime, found: Collected
) -> bool:
    """Remove a batch of objects, each before its entry in the list: that is how none is lost."""
    with _read_committed(conn):
        parameters = {"limit": limit, "count": BATCH, "store": objects.kind}
        rows = conn.execute(table.fill(QUERIES["lock_objects"]), parameters).fetchall()
        chosen = {"store": objects.kind, "keys": [row[0] for row in rows]}
        unused = conn.execute(table.fill(QUERIES["unused_objects"]), chosen).fetchall()
        for key, _ in unused:
            objects.delete(key)
        keys = [key for key, _ in unused]
        conn.execute(QUERIES["delete_objects"], {"store": objects.kind, "keys": keys})
    found.objects += len(unused)
    found.size += sum(size for _, size in unused)
    return bool(unused)


def _adopt(conn: Connection, objects: Objects, limit: datetime) -> None:
    """List old objects of this database that are not listed, so that they go like all others.

    There are some when the database was put back from a backup.
    """
    batch: list[tuple[str, int, datetime]] = []
    for stored in objects.list(_archive(conn)):
        if stored.modified < limit and is_key(stored.key):
            batch.append((stored.key, stored.size, stored.modified))
        if len(batch) == BATCH:
            _adopt_batch(conn, objects, batch)
            batch = []
    if batch:
        _adopt_batch(conn, objects, batch)


def _archive(conn: Connection) -> str:
    row = conn.execute(QUERIES["archive"]).fetchone()
    assert row is not None
    return str(row[0])


def _adopt_batch(
    conn: Connection, objects: Objects, batch: list[tuple[str, int, datetime]]
) -> None:
    keys, sizes, times = zip(*batch, strict=True)
    parameters = {
        "store": objects.kind, "keys": list(keys), "sizes": list(sizes), "times": list(times),
    }  # fmt: skip
    with conn.transaction():
        adopted = [row[0] for row in conn.execute(QUERIES["adopt_objects"], parameters)]
        # Another collector may have removed it, object and entry, since it was seen.
        gone = [key for key in adopted if not objects.has(key)]
        conn.execute(QUERIES["delete_objects"], {"store": objects.kind, "keys": gone})


def _preview(
    conn: Connection, table: PlanTable, objects: Objects | None, limit: datetime, found: Collected
) -> None:
    """Count without changing anything: what is adopted for that is forgotten again."""
    try:
        with conn.transaction():
            if objects is not None:
                _adopt(conn, objects, limit)
            parameters = {"limit": limit, "store": objects.kind if objects else None}
            row = conn.execute(table.fill(QUERIES["preview"]), parameters).fetchone()
            assert row is not None
            found.blobs, found.objects, found.size = row[0], row[1], int(row[2])
            raise _Look
    except _Look:
        pass


@contextmanager
def _read_committed(conn: Connection) -> Iterator[None]:
    """A transaction whose statements see each what was committed before it."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield
