"""The activity report, v1: when agents were at work in a range, how many at once, at what cost.

Sessions that touch the range are its candidates; their activity is cut to the range, their usage
counted once across all of them. One statement does it all. What it says of the range as a whole
becomes a value of ours, `Report.head`; the rows of sessions and the intervals may be many: their
finished text is streamed from PostgreSQL in either framing, and never taken apart here.

All of it belongs inside one `exporter.db.connect.read_snapshot`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

import psycopg
from psycopg import sql

from exporter.core.calendar import Range
from exporter.core.numbers import EXACT, exact_sum
from exporter.core.pricing import PriceRow, PriceTable, Rates
from exporter.core.resolution import ProjectResolution
from exporter.core.times import seconds_text
from exporter.db import queries
from exporter.exports.facts import project_resolutions
from exporter.exports.usage_daily import prices_in_force

QUERIES = queries.load(__file__)
Connection = psycopg.Connection[Any]

Automation = Literal["all", "interactive", "automated"]
Framing = Literal["pretty", "compact"]

_MINUTE_NS: Final = 60_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: For the one transaction. Plans are made once and run once, so compiling them costs more than it
#: saves. What belongs to a session lies together, so going there is cheaper than reading the whole
#: archive, which is what the planner would think best of a range of some weeks.
_SETTINGS: Final = {
    "jit": "off",
    "extra_float_digits": 1,
    "random_page_cost": 1.1,
    "work_mem": "32MB",
}
#: A line that ends a section of the statement.
_SECTION_END: Final = "\x04"
#: Stands for a line break inside a row, where COPY would quote one; JSON has no such character.
_BREAK: Final = "\x02"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions to report on; '' and () do not filter."""

    project: str = ""
    agents: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    automation: Automation = "all"


class _Share(NamedTuple):
    """Active time and cost of a key, of its automated sessions and of all."""

    key: str
    automated_ns: int
    active_ns: int
    automated_cost: Decimal
    cost: Decimal

    def as_wire(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "agent_minutes": minutes(self.active_ns),
            "cost": self.cost,
            "automated_agent_minutes": minutes(self.automated_ns),
            "interactive_agent_minutes": minutes(self.active_ns - self.automated_ns),
            "automated_cost": self.automated_cost,
            "interactive_cost": EXACT.subtract(self.cost, self.automated_cost),
        }


class _Bucket(NamedTuple):
    """What happened in a bucket; offsets are nanoseconds from the start of the range."""

    agent_ns: int
    active_ns: int
    most_agents: int
    most_at: int
    most_automated: int


@dataclass(slots=True)
class _Summary:
    """What the statement says of the range as a whole."""

    sessions: int
    automated: int
    untimed: int
    priced: dict[str, tuple[bool, bool]]
    named: int
    buckets: list[_Bucket]
    #: Output tokens and cost by number of the bucket, from 0.
    spent: dict[int, tuple[int, Decimal]]
    shares: dict[str, list[_Share]]


@dataclass(frozen=True, slots=True)
class Report:
    """One report. Its rows are text, to be read once: first the sessions, then the intervals."""

    #: The document without its two long arrays, ``by_session`` and ``intervals``, in wire order.
    head: dict[str, Any]
    #: One row after the other, without anything between them.
    sessions: Iterator[bytes]
    #: Blocks of some hundred, with commas between those of a block.
    intervals: Iterator[bytes]


#: What goes between the pieces of a row. ``pretty`` is two blanks a level, below two levels.
_FRAMINGS: Final[dict[Framing, dict[str, str]]] = {
    "pretty": {
        "open": f"    {{{_BREAK}      ",
        "is": ": ",
        "break": f",{_BREAK}      ",
        "close": f"{_BREAK}    }}",
        "list_open": f"[{_BREAK}        ",
        "item_break": f",{_BREAK}        ",
        "list_close": f"{_BREAK}      ]",
        "row_break": f",{_BREAK}",
    },
    "compact": {
        "open": "{",
        "is": ":",
        "break": ",",
        "close": "}",
        "list_open": "[",
        "item_break": ",",
        "list_close": "]",
        "row_break": ",",
    },
}


