"""Time text: the lenient and the strict reading, and what is worked out from them.

Case numbers are those of the session-export contract.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.core import times
from exporter.core.times import (
    duration_seconds,
    full_text,
    julian_day,
    ms_of_julian_day,
    parse_instant_ms,
    parse_strict_ns,
    seconds_text,
    utc_day,
    validate_date,
    validate_instant,
)

#: Examples may take their time: the machine may be busy with other tests.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: What 0000-01-01T00:00+14:59 is, the earliest there is, and the latest.
FIRST_MS = -62_167_219_200_000 - (14 * 60 + 59) * 60_000
LAST_MS = 253_402_300_799_999


def ms(*parts: int) -> int:
    return (datetime(*parts, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


MARCH_4 = ms(2026, 3, 4)


@pytest.fixture(autouse=True, params=["first time", "day known"])
def day_cache(request: pytest.FixtureRequest) -> None:
    """Run every test with empty tables, and with tables that know the days it uses."""
    times._lenient_days.clear()
    times._strict_days.clear()
    if request.param == "day known":
        for day in ("2026-03-04", "2026-02-31", "2026-02-11", "9999-12-30", "9999-12-31"):
            parse_instant_ms(day)
            parse_strict_ns(f"{day}T00:00:00Z")


# --- lenient ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-04", MARCH_4),
        ("2026-03-04T", MARCH_4),
        ("2026-03-04 T\t\r\n\v\f", MARCH_4),
        ("2026-03-0410:00", MARCH_4 + 36_000_000),
        ("2026-03-04T10:00", MARCH_4 + 36_000_000),
        ("2026-03-04 10:00:00", MARCH_4 + 36_000_000),
        ("2026-03-04TT 10:00:00Z", MARCH_4 + 36_000_000),
        ("2026-03-04T10:00:00 \t+02:00 ", MARCH_4 + 28_800_000),
        ("2026-03-04T10:00z", MARCH_4 + 36_000_000),
        ("2026-03-04T10:00:00-14:59", MARCH_4 + 36_000_000 + 53_940_000),
        ("2026-03-04T24:00:00Z", MARCH_4 + 86_400_000),
        ("2026-03-04T24:59:59.5Z", MARCH_4 + 86_400_000 + 3_599_500),
        ("2026-02-31", ms(2026, 3, 3)),
        ("2024-02-31", ms(2024, 3, 2)),
        ("2026-02-31T01:02:03.004Z", ms(2026, 3, 3, 1, 2, 3, 4000)),
        ("0000-03-01", -62_167_219_200_000 + 60 * 86_400_000),
        ("0000-01-01T00:00:00+14:59", FIRST_MS),
        ("9999-12-31T23:59:59.9999Z", LAST_MS),
        ("9999-12-30T24:59:59.999Z", ms(9999, 12, 31, 0, 59, 59, 999_000)),
        ("9999-12-31T24:30:00+00:31", ms(9999, 12, 31, 23, 59)),
    ],
)
def test_lenient_reading_accepts(text: str, expected: int) -> None:
    assert parse_instant_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "later",
        "2026",
        "1772618400",
        " 2026-03-04",
        "2026-3-4",
        "2026-00-04",
        "2026-13-04",
        "2026-03-00",
        "2026-03-32",
        "2026-03-04t10:00:00Z",
        "2026-03-04T10",
        "2026-03-04T1:00",
        "2026-03-04T25:00",
        "2026-03-04T10:60",
        "2026-03-04T10:00:60Z",
        "2026-03-04T10:00:",
        "2026-03-04T10:00:00,5Z",
        "2026-03-04T10:00:00.Z",
        "2026-03-04T10:00:00.Z5Z",
        "2026-03-04T10:00:00.5e1Z",
        "2026-03-04T10:00:00.1_0Z",
        "2026-03-04T10:00:00Z5Z",
        "2026-03-04T10:00:00+0200",
        "2026-03-04T10:00:00+02",
        "2026-03-04T10:00:00+15:00",
        "2026-03-04T10:00:00+02:60",
        "2026-03-04T10:00:00ZZ",
        "2026-03-04Z",
        "2026-03-04T Z",
        "2026-03-04T10:00:00\x1cZ",
        "2026-03-04\xa010:00:00Z",
        "2026-03-04T10:00:00.\u0661Z",
        "\u0662026-03-04",
        "-2026-03-04",
        "9999-12-31T24:00:00Z",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_lenient_reading_refuses(text: str) -> None:
    assert parse_instant_ms(text) is None


@pytest.mark.parametrize(
    ("fraction", "millis"),
    [
        ("00.0005", 1),
        ("00.5005", 500),
        ("00.0004999999", 0),
        ("09.9996", 9_999),
        ("09.99949", 9_999),
        ("59.9999999999999999999999", 59_999),
        pytest.param("09.7710", 9_771, id="case 48, first"),
        pytest.param("09.7714", 9_771, id="case 48, second"),
    ],
)
@pytest.mark.parametrize("zone", ["Z", "z", "+00:00", ""])
def test_fractions_round_in_doubles_and_never_carry(fraction: str, millis: int, zone: str) -> None:
    assert parse_instant_ms(f"2026-03-04T10:00:{fraction}{zone}") == MARCH_4 + 36_000_000 + millis


def test_case_48_a_fraction_of_9996_sorts_below_the_next_second() -> None:
    below = parse_instant_ms("2026-03-04T07:15:09.9996Z")
    above = parse_instant_ms("2026-03-04T07:15:10Z")
    assert below is not None and above is not None
    assert (below % 1000, above - below) == (999, 1)


def test_every_second_and_millisecond_follows_the_rounding_formula() -> None:
    for second in range(60):
        for milli in range(0, 1000, 7):
            expected = int((second + milli / 1000) * 1000 + 0.5)
            assert expected == second * 1000 + milli
            text = f"2026-03-04T00:00:{second:02}.{milli:03}Z"
            assert parse_instant_ms(text) == MARCH_4 + expected


def times_text(fractions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Text around the lenient grammar: mostly in it, sometimes just outside."""
    return st.builds(
        "{:04}-{:02}-{:02}{}{}{}".format,
        st.integers(0, 9999) | st.sampled_from([0, 1900, 2000, 2024, 9999]),
        st.integers(1, 12),
        st.integers(1, 31),
        st.sampled_from(["T", " ", "", "T T", "\n", "t", "\x1c"]),
        st.builds("{:02}:{:02}".format, st.integers(0, 25), st.integers(0, 60))
        | st.builds(
            "{:02}:{:02}:{:02}{}".format,
            st.integers(0, 24),
            st.integers(0, 59),
            st.integers(0, 60),
            fractions,
        ),
        st.sampled_from(
            ["Z", "", "z", " Z ", "+00:00", "-00:00", "+02:00", "-14:59", "+15:00", "+0200"]
        ),
    )


