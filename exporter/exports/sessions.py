"""The session export, v1: a page, or everything, as one consistent answer.

A request becomes a selection over the sessions; what a document says of the selection as a whole
(prices, projects, the next cursor) is read first, then the finished text of its rows is streamed.
All of it is read in one snapshot, and nothing is ever written.

The set of a run must not change between its pages. The archive numbers its committed changes and
logs what each session looked like before one moved it, so a cursor carries the number of the
change it was made at, and only what changed since is compared.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from exporter.core import cursor as cursors
from exporter.core.cursor import Cursor, CursorInvalid, CursorOrderMismatch, Filters
from exporter.core.pricing import PriceTable, Rates
from exporter.core.times import parse_instant_ms
from exporter.db import queries, session_text
from exporter.db.prices import price_table
from exporter.errors import CursorReset, ExporterError
from exporter.exports.facts import project_resolutions

QUERIES = queries.load(__file__)
Connection = psycopg.Connection[Any]

MAX_LIMIT: Final = 500
#: What decides whether a session is in a set; the change log holds the same columns.
_MEMBERSHIP: Final = (
    "visible",
    "project",
    "machine",
    "agent",
    "git_branch",
    "last_activity_text",
    "activity_ms",
    "start_day",
    "message_count",
    "user_message_count",
    "parent_session_id",
    "relationship_type",
    "is_automated",
    "outcome",
    "health_grade",
    "tool_failure_signal_count",
    "secret_leak_count",
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to export. ``filters`` None means those of the cursor, or the default ones.

    ``everything`` joins all pages into one answer without a further cursor; ``limit`` is then
    only checked, because one snapshot needs no pages.
    """

    filters: Filters | None = None
    cursor: str = ""
    limit: int = MAX_LIMIT
    everything: bool = False
    custom_rates: Mapping[str, Rates] | None = None


class ModelFacts(NamedTuple):
    """How the rows of one recorded model were priced, and at which rates its text is stored."""

    name: str
    model_id: int
    computed: bool
    reported: bool
    matched_pattern: str | None
    rates: tuple[Any, ...]


class PageRow(NamedTuple):
    session_key: int
    id: str
    activity_ms: int
    last_activity_text: str
    project: str


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive's identity and where it stands."""

    database_id: str
    #: Signs cursors: whoever has it can make them.
    cursor_secret: bytes = field(repr=False)
    revision: int
    revision_token: str


