"""The sweep of the activity report against one that looks at every instant by itself.

The archive holds random intervals; what the database says of them must be what plain loops say.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.core.calendar import NS, Range, Request, resolve
from exporter.core.times import parse_strict_ns, seconds_text
from exporter.db.connect import read_snapshot
from exporter.exports.activity_report import Selection, open_report
from tests.archives.pipeline import Pipeline

START = parse_strict_ns("2026-02-10T09:00:00Z") or 0
UNIT = NS // 4


class Stretch(NamedTuple):
    """One session of two messages; times in quarters of a second from the start of the range."""

    begins: int
    lasts: int
    automated: bool


stretches = st.lists(
    st.builds(Stretch, st.integers(-1300, 3700), st.integers(1, 1300), st.booleans()), max_size=12
)


def covered(length: int, now: int, bucket: str) -> Range:
    """A custom range of so many quarters of a second, seen at an instant within or after it."""
    start, end = (_text(START + offset * UNIT) for offset in (0, length))
    request = Request("custom", "", start, end, bucket)
    return resolve(request, ZoneInfo("UTC"), START + now * UNIT)


def _text(ns: int) -> str:
    return f"{seconds_text(ns)[:-1]}.{ns % NS:09}Z"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stretches, st.integers(1, 3700), st.integers(-100, 5000), st.sampled_from(("", "5m", "1d")))
def test_the_database_sweeps_as_loops_do(
    world: Pipeline, sessions: list[Stretch], length: int, now: int, bucket: str
) -> None:
    world.begin_again()
    with world.source() as archive:
        for number, one in enumerate(sessions):
            times = [_text(START + x * UNIT) for x in (one.begins, one.begins + one.lasts)]
            name = f"s{number}"
            archive.add_session(
                name, started_at=times[0], ended_at=times[1], is_automated=int(one.automated)
            )
            for time in times:
                archive.add_message(name, role="user", timestamp=time)
    asked = covered(length, now, bucket)
    with (
        read_snapshot(world.conn),
        open_report(world.conn, asked, "UTC", Selection()) as found,
    ):
        head = found.head
    assert _seen(head) == _swept(sessions, asked)


def _seen(head: dict[str, Any]) -> dict[str, Any]:
    names = ("max_agents", "agent_minutes", "automated_at_peak", "interactive_at_peak")
    totals = head["totals"]
    return {
        "buckets": [[bucket[name] for name in names] for bucket in head["buckets"]],
        "peak": head["peak"],
        "active": totals["active_minutes"],
        "idle": totals["idle_minutes"],
        "agent": totals["agent_minutes"],
        "automated": totals["automated_agent_minutes"],
        "cost": totals["cost"],
    }


def _swept(sessions: list[Stretch], asked: Range) -> dict[str, Any]:
    """Everything again, by looking at each quarter of a second."""
    end = (asked.effective_end - asked.start) // UNIT
    # Five minutes at most, then the cut.
    cut = [
        (max(0, one.begins), min(end, one.begins + min(one.lasts, 1200)), one.automated)
        for one in sessions
    ]
    # The present may lie between two quarters only in theory: it is given in quarters.
    live = [
        [sum(low <= t < high and kind == a for low, high, a in cut) for kind in (False, True)]
        for t in range(end)
    ]
    count = [sum(pair) for pair in live]
    top = max(count, default=0)
    minutes = 240
    return {
        "buckets": [_bucket(asked, bucket, live) for bucket in asked.buckets],
        "peak": {
            "agents": top,
            "at": seconds_text(asked.start + count.index(top) * UNIT) if top else None,
        },
        "active": sum(x > 0 for x in count) / minutes,
        "idle": sum(x == 0 for x in count) / minutes,
        "agent": sum(count) / minutes,
        "automated": sum(pair[1] for pair in live) / minutes,
        "cost": Decimal(0),
    }


def _bucket(asked: Range, bucket: Any, live: list[list[int]]) -> list[float]:
    first, last = ((x - asked.start) // UNIT for x in bucket)
    here = live[first:last]
    count = [sum(pair) for pair in here]
    top = max(count, default=0)
    interactive, automated = here[count.index(top)] if here else (0, 0)
    return [top, sum(count) / 240, automated, interactive]
