"""Dates where the database server and this program know different rules of a zone."""

from __future__ import annotations

from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest

from exporter.core.window import Window
from exporter.db.connect import read_snapshot
from exporter.errors import ExporterError
from exporter.exports.usage_daily import Request, read_report
from tests.archives.pipeline import Pipeline


@pytest.fixture
def moved() -> ZoneInfo:
    """A Vancouver that keeps the time of Lord Howe, half an hour of summer time included."""
    with files("tzdata").joinpath("zoneinfo", "Australia", "Lord_Howe").open("rb") as rules:
        return ZoneInfo.from_file(rules, key="America/Vancouver")


#: On either side of midnight there, in summer (11:00 ahead) and in winter (10:30 ahead).
AT = {
    "2026-01-09T12:59:59Z": "2026-01-09",
    "2026-01-09T13:00:00Z": "2026-01-10",
    "2026-07-09T13:29:59Z": "2026-07-09",
    "2026-07-09T13:30:00Z": "2026-07-10",
}


def dates(world: Pipeline, window: Window, rules: ZoneInfo | None) -> dict[str, int]:
    with read_snapshot(world.conn):
        report = read_report(world.conn, Request(window, "America/Vancouver", rules))
    return {day["date"]: day["inputTokens"] for day in report.daily}


def test_newer_rules_than_those_of_the_server_count(world: Pipeline, moved: ZoneInfo) -> None:
    with world.source() as archive:
        session = archive.add_session()
        for at in AT:
            archive.add_event(session, occurred_at=at, input_tokens=1)
        archive.add_event(session, occurred_at="2019-07-09T13:30:00Z", input_tokens=1)
    wanted = dict.fromkeys(AT.values(), 1)
    assert dates(world, Window("2020-01-01", None), moved) == wanted
    assert dates(world, Window("2026-07-10", "2026-07-10"), moved) == {"2026-07-10": 1}
    # Older years are the server's, and so is everything without rules of ours.
    assert dates(world, Window(None, None), moved) == {"2019-07-09": 1, **wanted}
    assert dates(world, Window("2020-01-01", None), None) == {"2026-01-09": 2, "2026-07-09": 2}


@pytest.mark.parametrize("name", ["UTC", "Europe/Lisbon", "Asia/Kathmandu", "Africa/Casablanca"])
def test_offsets_are_those_of_the_zone(name: str) -> None:
    from bisect import bisect_right
    from datetime import UTC, datetime, timedelta

    from exporter.core.calendar import offsets

    zone, first = ZoneInfo(name), datetime(2024, 1, 1, tzinfo=UTC)
    known = offsets(zone, first, first + timedelta(days=1400))
    assert len(known.offsets) == len(known.changes) + 1
    for hour in range(1400 * 24 // 11):
        at = first + timedelta(hours=11 * hour)
        assert known.offsets[bisect_right(known.changes, at)] == at.astimezone(zone).utcoffset()


#: What no server knows: a zone that was named after its tables were made.
UNKNOWN = "Pacific/Undiscovered"
_FOLDER = files("tzdata").joinpath("zoneinfo")


def test_a_zone_that_the_server_does_not_know_is_cut_by_our_rules(world: Pipeline) -> None:
    with _FOLDER.joinpath("Australia", "Lord_Howe").open("rb") as found:
        rules = ZoneInfo.from_file(found, key=UNKNOWN)
    with world.source() as archive:
        session = archive.add_session()
        for at in AT:
            archive.add_event(session, occurred_at=at, input_tokens=1)
        # Older and later than the years in which our rules of a known zone count.
        archive.add_event(session, occurred_at="2019-07-09T13:30:00Z", input_tokens=1)
        archive.add_event(session, occurred_at="2045-07-09T13:29:59Z", input_tokens=1)

    def counted(window: Window) -> dict[str, int]:
        with read_snapshot(world.conn):
            report = read_report(world.conn, Request(window, UNKNOWN, rules, breakdown=True))
            # The transaction goes on, and reads what it read before.
            assert world.conn.execute("SELECT 1").fetchone() == (1,)
        assert report.session_counts["total"] == bool(report.daily)
        return {day["date"]: day["inputTokens"] for day in report.daily}

    every = {"2019-07-10": 1, **dict.fromkeys(AT.values(), 1), "2045-07-09": 1}
    assert counted(Window(None, None)) == every
    for date in every:
        assert counted(Window(date, date)) == {date: 1}
    assert counted(Window("2026-07-11", "2045-07-08")) == {}


@pytest.mark.parametrize("name", ["Etc/UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_an_unknown_zone_is_as_one_of_equal_rules_that_the_server_knows(
    world: Pipeline, name: str
) -> None:
    with _FOLDER.joinpath(*name.split("/")).open("rb") as found:
        rules = ZoneInfo.from_file(found, key=UNKNOWN)
    with world.source() as archive:
        session = archive.add_session()
        for hour in range(0, 24 * 6, 5):
            at = f"2026-03-{4 + hour // 24:02}T{hour % 24:02}:00:00Z"
            archive.add_event(session, occurred_at=at, input_tokens=hour)
    for window in (Window(None, None), Window("2026-03-06", "2026-03-07")):
        with read_snapshot(world.conn):
            known = read_report(world.conn, Request(window, name, ZoneInfo(name)))
            alone = read_report(world.conn, Request(window, UNKNOWN, rules))
        assert alone == known and len(known.daily) >= 2


def test_without_rules_of_ours_the_server_has_to_know_the_zone(world: Pipeline) -> None:
    with (
        pytest.raises(ExporterError, match=f"the server does not know '{UNKNOWN}'"),
        read_snapshot(world.conn),
    ):
        read_report(world.conn, Request(Window("2026-03-01", None), UNKNOWN))
