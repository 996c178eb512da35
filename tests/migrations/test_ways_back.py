"""The way back of revisions 0005 and 0004, over plans as the commands really leave them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from exporter import errors
from exporter.artifacts import purge
from exporter.db import migrate
from exporter.jobs import ledger
from exporter.jobs.restore import restore
from exporter.jobs.snapshot_split import SnapshotSplit
from exporter.settings import Settings
from tests.core.test_runzip_builders import CLEAN, LOG_NAME, Part, build, snapshot
from tests.jobs.plans import Plans
from tests.postgres import settings_for

LOSSY = b'{"a": "\xff\x00"}\n' * 3
LOSSY_SNAPSHOT = build(Part(LOG_NAME, LOSSY), *CLEAN)


@pytest.fixture
def empty(empty_database_url: str) -> Settings:
    return settings_for(empty_database_url)


@pytest.fixture
def world(empty: Settings) -> Plans:
    """A plan table of its owner, adopted; all columns of the split are ours."""
    return adopted(empty, "")


@contextmanager
def opened(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        yield conn


def adopted(settings: Settings, more: str) -> Plans:
    """The table as its owner made it, with `more` columns, and everything migrated."""
    with opened(settings) as conn:
        conn.execute(
            "CREATE TABLE public.task_item (id uuid PRIMARY KEY, timestamp_created timestamp"
            " DEFAULT now(), state text, prompt text, generated_report_html text,"
            f" run_zip_snapshot bytea{more})".encode()
        )
    migrate.upgrade(settings)
    with opened(settings) as conn:
        # Where `Plans` looks for it.
        conn.execute("ALTER TABLE public.task_item SET SCHEMA exporter")
    return Plans(settings)


def put_back(plans: Plans, plan: UUID) -> None:
    with plans.opened() as conn:
        restore(conn, plan)


def split_again(plans: Plans, storage: Any) -> None:
    """The restored plan goes through another split."""
    with plans.opened() as conn:
        assert ledger.requeue(conn, "RESTORED") == 1
    summary = plans.run(SnapshotSplit(storage))
    assert dict(summary.tally.outcomes) == {"MIGRATED": 1}


def snapshot_of(plans: Plans) -> bytes:
    with opened(plans.settings) as conn:
        row = conn.execute("SELECT run_zip_snapshot FROM exporter.task_item").fetchone()
    assert row is not None
    return bytes(row[0])


def refuses(plans: Plans, complaint: str, revision: str = "0003") -> None:
    with pytest.raises(errors.DatabaseError, match=complaint):
        migrate.downgrade(plans.settings, revision)


# --- After two splits of one snapshot -------------------------------------------------------


def test_an_exact_log_that_only_the_second_split_kept_goes_when_the_snapshot_is_back(
    world: Plans,
) -> None:
    plan = world.add(LOSSY_SNAPSHOT)
    world.run(SnapshotSplit("compact"))
    put_back(world, plan)
    split_again(world, "text")
    assert [kind for kind, _, _ in world.originals(plan)] == ["log", "snapshot"]
    migrate.downgrade(world.settings, "0003")
    assert snapshot_of(world) == LOSSY_SNAPSHOT


def test_a_plan_that_was_split_restored_split_and_restored_is_in_nobodys_way(
    world: Plans,
) -> None:
    plan = world.add(LOSSY_SNAPSHOT)
    world.run(SnapshotSplit("text"))
    put_back(world, plan)
    split_again(world, "text")
    put_back(world, plan)
    migrate.downgrade(world.settings, "0003")
    assert snapshot_of(world) == LOSSY_SNAPSHOT


@pytest.mark.parametrize("text", ["mine", "m" * len(LOSSY)])
def test_a_text_that_stood_in_the_row_before_the_second_split_stays_in_the_way(
    world: Plans, text: str
) -> None:
    plan = world.add(LOSSY_SNAPSHOT)
    world.run(SnapshotSplit("compact"))
    put_back(world, plan)
    world.set(plan, "run_track_activity_jsonl", text)
    split_again(world, "text")
    refuses(world, "1 originals and 0 packed logs are in no other place")
    assert ("log", "", text.encode()) in world.originals(plan)


def test_a_text_that_stood_in_the_row_before_the_first_split_stays_in_the_way(
    world: Plans,
) -> None:
    plan = world.add(snapshot())
    world.set(plan, "run_track_activity_jsonl", "mine")
    world.run()
    refuses(world, "1 originals and 0 packed logs are in no other place")
    assert ("log", "", b"mine") in world.originals(plan)


def test_the_exact_log_of_a_snapshot_that_is_not_back_stays_in_the_way(world: Plans) -> None:
    plan = world.add(LOSSY_SNAPSHOT)
    world.run(SnapshotSplit("compact"))
    put_back(world, plan)
    other = build(Part(LOG_NAME, LOSSY.replace(b"a", b"b")), *CLEAN)
    world.set(plan, "run_zip_snapshot", other)
    split_again(world, "text")
    put_back(world, plan)
    # Of the first snapshot; the log of the second is inside it again.
    refuses(world, "1 originals and 0 packed logs are in no other place")


# --- Logs that no split brought -------------------------------------------------------------


def test_a_log_beside_a_snapshot_without_one_stays_in_the_column_of_its_owner(
    empty: Settings,
) -> None:
    plans = adopted(empty, ", run_track_activity_jsonl text, run_track_activity_bytes integer")
    data = build(*CLEAN, comment=b"x")
    plan = plans.add(data)
    plans.set(plan, "run_track_activity_jsonl", "mine")
    plans.set(plan, "run_track_activity_bytes", 4)
    assert dict(plans.run().tally.outcomes) == {"MIGRATED": 1}
    with plans.opened() as conn:
        row = conn.execute(
            "SELECT facts ? 'members', facts ? 'log_bytes' FROM job_items"
        ).fetchone()
    assert row == (True, False)
    migrate.downgrade(empty, "0004")
    with opened(empty) as conn:
        row = conn.execute(
            "SELECT run_zip_snapshot, run_track_activity_jsonl, run_track_activity_bytes"
            " FROM exporter.task_item"
        ).fetchone()
    assert row == (data, "mine", 4)


def test_a_log_beside_a_snapshot_without_one_is_not_dropped_with_a_column_of_ours(
    world: Plans,
) -> None:
    plan = world.add(build(*CLEAN, comment=b"x"))
    world.set(plan, "run_track_activity_jsonl", "mine")
    world.run()
    refuses(world, r"1 rows of exporter\.task_item hold a log", "0004")
    assert world.row(plan)["run_track_activity_jsonl"] == "mine"


# --- Purged logs ----------------------------------------------------------------------------


def purged(plans: Plans, data: bytes) -> UUID:
    """A plan that is older than ten others, split, and without its log."""
    plan = plans.add(data)
    plans.set(plan, "timestamp_created", "2026-01-01")
    for _ in range(10):
        plans.set(plans.add(snapshot()), "timestamp_created", "2026-02-02")
    plans.run()
    with plans.opened() as conn:
        assert purge.purge(conn, 10).purged == 1
    return plan


def test_a_purged_log_does_not_come_back_on_the_way_back(world: Plans) -> None:
    plan = purged(world, snapshot())
    clean = world.row(plan)["run_zip_snapshot"]
    migrate.downgrade(world.settings, "0004")
    with opened(world.settings) as conn:
        rows = dict(conn.execute("SELECT id, run_zip_snapshot FROM exporter.task_item").fetchall())
    assert rows.pop(plan) == clean
    assert set(rows.values()) == {snapshot()}
    refuses(world, "1 originals and 0 packed logs are in no other place")


def test_a_plan_that_kept_its_snapshot_without_the_log_is_clean_after_the_next_adoption(
    world: Plans,
) -> None:
    plan = purged(world, snapshot())
    migrate.downgrade(world.settings, "0004")
    migrate.upgrade(world.settings)
    outcomes = dict(world.run().tally.outcomes)
    assert outcomes == {"MIGRATED": 10, "CLEAN": 1}
    assert world.row(plan)["run_track_activity_jsonl"] is None
    assert world.originals(plan) == [("snapshot", "", snapshot())]


def test_a_snapshot_that_held_no_log_is_put_back_though_a_log_beside_it_was_purged(
    world: Plans,
) -> None:
    data = build(*CLEAN, comment=b"x")
    plan = world.add(data)
    world.set(plan, "timestamp_created", "2026-01-01")
    world.set(plan, "run_track_activity_jsonl", "mine")
    for _ in range(10):
        world.set(world.add(snapshot()), "timestamp_created", "2026-02-02")
    world.run()
    with world.opened() as conn:
        assert purge.purge(conn, 10).purged == 1
    migrate.downgrade(world.settings, "0003")
    with opened(world.settings) as conn:
        rows = dict(conn.execute("SELECT id, run_zip_snapshot FROM exporter.task_item").fetchall())
    assert rows[plan] == data
