"""The window of local dates that ``--since``, ``--until`` and ``--all`` stand for.

A bound is a date, or a number of days or hours to count back. Days are 24 hours each, also across a
change of the clocks. Who asks passes the zone's rules and the present moment in.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from exporter.core.calendar import NS, local_date, midnight

#: Dates of the window that counts when none is asked for.
DEFAULT_DAYS: Final = 31

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION: Final = re.compile(r"\+?0*([1-9][0-9]*)([dh])")
#: 292 years, which is more than there is to look back on.
_MOST_HOURS: Final = 2_562_047
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS: Final = "the years 0001 to 9999"
_FORMS: Final = f"a date such as 2026-03-04 in {_YEARS}, or days or hours back such as 14d or 36h"


class WindowError(ValueError):
    """A window that cannot be meant; the text names the flag and the offending value."""


class Window(NamedTuple):
    """Local dates, both part of the window, as ``YYYY-MM-DD``; None is an open end."""

    first: str | None
    last: str | None


class _Bound(NamedTuple):
    """One end as it was asked for; both None where it was not."""

    day: date | None = None
    back: timedelta | None = None


def resolve(since: str, until: str, *, everything: bool, zone: ZoneInfo, now: datetime) -> Window:
    """The dates between two bounds as of ``now``, which has a zone of its own; '' is no bound.

    Without any bound, and without ``everything``, these are the last `DEFAULT_DAYS` dates up to
    the date in UTC. Raises `WindowError` for the first bound that cannot be read, ``until`` first,
    and for a window that ends before it begins.
    """
    upper = _bound("--until", until)
    lower = _bound("--since", since)
    now_ns = (now - _EPOCH) // timedelta(microseconds=1) * 1000
    if not (everything or since or until):
        last = local_date(now_ns, ZoneInfo("UTC"))
        return Window(str(last - timedelta(days=DEFAULT_DAYS - 1)), str(last))
    try:
        return _between(lower, upper, zone, now_ns)
    except (OverflowError, ValueError) as error:
        if isinstance(error, WindowError):
            raise
        # What counts back goes further than what it counts from.
        flag, text = ("--since", since) if lower.back is not None else ("--until", until)
        raise WindowError(
            f"invalid {flag}: {text!r} reaches beyond the calendar, {_YEARS}"
        ) from None


def _between(lower: _Bound, upper: _Bound, zone: ZoneInfo, now_ns: int) -> Window:
    anchor = now_ns
    last = upper.day
    if upper.day is not None:
        anchor = midnight(upper.day, zone)
    elif upper.back is not None:
        anchor = now_ns - _ns(upper.back)
        last = local_date(anchor, zone)
    first = lower.day
    if lower.back is not None:
        first = local_date(anchor - _ns(lower.back), zone)
    if first is not None and last is not None and first > last:
        raise WindowError(f"--since ({first}) must not be after --until ({last})")
    return Window(str(first) if first else None, str(last) if last else None)


def _bound(flag: str, text: str) -> _Bound:
    if not text:
        return _Bound()
    if found := _DURATION.fullmatch(text):
        return _Bound(back=_back(flag, text, found[1], 24 if found[2] == "d" else 1))
    try:
        if _DATE.fullmatch(text):
            return _Bound(day=date.fromisoformat(text))
    except ValueError:
        pass
    raise WindowError(f"invalid {flag}: {text!r} is not {_FORMS}")


def _back(flag: str, text: str, digits: str, hours: int) -> timedelta:
    """So many times so many hours. Raises `WindowError` beyond the longest."""
    # int() takes no more than thousands of digits.
    if len(digits) > 7 or int(digits) * hours > _MOST_HOURS:
        most = f"{_MOST_HOURS // 24}d or {_MOST_HOURS}h"
        raise WindowError(f"invalid {flag}: {text!r} is further back than the most, {most}")
    return timedelta(hours=int(digits) * hours)


def _ns(duration: timedelta) -> int:
    return duration // timedelta(seconds=1) * NS
