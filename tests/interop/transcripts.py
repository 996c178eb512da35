"""Transcripts as the two most common agents write them, and the repositories they speak of.

``write_home`` lays out a home folder that agentsview reads as it is: Claude Code files under
``.claude/projects``, Codex files under ``.codex/sessions``. Everything is the same on each run
but the place of the folder, which the transcripts name as their working directory.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Line = dict[str, Any]
Usage = dict[str, Any]

START = datetime(2026, 3, 2, 8, 0, 0, 250_000, tzinfo=UTC)


def session_uuid(name: str) -> str:
    """A session id that is the same on each run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://sessions.example.net/{name}"))


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with three digits, as both agents write it."""
    return (
        moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    )


def usage(number: int) -> Usage:
    """A provider's usage object with the nested parts that a reader must step over."""
    written = 40 * (number % 5)
    return {
        "input_tokens": 90 + 7 * number,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": 1500 * number,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 20 + number,
        "service_tier": "standard",
        "server_tool_use": {"web_search_requests": 0},
    }


@dataclass
class ClaudeTranscript:
    """One Claude Code file: turns are added in time order, each pointing at the one before."""

    session: str
    cwd: str
    branch: str = "main"
    model: str = "claude-opus-4-6"
    clock: datetime = START
    agent: str = ""
    lines: list[Line] = field(default_factory=list)
    last: str | None = None

    def ask(self, text: str) -> str:
        """A person's turn; gives its id."""
        message = {"role": "user", "content": text}
        return self._add("user", {"userType": "external", "message": message})

    def answer(self, number: int, **over: Any) -> str:
        """A model's turn with usage and provider ids; ``over`` replaces parts of it."""
        model = over.pop("model", self.model)
        content = over.pop("content", [{"type": "text", "text": f"Answer {number}."}])
        message = {
            "id": over.pop("message_id", f"msg_{self.session[:8]}_{number}"),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "usage": over.pop("usage", usage(number)),
        }
        request = over.pop("request_id", f"req_{self.session[:8]}_{number}")
        return self._add("assistant", {"requestId": request, "message": message, **over})

    def result(self, tool_use: str, agent: str) -> str:
        """What a tool gave back; names the agent that ran below this session."""
        block = {"type": "tool_result", "tool_use_id": tool_use, "content": "done"}
        message = {"role": "user", "content": [block]}
        outcome = {"agentId": agent, "status": "completed"}
        return self._add("user", {"message": message, "toolUseResult": outcome})

    def talk(self, turns: int, first: int = 1) -> None:
        """Several rounds of question and answer."""
        for number in range(first, first + turns):
            self.ask(f"Please take step {number} of the retry budget and say what changed.")
            self.answer(number)

    def branch_off(self, at: str) -> None:
        """Continue from an earlier turn, as a person does who goes back and tries again."""
        self.last = at

    def copy_of(self, other: ClaudeTranscript) -> None:
        """Begin with all lines of another file under their old ids, as a resumed session does."""
        self.lines = [dict(line) for line in other.lines]
        self.last = other.last
        self.clock = other.clock

    def _add(self, kind: str, body: Line) -> str:
        name = f"{self.session[:8]}-{self.agent or 'main'}-{len(self.lines):04d}"
        self.clock += timedelta(seconds=31, milliseconds=7)
        line: Line = {
            "type": kind,
            "uuid": name,
            "parentUuid": self.last,
            "sessionId": self.session,
            "timestamp": stamp(self.clock),
            "cwd": self.cwd,
            "gitBranch": self.branch,
            "isSidechain": bool(self.agent),
            "version": "2.1.0",
            **({"agentId": self.agent} if self.agent else {}),
            **body,
        }
        self.lines.append(line)
        self.last = name
        return name


@dataclass
class CodexTranscript:
    """One Codex file: token counts come as running totals after each answer."""

    session: str
    cwd: str
    model: str = "gpt-5.2-codex"
    clock: datetime = START
    lines: list[Line] = field(default_factory=list)
    total: dict[str, int] = field(default_factory=dict)

    def begin(self, remote: str = "", branch: str = "main") -> None:
        """The opening lines that name folder, branch and model."""
        meta: Line = {
            "id": self.session,
            "timestamp": stamp(self.clock),
            "cwd": self.cwd,
            "originator": "codex_cli_rs",
            "cli_version": "0.90.0",
            "source": "cli",
            "git": {"branch": branch, "commit_hash": "0" * 40, "repository_url": remote},
        }
        self._add("session_meta", meta)
        self._add("turn_context", {"cwd": self.cwd, "model": self.model, "summary": "auto"})

    def talk(self, turns: int) -> None:
        """Several rounds of question and answer, each followed by a token count."""
        for number in range(1, turns + 1):
            self._say("user", "input_text", f"Step {number}, please.")
            self._say("assistant", "output_text", f"Step {number} is done.")
            self._count(number)

    def _say(self, role: str, kind: str, text: str) -> None:
        block = {"type": kind, "text": text}
        self._add("response_item", {"type": "message", "role": role, "content": [block]})

    def _count(self, number: int) -> None:
        last = {
            "input_tokens": 900 + 50 * number,
            "cached_input_tokens": 100 * number,
            "output_tokens": 30 + number,
            "reasoning_output_tokens": 5 * number,
        }
        last["total_tokens"] = last["input_tokens"] + last["output_tokens"]
        self.total = {key: self.total.get(key, 0) + value for key, value in last.items()}
        info = {"total_token_usage": self.total, "last_token_usage": last}
        self._add("event_msg", {"type": "token_count", "info": info})

    def _add(self, kind: str, payload: Line) -> None:
        self.clock += timedelta(seconds=13)
        self.lines.append({"timestamp": stamp(self.clock), "type": kind, "payload": payload})


