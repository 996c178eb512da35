"""The cost panel of a plan: from its overview, and from rows of single calls where there are any.

What is not known is None and never 0. The panel says which generation of the plan it is of, and
:class:`PanelCache` never shows that of an earlier one.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

import psycopg

from exporter.artifacts import plans
from exporter.artifacts.plans import PlanTable
from exporter.core import runzip
from exporter.core.runzip import Refusal
from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)

Connection = psycopg.Connection[Any]

TOKENS: Final = ("input_tokens", "output_tokens", "thinking_tokens")


@dataclass(frozen=True, slots=True)
class Call:
    """The metric row of one model call. None: the provider did not say."""

    cost: Decimal | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Call:
        """A call out of a row with these names; numbers in text count, nonsense is None."""
        tokens = {name: _number(row.get(name)) for name in TOKENS}
        whole = {
            name: None if value is None or value != value.to_integral_value() else int(value)
            for name, value in tokens.items()
        }
        return cls(_number(row.get("cost")), **whole)


def _number(value: Any) -> Decimal | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() and found >= 0 else None


# --- Assembly -------------------------------------------------------------------------------


def assemble(
    overview: Mapping[str, Any], calls: Sequence[Call] = (), *, generation: int = 0
) -> dict[str, Any]:
    """The panel. Rows of calls win, field by field, where any row has the field; 0 is a value.

    ``overview`` is the object of a run's overview file, cleaned, or empty.
    """
    models = _models(overview.get("models"))
    counted = len(calls) or sum(model["calls"] or 0 for model in models)
    cost, status = _cost(overview.get("total_cost"), counted)
    costs = [call.cost for call in calls if call.cost is not None]
    if costs:
        cost, status = float(sum(costs, Decimal())), "reported"
    measured = {name: _sum(calls, name) for name in TOKENS}
    tokens = {
        name: overview.get(f"total_{name}") if measured[name] is None else measured[name]
        for name in TOKENS
    }
    known = [value for value in tokens.values() if value is not None]
    total = overview.get("total_tokens")
    if any(value is not None for value in measured.values()):
        total = sum(value or 0 for value in measured.values())
    elif total is None and known:
        total = sum(known)
    return {
        "generation": generation, "total_cost": cost, "cost_status": status,
        "currency": None if cost is None else "USD", "calls": counted or None, **tokens,
        "total_tokens": total, "models": models,
        "has_data": bool(calls or models or known or cost is not None or total is not None),
    }  # fmt: skip


def _sum(calls: Sequence[Call], name: str) -> int | None:
    found = [value for call in calls if (value := getattr(call, name)) is not None]
    return sum(found) if found else None


def _models(found: Any) -> list[dict[str, Any]]:
    entries = found if isinstance(found, dict) else {}
    return [
        {"model": name, **_model(value)}
        for name, value in entries.items()
        if isinstance(value, dict)
    ]


def _model(value: Mapping[str, Any]) -> dict[str, Any]:
    calls = value.get("calls")
    cost, status = _cost(value.get("total_cost"), calls or 0)
    return {
        "calls": calls, "cost": cost, "cost_status": status,
        **{name: value.get(name) for name in (*TOKENS, "total_tokens")},
    }  # fmt: skip


def _cost(value: Any, calls: int) -> tuple[float | None, str]:
    """Overviews have 0 both for "free" and for "the provider did not say"."""
    if value:
        return value, "reported"
    return None, "unknown" if calls else "none"


# --- Of a plan ------------------------------------------------------------------------------


def of_plan(conn: Connection, plan: UUID, calls: Sequence[Call] = ()) -> dict[str, Any]:
    """The panel of a stored plan: its overview column, for legacy rows also its snapshot.

    Raises ExporterError for an unknown plan.
    """
    table = plans.find(conn)
    row = conn.execute(table.fill(QUERIES["facts"]), {"plan": plan}).fetchone()
    if row is None:
        raise ExporterError(f"there is no plan {plan}", hint="check its id")
    layout, generation, text = row
    found = _column_object(text)
    source = "column" if found is not None else None
    # The archive of a split row is never opened for this: what is not in the column is not there.
    if found is None and layout < 2:
        found = _member_object(conn, table, plan)
        source = "snapshot" if found is not None else None
    panel = assemble(found or {}, calls, generation=generation)
    return {"plan": str(plan), "source": source, **panel}


def _column_object(text: str | None) -> dict[str, runzip.Json] | None:
    if text is None:
        return None
    found = runzip.parse_overview(text.encode())
    if found is None and text.startswith('"'):
        found = runzip.parse_overview(str(json.loads(text)).encode())
    return found


def _member_object(
    conn: Connection, table: PlanTable, plan: UUID
) -> dict[str, runzip.Json] | None:  # fmt: skip
    row = conn.execute(table.fill(QUERIES["snapshot"]), {"plan": plan}, binary=True).fetchone()
    if row is None or not row[0]:
        return None
    try:
        archive = runzip.inspect(row[0])
        if archive.overview is None:
            return None
        limit = archive.limits.overview_bytes
        raw = bytearray()
        for chunk in runzip.read_member(archive, archive.overview):
            raw += chunk
            if len(raw) > limit:
                return None
    except Refusal:
        return None
    return runzip.parse_overview(bytes(raw))


class PanelCache:
    """Panels of the plans that were looked at last. For one thread."""

    def __init__(self, size: int = 512) -> None:
        self._size = size
        self._panels: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._panels)

    def panel(self, conn: Connection, plan: UUID, calls: Sequence[Call] = ()) -> dict[str, Any]:
        """As :func:`of_plan`, made anew whenever the plan or its calls changed."""
        table = plans.find(conn)
        version = conn.execute(table.fill(QUERIES["version"]), {"plan": plan}).fetchone()
        key = (plan, version, tuple(calls))
        if key not in self._panels:
            self._panels[key] = of_plan(conn, plan, calls)
            while len(self._panels) > self._size:
                self._panels.popitem(last=False)
        self._panels.move_to_end(key)
        return self._panels[key]
