"""The remotes backfill: no credential left, nothing else touched, nothing of a value shown."""

from __future__ import annotations

import json
import os
import random
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.core.intake import row_uuid
from exporter.core.remotes import is_dirty, is_suspect, may_hold_credential, storage_form
from exporter.errors import BadInput
from exporter.jobs import ledger, remote_scrub, runner
from exporter.jobs.remote_scrub import QUERIES, RemoteScrub
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import snapshot
from tests.jobs.plans import Plans, without_guard

GOLDEN = Path(__file__).parents[2] / "golden" / "identity" / "repair.json"

OBSERVATIONS = """
CREATE SCHEMA theirs;
CREATE TABLE theirs.project_identity_observations (
    project text NOT NULL, machine text NOT NULL, root_path text NOT NULL DEFAULT '',
    git_remote text NOT NULL DEFAULT '', git_remote_name text NOT NULL DEFAULT '',
    worktree_name text NOT NULL DEFAULT '', worktree_root_path text NOT NULL DEFAULT '',
    observed_at timestamptz NOT NULL, normalized_remote text NOT NULL DEFAULT '',
    key_source text NOT NULL DEFAULT '', key text NOT NULL DEFAULT '',
    PRIMARY KEY (project, machine, root_path, git_remote)
);
CREATE TABLE theirs.source_project_identity_observations (
    source_archive_id text NOT NULL DEFAULT '', project text NOT NULL, machine text NOT NULL,
    root_path text NOT NULL DEFAULT '', git_remote text NOT NULL DEFAULT '',
    worktree_root_path text NOT NULL DEFAULT '', git_branch text NOT NULL DEFAULT '',
    observed_at timestamptz NOT NULL, normalized_remote text NOT NULL DEFAULT '',
    key_source text NOT NULL DEFAULT '', key text NOT NULL DEFAULT '',
    PRIMARY KEY (source_archive_id, project, machine, root_path, git_remote)
);
CREATE TABLE theirs.source_project_identity_observation_scopes (
    source_archive_id text NOT NULL, project text NOT NULL, machine text NOT NULL,
    root_path text NOT NULL DEFAULT '', git_remote text NOT NULL DEFAULT '',
    publication_scope text NOT NULL,
    PRIMARY KEY (source_archive_id, project, machine, root_path, git_remote, publication_scope),
    FOREIGN KEY (source_archive_id, project, machine, root_path, git_remote)
        REFERENCES theirs.source_project_identity_observations ON DELETE CASCADE
);
CREATE TABLE theirs.source_session_project_identity_snapshots (
    source_session_id text PRIMARY KEY, project text NOT NULL, machine text NOT NULL,
    root_path text NOT NULL DEFAULT '', git_remote text NOT NULL DEFAULT '',
    worktree_root_path text NOT NULL DEFAULT '', normalized_remote text NOT NULL DEFAULT '',
    key_source text NOT NULL DEFAULT '', key text NOT NULL DEFAULT ''
);
"""
HOST = "git.brook.example/kite/loom"


def secret() -> str:
    return "gh" + "p_" + "Zq9" * 12


@pytest.fixture
def theirs(plans: Plans) -> Plans:
    """A database with another program's tables beside ours."""
    with plans.opened() as conn:
        for statement in OBSERVATIONS.split(";"):
            if statement.strip():
                conn.execute(statement.encode())
    return plans


def add(plans: Plans, remote: str, at: str = "2026-01-01", **values: str) -> None:
    row = {
        "project": "loom", "machine": "desk", "root_path": "/src/loom", "git_remote": remote,
        "observed_at": at, **values,
    }  # fmt: skip
    names = ", ".join(row)
    holes = ", ".join(f"%({name})s" for name in row)
    with plans.opened() as conn:
        statement = f"INSERT INTO theirs.project_identity_observations ({names}) VALUES ({holes})"
        conn.execute(statement.encode(), row)


def remotes(plans: Plans, table: str = "project_identity_observations") -> list[str]:
    with plans.opened() as conn:
        statement = f"SELECT git_remote FROM theirs.{table} ORDER BY 1".encode()
        return [row[0] for row in conn.execute(statement)]


def everything_written(plans: Plans) -> str:
    """All that the toolkit's own tables hold of a run, as text."""
    with plans.opened() as conn:
        parts = [
            str(conn.execute(f"SELECT * FROM {table}".encode()).fetchall())
            for table in ("job_items", "job_runs", "jobs", "job_leases")
        ]
    return "\n".join(parts)


