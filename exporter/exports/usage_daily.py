"""The daily usage report, v1: what was spent per local day, by model, project and agent.

A request becomes a window of local dates and a choice of sessions; PostgreSQL sums the rows that
survive both and the removal of duplicates, and the sums are priced. What arrives here is a line
per day and name, however many rows were counted. All of it is read in one snapshot, and nothing is
ever written.

Two derived tables make it quick: sums over a session's rows per quarter of an hour, and apart from
them the rows whose key occurs more than once, which are ranked. Imports bring both up to date when
they end, see migration 0003; in between all rows are ranked. What occurs again only because several
sources hold a session is summed up all the same, see `release_keys` of the importers: of such
copies one counts, whatever is asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import sql

from exporter.core.calendar import Offsets, offsets
from exporter.core.numbers import exact_sum
from exporter.core.pricing import PriceRow, PriceTable, Rates, RateSource
from exporter.core.window import Window
from exporter.db import queries
from exporter.db.prices import price_table
from exporter.errors import ExporterError
from exporter.exports.facts import project_resolutions

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

QUERIES = queries.load(__file__)
Connection = psycopg.Connection[Any]

#: Agents whose cost is also told in credits, at a cent each.
CREDIT_AGENTS: Final = ("copilot", "vscode-copilot", "visualstudio-copilot")
#: Names of the four counters on the wire, in their order.
TOKEN_FIELDS: Final = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")

#: The years in which our rules of a zone come before the server's: older ones hardly change.
_YEARS: Final = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC))
#: The same where the server has no rules; before and after them clocks are taken not to change.
_MORE_YEARS: Final = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_WEEK: Final = 7 * 86_400
#: Zones whose name PostgreSQL reads as an abbreviation with a fixed offset first.
_SAME_CLOCK: Final = {
    "CET": "Europe/Brussels",
    "MET": "Europe/Brussels",
    "EET": "Europe/Athens",
    "WET": "Europe/Lisbon",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What to report. ``agents`` are compared as they stand; None means all."""

    window: Window
    #: Name of the zone that dates are cut in.
    zone: str
    #: Its rules; those of the server, which may be older or missing, count without them.
    rules: ZoneInfo | None = None
    project: str = ""
    machines: tuple[str, ...] = ()
    agents: tuple[str, ...] | None = None
    #: Also sum up per project and per agent.
    breakdown: bool = False
    custom_rates: Mapping[str, Rates] | None = None
    #: Built-in prices that come before stored ones of the same name.
    embedded: Sequence[PriceRow] = ()


_NO_RATES: Final = (Decimal(0),) * 4


class Spent(NamedTuple):
    """Survivors of one day under one name: tokens, exact dollars, and how they were priced."""

    level: str
    date: str
    name: str
    tokens: tuple[int, int, int, int]
    cost: Decimal
    #: Part of the cost that belongs to agents with credits.
    credit_cost: Decimal
    savings: Decimal
    computed: bool
    reported: bool


@dataclass(frozen=True, slots=True)
class Report:
    """One answer: the members of the document but the days, and the days."""

    head: dict[str, Any]
    daily: list[dict[str, Any]]
    totals: dict[str, Any]
    session_counts: dict[str, Any]

    def asdict(self) -> dict[str, Any]:
        """The v1 document, its members in their order."""
        return {
            **self.head,
            "daily": self.daily,
            "totals": self.totals,
            "sessionCounts": self.session_counts,
        }

    def meta(self) -> dict[str, Any]:
        """Everything but the days, for the first line of a stream of days."""
        return {**self.head, "totals": self.totals, "sessionCounts": self.session_counts}


