"""Whatever values the columns of an archive hold, the import ends, and what is sound comes over."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.cli.main import run
from exporter.importers.agentsview import Summary
from tests.archives.builder import Era, PgArchive, SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.importers.test_import import bring as bring_path

MODEL = "orca-large-2"
OTHER = "tern-mini"
USAGE = {"input_tokens": 1200, "output_tokens": 300}
#: Every table that an import reads.
TABLES = (
    *("sessions", "messages", "usage_events", "cursor_usage_events", "model_pricing"),
    *("project_identity_observations", "worktree_project_mappings", "excluded_sessions"),
    "archive_metadata",
)
#: The row of each table that belongs to the sound session, or to nobody's hostile one.
SOUND = {
    "sessions": "id = 'sound'",
    "messages": "session_id = 'sound'",
    "usage_events": "session_id = 'sound'",
    "model_pricing": f"model_pattern = '{MODEL}'",
    # Not a row of the session, but these could rightly hide or move it.
    "excluded_sessions": "false",
}
NOISE = "".join(random.Random(5).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))


class Raw(bytes):
    """Bytes that are stored as SQLite's text, whatever they are."""

    def __repr__(self) -> str:
        return f"Raw({bytes(self)!r})"


NUMBERS = (0, 1, -1, 7, 1 << 31, -(1 << 31), (1 << 53) + 1, (1 << 63) - 1, -(1 << 63))
REALS = (0.5, -1.5, 1e-320, 5e-324, 1e200, 1.7e308, float("inf"), float("-inf"), -0.0)
TEXTS = (
    *("", " ", "x", "12", "0x10", "1e999", "9" * 5000, "\\N", "\\.", "a\tb\nc\rd\\", "\u2028<&>"),
    *("a\0b", "\0", "\x1f", "\ufffd", "\U0001f426" * 9, "-", ".", "/", "//", "C:\\x", "../.."),
    *("assistant", "subagent", "A", "completed", "local", "explicit", "repo_dot_worktrees"),
    *("2026-03-04", "2026-03-04 10:20:30", "2026-03-04T10:20:30,5Z", "2026-03-04T24:00:00Z"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999-24:60"),
    *("2026-02-30T00:00:00Z", "2026-03-04T10:20:30+24:60", "2026-03-04T1:20:30Z", "now", "soon"),
    *("2026-03-04T10:20:30.123456789123Z", "+2026-03-04T10:20:30Z", "2026-03-04T10:20:60Z"),
    *('{"input_tokens":1e400}', '{"input_tokens":' + "9" * 400 + "}", '{"a":' * 3000, "[" * 3000),
    *('{"output_tokens":-5}', '{"output_tokens":"12","input_tokens":null', "null", '"'),
    *("https://h.example/a/b.git", "git@h.example:a/b.git", "://", "http://[::1", "a:b", "%zz"),
    *(NOISE, NOISE[:3000], NOISE[:900], "\u20ac" * 700, "\0" * 1000),
)
BROKEN = (
    b"\xff",
    b"2026-03-04T10:20:30\xff",
    b"\xed\xa0\x80",
    b"ab\xc3",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
)

values = st.one_of(
    st.none(),
    st.sampled_from(NUMBERS),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from(REALS),
    st.floats(allow_nan=False),
    st.sampled_from(TEXTS),
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.sampled_from(BROKEN).map(Raw),
    st.binary(max_size=30).map(Raw),
    st.binary(max_size=30),
    st.sampled_from((b"", b"\0", b"a", b"\xff" * 40, b"2026-03-04T10:20:30Z")),
)
#: (table, which of its columns, value, whether all rows or one)
changes = st.lists(
    st.tuples(st.sampled_from(TABLES), st.integers(0, 200), values, st.booleans()),
    min_size=1,
    max_size=12,
)


def fill(archive: SqliteArchive | PgArchive) -> None:
    """A sound session, two for the hostile values, and rows in every other table."""
    archive.add_price(MODEL, 3, 15, 3.75, 0.3)
    archive.add_price(OTHER, 1, 2)
    for name in ("sound", "first", "second"):
        archive.add_session(name, cwd="/home/kit/tern/1")
        for _ in range(3):
            archive.add_message(name, model=MODEL, token_usage=USAGE, claude_message_id="")
        archive.add_event(name, model=MODEL, output_tokens=5, cost_usd=0.25)
        if name != "sound":
            archive.add_event(name, model=OTHER, output_tokens=5, dedup_key="k")
    for name in ("kite", "wren"):
        archive.add_observation(name, machine="elm", git_remote="https://h.example/a/b.git")
        with suppress(LookupError):  # an early push sends none
            archive.add_mapping(f"/srv/{name}", name, machine="elm")
        archive.exclude(f"gone-{name}")
    archive.add_cursor_usage()
    archive.add_cursor_usage(model=OTHER)


def loosen(archive: SqliteArchive) -> None:
    """Tables without a type, a key or a rule, in which any value can stand."""
    for table in TABLES:
        names = [row[1] for row in archive.execute(f"PRAGMA table_info({table})")]
        archive.execute(f"ALTER TABLE {table} RENAME TO was_{table}")
        archive.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        archive.execute(f"INSERT INTO {table} SELECT * FROM was_{table}")
        archive.execute(f"DROP TABLE was_{table}")


def spoil(archive: SqliteArchive, change: tuple[str, int, Any, bool]) -> None:
    """Put a value into a column of hostile rows, as far as the table lets it in."""
    table, number, value, everywhere = change
    names = [row[1] for row in archive.execute(f"PRAGMA table_info({table})")]
    if not names:
        return
    name = names[number % len(names)]
    mark = "CAST(? AS TEXT)" if isinstance(value, Raw) else "?"
    rows = f"NOT ({SOUND[table]})" if table in SOUND else "true"
    if not everywhere:
        rows = f"rowid = (SELECT max(rowid) FROM {table} WHERE {rows})"
    bound = bytes(value) if isinstance(value, Raw) else value
    with suppress(sqlite3.IntegrityError):
        archive.execute(f"UPDATE OR IGNORE {table} SET {name} = {mark} WHERE {rows}", [bound])


def bring(world: Pipeline, *, full: bool = False) -> Summary:
    return bring_path(world, world.path, full=full)


@pytest.fixture(scope="module")
def sound(_pipeline: Pipeline) -> dict[str, Any]:
    """The sound session as an archive without hostile values exports it."""
    _pipeline.begin_again()
    with _pipeline.source() as archive:
        fill(archive)
    row: dict[str, Any] = _pipeline.rows()["sound"]
    return row


@pytest.mark.parametrize("is_loose", [False, True], ids=["typed", "loose"])
@pytest.mark.parametrize("era", ["0.37.1", "later"])
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(spoilt=changes)
def test_any_value_in_any_column_leaves_the_import_and_sound_sessions_whole(
    _pipeline: Pipeline,
    sound: dict[str, Any],
    era: Era,
    is_loose: bool,
    spoilt: list[tuple[str, int, Any, bool]],
) -> None:
    world = _pipeline
    world.begin_again()
    world.path.unlink()
    with SqliteArchive(world.path, era) as archive:
        fill(archive)
        if is_loose:
            loosen(archive)
        for change in spoilt:
            spoil(archive, change)
    summary = bring(world)
    assert summary.new + summary.refused >= 1
    assert world.rows("--all", "--include-one-shot", "--include-automated")["sound"] == sound
    again = bring(world, full=True)
    assert (again.new, again.changed, again.removed) == (0, 0, 0), "the same input, the same rows"


#: One of every kind of value that is worth trying everywhere.
EVERY = (
    None,
    *NUMBERS,
    *REALS,
    *TEXTS,
    *map(Raw, BROKEN),
    *(b"", b"\0", b"a", b"\xff" * 40, b"2026-03-04T10:20:30Z"),
)


@pytest.mark.parametrize("is_loose", [False, True], ids=["typed", "loose"])
@pytest.mark.parametrize("table", TABLES)
def test_every_odd_value_in_every_column_of_a_table(
    _pipeline: Pipeline, sound: dict[str, Any], table: str, is_loose: bool
) -> None:
    world = _pipeline
    world.begin_again()
    world.path.unlink()
    with SqliteArchive(world.path) as archive:
        fill(archive)
        if is_loose:
            loosen(archive)
        copy_with_values(archive, table)
    bring(world)
    assert world.rows("--all", "--include-one-shot", "--include-automated")["sound"] == sound


def copy_with_values(archive: SqliteArchive, table: str) -> None:
    """A hostile row for every column and value, each in a session of its own where it has one."""
    link = {"sessions": "id", "messages": "session_id", "usage_events": "session_id"}.get(table)
    columns = [row[1] for row in archive.execute(f"PRAGMA table_info({table})")]
    names = [name for name in columns if is_copied(archive, table, name)]
    (last,) = archive.execute(f"SELECT max(rowid) FROM {table}").fetchone()
    for place, column in enumerate(columns):
        for number, value in enumerate(EVERY):
            own = f"h{place}-{number}"
            if link == "session_id":
                archive.add_session(own)
            over = {link: own} if link else {}
            shown = [f"'{over[name]}'" if name in over else name for name in names]
            with suppress(sqlite3.IntegrityError):
                row = archive.execute(
                    f"INSERT INTO {table} ({', '.join(names)})"
                    f" SELECT {', '.join(shown)} FROM {table} WHERE rowid = ?",
                    [last],
                ).lastrowid
                mark = "CAST(? AS TEXT)" if isinstance(value, Raw) else "?"
                bound = bytes(value) if isinstance(value, Raw) else value
                archive.execute(
                    f"UPDATE {table} SET {column} = {mark} WHERE rowid = ?", [bound, row]
                )


def is_copied(archive: SqliteArchive, table: str, column: str) -> bool:
    """Whether a row is copied with this column, that is, where it is no number the table gives."""
    rows = archive.execute(f"PRAGMA table_info({table})").fetchall()
    return not any(row[1] == column and row[2] == "INTEGER" and row[5] for row in rows)


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("9999-12-31T23:59:59-01:00", "9999-12-31"),
        ("0000-01-01T00:00:00Z", "0000-01-01"),
        ("0001-01-01T00:00:00+23:59", "0001-01-01"),
        ("9999-12-31T23:59:59.999999999-24:00", "9999-12-31"),
    ],
)
def test_a_time_beyond_the_years_that_are_kept_leaves_its_day(
    _pipeline: Pipeline, capsys: pytest.CaptureFixture[str], time: str, day: str
) -> None:
    world = _pipeline
    world.begin_again()
    with world.source() as archive:
        fill(archive)
        archive.add_message("first", model=MODEL, timestamp=time, token_usage=USAGE)
    daily = report(world, capsys, "usage", "daily", "--all", "--validate", "--json")
    dates = [row["date"] for row in daily["daily"]]
    assert all(isinstance(date, str) for date in dates)
    assert (None, None) not in world.conn.execute("SELECT at, day_text FROM usage_rows").fetchall()
    assert day in [row[0] for row in world.conn.execute("SELECT day_text FROM usage_rows")]
    report(world, capsys, "activity", "report", "--date", "2026-03-04", "--json")


def test_reports_can_be_made_of_every_odd_time(
    _pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    world = _pipeline
    world.begin_again()
    world.path.unlink()
    with SqliteArchive(world.path) as archive:
        fill(archive)
        loosen(archive)
        copy_with_values(archive, "messages")
    bring(world)
    assert report(world, capsys, "usage", "daily", "--all", "--validate", "--json")["daily"]
    report(world, capsys, "activity", "report", "--date", "2026-03-04", "--json")


def report(world: Pipeline, capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    """The document of a report that succeeds."""
    capsys.readouterr()
    code = run([*command, "--database-url", world.url])
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    return json.loads(said.out)
