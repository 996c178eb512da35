"""The activity report, case by case: who is in it, what counts as activity, when and how much.

The names of the tests begin with the number of the case. Unless a test says otherwise, the report
is of the day 2026-02-10 in UTC, made long afterwards, and sessions are root sessions of claude in
project orchard whose start and end span their messages.
"""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from exporter.cli import activity as command
from exporter.cli.main import run
from exporter.core.times import parse_strict_ns
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.interop.origin import Result

DAY = "2026-02-10"
LONG_AFTER = "2030-01-01T00:00:00Z"
Document = dict[str, Any]


def at(clock: str, day: str = DAY) -> str:
    """``09:30`` or ``09:30:15.5`` as a time of the day in UTC; a whole time as it is."""
    if "T" in clock:
        return clock
    return f"{day}T{clock if clock.count(':') == 2 else clock + ':00'}Z"


class Sessions:
    """Writes sessions of the cases into a source archive."""

    def __init__(self, archive: SqliteArchive) -> None:
        self.archive = archive

    def add(self, name: str, *messages: str, **over: Any) -> str:
        """A session of messages like ``u 09:00`` and ``a:model 09:02``."""
        times = [at(message.split()[1]) for message in messages] or [at("09:00")]
        defaults: Document = {
            "project": "orchard",
            "display_name": "",
            "first_message": "",
            "message_count": 3,
            "started_at": min(times),
            "ended_at": max(times),
        }
        self.archive.add_session(name, **{**defaults, **over})
        for message, time in zip(messages, times, strict=False):
            kind, _, model = message.split()[0].partition(":")
            role = "user" if kind == "u" else "assistant"
            self.archive.add_message(name, role=role, model=model, timestamp=time)
        return name

    def use(
        self, name: str, clock: str, model: str = "aurora-2", out: int = 0, cost: float = 0.0
    ) -> None:
        """A usage row that brings its cost."""
        self.archive.add_event(
            name, occurred_at=at(clock), model=model, output_tokens=out, cost_usd=cost
        )

    def answer(self, name: str, clock: str, out: int, pair: str = "M1/R1", **over: Any) -> None:
        """An answer with usage; equal pairs are copies of one response."""
        message_id, _, request_id = pair.partition("/")
        self.archive.add_message(
            name,
            **{
                "role": "assistant",
                "timestamp": at(clock),
                "model": "aurora-2",
                "token_usage": {"output_tokens": out},
                "claude_message_id": message_id,
                "claude_request_id": request_id,
                **over,
            },
        )


