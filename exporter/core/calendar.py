"""Ranges of a report and their buckets: calendar days of a time zone as exact instants.

A report is about a day, an ISO week, a month, or two instants given by hand, and shows it in
buckets of equal length or of local days and weeks. Everything here is arithmetic on Unix
nanoseconds; the caller passes the zone's rules and the present instant in.

A local day begins at the first instant whose date in the zone is that date, or a later one. So a
day whose midnight is skipped begins when the clock jumps, a day with two midnights begins at the
first, and a date that the zone left out is empty. Each boundary is worked out from its date alone:
nothing is added to an earlier boundary, which would carry the shift of an odd day along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from exporter.core.times import parse_strict_ns

NS: Final = 1_000_000_000
_HOUR: Final = 3600 * NS
#: A report spans no more than this, and has no more buckets.
LONGEST_NS: Final = 8760 * _HOUR
MOST_BUCKETS: Final = 2000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_WEEK: Final = timedelta(days=7)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: Accepted instants: the calendar has room for a year's report and any zone on either side.
_FIRST_NS: Final = -62_133_000_000 * NS
_LAST_NS: Final = 253_370_000_000 * NS


class RangeError(ValueError):
    """A request for a range or buckets that cannot be met; the text is the contract's."""


class Unit(NamedTuple):
    """A kind of bucket, as the wire names it."""

    name: str
    #: Nominal; a local day may be longer or shorter.
    seconds: int


UNITS: Final = {
    "5m": Unit("minute", 300),
    "15m": Unit("minute", 900),
    "1h": Unit("hour", 3600),
    "1d": Unit("day", 86_400),
    "1w": Unit("week", 604_800),
}
#: The longest range for which a bucket is chosen when none is asked for.
_CHOICES: Final = ((36 * _HOUR, "5m"), (336 * _HOUR, "1h"), (2160 * _HOUR, "1d"))


class Bucket(NamedTuple):
    """A stretch of the range in Unix nanoseconds; its end is not part of it."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Request:
    """A range as it was asked for, still text; '' stands for what was not given."""

    preset: str = ""
    date: str = ""
    start: str = ""
    end: str = ""
    bucket: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """What a report covers. Instants are Unix nanoseconds."""

    start: int
    end: int
    unit: Unit
    buckets: tuple[Bucket, ...]
    #: Up to where there can be data: the present instant, within the range.
    effective_end: int
    #: The range has not ended yet.
    is_partial: bool

    @property
    def elapsed_buckets(self) -> int:
        """How many buckets have begun."""
        return sum(bucket.start < self.effective_end for bucket in self.buckets)


def resolve(request: Request, zone: ZoneInfo, now_ns: int) -> Range:
    """The range that is asked for, cut into buckets, as of the instant ``now_ns``.

    Raises `RangeError` for the first thing that cannot be meant, in the order of the contract.
    """
    start, end = _bounds(request, zone, now_ns)
    if start >= end:
        raise RangeError("from must be before to")
    if end - start > LONGEST_NS:
        raise RangeError("range exceeds maximum of one year")
    name = request.bucket or _choice(end - start)
    if name not in UNITS:
        raise RangeError(f"invalid bucket: {name}")
    buckets = tuple(_buckets(name, start, end, zone))
    effective_end = max(start, min(end, now_ns))
    return Range(start, end, UNITS[name], buckets, effective_end, now_ns < end)


def local_date(instant: int, zone: ZoneInfo) -> date:
    """The calendar date in the zone at an instant."""
    return (_EPOCH + instant // NS * _SECOND).astimezone(zone).date()


def midnight(day: date, zone: ZoneInfo) -> int:
    """The first instant whose date in the zone is this one or a later one."""
    wall = datetime(day.year, day.month, day.day)
    first = _utc_seconds(wall.replace(tzinfo=zone))
    other = _utc_seconds(wall.replace(tzinfo=zone, fold=1))
    if other >= first:
        return first * NS
    # Skipped: read with the rules before and after the jump, midnight frames the jump itself.
    low, high = other, first
    before = _utc_offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _utc_offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high * NS


class Offsets(NamedTuple):
    """What a zone's clocks are ahead of UTC: one more offset than there are changes of it."""

    changes: list[datetime]
    offsets: list[timedelta]


