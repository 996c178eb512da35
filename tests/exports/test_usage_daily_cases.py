"""The daily usage report, case by case: what counts, on which date, at what cost.

The names of the tests begin with the number of the case. Unless a test says otherwise, sessions are
root sessions of claude in project orchard, dates are those of UTC, breakdowns are asked for, and
the window is the one date 2026-03-05.
"""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from exporter.cli.main import run
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.interop.origin import Result

DAY = "2026-03-05"
ONE_DAY = ("--since", DAY, "--until", DAY)
PAIR, OTHER_PAIR = ("M1", "R1"), ("M2", "R2")
Document = dict[str, Any]

PRICES = """
[custom_model_pricing.ember-mini]
input = 0.5
output = 2
cache_creation = 0.5
cache_read = 0.05
"""


def at(clock: str) -> str:
    """``09:00`` as a time of the day in UTC; a whole time as it is."""
    return clock if "T" in clock else f"{DAY}T{clock}:00Z"


def counters(text: str) -> dict[str, int]:
    """``in/out/write/read`` as a provider names them; what is left out is 0."""
    names = ("input", "output", "cache_creation_input", "cache_read_input")
    numbers = [int(number) for number in text.split("/")]
    return {f"{name}_tokens": n for name, n in zip(names, numbers, strict=False)}


class Source:
    """Writes the rows of the cases into a source archive."""

    def __init__(self, archive: SqliteArchive) -> None:
        self.archive = archive

    def session(self, name: str, **over: Any) -> str:
        defaults = {"project": "orchard", "started_at": at("08:00"), "ended_at": at("12:00")}
        self.archive.add_session(name, **{**defaults, **over})
        return name

    def message(
        self,
        session: str,
        clock: str | None,
        usage: str = "0/10",
        model: str = "aurora-2",
        pair: tuple[str, str] = ("", ""),
        **over: Any,
    ) -> None:
        """A response; ``usage`` is ``in/out/write/read``, or text to store as it is."""
        stored = counters(usage) if usage[:1].isdigit() else usage
        self.archive.add_message(
            session,
            **{
                "role": "assistant",
                "timestamp": at(clock) if clock else None,
                "model": model,
                "token_usage": stored,
                "claude_message_id": pair[0],
                "claude_request_id": pair[1],
                **over,
            },
        )

    def event(
        self, session: str, clock: str, usage: str = "0/10", model: str = "aurora-2", **over: Any
    ) -> None:
        defaults = {"source": "shutdown", "occurred_at": at(clock), **counters(usage)}
        self.archive.add_event(session, **{**defaults, "model": model, **over})

    def billing(self, clock: str = "11:00", cents: float = 250.5, **over: Any) -> None:
        tokens = {"input_tokens": 700, "output_tokens": 90, "cache_read_tokens": 1500}
        defaults = {"occurred_at": at(clock), "charged_cents": cents, "model": "drift-max"}
        self.archive.add_cursor_usage(**{**tokens, "cache_write_tokens": 0, **defaults, **over})


class Usage:
    """The road from the cases' rows to the report, within one process."""

    def __init__(self, world: Pipeline, prices: Path) -> None:
        self.world = world
        self.prices = prices
        prices.write_text(PRICES)
        with world.source() as archive:
            archive.add_price("aurora-2", 3, 15, 3.75, 0.3, updated_at="2026-09-01T06:30:00Z")
            remote = "git@GitHub.com:evergreen-labs/orchard.git"
            archive.add_observation("orchard", git_remote=remote, root_path="")

    @contextmanager
    def source(self) -> Iterator[Source]:
        with self.world.source() as archive:
            yield Source(archive)

    def run(self, command: str, *flags: str) -> Result:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
        before = signal.getsignal(signal.SIGTERM)
        given = ["--database-url", self.world.url, "--custom-prices", str(self.prices)]
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = run(["usage", command, *given, *flags])
        finally:
            signal.signal(signal.SIGTERM, before)
        for stream in (out, err):
            stream.flush()
        return Result(code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode())

    def daily(self, *flags: str) -> Result:
        return self.run("daily", "--timezone", "UTC", *flags)

    def report(self, *flags: str) -> Document:
        """The document, checked against its schema; of the one day if no flag says otherwise."""
        shown = self.daily("--json", "--breakdown", "--validate", *(flags or ONE_DAY))
        assert (shown.exit, shown.stderr) == (0, "")
        document: Document = json.loads(shown.stdout)
        return document