# --- Rewriting ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()), ids=lambda case: case["id"])
def test_rows_become_what_the_rules_say(theirs: Plans, case: dict[str, Any]) -> None:
    for row in case["rows_before"]:
        add(theirs, row["git_remote"], **{k: v for k, v in row.items() if k != "git_remote"})
    theirs.run(RemoteScrub())
    expected = sorted(row["git_remote"] for row in case["rows_after"])
    assert remotes(theirs) == expected
    rewritten = {row["git_remote"]: row for row in case["rows_after"]}
    with theirs.opened() as conn:
        found = conn.execute(
            "SELECT git_remote, git_remote_name, key, key_source, normalized_remote"
            " FROM theirs.project_identity_observations"
        ).fetchall()
    for remote, *values in found:
        row = rewritten[remote]
        names = ("git_remote_name", "key", "key_source", "normalized_remote")
        assert values == [row[name] for name in names]


@pytest.mark.parametrize(
    ("dirty_at", "kept"), [("2026-01-01", "old"), ("2026-02-01", "new"), ("2026-03-01", "new")]
)
def test_of_two_rows_that_become_one_the_later_stays(
    theirs: Plans, dirty_at: str, kept: str
) -> None:
    add(theirs, f"https://{HOST}", "2026-02-01", git_remote_name="old")
    add(theirs, f"https://me:{secret()}@{HOST}", dirty_at, git_remote_name="new")
    theirs.run(RemoteScrub())
    with theirs.opened() as conn:
        rows = conn.execute(
            "SELECT git_remote, git_remote_name FROM theirs.project_identity_observations"
        ).fetchall()
    assert rows == [(f"https://{HOST}", kept)]


def test_scopes_go_with_their_observation(theirs: Plans) -> None:
    dirty, clean = f"https://me:{secret()}@{HOST}", f"https://{HOST}"
    with theirs.opened() as conn:
        for remote, at, scopes in ((dirty, "2026-02-01", "ab"), (clean, "2026-01-01", "bc")):
            conn.execute(
                "INSERT INTO theirs.source_project_identity_observations"
                " (project, machine, root_path, git_remote, git_branch, observed_at)"
                " VALUES ('p', 'm', '/r', %s, %s, %s)",
                [remote, scopes, at],
            )
            for scope in scopes:
                conn.execute(
                    "INSERT INTO theirs.source_project_identity_observation_scopes"
                    " VALUES ('', 'p', 'm', '/r', %s, %s)",
                    [remote, scope],
                )
        conn.execute(
            "INSERT INTO theirs.source_session_project_identity_snapshots"
            " (source_session_id, project, machine, root_path, git_remote)"
            " VALUES ('s', 'p', 'm', '/r', %s)",
            [dirty],
        )
    theirs.run(RemoteScrub())
    assert remotes(theirs, "source_project_identity_observations") == [clean]
    assert remotes(theirs, "source_session_project_identity_snapshots") == [clean]
    with theirs.opened() as conn:
        rows = conn.execute(
            "SELECT git_remote, publication_scope, git_branch"
            " FROM theirs.source_project_identity_observation_scopes"
            " JOIN theirs.source_project_identity_observations USING (git_remote) ORDER BY 2"
        ).fetchall()
    assert rows == [(clean, scope, "ab") for scope in "abc"]


def test_our_own_rows_lose_the_text_and_keep_the_key(plans: Plans) -> None:
    dirty = {
        f"https://me:{secret()}@{HOST}": (f"https://{HOST}", False),
        f"https://{HOST.replace('kite', 'x:' + secret())}": ("", True),
    }
    with plans.opened() as conn, without_guard(conn):
        conn.execute(
            "INSERT INTO sources (kind, archive_id, location) VALUES ('agentsview-sqlite', 'a', '')"
        )
        for number, remote in enumerate(dirty):
            conn.execute(
                "INSERT INTO project_observations (source_id, observation_key, project, machine,"
                " root_path, git_remote, git_remote_name, worktree_name, worktree_root_path,"
                " observed_at_text) SELECT source_id, %s, 'p', 'm', %s, %s, '', '', '', ''"
                " FROM sources",
                [row_uuid(remote), f"/{number}", remote],
            )
    plans.run(RemoteScrub())
    with plans.opened() as conn:
        rows = conn.execute(
            "SELECT git_remote, is_redacted, key IS NOT NULL, normalized_remote"
            " FROM project_observations ORDER BY root_path"
        ).fetchall()
    assert [row[:2] for row in rows] == list(dirty.values())
    assert all(row[2] for row in rows)
    assert secret() not in str(rows)


# --- Runs -----------------------------------------------------------------------------------


