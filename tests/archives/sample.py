"""A small archive to look at: four weeks of four people's agents, the same on each run.

    python -m tests.archives.sample PATH

It holds forty-odd sessions on three machines: plain, resumed, delegated and forked ones,
automated and one-shot runs, projects known by a remote, by a path, by a rule, in two ways or
not at all, worktrees, a model without a price, a cost that a provider reported, odd times, a
deleted session, and Cursor billing lines. Only the standard library is needed to make it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.archives.builder import SqliteArchive

BEGIN = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)

#: Rates in dollars for a million tokens: input, output, cache write, cache read.
PRICES = {
    "orca-large-2": (3.0, 15.0, 3.75, 0.3),
    "orca-small-2": (0.8, 4.0, 1.0, 0.08),
    "tern-mini": (0.25, 1.25, 0.3, 0.025),
}


@dataclass(frozen=True)
class Project:
    """Where a project lives, and how its sessions there are known."""

    name: str
    path: str
    machine: str
    agent: str
    models: tuple[str, ...]
    branches: tuple[str, ...] = ("main",)


PROJECTS = (
    Project(
        "tidepool",
        "/home/ana/src/tidepool",
        "oak",
        "claude",
        ("orca-large-2", "orca-small-2"),
        ("main", "retry-budget"),
    ),
    Project("tidepool", "/srv/build/tidepool", "fir", "codex", ("orca-large-2", "tern-mini")),
    Project("kelp", "/home/ben/kelp", "elm", "claude", ("orca-small-2",), ("main", "docs")),
    Project("barnacle", "/home/cleo/barnacle", "elm", "codex", ("orca-large-2", "grebe-nano")),
    Project("driftwood", "/home/dora/drift/wood", "fir", "gemini", ("tern-mini",)),
    Project("flotsam", "", "fir", "gemini", ("tern-mini", "orca-small-2"), ("",)),
)


def stamp(moment: datetime) -> str:
    """A time as the program writes it: UTC, no trailing zeros in the fraction."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment.microsecond:06d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


class Storyteller:
    """Adds sessions one after the other, each with a plausible course."""

    def __init__(self, archive: SqliteArchive) -> None:
        self.archive = archive
        self.chance = random.Random(20260302)
        self.clock = BEGIN

    def session(self, place: Project, turns: int, **over: Any) -> str:
        """A session of so many turns, told until its end; gives its id."""
        self.clock += timedelta(hours=self.chance.randrange(3, 19), minutes=7, milliseconds=250)
        started = self.clock
        moments = list(self._moments(started, turns))
        session_id = self.archive.add_session(
            over.pop("id", self._new_id(place)),
            **{
                "project": place.name,
                "machine": place.machine,
                "agent": place.agent,
                "cwd": place.path,
                "git_branch": self.chance.choice(place.branches),
                "started_at": stamp(started),
                "ended_at": stamp(moments[-1]),
                "created_at": started.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                "message_count": 2 * turns,
                "user_message_count": turns,
                "total_output_tokens": 400 * turns,
                "has_total_output_tokens": True,
                "peak_context_tokens": 9000 + 1500 * turns,
                "has_peak_context_tokens": True,
                "outcome": self.chance.choice(("completed", "completed", "abandoned", "errored")),
                "health_grade": self.chance.choice(("A", "A", "B", "C", None)),
                "tool_failure_signal_count": self.chance.choice((0, 0, 0, 1, 4)),
                **over,
            },
        )
        self._tell(session_id, place, moments)
        return session_id

    def _new_id(self, project: Project) -> str:
        prefix = {"claude": "", "codex": "codex:", "gemini": "gemini:"}[project.agent]
        digits = f"{self.chance.getrandbits(64):016x}"
        return f"{prefix}{digits[:8]}-{digits[8:12]}-4{digits[13:]}"

    def _moments(self, started: datetime, turns: int) -> Iterator[datetime]:
        moment = started
        for _ in range(2 * turns):
            yield moment
            moment += timedelta(seconds=self.chance.randrange(9, 240), milliseconds=40)

    def _tell(self, session_id: str, project: Project, moments: Sequence[datetime]) -> None:
        for ordinal, moment in enumerate(moments):
            answer: dict[str, Any] = {}
            if ordinal % 2:
                answer = {
                    "model": self.chance.choice(project.models),
                    "token_usage": self._usage(ordinal),
                    "claude_message_id": f"msg_{session_id[-6:]}_{ordinal}",
                    "claude_request_id": f"req_{session_id[-6:]}_{ordinal}",
                }
            self.archive.add_message(session_id, ordinal=ordinal, timestamp=stamp(moment), **answer)

    def _usage(self, ordinal: int) -> dict[str, Any]:
        written = self.chance.choice((0, 0, 1200, 4800))
        return {
            "input_tokens": self.chance.randrange(40, 2600),
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": 3000 * ordinal,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": self.chance.randrange(20, 900),
            "service_tier": "standard",
        }


