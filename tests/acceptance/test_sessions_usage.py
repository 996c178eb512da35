"""Acceptance cases 66 to 84 of the session export: counters, costs, prices and projects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exporter.data import load_price_snapshot
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline

ORCA = "orca-large-2"
NOTHING = {
    "models": [],
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "reasoning_tokens": 0,
    "cost_usd": 0,
    "has_cost": False,
    "by_model": {},
}


def usage_of(
    world: Pipeline, fill: Callable[[SqliteArchive], Any], *prices: tuple[Any, ...]
) -> dict[str, Any]:
    """The usage of session a, after ``fill`` added to it; by default at orca's usual prices."""
    with world.source() as archive:
        for price in prices or ((ORCA,),):
            archive.add_price(*price)
        archive.add_session("a")
        fill(archive)
    usage = world.rows()["a"]["model_usage"]
    assert list(usage) == list(NOTHING)
    assert usage["models"] == list(usage["by_model"])
    return dict(usage)


def answers(*usages: Any, **columns: Any) -> Callable[[SqliteArchive], None]:
    """Messages of session a with these usage texts, a minute apart."""

    def fill(archive: SqliteArchive) -> None:
        for usage in usages:
            archive.add_message("a", **{"model": ORCA, "token_usage": usage, **columns})

    return fill


def event(**columns: Any) -> Callable[[SqliteArchive], None]:
    """One usage event of session a."""
    return lambda archive: archive.add_event("a", **columns)


# --- Counters and costs ---------------------------------------------------------------------


def test_case_66_four_rates_make_the_cost_of_an_answer(world: Pipeline) -> None:
    counters = {
        "input_tokens": 2500,
        "output_tokens": 700,
        "cache_creation_input_tokens": 150,
        "cache_read_input_tokens": 9000,
    }
    usage = usage_of(world, answers(counters), (ORCA, 4, 12, 5, 0.4))
    assert {name: usage[name] for name in counters} == counters
    assert usage["cost_usd"] == usage["by_model"][ORCA]["cost_usd"] == 0.02275
    assert usage["has_cost"] is True


@pytest.mark.parametrize(("output", "cost"), [(0, 0.00036), (50, 0.0006)])
def test_case_67_reasoning_is_billed_only_without_output(
    world: Pipeline, output: int, cost: float
) -> None:
    counters = {"reasoning_tokens": 30} | ({"output_tokens": output} if output else {})
    usage = usage_of(world, answers(counters), (ORCA, 4, 12))
    assert (usage["reasoning_tokens"], usage["output_tokens"]) == (30, output)
    assert usage["cost_usd"] == cost


def test_case_68_counters_in_text_with_exponents_and_below_zero(world: Pipeline) -> None:
    text = '{"input_tokens":"42","output_tokens":1e3,"cache_read_input_tokens":-7}'
    usage = usage_of(world, answers(text))
    assert (usage["input_tokens"], usage["output_tokens"]) == (42, 1)
    assert usage["cache_read_input_tokens"] == 0


@pytest.mark.parametrize(
    ("text", "counters"),
    [
        ('{"usage":{"input_tokens":9},"output_tokens":3}', (0, 3)),
        ('{"input_tokens":5,"output_tokens":6,"cac', (5, 6)),
        ('{"input_tokens":05,,"output_tokens":6x}', (5, 6)),
        ('{"input_tokens":5,"x":tru,"output_tokens":6}', (5, 0)),
    ],
    ids=["nested", "truncated", "malformed", "malformed value"],
)
def test_case_69_broken_usage_keeps_what_was_read(
    world: Pipeline, text: str, counters: tuple[int, int]
) -> None:
    usage = usage_of(world, answers(text))
    assert (usage["input_tokens"], usage["output_tokens"]) == counters


@pytest.mark.parametrize(
    ("fill", "tokens"),
    [
        (answers({"input_tokens": 3_000_000}), 2_000_000),
        (event(source="provider", input_tokens=3_000_000), 2_000_000),
        (event(source="session", input_tokens=3_000_000), 3_000_000),
    ],
    ids=["message", "event", "event of a whole session"],
)
def test_case_70_only_a_sum_over_a_session_may_be_large(
    world: Pipeline, fill: Callable[[SqliteArchive], None], tokens: int
) -> None:
    assert usage_of(world, fill)["input_tokens"] == tokens


