"""Reports over whatever rows there are keep every rule beyond their schema, in both framings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.core import wire
from exporter.core.calendar import NS, Request, resolve
from exporter.core.pricing import Rates
from exporter.core.times import parse_strict_ns, seconds_text
from exporter.core.window import Window
from exporter.db.connect import read_snapshot
from exporter.exports import usage_daily
from exporter.exports.activity_report import Selection, open_report
from tests.archives.pipeline import Pipeline
from tests.contracts.golden import look
from tests.exports.conftest import _pipeline, world
from tests.exports.test_usage_daily_properties import (
    RATES,
    ZONES,
    Archive,
    Kept,
    Row,
    fates,
    sessions,
    windows,
)

__all__ = ["_pipeline", "world"]

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_good(document: bytes, lines: list[bytes], label: str) -> None:
    for text, framing in ((document, "json"), (b"\n".join(lines) + b"\n", "ndjson")):
        validation, findings = look(text, strict=True)
        assert findings == []
        assert validation.surface and validation.surface.label == label
        assert validation.framing == framing


@quick
@given(
    kept=sessions, found=fates, window=windows, zone=st.sampled_from(ZONES), breakdown=st.booleans()
)
def test_daily_usage_keeps_every_rule(
    conn: psycopg.Connection[Any],
    kept: list[Kept],
    found: list[tuple[Row, str, bool]],
    window: Window,
    zone: str,
    breakdown: bool,
) -> None:
    archive = Archive(conn, kept)
    if found:
        archive.write([(number, row) for number, (row, _, _) in enumerate(found)])
    asked = usage_daily.Request(window, zone, breakdown=breakdown, custom_rates=RATES)
    report = usage_daily.read_report(conn, asked)
    meta = wire.encode({"type": "meta", **report.meta()})
    lines = [meta, *(wire.encode(day) for day in report.daily)]
    assert_good(wire.encode_pretty(report.asdict()), lines, "usage_daily v1")


# -- activity -----------------------------------------------------------------------------------

#: Two hours before the clocks go forward in Berlin.
START = parse_strict_ns("2026-03-28T23:00:00Z") or 0
#: A quarter of a second, so that most times have a fraction.
UNIT = NS // 4


class Session(NamedTuple):
    """Times are quarters of a second from the start of the range."""

    begins: int
    gaps: tuple[int, ...]
    models: tuple[str, ...]
    project: str
    agent: str
    automated: bool
    #: Usage: model, time, output tokens, and the cost if it is reported.
    used: tuple[tuple[str, int, int, float | None], ...]


names = st.sampled_from(("aurora-2", "ember-mini", "quartz-pro", "unknown"))
places = st.integers(-2000, 15_000) | st.integers(0, 2_000_000)
activity = st.lists(
    st.builds(
        Session,
        begins=places,
        gaps=st.lists(st.integers(-40, 1500), max_size=5).map(tuple),
        models=st.lists(names | st.just(""), min_size=6, max_size=6).map(tuple),
        project=st.sampled_from(("orchard", "tidepool", "")),
        agent=st.sampled_from(("claude", "codex")),
        automated=st.booleans(),
        used=st.lists(
            st.tuples(
                names,
                places,
                st.integers(0, 9_000),
                st.none() | st.sampled_from((0.0, 0.1, 0.2, -0.3)),
            ),
            max_size=3,
        ).map(tuple),
    ),
    max_size=16,
)
#: Length and bucket of the range; the second spans two changes of the clocks' date.
ranges = st.sampled_from(
    [(7, ""), (3_600, ""), (14_401, "5m"), (900_001, "1h"), (2_000_000, "1d"), (5_000_000, "1w")]
)


def text(ns: int) -> str:
    return f"{seconds_text(ns)[:-1]}.{ns % NS:09}Z"


def write(world: Pipeline, found: list[Session]) -> None:
    world.begin_again()
    with world.source() as archive:
        for number, one in enumerate(found):
            name = f"s{number}"
            times = [START + one.begins * UNIT]
            for gap in one.gaps:
                times.append(times[-1] + gap * UNIT)
            archive.add_session(
                name,
                project=one.project,
                agent=one.agent,
                started_at=text(min(times)),
                ended_at=None,
                is_automated=int(one.automated),
            )
            for time, model in zip(times, one.models, strict=False):
                archive.add_message(name, role="assistant", model=model, timestamp=text(time))
            for model, at, tokens, cost in one.used:
                archive.add_event(
                    name,
                    occurred_at=text(START + at * UNIT),
                    model=model,
                    output_tokens=tokens,
                    cost_usd=cost,
                )


@quick
@given(
    found=activity,
    covered=ranges,
    now=st.integers(-100, 20_000) | st.just(9_000_000),
    shift=st.integers(0, 3),
    zone=st.sampled_from(("UTC", "Europe/Berlin", "America/New_York")),
)
def test_activity_keeps_every_rule(
    world: Pipeline,
    found: list[Session],
    covered: tuple[int, str],
    now: int,
    shift: int,
    zone: str,
) -> None:
    write(world, found)
    length, bucket = covered
    first = START + shift * UNIT
    request = Request("custom", "", text(first), text(first + length * UNIT), bucket)
    asked = resolve(request, ZoneInfo(zone), START + now * UNIT)
    rates = {"aurora-2": Rates(3, 15, 3.75, 0.3), "ember-mini": Rates(0.1, 0.7, 1e-7, 0.2)}
    with (
        read_snapshot(world.conn),
        open_report(world.conn, asked, zone, Selection(), rates) as report,
    ):
        rows, intervals = list(report.sessions), b",".join(report.intervals)
        head = report.head
    start = wire.encode(head)[:-1]
    document = start + b',"by_session":[' + b",".join(rows) + b'],"intervals":[' + intervals + b"]}"
    assert_good(document, [wire.encode({"type": "meta", **head}), *rows], "activity_report v1")
    assert isinstance(head["totals"]["cost"], Decimal)