def read_report(conn: Connection, request: Request) -> Report:
    """Work out one answer; call it inside `exporter.db.connect.read_snapshot`.

    Raises `ExporterError` where the server does not know the zone and the request has no rules.
    """
    _prepare(conn)
    prices = prices_in_force(conn, request.custom_rates, request.embedded)
    selection = _selection(conn, request)
    spent = _spent(conn, request, selection, prices)
    counts = _session_counts(conn, request, selection)
    models = [s for s in spent if s.level == "model"]
    recorded: dict[str, tuple[bool, bool]] = {}
    for s in models:
        computed, reported = recorded.get(s.name, (False, False))
        recorded[s.name] = (computed or s.computed, reported or s.reported)
    labels = [label for label in counts["byProject"] if label]
    resolved = project_resolutions(conn, labels) if labels else {}
    head = {
        "schema_version": 1,
        "pricing": prices.block(recorded).asdict(),
        "projects": {label: known.as_wire() for label, known in resolved.items()},
    }
    return Report(head, _days(spent), _totals(models), counts)


def read_cost(conn: Connection, request: Request) -> Decimal:
    """The exact dollars of a request, and nothing else."""
    _prepare(conn)
    prices = prices_in_force(conn, request.custom_rates, request.embedded)
    spent = _spent(conn, request, _selection(conn, request), prices)
    return exact_sum(s.cost for s in spent if s.level == "model")


def _prepare(conn: Connection) -> None:
    conn.execute("SET LOCAL jit = off")
    # Days are far fewer than instants, which the planner cannot know: grouping them needs no sort.
    conn.execute("SET LOCAL enable_sort = off")
    conn.execute("SET LOCAL work_mem = '32MB'")


# -- what the statements are made of ------------------------------------------------------------


def prices_in_force(
    conn: Connection, custom_rates: Mapping[str, Rates] | None, embedded: Sequence[PriceRow] = ()
) -> PriceTable:
    """The prices of a report; ``embedded`` ones, where any are given, replace all but custom ones.

    Both reports read them here, so that one flag means the same in both.
    """
    table = price_table(conn, custom_rates)
    if not embedded:
        return table
    rows = {row.pattern: row for row in table.rows}
    for row in embedded:
        stored = rows.get(row.pattern)
        if stored is None or stored.source is not RateSource.CUSTOM:
            rows[row.pattern] = row
    return replace(table, rows=tuple(rows.values()))


class _Selection(NamedTuple):
    """The parts of the statements that say which sessions and rows count, and their parameters."""

    #: The local time of a row `u`.
    local: sql.Composable
    #: The sessions that pass.
    kept: sql.Composable
    #: Queries of survivors, and of the keys of their sessions, to be united.
    survivors: list[sql.Composable]
    sessions: list[sql.Composable]
    parameters: dict[str, Any]


def _selection(conn: Connection, request: Request) -> _Selection:
    window = request.window
    kept = QUERIES["kept"].format(
        filters=_all_of(
            of_project=bool(request.project),
            of_machines=bool(request.machines),
            of_agents=request.agents is not None,
        )
    )
    local, clock = _clock(conn, request)
    in_range = _all_of(local, from_day=window.first is not None, to_day=window.last is not None)
    found = conn.execute(QUERIES["what_there_is"]).fetchone()
    assert found is not None
    is_pending, has_repeated, has_billing = found
    survivors: list[sql.Composable] = []
    sessions: list[sql.Composable] = []
    if not is_pending:
        survivors.append(QUERIES["summed"].format(kept=kept, in_range=in_range))
        sessions.append(QUERIES["summed_sessions"].format(in_range=in_range))
    if is_pending or has_repeated:
        rows = QUERIES["every_row" if is_pending else "repeated"]
        ranked = QUERIES["ranked"].format(rows=rows, kept=kept, in_range=in_range)
        survivors.append(QUERIES["ranked_rows"].format(ranked=ranked))
        sessions.append(QUERIES["ranked_sessions"].format(ranked=ranked))
    if has_billing and _counts_billing(request):
        survivors.append(QUERIES["billed"].format(in_range=in_range))
    return _Selection(local, kept, survivors, sessions, _parameters(request) | clock)


