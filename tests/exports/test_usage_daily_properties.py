"""The daily usage report against a report written the plain way, over whatever rows there are.

The rows are written to the archive in pieces, some of them changed or removed again: the sums and
the keys that triggers keep must say the same as the rows themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.core.pricing import Rates
from exporter.core.window import Window
from exporter.exports.usage_daily import Request, read_report

RATES = {"aurora-2": Rates(3, 15, 3.75, 0.3), "ember-mini": Rates(0.1, 0.7, 1e-7, 0.2)}
MODELS = ("aurora-2", "ember-mini", "quartz-pro")
AGENTS = ("claude", "copilot")
PROJECTS = ("orchard", "tidepool", "")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu")
#: Around these the clocks change somewhere, or a date begins.
MOMENTS = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 10, 26, 18, 15, tzinfo=UTC),
    # In St. John's, a minute past midnight, it was yesterday again.
    datetime(2011, 11, 6, 2, 31, tzinfo=UTC),
)


class Row(NamedTuple):
    """A usage row; ``session`` is a place in the list of sessions."""

    session: int
    ordinal: int
    model: str
    at: datetime | None
    nanoseconds: int
    day_text: str | None
    tokens: tuple[int, int, int, int]
    reasoning: int
    cost: Decimal | None
    key: int | None


class Kept(NamedTuple):
    """A session as far as the report looks at it."""

    id: str
    project: str
    agent: str
    counts: bool


moments = st.builds(
    lambda base, minutes, microseconds: (
        base + timedelta(minutes=minutes, microseconds=microseconds)
    ),
    st.sampled_from(MOMENTS),
    st.integers(-60, 60) | st.integers(-1500, 1500),
    st.sampled_from((0, 0, -1, 1, 250_000)),
)
rows = st.builds(
    lambda at, text, nanoseconds, **rest: Row(
        at=at, nanoseconds=nanoseconds if at else 0, day_text=None if at else text, **rest
    ),
    session=st.integers(0, 4),
    ordinal=st.integers(-1, 3),
    model=st.sampled_from(MODELS),
    at=st.none() | moments | moments | moments,
    nanoseconds=st.sampled_from((0, 0, 999)),
    text=st.sampled_from(("", "2026-03-29", "whenever, ")),
    tokens=st.tuples(*(st.sampled_from((0, 7, 2_000_000)),) * 4),
    reasoning=st.sampled_from((0, 11, -3)),
    cost=st.sampled_from((None, None, Decimal("0.1"), Decimal(0), Decimal("-0.25"))),
    key=st.none() | st.integers(0, 5),
)
sessions = st.lists(
    st.builds(
        Kept,
        id=st.sampled_from(("a", "B", "é", "a-1", "z")),
        project=st.sampled_from(PROJECTS),
        agent=st.sampled_from(AGENTS),
        counts=st.sampled_from((True, True, True, False)),
    ),
    min_size=5,
    max_size=5,
    unique_by=lambda kept: kept.id,
)
windows = st.sampled_from(
    (
        Window(None, None),
        Window("2026-03-29", "2026-03-29"),
        Window("2026-10-04", None),
        Window(None, "2026-10-26"),
        Window("2011-11-06", "2011-11-06"),
    )
)
#: Whether each row is written, written and changed, or written and removed; and in which piece.
fates = st.lists(
    st.tuples(rows, st.sampled_from(("keep", "keep", "keep", "change", "remove")), st.booleans()),
    max_size=14,
)


# -- the plain way ------------------------------------------------------------------------------


def naive(
    kept: list[Kept], found: list[Row], window: Window, zone: str
) -> tuple[dict[Any, Any], dict[Any, int]]:
    """Tokens and cost by date and model, and sessions by project and agent."""
    spent: dict[Any, Any] = defaultdict(lambda: [0, 0, 0, 0, Decimal(0)])
    seen: set[int] = set()
    counted: set[int] = set()
    within = [row for row in found if kept[row.session].counts and in_window(row, window, zone)]
    for row in sorted(within, key=lambda row: order(kept, row)):
        if row.key is not None and row.key in seen:
            continue
        seen.add(-1 if row.key is None else row.key)
        counted.add(row.session)
        sums = spent[local_date(row, zone), row.model]
        for place, tokens in enumerate(row.tokens):
            sums[place] += tokens
        sums[4] += price(row)
    by_label: dict[Any, int] = defaultdict(int)
    for session in counted:
        by_label[kept[session].project, kept[session].agent] += 1
    return dict(spent), dict(by_label)


def order(kept: list[Kept], row: Row) -> tuple[Any, ...]:
    at = (row.at or datetime.max.replace(tzinfo=UTC), row.nanoseconds)
    return (row.at is None, *at, kept[row.session].id.encode(), row.ordinal)


def local_date(row: Row, zone: str) -> str:
    return row.at.astimezone(ZoneInfo(zone)).date().isoformat() if row.at else row.day_text or ""


def in_window(row: Row, window: Window, zone: str) -> bool:
    day = local_date(row, zone)
    if window.first is None and window.last is None:
        return True
    return day != "" and (window.first or "") <= day <= (window.last or "~")


def price(row: Row) -> Decimal:
    if row.cost is not None:
        return row.cost
    if row.model not in RATES:
        return Decimal(0)
    read, written, create, cached = row.tokens
    rates = RATES[row.model].exact
    billed = written or max(row.reasoning, 0)
    dearest = read * rates.input + billed * rates.output
    return (dearest + create * rates.cache_write + cached * rates.cache_read) / 1_000_000


# -- the archive --------------------------------------------------------------------------------


class Archive:
    """Writes sessions and rows straight into the tables."""

    def __init__(self, conn: psycopg.Connection[Any], kept: list[Kept]) -> None:
        self.conn = conn
        for table in ("usage_rows", "sessions", "models", "sources"):
            conn.execute(f"DELETE FROM {table}".encode())
        (source,) = self._one(
            "INSERT INTO sources (kind, archive_id, location) VALUES ('x', 'x', '')"
            " RETURNING source_id"
        )
        self.models = {
            name: self._one("INSERT INTO models (name) VALUES (%s) RETURNING model_id", name)[0]
            for name in MODELS
        }
        self.keys = [
            self._one(
                "INSERT INTO sessions (source_id, id, project, machine, agent, cwd, git_branch,"
                " file_directory, last_activity_text, message_count, user_message_count,"
                " assistant_message_count, relationship_type, is_automated, total_output_tokens,"
                " peak_context_tokens, has_total_output_tokens, has_peak_context_tokens, outcome,"
                " tool_failure_signal_count, secret_leak_count, fingerprint, digest,"
                " inserted_revision, changed_revision, presence) VALUES (%s, %s, %s, '', %s, '',"
                " '', '', '', 0, 0, 0, '', false, 0, 0, false, false, '', 0, 0,"
                " gen_random_uuid(), gen_random_uuid(), 0, 0, %s) RETURNING session_key",
                *(source, session.id, session.project, session.agent),
                "present" if session.counts else "vanished",
            )[0]
            for session in kept
        ]

    def _one(self, statement: str, *values: Any) -> tuple[Any, ...]:
        row = self.conn.execute(statement.encode(), values).fetchone()
        assert row is not None
        return tuple(row)

    def write(self, numbered: list[tuple[int, Row]]) -> None:
        """All in one statement; a row's number is its position."""
        columns = list(zip(*(self._values(n, row) for n, row in numbered), strict=True))
        self.conn.execute(
            "INSERT INTO usage_rows SELECT * FROM unnest(%s::bigint[], %s::integer[],"
            " %s::integer[], %s::integer[], %s::text[], %s::timestamptz[], %s::smallint[],"
            " %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],"
            " %s::numeric[], %s::uuid[], %s::boolean[])",
            [list(column) for column in columns] or [[]] * 16,
        )

    def _values(self, number: int, row: Row) -> tuple[Any, ...]:
        key = None if row.key is None else f"{row.key:032x}"
        where = (self.keys[row.session], number, row.ordinal, self.models[row.model], None)
        when = (row.at, row.nanoseconds, row.day_text)
        return (*where, *when, *row.tokens, row.reasoning, row.cost, key, True)

    def remove(self, numbers: list[int]) -> None:
        self.conn.execute("DELETE FROM usage_rows WHERE position = ANY(%s)", (numbers,))

    def change(self, number: int, row: Row) -> None:
        self.conn.execute(
            "UPDATE usage_rows SET session_key = %s, dedup_key = %s, input_tokens = %s"
            " WHERE position = %s",
            (
                self.keys[row.session],
                None if row.key is None else f"{row.key:032x}",
                row.tokens[0],
                number,
            ),
        )


