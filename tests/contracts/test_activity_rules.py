"""What a schema cannot say of an activity report: each rule broken, told in its place."""

from __future__ import annotations

import copy
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exporter.contracts import activity_rules
from exporter.contracts.validate import Validation
from tests.contracts.golden import ROOT, change, found, look, without

FOLDER = ROOT / "golden/activity_report/v1"
_DOCUMENT = json.loads((FOLDER / "expected.json").read_bytes())
Document = dict[str, Any]


def document() -> Document:
    """The hour from 08:00 to 09:00 in quarters, with two timed sessions and two untimed ones."""
    return copy.deepcopy(_DOCUMENT)


def lines() -> list[Document]:
    """The same as a stream: the head, then four sessions."""
    return [json.loads(line) for line in (FOLDER / "expected.ndjson").read_bytes().splitlines()]


def at(clock: str) -> str:
    return f"2026-02-14T{clock}:00Z"


def set_in(pointer: str, value: Any) -> Callable[[], Document]:
    return lambda: change(document(), pointer, value)


def removed(pointer: str) -> Callable[[], Document]:
    return lambda: without(document(), pointer)


def swapped(name: str, one: int = 0, other: int = 1) -> Callable[[], Document]:
    def make() -> Document:
        new = document()
        rows = new[name]
        rows[one], rows[other] = rows[other], rows[one]
        return new

    return make


def changed(**places: Any) -> Callable[[], Document]:
    """Several members of the document itself."""
    return lambda: {**document(), **places}


def all_in(name: str, member: str, value: Any) -> Callable[[], Document]:
    def make() -> Document:
        new = document()
        for row in new[name]:
            row[member] = value
        return new

    return make


def renamed_unknown() -> Document:
    new = document()
    new["by_model"][0]["key"] = "unknown"
    return new


