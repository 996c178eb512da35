"""Large agentsview archives with realistic shapes, made fast and the same for the same seed.

    python -m benchmarks.archives PATH --sessions 5000 --messages 20

Half of a session's messages are answers with a provider's usage object, and a message has about
200 bytes of text. A session uses 2.4 models on average, which makes an export line of about 1,500
bytes. One session in ten is a helper below another, some are automated, one-shot, resumed or
deleted, and projects are known by remotes, paths and worktrees. Only the standard library is
needed.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from tests.archives.builder import DATABASE_ID, STAMP, layout

#: Rates in dollars for a million tokens: input, output, cache write, cache read. The last two
#: models have none.
MODELS: dict[str, tuple[float, float, float, float] | None] = {
    "orca-large-2": (3.0, 15.0, 3.75, 0.3),
    "orca-large-2-20260201": (5.0, 25.0, 6.25, 0.5),
    "orca-small-2": (0.8, 4.0, 1.0, 0.08),
    "orca-nano-2": (0.1, 0.4, 0.125, 0.01),
    "tern-5.2-codex": (1.75, 14.0, 0.0, 0.175),
    "tern-5.2-codex-mini": (0.25, 2.0, 0.0, 0.025),
    "skua-3-pro-preview": (2.0, 12.0, 0.0, 0.2),
    "skua-3-flash": (0.3, 2.5, 0.0, 0.03),
    "petrel-coder-480b": None,
    "grebe-local": None,
}

#: How many models a session uses, and how often: 2.4 on average.
MODEL_COUNTS = (1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 2, 3, 2, 3, 1, 2, 3, 4, 2)

MACHINES = ("workstation-ana", "workstation-ben", "laptop-cleo", "build-7", "build-12")
AGENTS = ("claude", "claude", "claude", "codex", "codex", "gemini")
BRANCHES = ("main", "feature/retry-budget", "fix/cursor-reset-on-late-rows")
OUTCOMES = ("completed", "completed", "abandoned", "errored", "unknown")
GRADES = ("A", "B", "C", None)
PROJECTS = tuple(
    f"{word}-{part}"
    for word in ("tidepool", "kelp", "barnacle", "driftwood", "flotsam", "lighthouse", "breakwater")
    for part in ("api", "web", "jobs", "docs", "infra")
)
FIRST_DAY = date(2025, 9, 1)
DAYS = 180
CHUNK_ROWS = 50_000

SESSION_COLUMNS = (
    "id, project, machine, agent, cwd, git_branch, first_message, started_at, ended_at, "
    "created_at, message_count, user_message_count, parent_session_id, relationship_type, "
    "is_automated, deleted_at, total_output_tokens, peak_context_tokens, "
    "has_total_output_tokens, has_peak_context_tokens, outcome, health_grade, "
    "tool_failure_signal_count, data_version"
)
MESSAGE_COLUMNS = (
    "session_id, ordinal, role, content, content_length, timestamp, model, token_usage, "
    "claude_message_id, claude_request_id, source_uuid"
)
EVENT_COLUMNS = (
    "session_id, source, model, input_tokens, output_tokens, cost_usd, occurred_at, dedup_key"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A session before it is written: what its row and its messages need to know."""

    id: str
    number: int
    project: str
    machine: str
    agent: str
    day: str
    #: Second of the day at which it starts.
    start: int
    messages: int
    models: tuple[str, ...]
    parent: str | None
    relationship: str

    def moment(self, ordinal: int, fraction: str = "") -> str:
        """The time of a message, never on the next day."""
        return f"{self.day}T{CLOCK[min(self.start + STEP_SECONDS * ordinal, 86_399)]}{fraction}Z"


