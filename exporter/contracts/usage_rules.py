"""What a schema cannot say of a daily usage report, version 1.

Days that add up to the totals, breakdowns that add up to their day, and what prices and tokens make
together. The window and the zone are not in the document, so nothing is said of them. Only parts
that fit their schema are looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import ClassVar, Final

from exporter.contracts.head_rules import (
    MAX_NAMES,
    RATES,
    TOLERANCE,
    Fault,
    HeadRules,
    Object,
    Sum,
    differing,
    same_amount,
    summed,
    unsorted,
)
from exporter.core.pricing import CostSource

#: The rules of this module, in words; what surfaces share is in `head_rules`.
RULES: Final = {
    "models_used": "modelsUsed lists the names of modelBreakdowns in their order",
    "no_usage": "a date without usage is left out",
    "unique_names": "a breakdown has one entry for each name",
    "breakdowns": "projects and agents are broken down on every date or on none",
    "session_counts": "sessionCounts add up, and are of projects and agents with usage",
    "cache_savings": "cacheSavings is what cache tokens and rates make it",
    "credits": "copilotAICredits is the cost of Copilot's agents, absent unless above 0",
}

_TOKENS: Final = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
#: The lists of a day and what names their entries; the first is always filled.
_BREAKDOWNS: Final = {
    "modelBreakdowns": "modelName",
    "projectBreakdowns": "project",
    "agentBreakdowns": "agent",
}
#: Agents whose cost is also told in credits, at a cent each.
_CREDIT_AGENTS: Final = frozenset({"copilot", "vscode-copilot", "visualstudio-copilot"})


class UsageRules(HeadRules):
    """Looks at the days of one document in their order, then at its head."""

    EARLY: ClassVar = frozenset({"pricing"})

    def __init__(self) -> None:
        super().__init__()
        self._prices: Mapping[str, Object] = {}
        self._last_date: str | None = None
        self._tokens = dict.fromkeys(_TOKENS, 0)
        self._cost = Sum()
        self._credit_cost = Sum()
        #: Tokens written to and read from the cache, by model.
        self._cached: dict[str, tuple[int, int]] = {}
        self._names: dict[str, set[str]] = {"projectBreakdowns": set(), "agentBreakdowns": set()}
        self._has_names = True
        #: Whether days have breakdowns by project and agent; None before the first day.
        self._breaks_down: bool | None = None

    def begin(self, early: Object, *, has_arrays: bool) -> None:
        self._prices = early["pricing"]["models"] if "pricing" in early else {}

    def row(self, row: Object) -> Iterator[Fault]:
        self.rows += 1
        date = row["date"]
        if self._last_date is not None and _date_order(date) <= _date_order(self._last_date):
            yield ("date",), "order"
        self._last_date = date
        if not row["modelBreakdowns"]:
            yield ("modelBreakdowns",), "no_usage"
        if row["modelsUsed"] != [spend["modelName"] for spend in row["modelBreakdowns"]]:
            yield ("modelsUsed",), "models_used"
        for field, label in _BREAKDOWNS.items():
            for path, rule in _entries(row[field], label):
                yield (field, *path), rule
        yield from _unequal_sums(row)
        yield from self._breakdowns(row)
        for index, spend in enumerate(row["modelBreakdowns"]):
            if not self._is_possible_cost(spend):
                yield ("modelBreakdowns", index, "cost"), "cost"
        yield from self._remember(row)

    def head(self, head: Object) -> Iterator[Fault]:
        yield from super().head(head)
        if self.complete:
            yield from self._totals(head["totals"])
        if self.complete and self._has_names:
            models = head["pricing"]["models"]
            for model in differing(models, self._cached):
                yield ("pricing", "models", model), "model_price"
            for label in self._labels_at_odds(head):
                yield ("projects", label), "project_entry"
            if models.keys() >= self._cached.keys():
                yield from self._savings(head["totals"], models)
        yield from self._session_counts(head["sessionCounts"])

    # -- a day ----------------------------------------------------------------------------------

    def _breakdowns(self, row: Object) -> Iterator[Fault]:
        if self._breaks_down is None:
            self._breaks_down = bool(row["projectBreakdowns"] or row["agentBreakdowns"])
        for field in self._names:
            if bool(row[field]) != self._breaks_down:
                yield (field,), "breakdowns"

    def _is_possible_cost(self, spend: Object) -> bool:
        """Whether tokens and rates make this cost, where nothing else takes part.

        Reasoning is billed at the output rate where a response reports no output, and is not in
        the document: only models whose output costs nothing can be computed again.
        """
        price = self._prices.get(spend["modelName"])
        if price is None or price["cost_source"] != CostSource.COMPUTED:
            return True
        rates = [price[rate] for rate in RATES]
        if rates[1]:
            return True
        amounts = zip((spend[name] for name in _TOKENS), rates, strict=True)
        return same_amount(spend["cost"], summed(count * rate for count, rate in amounts) / 1e6)

    def _remember(self, row: Object) -> Iterator[Fault]:
        for name in _TOKENS:
            self._tokens[name] += row[name]
        self._cost.add(row["totalCost"])
        for spend in row["agentBreakdowns"]:
            if spend["agent"] in _CREDIT_AGENTS:
                self._credit_cost.add(spend["cost"])
        if not self._has_names:
            return
        for spend in row["modelBreakdowns"]:
            written, read = self._cached.get(spend["modelName"], (0, 0))
            written += spend["cacheCreationTokens"]
            self._cached[spend["modelName"]] = written, read + spend["cacheReadTokens"]
        for field, names in self._names.items():
            names.update(spend[_BREAKDOWNS[field]] for spend in row[field])
        if max(len(self._cached), *map(len, self._names.values())) > MAX_NAMES:
            self._has_names = False
            self._cached.clear()
            yield (), "too_many_names"

    # -- the head -------------------------------------------------------------------------------

    def _totals(self, totals: Object) -> Iterator[Fault]:
        for name in _TOKENS:
            if totals[name] != self._tokens[name]:
                yield ("totals", name), "sum"
        if not self._cost.meets(totals["totalCost"]):
            yield ("totals", "totalCost"), "sum"
        if self._breaks_down or not self.rows:
            credit_cost = max(0.0, self._credit_cost.total)
            stated = totals.get("copilotAICredits", 0.0) / 100
            if not abs(stated - credit_cost) <= self._credit_cost.slack:
                yield ("totals", "copilotAICredits"), "credits"

    def _savings(self, totals: Object, models: Mapping[str, Object]) -> Iterator[Fault]:
        """Every row saves by the rates of its model, also one whose cost was reported."""
        saved = Sum()
        for model, (written, read) in self._cached.items():
            input_rate, _, write_rate, read_rate = (models[model][rate] / 1e6 for rate in RATES)
            saved.add((written + read) * input_rate)
            saved.add(-written * write_rate)
            saved.add(-read * read_rate)
        if not saved.meets(totals["cacheSavings"]):
            yield ("totals", "cacheSavings"), "cache_savings"

    def _labels_at_odds(self, head: Object) -> list[str]:
        """Labels that are only in the projects, or only with usage; without breakdowns, those
        of sessions that are not in the projects."""
        if self._breaks_down or not self.rows:
            return differing(head["projects"], self._names["projectBreakdowns"] - {""})
        return sorted(head["sessionCounts"]["byProject"].keys() - {"", *head["projects"]})

    def _session_counts(self, counts: Object) -> Iterator[Fault]:
        labels = {"byProject": "projectBreakdowns", "byAgent": "agentBreakdowns"}
        if counts["total"] and not self.rows:
            yield ("sessionCounts", "total"), "session_counts"
        for field, breakdown in labels.items():
            yield from unsorted(counts[field], "sessionCounts", field)
            if sum(counts[field].values()) != counts["total"]:
                yield ("sessionCounts", field), "session_counts"
            if self.complete and self._has_names and self._breaks_down:
                for name in sorted(counts[field].keys() - self._names[breakdown]):
                    yield ("sessionCounts", field, name), "session_counts"


def _date_order(date: str) -> tuple[int, str]:
    """Dates in order of time: the year 10000, which a zone can make of 9999, has a digit more."""
    return len(date), date


def _entries(entries: list[Object], label: str) -> Iterator[Fault]:
    """The dearest first, then by name, and no name twice."""
    places = [(-spend["cost"], spend[label]) for spend in entries]
    for index, (one, following) in enumerate(pairwise(places), 1):
        if one >= following:
            yield (index,), "order"
    if len({name for _, name in places}) < len(places):
        yield (), "unique_names"


def _unequal_sums(row: Object) -> Iterator[Fault]:
    """At the total, where no breakdown agrees with it; else at those that do not."""
    filled = [field for field in _BREAKDOWNS if row[field]]
    for name in (*_TOKENS, "totalCost"):
        wrong = [field for field in filled if not _adds_up(row, field, name)]
        if wrong and wrong == filled:
            yield (name,), "sum"
        else:
            yield from (((field,), "sum") for field in wrong)


def _adds_up(row: Object, field: str, name: str) -> bool:
    if name != "totalCost":
        return bool(row[name] == sum([spend[name] for spend in row[field]]))
    costs = [spend["cost"] for spend in row[field]]
    slack = TOLERANCE * max(1.0, summed(map(abs, costs)))
    return bool(abs(row[name] - summed(costs)) <= slack)
