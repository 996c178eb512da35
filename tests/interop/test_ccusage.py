"""Tokens per day against ``ccusage``, a program that reads the transcripts by itself.

The transcripts go through agentsview and our import on one side, and straight into ccusage on the
other. What differs is listed in docs/compatibility.md, and shown here one by one.

ccusage is looked for where EXPORTER_TEST_CCUSAGE points, else installed from npm into a temporary
folder; without either the tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.interop.origin import Origin
from tests.interop.ours import Ours, OursInside
from tests.interop.transcripts import (
    ClaudeTranscript,
    CodexTranscript,
    Usage,
    claude_files,
    codex_files,
    repositories,
    session_uuid,
)

VERSION = "20.0.24"
KINDS = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
#: The first day after those of the common transcripts.
FIRST = datetime(2026, 4, 1, 9, 0, tzinfo=UTC)
ZONES = ("UTC", "Asia/Tokyo", "America/St_Johns")

Tokens = tuple[int, ...]
#: By date, agent and model.
Counts = dict[tuple[str, str, str], Tokens]


# -- the other program --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ccusage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in the version that the tests were written for."""
    named = os.environ.get("EXPORTER_TEST_CCUSAGE")
    found = Path(named) if named else _installed(tmp_path_factory.mktemp("ccusage"))
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60)
    except OSError as error:
        pytest.skip(f"{found} does not start: {error}")
    if said.returncode != 0:
        pytest.skip(f"ccusage does not run here: {said.stderr.strip()}")
    assert said.stdout.split()[-1] == VERSION, f"{found} is not ccusage {VERSION}"
    return found


