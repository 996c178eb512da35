"""The price rows in force, read from the archive.

The importers resolve models with them to price what they store, and the exports to say what was
priced how; both must read them alike, so they do it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from exporter.core.pricing import PriceTable, Rates, StoredPrice, effective_rows
from exporter.data import load_price_snapshot
from exporter.db import queries

QUERIES = queries.load(__file__)


def price_table(
    conn: psycopg.Connection[Any], overrides: Mapping[str, Rates] | None = None
) -> PriceTable:
    """All effective price rows: stored ones, or the embedded snapshot where none is stored.

    ``overrides`` are custom rates given for one run; they come before custom rates that sources
    brought.
    """
    stored = [
        StoredPrice(pattern, Rates(*rates), updated)
        for pattern, *rates, updated in conn.execute(QUERIES["stored"])
    ]
    custom = {pattern: Rates(*rates) for pattern, *rates in conn.execute(QUERIES["custom"])}
    snapshot = load_price_snapshot()
    rows = effective_rows(stored, snapshot.rows, {**custom, **(overrides or {})})
    return PriceTable(rows, snapshot.version)