def test_case_71_a_synthetic_model_counts_in_events_only(world: Pipeline) -> None:
    def fill(archive: SqliteArchive) -> None:
        for model in ("", "<synthetic>"):
            archive.add_message("a", model=model, token_usage={"input_tokens": 10})
        archive.add_event("a", model="<synthetic>", input_tokens=7)
        archive.add_event("a", model="", input_tokens=50)

    usage = usage_of(world, fill)
    assert (usage["models"], usage["input_tokens"]) == (["<synthetic>"], 7)


def test_case_72_usage_of_a_person_s_message_counts(world: Pipeline) -> None:
    usage = usage_of(world, answers({"input_tokens": 11}, role="user"))
    assert (usage["models"], usage["input_tokens"]) == ([ORCA], 11)


# --- Duplicates -----------------------------------------------------------------------------


def test_case_73_the_first_of_two_copies_counts_even_if_empty(world: Pipeline) -> None:
    ids = {"claude_message_id": "msg_1", "claude_request_id": "req_1"}
    copies = answers({"input_tokens": 0}, {"input_tokens": 80}, **ids)
    assert usage_of(world, copies) == NOTHING


def test_case_74_each_session_counts_its_own_copy(world: Pipeline) -> None:
    with world.source() as archive:
        archive.add_price(ORCA)
        for name in "ab":
            archive.add_session(name)
            archive.add_message(
                name,
                model=ORCA,
                token_usage={"input_tokens": 80},
                claude_message_id="msg_1",
                claude_request_id="req_1",
            )
    for row in world.rows().values():
        assert row["model_usage"]["input_tokens"] == 80


@pytest.mark.parametrize(
    ("ids", "tokens"),
    [
        ({"source_uuid": "u-1"}, 80),
        ({"source_uuid": "u-1", "claude_message_id": "msg_1"}, 80),
        ({"claude_message_id": "msg_1"}, 160),
        ({}, 160),
    ],
    ids=["source id", "source id and half a pair", "half a pair", "no ids"],
)
def test_case_75_a_source_id_tells_copies_where_no_pair_does(
    world: Pipeline, ids: dict[str, str], tokens: int
) -> None:
    copies = answers({"input_tokens": 80}, {"input_tokens": 80}, **ids)
    assert usage_of(world, copies)["input_tokens"] == tokens


def test_case_76_a_message_and_its_event_add_up(world: Pipeline) -> None:
    def fill(archive: SqliteArchive) -> None:
        ordinal = archive.add_message("a", model=ORCA, token_usage={"input_tokens": 30})
        archive.add_event("a", message_ordinal=ordinal, input_tokens=4)

    assert usage_of(world, fill)["input_tokens"] == 34


# --- What counts, and what is priced --------------------------------------------------------


def test_case_77_a_reported_cost_of_zero_is_a_cost(world: Pipeline) -> None:
    usage = usage_of(world, event(model="grebe-nano", cost_usd=0.0))
    assert usage["models"] == ["grebe-nano"]
    assert (usage["cost_usd"], usage["has_cost"]) == (0, True)
    entry = usage["by_model"]["grebe-nano"]
    assert (entry["cost_usd"], entry["has_cost"], entry["cost_source"]) == (0, True, "reported")
    shown = world.export()["pricing"]["models"]["grebe-nano"]
    assert (shown["matched_pattern"], shown["cost_source"]) == (None, "reported")


def test_case_78_an_empty_event_leaves_no_trace(world: Pipeline) -> None:
    assert usage_of(world, event(model=ORCA)) == NOTHING
    pricing = world.export()["pricing"]
    assert (pricing["models"], pricing["cost_source"]) == ({}, "computed")


def test_case_79_an_unpriced_row_leaves_a_partial_sum(world: Pipeline) -> None:
    def fill(archive: SqliteArchive) -> None:
        for model in (ORCA, "grebe-nano"):
            archive.add_message("a", model=model, token_usage={"output_tokens": 1000})

    usage = usage_of(world, fill, (ORCA, 4, 12))
    assert (usage["cost_usd"], usage["has_cost"]) == (0.012, False)
    priced = {name: entry["has_cost"] for name, entry in usage["by_model"].items()}
    assert priced == {"grebe-nano": False, ORCA: True}
    assert usage["by_model"]["grebe-nano"]["cost_usd"] == 0