class Selection(NamedTuple):
    """SQL condition over `s`, with its parameters."""

    condition: sql.Composable
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One document: its head, and its rows as finished v1 text, to be read once and in order.

    ``rows`` reads from the connection: use it inside the snapshot that `open_export` was called in,
    and close it there, also after a failure: until then it holds the connection.
    """

    head: dict[str, Any]
    rows: Generator[bytes, None, None]


def open_export(conn: Connection, request: Request) -> Answer:
    """Work out one answer; call it inside `exporter.db.connect.read_snapshot`.

    Raises `CursorReset` for a cursor that must restart, `ExporterError` for one of another order
    or for filters beside a cursor that are not its own.
    """
    conn.execute("SET LOCAL jit = off")
    archive = _archive(conn)
    resumed = _resume(conn, archive, request)
    filters = resumed.filters if resumed else request.filters or Filters()
    eligible = eligibility(filters)
    if request.everything:
        selection, following = eligible, ""
        labels = [row[0] for row in _select(conn, "labels", selection)]
    else:
        page, following = _page(conn, archive, request, filters, eligible, resumed)
        selection = Selection(QUERIES["of_page"], {"keys": [row.session_key for row in page]})
        labels = sorted({row.project for row in page})
    head: dict[str, Any] = {
        "schema_version": 1,
        "database_id": archive.database_id,
        "cursor": {"next": following},
        "pricing": {},
        "projects": {},
    }
    if not labels:
        return Answer(head, _no_lines())
    prices = price_table(conn, request.custom_rates)
    models = _models(conn, selection)
    head["pricing"] = prices.block({m.name: (m.computed, m.reported) for m in models}).asdict()
    resolved = project_resolutions(conn, labels)
    head["projects"] = {label: known.as_wire() for label, known in resolved.items()}
    if request.everything:
        _walk_in_order(conn)
    return Answer(head, _lines(conn, selection, prices, models))


def _archive(conn: Connection) -> Archive:
    row = conn.execute(QUERIES["archive"]).fetchone()
    if row is None or not row[0].strip():
        raise ExporterError(
            "database id missing from the archive",
            hint='run "exporter db upgrade" with a role that may write',
        )
    return Archive(row[0].strip(), bytes(row[1]), row[2], row[3])


# -- the selection ------------------------------------------------------------------------------


def eligibility(filters: Filters) -> Selection:
    """The sessions that a run with these filters is about, as a condition over `s`."""
    parameters = _filter_parameters(filters)
    seed = _all_of(_root_rules(filters) + _filter_rules(filters))
    if not filters.include_children:
        return Selection(_all_of([QUERIES["listed"], seed]), parameters)
    tree = QUERIES["in_tree"].format(root=seed, columns=_columns("p"))
    return Selection(_all_of([QUERIES["listed"], tree]), parameters)


def _root_rules(filters: Filters) -> list[sql.Composable]:
    """Which sessions count by themselves, before any filter that was asked for."""
    rules: list[sql.Composable] = [QUERIES["tree_root" if filters.include_children else "root"]]
    if not filters.include_automated:
        rules.append(QUERIES["not_automated"])
    if not filters.include_one_shot and filters.include_automated:
        rules.append(QUERIES["not_one_shot_unless_automated"])
    elif not filters.include_one_shot:
        rules.append(QUERIES["not_one_shot"])
    return rules


def _filter_rules(filters: Filters) -> list[sql.Composable]:
    """A condition for each filter that was given; one that nothing can meet is false."""
    unreadable = filters.active_since and parse_instant_ms(filters.active_since) is None
    if unreadable or filters.branches == ():
        return [sql.SQL("false")]
    given = {
        "project": filters.project,
        "exclude_project": filters.exclude_project,
        "machine": filters.machines,
        "agent": filters.agents,
        "git_branch": filters.branches,
        "date": filters.date,
        "date_from": filters.date_from,
        "date_to": filters.date_to,
        "active_since": filters.active_since,
        "min_messages": filters.min_messages > 0,
        "max_messages": filters.max_messages > 0,
        "min_user_messages": filters.min_user_messages > 0,
        "outcome": filters.outcomes,
        "health_grade": filters.health_grades,
        "min_tool_failures": filters.min_tool_failures is not None,
        "has_secret": filters.has_secret,
    }
    return [QUERIES[name] for name, is_given in given.items() if is_given]


def _filter_parameters(filters: Filters) -> dict[str, Any]:
    branches = filters.branches or ()
    return {
        "project": filters.project,
        "exclude_project": filters.exclude_project,
        "machine": list(filters.machines),
        "agent": list(filters.agents),
        "branch_projects": [project for project, _ in branches],
        "branches": [branch for _, branch in branches],
        "date": filters.date,
        "date_from": filters.date_from,
        "date_to": filters.date_to,
        "active_since_ms": parse_instant_ms(filters.active_since),
        "min_messages": filters.min_messages,
        "max_messages": filters.max_messages,
        "min_user_messages": filters.min_user_messages,
        "outcome": list(filters.outcomes),
        "health_grade": list(filters.health_grades),
        "min_tool_failures": filters.min_tool_failures,
    }


def _all_of(conditions: list[sql.Composable]) -> sql.Composable:
    return sql.SQL(" AND ").join(conditions)


def _columns(alias: str) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(alias, name) for name in _MEMBERSHIP)


def _select(
    conn: Connection, query: str, selection: Selection, **fragments: sql.Composable
) -> psycopg.Cursor[Any]:
    statement = QUERIES[query].format(selected=selection.condition, **fragments)
    return conn.execute(statement, selection.parameters)


# -- pages and cursors --------------------------------------------------------------------------


def _resume(conn: Connection, archive: Archive, request: Request) -> Cursor | None:
    """The cursor of the request if it may go on; in the order of checks of the contract."""
    if not request.cursor:
        return None
    reset = CursorReset(archive.database_id)
    try:
        resumed = cursors.decode(
            request.cursor, archive.cursor_secret, database_id=archive.database_id
        )
    except CursorInvalid:
        raise reset from None
    except CursorOrderMismatch:
        raise _CONFLICT_OF_ORDER from None
    if request.filters is not None and request.filters != resumed.filters:
        raise ExporterError(
            "the filters beside the cursor are not those it was made with",
            hint="leave them out, or restart the export without the cursor",
        )
    if _has_changed(conn, archive, resumed):
        raise reset
    return resumed


_CONFLICT_OF_ORDER: Final = ExporterError(
    "the cursor was made for another order of sessions", hint="restart the export without it"
)


def _has_changed(conn: Connection, archive: Archive, resumed: Cursor) -> bool:
    """Whether the set of the cursor's run is not what it was when the cursor was made."""
    if resumed.revision == archive.revision:
        return resumed.revision_token != archive.revision_token
    since = {"revision": resumed.revision}
    token = conn.execute(QUERIES["revision_token"], since).fetchone()
    if token is None or token[0] != resumed.revision_token:
        return True
    if not _flag(conn.execute(QUERIES["any_change"], since)):
        return False
    filters = resumed.filters
    parameters = {
        **_filter_parameters(filters),
        **since,
        "watermark_ms": resumed.watermark_ms,
    }
    if filters.include_children:
        seed = _all_of(_root_rules(filters) + _filter_rules(filters))
        statement = QUERIES["tree_changed"].format(root=seed, columns=_columns("p"))
    else:
        statement = QUERIES["set_changed"].format(eligible=eligibility(filters).condition)
    return _flag(conn.execute(statement, parameters))