@given(times_text(st.just("") | st.from_regex(r"\.[0-9]{1,2}[0-8][0-9]{0,6}", fullmatch=True)))
@settings(unhurried, max_examples=300)
def test_lenient_reading_agrees_with_the_julian_days_of_sqlite(text: str) -> None:
    # Fractions above .999 are left out: older SQLite lets them carry.
    with closing(sqlite3.connect(":memory:")) as connection:
        day, date = connection.execute("SELECT julianday(?), date(?)", (text, text)).fetchone()
    found = parse_instant_ms(text)
    assert (None if found is None else julian_day(found)) == day
    # Older SQLite repeats a day past the end of its month instead of running on.
    if text[8:10] <= "28":
        assert utc_day(text) == date


@unhurried
@given(times_text(st.just("") | st.from_regex(r"[.,][0-9]{0,12}", fullmatch=True)))
def test_a_second_reading_of_the_same_text_gives_the_same(text: str) -> None:
    times._lenient_days.clear()
    times._strict_days.clear()
    first = parse_instant_ms(text), parse_strict_ns(text)
    assert (parse_instant_ms(text), parse_strict_ns(text)) == first


def test_the_table_of_known_days_does_not_grow_without_end() -> None:
    for year in range(1000, 1500):
        for day in range(10, 20):
            parse_instant_ms(f"{year}-01-{day}")
    assert len(times._lenient_days) <= times._MOST_DAYS


