"""Acceptance cases 15 to 28 of the session export: what a row says of its session."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.archives.pipeline import Pipeline


def row_of(world: Pipeline, **columns: Any) -> dict[str, Any]:
    """The row of one session with these columns."""
    with world.source() as archive:
        archive.add_session("a", **columns)
    return world.rows()["a"]


def test_case_15_empty_places_are_left_out_and_unknown_ones_are_null(world: Pipeline) -> None:
    row = row_of(world, cwd="", git_branch="")
    assert "cwd" not in row
    assert "git_branch" not in row
    for name in ("worktree", "parent_session_id", "relationship_type"):
        assert name in row
        assert row[name] is None


def test_case_16_an_unfinished_session_ends_with_its_last_message(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("a", started_at="2026-03-04T09:00:00Z", ended_at=None)
        archive.add_message("a", timestamp="2026-03-04T09:20:30.900Z")
        archive.add_message("a", timestamp="2026-03-04T09:05:00Z")
    row = world.rows()["a"]
    assert row["ended_at"] is None
    assert row["last_activity_at"] == "2026-03-04T09:20:30.900Z"
    assert row["duration_seconds"] == 1230


def test_case_17_a_stored_end_comes_before_later_messages(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("a", started_at="2026-03-04T14:00:00Z", ended_at="2026-03-04T14:02:00Z")
        archive.add_message("a", timestamp="2026-03-04T14:45:10Z")
    row = world.rows()["a"]
    assert row["last_activity_at"] == "2026-03-04T14:02:00Z"
    assert row["duration_seconds"] == 120


@pytest.mark.parametrize("point", [".", ","])
def test_case_18_fractions_are_subtracted_before_they_are_cut(world: Pipeline, point: str) -> None:
    start = f"2026-03-04T10:00:00{point}900Z"
    row = row_of(world, started_at=start, ended_at="2026-03-04T10:00:02.100Z")
    assert (row["started_at"], row["duration_seconds"]) == (start, 1)


def test_case_19_a_start_that_is_no_rfc_3339_gives_no_duration(world: Pipeline) -> None:
    row = row_of(world, started_at="2026-03-04 10:00:00")
    assert (row["started_at"], row["duration_seconds"]) == ("2026-03-04 10:00:00", None)


@pytest.mark.parametrize(
    ("end", "seconds"), [("2026-03-04T09:59:59Z", None), ("2026-03-04T10:00:00Z", 0)]
)
def test_case_20_an_end_before_the_start_gives_no_duration(
    world: Pipeline, end: str, seconds: int | None
) -> None:
    row = row_of(world, started_at="2026-03-04T10:00:00Z", ended_at=end)
    assert row["duration_seconds"] == seconds


def test_case_21_offsets_count_and_stay_as_they_were_written(world: Pipeline) -> None:
    times = {"started_at": "2026-03-04T12:00:00+02:00", "ended_at": "2026-03-04T10:30:00Z"}
    row = row_of(world, **times)
    assert row["duration_seconds"] == 1800
    assert {name: row[name] for name in times} == times


def test_case_22_an_unreadable_end_is_shown_while_a_message_sorts(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("a", ended_at="later", started_at="2026-03-04T07:00:00Z")
        archive.add_message("a", timestamp="2026-03-04T08:00:00Z")
        archive.add_session("just after", ended_at="2026-03-04T08:00:00.001Z")
        archive.add_session("just before", ended_at="2026-03-04T07:59:59.999Z")
    assert world.ids() == ["just after", "a", "just before"]
    row = world.rows()["a"]
    assert row["last_activity_at"] == row["ended_at"] == "later"
    assert row["duration_seconds"] is None


def test_case_23_assistant_messages_are_counted_and_the_rest_is_stored(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("a", message_count=7)
        for role, is_system in (
            *(("user", 0), ("assistant", 0), ("user", 0)),
            *(("assistant", 1), ("user", 0)),
        ):
            archive.add_message("a", role=role, is_system=is_system)
    row = world.rows()["a"]
    assert (row["message_count"], row["assistant_message_count"]) == (7, 1)


def test_case_24_turns_are_messages_of_the_user(world: Pipeline) -> None:
    row = row_of(world, user_message_count=6)
    assert (row["turn_count"], row["user_message_count"]) == (6, 6)


@pytest.mark.parametrize(
    ("stored", "shown"), [("", None), ("root", "root"), ("handoff", "handoff")]
)
def test_case_25_no_relationship_is_null_and_an_empty_parent_is_not(
    world: Pipeline, stored: str, shown: str | None
) -> None:
    row = row_of(world, relationship_type=stored, parent_session_id="")
    assert (row["relationship_type"], row["parent_session_id"]) == (shown, "")


def test_case_26_what_html_would_read_is_escaped(world: Pipeline) -> None:
    row_of(world, project="a<b&c", cwd="/src/>x", git_branch="one\u2028two")
    text = world.sessions().stdout
    assert '"project":"a\\u003cb\\u0026c"' in text
    assert '"cwd":"/src/\\u003ex"' in text
    assert '"git_branch":"one\\u2028two"' in text
    assert '"projects":{"a\\u003cb\\u0026c":' in text


@pytest.mark.parametrize(
    ("tokens", "text"), [(2_000_000, "2"), (1, "0.000001"), (20, "0.00002"), (0.5, "5e-7")]
)
def test_case_27_costs_are_written_in_their_shortest_form(
    world: Pipeline, tokens: float, text: str
) -> None:
    """A rate of one dollar, or half of one where half a token is wanted."""
    with world.source() as archive:
        archive.add_price("orca-large-2", input=min(1.0, tokens))
        archive.add_session("a")
        usage = {"input_tokens": max(1, int(tokens))}
        archive.add_message("a", model="orca-large-2", token_usage=usage)
    line = world.sessions("--format", "ndjson").stdout.splitlines()[1]
    assert line.count(f'"cost_usd":{text},') == 2
    assert json.loads(line)["model_usage"]["has_cost"] is True


@pytest.mark.parametrize(
    ("cwd", "machine", "worktree"),
    [
        ("/srv/kelp/wt/x/lib", "oak", {"name": "x", "root_path": "/srv/kelp"}),
        ("/srv/kelp/src", "oak", {"name": "main", "root_path": None}),
        ("/srv/kelpforest", "oak", None),
        ("/srv/kelp/wt/x/lib", "elm", None),
    ],
)
def test_case_28_the_nearest_observed_root_names_the_worktree(
    world: Pipeline, cwd: str, machine: str, worktree: dict[str, str] | None
) -> None:
    with world.source() as archive:
        archive.add_observation("kelp", root_path="/srv/kelp", worktree_name="main")
        archive.add_observation(
            "kelp",
            root_path="/srv/kelp/wt/x",
            worktree_name="x",
            worktree_root_path="/srv/kelp",
        )
        archive.add_session("a", project="kelp", machine=machine, cwd=cwd)
    assert world.rows()["a"]["worktree"] == worktree
