"""Acceptance cases 29 to 46 of the session export: which sessions it is about."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.archives.pipeline import Pipeline

ONE_SHOT, AUTOMATED, CHILDREN = "--include-one-shot", "--include-automated", "--include-children"
UNIT = "\x1f"
NOON = "2026-03-04T12:00:00Z"


#: Every combination of the flags that widen the selection.
SCOPES = [
    flags for size in range(4) for flags in combinations((ONE_SHOT, AUTOMATED, CHILDREN), size)
]


def found(world: Pipeline, *flags: str) -> set[str]:
    """Ids of the sessions that these flags select."""
    ids = world.ids(*flags)
    assert len(ids) == len(set(ids))
    return set(ids)


def test_case_29_one_message_of_the_user_is_a_one_shot(world: Pipeline) -> None:
    with world.source() as archive:
        for count in (0, 1, 2):
            archive.add_session(f"user {count}", user_message_count=count)
    assert found(world) == {"user 2"}
    assert found(world, ONE_SHOT) == {"user 0", "user 1", "user 2"}


def test_case_30_automated_sessions_come_by_their_own_flag(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("automated 1", is_automated=1, user_message_count=1)
        archive.add_session("automated 4", is_automated=1, user_message_count=4)
        archive.add_session("interactive 1", user_message_count=1)
    assert found(world) == set()
    assert found(world, ONE_SHOT) == {"interactive 1"}
    assert found(world, AUTOMATED) == {"automated 1", "automated 4"}


def test_case_31_only_subagents_and_forks_are_no_roots(world: Pipeline) -> None:
    with world.source() as archive:
        for kind in ("subagent", "fork", "continuation", "handoff"):
            archive.add_session(kind, relationship_type=kind)
    assert found(world) == {"continuation", "handoff"}


def test_case_32_empty_and_deleted_sessions_never_come(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("seen")
        archive.add_session("empty", message_count=0)
        archive.add_session("deleted", deleted_at="2026-03-05T00:00:00Z")
        archive.add_session("deleted oddly", deleted_at="")
        family = {"parent_session_id": "seen", "relationship_type": "subagent"}
        archive.add_session("empty child", message_count=0, **family)
        archive.add_session("deleted child", deleted_at="2026-03-05T00:00:00Z", **family)
    for flags in SCOPES:
        assert found(world, *flags) == {"seen"}, flags


def test_case_33_children_ride_along_whatever_they_are(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("R", project="tern")
        archive.add_session(
            "S",
            project="kelp",
            is_automated=1,
            user_message_count=1,
            parent_session_id="R",
            relationship_type="subagent",
        )
        archive.add_session("T", project="fir", parent_session_id="S", relationship_type="subagent")
        archive.add_session("another root", project="kelp")
    assert found(world, CHILDREN, "--project", "tern") == {"R", "S", "T"}
    assert found(world, "--project", "tern") == {"R"}


def test_case_34_a_continuation_without_its_parent_is_no_tree(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("a", parent_session_id="gone", relationship_type="continuation")
        archive.add_session("b", parent_session_id=None, relationship_type="continuation")
    assert found(world) == {"a", "b"}
    assert found(world, CHILDREN) == set()


def test_case_35_a_continuation_needs_a_root_that_passes(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("root", user_message_count=1)
        archive.add_session("next", parent_session_id="root", relationship_type="continuation")
    assert found(world) == {"next"}
    assert found(world, CHILDREN) == set()
    assert found(world, CHILDREN, ONE_SHOT) == {"root", "next"}


def test_case_36_an_empty_session_between_cuts_the_tree(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("root")
        archive.add_session(
            "between", message_count=0, parent_session_id="root", relationship_type="subagent"
        )
        archive.add_session("child", parent_session_id="between", relationship_type="subagent")
    assert found(world, CHILDREN) == {"root"}


def test_case_37_an_orphan_fork_never_comes(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("orphan", parent_session_id="gone", relationship_type="fork")
        archive.add_session("without a parent", relationship_type="fork")
        archive.add_session("other")
    for flags in SCOPES:
        assert found(world, *flags) == {"other"}, flags


@pytest.mark.parametrize(
    ("root", "child", "expected"),
    [
        ("2026-03-04T11:00:00Z", "2026-03-04T13:00:00Z", set()),
        ("2026-03-04T13:00:00Z", "2026-03-04T11:00:00Z", {"root", "child"}),
    ],
    ids=["root before, child after", "root after, child before"],
)
def test_case_38_the_root_alone_must_have_been_active(
    world: Pipeline, root: str, child: str, expected: set[str]
) -> None:
    with world.source() as archive:
        archive.add_session("root", ended_at=root)
        archive.add_session(
            "child", ended_at=child, parent_session_id="root", relationship_type="subagent"
        )
    assert found(world, "--active-since", NOON, CHILDREN) == expected


@pytest.mark.parametrize("since", [NOON, "2026-03-04T17:00:00+05:00", "2026-03-04 12:00"])
def test_case_39_active_since_includes_its_own_millisecond(world: Pipeline, since: str) -> None:
    with world.source() as archive:
        archive.add_session("at", ended_at=NOON)
        archive.add_session("before", ended_at="2026-03-04T11:59:59.999Z")
        archive.add_session("after", ended_at="2026-03-04T12:00:00.001Z")
    assert found(world, "--active-since", since) == {"at", "after"}


def test_case_40_the_day_of_a_start_is_that_of_utc(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_session("a", started_at="2026-03-05T01:30:00+03:00")
    assert found(world, "--date", "2026-03-04") == {"a"}
    assert found(world, "--date", "2026-03-05") == set()


def test_case_41_both_ends_of_a_range_of_days_are_in_it(world: Pipeline) -> None:
    with world.source() as archive:
        for day in (1, 2, 3):
            archive.add_session(f"day {day}", started_at=f"2026-03-0{day}T09:00:00Z")
        created = {"created_at": "2026-03-02T23:59:59.999Z"}
        archive.add_session("no start", started_at=None, **created)
        archive.add_session("empty start", started_at="", **created)
        archive.add_session("unreadable start", started_at="?", **created)
    days = ("--date-from", "2026-03-01", "--date-to", "2026-03-02")
    assert found(world, *days) == {"day 1", "day 2", "no start", "empty start"}
    assert found(world, *days, "--date", "2026-03-01") == {"day 1"}
    assert "unreadable start" in found(world)


def test_case_42_lists_are_split_at_commas_and_trimmed(world: Pipeline) -> None:
    with world.source() as archive:
        for machine in ("oak", "elm", "fir"):
            archive.add_session(machine, machine=machine)
    assert found(world, "--machine", " elm , oak,") == {"oak", "elm"}
    assert found(world, "--machine", " , ") == {"oak", "elm", "fir"}


def test_case_43_a_branch_belongs_to_its_project(world: Pipeline) -> None:
    with world.source() as archive:
        for project in ("tern", "kelp"):
            archive.add_session(f"{project} dev", project=project, git_branch="dev")
            archive.add_session(f"{project} none", project=project, git_branch="")
    assert found(world, "--git-branch", f"tern{UNIT}dev") == {"tern dev"}
    assert found(world, "--git-branch", f"tern{UNIT}") == {"tern none"}
    assert found(world, "--git-branch", "tern") == set()
    several = f"tern\x1etern{UNIT}dev\x1ekelp{UNIT}"
    assert found(world, "--git-branch", several) == {"tern dev", "kelp none"}


def test_case_44_outcomes_are_compared_letter_by_letter(world: Pipeline) -> None:
    with world.source() as archive:
        for outcome in ("completed", "errored"):
            archive.add_session(outcome, outcome=outcome)
    assert found(world, "--outcome", "errored, abandoned") == {"errored"}
    assert found(world, "--outcome", "Errored") == set()


def test_case_45_bounds_of_counts(world: Pipeline) -> None:
    """Zero is a bound for failed tools, and no bound at all for messages."""
    with world.source() as archive:
        for count in (0, 2, 5):
            archive.add_session(f"failed {count}", tool_failure_signal_count=count)
    everything = {"failed 0", "failed 2", "failed 5"}
    assert found(world, "--min-tool-failures", "2") == {"failed 2", "failed 5"}
    assert found(world, "--min-tool-failures", "0") == everything
    assert found(world, "--max-messages", "0") == everything
    assert found(world, "--min-messages", "-3") == everything
    assert found(world, "--min-messages", "4") == set()


def test_case_46_no_grade_is_in_no_list_of_grades(world: Pipeline) -> None:
    with world.source() as archive:
        for grade in ("A", "B", "C", None):
            archive.add_session(f"grade {grade}", health_grade=grade)
    assert found(world, "--health-grade", "A,B") == {"grade A", "grade B"}
    assert len(found(world)) == 4