def _flag(result: psycopg.Cursor[Any]) -> bool:
    row = result.fetchone()
    return bool(row and row[0])


def _page(
    conn: Connection,
    archive: Archive,
    request: Request,
    filters: Filters,
    eligible: Selection,
    resumed: Cursor | None,
) -> tuple[list[PageRow], str]:
    """The rows of one page, and the cursor of the next, '' when there is none."""
    after = QUERIES["from_the_top"]
    parameters: dict[str, Any] = {**eligible.parameters, "rows": request.limit + 1}
    if resumed is not None:
        after = QUERIES["after_row"]
        parameters |= {"last_ms": resumed.last_activity_ms, "last_id": resumed.last_id}
    statement = QUERIES["page"].format(eligible=eligible.condition, after=after)
    rows = [PageRow._make(row) for row in conn.execute(statement, parameters)]
    page = rows[: request.limit]
    if len(rows) <= request.limit:
        return page, ""
    first, last = page[0], page[-1]
    start = resumed or Cursor(
        database_id=archive.database_id,
        filters=filters,
        watermark=first.last_activity_text,
        watermark_ms=first.activity_ms,
        last_activity_at="",
        last_activity_ms=0,
        last_id="",
        limit=request.limit,
        revision=archive.revision,
        revision_token=archive.revision_token,
    )
    following = replace(
        start,
        last_activity_at=last.last_activity_text,
        last_activity_ms=last.activity_ms,
        last_id=last.id,
        limit=request.limit,
        revision=archive.revision,
        revision_token=archive.revision_token,
    )
    return page, cursors.encode(following, archive.cursor_secret)


# -- what a document says of all its rows -------------------------------------------------------


def _models(conn: Connection, selection: Selection) -> list[ModelFacts]:
    rows = _select(conn, "models", selection)
    return [ModelFacts(a, b, c, d, e, tuple(rates)) for a, b, c, d, e, *rates in rows]


# -- rows ---------------------------------------------------------------------------------------


def _walk_in_order(conn: Connection) -> None:
    """Make the planner follow the page index, row by row: sorting all finished text would spill."""
    for setting in ("enable_seqscan", "enable_sort", "enable_hashjoin", "enable_bitmapscan"):
        conn.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(setting)))


def _no_lines() -> Generator[bytes, None, None]:
    yield from ()


def _lines(
    conn: Connection, selection: Selection, prices: PriceTable, models: list[ModelFacts]
) -> Generator[bytes, None, None]:
    """The text of each row with its line break, in the order of the export.

    Stored text is priced at the stored rates. A run with rates of its own renders the usage again.
    """
    rates = {m.model_id: _given(prices, m.name) for m in models}
    usage: sql.Composable = QUERIES["stored_usage"]
    joined: sql.Composable = sql.SQL("")
    parameters = dict(selection.parameters)
    if any(rates[m.model_id] != (m.matched_pattern, *m.rates) for m in models):
        usage = QUERIES["fresh_usage"].format(no_usage=session_text.NO_USAGE)
        joined = QUERIES["fresh_rates"].format(
            usage=session_text.usage(sql.SQL("s.session_key"), QUERIES["given_rates"])
        )
        columns = list(zip(*rates.values(), strict=True))
        names = ("rate_patterns", "rate_input", "rate_output", "rate_write", "rate_read")
        parameters |= {"rate_models": list(rates)}
        parameters |= {name: list(column) for name, column in zip(names, columns, strict=True)}
        conn.execute("SET LOCAL extra_float_digits = 1")
    query = QUERIES["lines"].format(selected=selection.condition, usage=usage, rates=joined)
    # COPY's text format doubles every back slash; its CSV format leaves a field alone that holds
    # neither quote nor delimiter, and v1 text cannot hold control characters.
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')")
    with conn.cursor() as reader, reader.copy(statement.format(query), parameters) as copy:
        for block in copy:
            yield bytes(block)


def _given(prices: PriceTable, model: str) -> tuple[Any, ...]:
    row = prices.resolve(model)
    return (None, *(Decimal(0),) * 4) if row is None else (row.pattern, *row.rates.exact)
