"""Ranges and buckets: days of every zone, found again by looking at every instant around them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.core.calendar import (
    LONGEST_NS,
    MOST_BUCKETS,
    NS,
    UNITS,
    RangeError,
    Request,
    local_date,
    midnight,
    resolve,
)
from exporter.core.times import parse_strict_ns, seconds_text

ZONES = (
    "UTC",
    "Africa/Cairo",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Fakaofo",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
)
FAR_FUTURE = 2**62

zones = st.sampled_from(ZONES).map(ZoneInfo)
days = st.dates(date(1990, 1, 1), date(2035, 12, 31))


def instant(text: str) -> int:
    found = parse_strict_ns(text)
    assert found is not None
    return found


def texts(start: int, end: int) -> tuple[str, str]:
    return seconds_text(start), seconds_text(end)


def first_minute_of(day: date, zone: ZoneInfo) -> int:
    """The first minute of this date or a later one; offsets have been whole minutes since 1990."""
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=16)
    while moment.astimezone(zone).date() < day:
        moment += timedelta(minutes=1)
    return int(moment.timestamp()) * NS


@settings(max_examples=300, deadline=None)
@given(days, zones)
@example(date(2011, 12, 30), ZoneInfo("Pacific/Apia"))
@example(date(2011, 12, 31), ZoneInfo("Pacific/Apia"))
@example(date(1993, 8, 21), ZoneInfo("Pacific/Kwajalein"))
@example(date(2026, 3, 8), ZoneInfo("America/Havana"))
@example(date(2026, 11, 1), ZoneInfo("America/Havana"))
@example(date(2006, 10, 29), ZoneInfo("America/St_Johns"))
@example(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo"))
@example(date(2018, 2, 18), ZoneInfo("America/Sao_Paulo"))
@example(date(2022, 3, 22), ZoneInfo("Asia/Tehran"))
@example(date(2026, 3, 29), ZoneInfo("Asia/Beirut"))
def test_a_day_begins_at_the_first_instant_of_its_date(day: date, zone: ZoneInfo) -> None:
    assert midnight(day, zone) == first_minute_of(day, zone)


@settings(max_examples=200, deadline=None)
@given(days, zones)
def test_days_are_without_gaps_and_hold_their_noon(day: date, zone: ZoneInfo) -> None:
    following = day + timedelta(days=1)
    begin, end = midnight(day, zone), midnight(following, zone)
    assert begin <= end
    noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=zone).timestamp()) * NS
    assert begin == end or begin < noon < end
    assert begin == end or local_date(begin, zone) == day


@settings(max_examples=200, deadline=None)
@given(
    days,
    st.integers(0, 86_400 * NS),
    st.integers(1, LONGEST_NS),
    st.sampled_from(("", *UNITS)),
    zones,
    st.integers(-LONGEST_NS, 2 * LONGEST_NS),
)
def test_buckets_tile_the_range(
    day: date, into_day: int, length: int, bucket: str, zone: ZoneInfo, now: int
) -> None:
    start = midnight(day, ZoneInfo("UTC")) + into_day
    from_text, to_text = (_full(x) for x in (start, start + length))
    request = Request("custom", "not a date", from_text, to_text, bucket)
    try:
        found = resolve(request, zone, start + now)
    except RangeError as error:
        assert str(error) == "bucket configuration would produce too many buckets"
        assert length > MOST_BUCKETS * UNITS[bucket].seconds * NS
        return
    assert (found.start, found.end) == (start, start + length)
    assert found.buckets[0].start == found.start
    assert found.buckets[-1].end == found.end
    for one, other in zip(found.buckets, found.buckets[1:], strict=False):
        assert one.start < one.end == other.start
    assert len(found.buckets) <= MOST_BUCKETS
    assert found.start <= found.effective_end <= found.end
    assert found.is_partial == (now < length)
    assert found.elapsed_buckets == sum(x.start < found.effective_end for x in found.buckets)


def _full(ns: int) -> str:
    return f"{seconds_text(ns)[:-1]}.{ns % NS:09}Z"


@settings(max_examples=100, deadline=None)
@given(days, zones, st.sampled_from(("1d", "1w")))
def test_calendar_buckets_begin_at_local_days_and_mondays(
    day: date, zone: ZoneInfo, size: str
) -> None:
    found = resolve(Request("month", day.isoformat(), bucket=size), zone, FAR_FUTURE)
    for bucket in found.buckets[1:]:
        begins = local_date(bucket.start, zone)
        assert midnight(begins, zone) == bucket.start
        assert size == "1d" or begins.weekday() == 0 or _is_missing(begins, zone)


def _is_missing(day: date, zone: ZoneInfo) -> bool:
    """Whether the Monday before was left out, so that its week begins with another day."""
    monday = day - timedelta(days=day.weekday())
    return midnight(monday, zone) == midnight(day, zone)


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        ("America/Havana", "2026-03-07", "2026-03-07T05:00:00Z", "2026-03-08T05:00:00Z"),
        ("America/Havana", "2026-03-08", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"),
        ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
    ],
)
def test_days_of_odd_length(zone: str, day: str, start: str, end: str) -> None:
    found = resolve(Request("day", day), ZoneInfo(zone), FAR_FUTURE)
    assert texts(found.start, found.end) == (start, end)


def test_a_missing_date_is_refused_and_gets_no_bucket() -> None:
    apia = ZoneInfo("Pacific/Apia")
    with pytest.raises(RangeError, match="from must be before to"):
        resolve(Request("day", "2011-12-30"), apia, FAR_FUTURE)
    month = resolve(Request("month", "2011-12-30", bucket="1d"), apia, FAR_FUTURE)
    assert len(month.buckets) == 30


def test_a_week_and_a_month_anchored_on_a_missing_date_are_those_of_the_calendar() -> None:
    apia = ZoneInfo("Pacific/Apia")
    week = resolve(Request("week", "2011-12-30"), apia, FAR_FUTURE)
    assert texts(week.start, week.end) == ("2011-12-26T10:00:00Z", "2012-01-01T10:00:00Z")
    havana = resolve(Request("week", "2026-03-08"), ZoneInfo("America/Havana"), FAR_FUTURE)
    assert texts(havana.start, havana.end) == ("2026-03-02T05:00:00Z", "2026-03-09T04:00:00Z")


def test_today_is_that_of_the_zone() -> None:
    now = instant("2026-02-10T15:30:00Z")
    for zone, today in (("Asia/Tokyo", "2026-02-11"), ("America/New_York", "2026-02-10")):
        found = resolve(Request(), ZoneInfo(zone), now)
        assert local_date(found.start, ZoneInfo(zone)).isoformat() == today
        assert found.is_partial


@pytest.mark.parametrize(
    "day", ["9999-12-31", "0000-01-01", "2026-02-29", "2026-2-1", "today", " "]
)
def test_days_that_are_none_are_refused(day: str) -> None:
    with pytest.raises(RangeError, match=r"^invalid date: "):
        resolve(Request("day", day), ZoneInfo("UTC"), FAR_FUTURE)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
@pytest.mark.parametrize("preset", ["day", "week", "month"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "UTC", "Pacific/Niue"])
def test_the_ends_of_the_calendar_are_refused_or_work(day: str, preset: str, zone: str) -> None:
    try:
        resolve(Request(preset, day), ZoneInfo(zone), FAR_FUTURE)
    except RangeError as error:
        assert str(error) == f"invalid date: {day}"


def test_a_range_of_a_day_and_a_half_still_has_short_buckets() -> None:
    start = instant("2026-02-01T00:00:00Z")
    for hours, name in (
        (36, "5m"),
        (37, "1h"),
        (336, "1h"),
        (337, "1d"),
        (2160, "1d"),
        (2161, "1w"),
    ):
        end = seconds_text(start + hours * 3600 * NS)
        found = resolve(Request("custom", "", seconds_text(start), end), ZoneInfo("UTC"), 0)
        assert found.unit == UNITS[name]
