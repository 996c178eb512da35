"""``sessions`` says what ``agentsview export sessions`` says of the same archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.archives.builder import SqliteArchive
from tests.interop.compare import compare, compare_lines, document
from tests.interop.flags import COMPARED, CURSOR_RESETS, FEW, REFUSALS, Case
from tests.interop.origin import Origin, Result
from tests.interop.ours import Ours, Pair

Change = Callable[[SqliteArchive], Any]


def assert_same(ours: Result, theirs: Result) -> None:
    """Both succeeded, without a word on standard error, and say the same."""
    assert (theirs.exit, theirs.stderr) == (0, "")
    assert (ours.exit, ours.stderr) == (0, "")
    differences = compare_lines(ours.stdout, theirs.stdout)
    assert not differences, "\n".join(differences[:20])


@pytest.mark.parametrize("case", COMPARED, ids=str)
def test_every_flag_selects_and_shows_the_same(widened: Pair, case: Case) -> None:
    """The same rows, in the same order, with the same values and the same framing."""
    assert_same(
        widened.ours.export_sessions(*case.flags), widened.origin.export_sessions(*case.flags)
    )


@pytest.mark.parametrize("case", FEW, ids=str)
def test_built_in_prices_count_where_none_is_stored(unpriced: Pair, case: Case) -> None:
    """An archive whose price table is empty is priced by the built-in table."""
    assert_same(
        unpriced.ours.export_sessions(*case.flags), unpriced.origin.export_sessions(*case.flags)
    )


@pytest.mark.parametrize("case", REFUSALS, ids=str)
def test_what_cannot_be_meant_is_refused(widened: Pair, case: Case) -> None:
    """Nothing on standard output, a sentence on standard error, and never the cursor's code."""
    ours = widened.ours.export_sessions(*case.flags)
    theirs = widened.origin.export_sessions(*case.flags)
    assert theirs.exit == (1 if case.expected == "refused" else 0)
    assert ours.exit in (1, 2)
    assert ours.stdout == ""
    assert ours.stderr.strip()


@pytest.mark.parametrize("flags", CURSOR_RESETS, ids=" ".join)
def test_a_useless_cursor_is_answered_with_a_reset(widened: Pair, flags: tuple[str, ...]) -> None:
    """Exit 4, empty standard output, and one JSON object that names the archive."""
    ours = widened.ours.export_sessions(*flags)
    theirs = widened.origin.export_sessions(*flags)
    assert (ours.exit, ours.stdout) == (theirs.exit, theirs.stdout) == (4, "")
    told, owed = json.loads(ours.stderr), json.loads(theirs.stderr)
    assert list(told) == list(owed)
    assert {**told, "database_id": ""} == {**owed, "database_id": ""}
    assert told["database_id"] == document(widened.ours.export_sessions().stdout)["database_id"]


@pytest.mark.parametrize("limit", [1, 7, 50, 400])
def test_pages_end_where_the_origin_ends_them(widened: Pair, limit: int) -> None:
    """Every page holds the same rows, and the last one of both has no cursor."""
    flags = ["--limit", str(limit), *(["--project", "order"] if limit == 1 else [])]
    ours = widened.ours.export_sessions(*flags)
    theirs = widened.origin.export_sessions(*flags)
    for _ in range(100):
        assert_same(ours, theirs)
        our_next, their_next = _next(ours), _next(theirs)
        if not their_next:
            break
        ours = widened.ours.export_sessions("--cursor", our_next, "--limit", str(limit))
        theirs = widened.origin.export_sessions("--cursor", their_next, "--limit", str(limit))
    assert not _next(theirs)


def test_a_run_may_go_on_in_another_framing_and_page_size(widened: Pair) -> None:
    """Filters come from the cursor, format and limit from the call."""
    flags = ("--project", "tern", "--include-one-shot", "--limit", "2")
    ours = widened.ours.export_sessions(*flags)
    theirs = widened.origin.export_sessions(*flags)
    ours = widened.ours.export_sessions("--cursor", _next(ours), "--format", "ndjson")
    theirs = widened.origin.export_sessions("--cursor", _next(theirs), "--format", "ndjson")
    assert_same(ours, theirs)


