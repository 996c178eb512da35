"""What holds of the session export for every archive: pages, resets, trees, and its text."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from exporter.core import wire
from exporter.db.connect import read_snapshot
from exporter.errors import CursorReset
from exporter.exports.sessions import Request, open_export
from tests.archives.pipeline import Pipeline
from tests.exports.small_archives import (
    COLUMNS,
    IDS,
    TEXTS,
    TIMES,
    Asked,
    Model,
    Session,
    archives,
    asked,
    families,
    key,
    owed,
    sessions,
    write,
)

#: One example is an import and several exports; the world is emptied within each.
bounded = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Page(NamedTuple):
    """The rows of an answer as they were written, their ids, and where to go on."""

    lines: list[bytes]
    ids: list[str]
    following: str


def read(world: Pipeline, request: Request) -> Page:
    """Answer a request to its end. Raises `CursorReset` where the export must restart."""
    with read_snapshot(world.conn):
        answer = open_export(world.conn, request)
        lines = b"".join(answer.rows).split(b"\n")[:-1]
    ids = [json.loads(line)["id"] for line in lines]
    return Page(lines, ids, answer.head["cursor"]["next"])


def everything(world: Pipeline, question: Asked) -> Page:
    """All there is, as of now."""
    page = read(world, Request(question.filters, everything=True))
    assert page.following == ""
    return page


def fill(world: Pipeline, model: Model) -> None:
    """Make the source hold exactly this, and import it into an empty archive."""
    world.begin_again()
    with world.source() as archive:
        write(archive, {}, model)


# --- Order, pages and trees -----------------------------------------------------------------


@bounded
@given(archives, asked(st.booleans()), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_pages_of_any_size_join_to_the_whole(
    world: Pipeline, model: Model, question: Asked, limits: list[int]
) -> None:
    """None lost, none twice, latest first, ties by bytes of the id."""
    fill(world, model)
    whole = everything(world, question)
    assert whole.ids == owed(model, question)
    page = read(world, Request(question.filters, limit=limits[0]))
    joined = page.lines
    turn = 0
    while page.following:
        assert len(page.lines) == limits[turn % len(limits)]
        turn += 1
        page = read(world, Request(cursor=page.following, limit=limits[turn % len(limits)]))
        joined = joined + page.lines
    assert joined == whole.lines


@bounded
@given(families, asked(st.just(True)))
def test_a_tree_is_what_hangs_below_its_roots(
    world: Pipeline, model: Model, question: Asked
) -> None:
    """Whatever the links are: chains, cycles, orphans, gaps, and parents of another project."""
    fill(world, model)
    page = read(world, Request(question.filters))
    assert page.ids == owed(model, question)
    assert page == everything(world, question)


# --- Changes under way ----------------------------------------------------------------------

_columns = st.one_of(*(st.tuples(st.just(name), some) for name, some in COLUMNS.items()))
_some = st.integers(0, len(IDS) - 1)
_changes = st.one_of(
    st.tuples(st.just("set"), _some, _columns),
    st.tuples(st.just("respell"), _some, st.integers(0, 3)),
    st.tuples(st.just("hear of"), _some, st.sampled_from(TEXTS)),
    st.tuples(st.just("remove"), _some, st.none()),
    st.tuples(st.just("put"), _some, sessions),
)
_rounds = st.lists(st.lists(_changes, min_size=1, max_size=2), min_size=1, max_size=2)


def changed(model: Model, changes: list[tuple[str, int, Any]]) -> Model:
    """The model after some changes, each to the session of a number, or to one put there."""
    model = deepcopy(model)
    for kind, number, value in changes:
        if kind == "put":
            model[IDS[number]] = value
        elif model:
            name = sorted(model)[number % len(model)]
            if kind == "remove":
                del model[name]
            else:
                _change(model[name], kind, value)
    return model


def _change(session: Session, kind: str, value: Any) -> None:
    if kind == "set":
        session[value[0]] = value[1]
    elif kind == "respell":
        ms = TIMES.get(session["ended_at"] or "")
        spellings = [text for text in TEXTS if TIMES[text] == ms]
        session["ended_at"] = spellings[value % len(spellings)]
    else:
        session["messages"] = [*session["messages"], value]


def fingerprint(page: Page, model: Model, watermark: int) -> list[tuple[int, str, str]]:
    """What a run's set is known by: key, shown activity and id of each row up to the watermark."""
    rows = []
    for line in map(json.loads, page.lines):
        ms = key(model[line["id"]])
        assert ms is not None
        if ms <= watermark:
            rows.append((ms, line["last_activity_at"], line["id"]))
    return rows