def told(report: Any) -> tuple[dict[Any, Any], dict[Any, int]]:
    """What the report says, in the shape of `naive`, but for the labels' pairs."""
    spent = {
        (day["date"], entry["modelName"]): [
            entry["inputTokens"],
            entry["outputTokens"],
            entry["cacheCreationTokens"],
            entry["cacheReadTokens"],
            entry["cost"],
        ]
        for day in report.daily
        for entry in day["modelBreakdowns"]
    }
    return spent, report.session_counts


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kept=sessions,
    fates=fates,
    window=windows,
    zone=st.sampled_from(ZONES),
    new=rows,
    folds=st.sets(st.sampled_from(("first", "second", "end"))),
)
def test_sums_and_keys_say_what_the_rows_say(
    conn: psycopg.Connection[Any],
    kept: list[Kept],
    fates: list[tuple[Row, str, bool]],
    window: Window,
    zone: str,
    new: Row,
    folds: set[str],
) -> None:
    """In every zone and window, after any writing, changing and removing of rows.

    The sums are brought up to date after any of the pieces, or never.
    """
    archive = Archive(conn, kept)
    numbered = [(number, row) for number, (row, _, _) in enumerate(fates)]
    for piece, name in ((True, "first"), (False, "second")):
        if part := [numbered[n] for n, fate in enumerate(fates) if fate[2] is piece]:
            archive.write(part)
        if name in folds:
            conn.execute("SELECT fold_usage()")
    archive.remove([number for number, (_, fate, _) in enumerate(fates) if fate == "remove"])
    found = []
    for number, (row, fate, _) in enumerate(fates):
        if fate == "change":
            row = row._replace(
                session=new.session, key=new.key, tokens=(new.tokens[0], *row.tokens[1:])
            )
            archive.change(number, row)
        if fate != "remove":
            found.append(row)
    # Two rows that the order does not tell apart would leave the choice to chance.
    if len({order(kept, row) for row in found if row.key is not None}) < sum(
        row.key is not None for row in found
    ):
        return
    if "end" in folds:
        conn.execute("SELECT fold_usage()")
    report = read_report(conn, Request(window, zone, breakdown=True, custom_rates=RATES))
    spent, by_label = naive(kept, found, window, zone)
    counts = report.session_counts
    assert told(report)[0] == spent
    assert counts["total"] == sum(by_label.values())
    for place, name in enumerate(("byProject", "byAgent")):
        sums: dict[str, int] = defaultdict(int)
        for labels, count in by_label.items():
            sums[labels[place]] += count
        assert counts[name] == dict(sorted(sums.items()))
    for day in report.daily:
        for name in ("projectBreakdowns", "agentBreakdowns"):
            assert sum(entry["cost"] for entry in day[name]) == day["totalCost"]


