"""The daily usage report, v1: what was spent per local day, by model, project and agent.

A request becomes a window of local dates and a choice of sessions; PostgreSQL sums the rows that
survive both and the removal of duplicates, and the sums are priced. What arrives here is a line
per day and name, however many rows were counted. All of it is read in one snapshot, and nothing is
ever written.

Two derived tables make it quick: sums over a session's rows per quarter of an hour, and the keys
that occur more than once, whose rows are ranked instead. Triggers keep them, see migration 0003.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from exporter.core.numbers import exact_sum
from exporter.core.pricing import PriceRow, PriceTable, Rates, RateSource
from exporter.db import queries
from exporter.db.prices import price_table
from exporter.errors import ExporterError
from exporter.exports.facts import project_resolutions

QUERIES = queries.load(__file__)
Connection = psycopg.Connection[Any]

#: Agents whose cost is also told in credits, at a cent each.
CREDIT_AGENTS: Final = ("copilot", "vscode-copilot", "visualstudio-copilot")
#: Names of the four counters on the wire, in their order.
TOKEN_FIELDS: Final = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION: Final = re.compile(r"\+?([0-9]+)([dh])")
#: 292 years, beyond which the contract's origin loses count.
_MOST_HOURS: Final = 2_562_047
#: Names that cannot be read as an abbreviation or as a rule, only as a zone.
_PLAIN_ZONE: Final = re.compile(r"[A-Z][A-Za-z_]*(/[A-Z][A-Za-z_]*)+|UTC|GMT")
#: Zones whose name PostgreSQL reads as an abbreviation with a fixed offset first.
_SAME_CLOCK: Final = {
    "CET": "Europe/Brussels",
    "MET": "Europe/Brussels",
    "EET": "Europe/Athens",
    "WET": "Europe/Lisbon",
}


class Bound(NamedTuple):
    """One end of the window as it was asked for: a date, or hours to count back."""

    day: str | None = None
    hours: int | None = None


class Window(NamedTuple):
    """Local dates, both inclusive, as ``YYYY-MM-DD``; None is an open end."""

    first: str | None
    last: str | None
    zone: str


@dataclass(frozen=True, slots=True)
class Request:
    """What to report. ``agents`` are compared as they stand; None means all."""

    window: Window
    project: str = ""
    machines: tuple[str, ...] = ()
    agents: tuple[str, ...] | None = None
    #: Also sum up per project and per agent.
    breakdown: bool = False
    custom_rates: Mapping[str, Rates] | None = None
    #: Built-in prices that come before stored ones of the same name.
    embedded: Sequence[PriceRow] = ()


class Spent(NamedTuple):
    """Survivors of one day under one name: tokens, exact dollars, and how they were priced."""

    level: str
    date: str
    name: str
    tokens: tuple[int, int, int, int]
    cost: Decimal
    #: Part of the cost that belongs to agents with credits.
    credit_cost: Decimal
    savings: Decimal
    computed: bool
    reported: bool


@dataclass(frozen=True, slots=True)
class Report:
    """One answer: the members of the document but the days, and the days."""

    head: dict[str, Any]
    daily: list[dict[str, Any]]
    totals: dict[str, Any]
    session_counts: dict[str, Any]

    def asdict(self) -> dict[str, Any]:
        """The v1 document, its members in their order."""
        return {
            **self.head,
            "daily": self.daily,
            "totals": self.totals,
            "sessionCounts": self.session_counts,
        }


# -- the window ---------------------------------------------------------------------------------


def parse_bound(text: str) -> Bound:
    """Read ``YYYY-MM-DD``, ``14d`` or ``36h``; '' is no bound. ValueError for anything else."""
    if not text:
        return Bound()
    if _DATE.fullmatch(text):
        date.fromisoformat(text)
        return Bound(day=text)
    found = _DURATION.fullmatch(text)
    # A number of many digits is not worth converting.
    if found and len(found[1].lstrip("0")) <= len(str(_MOST_HOURS)):
        hours = int(found[1]) * (24 if found[2] == "d" else 1)
        if 1 <= hours <= _MOST_HOURS:
            return Bound(hours=hours)
    raise ValueError(text)


def resolve_window(
    conn: Connection, zone: str, since: str, until: str, *, everything: bool, now: datetime
) -> Window:
    """The dates that the flags stand for, in the contract's order of checks.

    ``now`` has a zone. Raises `ExporterError` for a flag that cannot be meant.
    """
    zone = known_zone(conn, zone)
    upper = _bound("--until", until)
    lower = _bound("--since", since)
    if not (everything or since or until):
        today = now.astimezone(tz=None).astimezone(_UTC).date()
        return Window((today - timedelta(days=30)).isoformat(), today.isoformat(), zone)
    row = conn.execute(
        QUERIES["window"],
        {
            "zone": zone,
            "now": now,
            "until_date": upper.day,
            "until_hours": upper.hours,
            "since_date": lower.day,
            "since_hours": lower.hours,
        },
    ).fetchone()
    assert row is not None
    window = Window(row[0], row[1], zone)
    if window.first is not None and window.last is not None and window.first > window.last:
        raise ExporterError(
            f"--since ({window.first}) must not be after --until ({window.last})"
        )
    return window