@pytest.fixture
def usage(world: Pipeline, tmp_path: Path) -> Usage:
    world.forget_prices()
    return Usage(world, tmp_path / "prices.toml")


def only_day(document: Document) -> Document:
    (day,) = document["daily"]
    return dict(day)


def dates(document: Document) -> list[str]:
    return [day["date"] for day in document["daily"]]


def costs(entries: list[Document], label: str) -> dict[str, float]:
    return {entry[label]: entry["cost"] for entry in entries}


# -- dates --------------------------------------------------------------------------------------


def test_u01_one_response_on_its_date(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("fern"), "10:00", "1000/400/2000/10000")
    document = usage.report()
    assert only_day(document)["totalCost"] == 0.0195
    assert document["totals"]["cacheSavings"] == 0.0255
    assert document["sessionCounts"]["total"] == 1


def test_u02_nothing_is_still_a_document(usage: Usage) -> None:
    document = usage.report("--breakdown")
    zeros = dict.fromkeys(document["totals"], 0)
    assert (document["daily"], document["projects"]) == ([], {})
    assert document["totals"] == zeros and "copilotAICredits" not in zeros
    assert document["sessionCounts"] == {"total": 0, "byProject": {}, "byAgent": {}}
    assert document["pricing"]["models"] == {}
    assert document["pricing"]["cost_source"] == "computed"


def test_u03_the_zone_decides_the_date(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("fern"), "2026-03-01T15:30:00Z")
    assert dates(usage.report("--all", "--timezone", "Asia/Tokyo")) == ["2026-03-02"]
    assert dates(usage.report("--all", "--timezone", "America/New_York")) == ["2026-03-01"]


