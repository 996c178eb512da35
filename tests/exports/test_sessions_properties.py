"""What holds of the session export for every archive: pages, resets, trees, and its text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from exporter.core import wire
from exporter.db.connect import read_snapshot
from exporter.errors import CursorReset
from exporter.exports.sessions import Request, open_export
from tests.archives.builder import SqliteArchive
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


def bounded(examples: int) -> settings:
    """So many examples; each costs an import or three, so it asks several questions of one."""
    return settings(
        max_examples=examples,
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


def several(questions: st.SearchStrategy[Asked]) -> st.SearchStrategy[list[Asked]]:
    """Questions to put to the same archive."""
    return st.lists(questions, min_size=4, max_size=4)


# --- Order, pages and trees -----------------------------------------------------------------


@bounded(12)
@given(
    archives | families,
    several(asked(st.booleans())),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_pages_of_any_size_join_to_the_whole(
    world: Pipeline, model: Model, questions: list[Asked], limits: list[int]
) -> None:
    """None lost, none twice, latest first, ties by bytes of the id."""
    fill(world, model)
    for question in questions:
        whole = everything(world, question)
        assert whole.ids == owed(model, question)
        sizes = cycle(limits)
        page = read(world, Request(question.filters, limit=next(sizes)))
        pages = [page]
        while page.following:
            page = read(world, Request(cursor=page.following, limit=next(sizes)))
            pages.append(page)
        assert [line for page in pages for line in page.lines] == whole.lines
        assert [len(p.lines) for p in pages[:-1]] == [*islice(cycle(limits), len(pages) - 1)]


@bounded(12)
@given(families, several(asked(st.just(True))))
def test_a_tree_is_what_hangs_below_its_roots(
    world: Pipeline, model: Model, questions: list[Asked]
) -> None:
    """Whatever the links are: chains, cycles, orphans, gaps, and parents of another project."""
    fill(world, model)
    for question in questions:
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


class Run(NamedTuple):
    """A run after its first page, and what its set is known by."""

    question: Asked
    first: Page
    watermark: int
    fingerprint: list[tuple[int, str, str]]


def fingerprint(page: Page, model: Model, watermark: int) -> list[tuple[int, str, str]]:
    """Key, shown activity and id of each row up to the watermark."""
    rows = []
    for line in map(json.loads, page.lines):
        ms = key(model[line["id"]])
        assert ms is not None
        if ms <= watermark:
            rows.append((ms, line["last_activity_at"], line["id"]))
    return rows


def begun(world: Pipeline, model: Model, question: Asked, limit: int) -> Run:
    """Read a first page that is not the last."""
    whole = everything(world, question)
    first = read(world, Request(question.filters, limit=min(limit, len(whole.ids) - 1)))
    watermark = key(model[first.ids[0]])
    assert watermark is not None
    return Run(question, first, watermark, fingerprint(whole, model, watermark))


def assert_exact_reset(world: Pipeline, run: Run, model: Model) -> None:
    """The next page is refused if the set is another one, and only then."""
    now = everything(world, run.question)
    assert now.ids == owed(model, run.question)
    after = fingerprint(now, model, run.watermark)
    try:
        rest = read(world, Request(cursor=run.first.following))
    except CursorReset:
        assert run.fingerprint != after
        return
    assert run.fingerprint == after
    assert run.first.ids + rest.ids == [name for _, _, name in after]
    assert rest.lines == now.lines[len(now.lines) - len(rest.lines) :]


def change_under_way(
    world: Pipeline, questions: list[Asked], limit: int, states: list[Model]
) -> None:
    """Begin runs over the first state, import the others one after the other, and go on."""
    many = [question for question in questions if len(owed(states[0], question)) > 1]
    assume(many)
    fill(world, states[0])
    runs = [begun(world, states[0], question, limit) for question in many]
    for old, new in pairwise(states):
        with world.source() as archive:
            write(archive, old, new)
    for run in runs:
        assert_exact_reset(world, run, states[-1])


def _states(some: st.SearchStrategy[Model]) -> st.SearchStrategy[list[Model]]:
    """An archive, then what it is after each round of changes; the last may undo the others."""

    def made(model: Model, rounds: list[Any], and_back: bool) -> list[Model]:
        states = [model]
        for changes in rounds:
            states.append(changed(states[-1], changes))
        return [*states, model] if and_back else states

    return st.builds(made, some, _rounds, st.sampled_from([False, False, False, True]))


@bounded(25)
@given(several(asked(st.just(False))), st.integers(1, 3), _states(archives))
def test_a_cursor_resets_exactly_when_the_set_of_its_run_changed(
    world: Pipeline, questions: list[Asked], limit: int, states: list[Model]
) -> None:
    """Not for newer sessions, other columns, or what was undone before anybody looked."""
    change_under_way(world, questions, limit, states)


@bounded(25)
@given(several(asked(st.just(True))), st.integers(1, 3), _states(families))
def test_a_cursor_over_trees_resets_exactly_when_their_set_changed(
    world: Pipeline, questions: list[Asked], limit: int, states: list[Model]
) -> None:
    """One link or one root that goes takes with it, or spares, all that hangs below."""
    change_under_way(world, questions, limit, states)


# --- Text -----------------------------------------------------------------------------------

LABELS = ("project", "machine", "agent", "cwd", "git_branch", "ended_at")
_hostile = st.text(
    st.sampled_from(
        "\"\\/<>&'aZ é\u2028\u2029\ufeff\x7f\x85\U0001f426\n\r\t\b\f\x01\x1f\x00{}[]:,"
    ),
    max_size=12,
)
#: From here on PostgreSQL may spell a double with one digit more than its shortest text has.
_SHORTEST_BELOW = 2.0**54
_round_costs = st.builds(
    lambda digits, power: digits * 10.0**power, st.integers(-99, 99), st.integers(-9, 25)
)
_costs = st.one_of(_round_costs, st.floats(1e-9, 1e-3), st.floats(1e-3, 1e25))
_usual_costs = _costs.filter(lambda cost: abs(cost) < _SHORTEST_BELOW / 4)


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


class Told(NamedTuple):
    """One session of hostile texts, with its usage events: model, cost and tokens."""

    labels: dict[str, str]
    parent: str | None
    worktree: str
    usage: list[tuple[str, float | None, int]]


_told = st.builds(
    Told,
    st.fixed_dictionaries({name: _hostile for name in LABELS}),
    st.none() | _hostile,
    _hostile,
    st.lists(
        st.tuples(_hostile.filter(bool), st.none() | _usual_costs, st.integers(0, 2_000_000)),
        max_size=4,
    ),
)


def tell(archive: SqliteArchive, session_id: str, told: Told) -> None:
    """Put the session, its worktree and its usage into a source."""
    archive.add_session(
        session_id, parent_session_id=told.parent, relationship_type=told.worktree, **told.labels
    )
    archive.add_observation(
        told.labels["project"],
        machine=told.labels["machine"],
        root_path=f"/{session_id}{told.worktree}",
        worktree_name=told.worktree,
    )
    for model, cost, tokens in told.usage:
        archive.add_event(session_id, model=model, cost_usd=cost, output_tokens=tokens)


@bounded(12)
@given(st.dictionaries(_hostile.filter(lambda text: text and "\0" not in text), _told, min_size=1))
def test_stored_text_is_what_the_encoder_would_write(
    world: Pipeline, sessions: dict[str, Told]
) -> None:
    """Byte for byte, whatever labels and costs are; and each label is the one that was stored."""
    world.begin_again()
    with world.source() as archive:
        archive.add_price("a", 2.5, 1e-9, 1e12, 0.1)
        for session_id, told in sessions.items():
            tell(archive, session_id, told)
    lines = everything(world, Asked()).lines
    assert len(lines) == len(sessions)
    for line in lines:
        row = json.loads(line)
        assert wire.encode(with_float_costs(row)) == line
        told = sessions[row["id"]]
        shown = {name: row.get(name, "") for name in LABELS}
        assert shown == {name: stored(text) for name, text in told.labels.items()}
        assert row["parent_session_id"] == (None if told.parent is None else stored(told.parent))
        names = {stored(model) for model, cost, tokens in told.usage if cost is not None or tokens}
        assert row["model_usage"]["models"] == sorted(names, key=str.encode)
        assert list(row["model_usage"]["by_model"]) == row["model_usage"]["models"]


def _absurd_cost(archive: SqliteArchive) -> None:
    for _ in range(2):
        archive.add_event("a", model="a", cost_usd=1.7e308)


def _absurd_rate(archive: SqliteArchive, rate: float) -> None:
    archive.add_price("b", output=rate)
    archive.add_event("a", model="b", output_tokens=2_000_000)


@pytest.mark.parametrize(
    ("fill", "kind"),
    [
        (_absurd_cost, "cost"),
        (partial(_absurd_rate, rate=1.7e308), "rate"),
        (partial(_absurd_rate, rate=5e-324), "rate"),
    ],
    ids=["cost", "large rate", "small rate"],
)
def test_money_that_no_sum_can_hold_does_not_stop_an_import(
    world: Pipeline, fill: Callable[[SqliteArchive], None], kind: str
) -> None:
    """It is left out and counted; everything else comes over."""
    with SqliteArchive(world.path) as archive:
        archive.add_session("a")
        archive.add_event("a", model="c", cost_usd=0.5)
        fill(archive)
    assert world.bring().repairs[kind] > 0
    usage = world.rows()["a"]["model_usage"]
    assert usage["cost_usd"] == usage["by_model"]["c"]["cost_usd"] == 0.5


@bounded(8)
@given(st.lists(_costs, min_size=1, max_size=20))
def test_a_reported_cost_comes_out_as_the_same_double(world: Pipeline, costs: list[float]) -> None:
    """From fractions of a cent to sums that nobody will ever pay, in one of two notations."""
    world.begin_again()
    with world.source() as archive:
        archive.add_price("a")
        for number, cost in enumerate(costs):
            archive.add_session(f"{number:02}")
            archive.add_event(f"{number:02}", model="a", cost_usd=cost)
    lines = everything(world, Asked()).lines
    assert len(lines) == len(costs)
    for line, cost in zip(lines, costs, strict=True):
        usage = with_float_costs(json.loads(line))["model_usage"]
        assert usage["cost_usd"] == usage["by_model"]["a"]["cost_usd"] == cost
        text = line.partition(b'"cost_usd":')[2].partition(b",")[0]
        positional = cost == 0 or 1e-6 <= abs(cost) < 1e21
        form = rb"-?(0|[1-9]\d*)(\.\d*[1-9])?" if positional else rb"-?\d(\.\d*[1-9])?e[+-][1-9]\d*"
        assert re.fullmatch(form, text)