@dataclass(frozen=True)
class Repository:
    """A git working copy made by hand: just what a reader of remotes and branches looks at."""

    root: Path
    remotes: dict[str, str]

    def write(self) -> None:
        """Make the folder and its ``.git``."""
        git = self.root / ".git"
        git.mkdir(parents=True, exist_ok=True)
        (self.root / "api").mkdir(exist_ok=True)
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        (git / "config").write_text("".join(self._config()))

    def _config(self) -> Iterator[str]:
        yield "[core]\n\tbare = false\n"
        for name, url in self.remotes.items():
            yield f'[remote "{name}"]\n\turl = {url}\n'
            yield f"\tfetch = +refs/heads/*:refs/remotes/{name}/*\n"

    def worktree(self, place: Path, name: str) -> None:
        """A linked working copy elsewhere that shares this repository's remotes."""
        entry = self.root / ".git" / "worktrees" / name
        entry.mkdir(parents=True)
        (entry / "commondir").write_text("../..\n")
        (entry / "HEAD").write_text(f"ref: refs/heads/{name}\n")
        place.mkdir(parents=True)
        (place / ".git").write_text(f"gitdir: {entry}\n")


def repositories(home: Path) -> dict[str, Repository]:
    """The working copies the transcripts speak of, written to disk under ``home/src``."""
    credential = "x-access" + "-key:" + "abc" * 4
    found = {
        "tidepool": {"origin": "git@git.example.net:ana/tidepool.git"},
        "kelp": {
            "upstream": "https://git.example.net/kelp/kelp.git",
            "mirror": f"https://{credential}@mirror.example.net/kelp.git",
        },
        "barnacle": {},
    }
    made = {name: Repository(home / "src" / name, remotes) for name, remotes in found.items()}
    for repository in made.values():
        repository.write()
    made["tidepool"].worktree(home / "src" / "tidepool-retry", "retry")
    return made


def write_home(home: Path) -> None:
    """Fill a home folder with transcripts of every shape listed in ``claude_files``."""
    src = home / "src"
    repositories(home)
    for path, lines in (*claude_files(src), *codex_files(src)):
        place = home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(json.dumps(line) + "\n" for line in lines))


def claude_files(src: Path) -> Iterator[tuple[str, Iterable[Line]]]:
    """Plain, one-shot, resumed, forked and delegating sessions, and answers told twice."""
    plain = ClaudeTranscript(session_uuid("plain"), str(src / "tidepool" / "api"))
    plain.talk(3)
    yield _claude_path(plain), plain.lines

    resumed = ClaudeTranscript(session_uuid("resumed"), plain.cwd)
    resumed.copy_of(plain)
    resumed.clock += timedelta(days=1)
    resumed.talk(2, first=11)
    yield _claude_path(resumed), resumed.lines

    yield from _delegating(src / "kelp")
    yield from _forked(src / "tidepool-retry")

    once = ClaudeTranscript(session_uuid("once"), str(src / "barnacle"), branch="")
    once.talk(1)
    yield _claude_path(once), once.lines

    twice = ClaudeTranscript(session_uuid("twice"), str(src / "barnacle"), model="grebe-nano")
    twice.talk(2)
    twice.answer(2, usage=usage(9))
    twice.ask("And once more.")
    twice.answer(3, model="<synthetic>")
    twice.answer(4, usage={"input_tokens": 5, "output_tokens": 6}, model="claude-haiku-4-5")
    yield _claude_path(twice), twice.lines


def _delegating(cwd: Path) -> Iterator[tuple[str, Iterable[Line]]]:
    parent = ClaudeTranscript(session_uuid("delegating"), str(cwd), clock=START + timedelta(days=2))
    parent.ask("Have somebody look through the tests.")
    call = {"type": "tool_use", "id": "toolu_1", "name": "Task", "input": {"prompt": "look"}}
    parent.answer(1, content=[call])
    parent.result("toolu_1", "a1b2c3")
    parent.talk(2, first=2)
    yield _claude_path(parent), parent.lines

    child = ClaudeTranscript(
        parent.session, str(cwd), model="claude-haiku-4-5", clock=parent.clock, agent="a1b2c3"
    )
    child.talk(2)
    yield f"{_claude_path(parent)[:-6]}/subagents/agent-a1b2c3.jsonl", child.lines


def _forked(cwd: Path) -> Iterator[tuple[str, Iterable[Line]]]:
    forked = ClaudeTranscript(session_uuid("forked"), str(cwd), branch="retry")
    forked.clock += timedelta(days=3)
    forked.talk(1)
    there = forked.last or ""
    forked.talk(5, first=2)
    forked.branch_off(there)
    forked.talk(5, first=20)
    yield _claude_path(forked), forked.lines


def codex_files(src: Path) -> Iterator[tuple[str, Iterable[Line]]]:
    """Two Codex sessions, one in a working copy with a remote and one nowhere in particular."""
    for name, cwd, remote in (
        ("codex-here", str(src / "tidepool"), "https://git.example.net/ana/tidepool.git"),
        ("codex-elsewhere", "/nowhere/loose", ""),
    ):
        transcript = CodexTranscript(session_uuid(name), cwd, clock=START + timedelta(days=4))
        transcript.begin(remote)
        transcript.talk(3)
        day = transcript.clock.strftime("%Y/%m/%d")
        moment = transcript.clock.strftime("%Y-%m-%dT%H-%M-%S")
        path = f".codex/sessions/{day}/rollout-{moment}-{transcript.session}.jsonl"
        yield path, transcript.lines


def _claude_path(transcript: ClaudeTranscript) -> str:
    slug = transcript.cwd.replace("/", "-").replace(".", "-")
    return f".claude/projects/{slug}/{transcript.session}.jsonl"
