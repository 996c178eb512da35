"""Sessions that two sources hold: the sums made beforehand say what ranking all rows says.

Copies are chosen, changed and chosen again, as imports do it; rows are written straight into the
tables.
"""

from __future__ import annotations

from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from exporter.core.window import Window
from exporter.exports.usage_daily import Report, Request, read_report
from exporter.importers import load
from tests.archives.pipeline import Pipeline
from tests.exports.test_usage_daily_properties import (
    RATES,
    Archive,
    Kept,
    Row,
    naive,
    order,
    rows,
    told,
    windows,
)

NAMES = ("a", "B", "é")
EVERY_SESSION = sql.SQL("SELECT session_key FROM sessions")

#: How recent each copy of each session is said to be; the most recent copy is the one that counts.
activity = st.lists(st.integers(0, 3), min_size=6, max_size=6)


class Copies(Archive):
    """Three sessions, each held by two sources: place 2 * n + source in the list."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        super().__init__(conn, [Kept(name, name, "claude", True) for name in NAMES])
        (other,) = self._one(
            "INSERT INTO sources (kind, archive_id, location) VALUES ('x', 'y', '')"
            " RETURNING source_id"
        )
        copies = [self._copy_of(key, other) for key in self.keys]
        self.keys = [key for pair in zip(self.keys, copies, strict=True) for key in pair]

    def _copy_of(self, key: int, source: int) -> int:
        """The same session by another source."""
        columns = [
            row[0]
            for row in self.conn.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'sessions'::regclass"
                " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''"
                " AND attname <> 'source_id'"
            )
        ]
        names = ", ".join(columns)
        (copy,) = self._one(
            f"INSERT INTO sessions (source_id, {names}) SELECT %s, {names} FROM sessions"
            " WHERE session_key = %s RETURNING session_key",
            source,
            key,
        )
        return int(copy)

    def choose(self, recent: list[int]) -> list[Kept]:
        """Choose among the copies anew; returns all of them, and whether each counts."""
        for key, ms in zip(self.keys, recent, strict=True):
            self.conn.execute(
                "UPDATE sessions SET activity_ms = %s WHERE session_key = %s", (ms, key)
            )
        load.repair_copies(self.conn, EVERY_SESSION)
        shadowed = dict(self.conn.execute("SELECT session_key, shadowed FROM sessions").fetchall())
        return [
            Kept(NAMES[place // 2], NAMES[place // 2], "claude", not shadowed[key])
            for place, key in enumerate(self.keys)
        ]

    def count(self, table: str) -> int:
        return int(self._one(f"SELECT count(*) FROM {table}")[0])


def both_ways(conn: psycopg.Connection[Any], request: Request) -> Report:
    """The report by the sums; another by ranking all rows must say the same."""
    quick = read_report(conn, request)
    conn.execute("INSERT INTO pending_usage SELECT session_key FROM sessions")
    slow = read_report(conn, request)
    conn.execute("DELETE FROM pending_usage")
    assert quick.asdict() == slow.asdict()
    return quick


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    found=st.lists(rows, max_size=12),
    places=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    choices=st.lists(activity, min_size=1, max_size=3),
    changed=st.lists(st.booleans(), min_size=12, max_size=12),
    window=windows,
)
def test_sums_and_ranks_agree_whatever_copy_is_chosen(
    conn: psycopg.Connection[Any],
    found: list[Row],
    places: list[int],
    choices: list[list[int]],
    changed: list[bool],
    window: Window,
) -> None:
    """After each choice, with some rows changed in between; and they agree with the plain way."""
    archive = Copies(conn)
    found = [row._replace(session=at) for row, at in zip(found, places, strict=False)]
    archive.write(list(enumerate(found)))
    request = Request(window, "Europe/Berlin", breakdown=True, custom_rates=RATES)
    for recent in choices:
        kept = archive.choose(recent)
        load.fold_usage(conn)
        assert archive.count("pending_usage") == 0
        ranks = [
            order(kept, row) for row in found if row.key is not None and kept[row.session].counts
        ]
        # Two rows that the order does not tell apart would leave the choice to chance.
        if len(set(ranks)) == len(ranks):
            report = both_ways(conn, request)
            spent, by_label = naive(kept, found, window, "Europe/Berlin")
            assert told(report)[0] == spent
            assert report.session_counts["total"] == sum(by_label.values())
        for number, (row, is_changed) in enumerate(zip(found, changed, strict=False)):
            if is_changed:
                found[number] = row._replace(session=(row.session + 1) % len(archive.keys))
                archive.change(number, found[number])


def test_whole_copies_leave_no_row_to_rank(world: Pipeline) -> None:
    """Two sources with the same sessions cost a report what one costs."""
    with world.source() as archive:
        archive.add_price("orca-large-2", 3, 15, 3.75, 0.3)
        for name in ("a", "b"):
            archive.add_session(name, project="tern", message_count=2)
            for number in range(2):
                archive.add_message(
                    name,
                    role="assistant",
                    model="orca-large-2",
                    timestamp=f"2026-03-04T10:0{number}:00Z",
                    token_usage={"input_tokens": 10, "output_tokens": 1 + number},
                    claude_message_id=f"m-{name}-{number}",
                    claude_request_id="r",
                )
    alone = report_of(world)
    assert alone["totals"]["outputTokens"] == 6
    for other in ("0b6cbd2c-6f0e-4b4e-9d4f-1f5d2a7c3e11", "5d1c0b7e-52f5-4b0c-8a44-0a4c1f0f9a22"):
        with world.source() as archive:
            archive.set_metadata("database_id", other)
        assert counts(world) == (0, 0, 0)
        assert report_of(world) == alone
    # What one source changes is looked at again.
    with world.source() as archive:
        archive.add_message(
            "a",
            role="assistant",
            model="orca-large-2",
            timestamp="2026-03-04T10:09:00Z",
            token_usage={"input_tokens": 10, "output_tokens": 100},
            claude_message_id="m-b-1",
            claude_request_id="r",
        )
        archive.update_session("a", message_count=3)
    # The new row tells again what session b has, so these two are ranked.
    assert counts(world)[2] == 0 and counts(world)[0] > 0
    assert report_of(world)["totals"]["outputTokens"] == 6


def report_of(world: Pipeline) -> dict[str, Any]:
    with world.conn.transaction():
        report = read_report(world.conn, Request(Window(None, None), "UTC")).asdict()
    return {**report, "pricing": None}


def counts(world: Pipeline) -> tuple[int, ...]:
    """Rows to be ranked, their keys, and sessions whose sums are not up to date."""
    tables = ("repeated_usage", "repeated_keys", "pending_usage")
    found = [world.conn.execute(f"SELECT count(*) FROM {name}".encode()) for name in tables]
    return tuple(row[0] for cursor in found for row in cursor)