class Report:
    """The road from sessions to a report at an instant of the test's choice."""

    def __init__(self, world: Pipeline, set_clock: Callable[[str], None]) -> None:
        self._world = world
        self.set_clock = set_clock

    def source(self, fill: Callable[[Sessions], Any]) -> None:
        """Fill the source and bring it over."""
        with self._world.source() as archive:
            fill(Sessions(archive))

    def run(self, *flags: str) -> Result:
        """``activity report`` with these flags."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
        before = signal.getsignal(signal.SIGTERM)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = run(["activity", "report", "--database-url", self._world.url, *flags])
        finally:
            signal.signal(signal.SIGTERM, before)
        said = []
        for stream in (out, err):
            stream.flush()
            said.append(stream.buffer.getvalue().decode())
        return Result(code, *said)

    def __call__(self, *flags: str) -> Document:
        """The document of a run that succeeded, checked against its schema."""
        when = () if {"--date", "--preset"} & set(flags) else ("--date", DAY)
        zone = () if "--timezone" in flags else ("--timezone", "UTC")
        result = self.run(*when, *zone, "--json", "--validate", *flags)
        assert (result.exit, result.stderr) == (0, "")
        return dict(json.loads(result.stdout))

    def custom(self, start: str, end: str, *flags: str) -> Document:
        """The same of a stretch of the day."""
        return self("--preset", "custom", "--from", at(start), "--to", at(end), *flags)

    def failure(self, *flags: str) -> str:
        """The sentence of a refusal, without what would have done."""
        result = self.run(*flags)
        assert (result.exit, result.stdout) == (1, "")
        assert result.stderr.startswith("fatal: ")
        return result.stderr.removeprefix("fatal: ").removesuffix("\n").partition("; ")[0]


@pytest.fixture
def report(world: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Report:
    """An empty archive, and a clock that stands long after everything."""

    def set_clock(text: str) -> None:
        now = parse_strict_ns(text)
        monkeypatch.setattr(command, "now_ns", lambda: now)

    set_clock(LONG_AFTER)
    world.forget_prices()
    return Report(world, set_clock)


def intervals(document: Document, day: str = DAY) -> list[tuple[str, str]]:
    """Start and end of each interval as clock times of the day."""
    prefix = f"{day}T"
    return [
        (x["start"].removeprefix(prefix)[:-1], x["end"].removeprefix(prefix)[:-1])
        for x in document["intervals"]
    ]


def rows(document: Document) -> dict[str, Document]:
    return {row["session_id"]: row for row in document["by_session"]}


def minutes_by(document: Document, name: str) -> dict[str, float]:
    return {share["key"]: share["agent_minutes"] for share in document[f"by_{name}"]}


def bucket(document: Document, start: str) -> Document:
    found: Document = next(x for x in document["buckets"] if x["start"] == at(start))
    return found


def total(document: Document, *names: str) -> list[Any]:
    return [document["totals"][name] for name in names]


# -- activity -----------------------------------------------------------------------------------


def test_a01_a_gap_counts_up_to_five_minutes_and_belongs_to_its_first_message(
    report: Report,
) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00", "a:aurora-2 09:02", "a:aurora-2 09:42"))
    found = report()
    assert intervals(found) == [("09:00:00", "09:02:00"), ("09:02:00", "09:07:00")]
    assert total(found, "agent_minutes", "active_minutes", "idle_minutes") == [7, 7, 1433]
    kelp = rows(found)["kelp"]
    assert (kelp["first_active"], kelp["last_active"]) == (at("09:00"), at("09:07"))
    assert [bucket(found, x)["agent_minutes"] for x in ("09:00", "09:05", "09:10")] == [5, 2, 0]


def test_a02_activity_needs_no_model(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00", "u 09:05", "u 09:10:01"))
    found = report()
    assert total(found, "agent_minutes") == [10]
    kelp = rows(found)["kelp"]
    assert (kelp["models"], kelp["primary_model"], found["by_model"]) == (None, "", [])


def test_a03_a_pair_without_a_gap_teaches_no_model(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00", "a:aurora-2 09:00", "u 09:01"))
    found = report()
    assert intervals(found) == [("09:00:00", "09:01:00")]
    assert total(found, "distinct_models") == [0]
    assert found["by_model"] == []


def test_a04_a_step_back_in_time_is_no_activity(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:10", "a:aurora-2 09:05", "u 09:06"))
    assert intervals(report()) == [("09:05:00", "09:06:00")]


def test_a05_a_session_may_overlap_itself(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00", "u 09:05", "u 09:02", "u 09:04"))
    found = report()
    assert intervals(found) == [("09:00:00", "09:05:00"), ("09:02:00", "09:04:00")]
    assert found["peak"] == {"agents": 2, "at": at("09:02")}
    assert total(found, "agent_minutes", "active_minutes", "sessions") == [7, 5, 1]


def test_a06_an_interval_is_cut_to_the_range(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:27", "u 09:31"))
    found = report.custom("09:30", "10:00")
    assert intervals(found) == [("09:30:00", "09:31:00")]
    assert total(found, "agent_minutes", "idle_minutes") == [1, 29]
    assert found["peak"]["at"] == at("09:30")


def test_a07_the_limit_comes_before_the_cut(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:24", "u 09:50"))
    found = report.custom("09:30", "10:00")
    kelp = rows(found)["kelp"]
    assert (kelp["timing_quality"], kelp["agent_minutes"]) == ("untimed", None)
    assert (kelp["first_active"], kelp["last_active"]) == (None, None)
    assert found["peak"] == {"agents": 0, "at": None}
    assert total(found, "idle_minutes", "sessions", "untimed_sessions") == [30, 1, 1]


def test_a08_a_range_that_has_not_ended_is_partial(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 11:57", "u 12:20"))
    report.set_clock(at("12:00"))
    found = report()
    assert found["partial"] is True
    assert found["as_of"] == found["effective_end"] == at("12:00")
    assert total(found, "agent_minutes", "idle_minutes") == [3, 717]
    assert (found["elapsed_bucket_count"], len(found["buckets"])) == (144, 288)
    assert found["bucket_count"] == 288


def test_a09_the_present_counts_with_its_fraction(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 11:57", "u 12:20"))
    report.set_clock("2026-02-10T12:00:30.750Z")
    found = report()
    assert found["as_of"] == "2026-02-10T12:00:30Z"
    assert total(found, "agent_minutes", "idle_minutes") == [3.5125, 717]
    assert found["elapsed_bucket_count"] == 145
    assert bucket(found, "12:00")["agent_minutes"] == 0.5125


def test_a10_ranges_to_come_and_ranges_that_end_now(report: Report) -> None:
    report.set_clock("2026-02-10T12:00:00Z")
    later = report("--date", "2026-02-20")
    assert later["partial"] is True
    assert later["as_of"] == later["effective_end"] == "2026-02-20T00:00:00Z"
    assert (later["elapsed_bucket_count"], later["bucket_count"]) == (0, 288)
    assert total(later, "idle_minutes") == [0]
    report.set_clock("2026-02-11T00:00:00Z")
    ended = report()
    assert (ended["partial"], ended["as_of"]) == (False, None)
    assert total(ended, "idle_minutes") == [1440]


def test_a11_ends_come_before_starts_of_the_same_instant(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("k1", "u 09:00", "u 09:04")
        s.add("k2", "u 09:01", "u 09:03")
        s.add("k3", "u 09:03", "u 09:05")

    report.source(fill)
    found = report()
    assert found["peak"] == {"agents": 2, "at": at("09:01")}
    assert total(found, "active_minutes", "agent_minutes") == [5, 8]


def test_a12_automated_and_interactive_agents_are_told_apart(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("x1", "u 09:00", "u 09:02", is_automated=1)
        s.add("x2", "u 09:00", "u 09:02", is_automated=1)
        s.add("y", "u 09:01", "u 09:03")

    report.source(fill)
    found = report()
    first = bucket(found, "09:00")
    assert first["max_agents"] == 3
    assert (first["automated_at_peak"], first["interactive_at_peak"]) == (2, 1)
    names = ("automated_agent_minutes", "interactive_agent_minutes")
    assert total(found, *names) == [4, 2]


def test_a13_the_split_is_that_of_the_first_instant(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("x", "u 09:00", "u 09:01", is_automated=1)
        s.add("y", "u 09:02", "u 09:03")

    report.source(fill)
    first = bucket(report(), "09:00")
    assert first["max_agents"] == 1
    assert (first["automated_at_peak"], first["interactive_at_peak"]) == (1, 0)


def test_a14_a_bucket_opens_with_what_is_under_way(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:03", "u 09:08"))
    found = report.custom("09:00", "09:15", "--bucket", "5m")
    assert [x["agent_minutes"] for x in found["buckets"]] == [2, 3, 0]
    assert [x["max_agents"] for x in found["buckets"]] == [1, 1, 0]


def test_a15_time_belongs_to_the_latest_answering_model(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "a:quartz-pro 09:00", "u 09:01", "a:aurora-2 09:03"))
    found = report()
    assert rows(found)["kelp"]["models"] == ["aurora-2"]
    assert minutes_by(found, "model") == {"aurora-2": 2}
    assert minutes_by(found, "project") == {"orchard": 3}
    assert "quartz-pro" not in json.dumps(found)


def test_a16_a_synthetic_answer_names_its_model(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00", "a:<synthetic> 09:02"))
    found = report()
    assert minutes_by(found, "model") == {"<synthetic>": 2}
    assert rows(found)["kelp"]["primary_model"] == "<synthetic>"


@pytest.mark.parametrize(
    ("last", "primary", "shares"),
    [
        ("09:07", "ember-mini", [("ember-mini", 4), ("aurora-2", 3)]),
        ("09:06", "aurora-2", [("aurora-2", 3), ("ember-mini", 3)]),
    ],
)
def test_a17_most_time_decides_and_the_smallest_name_breaks_ties(
    report: Report, last: str, primary: str, shares: list[tuple[str, float]]
) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00", "a:aurora-2 09:03", f"a:ember-mini {last}"))
    found = report()
    assert rows(found)["kelp"]["primary_model"] == primary
    assert rows(found)["kelp"]["models"] == ["aurora-2", "ember-mini"]
    assert list(minutes_by(found, "model").items()) == shares


def test_a18_without_activity_the_models_are_those_of_the_usage(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp")
        s.use("kelp", "09:00", "zinc", 5)
        s.use("kelp", "09:01", "boron", 6)

    report.source(fill)
    found = report()
    kelp = rows(found)["kelp"]
    assert (kelp["timing_quality"], kelp["output_tokens"]) == ("untimed", 11)
    assert (kelp["models"], kelp["primary_model"]) == (["boron", "zinc"], "boron")
    assert (found["by_model"], found["by_project"]) == ([], [])
    assert total(found, "distinct_models", "output_tokens") == [2, 11]


def test_a19_activity_without_a_model_takes_that_of_the_usage(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp", "u 09:00", "u 09:02")
        s.use("kelp", "09:01", "aurora-2", 10, 0.4)

    report.source(fill)
    found = report()
    kelp = rows(found)["kelp"]
    assert (kelp["timing_quality"], kelp["agent_minutes"]) == ("timed", 2)
    assert kelp["primary_model"] == "aurora-2"
    (share,) = found["by_model"]
    assert (share["key"], share["agent_minutes"], share["cost"]) == ("aurora-2", 0, 0.4)


def test_a20_models_of_activity_and_of_usage_are_not_merged(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp", "u 09:00", "a:aurora-2 09:02")
        s.use("kelp", "09:01", "ember-mini", 10, 0.4)

    report.source(fill)
    found = report()
    assert rows(found)["kelp"]["models"] == ["aurora-2"]
    shares = [(x["key"], x["agent_minutes"], x["cost"]) for x in found["by_model"]]
    assert shares == [("aurora-2", 2, 0), ("ember-mini", 0, 0.4)]
    assert total(found, "distinct_models") == [1]


# -- usage --------------------------------------------------------------------------------------


def test_a21_usage_counts_from_the_start_up_to_the_end(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp", started_at=at("08:00"), ended_at=at("11:00"))
        times = ("08:59:59", "09:00:00", "09:59:59.999", "10:00:00")
        for power, clock in enumerate(times):
            s.use("kelp", clock, "aurora-2", 2**power, float(2**power))

    report.source(fill)
    found = report.custom("09:00", "10:00", "--bucket", "1h")
    assert total(found, "output_tokens", "cost") == [6, 6]


def _copies(report: Report, first: str) -> Document:
    def fill(s: Sessions) -> None:
        for name in ("nori", "moss"):
            s.add(name, started_at=at("08:00"), ended_at=at("11:00"))
        s.archive.add_price("half", input=0, output=10_000, cache_creation=0, cache_read=0)
        s.archive.add_price("eighty", input=0, output=10_000, cache_creation=0, cache_read=0)
        s.answer("nori", first, 50, model="half")
        s.answer("moss", "09:20", 80, model="eighty")

    report.source(fill)
    return report.custom("09:00", "10:00", "--bucket", "15m")


def test_a22_of_copies_the_earliest_counts(report: Report) -> None:
    found = _copies(report, "09:10")
    assert total(found, "output_tokens", "cost") == [50, 0.5]
    first = bucket(found, "09:00")
    assert (first["output_tokens"], first["cost"]) == (50, 0.5)
    moss = rows(found)["moss"]
    assert (moss["cost"], moss["output_tokens"], moss["models"]) == (0, 0, None)


def test_a23_a_copy_outside_of_the_range_claims_nothing(report: Report) -> None:
    found = _copies(report, "08:50")
    assert total(found, "output_tokens", "cost") == [80, 0.8]
    assert bucket(found, "09:15")["output_tokens"] == 80
    assert rows(found)["moss"]["output_tokens"] == 80


@pytest.mark.parametrize(("count", "output", "listed"), [(2, 9, True), (0, 4, False)])
def test_a24_a_copy_in_a_session_that_does_not_count_claims_nothing(
    report: Report, count: int, output: int, listed: bool
) -> None:
    def fill(s: Sessions) -> None:
        s.add("root", started_at=at("09:00"), ended_at=at("09:10"))
        s.add(
            "fork",
            relationship_type="fork",
            parent_session_id="root",
            message_count=count,
            started_at=at("09:00"),
            ended_at=at("09:10"),
        )
        s.answer("fork", "09:05", 9)
        s.answer("root", "09:06", 4)

    report.source(fill)
    found = report()
    assert total(found, "output_tokens") == [output]
    assert ("fork" in rows(found)) is listed
    root = rows(found)["root"]
    assert root["output_tokens"] == (0 if listed else 4)
    assert root["models"] == (None if listed else ["aurora-2"])


def test_a25_subagents_count_like_any_session(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("helper", relationship_type="subagent", parent_session_id="gone")
        s.use("helper", "09:00", "aurora-2", 500)

    report.source(fill)
    found = report()
    assert rows(found)["helper"]["output_tokens"] == 500
    assert total(found, "sessions", "output_tokens") == [1, 500]


# -- who is in the report -----------------------------------------------------------------------


def test_a26_an_end_at_the_start_touches_and_a_start_at_the_end_does_not(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("before", "u 08:50", "u 09:00")
        s.add("after", "u 10:00", "u 10:05")

    report.source(fill)
    found = report.custom("09:00", "10:00")
    assert list(rows(found)) == ["before"]
    assert rows(found)["before"]["timing_quality"] == "untimed"


def test_a27_a_session_without_an_end_lasts_to_its_latest_message(report: Report) -> None:
    report.source(
        lambda s: s.add("kelp", "u 2026-02-09T23:00:00Z", "u 09:00", "u 09:01", ended_at=None)
    )
    assert rows(report())["kelp"]["timing_quality"] == "timed"


def test_a28_a_session_that_ended_before_is_out_whatever_it_holds(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add(
            "kelp",
            "u 09:00",
            "u 09:01",
            started_at=at("08:00", "2026-02-09"),
            ended_at=at("10:00", "2026-02-09"),
        )
        s.use("kelp", "09:00", "aurora-2", 10, 1.0)

    report.source(fill)
    found = report()
    assert found["by_session"] == []
    assert total(found, "output_tokens", "cost") == [0, 0]


def test_a29_a_session_without_messages_is_out(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp", message_count=0)
        s.use("kelp", "09:00", "aurora-2", 10, 1.0)

    report.source(fill)
    found = report()
    assert found["by_session"] == []
    assert total(found, "cost") == [0]


def test_a30_an_empty_label_is_a_project_but_no_share(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp", "u 09:00", "u 09:02", project="")
        s.add("moss", "u 09:00", "u 09:01", project="q")

    report.source(fill)
    found = report()
    assert list(found["projects"]) == ["", "q"]
    assert total(found, "distinct_projects") == [2]
    assert minutes_by(found, "project") == {"q": 1}


@pytest.mark.parametrize("untimed", [2, 20])
def test_a31_sessions_are_in_order_of_time_then_id(report: Report, untimed: int) -> None:
    names = [f"n{number:02}" for number in range(untimed, 0, -1)]

    def fill(s: Sessions) -> None:
        for name in ("x1", *names, "a1"):
            s.add(name, *(["u 09:00", "u 09:03"] if name in ("x1", "a1") else ["u 09:00"]))

    report.source(fill)
    assert list(rows(report())) == ["a1", "x1", *sorted(names)]


def test_a32_cost_orders_no_share(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("m", "u 09:00", "u 09:05", project="m")
        for name, cost in (("k", 9.0), ("b", 1.0)):
            s.add(name, project=name)
            s.use(name, "09:00", "aurora-2", 0, cost)

    report.source(fill)
    assert list(minutes_by(report(), "project")) == ["m", "b", "k"]


def test_a33_a_fraction_of_a_second_counts_and_is_not_shown(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00:00.300", "u 09:00:00.900"))
    found = report()
    assert intervals(found) == [("09:00:00", "09:00:00")]
    assert rows(found)["kelp"]["agent_minutes"] == 0.01
    assert rows(found)["kelp"]["timing_quality"] == "timed"


# -- ranges, zones and refusals -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "flags", "start", "end", "count", "idle"),
    [
        ("Europe/Berlin", "2026-03-29", (), "2026-03-28T23:00", "2026-03-29T22:00", 276, 1380),
        ("Europe/Berlin", "2026-10-25", (), "2026-10-24T22:00", "2026-10-25T23:00", 300, 1500),
        (
            *("Australia/Lord_Howe", "2026-10-04", ("--bucket", "1h")),
            *("2026-10-03T13:30", "2026-10-04T13:00", 24, 1410),
        ),
    ],
)
def test_a34_days_are_as_long_as_their_zone_makes_them(
    report: Report,
    zone: str,
    day: str,
    flags: tuple[str, ...],
    start: str,
    end: str,
    count: int,
    idle: float,
) -> None:
    found = report("--date", day, "--timezone", zone, *flags)
    assert (found["range_start"], found["range_end"]) == (f"{start}:00Z", f"{end}:00Z")
    assert (found["bucket_count"], found["totals"]["idle_minutes"]) == (count, idle)
    if flags:
        assert _hours(found)[-1] == 0.5


def _hours(found: Document) -> list[float]:
    ends = [(parse_strict_ns(x["start"]), parse_strict_ns(x["end"])) for x in found["buckets"]]
    return [(end - start) / 3600e9 for start, end in ends if start is not None and end is not None]


def test_a35_a_week_is_of_local_days(report: Report) -> None:
    flags = ("--preset", "week", "--date", "2026-10-25", "--timezone", "Europe/Berlin")
    found = report(*flags)
    assert found["range_start"] == "2026-10-18T22:00:00Z"
    assert found["range_end"] == "2026-10-25T23:00:00Z"
    assert (found["bucket_unit"], found["bucket_count"]) == ("hour", 169)
    days = report(*flags, "--bucket", "1d")
    assert _hours(days) == [24] * 6 + [25]
    assert (days["bucket_unit"], days["bucket_seconds"]) == ("day", 86_400)


def test_a36_weeks_are_cut_to_the_month(report: Report) -> None:
    flags = ("--preset", "month", "--date", "2026-10-25", "--timezone", "Europe/Berlin")
    assert _hours(report(*flags, "--bucket", "1w")) == [96, 168, 168, 169, 144]


def test_a37_days_are_cut_to_a_custom_range(report: Report) -> None:
    found = report(
        *("--preset", "custom", "--from", "2026-05-04T22:30:00+05:30"),
        *("--to", "2026-05-07T01:00:00Z", "--timezone", "Asia/Kolkata", "--bucket", "1d"),
    )
    assert found["range_start"] == "2026-05-04T17:00:00Z"
    assert _hours(found) == [1.5, 24, 24, 6.5]


def test_a38_the_length_of_the_range_chooses_the_bucket(report: Report) -> None:
    flags = ("--preset", "custom", "--from", "2026-02-01T00:00:00Z", "--to")
    short = report(*flags, "2026-02-02T12:00:00Z")
    assert (short["bucket_count"], short["bucket_seconds"]) == (432, 300)
    longer = report(*flags, "2026-02-02T12:00:01Z")
    assert (longer["bucket_count"], longer["bucket_seconds"]) == (37, 3600)
    assert _hours(longer)[-1] == pytest.approx(1 / 3600)


def test_a39_neither_a_year_nor_two_thousand_buckets_are_exceeded(report: Report) -> None:
    flags = ("--preset", "custom", "--from", "2026-01-01T00:00:00Z", "--to")
    assert report(*flags, "2026-01-07T22:40:00Z", "--bucket", "5m")["bucket_count"] == 2000
    too_many = report.failure(*flags, "2026-01-07T22:40:01Z", "--bucket", "5m")
    assert too_many == "bucket configuration would produce too many buckets"
    assert report(*flags, "2027-01-01T00:00:00Z", "--bucket", "1w")["bucket_unit"] == "week"
    too_long = report.failure(*flags, "2027-01-02T00:00:00Z", "--bucket", "1w")
    assert too_long == "range exceeds maximum of one year"


FROM_TO = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (FROM_TO, "invalid preset: "),
        (("--preset", "year"), "invalid preset: year"),
        (("--preset", "year", "--date", "2026-1-1"), "invalid date: 2026-1-1"),
        (("--preset", "custom", *FROM_TO[:2]), "custom range requires both from and to"),
        (("--preset", "custom", *FROM_TO[2:], "--from", "2026-01-01"), "invalid from: 2026-01-01"),
        (("--preset", "custom", *FROM_TO[:2], "--to", "soon"), "invalid to: soon"),
        (("--preset", "custom", *FROM_TO[:2], "--to", FROM_TO[1]), "from must be before to"),
        (("--bucket", "30m"), "invalid bucket: 30m"),
        (("--timezone", "Mars/Base"), "invalid timezone: Mars/Base"),
        (("--timezone", "Mars/Base", "--preset", "year"), "invalid timezone: Mars/Base"),
        (
            ("--automation", "some"),
            'invalid automation "some" (want all, interactive, or automated)',
        ),
        (("--date", "2011-12-30", "--timezone", "Pacific/Apia"), "from must be before to"),
    ],
)
def test_a40_what_cannot_be_meant_is_refused(
    report: Report, flags: tuple[str, ...], sentence: str
) -> None:
    assert report.failure(*flags) == sentence


def test_a41_bounds_beside_another_preset_are_not_looked_at(report: Report) -> None:
    report.set_clock("2026-02-04T12:00:00Z")
    found = report("--preset", "week", "--from", "nonsense", "--to", "nonsense")
    assert found["range_start"] == "2026-02-02T00:00:00Z"
    assert found["range_end"] == "2026-02-09T00:00:00Z"


def test_a42_agents_are_a_list_and_the_project_is_one_label(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("c", agent="claude", project="a,b")
        s.add("x", agent="codex", project="a")
        s.add("g", agent="gemini", machine="elm")

    report.source(fill)
    assert sorted(rows(report("--agent", "claude, codex"))) == ["c", "x"]
    assert sorted(rows(report("--agent", " , "))) == ["c", "g", "x"]
    assert sorted(rows(report("--project", "a,b"))) == ["c"]
    assert sorted(rows(report("--machine", "elm, fir"))) == ["g"]
    assert sorted(rows(report("--machine", "elm", "--agent", "codex"))) == []


@pytest.mark.parametrize(
    ("flags", "counts"),
    [
        (("--automation", "interactive"), [0, 1]),
        (("--automation", "automated"), [1, 0]),
        (("--automation", "all"), [1, 1]),
        (("--automation", ""), [1, 1]),
        ((), [1, 1]),
    ],
)
def test_a43_automated_sessions_can_be_asked_for_or_left_out(
    report: Report, flags: tuple[str, ...], counts: list[int]
) -> None:
    def fill(s: Sessions) -> None:
        s.add("auto", is_automated=1)
        s.add("person")

    report.source(fill)
    assert total(report(*flags), "automated_sessions", "interactive_sessions") == counts


def test_a44_names_of_sessions_are_not_kept_so_the_title_is_the_project_or_the_id(
    report: Report,
) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp", display_name="", session_name="Prune", first_message="hi")
        s.add("moss", project="")

    report.source(fill)
    found = rows(report())
    assert {name: row["title"] for name, row in found.items()} == {
        "kelp": "orchard",
        "moss": "moss",
    }


def test_a45_only_usage_that_counts_is_in_the_pricing_block(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp", "u 09:00", "a:only-active 09:02")
        s.answer("kelp", "09:02", 5, model="counted")
        s.add("moss")
        s.answer("moss", "09:03", 5, model="dropped")
        s.archive.update_session("moss", ended_at=at("09:10"))
        s.archive.add_cursor_usage(occurred_at=at("09:04"), model="billed")

    report.source(fill)
    found = report()
    assert list(found["pricing"]["models"]) == ["counted"]
    assert "billed" not in json.dumps(found)
    assert total(found, "output_tokens") == [5]


def test_a46_a_reported_cost_needs_no_rate(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp")
        s.use("kelp", "09:00", "quartz-pro", 0, 0.3)

    report.source(fill)
    found = report()
    assert found["pricing"]["cost_source"] == "reported"
    assert found["pricing"]["models"]["quartz-pro"]["matched_pattern"] is None
    assert total(found, "cost") == [0.3]


def test_a47_a_session_from_a_clock_ahead_of_ours_is_listed(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 13:00", "u 13:01"))
    report.set_clock(at("12:00"))
    found = report()
    assert rows(found)["kelp"]["timing_quality"] == "untimed"
    assert total(found, "sessions") == [1]


def test_a48_a_day_whose_midnight_is_skipped_begins_when_the_clock_jumps(report: Report) -> None:
    found = report("--date", "2026-03-08", "--timezone", "America/Havana")
    assert found["range_start"] == "2026-03-08T05:00:00Z"
    assert found["range_end"] == "2026-03-09T04:00:00Z"
    assert total(found, "idle_minutes") == [1380]


# -- the whole document -------------------------------------------------------------------------


def _example(s: Sessions) -> None:
    day = "2026-09-14"

    def add(name: str, *messages: str, **over: Any) -> None:
        dated = [f"{kind} {at(clock, day)}" for kind, clock in (m.split() for m in messages)]
        s.add(name, *dated, **over)

    def use(name: str, ordinal: int, *counts: int) -> None:
        names = ("input_tokens", "output_tokens", "cache_creation_input_tokens")
        usage = dict(zip((*names, "cache_read_input_tokens"), counts, strict=True))
        s.archive.execute(
            "UPDATE messages SET token_usage = ? WHERE session_id = ? AND ordinal = ?",
            [json.dumps(usage), name, ordinal],
        )

    amber = ("u 07:58", "a:aurora-2 08:03", "u 08:04", "a:aurora-2 08:07:30", "a:ember-mini 08:20")
    add("s-amber", *amber)
    use("s-amber", 1, 1000, 400, 2000, 10000)
    use("s-amber", 3, 500, 200, 0, 0)
    birch = ("u 08:02", "a:ember-mini 08:05:30", "u 08:38", "a:ember-mini 08:44")
    add("s-birch", *birch, agent="codex", project="tidepool", is_automated=1)
    use("s-birch", 1, 3000, 900, 0, 0)
    use("s-birch", 3, 700, 80, 0, 0)
    add("s-cedar", "u 08:31")
    s.use("s-cedar", at("08:31", day), "quartz-pro", 700, 0.0625)
    add("s-dune", "u 08:10", agent="codex", project="tidepool")
    s.archive.add_price("aurora-2", 3, 15, 3.75, 0.3, updated_at="2026-09-01T06:30:00Z")
    remote = "git@GitHub.com:evergreen-labs/orchard.git"
    s.archive.add_observation("orchard", git_remote=remote)


def test_the_example_of_a_partial_range(report: Report, tmp_path: Path) -> None:
    """The second half of the hour has not come; the same archive, later, is a golden document."""
    report.source(_example)
    report.set_clock("2026-09-14T08:40:00Z")
    prices = tmp_path / "prices.toml"
    prices.write_text(
        "[custom_model_pricing.ember-mini]\n"
        "input = 0.5\noutput = 2\ncache_creation = 0.5\ncache_read = 0.05\n"
    )
    found = report(
        *("--preset", "custom", "--from", "2026-09-14T08:00:00Z", "--to", "2026-09-14T09:00:00Z"),
        *("--bucket", "15m", "--timezone", "Europe/Lisbon", "--custom-prices", str(prices)),
    )
    assert found["pricing"]["digest"] == (
        "sha256:13421cd4ae2e305b1744e45a04a2deaea45eb3268c9989e72be3bdbedeb99f69"
    )
    assert found["pricing"]["cost_source"] == "mixed"
    key = found["projects"]["orchard"]["identity"]["key"]
    assert key == "sha256:455f0b1f5be06ed993421a685ec1193a932b83619d75eedef2d275ccaf203aad"
    assert found["projects"]["tidepool"] == {"resolution": "unknown", "identity": None}
    assert (found["partial"], found["as_of"]) == (True, "2026-09-14T08:40:00Z")
    assert found["elapsed_bucket_count"] == 3
    names = ("max_agents", "agent_minutes", "output_tokens", "cost", "automated_at_peak")
    assert [[x[name] for name in names] for x in found["buckets"]] == [
        [2, 21, 1500, 0.0273, 1],
        [0, 0, 0, 0, 0],
        [1, 2, 700, 0.0625, 1],
        [0, 0, 0, 0, 0],
    ]
    assert found["peak"] == {"agents": 2, "at": "2026-09-14T08:02:00Z"}
    assert list(found["totals"].values()) == [
        *(14.5, 25.5, 23, 4, 2, 2, 3, 2200, 0.0898),
        *(10.5, 12.5, 0.0033, 0.0865, 1, 3),
    ]
    shares = {
        name: [tuple(share.values()) for share in found[f"by_{name}"]]
        for name in ("project", "model", "agent")
    }
    first, second = (12.5, 0.0865, 0, 12.5, 0, 0.0865), (10.5, 0.0033, 10.5, 0, 0.0033, 0)
    assert shares["project"] == [("orchard", *first), ("tidepool", *second)]
    assert shares["agent"] == [("claude", *first), ("codex", *second)]
    assert shares["model"] == [
        ("ember-mini", 15.5, 0.0033, 10.5, 5, 0.0033, 0),
        ("aurora-2", 7.5, 0.024, 0, 7.5, 0, 0.024),
        ("quartz-pro", 0, 0.0625, 0, 0, 0, 0.0625),
    ]
    names = ("primary_model", "models", "agent_minutes", "cost", "output_tokens", "timing_quality")
    assert {row["session_id"]: [row[n] for n in names] for row in found["by_session"]} == {
        "s-amber": ["aurora-2", ["aurora-2", "ember-mini"], 12.5, 0.024, 600, "timed"],
        "s-birch": ["ember-mini", ["ember-mini"], 10.5, 0.0033, 900, "timed"],
        "s-cedar": ["quartz-pro", ["quartz-pro"], None, 0.0625, 700, "untimed"],
        "s-dune": ["", None, None, 0, 0, "untimed"],
    }
    assert [
        (x["session_id"], *pair)
        for x, pair in zip(found["intervals"], intervals(found, "2026-09-14"), strict=True)
    ] == [
        ("s-amber", "08:00:00", "08:03:00"),
        ("s-birch", "08:02:00", "08:05:30"),
        ("s-amber", "08:03:00", "08:04:00"),
        ("s-amber", "08:04:00", "08:07:30"),
        ("s-birch", "08:05:30", "08:10:30"),
        ("s-amber", "08:07:30", "08:12:30"),
        ("s-birch", "08:38:00", "08:40:00"),
    ]


# -- beyond the cases ---------------------------------------------------------------------------


def test_parts_add_up_to_the_cent_and_beyond(report: Report) -> None:
    """Sums of doubles would not: 0.1 three times is not 0.3 there."""

    def fill(s: Sessions) -> None:
        for number in range(3):
            s.add(f"k{number}", is_automated=number % 2)
            s.use(f"k{number}", "09:00", "aurora-2", 1, 0.1)

    report.source(fill)
    found = report()
    assert total(found, "cost", "automated_cost", "interactive_cost") == [0.3, 0.1, 0.2]


def test_nanoseconds_count(report: Report) -> None:
    report.source(lambda s: s.add("kelp", "u 09:00:00.000000001", "u 09:00:00.000000301"))
    found = report()
    assert rows(found)["kelp"]["agent_minutes"] == 300 / 60e9
    assert bucket(found, "09:00")["agent_minutes"] == 300 / 60e9


def test_lines_carry_the_same_as_the_document(report: Report) -> None:
    def fill(s: Sessions) -> None:
        s.add("kelp <&>\u2028", "u 09:00", "a:<synthetic> 09:02", "a:b 09:03", project="é <&>")
        s.add("moss", "u 09:00")

    report.source(fill)
    document = report()
    lines = report.run("--date", DAY, "--timezone", "UTC", "--ndjson", "--validate")
    assert (lines.exit, lines.stderr) == (0, "")
    meta, *sessions = (json.loads(line) for line in lines.stdout.splitlines())
    assert sessions == document["by_session"]
    assert meta == {"type": "meta", **{k: v for k, v in document.items() if k in meta}}
    assert set(document) - set(meta) == {"by_session", "intervals"}


def test_the_document_is_indented_as_one_encoder_would_do_it(report: Report) -> None:
    """Its two long arrays are written by the database, the rest by us."""
    from exporter.core.wire import encode_pretty

    def fill(s: Sessions) -> None:
        s.add("kelp <&>", "u 09:00", "a:<synthetic> 09:02", "a:b 09:03", project="é <&>")
        s.add("moss", "u 09:00")

    for fill_it in (lambda: None, lambda: report.source(fill)):
        fill_it()
        text = report.run("--date", DAY, "--timezone", "UTC", "--json").stdout
        assert text == encode_pretty(json.loads(text)).decode() + "\n"


def test_many_intervals_come_in_order(report: Report) -> None:
    """More than one block of them."""

    def fill(s: Sessions) -> None:
        for number in range(3):
            clocks = [f"u {9 + i // 600:02}:{i // 10 % 60:02}:{i % 10 * 6:02}" for i in range(400)]
            s.add(f"k{number}", *clocks)

    report.source(fill)
    found = report()["intervals"]
    assert len(found) == 3 * 399
    keys = [(x["start"], x["end"], x["session_id"]) for x in found]
    assert keys == sorted(keys)