# -- quarters of an hour ------------------------------------------------------------------------


def offsets(zone: ZoneInfo, first: datetime, last: datetime) -> Iterator[tuple[datetime, Any]]:
    """Every change of the zone's offset, to the second, and the offset after it."""
    step = timedelta(days=7)
    before, moment = first.astimezone(zone).utcoffset(), first
    yield moment, before
    while moment < last:
        moment += step
        after = moment.astimezone(zone).utcoffset()
        if after != before:
            low, high = moment - step, moment
            while high - low > timedelta(seconds=1):
                middle = (low + (high - low) / 2).replace(microsecond=0)
                if middle.astimezone(zone).utcoffset() == before:
                    low = middle
                else:
                    high = middle
            yield high, after
            before = after


@pytest.mark.parametrize("letter", sorted({name[0] for name in available_timezones()}))
def test_no_zone_begins_a_date_inside_of_a_quarter_of_an_hour(letter: str) -> None:
    """Since 2012 all offsets are whole quarters, and a change inside of one keeps the date."""
    quarter, second = timedelta(minutes=15), timedelta(seconds=1)
    first, last = datetime(2012, 1, 1, tzinfo=UTC), datetime(2037, 12, 31, tzinfo=UTC)
    for name in available_timezones():
        if not name.startswith(letter):
            continue
        zone = ZoneInfo(name)
        for moment, offset in offsets(zone, first, last):
            assert offset % quarter == timedelta(0), f"{name} is {offset} from UTC"
            start = moment - (moment - first) % quarter
            if start == moment:
                continue
            around = (start, moment - second, moment, start + quarter - second)
            assert len({at.astimezone(zone).date() for at in around}) == 1, f"{name} at {moment}"
