"""Plans with snapshots, a run of the backfill over them, and what is left afterwards."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import psycopg

from exporter.db.connect import connect
from exporter.jobs.job import Job, Tally
from exporter.jobs.runner import Options, Summary, run
from exporter.jobs.snapshot_split import SnapshotSplit
from exporter.settings import Settings

COLUMNS = (
    "run_zip_snapshot", "run_track_activity_jsonl", "run_track_activity_bytes",
    "run_track_activity_encoding", "run_track_activity_ref", "run_activity_overview_json",
    "run_artifact_layout_version", "run_generation",
)  # fmt: skip


@contextmanager
def without_guard(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Let into the archive what the guard of its remotes keeps out, as before there was one."""
    name = "project_observations_clean"
    row = conn.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", [name]
    ).fetchone()
    assert row is not None
    condition = row[0].removesuffix(" NOT VALID")
    conn.execute(f"ALTER TABLE project_observations DROP CONSTRAINT {name}".encode())
    yield
    statement = f"ALTER TABLE project_observations ADD CONSTRAINT {name} {condition} NOT VALID"
    conn.execute(statement.encode())


class Recorder:
    """A receiver that keeps what it was told."""

    def __init__(self) -> None:
        self.total = 0
        self.tally = Tally()
        self.reasons: list[str] = []

    def begin(self, job: str, total: int) -> None:
        self.total = total

    def done(self, tally: Tally) -> None:
        self.tally += tally

    def waiting(self, reason: str) -> None:
        self.reasons.append(reason)


class Plans:
    """The plan table of one database; plan N has the id N."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.opener = partial(connect, settings)
        self._numbers = itertools.count(1)

    @contextmanager
    def opened(self) -> Iterator[psycopg.Connection[Any]]:
        with self.opener() as conn:
            yield conn

    def add(self, snapshot: bytes | None, state: str = "completed", **values: Any) -> UUID:
        plan = UUID(int=next(self._numbers))
        with self.opened() as conn:
            conn.execute(
                "INSERT INTO task_item (id, state, prompt, run_zip_snapshot, generated_report_html)"
                " VALUES (%s, %s, 'p', %s, '<html>')",
                [plan, state, snapshot],
            )
            for name, value in values.items():
                self.set(plan, name, value)
        return plan

    def set(self, plan: UUID, name: str, value: Any) -> None:
        assert name.isidentifier()
        with self.opened() as conn:
            conn.execute(f"UPDATE task_item SET {name} = %s WHERE id = %s".encode(), [value, plan])

    def row(self, plan: UUID) -> dict[str, Any]:
        with self.opened() as conn:
            statement = f"SELECT {', '.join(COLUMNS)} FROM task_item WHERE id = %s".encode()
            found = conn.execute(statement, [plan]).fetchone()
        assert found is not None
        return dict(zip(COLUMNS, found, strict=True))

    def all(self) -> list[tuple[Any, ...]]:
        """Everything that a run may change, to compare two ends with one another."""
        with self.opened() as conn:
            names = ", ".join(COLUMNS)
            rows = conn.execute(f"SELECT id, {names} FROM task_item ORDER BY id".encode())
            originals = conn.execute(
                "SELECT plan_id, generation, kind, member_path, sha256, body"
                " FROM artifact_originals ORDER BY 1, 2, 3, 4, 5"
            )
            return [
                tuple(json.dumps(v) if isinstance(v, dict) else v for v in row) for row in rows
            ] + originals.fetchall()

    def originals(self, plan: UUID) -> list[tuple[str, str, bytes]]:
        query = (
            "SELECT kind, member_path, body FROM artifact_originals WHERE plan_id = %s"
            " ORDER BY kind, member_path, body"
        )
        with self.opened() as conn:
            return conn.execute(query, [plan]).fetchall()

    def item(self, plan: UUID) -> tuple[str, str | None, str | None, list[str]]:
        query = (
            "SELECT status, outcome, reason, notes FROM job_items WHERE item = %s"
            " ORDER BY generation DESC LIMIT 1"
        )
        with self.opened() as conn:
            found = conn.execute(query, [str(plan)]).fetchone()
        assert found is not None
        return found[0], found[1], found[2], found[3]

    def run(self, job: Job | None = None, **options: Any) -> Summary:
        self.recorder = Recorder()
        return run(job or SnapshotSplit(), self.opener, Options(**options), self.recorder)
