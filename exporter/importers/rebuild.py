"""Make everything derived anew from the rows it is derived from.

Imports keep roll-ups, rates, worktrees, path identities, the choice among copies and the v1 text
right as they go; this is for after a restore, a repair by hand, or a doubt. Each batch is one
transaction, so exports go on meanwhile and see every session either before or after.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

from exporter.importers import load
from exporter.importers.places import Places, refresh_places
from exporter.progress import Progress

_BATCH: Final = 5_000


def rebuild(conn: psycopg.Connection[Any], progress: Progress) -> dict[str, int]:
    """Derive all again; returns how many rows of each kind had been wrong.

    May be stopped and run again at any time.
    """
    load.create_stage(conn)
    (first, last) = _key_range(conn)
    progress.begin("places", None, "sources")
    places = 0
    for (source_id,) in conn.execute("SELECT source_id FROM sources ORDER BY source_id").fetchall():
        with conn.transaction():
            places += refresh_places(conn, source_id, Places.load(conn, source_id))
        progress.advance()
    with conn.transaction():
        load.refresh_rates(conn)
    progress.begin("sessions", last - first + 1, "sessions")
    roll_ups = copies = lines = 0
    for low in range(first, last + 1, _BATCH):
        bounds = {"low": low, "high": low + _BATCH - 1}
        keys = sql.SQL(
            "SELECT session_key FROM sessions WHERE session_key BETWEEN {low} AND {high}"
        ).format(low=sql.Literal(bounds["low"]), high=sql.Literal(bounds["high"]))
        with conn.transaction():
            roll_ups += load.repair_roll_ups(conn, bounds)
            copies += load.repair_copies(conn, keys)
            lines += load.render(conn, keys)
            load.note_usage(conn, bounds)
        progress.advance(min(_BATCH, last - low + 1))
    with conn.transaction():
        load.fold_usage(conn)
    return {"places": places, "roll_ups": roll_ups, "copies": copies, "lines": lines}


def _key_range(conn: psycopg.Connection[Any]) -> tuple[int, int]:
    row = conn.execute("SELECT min(session_key), max(session_key) FROM sessions").fetchone()
    return (row[0], row[1]) if row and row[0] is not None else (1, 0)
