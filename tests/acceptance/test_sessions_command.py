"""Acceptance cases 1 to 14 of the session export: the command, its framing and its exits."""

from __future__ import annotations

import json
import sqlite3

import pytest

from exporter.db.connect import session
from exporter.importers.load import next_revision
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.interop.origin import Result
from tests.interop.ours import Ours

HEAD = ["schema_version", "database_id", "cursor", "pricing", "projects"]


def refused(result: Result, *words: str) -> None:
    """An ordinary failure: nothing on stdout, one line on stderr, exit 1."""
    assert (result.exit, result.stdout) == (1, "")
    assert result.stderr.startswith("fatal: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def told_to_restart(result: Result, database_id: str) -> None:
    """A cursor reset: nothing on stdout, exactly one object on stderr, exit 4."""
    assert (result.exit, result.stdout) == (4, "")
    assert result.stderr == (
        '{"error":"cursor_reset","message":"session export cursor is no longer valid; restart the'
        f' export","database_id":"{database_id}"}}\n'
    )


def with_sessions(world: Pipeline, *ids: str) -> None:
    """Eligible sessions, the first one being the latest."""
    with world.source() as archive:
        for number, name in enumerate(ids):
            archive.add_session(name, ended_at=f"2026-03-{28 - number}T10:00:00Z")


def test_case_01_a_process_prints_one_document_on_one_line(world: Pipeline) -> None:
    with_sessions(world, "a", "b")
    done = Ours(world.url).export_sessions()
    assert (done.exit, done.stderr) == (0, "")
    assert done.stdout.endswith("}\n") and done.stdout.count("\n") == 1
    assert list(json.loads(done.stdout)) == [*HEAD, "sessions"]
    assert [row["id"] for row in json.loads(done.stdout)["sessions"]] == ["a", "b"]
    assert world.sessions() == done


def test_case_02_json_is_what_it_prints_anyway(world: Pipeline) -> None:
    with_sessions(world, "a", "b")
    assert world.sessions("--json") == world.sessions() == world.sessions("--format", "json")


def test_case_03_two_formats_at_once_are_refused(world: Pipeline) -> None:
    said = "--json cannot be combined with --format ndjson"
    refused(world.sessions("--json", "--format", "ndjson"), said)


@pytest.mark.parametrize("name", ["yaml", "JSON"])
def test_case_04_an_unknown_format_is_no_reason_to_restart(world: Pipeline, name: str) -> None:
    refused(world.sessions("--format", name), name)


@pytest.mark.parametrize("flags", ["--limit 0", "--limit 501", "--all --limit 501", "--limit -1"])
def test_case_05_a_page_has_1_to_500_sessions(world: Pipeline, flags: str) -> None:
    refused(world.sessions(*flags.split()), "--limit must be between 1 and 500")


@pytest.mark.parametrize("flag", ["--all=false", "--all"])
def test_case_06_a_switch_beside_a_cursor_counts_as_given(world: Pipeline, flag: str) -> None:
    with_sessions(world, "a", "b")
    cursor = world.cursor("--limit", "1")
    refused(world.sessions("--cursor", cursor, flag), "--cursor", "combined with --all")


def test_case_07_the_first_offender_in_a_fixed_order_is_named(world: Pipeline) -> None:
    with_sessions(world, "a", "b")
    cursor = world.cursor("--limit", "1")
    result = world.sessions("--cursor", cursor, "--agent", "codex", "--project", "tern")
    refused(result, "--cursor cannot be combined with --project")


def test_case_08_an_empty_cursor_is_none(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("a", project="tern")
        archive.add_session("b", project="kelp")
    assert world.sessions("--cursor", "", "--project", "tern") == world.sessions(
        "--project", "tern"
    )
    assert world.ids("--cursor", "", "--project", "tern") == ["a"]


def test_case_09_a_cursor_that_is_none_asks_for_a_restart(world: Pipeline) -> None:
    database_id = world.export()["database_id"]
    told_to_restart(world.sessions("--cursor", "nonsense"), database_id)
    assert Ours(world.url).export_sessions("--cursor", "nonsense") == world.sessions(
        "--cursor", "nonsense"
    )


def test_case_10_wrong_flags_come_before_a_wrong_cursor(world: Pipeline) -> None:
    refused(world.sessions("--cursor", "nonsense", "--limit", "0"), "between 1 and 500")


def test_case_11_nothing_to_export_is_an_empty_document(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("empty", message_count=0)
    document = world.export()
    assert list(document) == [*HEAD, "sessions"]
    assert document["sessions"] == []
    assert (document["pricing"], document["projects"]) == ({}, {})
    assert document["cursor"] == {"next": ""}
    lines = world.sessions("--format", "ndjson").stdout
    assert lines.count("\n") == 1
    assert list(json.loads(lines)) == ["type", *HEAD]


def test_case_12_ndjson_has_a_meta_line_and_a_line_for_each_session(world: Pipeline) -> None:
    with_sessions(world, "a", "b", "c")
    text = world.sessions("--format", "ndjson").stdout
    assert text.endswith("\n")
    meta, *rows = map(json.loads, text.splitlines())
    assert list(meta) == ["type", *HEAD]
    assert meta["type"] == "meta"
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert not any("type" in row for row in rows)
    whole = world.export()
    assert rows == whole.pop("sessions")
    assert {name: meta[name] for name in HEAD} == whole


@pytest.mark.parametrize(
    ("flags", "accepted"),
    [
        ("--active-since soon", "2026-03-04T09:30:00Z"),
        ("--date 03/04/2026", "2026-03-04"),
        ("--date-from 2026-02-30", "2026-03-04"),
        ("--date-to yesterday", "2026-03-04"),
    ],
)
def test_case_13_a_time_that_is_none_is_refused_with_one_that_would_do(
    world: Pipeline, flags: str, accepted: str
) -> None:
    """Our own rule: the program that the contract comes from lets such a value match nothing."""
    with_sessions(world, "a")
    refused(world.sessions(*flags.split()), *flags.split()[:1], accepted)


def test_case_14_writers_at_work_are_no_obstacle(world: Pipeline) -> None:
    """Neither the source's owner to an import, nor an import to an export."""
    with SqliteArchive(world.path) as archive:
        archive.add_session("a", project="tern")
    owner = sqlite3.connect(world.path, isolation_level=None)
    owner.execute("BEGIN IMMEDIATE")
    owner.execute("UPDATE sessions SET project = 'kelp'")
    world.bring()
    owner.close()
    with session(world.settings) as writer, writer.transaction(force_rollback=True):
        next_revision(writer)
        writer.execute("LOCK TABLE sessions, session_lines IN SHARE ROW EXCLUSIVE MODE")
        writer.execute("UPDATE sessions SET project = 'fir'")
        assert world.rows()["a"]["project"] == "tern"
