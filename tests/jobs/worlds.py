"""The same rows in database after database, and what may be compared of them after a run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg

from exporter.artifacts import logs, store
from exporter.artifacts.objects import Objects
from exporter.core.intake import row_uuid
from exporter.jobs.job import Job
from exporter.jobs.remote_scrub import QUERIES, RemoteScrub
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_NAME,
    OVERVIEW_NAME,
    SNAPSHOT,
    Part,
    build,
    snapshot,
)
from tests.jobs.plans import COLUMNS, without_guard
from tests.jobs.test_remote_scrub import OBSERVATIONS

Connection = psycopg.Connection[Any]
OVERVIEW = SNAPSHOT[2]
#: Tables, and every row of each that a run may change.
State = dict[str, list[tuple[Any, ...]]]


def _rows(conn: Connection, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(_comparable(value) for value in row) for row in conn.execute(statement.encode())]


def _comparable(value: Any) -> Any:
    """JSON as text, but for the time at which it was written."""
    if not isinstance(value, dict):
        return value
    return json.dumps({k: v for k, v in value.items() if k != "created_at"}, sort_keys=True)


class World:
    """One job, the rows it has to do, and what of them two runs must agree on."""

    name: str
    make_job: Callable[[], Job]
    #: Slow enough for something to happen before the end, as an option of the command.
    slowly: tuple[str, ...]

    def fill(self, conn: Connection, times: int = 1) -> None:
        """Put the rows in, `times` over."""
        raise NotImplementedError

    def state(self, conn: Connection) -> State:
        """All that a run may change, in an order that does not depend on the run."""
        raise NotImplementedError

    def check(self, conn: Connection, objects: Objects | None = None) -> None:
        """What holds after any run, however it went."""
        open_leases = conn.execute("SELECT count(*) FROM job_items WHERE status = 'leased'")
        assert open_leases.fetchone() == (0,)
        waiting = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%%' AND pid <> pg_backend_pid()"
        )
        assert waiting.fetchone() == (0,)


class Snapshots(World):
    """Plans with snapshots of every kind. All failed, so that their owner may retry them."""

    name = "snapshots"
    make_job = SnapshotSplit
    slowly = ("--max-rows-per-second", "8")

    def kinds(self) -> list[bytes | None]:
        noise = random.Random(5).randbytes(40_000).hex().encode()
        lossy = Part(LOG_NAME, b'{"a": "\xff\x00"}\n' * 3)
        array = Part(OVERVIEW_NAME, b"[1, 2]")
        return [
            snapshot(), build(*CLEAN), b"hello", snapshot(Part(b"../x", b"y")),
            snapshot(Part(b"sub/" + LOG_NAME, b"deep")), snapshot()[:-30],
            build(SNAPSHOT[0], lossy, OVERVIEW), build(SNAPSHOT[1], array), None, b"",
            build(Part(LOG_NAME, noise), OVERVIEW, SNAPSHOT[3]), build(),
        ]  # fmt: skip

    def fill(self, conn: Connection, times: int = 1) -> None:
        rows = [(UUID(int=n + 1), data) for n, data in enumerate(self.kinds() * times)]
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO task_item (id, state, prompt, run_zip_snapshot,"
                " generated_report_html) VALUES (%s, 'failed', 'p', %s, '<html>')",
                rows,
            )

    def state(self, conn: Connection) -> State:
        return {
            "plans": _rows(conn, f"SELECT id, state, {', '.join(COLUMNS)} FROM task_item"
                           " ORDER BY id"),
            "originals": _rows(conn, "SELECT plan_id, generation, kind, member_path, sha256,"
                               " byte_length, sha256(body) = sha256, ref FROM artifact_originals"
                               " ORDER BY 1, 2, 3, 4, 5"),
            "items": _rows(conn, "SELECT item, generation, status, outcome, reason, notes, facts,"
                           " source_bytes, source_sha256, result_bytes, result_sha256"
                           " FROM job_items ORDER BY 1, 2"),
            "jobs": _rows(conn, "SELECT job, state FROM jobs ORDER BY 1"),
        }  # fmt: skip

    def check(self, conn: Connection, objects: Objects | None = None) -> None:
        super().check(conn)
        twice = conn.execute(
            "SELECT plan_id, kind, member_path FROM artifact_originals"
            " GROUP BY plan_id, kind, member_path, sha256 HAVING count(*) > 1"
        )
        assert twice.fetchall() == []
        for number, plan in conn.execute("SELECT original_id, plan_id FROM artifact_originals"):
            assert logs.original(conn, number, objects, plan) is not None
        assert store.verify(conn, objects=objects)[1] == []


class Remotes(World):
    """Observations of agentsview's and of our own, most of them with a user or a password."""

    name = "remotes"
    make_job = RemoteScrub
    slowly = ("--max-rows-per-second", "100")
    tables = (
        "project_identity_observations", "source_project_identity_observations",
        "source_project_identity_observation_scopes", "source_session_project_identity_snapshots",
    )  # fmt: skip

    def fill(self, conn: Connection, times: int = 1) -> None:
        for statement in OBSERVATIONS.split(";"):
            if statement.strip():
                conn.execute(statement.encode())
        remotes = list(map(_remote, range(110 * times)))
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO theirs.project_identity_observations (project, machine, root_path,"
                " git_remote, observed_at) VALUES ('loom', 'desk', %s, %s, %s)",
                [(f"/{n // 2}", remote, f"2026-01-{n % 27 + 1:02}")
                 for n, remote in enumerate(remotes)],
            )  # fmt: skip
            few = [(f"/{n // 2}", remote) for n, remote in enumerate(remotes[:30])]
            cursor.executemany(
                "INSERT INTO theirs.source_project_identity_observations (project, machine,"
                " root_path, git_remote, observed_at) VALUES ('p', 'm', %s, %s, '2026-01-01')",
                few,
            )
            cursor.executemany(
                "INSERT INTO theirs.source_project_identity_observation_scopes"
                " VALUES ('', 'p', 'm', %s, %s, 'team')",
                few,
            )
            cursor.executemany(
                "INSERT INTO theirs.source_session_project_identity_snapshots"
                " (source_session_id, project, machine, git_remote) VALUES (%s, 'p', 'm', %s)",
                [(f"s{n}", remote) for n, (_, remote) in enumerate(few)],
            )
        fill_own(conn, remotes[:40])

    def state(self, conn: Connection) -> State:
        found = {name: _rows(conn, f"SELECT * FROM theirs.{name} ORDER BY 1, 2, 3, 4, 5")
                 for name in self.tables}  # fmt: skip
        found["ours"] = _rows(
            conn,
            "SELECT project, machine, root_path, git_remote, observation_key, key, key_source,"
            " normalized_remote, is_redacted FROM project_observations ORDER BY 1, 2, 3, 4, 5",
        )
        # Rows are named by a digest of the key they had when they were found.
        found["reports"] = sorted(
            _rows(conn, "SELECT reason, facts FROM job_items WHERE job = 'remotes'")
        )
        found["jobs"] = _rows(conn, "SELECT job, state FROM jobs ORDER BY 1")
        return found

    def check(self, conn: Connection, objects: Objects | None = None) -> None:
        super().check(conn)
        job = RemoteScrub()
        assert job.remaining(conn) == 0
        statement = b"SELECT count(*) FROM project_observations WHERE git_remote <> '' AND ("
        dirty, suspect = QUERIES["dirty"].as_bytes(conn), QUERIES["suspect"].as_bytes(conn)
        both = conn.execute(statement + dirty + b" OR " + suspect + b")", {})
        assert both.fetchone() == (0,)


def _remote(number: int) -> str:
    """Clean, with a user, with a user and a password, or with what only may be a secret."""
    user = ("", "git@", "u:" + "gh" + "p_" + "Zq9" * 12 + "@")[number % 3]
    odd = ";" if number % 10 == 0 else ""
    return f"https://{user}git.brook.example/kite/loom{number // 2}{odd}"


def fill_own(conn: Connection, remotes: list[str]) -> None:
    """Put remotes into our own table as they are, as no import of today does."""
    conn.execute(
        "INSERT INTO sources (kind, archive_id, location) VALUES ('agentsview-sqlite', 'a', '')"
    )
    with without_guard(conn), conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO project_observations (source_id, observation_key, project, machine,"
            " root_path, git_remote, git_remote_name, worktree_name, worktree_root_path,"
            " observed_at_text) SELECT source_id, %s, 'p', 'm', %s, %s, '', '', '', ''"
            " FROM sources",
            [(row_uuid(remote), f"/{n}", remote) for n, remote in enumerate(remotes)],
        )


WORLDS: dict[str, World] = {"snapshots": Snapshots(), "remotes": Remotes()}