def test_long_hostile_text_is_refused_quickly() -> None:
    for text in ("2026-03-04" + " " * 200_000 + "x", "2026-03-04T10:00" + " " * 200_000 + "x"):
        assert parse_instant_ms(text) is None
    assert parse_instant_ms("2026-03-04T10:00:00." + "9" * 200_000 + "Z") == (
        MARCH_4 + 36_000_000 + 999
    )


# --- strict -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "seconds", "full"),
    [
        ("2026-02-11T06:30:00.250Z", "2026-02-11T06:30:00Z", "2026-02-11T06:30:00.25Z"),
        ("2026-02-11T06:30:00.999Z", "2026-02-11T06:30:00Z", "2026-02-11T06:30:00.999Z"),
        ("2026-02-11T06:30:00.000Z", "2026-02-11T06:30:00Z", "2026-02-11T06:30:00Z"),
        ("2026-02-11T06:30:00Z", "2026-02-11T06:30:00Z", "2026-02-11T06:30:00Z"),
        ("2026-02-11T08:30:00.5+02:00", "2026-02-11T06:30:00Z", "2026-02-11T06:30:00.5Z"),
        (
            "2026-02-11T06:30:00.1234567899Z",
            "2026-02-11T06:30:00Z",
            "2026-02-11T06:30:00.123456789Z",
        ),
        ("2026-02-11T06:30:00,5Z", "2026-02-11T06:30:00Z", "2026-02-11T06:30:00.5Z"),
        ("2026-02-11T6:30:00Z", "2026-02-11T06:30:00Z", "2026-02-11T06:30:00Z"),
        ("2026-02-11T06:30:00-24:60", "2026-02-12T07:30:00Z", "2026-02-12T07:30:00Z"),
        ("0000-02-29T00:00:00.1Z", "0000-02-29T00:00:00Z", "0000-02-29T00:00:00.1Z"),
        ("1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.9Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_strict_reading_and_its_two_spellings(stored: str, seconds: str, full: str) -> None:
    ns = parse_strict_ns(stored)
    assert ns is not None
    assert (seconds_text(ns), full_text(ns)) == (seconds, full)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-02-11 06:30:00",
        "2026-02-11T06:30:00",
        "2026-02-11T06:30Z",
        "2026-02-11T06:30:00+0200",
        "2026-02-11t06:30:00z",
        "2026-02-11T24:00:00Z",
        "2026-02-11T06:60:00Z",
        "2026-02-11T06:30:60Z",
        "2026-02-30T06:30:00Z",
        "2026-02-31T06:30:00Z",
        "2025-02-29T06:30:00Z",
        "2026-13-11T06:30:00Z",
        "2026-02-00T06:30:00Z",
        "2026-02-11T06:30:00+25:00",
        "2026-02-11T06:30:00+02:61",
        "2026-02-11T06:30:00.Z",
        "2026-02-11T06:30:00.\u0661Z",
        " 2026-02-11T06:30:00Z",
        "2026-02-11T06:30:00Z ",
        "2026-02-11T06:30:00Z\n",
        "litellm-0123456789ab",
    ],
)
def test_strict_reading_refuses(text: str) -> None:
    assert parse_strict_ns(text) is None


@unhurried
@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),
        max_value=datetime(9999, 12, 30),
        timezones=st.builds(
            lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-1439, 1439)
        ),
    )
)
@example(datetime(2026, 3, 4, 10, tzinfo=UTC))
def test_strict_reading_is_the_instant_that_the_standard_library_wrote(moment: datetime) -> None:
    ns = parse_strict_ns(moment.isoformat())
    assert ns == (moment - EPOCH) // timedelta(microseconds=1) * 1000
    assert datetime.fromisoformat(full_text(ns)) == moment


@pytest.mark.parametrize("text", ["0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"])
def test_a_year_outside_0_to_9999_has_no_spelling(text: str) -> None:
    ns = parse_strict_ns(text)
    assert ns is not None
    for spell in (seconds_text, full_text):
        with pytest.raises(ValueError, match="outside the years 0 to 9999"):
            spell(ns)