def assert_exact_reset(world: Pipeline, question: Asked, limit: int, states: list[Model]) -> None:
    """Import each state after a first page; the next page is refused if and only if it must be."""
    there = len(owed(states[0], question))
    assume(there > 1)
    fill(world, states[0])
    first = read(world, Request(question.filters, limit=min(limit, there - 1)))
    watermark = key(states[0][first.ids[0]])
    assert watermark is not None
    before = fingerprint(everything(world, question), states[0], watermark)
    for old, new in pairwise(states):
        with world.source() as archive:
            write(archive, old, new)

    now = everything(world, question)
    assert now.ids == owed(states[-1], question)
    after = fingerprint(now, states[-1], watermark)
    try:
        rest = read(world, Request(cursor=first.following))
    except CursorReset:
        assert before != after
        return
    assert before == after
    assert first.ids + rest.ids == [name for _, _, name in after]
    assert rest.lines == now.lines[len(now.lines) - len(rest.lines) :]


def _states(some: st.SearchStrategy[Model]) -> st.SearchStrategy[list[Model]]:
    """An archive, then what it is after each round of changes; the last may undo the others."""

    def made(model: Model, rounds: list[Any], and_back: bool) -> list[Model]:
        states = [model]
        for changes in rounds:
            states.append(changed(states[-1], changes))
        return [*states, model] if and_back else states

    return st.builds(made, some, _rounds, st.sampled_from([False, False, False, True]))


@bounded
@given(asked(st.just(False)), st.integers(1, 3), _states(archives))
def test_a_cursor_resets_exactly_when_the_set_of_its_run_changed(
    world: Pipeline, question: Asked, limit: int, states: list[Model]
) -> None:
    """Not for newer sessions, other columns, or what was undone before anybody looked."""
    assert_exact_reset(world, question, limit, states)


@bounded
@given(asked(st.just(True)), st.integers(1, 3), _states(families))
def test_a_cursor_over_trees_resets_exactly_when_their_set_changed(
    world: Pipeline, question: Asked, limit: int, states: list[Model]
) -> None:
    """One link or one root that goes takes with it, or spares, all that hangs below."""
    assert_exact_reset(world, question, limit, states)


# --- Text -----------------------------------------------------------------------------------

_hostile = st.text(
    st.sampled_from(
        "\"\\/<>&'aZ é\u2028\u2029\ufeff\x7f\x85\U0001f426\n\r\t\b\f\x01\x1f\x00{}[]:,"
    ),
    max_size=12,
)
_costs = st.one_of(
    st.none(),
    st.builds(
        lambda digits, scale: digits * 10.0**scale, st.integers(-99, 99), st.integers(-9, 25)
    ),
    st.floats(1e-9, 1e-3),
    st.floats(1e-3, 1e25),
)


def stored(text: str) -> str:
    """Text as it can be kept: PostgreSQL has no NUL."""
    return text.replace("\0", "\ufffd")


def with_float_costs(value: Any) -> Any:
    """The parsed row with each cost as a double, also where its text has no fraction."""
    if isinstance(value, dict):
        return {
            name: float(member) if name == "cost_usd" else with_float_costs(member)
            for name, member in value.items()
        }
    return value


@bounded
@given(
    labels=st.fixed_dictionaries(
        {
            name: _hostile
            for name in ("project", "machine", "agent", "cwd", "git_branch", "ended_at")
        }
    ),
    parent=st.none() | _hostile,
    worktree=_hostile,
    usage=st.lists(st.tuples(_hostile.filter(bool), _costs, st.integers(0, 2_000_000)), max_size=4),
)
def test_stored_text_is_what_the_encoder_would_write(
    world: Pipeline,
    labels: dict[str, str],
    parent: str | None,
    worktree: str,
    usage: list[tuple[str, float | None, int]],
) -> None:
    """Byte for byte, whatever labels and costs are; and each label is the one that was stored."""
    world.begin_again()
    with world.source() as archive:
        archive.add_price("a", 2.5, 1e-9, 1e12, 0.1)
        archive.add_session("a", parent_session_id=parent, relationship_type=worktree, **labels)
        if labels["project"].strip() and labels["machine"].strip():
            place = {"root_path": f"/{worktree}", "worktree_name": worktree}
            archive.add_observation(labels["project"], machine=labels["machine"], **place)
        for model, cost, tokens in usage:
            archive.add_event("a", model=model, cost_usd=cost, output_tokens=tokens)
    (line,) = everything(world, Asked()).lines
    row = json.loads(line)
    assert wire.encode(with_float_costs(row)) == line
    assert {name: row.get(name, "") for name in labels} == {
        name: stored(text) for name, text in labels.items()
    }
    assert row["parent_session_id"] == (None if parent is None else stored(parent))
    names = {stored(model) for model, cost, tokens in usage if cost is not None or tokens}
    assert row["model_usage"]["models"] == sorted(names, key=str.encode)
    assert list(row["model_usage"]["by_model"]) == row["model_usage"]["models"]
