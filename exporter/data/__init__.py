"""Data files that ship with the program, each with the function that reads it.

``price_snapshot.json.gz`` holds model prices from LiteLLM's public catalogue (MIT licence) as
one object: ``version``, and ``prices``, a list of pairs. A pair is the four rates (input, output,
cache write, cache read; US dollars per million tokens) and the model names that share them,
which is a quarter of the numbers that a list by name would repeat.
``script/make-price-snapshot`` writes it.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from operator import attrgetter
from pathlib import Path

from exporter.core.pricing import PriceRow, PriceSnapshot, Rates, RateSource

__all__ = ["PRICE_SNAPSHOT", "load_price_snapshot"]

PRICE_SNAPSHOT = Path(__file__).with_name("price_snapshot.json.gz")


@cache
def load_price_snapshot() -> PriceSnapshot:
    """Return the built-in prices as ``(version, rows)``, read once per process."""
    # Whole rates are stored without a fraction and are doubles all the same.
    document = json.loads(gzip.decompress(PRICE_SNAPSHOT.read_bytes()), parse_int=float)
    rows = [
        PriceRow(name, shared, RateSource.EMBEDDED)
        for shared, names in ((Rates(*rates), names) for rates, names in document["prices"])
        for name in names
    ]
    return PriceSnapshot(document["version"], tuple(sorted(rows, key=attrgetter("pattern"))))