def test_u04_a_window_of_one_local_date(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        for day, clock in (
            ("01", "14:59:59"),
            ("01", "15:00:00"),
            ("02", "14:59:59"),
            ("02", "15:00:00"),
        ):
            source.message(fern, f"2026-03-{day}T{clock}Z", "10")
    window = ("--since", "2026-03-02", "--until", "2026-03-02", "--timezone", "Asia/Tokyo")
    assert only_day(usage.report(*window))["inputTokens"] == 20


def test_u05_a_date_of_23_hours(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        for time in ("08T04:59:59", "08T05:00:00", "09T03:59:59", "09T04:00:00"):
            source.message(fern, f"2026-03-{time}Z", "0/1")
    window = ("--since", "2026-03-08", "--until", "2026-03-08", "--timezone", "America/New_York")
    assert only_day(usage.report(*window))["outputTokens"] == 2


# -- duplicates ---------------------------------------------------------------------------------


def test_u06_a_fork_pays_for_what_is_its_own(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("oak"), "09:00", "0/400", pair=PAIR)
        fork = source.session("oak-fork", relationship_type="fork")
        source.message(fork, "09:00", "0/400", pair=PAIR)
        source.message(fork, "09:05", "0/70", pair=OTHER_PAIR)
    document = usage.report()
    assert document["totals"]["outputTokens"] == 470
    assert document["sessionCounts"]["total"] == 2


def test_u07_a_session_left_with_duplicates_is_not_there(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("oak"), "09:00", "0/400", pair=PAIR)
        fork = source.session("oak-fork", relationship_type="fork", project="other")
        source.message(fork, "09:00", "0/400", "ember-mini", pair=PAIR)
    document = usage.report()
    assert document["totals"]["outputTokens"] == 400
    assert document["sessionCounts"]["total"] == 1
    assert list(document["projects"]) == ["orchard"]
    assert list(document["pricing"]["models"]) == ["aurora-2"]


def test_u08_of_one_instant_the_smaller_id_counts(usage: Usage) -> None:
    with usage.source() as source:
        zeta = source.session("zeta", project="p-z")
        source.message(zeta, "09:00", model="quartz-pro", pair=PAIR)
        source.message(
            source.session("beta", project="p-b"), "09:00", model="ember-mini", pair=PAIR
        )
    document = usage.report()
    assert list(document["projects"]) == ["p-b"]
    assert list(document["pricing"]["models"]) == ["ember-mini"]


def test_u09_instants_decide_and_not_their_text(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("a1"), f"{DAY}T10:00:00.250Z", "0/900", pair=PAIR)
        source.message(source.session("b1"), f"{DAY}T10:00:00Z", "0/30", pair=PAIR)
    assert usage.report()["totals"]["outputTokens"] == 30


def test_u10_a_copy_outside_of_the_window_claims_nothing(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("early"), "2026-03-04T23:00:00Z", "0/5", pair=PAIR)
        source.message(source.session("late"), f"{DAY}T08:00:00Z", "0/9", pair=PAIR)
    assert usage.report()["totals"]["outputTokens"] == 9
    assert usage.report("--all")["totals"]["outputTokens"] == 5


def test_u11_half_a_pair_leaves_it_to_the_transcript_id(usage: Usage) -> None:
    half = {"pair": ("M1", ""), "source_uuid": "S1"}
    with usage.source() as source:
        for name, agent in (("a", "claude"), ("b", "claude"), ("c", "codex")):
            source.message(source.session(name, agent=agent), "09:00", **half)
    assert usage.report()["totals"]["outputTokens"] == 20


def test_u12_keys_of_different_kinds_never_match(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        for pair in (PAIR, OTHER_PAIR, ("", "")):
            source.message(fern, "09:00", pair=pair, source_uuid="S1")
    assert usage.report()["totals"]["outputTokens"] == 30


def test_u13_without_a_key_everything_counts(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        source.message(fern, "09:00")
        source.message(fern, "09:00")
    assert usage.report()["totals"]["outputTokens"] == 20


def test_u14_a_message_and_an_event_both_count(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        source.message(fern, "09:00", "0/100")
        source.event(fern, "09:00", "0/100", dedup_key="x")
    document = usage.report()
    assert document["totals"]["outputTokens"] == 200
    assert document["sessionCounts"]["total"] == 1


def test_u15_events_of_two_sessions_are_never_the_same(usage: Usage) -> None:
    with usage.source() as source:
        for name in ("a", "b"):
            source.event(source.session(name), "09:00", "0/7", dedup_key="x")
    assert usage.report()["totals"]["outputTokens"] == 14


# -- tokens and cost ----------------------------------------------------------------------------


def test_u16_odd_usage_texts(usage: Usage) -> None:
    texts = (
        '{"input_tokens":"1200","output_tokens":-5}',
        '{"input_tokens":9000000}',
        '{"input_tokens":40,"output_tokens":12,"cache_re',
        '{"x":{"input_tokens":7},"output_tokens":3.9}',
        "not json",
    )
    with usage.source() as source:
        for number, text in enumerate(texts):
            source.message(source.session(f"s{number}"), "09:00", text, "ember-mini")
    document = usage.report()
    day = only_day(document)
    assert (day["inputTokens"], day["outputTokens"], day["totalCost"]) == (2001240, 15, 1.00065)
    assert document["sessionCounts"]["total"] == 5


def test_u17_only_summaries_of_a_session_may_be_large(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        source.event(fern, "09:00", "5000000", "ember-mini", source="session")
        source.event(fern, "09:00", "5000000", "ember-mini", source="shutdown")
    day = only_day(usage.report())
    assert (day["inputTokens"], day["totalCost"]) == (7000000, 3.5)


def test_u18_reasoning_is_billed_where_there_is_no_output(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        source.message(fern, "09:00", '{"output_tokens":0,"reasoning_tokens":500}')
        source.message(fern, "09:00", '{"output_tokens":800,"reasoning_tokens":500}')
    day = only_day(usage.report())
    assert (day["outputTokens"], day["totalCost"]) == (800, 0.0195)


def test_u19_an_unpriced_model_counts_without_a_cost(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("fern"), "09:00", "500/250", "quartz-pro")
    document = usage.report()
    day = only_day(document)
    assert (day["inputTokens"], day["totalCost"]) == (500, 0)
    assert day["modelsUsed"] == ["quartz-pro"]
    price = document["pricing"]["models"]["quartz-pro"]
    assert price["matched_pattern"] is None and price["cost_source"] == "computed"
    assert price["input_cost_per_mtok"] == price["output_cost_per_mtok"] == 0
    assert document["pricing"]["fallback"]["models"] == []


def test_u20_a_reported_cost_of_0_is_a_cost(usage: Usage) -> None:
    with usage.source() as source:
        source.event(source.session("fern"), "09:00", "1000/1000", cost_usd=0.0)
    document = usage.report()
    assert only_day(document)["totalCost"] == 0
    assert document["pricing"]["cost_source"] == "reported"


def test_u21_where_costs_came_from(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        source.message(fern, "09:00")
        source.event(fern, "09:00", cost_usd=0.5)
        source.message(fern, "09:00", model="ember-mini")
    pricing = usage.report()["pricing"]
    sources = {name: price["cost_source"] for name, price in pricing["models"].items()}
    assert sources == {"aurora-2": "mixed", "ember-mini": "computed"}
    assert pricing["cost_source"] == "mixed"


def test_u22_writing_a_cache_may_cost_more_than_it_saves(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("fern"), "09:00", "0/0/1000000/0")
    document = usage.report()
    assert document["totals"]["totalCost"] == 3.75
    assert document["totals"]["cacheSavings"] == -0.75


def test_u23_a_reported_cost_saves_as_well(usage: Usage) -> None:
    with usage.source() as source:
        source.event(source.session("fern"), "09:00", "0/0/0/100000", cost_usd=0.01)
    totals = usage.report()["totals"]
    assert (totals["totalCost"], totals["cacheSavings"]) == (0.01, 0.27)


# -- billing lines, filters, eligibility --------------------------------------------------------


def test_u24_a_billing_line_alone(usage: Usage) -> None:
    with usage.source() as source:
        source.billing()
    document = usage.report()
    day = only_day(document)
    assert day["totalCost"] == 2.505
    assert costs(day["projectBreakdowns"], "project") == {"": 2.505}
    assert costs(day["agentBreakdowns"], "agent") == {"cursor": 2.505}
    assert document["projects"] == {}
    assert document["sessionCounts"]["total"] == 0
    assert document["pricing"]["models"]["drift-max"]["cost_source"] == "reported"


def with_agents(usage: Usage) -> Callable[[str], tuple[list[str], int, int]]:
    """A billing line, a session of claude and one of cursor; what a choice of agents leaves."""
    with usage.source() as source:
        source.billing()
        source.message(source.session("c"), "09:00", "1")
        source.message(source.session("k", agent="cursor"), "09:00", "2")

    def chosen(agents: str) -> tuple[list[str], int, int]:
        document = usage.report(*ONE_DAY, "--agent", agents)
        names = [entry["agent"] for entry in only_day(document)["agentBreakdowns"]]
        total = document["sessionCounts"]["total"]
        return names, document["totals"]["inputTokens"], total

    return chosen


def test_u25_billing_lines_belong_to_the_agent_cursor(usage: Usage) -> None:
    chosen = with_agents(usage)
    assert chosen("claude") == (["claude"], 1, 1)
    assert chosen("cursor") == (["cursor"], 702, 1)


def test_u26_blanks_belong_to_an_agent_but_for_billing_lines(usage: Usage) -> None:
    assert with_agents(usage)("claude, cursor") == (["cursor", "claude"], 701, 1)


def test_filters_on_projects_and_machines_drop_billing_lines(usage: Usage) -> None:
    with usage.source() as source:
        source.billing()
        source.message(source.session("a", machine="oak"), "09:00", "1")
        source.message(source.session("b", machine="elm", project="a,b"), "09:00", "2")
    for flags, expected in (
        (("--project", "orchard"), 1),
        (("--project", "a,b"), 2),
        (("--machine", " oak , elm"), 3),
        (("--machine", "elm"), 2),
        (("--project", "a"), 0),
    ):
        assert usage.report(*ONE_DAY, *flags)["totals"]["inputTokens"] == expected


def test_u27_a_response_without_a_time_has_that_of_its_session(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("a", started_at=at("22:00")), None)
        source.message(source.session("b", started_at=None, ended_at=None), None)
    assert dates(usage.report()) == [DAY]
    assert dates(usage.report("--all")) == ["", DAY]
    assert dates(usage.report("--until", "2030-01-01")) == [DAY]


def test_a_time_that_is_no_instant_dates_by_its_text(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        for text in ("2026-03-05 oddly", "short", "2026-03-06 09:00:00"):
            source.message(fern, None, timestamp=text)
    assert dates(usage.report("--all")) == ["", DAY, "2026-03-06"]
    assert dates(usage.report()) == [DAY]


def test_u28_what_is_no_response_does_not_count(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("gone", deleted_at=at("12:00")), "09:00")
        fern = source.session("fern")
        source.message(fern, "09:00", model="<synthetic>")
        source.message(fern, "09:00", model="")
        source.message(fern, "09:00", token_usage="")
        source.event(fern, "09:00", model="")
        source.event(fern, "09:00", "0/3", "<synthetic>")
    day = only_day(usage.report())
    assert (day["outputTokens"], day["modelsUsed"]) == (3, ["<synthetic>"])
    shown = usage.daily("--json", *ONE_DAY).stdout
    assert '"modelsUsed": [\n        "\\u003csynthetic\\u003e"\n      ]' in shown


def test_u29_helpers_count_like_others(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("fern", relationship_type="subagent"), "09:00", "5")
    document = usage.report()
    assert (document["totals"]["inputTokens"], document["sessionCounts"]["total"]) == (5, 1)


def test_u30_the_dearest_first_and_names_among_equals(usage: Usage) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        for model, cost in (("a", 0.2), ("b", 0.5), ("d", 0.0), ("c", 0.0)):
            source.event(fern, "09:00", model=model, cost_usd=cost)
    assert only_day(usage.report())["modelsUsed"] == ["b", "a", "c", "d"]


def test_u31_breakdowns_add_up_and_change_nothing_else(usage: Usage) -> None:
    with usage.source() as source:
        source.message(source.session("a"), "09:00", "100/20/3/4")
        source.message(source.session("b", agent="codex", project="q"), "10:00", "7/30/1/2")
        source.message(source.session("c", agent="codex"), "11:00", "5/1", "ember-mini")
    whole = usage.report()
    plain = json.loads(usage.daily("--json", *ONE_DAY).stdout)
    day = only_day(whole)
    fields = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
    for name in ("modelBreakdowns", "projectBreakdowns", "agentBreakdowns"):
        for field in fields:
            assert sum(entry[field] for entry in day[name]) == day[field]
        cost = sum(entry["cost"] for entry in day[name])
        assert cost == pytest.approx(day["totalCost"], abs=1e-12)
    assert len(day["projectBreakdowns"]) == len(day["agentBreakdowns"]) == 2
    day["projectBreakdowns"] = day["agentBreakdowns"] = []
    assert {**whole, "daily": [day]} == plain


# -- windows ------------------------------------------------------------------------------------


def on_dates(usage: Usage, *found: str) -> None:
    with usage.source() as source:
        fern = source.session("fern")
        for time in found:
            source.message(fern, time if "T" in time else f"{time}T12:00:00Z")


def test_u32_the_last_31_dates(usage: Usage) -> None:
    on_dates(usage, "2026-04-19", "2026-04-20", "2026-05-20", "2026-05-21")
    shown = usage.report("--now", "2026-05-20T09:00:00Z")
    assert dates(shown) == ["2026-04-20", "2026-05-20"]


def test_u33_the_last_date_is_that_of_utc(usage: Usage) -> None:
    on_dates(usage, "2026-05-20T11:30:00Z", "2026-05-20T12:30:00Z")
    zone = ("--timezone", "Pacific/Auckland")
    assert dates(usage.report("--now", "2026-05-20T13:00:00Z", *zone)) == ["2026-05-20"]
    assert dates(usage.report("--all", *zone)) == ["2026-05-20", "2026-05-21"]


def test_u34_a_start_alone_leaves_the_end_open(usage: Usage) -> None:
    on_dates(usage, "2026-05-05", "2026-05-06", "2026-05-22")
    shown = usage.report("--now", "2026-05-20T09:00:00Z", "--since", "14d")
    assert dates(shown) == ["2026-05-06", "2026-05-22"]


def test_u35_a_start_counts_back_from_the_end(usage: Usage) -> None:
    on_dates(usage, "2026-05-06", "2026-05-07", "2026-05-10", "2026-05-11")
    flags = ("--until", "10d", "--since", "3d")
    shown = usage.report("--now", "2026-05-20T09:00:00Z", *flags)
    assert dates(shown) == ["2026-05-07", "2026-05-10"]


def test_u36_days_of_a_duration_have_24_hours(usage: Usage) -> None:
    on_dates(usage, "2026-03-06", "2026-03-07", "2026-03-09")
    flags = ("--until", "2026-03-09", "--since", "1d", "--timezone", "America/New_York")
    assert dates(usage.report(*flags)) == ["2026-03-07", "2026-03-09"]


def test_u37_the_date_of_a_duration_is_a_local_one(usage: Usage) -> None:
    on_dates(usage, "2026-05-17T20:00:00Z", "2026-05-18T20:00:00Z")
    flags = ("--since", "1d", "--timezone", "America/Los_Angeles")
    assert dates(usage.report("--now", "2026-05-20T02:00:00Z", *flags)) == ["2026-05-18"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--since 2026-06-10 --until 2026-06-09", "--since (2026-06-10) must not be after"),
        ("--since 7x", "invalid --since: '7x'"),
        ("--since 0d", "invalid --since"),
        ("--since 2026-02-30", "invalid --since"),
        ("--since 200000d", "invalid --since"),
        ("--until soon", "invalid --until: 'soon'"),
        ("--timezone Mars/Base", "invalid --timezone: unknown time zone 'Mars/Base'"),
        ("--timezone Mars/Base --until soon", "invalid --timezone"),
        ("--since 7x --until soon", "invalid --until"),
        ("--format xml", "xml"),
        ("positional", "positional"),
        ("--json --format ndjson", "--json cannot be combined"),
        ("--validate", "--validate needs"),
        ("--chart usage.jpg", "must end in .svg or .png"),
    ],
)
def test_u38_what_cannot_be_meant_is_refused(usage: Usage, flags: str, said: str) -> None:
    shown = usage.daily(*flags.split())
    assert (shown.exit, shown.stdout) == (1, "")
    assert shown.stderr.startswith("fatal: ") and shown.stderr.count("\n") == 1
    assert said in shown.stderr


def test_u39_all_leaves_explicit_bounds_in_force(usage: Usage) -> None:
    on_dates(usage, "2026-04-30", "2026-05-01")
    assert dates(usage.report("--all", "--since", "2026-05-01")) == ["2026-05-01"]


# -- counts, credits, the statusline, people ----------------------------------------------------


def test_u40_credits_of_copilot(usage: Usage) -> None:
    with usage.source() as source:
        source.event(source.session("a", agent="copilot"), "09:00", "2000/300")
    totals = usage.report()["totals"]
    assert list(totals)[-3:] == ["totalCost", "copilotAICredits", "cacheSavings"]
    assert totals["copilotAICredits"] == 1.05
    with usage.source() as source:
        source.archive.update_session("a", agent="claude")
    assert "copilotAICredits" not in usage.report()["totals"]


def test_u41_a_session_on_two_dates_is_one(usage: Usage) -> None:
    on_dates(usage, DAY, "2026-03-06")
    document = usage.report("--all")
    assert (len(document["daily"]), document["sessionCounts"]["total"]) == (2, 1)


def test_u42_a_session_without_messages_counts(usage: Usage) -> None:
    with usage.source() as source:
        source.event(source.session("fern", message_count=0), "09:00", "5")
    document = usage.report()
    assert (document["totals"]["inputTokens"], document["sessionCounts"]["total"]) == (5, 1)


def test_u43_todays_cost_on_one_line(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    now = ("--now", f"{DAY}T20:00:00Z")
    assert usage.run("statusline", *now) == Result(0, "$0.00 today\n", "")
    with usage.source() as source:
        source.event(source.session("a", agent="codex"), "09:00", cost_usd=0.0039)
        source.event(source.session("b"), "09:00", cost_usd=4.0713)
        source.event(source.session("c"), "2026-03-04T23:59:00Z", cost_usd=9.0)
    assert usage.run("statusline", "--agent", "codex", *now).stdout == "<$0.01 today (codex)\n"
    assert usage.run("statusline", "--agent", "claude", *now).stdout == "$4.07 today (claude)\n"
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert usage.run("statusline", "--now", f"{DAY}T14:00:00Z").stdout == "$13.08 today\n"


def test_u44_why_there_is_nothing_to_see(usage: Usage) -> None:
    with usage.source() as source:
        source.event(source.session("a", agent="copilot"), "09:00", "0")
    assert usage.daily(*ONE_DAY, "--agent", "copilot").stderr.startswith("note: ")
    assert usage.daily(*ONE_DAY, "--agent", " copilot,vscode-copilot").stderr.startswith("note: ")
    assert usage.daily(*ONE_DAY, "--agent", "copilot,claude").stderr == ""
    assert usage.daily(*ONE_DAY, "--agent", "copilot", "--json").stderr == ""


# -- the forms ----------------------------------------------------------------------------------


def example(usage: Usage) -> tuple[str, ...]:
    """Four responses on two dates; gives the flags that show them."""
    with usage.source() as source:
        source.message(source.session("fern"), "2026-09-13T09:00:00Z", "1000/400/2000/10000")
        gull = source.session("gull", relationship_type="subagent")
        source.message(gull, "2026-09-13T23:30:00Z", "4000/1000", "ember-mini")
        hazel = source.session("hazel", project="tidepool", agent="copilot")
        source.event(hazel, "2026-09-14T10:00:00Z", "2000/300")
        source.billing("2026-09-14T11:15:00Z", 12.5)
    return "--since", "2026-09-13", "--until", "2026-09-14", "--timezone", "Europe/Lisbon"


TABLE = """\
DATE          INPUT  OUTPUT  CACHE_CR  CACHE_RD  COST    MODELS
----          -----  ------  --------  --------  ----    ------
2026-09-13    1000   400     2000      10000     $0.02   aurora-2
  aurora-2    1000   400     2000      10000     $0.02   $
2026-09-14    6700   1390    0         1500      $0.14   drift-max, aurora-2, ember-mini
  drift-max   700    90      0         1500      $0.12   $
  aurora-2    2000   300     0         0         $0.01   $
  ember-mini  4000   1000    0         0         <$0.01  $
----          -----  ------  --------  --------  ----    ------
TOTAL         7700   1790    2000      11500     $0.16   $
""".replace("$\n", "\n")


def test_the_table_for_people(usage: Usage) -> None:
    flags = example(usage)
    assert usage.daily(*flags, "--breakdown") == Result(0, TABLE, "")
    assert usage.daily(*flags, "--format", "human").stdout.count("\n") == 6


def test_the_whole_example(usage: Usage) -> None:
    document = usage.report(*example(usage))
    digest = "sha256:13421cd4ae2e305b1744e45a04a2deaea45eb3268c9989e72be3bdbedeb99f69"
    assert document["pricing"]["digest"] == digest
    assert [day["totalCost"] for day in document["daily"]] == [0.0195, 0.1395]
    assert document["totals"] == {
        "inputTokens": 7700,
        "outputTokens": 1790,
        "cacheCreationTokens": 2000,
        "cacheReadTokens": 11500,
        "totalCost": 0.159,
        "copilotAICredits": 1.05,
        "cacheSavings": 0.0255,
    }
    assert document["sessionCounts"] == {
        "total": 3,
        "byProject": {"orchard": 2, "tidepool": 1},
        "byAgent": {"claude": 2, "copilot": 1},
    }


def test_a_stream_says_what_the_document_says(usage: Usage) -> None:
    flags = (*example(usage), "--breakdown", "--validate")
    document = json.loads(usage.daily(*flags, "--json").stdout)
    meta, *days = map(json.loads, usage.daily(*flags, "--ndjson").stdout.splitlines())
    assert meta.pop("type") == "meta"
    assert {**meta, "daily": days} == document


def test_the_document_goes_to_a_file_whole(usage: Usage, tmp_path: Path) -> None:
    flags = (*example(usage), "--json")
    path = tmp_path / "usage.json"
    assert usage.daily(*flags, "--output", str(path)) == Result(0, "", "")
    assert path.read_text() == usage.daily(*flags).stdout
    assert path.read_text().endswith("\n}\n")


def test_built_in_prices_come_first_offline(usage: Usage) -> None:
    with usage.source() as source:
        source.archive.add_price("claude-opus-4-6", 1, 1, 1, 1)
        source.message(source.session("fern"), "09:00", "1000000", "claude-opus-4-6")
    assert usage.report()["totals"]["totalCost"] == 1
    offline = usage.report(*ONE_DAY, "--offline", "--no-sync")
    assert offline["totals"]["totalCost"] == 5
    assert offline["pricing"]["fallback"]["models"] == ["claude-opus-4-6"]