@contextmanager
def open_report(
    conn: Connection,
    covered: Range,
    timezone: str,
    selection: Selection,
    custom_rates: Mapping[str, Rates] | None = None,
    *,
    embedded: Sequence[PriceRow] = (),
    framing: Framing = "compact",
    most_sessions: int | None = None,
    with_intervals: bool = True,
) -> Iterator[Report]:
    """One report, to be read while the block lasts, inside `exporter.db.connect.read_snapshot`.

    ``timezone`` is only echoed: the range is cut already. ``embedded`` are built-in prices that
    come before stored ones of the same name. The connection is busy within the block.
    """
    for setting, value in _SETTINGS.items():
        conn.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(setting), value))
    prices = prices_in_force(conn, custom_rates, embedded)
    candidates, labels = _candidates(conn, covered, selection)
    projects = project_resolutions(conn, labels)
    parameters = {
        **_range_parameters(covered),
        **_rate_parameters(conn, prices),
        **_FRAMINGS[framing],
        # Their number tells the planner how much of the archive is wanted.
        "candidates": candidates,
        "limit": most_sessions,
        "section_end": _SECTION_END,
    }
    rows = [QUERIES["sessions"].format(first=_instant("a.first_ns"), last=_instant("a.last_ns"))]
    if with_intervals:
        rows.append(
            QUERIES["interval_lines"].format(first=_instant("start_ns"), last=_instant("end_ns"))
        )
    # COPY's CSV format leaves a field alone that holds neither quote nor delimiter.
    statement = sql.SQL(
        "COPY ({}) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x03')"
    ).format(QUERIES["report"].format(rows=sql.SQL("\n").join(rows), **_fragments()))
    with conn.cursor() as reader, reader.copy(statement, parameters) as copy:
        # Each block is a row with its line end.
        lines = (bytes(block)[:-1] for block in copy)
        summary = _summary(_section(lines), len(covered.buckets))
        head = _head(covered, timezone, prices, projects, summary)
        yield Report(head, _text(_section(lines)), _text(_section(lines)))
        # The rest, which nobody asked for, must be read before the connection can go on.
        for _ in lines:
            pass