ROW, SPAN = "/by_session", "/intervals"
BROKEN: list[tuple[str, Callable[[], Document], str]] = [
    ("range", set_in("/range_end", at("07:00")), "/range_end"),
    ("range", set_in("/range_end", "2027-02-15T08:00:00Z"), "/range_end"),
    ("range", set_in("/effective_end", at("08:50")), "/effective_end"),
    ("range", changed(partial=True, effective_end=at("09:30")), "/effective_end"),
    ("range", set_in("/as_of", at("09:00")), "/as_of"),
    ("range", set_in("/partial", True), "/as_of"),
    ("buckets", set_in("/bucket_seconds", 301), "/bucket_seconds"),
    ("buckets", set_in("/bucket_unit", "hour"), "/bucket_seconds"),
    ("buckets", set_in("/bucket_count", 5), "/bucket_count"),
    ("buckets", set_in("/buckets/1/start", at("08:16")), "/buckets/1/start"),
    ("buckets", set_in("/buckets/0/start", at("07:59")), "/buckets/0/start"),
    ("buckets", set_in("/buckets/1/end", at("08:29")), "/buckets/1/end"),
    ("buckets", set_in("/buckets/3/end", at("09:01")), "/buckets/3/end"),
    ("buckets", removed("/buckets/3"), "/buckets"),
    ("elapsed", set_in("/elapsed_bucket_count", 3), "/elapsed_bucket_count"),
    (
        "elapsed",
        changed(partial=True, as_of=at("08:20"), effective_end=at("08:20"), elapsed_bucket_count=2),
        "/buckets/2",
    ),
    ("bucket_split", set_in("/buckets/0/automated_at_peak", 0), "/buckets/0/max_agents"),
    ("concurrency", set_in("/buckets/0/max_agents", 0), "/buckets/0/agent_minutes"),
    ("concurrency", set_in("/buckets/0/agent_minutes", 31), "/buckets/0/agent_minutes"),
    ("concurrency", set_in("/buckets/1/max_agents", 1), "/buckets/1/agent_minutes"),
    ("concurrency", set_in("/totals/active_minutes", 27), "/totals/active_minutes"),
    ("concurrency", set_in("/totals/active_minutes", 12), "/totals/active_minutes"),
    ("concurrency", all_in("intervals", "start", at("08:02")), "/peak/agents"),
    ("peak", set_in("/peak/agents", 3), "/peak/agents"),
    ("peak", set_in("/peak/at", at("08:16")), "/peak/at"),
    ("peak", set_in("/peak/at", None), "/peak/at"),
    ("idle", set_in("/totals/idle_minutes", 42), "/totals/idle_minutes"),
    ("timing", set_in(f"{ROW}/0/timing_quality", "untimed"), f"{ROW}/0/timing_quality"),
    ("timing", set_in(f"{ROW}/2/timing_quality", "timed"), f"{ROW}/2/timing_quality"),
    ("timing", set_in(f"{ROW}/0/first_active", None), f"{ROW}/0/timing_quality"),
    ("timing", set_in(f"{ROW}/0/agent_minutes", None), f"{ROW}/0/timing_quality"),
    ("within", set_in(f"{ROW}/0/first_active", at("07:59")), f"{ROW}/0/first_active"),
    ("within", set_in(f"{ROW}/0/last_active", at("09:01")), f"{ROW}/0/last_active"),
    ("within", set_in(f"{ROW}/0/last_active", at("08:01")), f"{ROW}/0/last_active"),
    ("within", set_in(f"{SPAN}/0/start", at("07:58")), f"{SPAN}/0/start"),
    ("within", set_in(f"{SPAN}/0/end", at("07:59")), f"{SPAN}/0/end"),
    ("primary_model", set_in(f"{ROW}/0/primary_model", "quartz-pro"), f"{ROW}/0/primary_model"),
    ("primary_model", set_in(f"{ROW}/0/primary_model", ""), f"{ROW}/0/primary_model"),
    ("primary_model", set_in(f"{ROW}/0/models", None), f"{ROW}/0/primary_model"),
    (
        "primary_model",
        set_in(f"{ROW}/1/models", ["aurora-2", "ember-mini", "unknown"]),
        f"{ROW}/1/primary_model",
    ),
    ("order", set_in(f"{ROW}/1/models", ["ember-mini", "aurora-2"]), f"{ROW}/1/models"),
    ("order", swapped("by_session"), f"{ROW}/1"),
    ("order", swapped("by_session", 1, 2), f"{ROW}/2"),
    ("order", swapped("by_session", 2, 3), f"{ROW}/3"),
    ("order", swapped("intervals", 0, 3), f"{SPAN}/1/start"),
    ("order", swapped("by_project"), "/by_project/1"),
    ("order", swapped("by_agent"), "/by_agent/1"),
    ("order", swapped("by_model", 1, 2), "/by_model/2"),
    ("interval", set_in(f"{SPAN}/0/end", at("08:06")), f"{SPAN}/0/end"),
    ("intervals", removed(f"{SPAN}/0"), "/totals/agent_minutes"),
    ("intervals", set_in(f"{SPAN}/0/start", at("08:01")), f"{ROW}/1/first_active"),
    ("intervals", set_in(f"{ROW}/0/last_active", at("08:44")), f"{ROW}/0/last_active"),
    ("intervals", set_in(f"{ROW}/0/agent_minutes", 14), f"{ROW}/0/agent_minutes"),
    ("intervals", set_in(f"{SPAN}/0/session_id", "s-none"), SPAN),
    ("intervals", changed(intervals=[]), f"{ROW}/0/timing_quality"),
    *(
        ("sum", set_in(f"/totals/{name}", 77), f"/totals/{name}")
        for name in (
            *("agent_minutes", "sessions", "untimed_sessions", "distinct_projects"),
            *("distinct_models", "output_tokens", "cost", "automated_agent_minutes"),
            *("interactive_agent_minutes", "automated_cost", "interactive_cost"),
            *("automated_sessions",),
        )
    ),
    ("sum", set_in("/totals/interactive_sessions", 77), "/totals/sessions"),
    ("sum", set_in("/buckets/0/output_tokens", 1501), "/totals/output_tokens"),
    ("sum", set_in("/buckets/0/cost", 0.0274), "/totals/cost"),
    ("sum", set_in(f"{ROW}/0/cost", 0.00382), "/totals/cost"),
    ("sum", set_in(f"{ROW}/0/output_tokens", 981), "/totals/output_tokens"),
    ("sum", set_in("/by_model/0/interactive_agent_minutes", 6), "/by_model/0/agent_minutes"),
    ("sum", set_in("/by_model/1/automated_cost", 1), "/by_model/1/cost"),
    ("share", set_in("/by_project/0/cost", 0.1), "/by_project/0/cost"),
    ("share", set_in("/by_agent/1/agent_minutes", 12), "/by_agent/1/agent_minutes"),
    ("share", set_in("/by_agent/1/key", "crush"), "/by_agent/1/key"),
    ("share", removed("/by_project/1"), "/by_project"),
    ("share", removed("/by_model/2"), "/by_model"),
    ("share", renamed_unknown, "/by_model/0/key"),
    ("share", set_in("/by_model/0/key", "aurora-2"), "/by_model"),
    ("share", set_in("/by_model/0/agent_minutes", 28.5), "/by_model"),
    ("model_price", removed("/pricing/models/quartz-pro"), "/by_model/2/key"),
    ("model_price", removed("/pricing/models/quartz-pro"), f"{ROW}/2/models/0"),
    ("project_entry", removed("/projects/tidepool"), "/projects/tidepool"),
    (
        "project_entry",
        set_in("/projects/zebra", {"resolution": "unknown", "identity": None}),
        "/projects/zebra",
    ),
    (
        "project_key",
        set_in("/projects/orchard/identity/key", "sha256:" + "0" * 64),
        "/projects/orchard/identity/key",
    ),
    ("digest", set_in("/pricing/digest", "sha256:" + "0" * 64), "/pricing/digest"),
]


