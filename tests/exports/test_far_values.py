"""The reports at the ends of what an archive can hold: sums beyond 64 bits, dates beyond four
digits of a year."""

from __future__ import annotations

import io
import json
import signal
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from exporter.cli.main import run
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline

MOST = 2**63 - 1
COUNTERS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


def report(world: Pipeline, *command: str) -> Any:
    """The document of a command that succeeded, checked against its schema."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    before = signal.getsignal(signal.SIGTERM)
    flags = ["--database-url", world.url, "--json", "--validate"]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*command, *flags])
    finally:
        signal.signal(signal.SIGTERM, before)
    for stream in (out, err):
        stream.flush()
    assert (code, err.buffer.getvalue().decode()) == (0, "")
    return json.loads(out.buffer.getvalue())


def add_event(archive: SqliteArchive, session: str, at: str, **over: Any) -> None:
    defaults = {"source": "session", "occurred_at": at, "model": "aurora-2", "output_tokens": 10}
    archive.add_event(session, **{**defaults, **over})


@pytest.mark.parametrize("cost", [None, 1.5])
def test_counters_that_add_up_beyond_64_bits(world: Pipeline, cost: float | None) -> None:
    """A session's sums stop there in both reports; sums over sessions go on."""
    with world.source() as archive:
        archive.add_price("aurora-2", 3, 15, 3.75, 0.3)
        for name in ("fern", "moss"):
            archive.add_session(
                name, started_at="2026-03-05T08:00:00Z", ended_at="2026-03-05T10:00:00Z"
            )
            for minute in range(2):
                at = f"2026-03-05T09:0{minute}:00Z"
                add_event(archive, name, at, cost_usd=cost, **dict.fromkeys(COUNTERS, MOST))
    usage = report(world, "usage", "daily", "--all", "--breakdown", "--timezone", "UTC")
    names = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
    assert {usage["totals"][name] for name in names} == {2 * MOST}
    activity = report(world, "activity", "report", "--date", "2026-03-05", "--timezone", "UTC")
    assert activity["totals"]["output_tokens"] == 2 * MOST
    assert [row["output_tokens"] for row in activity["by_session"]] == [MOST, MOST]


def dates(world: Pipeline, *flags: str) -> list[str]:
    return [day["date"] for day in report(world, "usage", "daily", *flags)["daily"]]


@pytest.mark.parametrize(
    ("at", "zone", "date"),
    [
        ("0001-01-01T00:00:00Z", "UTC", "0001-01-01"),
        ("0001-01-01T00:00:00Z", "America/New_York", "0000-12-31"),
        ("0000-01-01T00:00:00Z", "UTC", "0000-01-01"),
        ("0000-02-29T12:00:00Z", "UTC", "0000-02-29"),
        ("9999-12-31T23:00:00Z", "UTC", "9999-12-31"),
        ("9999-12-31T23:00:00Z", "Asia/Tokyo", "10000-01-01"),
    ],
)
def test_dates_at_either_end_of_the_calendar(
    world: Pipeline, at: str, zone: str, date: str
) -> None:
    with world.source() as archive:
        archive.add_session("fern", started_at="2026-03-05T08:00:00Z")
        add_event(archive, "fern", at)
    assert dates(world, "--all", "--timezone", zone) == [date]


def test_dates_are_in_the_order_of_time(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("fern", started_at="2026-03-05T08:00:00Z")
        for at in ("9999-12-31T23:00:00Z", "2026-03-05T09:00:00Z", "0001-01-01T12:00:00Z"):
            add_event(archive, "fern", at)
    tokyo = ("--all", "--timezone", "Asia/Tokyo")
    assert dates(world, *tokyo) == ["0001-01-01", "2026-03-05", "10000-01-01"]
    assert dates(world, *tokyo, "--until", "2026-03-05") == ["0001-01-01", "2026-03-05"]
    assert dates(world, *tokyo, "--since", "2026-03-06") == ["10000-01-01"]