def _section(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines up to the end of a section, or of all."""
    end = _SECTION_END.encode()
    return iter(lambda: next(lines, end), end)


def _text(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line.replace(b"\x02", b"\n") for line in lines)


def minutes(ns: int) -> float:
    """Nanoseconds as minutes, rounded once."""
    return ns / _MINUTE_NS


# -- the statements -----------------------------------------------------------------------------


def _candidates(
    conn: Connection, covered: Range, selection: Selection
) -> tuple[list[int], list[str]]:
    """The keys of the sessions that the report is about, and their project labels."""
    given = {
        "project": selection.project,
        "agents": selection.agents,
        "machines": selection.machines,
        "interactive": selection.automation == "interactive",
        "automated": selection.automation == "automated",
    }
    filters = [QUERIES[name] for name, is_given in given.items() if is_given]
    joined = sql.SQL(" AND ").join(filters or [QUERIES["no_filter"]])
    parameters = {
        "candidate_start": _moment(_up(covered.start)),
        "candidate_end": _moment(_up(covered.end)),
        "start_text": seconds_text(covered.start)[:-1],
        "end_text": seconds_text(covered.end)[:-1],
        "project": selection.project,
        "agents": list(selection.agents),
        "machines": list(selection.machines),
    }
    statement = QUERIES["candidates"].format(filters=joined)
    row = conn.execute(statement, parameters).fetchone()
    return (row[0], row[1]) if row else ([], [])


def _fragments() -> dict[str, sql.Composable]:
    """The parts that the statement is made of."""
    return {
        "stretches": QUERIES["stretches"].format(offset=_offset("p")),
        "intervals": QUERIES["intervals"],
        "timed": QUERIES["timed"],
        "spent": QUERIES["spent"].format(offset=_offset("u")),
        "priced": QUERIES["priced"],
        "weighed": QUERIES["weighed"],
        "summary": QUERIES["summary"].format(),
    }


def _offset(row: str) -> sql.Composable:
    return QUERIES["offset"].format(row=sql.Identifier(row))


def _instant(offset: str) -> sql.Composable:
    column = sql.SQL(".").join(map(sql.Identifier, offset.split(".")))
    return QUERIES["instant"].format(offset=column)


def _range_parameters(covered: Range) -> dict[str, Any]:
    """The range as the statement wants it: offsets, and instants in microseconds."""
    micros, beyond = divmod(covered.start, 1000)
    return {
        "start": _moment(micros),
        "start_beyond": beyond,
        "effective_end": _moment(_up(covered.effective_end)),
        "length_ns": covered.effective_end - covered.start,
        "bucket_starts": [bucket.start - covered.start for bucket in covered.buckets],
    }


def _up(ns: int) -> int:
    """The microsecond that an instant of whole microseconds must reach to be no earlier."""
    return -(-ns // 1000)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _rate_parameters(conn: Connection, prices: PriceTable) -> dict[str, Any]:
    """The rates of every model of the archive, each resolved once; unpriced ones cost nothing."""
    models = conn.execute(QUERIES["models"]).fetchall()
    rows = [prices.resolve(name) for _, name in models]
    rates = [row.rates.exact if row else (Decimal(0),) * 4 for row in rows]
    columns = zip(*rates, strict=True) if rates else ((), (), (), ())
    names = ("rate_input", "rate_output", "rate_write", "rate_read")
    return {
        "rate_models": [model_id for model_id, _ in models],
        **{name: list(column) for name, column in zip(names, columns, strict=True)},
    }


def _summary(lines: Iterator[bytes], bucket_count: int) -> _Summary:
    """Sort out what is said of the range as a whole."""
    found: dict[str, list[tuple[str, list[Decimal]]]] = {}
    for line in lines:
        kind, name, numbers = json.loads(line, parse_int=Decimal, parse_float=Decimal)
        found.setdefault(kind, []).append((name, numbers))
    ((_, (sessions, automated, untimed)),) = found["candidates"]
    buckets = {int(numbers[0]): numbers[1:] for _, numbers in found["bucket"]}
    return _Summary(
        sessions=int(sessions),
        automated=int(automated),
        untimed=int(untimed),
        priced={name: (bool(a), bool(b)) for name, (a, b) in found.get("priced", ())},
        named=len(found.get("named", ())),
        buckets=[_bucket(buckets[number]) for number in range(1, bucket_count + 1)],
        spent={
            int(number) - 1: (int(tokens), cost)
            for _, (number, tokens, cost) in found.get("spent", ())
        },
        shares={
            kind: [
                _Share(name, int(automated_ns), int(active_ns), *costs)
                for name, (automated_ns, active_ns, *costs) in found.get(kind, ())
            ]
            for kind in ("project", "model", "agent")
        },
    )


def _bucket(numbers: list[Decimal]) -> _Bucket:
    agent_ns, active_ns, most_agents, minus_most_at, most_automated = map(int, numbers)
    return _Bucket(agent_ns, active_ns, most_agents, -minus_most_at, most_automated)


# -- the document -------------------------------------------------------------------------------


def _head(
    covered: Range,
    timezone: str,
    prices: PriceTable,
    projects: Mapping[str, ProjectResolution],
    summary: _Summary,
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "pricing": prices.block(summary.priced).asdict(),
        "projects": {label: known.as_wire() for label, known in projects.items()},
        "timezone": timezone,
        "range_start": seconds_text(covered.start),
        "range_end": seconds_text(covered.end),
        "bucket_unit": covered.unit.name,
        "bucket_seconds": covered.unit.seconds,
        "bucket_count": len(covered.buckets),
        "partial": covered.is_partial,
        "as_of": seconds_text(covered.effective_end) if covered.is_partial else None,
        "effective_end": seconds_text(covered.effective_end),
        "elapsed_bucket_count": covered.elapsed_buckets,
        "buckets": list(_buckets(covered, summary)),
        "peak": _peak(covered, summary.buckets),
        "totals": _totals(covered, len(projects), summary),
        "by_project": _breakdown(summary.shares["project"]),
        "by_model": _breakdown(
            share for share in summary.shares["model"] if share.key != "unknown"
        ),
        "by_agent": _breakdown(summary.shares["agent"]),
    }


def _buckets(covered: Range, summary: _Summary) -> Iterator[dict[str, Any]]:
    for number, (bounds, bucket) in enumerate(zip(covered.buckets, summary.buckets, strict=True)):
        tokens, cost = summary.spent.get(number, (0, Decimal(0)))
        yield {
            "start": seconds_text(bounds.start),
            "end": seconds_text(bounds.end),
            "max_agents": bucket.most_agents,
            "agent_minutes": minutes(bucket.agent_ns),
            "output_tokens": tokens,
            "cost": cost,
            "automated_at_peak": bucket.most_automated,
            "interactive_at_peak": bucket.most_agents - bucket.most_automated,
        }


def _peak(covered: Range, buckets: Iterable[_Bucket]) -> dict[str, Any]:
    """The first bucket with the greatest number of agents knows the first instant of it."""
    top = max(buckets, key=lambda bucket: bucket.most_agents)
    if top.most_agents == 0:
        return {"agents": 0, "at": None}
    return {"agents": top.most_agents, "at": seconds_text(covered.start + top.most_at)}


def _totals(covered: Range, project_count: int, summary: _Summary) -> dict[str, Any]:
    shares = summary.shares["agent"]
    active_ns = sum(bucket.active_ns for bucket in summary.buckets)
    agent_ns = sum(share.active_ns for share in shares)
    automated_ns = sum(share.automated_ns for share in shares)
    cost = exact_sum(share.cost for share in shares)
    automated_cost = exact_sum(share.automated_cost for share in shares)
    return {
        "active_minutes": minutes(active_ns),
        "idle_minutes": minutes(max(0, covered.effective_end - covered.start - active_ns)),
        "agent_minutes": minutes(agent_ns),
        "sessions": summary.sessions,
        "untimed_sessions": summary.untimed,
        "distinct_projects": project_count,
        "distinct_models": summary.named,
        "output_tokens": sum(tokens for tokens, _ in summary.spent.values()),
        "cost": cost,
        "automated_agent_minutes": minutes(automated_ns),
        "interactive_agent_minutes": minutes(agent_ns - automated_ns),
        "automated_cost": automated_cost,
        "interactive_cost": EXACT.subtract(cost, automated_cost),
        "automated_sessions": summary.automated,
        "interactive_sessions": summary.sessions - summary.automated,
    }


def _breakdown(shares: Iterable[_Share]) -> list[dict[str, Any]]:
    """Rows that have a name and say something, the most active first, then by the name's bytes."""
    shown = [share for share in shares if share.key and (share.active_ns or share.cost)]
    # Python orders text by code points, and so do the bytes of UTF-8.
    shown.sort(key=lambda share: (-share.active_ns, share.key))
    return [share.as_wire() for share in shown]