@pytest.mark.parametrize(
    ("rule", "broken", "pointer"), BROKEN, ids=[f"{b[0]}-{n}" for n, b in enumerate(BROKEN)]
)
def test_a_broken_rule_is_told_in_its_place(
    rule: str, broken: Callable[[], Document], pointer: str
) -> None:
    assert (pointer, rule) in found(broken())


def test_every_rule_of_activity_has_been_broken_here() -> None:
    assert set(activity_rules.RULES) <= {rule for rule, _, _ in BROKEN}


# -- what is no violation -----------------------------------------------------------------------


def test_the_members_may_come_in_any_order() -> None:
    """Intervals first, as a tool that turns objects round writes them."""
    new = dict(reversed(document().items()))
    assert found(new) == []
    assert found(json.dumps(document(), sort_keys=True).encode()) == []
    new["totals"]["cost"] += 1
    assert ("/totals/cost", "sum") in found(new)


def test_a_broken_line_of_a_stream_is_told_by_its_number() -> None:
    findings = look(change(lines(), "/1/primary_model", "quartz-pro"))[1]
    told = [(finding.line, finding.pointer, finding.rule) for finding in findings]
    assert told == [(2, "/primary_model", "primary_model")]


def test_a_stream_has_no_intervals_and_lacks_nothing() -> None:
    assert found(lines()) == []


def test_bad_parts_do_not_make_the_rest_look_wrong() -> None:
    bad = change(document(), f"{ROW}/0/agent", 7)
    assert found(bad) == [(f"{ROW}/0/agent", "type")]
    bad = change(document(), f"{SPAN}/0/start", "early")
    assert found(bad) == [(f"{SPAN}/0/start", "pattern")]
    bad = change(document(), f"{SPAN}/0/session_id", "")
    finding = look(bad)[1][0]
    assert (finding.pointer, finding.rule, finding.row) == (f"{SPAN}/0/session_id", "minLength", 1)


def test_a_key_twice_and_an_array_twice_are_told_among_intervals() -> None:
    text = json.dumps(document()).encode()
    doubled = text.replace(b'"intervals": [{', b'"intervals": [{"start": "x", ', 1)
    assert (f"{SPAN}/0/start", "duplicate_key") in found(doubled)
    again = text.replace(b'"intervals": [', b'"intervals": [], "intervals": [', 1)
    assert (SPAN, "duplicate_key") in found(again)