def _installed(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed; EXPORTER_TEST_CCUSAGE may name a ccusage")
    command = (npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts")
    patience = ("--prefer-offline", "--fetch-retries=0", "--fetch-timeout=20000")
    try:
        done = subprocess.run(
            [*command, *patience, "--prefix", folder, f"ccusage@{VERSION}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry does not answer; EXPORTER_TEST_CCUSAGE may name a ccusage")
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        pytest.skip(f"npm could not install ccusage {VERSION}: {' '.join(errors[:2])}")
    return folder / "node_modules" / ".bin" / "ccusage"


def theirs(program: Path, home: Path, zone: str) -> Counts:
    """What ccusage counts in the transcripts below a home folder."""
    done = subprocess.run(
        [program, "daily", "--json", "--offline", "--by-agent", "--timezone", zone],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / ".claude"),
            "CODEX_HOME": str(home / ".codex"),
            "TZ": "UTC",
        },
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        (day.get("period") or day["date"], agent["agent"], model["modelName"]): tokens(model)
        for day in json.loads(done.stdout)["daily"]
        for agent in day["agents"]
        for model in agent["modelBreakdowns"]
    }


def counted(ours: Ours, zone: str) -> Counts:
    """What our report counts, asked for each agent by itself since its days list models only."""
    found: Counts = {}
    for agent in ("claude", "codex"):
        asked = ("--all", "--json", "--timezone", zone, "--agent", agent)
        done = ours.run("usage", "daily", *asked)
        assert done.exit == 0, done.stderr
        for day in json.loads(done.stdout)["daily"]:
            for model in day["modelBreakdowns"]:
                found[day["date"], agent, model["modelName"]] = tokens(model)
    return found


def tokens(entry: dict[str, Any]) -> Tokens:
    return tuple(int(entry[kind]) for kind in KINDS)


def lay_out(home: Path, files: Iterable[tuple[str, Iterable[Any]]]) -> None:
    """Write transcripts as the agents do, a line each without blanks: ccusage reads no other."""
    for path, lines in files:
        place = home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


@dataclass(frozen=True)
class World:
    """Transcripts below a home folder, and our database after they were imported."""

    home: Path
    ours: Ours


def _brought(
    home: Path, database_url: str, files: Iterable[tuple[str, Iterable[Any]]]
) -> Iterator[World]:
    lay_out(home, files)
    origin = Origin(home)
    try:
        origin.sync()
        ours = OursInside(database_url)
        ours.bring(origin.archive)
        yield World(home, ours)
    finally:
        origin.stop()


# -- transcripts --------------------------------------------------------------------------------


def claude(name: str, **over: Any) -> ClaudeTranscript:
    return ClaudeTranscript(session_uuid(name), f"/home/kit/{name}", **over)


def place(transcript: ClaudeTranscript) -> str:
    slug = transcript.cwd.replace("/", "-")
    folder = f".claude/projects/{slug}/{transcript.session}"
    if transcript.agent:
        return f"{folder}/subagents/agent-{transcript.agent}.jsonl"
    return f"{folder}.jsonl"


def some(fresh: int, written: int, **over: Any) -> Usage:
    return {
        "input_tokens": fresh,
        "output_tokens": written,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        **over,
    }


def agreed_files() -> Iterator[tuple[str, Iterable[Any]]]:
    """What both programs count alike, beyond what the common transcripts hold."""
    for transcript in (*_responses_told_twice(), *_helpers(), *_odd_answers(), *_days()):
        yield place(transcript), transcript.lines
    for hour in (0, 5):
        codex = CodexTranscript(session_uuid(f"codex-{hour}"), "/home/kit/codex")
        codex.clock = FIRST + timedelta(hours=hour)
        codex.begin()
        codex.talk(3)
        moment = codex.clock.strftime("%Y-%m-%dT%H-%M-%S")
        yield f".codex/sessions/2026/04/01/rollout-{moment}-{codex.session}.jsonl", codex.lines


def _responses_told_twice() -> Iterator[ClaudeTranscript]:
    """A response whose counter grows while it streams, other requests, resumed and edited."""
    streamed = claude("streamed", clock=FIRST)
    streamed.ask("Go on.")
    streamed.answer(1, usage=some(10, 1))
    streamed.answer(1, usage=some(10, 50))
    streamed.ask("And again.")
    streamed.answer(1, usage=some(10, 60), request_id="req_another")
    yield streamed
    for with_request in (True, False):
        first = claude(f"first-{with_request}", clock=FIRST)
        first.talk(2)
        if not with_request:
            for line in first.lines:
                line.pop("requestId", None)
        resumed = claude(f"resumed-{with_request}")
        resumed.copy_of(first)
        resumed.talk(1, first=9)
        yield from (first, resumed)


def _helpers() -> Iterator[ClaudeTranscript]:
    """A helper with responses of its own, and one that begins with what its parent said."""
    parent = claude("parent", clock=FIRST)
    parent.talk(2)
    helper = claude("parent", clock=parent.clock, agent="a1", model="claude-haiku-4-5")
    helper.talk(2, first=50)
    copying = claude("parent", agent="a2")
    copying.copy_of(parent)
    copying.talk(1, first=70)
    yield from (parent, helper, copying)


def _odd_answers() -> Iterator[ClaudeTranscript]:
    """No model, the synthetic one, an error, nothing spent, a reported cost, no ids at all."""
    odd = claude("odd", clock=FIRST)
    odd.ask("Go on.")
    odd.answer(1, model="")
    odd.answer(2, model="<synthetic>")
    odd.answer(3, isApiErrorMessage=True)
    odd.answer(4, usage=some(0, 0))
    odd.answer(5, costUSD=0.5)
    odd.answer(6, isSidechain=True)
    yield odd
    nameless = claude("nameless", clock=FIRST)
    nameless.talk(2)
    for line in nameless.lines:
        line.pop("requestId", None)
        line["message"].pop("id", None)
    yield nameless


def _days() -> Iterator[ClaudeTranscript]:
    """Over midnight in one zone or another, and a time with an offset."""
    late = claude("late", clock=datetime(2026, 4, 8, 23, 58, tzinfo=UTC))
    late.talk(6)
    yield late
    early = claude("early", clock=datetime(2026, 4, 9, 14, 57, tzinfo=UTC))
    early.talk(6)
    early.lines[-1]["timestamp"] = "2026-04-11T01:00:00+02:00"
    yield early


class Difference(NamedTuple):
    """A day on which the two programs count differently, and what each counts."""

    ours: Tokens | None
    theirs: Tokens | None


def _told_smaller(day: datetime) -> list[ClaudeTranscript]:
    told = claude("told-smaller", clock=day)
    told.ask("Go on.")
    told.answer(1, usage=some(10, 50))
    told.answer(1, usage=some(10, 20))
    return [told]


def _copy_with_other_times(day: datetime) -> list[ClaudeTranscript]:
    """The copy that counts here is the one a month before, and out of this day."""
    first = claude("zz-first", clock=day - timedelta(days=400))
    first.ask("Go on.")
    first.answer(1, usage=some(10, 50))
    again = claude("aa-again", clock=day)
    again.ask("Go on.")
    again.answer(1, usage=some(10, 50), **_ids_of(first))
    again.answer(2, usage=some(1, 2))
    return [first, again]


def _ids_of(other: ClaudeTranscript) -> dict[str, str]:
    line = other.lines[-1]
    return {"message_id": line["message"]["id"], "request_id": line["requestId"]}


def _copies_without_ids(day: datetime) -> list[ClaudeTranscript]:
    first = claude("bare", clock=day)
    first.ask("Go on.")
    first.answer(1, usage=some(10, 50))
    for line in first.lines:
        line.pop("requestId", None)
        line["message"].pop("id", None)
    again = claude("bare-again")
    again.copy_of(first)
    again.ask("More.")
    return [first, again]


def _with_usage(name: str, usage: Usage) -> Callable[[datetime], list[ClaudeTranscript]]:
    def made(day: datetime) -> list[ClaudeTranscript]:
        transcript = claude(name, clock=day)
        transcript.ask("Go on.")
        transcript.answer(1, usage=usage)
        return [transcript]

    return made


def _empty_ids(day: datetime) -> list[ClaudeTranscript]:
    transcript = claude("empty-ids", clock=day)
    transcript.ask("Go on.")
    transcript.answer(1, usage=some(10, 50), request_id="")
    return [transcript]


def _without_time(day: datetime) -> list[ClaudeTranscript]:
    transcript = claude("timeless", clock=day)
    transcript.ask("Go on.")
    transcript.answer(1, usage=some(10, 50))
    transcript.lines[-1].pop("timestamp")
    return [transcript]


NULLS = some(10, 50, cache_creation_input_tokens=None, cache_read_input_tokens=None)
#: Each on a day of its own, in this order.
DIFFERENCES: dict[str, tuple[Callable[[datetime], list[ClaudeTranscript]], Difference]] = {
    "a response told again with fewer tokens": (
        _told_smaller,
        Difference((10, 20, 0, 0), (10, 50, 0, 0)),
    ),
    "a copy with times of its own": (
        _copy_with_other_times,
        Difference((1, 2, 0, 0), (11, 52, 0, 0)),
    ),
    "copies that only the transcript's own ids tell": (
        _copies_without_ids,
        Difference((10, 50, 0, 0), (20, 100, 0, 0)),
    ),
    "empty ids": (_empty_ids, Difference((10, 50, 0, 0), None)),
    "counters that are null": (_with_usage("nulls", NULLS), Difference((10, 50, 0, 0), None)),
    "no output counter": (
        _with_usage("silent", {"input_tokens": 10}),
        Difference((10, 0, 0, 0), None),
    ),
    "a counter as text": (
        _with_usage("text", {**some(0, 50), "input_tokens": "10"}),
        Difference((10, 50, 0, 0), None),
    ),
    "a counter with a fraction": (
        _with_usage("fraction", {**some(0, 50), "input_tokens": 10.5}),
        Difference((10, 50, 0, 0), None),
    ),
    "a counter below 0": (_with_usage("below", some(-10, 50)), Difference((0, 50, 0, 0), None)),
    "a counter beyond any real one": (
        _with_usage("beyond", some(5_000_000, 50)),
        Difference((2_000_000, 50, 0, 0), (5_000_000, 50, 0, 0)),
    ),
    "a response without a time": (_without_time, Difference((10, 50, 0, 0), None)),
}


def _day(number: int) -> datetime:
    return FIRST + timedelta(days=number)


# -- the tests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agreed(
    tmp_path_factory: pytest.TempPathFactory, make_database: Callable[[], str]
) -> Iterator[World]:
    home = tmp_path_factory.mktemp("agreed")
    repositories(home)
    # Two sessions of Codex in the common transcripts speak at the same instants, see below.
    common = (*claude_files(home / "src"), *list(codex_files(home / "src"))[:1])
    yield from _brought(home, make_database(), (*common, *agreed_files()))