def sample_archive(path: str | Path) -> None:
    """Make the archive at ``path``, which must not exist yet."""
    with SqliteArchive(path) as archive:
        for model, rates in PRICES.items():
            archive.add_price(model, *rates)
        archive.add_price("_fallback_version", 0, 0, 0, 0, updated_at="litellm-0123456789ab")
        story = Storyteller(archive)
        _everyday(story)
        _families(story)
        _odd_ones(story)
        _evidence(archive)
        for day in (3, 4, 11, 18):
            archive.add_cursor_usage(occurred_at=f"2026-03-{day:02d}T12:00:00Z", charged_cents=day)


def _everyday(story: Storyteller) -> None:
    """Ordinary work, with automated checks and quick questions in between."""
    for round_ in range(4):
        for project in PROJECTS:
            story.session(project, turns=2 + (round_ + len(project.name)) % 4)
    for _ in range(2):
        story.session(PROJECTS[1], turns=1, is_automated=True)
        story.session(PROJECTS[2], turns=1)


def _families(story: Storyteller) -> None:
    """A session with helpers below it, one resumed the next day, one that forks."""
    tidepool, kelp = PROJECTS[0], PROJECTS[2]
    parent = story.session(tidepool, turns=5)
    for number in (1, 2):
        story.session(
            tidepool,
            turns=1,
            id=f"agent-{number}a2b3c4",
            parent_session_id=parent,
            relationship_type="subagent",
        )
    first = story.session(kelp, turns=3)
    again = {"parent_session_id": first, "relationship_type": "continuation"}
    story.session(kelp, turns=2, **again)
    fork = {"parent_session_id": first, "relationship_type": "fork"}
    story.session(kelp, turns=2, id=f"{first}-again", **fork)
    story.session(kelp, turns=2, parent_session_id="elsewhere", relationship_type="continuation")


def _odd_ones(story: Storyteller) -> None:
    """A reported cost, an unfinished run, times of an older release, and one that was deleted."""
    tidepool, kelp, barnacle = PROJECTS[0], PROJECTS[2], PROJECTS[3]
    reported = story.session(PROJECTS[1], turns=2)
    story.archive.add_event(
        reported,
        source="provider",
        model="tern-mini",
        input_tokens=2000,
        output_tokens=100,
        cost_usd=0.004,
        occurred_at=stamp(story.clock),
        dedup_key="invoice-1",
    )
    story.session(tidepool, turns=2, ended_at=None)
    story.session(kelp, turns=2, started_at="2026-03-04 10:00:00", ended_at="")
    story.session(
        barnacle,
        turns=2,
        started_at="2026-03-05T01:30:00+03:00",
        ended_at="2026-03-05T02:10:00.5+03:00",
    )
    story.session(barnacle, turns=2, cwd=f"{barnacle.path}/wt/docs/api", secret_leak_count=1)
    story.session(barnacle, turns=2, project="sketches", cwd="/home/cleo/sketches")
    story.session(kelp, turns=2, deleted_at="2026-03-20T00:00:00.000Z")


def _evidence(archive: SqliteArchive) -> None:
    """What is known of the projects: remotes, worktrees, a bare path, and a rule."""
    remote = {"git_remote": "https://git.example.net/ana/tidepool.git"}
    archive.add_observation("tidepool", root_path="/home/ana/src/tidepool", **remote)
    archive.add_observation(
        "tidepool",
        machine="fir",
        root_path="/srv/build/tidepool",
        git_remote="git@git.example.net:ana/tidepool.git",
    )
    # An older release kept the password of a remote; no export may show it.
    password = "-".join(("not", "a", "real", "password"))
    archive.add_observation(
        "kelp",
        machine="elm",
        root_path="/home/ben/kelp",
        git_remote=f"https://ben:{password}@git.example.net/ben/kelp.git",
    )
    archive.add_observation(
        "barnacle",
        machine="elm",
        root_path="/home/cleo/barnacle",
        worktree_name="barnacle",
        worktree_root_path="/home/cleo/barnacle",
    )
    archive.add_observation(
        "barnacle",
        machine="elm",
        root_path="/home/cleo/barnacle/wt/docs",
        worktree_name="docs",
        worktree_root_path="/home/cleo/barnacle",
    )
    for name in ("one", "two"):
        remote = {"git_remote": f"https://git.example.net/cleo/{name}.git"}
        archive.add_observation("sketches", machine="elm", root_path=f"/home/cleo/{name}", **remote)
    archive.add_mapping("/home/dora/drift", "driftwood", machine="fir")


def main() -> None:
    """Make the archive at the path given on the command line."""
    parser = argparse.ArgumentParser(description="Make a small agentsview archive to look at.")
    parser.add_argument("path", type=Path, help="the file to make, such as sessions.db")
    path = parser.parse_args().path
    if path.exists():
        parser.error(f"{path} exists already")
    sample_archive(path)


if __name__ == "__main__":
    main()
