"""An overview worked out from the log, for a run that has none of its own.

The log is JSON lines, one per event of a model call. Only the end of a call carries token counts;
what a provider did not report stays unknown. The result says that it was derived.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from exporter.core.runzip.codes import LIMITS, Limits
from exporter.core.runzip.overview import Json, usable_number

__all__ = ["LogUsage"]

#: A structured call ends twice, once as a chat: only that end is counted.
_ENDS = frozenset({"LLMChatEndEvent", "LLMCompletionEndEvent"})
_MARK = b"EndEvent"
#: A longer line is passed over, not kept in memory.
_LONGEST_LINE = 16 * 1024 * 1024
_KINDS = ("input_tokens", "output_tokens", "thinking_tokens", "total_tokens")


@dataclass(slots=True)
class _Sum:
    """Of one model. A kind that no call reported is absent from `tokens`."""

    calls: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    cost: Decimal | None = None

    def add(self, usage: dict[str, Any], cost: Decimal | None) -> None:
        self.calls += 1
        for kind in _KINDS:
            value = usable_number(usage.get(kind))
            if value is not None:
                self.tokens[kind] = self.tokens.get(kind, 0) + int(value)
        if cost is not None:
            self.cost = cost if self.cost is None else self.cost + cost

    def as_json(self) -> dict[str, Json]:
        cost = None if self.cost is None else float(self.cost)
        return {"calls": self.calls, "total_cost": cost, **{k: self.tokens.get(k) for k in _KINDS}}


class LogUsage:
    """Adds up the calls of a log that is fed in chunks.

    Lines that are torn, not JSON, too long, or not the end of a call are passed over.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._models: dict[str, _Sum] = {}
        self._rest = bytearray()
        self._is_skipping = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the log."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._line(chunk[start:end])
            start = end + 1
        self._keep(chunk[start:])

    def finish(self) -> dict[str, Json] | None:
        """Return the overview, or None when no call was found, or more models than are allowed."""
        self._line(b"")
        if not self._models or len(self._models) > self._limits.overview_models:
            return None
        models = {name: found.as_json() for name, found in sorted(self._models.items())}
        found = self._models.values()
        totals: dict[str, Json] = {}
        for kind in _KINDS:
            known = [one.tokens[kind] for one in found if kind in one.tokens]
            name = kind if kind.startswith("total") else f"total_{kind}"
            totals[name] = sum(known) if known else None
        costs = [one.cost for one in found if one.cost is not None]
        total_cost = float(sum(costs, Decimal())) if costs else None
        return {"derived": True, "total_cost": total_cost, **totals, "models": dict(models)}

    def _keep(self, piece: bytes) -> None:
        if self._is_skipping or len(self._rest) + len(piece) > _LONGEST_LINE:
            self._rest.clear()
            self._is_skipping = True
        else:
            self._rest += piece

    def _line(self, end: bytes) -> None:
        self._keep(end)
        line, is_whole = bytes(self._rest), not self._is_skipping
        self._rest.clear()
        self._is_skipping = False
        # Nine lines of ten are no ends, and parsing them is most of the work.
        if is_whole and _MARK in line:
            self._event(_parsed(line))

    def _event(self, event: Any) -> None:
        if not isinstance(event, dict) or event.get("event_type") not in _ENDS:
            return
        usage = event.get("token_usage")
        if not isinstance(usage, dict):
            return
        raw = _at(event, "event_data", "response", "raw")
        name = _model(raw) or _model(usage.get("raw_usage_data")) or "unknown"
        cost = usable_number(_at(usage, "raw_usage_data", "cost"))
        exact = None if cost is None else Decimal(str(cost))
        self._models.setdefault(name, _Sum()).add(usage, exact)


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        pass
    # Half a surrogate pair and NaN are in real logs, and only this parser takes them.
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _model(raw: Any) -> str | None:
    """``Provider:model`` as the program's own overview has it, without what is not known."""
    model, provider = _at(raw, "model"), _at(raw, "provider")
    if not isinstance(model, str) or not model:
        return None
    if isinstance(provider, str) and provider and provider not in model:
        model = f"{provider}:{model}"
    # What the column could not store, and no more than a name needs.
    return "".join(c for c in model if c.isprintable() and not "\ud800" <= c <= "\udfff")[:200]