def big_archive(
    path: str | Path, sessions: int, messages_per_session: int, seed: int = 1, days: int = DAYS
) -> None:
    """Fill the archive at ``path`` with so many sessions of so many messages each.

    They begin on any of so many days from `FIRST_DAY` on.
    A missing file is made with the layout of release 0.37.1. An archive that the program made
    keeps its own tables and indexes; its search index is left behind what is added here.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        _prepare(db)
        indexes = _take_indexes(db)
        db.execute("BEGIN")
        _facts(db)
        chance = random.Random(seed)
        plans = list(_plans(chance, sessions, messages_per_session, days))
        _insert(db, "sessions", SESSION_COLUMNS, map(_session, plans))
        _insert(db, "messages", MESSAGE_COLUMNS, _messages(chance, plans))
        _insert(db, "usage_events", EVENT_COLUMNS, _events(plans))
        for statement in indexes:
            db.execute(statement)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")


def _prepare(db: sqlite3.Connection) -> None:
    for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000"):
        db.execute(f"PRAGMA {setting}")
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sessions'").fetchone():
        db.executescript(layout("0.37.1"))
        metadata = ("database_id", DATABASE_ID, STAMP, STAMP)
        db.execute("INSERT INTO archive_metadata VALUES (?, ?, ?, ?)", metadata)
    triggers = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in triggers:
        db.execute(f"DROP TRIGGER {name}")


def _take_indexes(db: sqlite3.Connection) -> list[str]:
    """Drop what can be built faster at the end; gives the statements that build it."""
    query = (
        "SELECT name, sql FROM sqlite_master "
        "WHERE type = 'index' AND sql NOT LIKE 'CREATE UNIQUE%' ORDER BY name"
    )
    taken = db.execute(query).fetchall()
    for name, _ in taken:
        db.execute(f"DROP INDEX {name}")
    return [statement for _, statement in taken]


def _insert(
    db: sqlite3.Connection, table: str, columns: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    marks = ", ".join("?" * (columns.count(",") + 1))
    statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
    source = iter(rows)
    while chunk := list(islice(source, CHUNK_ROWS)):
        db.executemany(statement, chunk)


def _facts(db: sqlite3.Connection) -> None:
    """Prices and what is known of the projects."""
    for model, rates in MODELS.items():
        if rates:
            row = (model, *rates, "2026-02-10T06:30:00.250Z")
            db.execute("INSERT INTO model_pricing VALUES (?, ?, ?, ?, ?, ?)", row)
    columns = "project, machine, root_path, git_remote, worktree_name, worktree_root_path"
    _insert(
        db,
        "project_identity_observations",
        f"{columns}, observed_at",
        (
            (project, machine, *_place(number), STAMP)
            for number, project in enumerate(PROJECTS)
            for machine in MACHINES
        ),
    )


def _place(number: int) -> tuple[str, str, str, str]:
    root = f"/home/dev/src/{PROJECTS[number]}"
    if number % 4:
        return root, f"https://git.example.net/team/{PROJECTS[number]}.git", "", ""
    return root, "", root.rpartition("/")[2], root


def _plans(chance: random.Random, sessions: int, messages: int, days: int) -> Iterator[Plan]:
    """The sessions in order of their ids, children after parents that exist."""
    roots: list[str] = []
    for number in range(sessions):
        session_id = _session_id(chance, number)
        parent, kind = None, ""
        if roots and number % 10 == 0:
            parent = chance.choice(roots)
            kind = chance.choice(("subagent", "subagent", "continuation", "fork"))
        else:
            roots.append(session_id)
        yield Plan(
            id=session_id,
            number=number,
            project=chance.choice(PROJECTS),
            machine=chance.choice(MACHINES),
            agent=chance.choice(AGENTS),
            day=(FIRST_DAY + timedelta(days=chance.randrange(days))).isoformat(),
            start=chance.randrange(60_000),
            messages=messages,
            models=tuple(chance.sample(list(MODELS), chance.choice(MODEL_COUNTS))),
            parent=parent,
            relationship=kind,
        )


def _session_id(chance: random.Random, number: int) -> str:
    bits = chance.getrandbits
    return f"{number:08x}-{bits(16):04x}-4{bits(12):03x}-8{bits(12):03x}-{bits(48):012x}"


def _session(plan: Plan) -> tuple[Any, ...]:
    """The row of a session, in the order of ``SESSION_COLUMNS``."""
    number = plan.number
    return (
        plan.id,
        plan.project,
        plan.machine,
        plan.agent,
        f"/home/dev/src/{plan.project}/services/main",
        BRANCHES[number % 3],
        CONTENTS[number % 64],
        plan.moment(0, ".25"),
        plan.moment(plan.messages - 1, ".75"),
        plan.moment(0, ".000"),
        plan.messages,
        1 if number % 8 == 3 else plan.messages // 2,
        plan.parent,
        plan.relationship,
        int(number % 12 == 5),
        plan.moment(plan.messages, ".000") if number % 97 == 50 else None,
        400 * plan.messages,
        24_000 + number % 100_000,
        1,
        1,
        OUTCOMES[number % 5],
        GRADES[number % 4],
        number % 7 // 5,
        59,
    )


#: The text of every second of a day, and of words, so that rows need not be put together.
CLOCK = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(86_400)]
STEP_SECONDS = 13
WORDS = ("retry", "budget", "queue", "drains", "before", "spent", "service", "look", "at", "the")
CONTENTS = [" ".join(random.Random(n).choices(WORDS, k=36)) for n in range(64)]


def _usages() -> list[str]:
    """Usage objects as a provider sends them, with parts a reader must step over."""
    chance = random.Random(0)
    return [json.dumps(_usage(chance), separators=(",", ":")) for _ in range(2_000)]


def _usage(chance: random.Random) -> dict[str, Any]:
    written = chance.choice((0, 0, 350, 4_800, 12_000))
    return {
        "input_tokens": chance.randrange(3, 2_500),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": chance.randrange(150_000),
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": chance.randrange(5, 3_000),
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


def _messages(chance: random.Random, plans: Iterable[Plan]) -> Iterator[tuple[Any, ...]]:
    usages = _usages()
    pick = chance.random
    for plan in plans:
        head, models = plan.id[:8], plan.models
        claude = plan.agent == "claude"
        for ordinal in range(plan.messages):
            stamp = plan.moment(ordinal, f".{ordinal % 9 + 1}")
            content = CONTENTS[(ordinal * 7 + plan.number) % 64]
            told = (plan.id, ordinal, "assistant", content, len(content), stamp)
            name = f"{head}-{ordinal}"
            if ordinal % 2 == 0:
                yield (*told[:2], "user", *told[3:], "", "", "", "", name)
                continue
            model = models[ordinal // 2 % len(models)]
            ids = (f"msg_{name}", f"req_{name}") if claude else ("", "")
            yield (*told, model, usages[int(pick() * 2_000)], *ids, name)


def _events(plans: list[Plan]) -> Iterator[tuple[Any, ...]]:
    """A reported cost for one session in forty."""
    for plan in plans[::40]:
        key = f"session:{plan.id}"
        yield plan.id, "session", plan.models[0], 2_000, 100, 0.0125, plan.moment(0), key


def main() -> None:
    """Make an archive and say on standard output how long it took."""
    parser = argparse.ArgumentParser(description="Make a large agentsview archive.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--sessions", type=int, default=5_000)
    parser.add_argument("--messages", type=int, default=20, help="messages in each session")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=DAYS, help="days that they begin on")
    options = parser.parse_args()
    begun = time.perf_counter()
    big_archive(options.path, options.sessions, options.messages, options.seed, options.days)
    seconds = time.perf_counter() - begun
    messages = options.sessions * options.messages
    print(json.dumps({"messages": messages, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