def many(plans: Plans, count: int = 250, path: str = "") -> None:
    for number in range(count):
        user = f"u:{secret()}@" if number % 3 else ""
        odd = ";" if number % 10 == 0 else ""
        add(plans, f"https://{user}{HOST}{number}{odd}", root_path=f"{path}/{number}")


def test_a_full_pass_ends_clean_and_shows_nothing(
    theirs: Plans, capfd: pytest.CaptureFixture[str]
) -> None:
    many(theirs)
    dry = theirs.run(RemoteScrub(), is_dry_run=True)
    before = remotes(theirs)
    assert any(secret() in remote for remote in before)
    summary = theirs.run(RemoteScrub())
    assert summary.tally.outcomes == dry.tally.outcomes
    assert (summary.is_finished, summary.remaining) == (True, 0)
    assert summary.tally.outcomes["QUARANTINED"] == 25
    assert remotes(theirs) == sorted({storage_form(remote) for remote in before})
    shown = everything_written(theirs) + repr(summary) + "".join(capfd.readouterr())
    assert secret() not in shown and HOST not in shown
    with theirs.opened() as conn:
        entries = ledger.quarantined(conn, job="remotes")
    assert {entry["reason"] for entry in entries} == {"REMOTE_URL_PATH"}
    assert len(entries) == 25


def test_a_second_run_changes_nothing_and_forgets_what_is_mended(theirs: Plans) -> None:
    many(theirs, 30)
    theirs.run(RemoteScrub())
    before = remotes(theirs)
    assert dict(theirs.run(RemoteScrub()).tally.outcomes) == {"QUARANTINED": 3}
    assert remotes(theirs) == before
    with theirs.opened() as conn:
        conn.execute("DELETE FROM theirs.project_identity_observations WHERE git_remote LIKE '%;'")
    theirs.run(RemoteScrub())
    with theirs.opened() as conn:
        assert ledger.quarantined(conn, job="remotes") == []


def test_the_rows_told_first_are_those_that_a_run_then_looks_at(theirs: Plans) -> None:
    """Suspect rows as well: the time to go of a run that meets many would be nothing without."""
    many(theirs, 30)
    for expected in (20 + 1, 3):
        theirs.run(RemoteScrub())
        assert theirs.recorder.total == theirs.recorder.tally.rows == expected


def test_what_is_written_later_is_found_by_the_next_run(theirs: Plans) -> None:
    theirs.run(RemoteScrub())
    add(theirs, f"ssh://git@{HOST}")
    with theirs.opened() as conn:
        assert RemoteScrub().remaining(conn) == 1
    assert dict(theirs.run(RemoteScrub()).tally.outcomes) == {"SCRUBBED": 1}
    assert remotes(theirs) == [f"ssh://{HOST}"]


def test_a_limit_leaves_the_rest_dirty(theirs: Plans) -> None:
    many(theirs, 30)
    for run in ("first", "second"):
        dry = theirs.run(RemoteScrub(), limit=5, is_dry_run=True)
        before = remotes(theirs)
        summary = theirs.run(RemoteScrub(), limit=5)
        assert (dry.tally.rows, summary.tally.rows) == (5, 5), run
        assert dry.tally.outcomes == summary.tally.outcomes
        assert len(set(before) - set(remotes(theirs))) <= 5
        assert not summary.is_finished
        assert summary.remaining > 0
    assert theirs.run(RemoteScrub()).is_finished


def pages(plans: Plans, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[int]:
    """How many rows each transaction of a run had."""
    seen: list[int] = []
    perform = RemoteScrub.perform

    def watched(job: RemoteScrub, conn: Any, lease: Any, unit: Any) -> Any:
        seen.append(len(unit.rows))
        return perform(job, conn, lease, unit)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteScrub, "perform", watched)
        assert plans.run(RemoteScrub(), **options).is_finished
    return seen


