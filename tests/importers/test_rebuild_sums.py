"""A rebuild counts what had been wrong of the sums that the usage reports read."""

from __future__ import annotations

import json
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from exporter.cli.main import run
from exporter.db.connect import connect
from exporter.importers.agentsview import import_archive
from exporter.importers.agentsview_sqlite import SqliteSource
from exporter.importers.rebuild import rebuild
from exporter.progress import SILENT
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline

MODEL = "orca-large-2"
USAGE = {"input_tokens": 1200, "output_tokens": 300}


def fill(archive: SqliteArchive) -> None:
    """Three sessions with usage of their own, and two of them with a response in common."""
    archive.add_price(MODEL)
    for name in ("a", "b", "c"):
        archive.add_session(name)
        archive.add_message(name)
        for minute in (1, 31):
            time = f"2026-03-04T10:{minute:02d}:00Z"
            archive.add_message(name, model=MODEL, token_usage=USAGE, timestamp=time)
    for name in ("a", "b"):
        once = {"claude_message_id": "m", "claude_request_id": "r"}
        archive.add_message(name, model=MODEL, token_usage=USAGE, **once)


def sums(world: Pipeline) -> dict[str, int]:
    wrong = rebuild(world.conn, SILENT)
    return {name: wrong[name] for name in ("report_sums", "repeated_rows")}


def count(world: Pipeline, table: str) -> int:
    row = world.conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_right_sums_are_counted_as_none(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    assert (count(world, "usage_slots"), count(world, "repeated_usage")) == (6, 2)
    assert set(rebuild(world.conn, SILENT).values()) == {0}


@pytest.mark.parametrize(
    ("statement", "sums_wrong", "rows_wrong"),
    [
        ("UPDATE usage_slots SET input_tokens = input_tokens + 1", 6, 0),
        ("UPDATE usage_slots SET reported_cost = 1 WHERE at < '2026-03-04 10:20Z'", 3, 0),
        ("DELETE FROM usage_slots WHERE at > '2026-03-04 10:20Z'", 3, 0),
        ("INSERT INTO usage_slots SELECT * FROM usage_slots", 6, 0),
        ("DELETE FROM repeated_usage", 0, 2),
        ("UPDATE repeated_usage SET output_tokens = 0", 0, 2),
    ],
)
def test_wrong_sums_are_counted_and_made_right(
    world: Pipeline, statement: str, sums_wrong: int, rows_wrong: int
) -> None:
    with world.source() as archive:
        fill(archive)
    world.conn.execute(statement.encode())
    assert sums(world) == {"report_sums": sums_wrong, "repeated_rows": rows_wrong}
    assert sums(world) == {"report_sums": 0, "repeated_rows": 0}


def test_copies_in_two_sources_are_no_wrong_sums(world: Pipeline, tmp_path: Path) -> None:
    """Nor is a sum in two rows, as one import after another may leave it."""
    with world.source() as archive:
        fill(archive)
    second = tmp_path / "second.db"
    with SqliteArchive(second) as archive:
        archive.set_metadata("database_id", "0b1b6a0e-2f55-4c39-9d86-6f1b6f1d2c3a")
        fill(archive)
        archive.add_session("d")
        archive.add_message("d", role="assistant", model=MODEL, token_usage=USAGE)
    with closing(SqliteSource(second)) as source:
        import_archive(world.conn, lambda: connect(world.settings), source, SILENT)
    assert sums(world) == {"report_sums": 0, "repeated_rows": 0}
    world.conn.execute(
        "WITH whole AS (DELETE FROM usage_slots RETURNING *) INSERT INTO usage_slots"
        " SELECT w.session_key, w.at, w.day_text, w.model_id, w.is_reported, i,"
        " w.output_tokens * n, w.billable_tokens * n, w.cache_creation_input_tokens * n,"
        " w.cache_read_input_tokens * n, w.reported_cost * n"
        " FROM whole AS w, LATERAL (VALUES (0, w.input_tokens - 1), (1, 1)) AS half (n, i)"
    )
    assert sums(world) == {"report_sums": 0, "repeated_rows": 0}


def test_the_command_tells_the_counts_to_people_and_programs(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    command = ["db", "rebuild", "--quiet", "--database-url", world.url]
    for flags in ([], ["--json"]):
        world.conn.execute("UPDATE usage_slots SET input_tokens = 1")
        with redirect_stdout(StringIO()) as out:
            assert run([*command, *flags]) == 0
        if flags:
            told = json.loads(out.getvalue())
            assert (told["report_sums"], told["repeated_rows"]) == (6, 0)
        else:
            assert "report-sums mended    6\n" in out.getvalue()
            assert "repeated-rows mended  0\n" in out.getvalue()