def test_case_80_costs_of_two_kinds_are_mixed(world: Pipeline) -> None:
    def fill(archive: SqliteArchive) -> None:
        archive.add_message("a", model=ORCA, token_usage={"output_tokens": 1000})
        archive.add_event("a", model=ORCA, cost_usd=0.5)
        archive.add_session("without usage", project="kelp")

    usage = usage_of(world, fill, (ORCA, 4, 12))
    assert usage["cost_usd"] == 0.512
    assert usage["by_model"][ORCA]["cost_source"] == "mixed"
    pricing = world.export()["pricing"]
    assert pricing["models"][ORCA]["cost_source"] == pricing["cost_source"] == "mixed"
    pricing = world.export("--project", "kelp")["pricing"]
    assert (pricing["cost_source"], pricing["models"]) == ("computed", {})
    assert world.rows("--project", "kelp")["without usage"]["model_usage"] == NOTHING


def test_case_81_without_stored_prices_the_built_in_ones_count(world: Pipeline) -> None:
    snapshot = load_price_snapshot()
    name = next(row.pattern for row in snapshot.rows if row.rates.input > 0)
    world.forget_prices()
    with world.source() as archive:
        archive.add_session("a")
        archive.add_message("a", model=name, token_usage={"input_tokens": 1000})
    document = world.export()
    pricing = document["pricing"]
    assert (pricing["source"], pricing["table_version"]) == ("embedded", snapshot.version)
    assert pricing["effective_row_count"] == len(snapshot.rows)
    assert pricing["fallback"] == {"used": True, "models": [name]}
    assert pricing["models"][name]["matched_pattern"] == name
    assert document["sessions"][0]["model_usage"]["cost_usd"] > 0


def test_case_82_a_bill_of_the_account_belongs_to_no_session(world: Pipeline) -> None:
    def fill(archive: SqliteArchive) -> None:
        archive.add_cursor_usage(occurred_at="2026-03-04T10:20:00Z", model=ORCA)

    assert usage_of(world, fill) == NOTHING
    assert world.export()["pricing"]["models"] == {}


# --- Projects and models --------------------------------------------------------------------


def test_case_83_spellings_of_one_remote_are_one_project(world: Pipeline) -> None:
    remotes = ("git@h.example:o/r.git", "https://u:p@H.example/o/r.git/")
    with world.source() as archive:
        for number, remote in enumerate(remotes):
            archive.add_observation("tern", root_path=f"/srv/{number}", git_remote=remote)
            archive.add_observation("kelp", root_path=f"/srv/{number}", git_remote=remote)
        archive.add_observation("kelp", git_remote="git@h.example:o/another.git")
        for project in ("tern", "kelp", "fir"):
            archive.add_session(project, project=project)
    result = world.sessions()
    assert "u:p" not in result.stdout
    projects = world.export()["projects"]
    assert list(projects) == ["fir", "kelp", "tern"]
    assert projects["tern"]["resolution"] == "resolved"
    identity = projects["tern"]["identity"]
    assert list(identity) == ["key", "key_source", "normalized_remote"]
    assert (identity["key_source"], identity["normalized_remote"]) == (
        "git_remote",
        "h.example/o/r",
    )
    assert projects["kelp"] == {"resolution": "ambiguous", "identity": None}
    assert projects["fir"] == {"resolution": "unknown", "identity": None}


@pytest.mark.parametrize(
    ("model", "patterns", "matched"),
    [
        ("vendor/Orca.Large-2 (High)", ["orca-large-2"], "orca-large-2"),
        ("orca-large-2", ["x/orca-large-2", "y/orca-large-2"], None),
    ],
    ids=["dressed up", "two vendors"],
)
def test_case_84_a_model_finds_its_one_price_or_none(
    world: Pipeline, model: str, patterns: list[str], matched: str | None
) -> None:
    fill = answers({"input_tokens": 1000}, model=model)
    usage = usage_of(world, fill, *((pattern, 4, 12) for pattern in patterns))
    assert usage["has_cost"] is (matched is not None)
    assert usage["cost_usd"] == (0.004 if matched else 0)
    shown = world.export()["pricing"]["models"][model]
    assert shown["matched_pattern"] == matched
    assert shown["input_cost_per_mtok"] == (4 if matched else 0)