def _clock(conn: Connection, request: Request) -> tuple[sql.Composable, dict[str, Any]]:
    """How the statements tell the local time of a row, and the parameters for it."""
    if request.rules is None:
        return QUERIES["local_by_server"], {}
    known = offsets(request.rules, *_YEARS)
    try:
        # A savepoint: the transaction goes on where the server does not know the name.
        with conn.transaction():
            differ = _rules_differ(conn, request.zone, known)
    except psycopg.errors.InvalidParameterValue:
        # The bounds that narrow the search have a day to spare, which is more than any offset.
        alone = offsets(request.rules, *_MORE_YEARS)
        return QUERIES["local_by_ours_alone"], {**alone._asdict(), "zone": "UTC"}
    if not differ:
        return QUERIES["local_by_server"], {}
    years = {"ours_from": _YEARS[0], "ours_to": _YEARS[1]}
    return QUERIES["local_by_ours"], {**known._asdict(), **years}


def _rules_differ(conn: Connection, zone: str, known: Offsets) -> bool:
    """Whether the server's rules of a zone are not ours in the years that ours tell.

    Raises psycopg's InvalidParameterValue where it has none.
    """
    # Weeks show rules that only the server has; both sides of our changes show the others. Where
    # clocks show UTC, as in most archives, one look is enough to see that there is such a zone.
    first, end = (int(at.timestamp()) for at in _YEARS)
    changes = [int(at.timestamp()) for at in known.changes]
    is_utc = not changes and not known.offsets[0]
    weeks = range(first, end, end - first if is_utc else _WEEK)
    probes = [*weeks, *changes, *(at - 1 for at in changes)]
    seconds = [int(ahead.total_seconds()) for ahead in known.offsets]
    ahead = [seconds[bisect_right(changes, at)] for at in probes]
    asked = {"zone": _server_name(zone), "probes": probes, "ahead": ahead}
    row = conn.execute(QUERIES["rules_differ"], asked).fetchone()
    return bool(row and row[0])


def _server_name(zone: str) -> str:
    return _SAME_CLOCK.get(zone, zone)


def _parameters(request: Request) -> dict[str, Any]:
    return {
        "project": request.project,
        "machines": list(request.machines),
        "agents": list(request.agents or ()),
        "first": request.window.first,
        "last": request.window.last,
        "zone": _server_name(request.zone),
        "credit_agents": list(CREDIT_AGENTS),
    }


def _united(parts: list[sql.Composable]) -> sql.Composed:
    # In parentheses, because a part may have an order of its own.
    return sql.SQL(" UNION ALL ").join(sql.SQL("({})").format(part) for part in parts)


def _counts_billing(request: Request) -> bool:
    """Whether billing lines pass: they belong to an agent, but to no project and no machine."""
    if request.project or request.machines:
        return False
    return request.agents is None or "cursor" in (agent.strip() for agent in request.agents)


def _all_of(local: sql.Composable | None = None, **conditions: bool) -> sql.Composable:
    """The named conditions that are wanted, joined; without any, what is always true."""
    wanted = [
        QUERIES[name].format(local=local) for name, is_wanted in conditions.items() if is_wanted
    ]
    return sql.SQL(" AND ").join(wanted) if wanted else sql.SQL("true")


# -- reading ------------------------------------------------------------------------------------


def _spent(
    conn: Connection, request: Request, selection: _Selection, prices: PriceTable
) -> list[Spent]:
    """A line per level, date and name, in no order."""
    names = "all_labels" if request.breakdown else "models_only"
    statement = QUERIES["spent"].format(
        survivors=_united(selection.survivors),
        local=selection.local,
        labels=QUERIES[names],
        sets=QUERIES[f"{names}_sets"],
    )
    rows = _execute(conn, statement, selection.parameters | _rates(conn, prices), request.zone)
    return [
        Spent(level, day, name, (int(a), int(b), int(c), int(d)), *amounts)
        for level, day, name, a, b, c, d, *amounts in rows
    ]