def empty(start: str, end: str, bounds: list[str], unit: str, seconds: int, zone: str) -> Document:
    """A report without a session, of a range in the buckets between these bounds."""
    new = document()
    pairs = zip([start, *bounds], [*bounds, end], strict=True)
    none = {name: 0 for name in new["buckets"][0]}
    totals = dict.fromkeys(new["totals"], 0)
    passed = (activity_rules._seconds(end) or 0) - (activity_rules._seconds(start) or 0)
    return {
        **new,
        "pricing": {**new["pricing"], "models": {}, "cost_source": "computed"},
        "projects": {},
        "timezone": zone,
        "range_start": start,
        "range_end": end,
        "effective_end": end,
        "bucket_unit": unit,
        "bucket_seconds": seconds,
        "bucket_count": len(bounds) + 1,
        "elapsed_bucket_count": len(bounds) + 1,
        "buckets": [{**none, "start": a, "end": b} for a, b in pairs],
        "peak": {"agents": 0, "at": None},
        "totals": {**totals, "idle_minutes": passed / 60},
        **{name: [] for name in ("by_project", "by_model", "by_agent", "by_session", "intervals")},
    }


#: Three days around a change of the clocks, the middle one of 23 hours.
SPRING = ("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z")
MIDNIGHTS = ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]


def test_local_days_are_as_long_as_the_clocks_make_them() -> None:
    days = empty(*SPRING, MIDNIGHTS, "day", 86_400, "Europe/Berlin")
    assert found(days) == []
    # In UTC no day is shorter, and nowhere does one last three.
    assert ("/buckets/1/end", "buckets") in found({**days, "timezone": "UTC"})
    merged = empty(*SPRING, [], "day", 86_400, "Europe/Berlin")
    assert found(merged) == [("/buckets/0/end", "buckets")]


def test_equal_steps_care_for_no_clock() -> None:
    hours = [f"2026-03-29T0{hour}:00:00Z" for hour in range(1, 5)]
    range_ = ("2026-03-29T00:00:00Z", "2026-03-29T04:30:00Z")
    assert found(empty(*range_, hours, "hour", 3_600, "Europe/Berlin")) == []
    hours[2] = "2026-03-29T03:30:00Z"
    told = found(empty(*range_, hours, "hour", 3_600, "Europe/Berlin"))
    assert ("/buckets/2/end", "buckets") in told


def test_a_range_within_one_second_shows_no_length() -> None:
    second = "2026-03-07T12:00:00Z"
    assert found(empty(second, second, [], "minute", 300, "UTC")) == []


def test_lists_longer_than_the_other_program_sorts_may_have_ties_in_any_order() -> None:
    """It sorts no further than up to twelve."""
    for count, told in ((12, [(f"{ROW}/11", "order")]), (13, [])):
        new = document()
        new["by_session"][3:] = [
            {**new["by_session"][3], "session_id": f"s-e{number:02}"} for number in range(count - 3)
        ]
        rows = new["by_session"]
        rows[-1], rows[-2] = rows[-2], rows[-1]
        more = count - 4
        for name in ("sessions", "untimed_sessions", "interactive_sessions"):
            new["totals"][name] += more
        is_automated = rows[-1]["is_automated"]
        assert is_automated is False
        assert found(new) == told


def test_fractions_that_are_not_shown_leave_a_second() -> None:
    """An interval of two tenths within a second, and one that the shown seconds make longer."""
    new = document()
    for row in new["intervals"]:
        if row["session_id"] == "s-birch":
            row["start"] = row["start"].replace(":00Z", ":01Z").replace(":30Z", ":31Z")
    birch = new["by_session"][0]
    birch["first_active"] = birch["first_active"].replace(":00Z", ":01Z")
    assert found(new) == []


# -- sizes --------------------------------------------------------------------------------------


class Stream:
    """A report with many intervals that is never in memory as a whole."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces

    def read(self, count: int) -> bytes:
        return next(self.pieces, b"")


def endless(count: int) -> Iterator[bytes]:
    start, _, _ = json.dumps(document()).encode().partition(b'"intervals": [')
    yield start + b'"intervals": ['
    first = json.dumps(document()["intervals"][0]).encode()
    for _ in range(count):
        yield b",".join([first] * 100) + b","
    yield first + b"]}"


def test_memory_does_not_grow_with_the_number_of_intervals() -> None:
    peaks = []
    for count in (1, 20, 200):
        tracemalloc.start()
        # That many at once are more than the report says, and it is told once.
        rules = [f.rule for f in Validation().findings(Stream(endless(count)))]  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert set(rules) == {"intervals", "concurrency"}
    # The heap of those that are open at once is all that grows.
    assert peaks[2] < peaks[1] + 2_000_000
