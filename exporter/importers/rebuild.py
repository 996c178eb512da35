"""Make everything derived anew from the rows it is derived from.

Imports keep roll-ups, rates, worktrees, path identities, the choice among copies and the v1 text
right as they go; this is for after a restore, a repair by hand, or a doubt. Each batch is one
transaction, so exports go on meanwhile and see every session either before or after.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

from exporter.db import queries
from exporter.importers import load
from exporter.importers.places import Places, refresh_places
from exporter.progress import Progress

QUERIES = queries.load(__file__)
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
    wrong = {"places": places, "roll_ups": roll_ups, "copies": copies, "lines": lines}
    return {**wrong, **_fold_usage(conn)}


def _fold_usage(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """Sum up all usage for the reports again; returns how much of each kind had been wrong.

    The sums are replaced whole, so what they were is kept for the comparison, a number each.
    """
    kinds = ("report_sums", "repeated_rows")
    names = {
        kind: {"kept": sql.Identifier(f"kept_{kind}"), "digests": QUERIES[kind]} for kind in kinds
    }
    wrong = {}
    with conn.transaction():
        # What an import adds meanwhile had not been wrong: it waits, as it would for the sums.
        conn.execute("SELECT FROM archive FOR UPDATE")
        for kind in kinds:
            conn.execute(QUERIES["keep"].format(**names[kind]))
        load.fold_usage(conn)
        for kind in kinds:
            row = conn.execute(QUERIES["count_changed"].format(**names[kind])).fetchone()
            assert row is not None
            wrong[kind] = int(row[0])
    return wrong


def _key_range(conn: psycopg.Connection[Any]) -> tuple[int, int]:
    row = conn.execute("SELECT min(session_key), max(session_key) FROM sessions").fetchone()
    return (row[0], row[1]) if row and row[0] is not None else (1, 0)