@pytest.fixture(scope="module")
def differing(
    ccusage: Path, tmp_path_factory: pytest.TempPathFactory, make_database: Callable[[], str]
) -> Iterator[tuple[Counts, Counts]]:
    """What either program counts on the days of `DIFFERENCES`: ours, then the other."""
    home = tmp_path_factory.mktemp("differing")
    transcripts = [
        transcript
        for number, (made, _) in enumerate(DIFFERENCES.values())
        for transcript in made(_day(number))
    ]
    files = [(place(transcript), transcript.lines) for transcript in transcripts]
    for world in _brought(home, make_database(), (*files, *codex_files(home / "src"))):
        yield counted(world.ours, "UTC"), theirs(ccusage, world.home, "UTC")


@pytest.mark.parametrize("zone", ZONES)
def test_both_count_the_same_tokens(ccusage: Path, agreed: World, zone: str) -> None:
    """Of every kind, on every date, for every agent and model."""
    ours, others = counted(agreed.ours, zone), theirs(ccusage, agreed.home, zone)
    assert ours == others
    assert len({date for date, _, _ in ours}) >= 8
    assert {agent for _, agent, _ in ours} == {"claude", "codex"}
    assert all(sum(column) > 0 for column in zip(*ours.values(), strict=True))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_differs_is_as_documented(differing: tuple[Counts, Counts], name: str) -> None:
    """Where the two programs part, each as docs/compatibility.md says."""
    key = (f"{_day(list(DIFFERENCES).index(name)):%Y-%m-%d}", "claude", "claude-opus-4-6")
    assert Difference(*(found.get(key) for found in differing)) == DIFFERENCES[name][1]


def test_two_sessions_of_codex_at_the_same_instants(differing: tuple[Counts, Counts]) -> None:
    """Here they are two; ccusage takes equal counts of one instant for one."""
    ours, others = (found["2026-03-06", "codex", "gpt-5.2-codex"] for found in differing)
    assert ours == tuple(2 * count for count in others)


def test_lines_with_blanks_are_nothing_to_ccusage(ccusage: Path, tmp_path: Path) -> None:
    """Which is why the transcripts here are written without any."""
    transcript = claude("spaced", clock=FIRST)
    transcript.talk(1)
    lay_out(tmp_path, [(place(transcript), transcript.lines)])
    written = tmp_path / place(transcript)
    assert theirs(ccusage, tmp_path, "UTC")
    lines = [json.dumps(line) for line in transcript.lines]
    written.write_text("\n".join(lines) + "\n")
    assert not theirs(ccusage, tmp_path, "UTC")
