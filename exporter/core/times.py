"""Time text to integers and back.

Archives keep times as text and exports echo that text, so this module only answers questions
about it. Two readings exist because the wire contract has two: the *lenient* one orders and
filters (milliseconds), the *strict* one measures durations and dates price rows (nanoseconds).
Neither looks at the clock or at a local time zone.

The lenient reading runs once per message at import. Its usual form, UTC with a `Z`, is therefore
cut into four slices, each looked up in a table; every other form goes through a pattern.
"""

import re
from datetime import date
from typing import Final

from exporter.core.text import trim

_MS_PER_MINUTE: Final = 60_000
_MS_PER_DAY: Final = 86_400_000
_NS_PER_SECOND: Final = 1_000_000_000

#: 1970-01-01 counted in `date` ordinals.
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
#: Days in 400 Gregorian years, after which the calendar repeats.
_DAYS_PER_CYCLE: Final = 146_097
#: 9999-12-31T23:59:59.999Z, the last instant there is.
_LAST_MS: Final = 253_402_300_799_999
#: The Unix epoch as a Julian day, in milliseconds.
_JULIAN_EPOCH_MS: Final = 210_866_760_000_000
#: Longest duration that is told apart, in seconds: 2**63 nanoseconds.
_LONGEST_SECONDS: Final = 9_223_372_036

_BLANK: Final = r"[\t-\r ]*"
_LENIENT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"[T\t-\r ]*"
    r"(?:([0-9]{2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]+)?)?"
    rf"(?:{_BLANK}(?:[Zz]|([+-])([0-9]{{2}}):([0-9]{{2}})))?{_BLANK})?"
)
_STRICT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

#: `THH:MM:` to milliseconds, hour 24 included; the strict reading has no hour 24.
_CLOCK_MS: Final = {
    f"T{hour:02}:{minute:02}:": (hour * 60 + minute) * _MS_PER_MINUTE
    for hour in range(25)
    for minute in range(60)
}
_SECONDS: Final = {f"{second:02}": second for second in range(60)}
#: The usual ends of a time in UTC to milliseconds.
_TAIL_MS: Final[dict[str, int]] = {"Z": 0, "+00:00": 0} | {
    f".{part:0{digits}}{zone}": part * 10 ** (3 - digits)
    for digits in (1, 2, 3)
    for part in range(10**digits)
    for zone in ("Z", "+00:00")
}

#: Day text to epoch milliseconds; only days no time of which can pass `_LAST_MS`.
_lenient_days: dict[str, int] = {}
#: Day text to epoch seconds; only days that exist.
_strict_days: dict[str, int] = {}
#: Cached days per reading (eleven years); a full table is emptied.
_MOST_DAYS: Final = 4096


def parse_instant_ms(text: str) -> int | None:
    """Read a time the lenient way: Unix milliseconds, or None where there is no instant.

    Missing parts are midnight and UTC, a day past the end of its month runs on into the next,
    hour 24 is the next day's midnight hour. The fraction is rounded to milliseconds in doubles
    and never carries into the next second.
    """
    day = _lenient_days.get(text[:10])
    if day is not None:
        clock = _CLOCK_MS.get(text[10:17])
        second = _SECONDS.get(text[17:19])
        if clock is not None and second is not None:
            tail = text[19:]
            millis = _TAIL_MS.get(tail)
            if millis is not None:
                return day + clock + second * 1000 + millis
            digits = tail[1:-1]
            if tail[:1] == "." and tail[-1] == "Z" and digits.isdigit() and digits.isascii():
                return day + clock + _rounded_ms(second, tail[:-1])
    return _lenient_by_pattern(text)


def parse_strict_ns(text: str) -> int | None:
    """Read an RFC 3339 time: Unix nanoseconds, or None for any other text.

    Seconds and zone are mandatory and the day must exist. The hour may have one digit, a comma
    may open the fraction, and digits past nanoseconds are cut.
    """
    day = _strict_days.get(text[:10])
    if day is not None:
        clock = _CLOCK_MS.get(text[10:17])
        second = _SECONDS.get(text[17:19])
        if clock is not None and clock < _MS_PER_DAY and second is not None:
            tail = text[19:]
            millis = _TAIL_MS.get(tail)
            if millis is not None:
                return (day + second) * _NS_PER_SECOND + (clock + millis) * 1_000_000
            digits = tail[1:-1]
            if tail[:1] == "." and tail[-1] == "Z" and digits.isdigit() and digits.isascii():
                return (day + second) * _NS_PER_SECOND + clock * 1_000_000 + _fraction_ns(digits)
    return _strict_by_pattern(text)


