"""What a schema cannot say of a daily usage report: each rule broken, told in its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from exporter.contracts import head_rules, usage_rules
from tests.contracts.golden import ROOT, change, found, look, without

FOLDER = ROOT / "golden/usage_daily/v1"
_DOCUMENT = json.loads((FOLDER / "expected.json").read_bytes())
Document = dict[str, Any]
FIRST, SECOND = "/daily/0", "/daily/1"


def document() -> Document:
    return copy.deepcopy(_DOCUMENT)


def lines() -> list[Document]:
    """The same as a stream: the head, then two days."""
    return [json.loads(line) for line in (FOLDER / "expected.ndjson").read_bytes().splitlines()]


def set_in(pointer: str, value: Any) -> Callable[[], Document]:
    return lambda: change(document(), pointer, value)


def removed(pointer: str) -> Callable[[], Document]:
    return lambda: without(document(), pointer)


def reversed_in(*steps: Any) -> Callable[[], Document]:
    """A list or a map the other way round."""

    def make() -> Document:
        new: Any = document()
        *above, last = steps
        node = new
        for step in above:
            node = node[step]
        node[last] = (
            dict(reversed(node[last].items()))
            if isinstance(node[last], dict)
            else list(reversed(node[last]))
        )
        return dict(new)

    return make


def doubled_name() -> Document:
    """An entry cut in two; sums stay as they are."""
    new = document()
    (spend,) = new["daily"][0]["modelBreakdowns"]
    rest = {name: 0 for name in spend} | {"modelName": "aurora-2", "cost": 0}
    new["daily"][0]["modelBreakdowns"].append(rest)
    new["daily"][0]["modelsUsed"].append("aurora-2")
    return new


def empty_day() -> Document:
    new = document()
    tokens = dict.fromkeys(
        ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens"), 0
    )
    lists = ("modelsUsed", "modelBreakdowns", "projectBreakdowns", "agentBreakdowns")
    day = {"date": "2026-09-15", **tokens, "totalCost": 0, **{name: [] for name in lists}}
    new["daily"].append(day)
    return new


def free_model() -> Document:
    """A model without a price that costs something all the same."""
    new = document()
    new["pricing"]["models"]["drift-max"]["cost_source"] = "computed"
    return new


BROKEN: list[tuple[str, Callable[[], Document], str]] = [
    ("order", reversed_in("daily"), f"{SECOND}/date"),
    ("order", set_in(f"{SECOND}/date", "2026-09-13"), f"{SECOND}/date"),
    ("order", reversed_in("daily", 1, "modelBreakdowns"), f"{SECOND}/modelBreakdowns/1"),
    ("order", reversed_in("daily", 1, "projectBreakdowns"), f"{SECOND}/projectBreakdowns/1"),
    ("order", reversed_in("daily", 1, "agentBreakdowns"), f"{SECOND}/agentBreakdowns/2"),
    ("models_used", reversed_in("daily", 1, "modelsUsed"), f"{SECOND}/modelsUsed"),
    ("no_usage", empty_day, "/daily/2/modelBreakdowns"),
    ("unique_names", doubled_name, f"{FIRST}/modelBreakdowns"),
    ("breakdowns", set_in(f"{SECOND}/projectBreakdowns", []), f"{SECOND}/projectBreakdowns"),
    ("breakdowns", set_in(f"{SECOND}/agentBreakdowns", []), f"{SECOND}/agentBreakdowns"),
    *(
        ("sum", set_in(f"{FIRST}/{name}", 1), f"{FIRST}/{name}")
        for name in (*usage_rules._TOKENS, "totalCost")
    ),
    *(
        ("sum", set_in(f"{FIRST}/{field}/0/outputTokens", 399), f"{FIRST}/{field}")
        for field in ("modelBreakdowns", "projectBreakdowns", "agentBreakdowns")
    ),
    ("sum", set_in(f"{FIRST}/agentBreakdowns/0/cost", 0.0195001), f"{FIRST}/agentBreakdowns"),
    *(
        ("sum", set_in(f"/totals/{name}", 1), f"/totals/{name}")
        for name in (*usage_rules._TOKENS, "totalCost")
    ),
    ("cost", free_model, f"{SECOND}/modelBreakdowns/0/cost"),
    ("cache_savings", set_in("/totals/cacheSavings", 0.0256), "/totals/cacheSavings"),
    ("credits", set_in("/totals/copilotAICredits", 1.06), "/totals/copilotAICredits"),
    ("credits", removed("/totals/copilotAICredits"), "/totals/copilotAICredits"),
    ("model_price", removed("/pricing/models/ember-mini"), "/pricing/models/ember-mini"),
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
    ("session_counts", set_in("/sessionCounts/total", 4), "/sessionCounts/byAgent"),
    (
        "session_counts",
        set_in("/sessionCounts/byProject/orchard", 1),
        "/sessionCounts/byProject",
    ),
    (
        "session_counts",
        set_in("/sessionCounts/byAgent", {"codex": 3}),
        "/sessionCounts/byAgent/codex",
    ),
    (
        "session_counts",
        set_in("/sessionCounts/byProject", {"orchard": 2, "zebra": 1}),
        "/sessionCounts/byProject/zebra",
    ),
    ("sorted_keys", reversed_in("sessionCounts", "byAgent"), "/sessionCounts/byAgent"),
    ("sorted_keys", reversed_in("sessionCounts", "byProject"), "/sessionCounts/byProject"),
    ("sorted_keys", reversed_in("projects"), "/projects"),
    ("sorted_keys", reversed_in("pricing", "models"), "/pricing/models"),
]


@pytest.mark.parametrize(
    ("rule", "broken", "pointer"), BROKEN, ids=[f"{b[0]}-{n}" for n, b in enumerate(BROKEN)]
)
def test_a_broken_rule_is_told_in_its_place(
    rule: str, broken: Callable[[], Document], pointer: str
) -> None:
    assert (pointer, rule) in found(broken())


def test_every_rule_of_days_has_been_broken_here() -> None:
    assert set(usage_rules.RULES) <= {rule for rule, _, _ in BROKEN}


def test_a_broken_day_of_a_stream_is_told_by_its_line() -> None:
    findings = look(change(lines(), "/2/totalCost", 1))[1]
    told = [(finding.line, finding.pointer, finding.rule) for finding in findings]
    assert told == [(3, "/totalCost", "sum"), (1, "/totals/totalCost", "sum")]


def test_days_without_breakdowns_keep_every_rule() -> None:
    new = document()
    for day in new["daily"]:
        day["projectBreakdowns"] = day["agentBreakdowns"] = []
    assert found(new) == []
    del new["projects"]["tidepool"]
    assert found(new) == [("/projects/tidepool", "project_entry")]


def test_a_report_of_nothing_keeps_every_rule() -> None:
    new = document()
    totals = dict.fromkeys(new["totals"], 0)
    del totals["copilotAICredits"]
    pricing = {**new["pricing"], "models": {}, "cost_source": "computed"}
    counts = {"total": 0, "byProject": {}, "byAgent": {}}
    nothing = {"projects": {}, "daily": [], "totals": totals, "sessionCounts": counts}
    new |= {**nothing, "pricing": pricing}
    assert found(new) == []
    some = {"total": 1, "byProject": {"orchard": 1}, "byAgent": {"claude": 1}}
    told = found({**new, "sessionCounts": some})
    assert ("/sessionCounts/total", "session_counts") in told


def test_the_head_may_come_behind_the_days() -> None:
    new = dict(reversed(document().items()))
    assert found(new) == []
    new["totals"]["inputTokens"] += 1
    assert found(new) == [("/totals/inputTokens", "sum")]


def test_a_bad_day_does_not_make_the_head_look_wrong() -> None:
    assert found(change(document(), f"{FIRST}/date", 7)) == [(f"{FIRST}/date", "type")]


def test_money_may_be_off_by_what_rounding_a_sum_of_doubles_costs() -> None:
    assert found(set_in("/totals/totalCost", 0.15900000000000003)()) == []
    assert found(set_in("/totals/totalCost", 0.1590001)()) == [("/totals/totalCost", "sum")]


def test_amounts_beyond_all_numbers_are_told_and_raise_nothing() -> None:
    new = document()
    for day in new["daily"]:
        for entry in day["modelBreakdowns"]:
            entry["cost"] = 1.7e308
    assert (f"{SECOND}/modelBreakdowns", "sum") in found(new)


def test_more_models_than_fit_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_rules, "MAX_NAMES", 2)
    assert found(document()) == [(SECOND, "too_many_names")]


def test_a_running_sum_of_many_terms_loses_nothing() -> None:
    whole = head_rules.Sum()
    for _ in range(100_000):
        whole.add(0.1)
    whole.add(1e16)
    whole.add(-1e16)
    assert whole.total == pytest.approx(10_000, abs=1e-9)