def test_cursors_of_the_origin_are_not_ours(widened: Pair) -> None:
    """A token signed elsewhere resets, whatever archive it was for."""
    theirs = widened.origin.export_sessions("--limit", "1")
    assert widened.ours.export_sessions("--cursor", _next(theirs)).exit == 4


def _next(result: Result) -> str:
    return str(document(result.stdout)["cursor"]["next"])


def _five(archive: SqliteArchive) -> None:
    """Sessions a to e, the newest first, each with one priced answer."""
    archive.add_price("orca-large-2")
    for number, name in enumerate("abcde"):
        archive.add_session(name, ended_at=f"2026-03-0{9 - number}T10:00:00Z")
        archive.add_message(
            name, role="assistant", model="orca-large-2", token_usage={"output_tokens": 7}
        )


def _add(name: str, ended_at: str, **over: Any) -> Change:
    return lambda archive: archive.add_session(name, ended_at=ended_at, **over)


def _update(name: str, **changes: Any) -> Change:
    return lambda archive: archive.update_session(name, **changes)


def _run(statement: str) -> Change:
    return lambda archive: archive.execute(statement)


CHANGES: dict[str, tuple[Change, int]] = {
    "nothing": (lambda archive: None, 0),
    "a newer session": (_add("new", "2026-03-10T10:00:00Z"), 0),
    "a newer session of the same instant as the watermark": (_add("zz", "2026-03-09T10:00:00Z"), 4),
    "a late arrival among the emitted": (_add("b2", "2026-03-08T12:00:00Z"), 4),
    "a late arrival at the end": (_add("old", "2026-01-01T00:00:00Z"), 4),
    "a late arrival that is not eligible": (
        _add("auto", "2026-03-08T12:00:00Z", is_automated=1),
        0,
    ),
    "an emitted session moves up": (_update("a", ended_at="2026-03-20T10:00:00Z"), 4),
    "a pending session moves up": (_update("e", ended_at="2026-03-20T10:00:00Z"), 4),
    "a pending session moves within": (_update("e", ended_at="2026-03-05T11:00:00Z"), 4),
    "an emitted session is deleted": (_update("a", deleted_at="2026-03-20T10:00:00Z"), 4),
    "a pending session is removed": (lambda archive: archive.delete_session("e"), 4),
    "a pending session becomes automated": (_update("d", is_automated=1), 4),
    "a pending session becomes one-shot": (_update("d", user_message_count=1), 4),
    "a pending session becomes a fork": (_update("d", relationship_type="fork"), 4),
    "a pending session becomes a continuation": (_update("d", relationship_type="continuation"), 0),
    "an end in another spelling": (_update("d", ended_at="2026-03-06T10:00:00.000Z"), 4),
    "an end of the same instant elsewhere": (_update("d", ended_at="2026-03-06T12:00:00+02:00"), 4),
    "a start": (_update("d", started_at="2026-03-01T00:00:00Z"), 0),
    "a label": (_update("d", project="kelp", machine="elm", git_branch="dev"), 0),
    "counts": (_update("d", message_count=99, user_message_count=50, peak_context_tokens=5), 0),
    "usage": (_run("UPDATE messages SET token_usage = '{\"output_tokens\":900}'"), 0),
    "another message": (
        lambda archive: archive.add_message(
            "d", model="grebe-nano", token_usage={"input_tokens": 5}
        ),
        0,
    ),
    "prices": (_run("UPDATE model_pricing SET output_per_mtok = 40"), 0),
    "a filter column without its filter": (_update("d", outcome="errored", health_grade="D"), 0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_between_pages_resets_or_shows(origin: Origin, ours: Ours, name: str) -> None:
    """Who is in the run, and where, must not change under way; anything else may."""
    change, expected = CHANGES[name]
    with origin.build() as archive:
        _five(archive)
    ours.bring(origin.archive)
    theirs_first = origin.export_sessions("--limit", "2")
    ours_first = ours.export_sessions("--limit", "2")
    assert_same(ours_first, theirs_first)

    with origin.build() as archive:
        change(archive)
    ours.bring(origin.archive)
    theirs = origin.export_sessions("--cursor", _next(theirs_first), "--limit", "2")
    mine = ours.export_sessions("--cursor", _next(ours_first), "--limit", "2")
    assert (theirs.exit, mine.exit) == (expected, expected)
    if expected == 0:
        assert_same(mine, theirs)
    assert_same(ours.export_sessions("--all"), origin.export_sessions("--all"))


def test_a_filter_column_counts_where_it_is_filtered_on(origin: Origin, ours: Ours) -> None:
    """A pending session that stops matching the run's own filter resets it."""
    with origin.build() as archive:
        _five(archive)
    ours.bring(origin.archive)
    flags = ("--outcome", "completed", "--limit", "2")
    cursors = _next(ours.export_sessions(*flags)), _next(origin.export_sessions(*flags))
    with origin.build() as archive:
        archive.update_session("d", outcome="errored")
    ours.bring(origin.archive)
    assert ours.export_sessions("--cursor", cursors[0]).exit == 4
    assert origin.export_sessions("--cursor", cursors[1]).exit == 4


def test_a_custom_price_in_the_configuration_counts(origin: Origin, ours: Ours) -> None:
    """Rates that a person set replace a stored row and add new ones."""
    with origin.build() as archive:
        _five(archive)
        archive.add_price("tern-mini")
        archive.add_message("a", model="egret-1", token_usage={"input_tokens": 1000})
    origin.export_sessions()
    with (origin.data / "config.toml").open("a") as config:
        config.write("\n[custom_model_pricing.egret-1]\ninput = 1.5\noutput = 2\n")
        config.write('\n[custom_model_pricing."orca-large-2"]\noutput = 30.0\n')
    ours.bring(origin.archive)
    theirs = origin.export_sessions()
    assert document(theirs.stdout)["pricing"]["source"] == "custom+fetched"
    assert_same(ours.export_sessions(), theirs)


def test_custom_prices_lie_over_the_built_in_ones(origin: Origin, ours: Ours) -> None:
    """Without stored rows, custom rates are all that differs from the built-in table."""
    with origin.build() as archive:
        archive.add_session("a")
        for model in ("egret-1", "claude-opus-4-6"):
            archive.add_message("a", model=model, token_usage={"input_tokens": 1000})
    origin.export_sessions()
    with (origin.data / "config.toml").open("a") as config:
        config.write("\n[custom_model_pricing.egret-1]\ninput = 1.5\n")
    ours.bring(origin.archive)
    theirs = origin.export_sessions()
    assert document(theirs.stdout)["pricing"]["source"] == "custom+embedded"
    assert_same(ours.export_sessions(), theirs)


def test_an_empty_archive_exports_an_empty_document(origin: Origin, ours: Ours) -> None:
    """Both framings exist without a single session."""
    with origin.build():
        pass
    ours.bring(origin.archive)
    for flags in ((), ("--format", "ndjson"), ("--all",), ("--include-children",)):
        theirs = origin.export_sessions(*flags)
        assert document(theirs.stdout)["pricing"] == {}
        assert_same(ours.export_sessions(*flags), theirs)


def test_importing_twice_changes_nothing(origin: Origin, ours: Ours) -> None:
    """A second import of the same archive exports the same, cursor included."""
    with origin.build() as archive:
        _five(archive)
    ours.bring(origin.archive)
    first = ours.export_sessions("--limit", "2")
    ours.bring(origin.archive)
    assert not compare(
        document(ours.export_sessions("--limit", "2").stdout), document(first.stdout)
    )
    assert ours.export_sessions("--cursor", _next(first)).exit == 0