def seconds_text(ns: int) -> str:
    """Write Unix nanoseconds as UTC `YYYY-MM-DDTHH:MM:SSZ`, the fraction cut.

    Raises ValueError where the year is outside 0 to 9999.
    """
    return f"{_clock_text(ns // _NS_PER_SECOND)}Z"


def full_text(ns: int) -> str:
    """Write Unix nanoseconds as UTC with the fraction, its trailing zeros dropped.

    Raises ValueError where the year is outside 0 to 9999.
    """
    seconds, fraction = divmod(ns, _NS_PER_SECOND)
    if not fraction:
        return f"{_clock_text(seconds)}Z"
    digits = f"{fraction:09}".rstrip("0")
    return f"{_clock_text(seconds)}.{digits}Z"


def utc_day(text: str) -> str | None:
    """Name the UTC calendar day of a lenient time as `YYYY-MM-DD`; None without an instant.

    Hour 24 counts as the written day when that day is the 28th or earlier and the time is
    written in UTC. A day before year 0 (reachable by an offset only) has a leading minus.
    """
    instant = parse_instant_ms(text)
    if instant is None:
        return None
    found = _LENIENT.fullmatch(text) if "24:" in text else None
    if found and found[4] == "24" and int(found[3]) <= 28:
        in_utc = not _offset_minutes(found[8], found[9], found[10])
        if in_utc:
            return text[:10]
    return _day_text(instant // _MS_PER_DAY)


def duration_seconds(started_at: str | None, end: str | None) -> int | None:
    """Whole seconds from start to end, both strict texts; None if either is not, or end < start.

    A fraction of a second is cut; anything longer than 9223372036 seconds gives that number.
    """
    start_ns = parse_strict_ns(started_at) if started_at else None
    end_ns = parse_strict_ns(end) if end else None
    if start_ns is None or end_ns is None or end_ns < start_ns:
        return None
    return min((end_ns - start_ns) // _NS_PER_SECOND, _LONGEST_SECONDS)


def julian_day(ms: int) -> float:
    """Unix milliseconds as a Julian day, the sort number that page cursors carry."""
    return (ms + _JULIAN_EPOCH_MS) / 86_400_000.0


def ms_of_julian_day(day: float) -> int:
    """Undo `julian_day` exactly for every instant `parse_instant_ms` can return.

    Raises ValueError for a number that is not the Julian day of such an instant's millisecond.
    """
    ms = round(day * 86_400_000.0) - _JULIAN_EPOCH_MS
    # Doubles near today's day number are 40 microseconds apart, so the nearest millisecond is the
    # one that was written, unless the number was never a whole millisecond.
    if julian_day(ms) != day:
        raise ValueError(f"{day!r} is not the Julian day of a whole millisecond")
    return ms


def validate_date(text: str) -> str:
    """Return a `YYYY-MM-DD` filter value trimmed; blank stays blank and means no filter.

    Raises ValueError, with an accepted value in its sentence, for a day that does not exist.
    """
    value = trim(text)
    if value:
        try:
            if not _DATE.fullmatch(value):
                raise ValueError
            date.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"{value!r} is not a calendar date; write it as YYYY-MM-DD, like 2026-03-04, "
                "in the years 0001 to 9999"
            ) from None
    return value


def validate_instant(text: str) -> str:
    """Return a timestamp filter value trimmed; blank stays blank and means no filter.

    Raises ValueError, with accepted values in its sentence, where the text is no instant.
    """
    value = trim(text)
    if value and parse_instant_ms(value) is None:
        raise ValueError(
            f"{value!r} is not a timestamp; write it like 2026-03-04T09:30:00Z, "
            "2026-03-04T09:30:00+02:00 or 2026-03-04 (midnight UTC), in the years 0000 to 9999"
        )
    return value


def _lenient_by_pattern(text: str) -> int | None:
    found = _LENIENT.fullmatch(text)
    if found is None:
        return None
    day_ms = _lenient_day_ms(text[:10])
    if day_ms is None:
        return None
    hour_text, minute_text, second_text, fraction, sign, off_hour, off_minute = found.group(
        4, 5, 6, 7, 8, 9, 10
    )
    hour, minute, second = int(hour_text or 0), int(minute_text or 0), int(second_text or 0)
    if hour > 24 or minute > 59 or second > 59:
        return None
    if sign and (int(off_hour) > 14 or int(off_minute) > 59):
        return None
    offset = _offset_minutes(sign, off_hour, off_minute)
    ms = day_ms + (hour * 60 + minute - offset) * _MS_PER_MINUTE + _rounded_ms(second, fraction)
    return ms if ms <= _LAST_MS else None


def _lenient_day_ms(text: str) -> int | None:
    """Epoch milliseconds of a day that matched the pattern; days 29 to 31 always exist."""
    known = _lenient_days.get(text)
    if known is not None:
        return known
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:])
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return None
    ms = (_day_number(year, month) + day - 1) * _MS_PER_DAY
    # The table serves a path that skips the check against the last instant.
    if ms + 2 * _MS_PER_DAY <= _LAST_MS:
        _remember(_lenient_days, text, ms)
    return ms