def test_a_batch_has_as_many_rows_as_asked_for_at_most(
    theirs: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(theirs, 30)
    assert max(pages(theirs, monkeypatch, batch_size=3)) == 3


def test_rows_of_others_are_locked_for_a_moment_only(
    theirs: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(theirs, 250)
    assert max(pages(theirs, monkeypatch)) <= 50
    change = remote_scrub._change_theirs
    many(theirs, 60, path="slow")

    def slowly(*args: Any) -> str:
        time.sleep(0.05)
        return change(*args)

    monkeypatch.setattr(remote_scrub, "_change_theirs", slowly)
    sizes = pages(theirs, monkeypatch)
    assert max(sizes[1:]) <= 2, "the first page teaches how long a row takes"


def test_a_dry_run_goes_on_after_a_row_that_cannot_be_judged(
    theirs: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(theirs, 10)
    judge = remote_scrub._foreseen

    def odd(table: Any, row: Any) -> str:
        if row.facts["root_path"] == "/4":
            raise ValueError
        return judge(table, row)

    monkeypatch.setattr(remote_scrub, "_foreseen", odd)
    outcomes = theirs.run(RemoteScrub(), is_dry_run=True).tally.outcomes
    assert outcomes == {"SCRUBBED": 5, "QUARANTINED": 2}


def test_a_dry_run_outlives_lost_connections_and_counts_what_the_server_refuses(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        plans.add(snapshot())
    preview = SnapshotSplit.preview
    seen: list[str] = []

    def odd(job: SnapshotSplit, conn: psycopg.Connection[Any], unit: ledger.Item) -> Any:
        seen.append(unit.item[-1])
        if unit.item[-1] == "1" and seen.count("1") == 1:
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        if unit.item[-1] == "2":
            raise psycopg.errors.QueryCanceled
        if unit.item[-1] == "3":
            raise RuntimeError
        return preview(job, conn, unit)

    monkeypatch.setattr(SnapshotSplit, "preview", odd)
    monkeypatch.setattr(runner, "retry_delay", lambda *args, **kwargs: 0.0)
    summary = plans.run(is_dry_run=True)
    assert summary.tally.outcomes == {"MIGRATED": 2, "QUARANTINED": 2}
    assert summary.remaining == 4
    assert "".join(seen) == "112223334"


def test_a_dry_run_with_several_workers_is_refused(plans: Plans) -> None:
    with pytest.raises(BadInput, match="a dry run has one worker"):
        plans.run(is_dry_run=True, workers=2)


# --- Told by "db status" --------------------------------------------------------------------


def status_facts(plans: Plans, url: str = "") -> dict[str, Any]:
    environ = {**os.environ, "EXPORTER_DATABASE_URL": url or plans.settings.database_url or ""}
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "db", "status", "--json"],
        env=environ, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert secret() not in done.stdout.decode() and HOST not in done.stdout.decode()
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_the_status_counts_what_was_written_after_a_finished_run(theirs: Plans) -> None:
    many(theirs, 6)
    assert theirs.run(RemoteScrub()).is_finished
    assert status_facts(theirs)["remotes_dirty"] == 0
    add(theirs, f"https://me:{secret()}@{HOST}late")
    facts = status_facts(theirs)
    assert facts["remotes_dirty"] == 1
    assert facts["job_remotes"].startswith("finished")


def test_the_status_withholds_a_count_that_the_role_may_not_take(theirs: Plans) -> None:
    name = f"looker_{os.getpid()}"
    assert theirs.settings.database_url
    with theirs.opened() as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'".encode())
        conn.execute(f"GRANT USAGE ON SCHEMA exporter TO {name}".encode())
        conn.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA exporter TO {name}".encode())
    try:
        url = psycopg.conninfo.make_conninfo(
            theirs.settings.database_url, user=name, password="x"
        )  # fmt: skip
        facts = status_facts(theirs, url)
        assert facts["remotes_dirty"] is None
        assert "theirs.project_identity_observations" in facts["remotes_withheld"]
        assert "project_observations" not in facts["remotes_withheld"].split(", ")
    finally:
        with theirs.opened() as conn:
            conn.execute(f"DROP OWNED BY {name}".encode())
            conn.execute(f"DROP ROLE {name}".encode())


# --- Finding and deciding -------------------------------------------------------------------

PIECES = (
    "https://", "http://", "ssh://", "git://", "HTTPS://", "file://", "ftp://", "://", "git@",
    "user:pw@", "@", ":", "/", "?", "#", ";", "=", "&", "%40", "%3A", "%3a", "%2F", "%zz", "[::1]",
    "h.example", "host:22", "a/b.git", ".git", "kite", " ", "\t", "\n", "\u00e9",
    "\u017f", "\u212a", "~", "^", "\\", "\"", "'", "<", "]", "C:/x", "../", "\u2028", "\r\n", "$",
    "*",
)  # fmt: skip


def tokens() -> tuple[str, ...]:
    """Texts in the shape of access tokens, put together here and valid nowhere."""
    run = "aB3" * 14
    return (
        "gh" + "o_" + run, "github" + "_pat_" + run, "gl" + "pat-" + run, "AT" + "ATT" + run,
        "AK" + "IA" + "ABCD" * 4, "xo" + "xb-" + run, "np" + "m_" + run, "h" + "f_" + run,
        "ey" + "J" + run + ".ey" + "J", "gh" + "p_" + "short",
    )  # fmt: skip


def test_finding_in_sql_and_deciding_in_python_agree_on_100_000_remotes(plans: Plans) -> None:
    chance = random.Random(11)
    pieces = [*PIECES, *tokens(), *string.ascii_letters]
    generated = ["".join(chance.choices(pieces, k=chance.randint(1, 9))) for _ in range(100_000)]
    with plans.opened() as conn:
        conn.execute("CREATE TEMP TABLE generated (number integer, git_remote text)")
        with conn.cursor() as cursor, cursor.copy("COPY generated FROM STDIN") as copy:
            for row in enumerate(generated):
                copy.write_row(row)
        found = {}
        for rule in ("dirty", "suspect"):
            statement = b"SELECT number FROM generated WHERE " + QUERIES[rule].as_bytes(conn)
            found[rule] = {row[0] for row in conn.execute(statement, {})}
    decided = {
        "dirty": {n for n, remote in enumerate(generated) if is_dirty(remote)},
        "suspect": {n for n, remote in enumerate(generated) if is_suspect(remote)},
    }
    for rule in found:
        differing = [generated[n] for n in sorted(found[rule] ^ decided[rule])]
        assert differing[:5] == []
        assert 1_000 < len(found[rule]) < 99_000
    assert not any(is_dirty(storage_form(remote)) for remote in generated)


# --- The guard of our own table -------------------------------------------------------------

GUARD = "SELECT convalidated FROM pg_constraint WHERE conname = 'project_observations_clean'"


def add_own(conn: psycopg.Connection[Any], remotes: list[str]) -> None:
    conn.execute(
        "INSERT INTO sources (kind, archive_id, location) VALUES ('agentsview-sqlite', 'a', '')"
        " ON CONFLICT DO NOTHING"
    )
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO project_observations (source_id, observation_key, project, machine,"
            " root_path, git_remote, git_remote_name, worktree_name, worktree_root_path,"
            " observed_at_text) SELECT source_id, gen_random_uuid(), 'p', 'm', '', %s, '', '', '',"
            " '' FROM sources",
            [(remote,) for remote in remotes],
        )


def test_once_clean_our_own_table_is_proven_and_stays_clean(plans: Plans) -> None:
    dirty = f"https://me:{secret()}@{HOST}"
    with plans.opened() as conn:
        with without_guard(conn):
            add_own(conn, [dirty])
        assert conn.execute(GUARD).fetchone() == (False,)
        with pytest.raises(psycopg.errors.CheckViolation):
            add_own(conn, [dirty])
    assert plans.run(RemoteScrub()).is_finished
    with plans.opened() as conn:
        assert conn.execute(GUARD).fetchone() == (True,)
        for remote in (dirty, f"me@{HOST}", f"https://{HOST};x", f"https://h.example/{secret()}"):
            with pytest.raises(psycopg.errors.CheckViolation):
                add_own(conn, [remote])
    assert plans.run(RemoteScrub()).is_finished


def test_a_guard_that_cannot_be_proven_now_is_left_to_a_later_run(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOCK_TIMEOUT", "50ms")
    assert plans.settings.database_url
    with psycopg.connect(plans.settings.database_url) as owner:
        owner.execute("LOCK TABLE exporter.project_observations IN SHARE UPDATE EXCLUSIVE MODE")
        assert plans.run(RemoteScrub()).is_finished
    with plans.opened() as conn:
        assert conn.execute(GUARD).fetchone() == (False,)
    plans.run(RemoteScrub())
    with plans.opened() as conn:
        assert conn.execute(GUARD).fetchone() == (True,)


def test_the_guard_lets_in_what_an_import_stores_and_nothing_that_the_job_looks_for(
    plans: Plans,
) -> None:
    chance = random.Random(12)
    pieces = [*PIECES, *tokens(), *string.ascii_letters]
    raw = ["".join(chance.choices(pieces, k=chance.randint(1, 9))) for _ in range(10_000)]
    with plans.opened() as conn:
        add_own(conn, [storage_form(text) for text in raw if not may_hold_credential(text)])
        conn.execute("CREATE TEMP TABLE generated (LIKE project_observations INCLUDING ALL)")
        refused = 0
        for text in raw[:1_000]:
            try:
                conn.execute(
                    "INSERT INTO generated (source_id, observation_key, project, machine,"
                    " root_path, git_remote, git_remote_name, worktree_name, worktree_root_path,"
                    " observed_at_text) VALUES (1, gen_random_uuid(), '', '', '', %s, '', '', '',"
                    " '')",
                    [text],
                )
                assert not is_dirty(text) and not is_suspect(text), text
            except psycopg.errors.CheckViolation:
                refused += 1
                assert is_dirty(text) or is_suspect(text), text
    assert 100 < refused < 900