def offsets(zone: ZoneInfo, first: datetime, end: datetime) -> Offsets:
    """The offsets of a zone from one instant to another, both in UTC.

    No zone of today changes its clocks twice within a week, which is how far apart this looks.
    """
    found = Offsets([], [_offset(first, zone)])
    for week in range((end - first) // _WEEK):
        low, high = first + week * _WEEK, first + (week + 1) * _WEEK
        after = _offset(high, zone)
        if after == found.offsets[-1]:
            continue
        while high - low > _SECOND:
            middle = low + (high - low) // (2 * _SECOND) * _SECOND
            low, high = (low, middle) if _offset(middle, zone) == after else (middle, high)
        found.changes.append(high)
        found.offsets.append(after)
    return found


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _utc_seconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // _SECOND


def _utc_offset(seconds: int, zone: ZoneInfo) -> timedelta | None:
    return (_EPOCH + seconds * _SECOND).astimezone(zone).utcoffset()


# -- the range ----------------------------------------------------------------------------------


def _bounds(request: Request, zone: ZoneInfo, now_ns: int) -> tuple[int, int]:
    if request.preset == "custom":
        if not request.start or not request.end:
            raise RangeError("custom range requires both from and to")
        return _instant(request.start, "from"), _instant(request.end, "to")
    day = _day(request.date) if request.date else local_date(now_ns, zone)
    preset = request.preset
    if not preset and not request.start and not request.end:
        preset = "day"
    if preset not in _PRESETS:
        raise RangeError(f"invalid preset: {preset}")
    try:
        first, following = _PRESETS[preset](day)
        return midnight(first, zone), midnight(following, zone)
    except (OverflowError, ValueError):
        # At either end of the calendar a day has no neighbour, or no instant.
        raise RangeError(f"invalid date: {request.date}") from None


def _instant(text: str, name: str) -> int:
    instant = parse_strict_ns(text)
    if instant is None or not _FIRST_NS <= instant <= _LAST_NS:
        raise RangeError(f"invalid {name}: {text}")
    return instant


def _day(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise RangeError(f"invalid date: {text}")


def _the_day(day: date) -> tuple[date, date]:
    return day, day + timedelta(days=1)


def _the_week(day: date) -> tuple[date, date]:
    monday = day - timedelta(days=day.weekday())
    return monday, monday + timedelta(days=7)


def _the_month(day: date) -> tuple[date, date]:
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


_PRESETS: Final[dict[str, Callable[[date], tuple[date, date]]]] = {
    "day": _the_day,
    "week": _the_week,
    "month": _the_month,
}


# -- buckets ------------------------------------------------------------------------------------


def _choice(length: int) -> str:
    return next((name for longest, name in _CHOICES if length <= longest), "1w")


def _buckets(name: str, start: int, end: int, zone: ZoneInfo) -> Iterator[Bucket]:
    """The range without gaps, in order; RangeError before there are too many."""
    step = UNITS[name].seconds * NS
    if name not in ("1d", "1w"):
        if -(-(end - start) // step) > MOST_BUCKETS:
            raise RangeError("bucket configuration would produce too many buckets")
        for begin in range(start, end, step):
            yield Bucket(begin, min(begin + step, end))
        return
    for begin, following in pairwise(_local_boundaries(name, start, end, zone)):
        bucket = Bucket(max(begin, start), min(following, end))
        if bucket.start < bucket.end:
            yield bucket


def _local_boundaries(name: str, start: int, end: int, zone: ZoneInfo) -> Iterator[int]:
    """Beginnings of local days or ISO weeks that frame the range.

    A year has at most 367 of them, so there are never too many.
    """
    day = local_date(start, zone)
    step = timedelta(days=1)
    if name == "1w":
        day -= timedelta(days=day.weekday())
        step = timedelta(days=7)
    boundary = midnight(day, zone)
    yield boundary
    while boundary < end:
        day += step
        boundary = midnight(day, zone)
        yield boundary