def _strict_by_pattern(text: str) -> int | None:
    found = _STRICT.fullmatch(text)
    if found is None:
        return None
    day_seconds = _strict_day_seconds(text[:10])
    hour, minute, second = (int(part) for part in found.group(4, 5, 6))
    if day_seconds is None or hour > 23 or minute > 59 or second > 59:
        return None
    fraction, sign, off_hour, off_minute = found.group(7, 8, 9, 10)
    if sign and (int(off_hour) > 24 or int(off_minute) > 60):
        return None
    offset = _offset_minutes(sign, off_hour, off_minute)
    seconds = day_seconds + (hour * 60 + minute - offset) * 60 + second
    return seconds * _NS_PER_SECOND + _fraction_ns(fraction or "")


def _strict_day_seconds(text: str) -> int | None:
    """Epoch seconds of a day that matched the pattern; None if the calendar has no such day."""
    known = _strict_days.get(text)
    if known is not None:
        return known
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:])
    try:
        date(year or 400, month, day)
    except ValueError:
        return None
    seconds = (_day_number(year, month) + day - 1) * 86_400
    _remember(_strict_days, text, seconds)
    return seconds


def _remember(table: dict[str, int], text: str, value: int) -> None:
    if len(table) >= _MOST_DAYS:
        table.clear()
    table[text] = value


def _rounded_ms(second: int, fraction: str | None) -> int:
    """Milliseconds of a second and its `.digits`, rounded as the contract does in doubles."""
    # The cap keeps `.9996` from carrying; the sum in doubles decides where a half goes.
    part = min(float(fraction), 0.999) if fraction else 0.0
    return int((second + part) * 1000 + 0.5)


def _fraction_ns(digits: str) -> int:
    return int(digits[:9].ljust(9, "0"))


def _offset_minutes(sign: str | None, hours: str | None, minutes: str | None) -> int:
    if not sign or not hours or not minutes:
        return 0
    total = int(hours) * 60 + int(minutes)
    return -total if sign == "-" else total


def _day_number(year: int, month: int) -> int:
    """Days from the Unix epoch to the first of a month, year 0 included."""
    if year == 0:
        return _day_number(400, month) - _DAYS_PER_CYCLE
    return date(year, month, 1).toordinal() - _EPOCH_ORDINAL


def _calendar(days: int) -> tuple[int, int, int]:
    """Year, month and day of an epoch day; the year may be below 1."""
    ordinal = days + _EPOCH_ORDINAL
    if ordinal >= 1:
        found = date.fromordinal(ordinal)
        return found.year, found.month, found.day
    year, month, day = _calendar(days + _DAYS_PER_CYCLE)
    return year - 400, month, day


def _day_text(days: int) -> str:
    year, month, day = _calendar(days)
    return f"{'-' if year < 0 else ''}{abs(year):04}-{month:02}-{day:02}"


def _clock_text(seconds: int) -> str:
    """UTC `YYYY-MM-DDTHH:MM:SS`; ValueError where the year is outside 0 to 9999."""
    days, second = divmod(seconds, 86_400)
    if not -_EPOCH_ORDINAL - 366 < days <= _LAST_MS // _MS_PER_DAY:
        raise ValueError(f"the time {seconds} s from the epoch is outside the years 0 to 9999")
    hour, second = divmod(second, 3600)
    minute, second = divmod(second, 60)
    return f"{_day_text(days)}T{hour:02}:{minute:02}:{second:02}"
