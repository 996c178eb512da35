"""Whatever happens meanwhile: nothing is lost, nothing is done twice, the end is the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from exporter.errors import LeaseHeld
from exporter.jobs import ledger, runner, snapshot_split
from exporter.jobs.job import LeaseLost, Tally
from exporter.jobs.remote_scrub import RemoteScrub
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.conftest import MakeDatabase
from tests.core.test_runzip_builders import CLEAN, LOG_NAME, Part, build, snapshot
from tests.jobs.killed import SHORT_LEASE
from tests.jobs.plans import Plans
from tests.postgres import settings_for

CHECKOUT = Path(__file__).parents[2]


def mixed(plans: Plans, count: int = 12) -> list[UUID]:
    kinds = [
        snapshot(), build(*CLEAN), b"hello", snapshot(Part(b"../x", b"y")),
        snapshot(Part(b"sub/" + LOG_NAME, b"deep")),
    ]  # fmt: skip
    return [plans.add(kinds[n % len(kinds)]) for n in range(count)]


@pytest.fixture
def undisturbed(make_database: MakeDatabase) -> Callable[[int], list[tuple[Any, ...]]]:
    """The end state of a run that nothing happened to."""

    def end(count: int) -> list[tuple[Any, ...]]:
        other = Plans(settings_for(make_database()))
        mixed(other, count)
        other.run()
        return other.all()

    return end


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "LEASE_SECONDS", SHORT_LEASE)
    monkeypatch.setattr(ledger, "HEARTBEAT_SECONDS", 0.15)


def before_write(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], *, times: int = 1
) -> None:
    """Let something happen between reading a row and writing it."""
    split = snapshot_split.split
    left = times

    def disturbed(*args: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            act()
        return split(*args)

    monkeypatch.setattr(snapshot_split, "split", disturbed)


# --- Killed ---------------------------------------------------------------------------------


def test_killed_at_any_statement_the_end_is_the_same_a36(
    plans: Plans, undisturbed: Callable[[int], list[tuple[Any, ...]]], short_leases: None
) -> None:
    mixed(plans)
    assert plans.settings.database_url
    chosen = random.Random(36).sample(range(3, 70), 10)
    for fatal in chosen:
        command = [sys.executable, "-m", "tests.jobs.killed", plans.settings.database_url]
        done = subprocess.run([*command, str(fatal)], cwd=CHECKOUT, capture_output=True)
        assert done.returncode in (-signal.SIGKILL, 0), done.stderr[-400:]
    plans.run()
    assert plans.all() == undisturbed(12)
    with plans.opened() as conn:
        states = conn.execute("SELECT DISTINCT status FROM job_items ORDER BY 1").fetchall()
    assert states == [("done",), ("quarantined",)]


def test_a_row_that_kills_its_workers_is_put_aside_alone(plans: Plans) -> None:
    mixed(plans, 4)
    plans.run(limit=1)
    with plans.opened() as conn:
        conn.execute(
            "UPDATE job_items SET attempts = 5, lease_id = 0, status = 'leased' WHERE item = %s",
            [str(UUID(int=2))],
        )
    summary = plans.run()
    assert summary.tally.rows == 3
    with plans.opened() as conn:
        rows = conn.execute("SELECT facts FROM job_items WHERE reason = 'INTERNAL'").fetchall()
    assert rows == [({"attempts": 6},)]


def backfill(plans: Plans, *options: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "EXPORTER_DATABASE_URL": plans.settings.database_url or ""}
    command = [sys.executable, "-m", "exporter", "backfill", "snapshots", *options]
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_until(plans: Plans, query: str) -> None:
    end = time.monotonic() + 30
    with plans.opened() as conn:
        while time.monotonic() < end:
            row = conn.execute(query.encode()).fetchone()
            if row and row[0]:
                return
            time.sleep(0.02)
    raise AssertionError(query)


def test_the_work_of_a_dead_worker_is_taken_over_within_ten_seconds(plans: Plans) -> None:
    mixed(plans, 40)
    dead = backfill(plans, "--max-rows-per-second", "20")
    wait_until(plans, "SELECT count(*) >= 5 FROM job_items WHERE status = 'done'")
    dead.kill()
    dead.communicate()
    started = time.monotonic()
    heir = backfill(plans)
    _, err = heir.communicate(timeout=60)
    assert heir.returncode == 3, err
    assert time.monotonic() - started < 12
    with plans.opened() as conn:
        assert conn.execute("SELECT state FROM jobs").fetchone() == ("finished",)
        open_items = conn.execute("SELECT count(*) FROM job_items WHERE status IN ('leased')")
        assert open_items.fetchone() == (0,)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_stops_between_two_rows(
    plans: Plans, number: signal.Signals, code: int, workers: str
) -> None:
    mixed(plans, 40)
    process = backfill(plans, "--max-rows-per-second", "10", "--workers", workers)
    wait_until(plans, "SELECT count(*) >= 2 FROM job_items WHERE status = 'done'")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert b"run the same command again" in err
    with plans.opened() as conn:
        states = {row[0] for row in conn.execute("SELECT DISTINCT status FROM job_items")}
        assert "leased" not in states
        assert conn.execute("SELECT state FROM job_runs").fetchone() == ("stopped",)
    assert plans.run().is_finished


# --- Several at once ------------------------------------------------------------------------


def test_two_workers_do_each_row_once_a37(
    plans: Plans, undisturbed: Callable[[int], list[tuple[Any, ...]]]
) -> None:
    mixed(plans, 120)
    summary = plans.run(workers=2, batch_size=5)
    assert summary.tally.rows == 120
    assert summary.is_finished
    assert plans.all() == undisturbed(120)
    with plans.opened() as conn:
        row = conn.execute("SELECT count(DISTINCT lease_id), max(attempts) FROM job_items")
        assert row.fetchone() == (2, 1)


def test_a_worker_that_lost_its_lease_writes_nothing(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "HEARTBEAT_SECONDS", 60.0)
    plan = plans.add(snapshot())
    late, quick = SnapshotSplit(), SnapshotSplit()
    with plans.opened() as one, plans.opened() as other:
        run_id = ledger.begin_run(one, late)
        with ledger.lease(plans.opener, one, late, run_id) as old:
            (unit,) = late.claim(one, old, 1)
            one.execute("UPDATE job_leases SET lease_until = now() - interval '1 second'")
            with ledger.lease(plans.opener, other, quick, run_id) as new:
                (again,) = quick.claim(other, new, 1)
                assert (again.item, again.attempts) == (unit.item, 2)
                before = plans.row(plan)
                with pytest.raises(LeaseLost):
                    late.perform(one, old, unit)
                assert plans.row(plan) == before
                assert quick.perform(other, new, again).rows == 1
                with pytest.raises(LeaseLost):
                    late.perform(one, old, unit)
            assert new.number > old.number
    assert len(plans.originals(plan)) == 1


def test_an_exclusive_job_has_one_worker(plans: Plans) -> None:
    job = RemoteScrub()
    with plans.opened() as conn:
        run_id = ledger.begin_run(conn, job)
        with ledger.lease(plans.opener, conn, job, run_id), pytest.raises(LeaseHeld) as caught:
            plans.run(RemoteScrub())
    assert caught.value.exit_code == 5
    assert plans.run(RemoteScrub()).is_finished


def test_an_exclusive_worker_that_lost_its_lease_stops(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plans.opened() as conn:
        conn.execute(
            "CREATE TABLE project_identity_observations (project text, machine text,"
            " root_path text, git_remote text, observed_at timestamptz,"
            " normalized_remote text, key_source text, key text,"
            " PRIMARY KEY (project, machine, root_path, git_remote))"
        )
        conn.execute(
            "INSERT INTO project_identity_observations VALUES ('p', 'm', '/', 'u@h:p', now())"
        )
    hold = ledger.hold

    def too_late(conn: Any, lease: Any) -> None:
        conn.execute("UPDATE job_leases SET released_at = now()")
        hold(conn, lease)

    monkeypatch.setattr(ledger, "hold", too_late)
    with pytest.raises(LeaseHeld):
        plans.run(RemoteScrub())
    with plans.opened() as conn:
        row = conn.execute("SELECT git_remote FROM project_identity_observations").fetchone()
    assert row == ("u@h:p",)


def test_a_statement_that_never_ends_is_given_up(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STATEMENT_TIMEOUT", "200ms")
    plan = plans.add(snapshot())
    with plans.opened() as conn:
        conn.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(5); RETURN NEW; END $$"
        )
        conn.execute(
            "CREATE TRIGGER slow BEFORE UPDATE ON task_item FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    assert dict(plans.run().tally.outcomes) == {"QUARANTINED": 1}
    assert plans.item(plan)[2] == "DB_REJECTED"


# --- The owner, at the same moment ----------------------------------------------------------

RESET = (
    "UPDATE task_item SET state = 'pending', run_zip_snapshot = NULL, generated_report_html = NULL"
)


@pytest.mark.parametrize(
    "change",
    [
        RESET,
        "UPDATE task_item SET run_generation = run_generation + 1",
        "UPDATE task_item SET state = 'processing'",
        "UPDATE task_item SET run_artifact_layout_version = 2",
        "UPDATE task_item SET run_zip_snapshot = overlay(run_zip_snapshot placing 'x' from 99)",
        "DELETE FROM task_item",
    ],
    ids=["retry", "generation", "claimed", "finalised", "uploaded", "deleted"],
)
def test_a_row_that_changes_between_reading_and_writing_is_left_alone_a38(
    plans: Plans, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    plan = plans.add(snapshot())

    def race() -> None:
        with plans.opened() as conn:
            conn.execute(change.encode())

    before_write(monkeypatch, race)
    assert dict(plans.run().tally.outcomes) == {"SKIPPED_CHANGED": 1}
    assert plans.originals(plan) == []
    with plans.opened() as conn:
        logs = conn.execute("SELECT count(run_track_activity_jsonl) FROM task_item")
        assert logs.fetchone() == (0,)


def test_a_row_lock_is_waited_for_and_asked_for_again(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOCK_TIMEOUT", "30ms")
    mixed(plans, 5)
    assert plans.settings.database_url
    with psycopg.connect(plans.settings.database_url) as owner:
        owner.execute("SELECT FROM exporter.task_item FOR UPDATE")
        release = threading.Timer(0.7, owner.rollback)
        release.start()
        summary = plans.run()
        release.join()
    assert summary.tally.outcomes["MIGRATED"] == 3
    assert summary.is_finished
    assert plans.recorder.reasons[0] == "locks or time-outs"


def test_the_owner_may_rename_the_table_in_the_middle(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.add(snapshot())

    def rename() -> None:
        with plans.opened() as conn:
            conn.execute("ALTER TABLE task_item RENAME TO plans")

    before_write(monkeypatch, rename)
    assert dict(plans.run().tally.outcomes) == {"MIGRATED": 1}
    with plans.opened() as conn:
        conn.execute("ALTER TABLE plans RENAME TO task_item")
    assert plans.row(plan)["run_artifact_layout_version"] == 2


def test_workers_wait_for_standbys_and_say_so(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed(plans, 3)
    with plans.opened() as conn:
        conn.execute("CREATE SEQUENCE looks")
    monkeypatch.setattr(
        runner,
        "REPLICATION_LAG",
        "SELECT CASE WHEN nextval('looks') > 2 THEN 0 ELSE 9 END::float8",
    )
    assert plans.run(replication_lag=1.0).tally.rows == 3
    assert "standbys that are behind" in plans.recorder.reasons


# --- The server -----------------------------------------------------------------------------


def terminate(plans: Plans) -> None:
    with plans.opened() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


def test_lost_connections_are_made_again(
    plans: Plans,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[[int], list[tuple[Any, ...]]],
) -> None:
    expected = undisturbed(12)
    mixed(plans)
    before_write(monkeypatch, lambda: terminate(plans), times=4)
    summary = plans.run()
    assert (summary.tally.rows, summary.is_finished) == (12, True)
    assert plans.all() == expected


def test_a_connection_lost_inside_the_transaction_is_as_if_it_never_was(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.add(snapshot())
    settle = ledger.settle
    terminated: list[bool] = []

    def cut(*args: Any) -> None:
        settle(*args)
        if not terminated:
            terminated.append(True)
            terminate(plans)

    monkeypatch.setattr(ledger, "settle", cut)
    assert dict(plans.run().tally.outcomes) == {"MIGRATED": 1}
    assert len(plans.originals(plan)) == 1


def test_a_commit_without_an_answer_is_looked_up_and_not_repeated(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.add(snapshot())
    write = SnapshotSplit._write
    calls: list[int] = []

    def unanswered(self: SnapshotSplit, conn: Any, *args: Any) -> Tally:
        calls.append(1)
        write(self, conn, *args)
        conn.close()
        raise psycopg.OperationalError("the answer to COMMIT never came")

    monkeypatch.setattr(SnapshotSplit, "_write", unanswered)
    summary = plans.run()
    assert (len(calls), dict(summary.tally.outcomes)) == (1, {"MIGRATED": 1})
    assert plans.item(plan)[0] == "done"


def test_a_row_that_the_server_refuses_goes_to_quarantine(plans: Plans) -> None:
    good, bad = plans.add(build(*CLEAN)), plans.add(snapshot())
    with plans.opened() as conn:
        conn.execute(
            "ALTER TABLE task_item ADD CONSTRAINT no_logs CHECK (run_track_activity_jsonl IS NULL)"
        )
    summary = plans.run()
    assert dict(summary.tally.outcomes) == {"CLEAN": 1, "QUARANTINED": 1}
    assert plans.item(bad)[:3] == ("quarantined", "QUARANTINED", "DB_REJECTED")
    assert plans.row(good)["run_artifact_layout_version"] == 2
    assert plans.originals(bad) == []


def test_a_defect_stops_one_row_and_shows_nothing_of_it(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, other = plans.add(snapshot()), plans.add(build(*CLEAN))

    def fail() -> None:
        raise RuntimeError("a prompt of somebody's")

    before_write(monkeypatch, fail, times=runner.UNIT_TRIES)
    summary = plans.run()
    assert dict(summary.tally.outcomes) == {"QUARANTINED": 1, "CLEAN": 1}
    with plans.opened() as conn:
        row = conn.execute("SELECT reason, facts FROM job_items WHERE item = %s", [str(plan)])
        assert row.fetchone() == ("INTERNAL", {"error": "RuntimeError"})
    assert plans.item(other)[1] == "CLEAN"


def test_what_nobody_may_do_stops_the_run(plans: Plans) -> None:
    mixed(plans, 3)
    with plans.opened() as conn:
        conn.execute("DROP TABLE artifact_originals CASCADE")
    with pytest.raises(psycopg.errors.UndefinedTable):
        plans.run()
    with plans.opened() as conn:
        assert conn.execute("SELECT state FROM job_runs").fetchone() == ("failed",)
        states = {row[0] for row in conn.execute("SELECT DISTINCT status FROM job_items")}
    assert "leased" not in states


def test_a_run_with_nothing_to_do_keeps_the_counts_of_the_one_that_finished(plans: Plans) -> None:
    mixed(plans, 3)
    done = plans.run()
    assert done.is_finished
    assert plans.run().is_finished
    with plans.opened() as conn:
        (found,) = ledger.status(conn)
    assert found["last_counts"] == dict(done.tally.outcomes)
