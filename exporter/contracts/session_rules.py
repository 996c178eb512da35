"""What a schema cannot say of a session export, version 1.

Sums that must add up, names that must occur on both sides, order, and whatever can be computed
again from the document itself. Only parts that fit their schema are looked at here.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar, Final

import orjson

from exporter.contracts.head_rules import (
    MARKS,
    MAX_NAMES,
    RATES,
    Fault,
    HeadRules,
    Object,
    differing,
    same_amount,
    summed,
    unsorted,
)
from exporter.core.pricing import cost_source
from exporter.core.times import duration_seconds, parse_instant_ms

#: The rules of this module, in words; what surfaces share is in `head_rules`.
RULES: Final = {
    "models_are_keys": "model_usage.models lists the keys of by_model, in byte order",
    "model_is_key": "an entry of by_model repeats its key",
    "has_cost": "has_cost says that there is usage and that all of it has a price",
    "turn_count": "turn_count equals user_message_count",
    "classification": "is_automated says whether classification is automated",
    "last_activity": "a session with an end was last active at its end",
    "duration": "duration_seconds is the time from the start to the end or last activity",
    "pricing_presence": "pricing is empty exactly when there is no session",
    "cursor": "a cursor has two base64url parts and resumes after the last session",
}

_COUNTERS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "reasoning_tokens",
)
_SIGNATURE_BYTES: Final = 32


class SessionRules(HeadRules):
    """Looks at the sessions of one document in their order, then at its head."""

    EARLY: ClassVar = frozenset({"pricing"})

    def __init__(self) -> None:
        super().__init__()
        self._prices: Mapping[str, Object] | None = None
        self._labels: set[str] = set()
        self._computed: set[str] = set()
        self._reported: set[str] = set()
        self._last: Object | None = None
        self._last_place: tuple[int, str] | None = None

    def begin(self, early: Object, *, has_arrays: bool) -> None:
        self._prices = early["pricing"].get("models", {}) if "pricing" in early else None

    def row(self, row: Object) -> Iterator[Fault]:
        self.rows += 1
        yield from self._usage(row["model_usage"])
        if row["turn_count"] != row["user_message_count"]:
            yield ("turn_count",), "turn_count"
        if row["is_automated"] != (row["classification"] == "automated"):
            yield ("is_automated",), "classification"
        yield from self._times(row)
        self._labels.add(row["project"])
        self._last = row
        if max(len(self._labels), len(self._computed), len(self._reported)) > MAX_NAMES:
            self._forget_names()
            yield (), "too_many_names"

    def head(self, head: Object) -> Iterator[Fault]:
        pricing, projects = head["pricing"], head["projects"]
        if bool(pricing) != bool(self.rows):
            yield ("pricing",), "pricing_presence"
            return
        yield from super().head(head)
        if self.complete:
            for label in differing(projects, self._labels):
                yield ("projects", label), "project_entry"
        if self.complete and pricing:
            for path, rule in self._models_seen(pricing["models"]):
                yield ("pricing", *path), rule
        following = head["cursor"]["next"]
        if following and not self._is_good_cursor(following, head["database_id"]):
            yield ("cursor", "next"), "cursor"

    # -- a session ------------------------------------------------------------------------------

    def _usage(self, usage: Object) -> Iterator[Fault]:
        by_model: dict[str, Object] = usage["by_model"]
        yield from unsorted(by_model, "model_usage", "by_model")
        if usage["models"] != sorted(by_model):
            yield ("model_usage", "models"), "models_are_keys"
        yield from _unequal_sums(usage, by_model.values())
        for model, spend in by_model.items():
            for field, rule in self._spend(model, spend):
                yield ("model_usage", "by_model", model, field), rule

    def _spend(self, model: str, spend: Object) -> Iterator[tuple[str, str]]:
        computed, reported = MARKS[spend["cost_source"]]
        if computed:
            self._computed.add(model)
        if reported:
            self._reported.add(model)
        if spend["model"] != model:
            yield "model", "model_is_key"
        price = self._prices.get(model) if self._prices else None
        if price is None:
            return
        priced = not computed or price["matched_pattern"] is not None
        if spend["has_cost"] != priced:
            yield "has_cost", "has_cost"
        if not reported and not _is_possible_cost(spend, price):
            yield "cost_usd", "cost"

    def _times(self, row: Object) -> Iterator[Fault]:
        ended_at, last_activity_at = row["ended_at"], row["last_activity_at"]
        if ended_at and ended_at != last_activity_at:
            yield ("last_activity_at",), "last_activity"
        elapsed = duration_seconds(row["started_at"], ended_at or last_activity_at)
        if row["duration_seconds"] != elapsed:
            yield ("duration_seconds",), "duration"
        instant_ms = parse_instant_ms(last_activity_at)
        # A text that is no time stands where another time of its session put it.
        if instant_ms is None:
            return
        place = (-instant_ms, row["id"])
        if self._last_place is not None and place <= self._last_place:
            yield (), "order"
        self._last_place = place

    def _forget_names(self) -> None:
        for names in (self._labels, self._computed, self._reported):
            names.clear()
        self.complete = False

    # -- the head -------------------------------------------------------------------------------

    def _models_seen(self, models: Mapping[str, Object]) -> Iterator[Fault]:
        seen = self._computed | self._reported
        for model in differing(models, seen):
            yield ("models", model), "model_price"
        for model in sorted(seen & set(models)):
            marks = (model in self._computed, model in self._reported)
            if models[model]["cost_source"] != cost_source([marks]):
                yield ("models", model, "cost_source"), "cost_source"

    def _is_good_cursor(self, text: str, database_id: str) -> bool:
        """Whether a cursor reads like one that ends this page; its secret is not known here."""
        payload, _, signature = text.partition(".")
        try:
            members = orjson.loads(_base64url(payload))
            signed = len(_base64url(signature)) == _SIGNATURE_BYTES
        except ValueError:
            return False
        if not signed or not isinstance(members, dict):
            return False
        if members.get("database_id") != database_id:
            return False
        if not self.complete or self._last is None:
            return self._last is not None
        return all(
            (
                members.get("last_id") == self._last["id"],
                members.get("last_activity_at") == self._last["last_activity_at"],
                members.get("limit") == self.rows,
            )
        )


def _unequal_sums(whole: Object, parts: Collection[Object]) -> Iterator[Fault]:
    for counter in _COUNTERS:
        if whole[counter] != sum([part[counter] for part in parts]):
            yield ("model_usage", counter), "sum"
    if not same_amount(whole["cost_usd"], summed([part["cost_usd"] for part in parts])):
        yield ("model_usage", "cost_usd"), "sum"
    if whole["has_cost"] != (bool(parts) and all([part["has_cost"] for part in parts])):
        yield ("model_usage", "has_cost"), "has_cost"


def _is_possible_cost(spend: Object, price: Object) -> bool:
    """Whether tokens and rates can make this cost.

    Reasoning is billed for those responses that report no output, and which those were is not in
    the document: the cost lies between none and all of it.
    """
    rates = [price[rate] for rate in RATES]
    base = summed(spend[counter] * rate for counter, rate in zip(_COUNTERS, rates, strict=False))
    ends = sorted((base / 1e6, (base + spend["reasoning_tokens"] * rates[1]) / 1e6))
    cost = spend["cost_usd"]
    return ends[0] <= cost <= ends[1] or any(same_amount(cost, end) for end in ends)


def _base64url(text: str) -> bytes:
    """Unpadded base64url. Raises ValueError for other text."""
    if not text or "=" in text:
        raise ValueError("not unpadded base64url")
    return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