# --- day, duration, sort number -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "day"),
    [
        pytest.param("2026-03-05T01:30:00+03:00", "2026-03-04", id="case 40"),
        ("2026-03-04", "2026-03-04"),
        ("2026-02-31", "2026-03-03"),
        ("2026-03-04T24:00", "2026-03-04"),
        ("2026-03-04T24:30:00.5Z", "2026-03-04"),
        ("2026-03-04T24:00:00-00:00", "2026-03-04"),
        ("2026-03-04T24:00:00-00:30", "2026-03-05"),
        ("2026-03-28T24:00:00Z", "2026-03-28"),
        ("2026-03-29T24:00:00Z", "2026-03-30"),
        ("0000-01-01T00:00+01:00", "-0001-12-31"),
        pytest.param("?", None, id="case 41"),
        ("", None),
    ],
)
def test_utc_day(text: str, day: str | None) -> None:
    assert utc_day(text) == day


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        pytest.param("2026-03-04T10:00:00.900Z", "2026-03-04T10:00:02.100Z", 1, id="case 18"),
        pytest.param("2026-03-04T10:00:00,900Z", "2026-03-04T10:00:02,100Z", 1, id="case 18 comma"),
        pytest.param("2026-03-04 10:00:00", "2026-03-04T10:30:00Z", None, id="case 19"),
        pytest.param("2026-03-04T10:00:01Z", "2026-03-04T10:00:00Z", None, id="case 20 earlier"),
        pytest.param("2026-03-04T10:00:00Z", "2026-03-04T10:00:00Z", 0, id="case 20 equal"),
        pytest.param("2026-03-04T12:00:00+02:00", "2026-03-04T10:30:00Z", 1800, id="case 21"),
        pytest.param("2026-03-04T10:00:00Z", "later", None, id="case 22"),
        pytest.param("2026-03-04T09:00:00Z", "2026-03-04T09:20:30.900Z", 1230, id="case 16"),
        ("1677-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 9_223_372_036),
        (None, "2026-03-04T10:00:00Z", None),
        ("", "2026-03-04T10:00:00Z", None),
        ("2026-03-04T10:00:00Z", None, None),
        ("2026-03-04T10:00:00Z", "", None),
    ],
)
def test_duration(start: str | None, end: str | None, seconds: int | None) -> None:
    assert duration_seconds(start, end) == seconds


def test_sort_number_of_the_published_cursor() -> None:
    found = parse_instant_ms("2026-02-11T08:41:07.900Z")
    assert found is not None
    assert julian_day(found) == 2461082.861896991


@unhurried
@given(st.integers(FIRST_MS, LAST_MS))
@example(FIRST_MS)
@example(LAST_MS)
def test_sort_number_gives_its_millisecond_back(instant: int) -> None:
    assert ms_of_julian_day(julian_day(instant)) == instant


def test_sort_number_gives_its_millisecond_back_all_over_the_range() -> None:
    step = (LAST_MS - FIRST_MS) // 50_000
    for instant in range(FIRST_MS, LAST_MS, step):
        assert ms_of_julian_day(julian_day(instant)) == instant


@pytest.mark.parametrize("day", [2461082.8618969915, float("nan")])
def test_a_number_that_is_no_whole_millisecond_is_refused(day: float) -> None:
    with pytest.raises(ValueError):
        ms_of_julian_day(day)


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["2026-03-04", " 2024-02-29\t", "", "  "])
def test_a_date_that_exists_or_a_blank_is_accepted_trimmed(text: str) -> None:
    assert validate_date(text) == text.strip()


@pytest.mark.parametrize(
    "text", ["03/04/2026", "2026-02-30", "2026-3-4", "20260304", "2026-W10-3", "2026-03-04T00:00"]
)
def test_a_date_that_cannot_be_meant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2026-03-04") as refused:
        validate_date(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    "text", ["2026-03-04", " 2026-03-04T09:30:00+02:00 ", "2026-02-31", "2026-03-04 10:00", ""]
)
def test_a_timestamp_with_an_instant_or_a_blank_is_accepted_trimmed(text: str) -> None:
    assert validate_instant(text) == text.strip()


@pytest.mark.parametrize("text", ["soon", "2026-03-04T10:00:00,5Z", "1772618400"])
def test_a_timestamp_without_an_instant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2026-03-04T09:30:00Z") as refused:
        validate_instant(text)
    assert repr(text) in str(refused.value)