def _rates(conn: Connection, prices: PriceTable) -> dict[str, list[Any]]:
    """The rates of every recorded model as parallel lists; unpriced models have rates of 0."""
    rates: dict[str, list[Any]] = {
        name: [] for name in ("models", "input", "output", "write", "read")
    }
    for model_id, name in conn.execute(QUERIES["model_names"]):
        row = prices.resolve(name)
        exact = row.rates.exact if row else _NO_RATES
        for column, value in zip(rates.values(), (model_id, *exact), strict=True):
            column.append(value)
    return {f"rate_{name}": column for name, column in rates.items()}


def _execute(
    conn: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, Any], zone: str
) -> list[tuple[Any, ...]]:
    try:
        return conn.execute(statement, parameters).fetchall()
    except psycopg.errors.InvalidParameterValue:
        raise ExporterError(f"invalid --timezone: the server does not know {zone!r}") from None


def _session_counts(conn: Connection, request: Request, selection: _Selection) -> dict[str, Any]:
    """Sessions with a survivor, altogether and by either label, the labels in byte order."""
    statement = QUERIES["session_counts"].format(
        kept=selection.kept, sessions=_united(selection.sessions)
    )
    projects: dict[str, int] = {}
    agents: dict[str, int] = {}
    for project, agent, count in _execute(conn, statement, selection.parameters, request.zone):
        projects[project] = projects.get(project, 0) + count
        agents[agent] = agents.get(agent, 0) + count
    return {
        "total": sum(projects.values()),
        "byProject": dict(sorted(projects.items())),
        "byAgent": dict(sorted(agents.items())),
    }


# -- the document -------------------------------------------------------------------------------


def _days(spent: Iterable[Spent]) -> list[dict[str, Any]]:
    """The days in order, each with its names by cost."""
    days: dict[str, dict[str, list[Spent]]] = {}
    for s in spent:
        levels = days.setdefault(s.date, {"model": [], "project": [], "agent": []})
        levels[s.level].append(s)
    return [_day(date, **days[date]) for date in sorted(days, key=_place)]


def _place(date: str) -> tuple[bool, str]:
    """Where a date belongs: what is longer than ten characters is a date of year 10000."""
    return (len(date) > 10, date)


def _day(date: str, model: list[Spent], project: list[Spent], agent: list[Spent]) -> dict[str, Any]:
    models = _breakdown("modelName", model)
    return {
        "date": date,
        **_tokens(model),
        "totalCost": exact_sum(s.cost for s in model),
        "modelsUsed": [entry["modelName"] for entry in models],
        "modelBreakdowns": models,
        "projectBreakdowns": _breakdown("project", project),
        "agentBreakdowns": _breakdown("agent", agent),
    }


def _breakdown(label: str, spent: list[Spent]) -> list[dict[str, Any]]:
    """Entries by cost as the wire shows it, the dearest first; equal costs by name."""
    ordered = sorted(spent, key=lambda s: (-float(s.cost), s.name))
    return [{label: s.name, **_tokens([s]), "cost": s.cost} for s in ordered]


def _tokens(spent: Iterable[Spent]) -> dict[str, int]:
    sums = [sum(column) for column in zip(*(s.tokens for s in spent), strict=True)]
    return dict(zip(TOKEN_FIELDS, sums or [0] * len(TOKEN_FIELDS), strict=True))


def _totals(models: list[Spent]) -> dict[str, Any]:
    credits = exact_sum(s.credit_cost for s in models).scaleb(2)
    return {
        **_tokens(models),
        "totalCost": exact_sum(s.cost for s in models),
        **({"copilotAICredits": credits} if credits > 0 else {}),
        "cacheSavings": exact_sum(s.savings for s in models),
    }
