"""What the share of each second counts, and what is said of short waits."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from exporter.jobs import runner
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import snapshot
from tests.jobs.plans import Plans

SHARE = "its share of each second"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Every wait of the workers, in order; those for the share take no time."""
    found: list[tuple[float, str]] = []
    wait = runner.Worker._wait

    def recorded(worker: runner.Worker, seconds: float, reason: str) -> None:
        found.append((seconds, reason))
        wait(worker, 0.0 if reason == SHARE else seconds, reason)

    monkeypatch.setattr(runner.Worker, "_wait", recorded)
    return found


def test_no_rest_is_owed_for_time_that_was_waited(
    plans: Plans, waits: list[tuple[float, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        plans.add(snapshot())
    monkeypatch.setattr(runner, "retry_delay", lambda *_, **__: 1.0)
    perform, failures = SnapshotSplit.perform, iter([True, True])

    def locked(*arguments: Any) -> Any:
        if next(failures, False):
            raise psycopg.errors.LockNotAvailable
        return perform(*arguments)

    monkeypatch.setattr(SnapshotSplit, "perform", locked)
    assert plans.run(share=0.1).tally.rows == 2
    assert [reason for _, reason in waits].count("locks or time-outs") == 2
    assert sum(seconds for seconds, reason in waits if reason == SHARE) < 10.0


def test_no_rest_is_owed_for_a_worker_that_was_suspended(
    plans: Plans, waits: list[tuple[float, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        plans.add(snapshot())
    perform, clock = SnapshotSplit.perform, time.monotonic
    slept: list[float] = [0.0]

    def suspended(*arguments: Any) -> Any:
        slept[0] += 3600.0
        return perform(*arguments)

    monkeypatch.setattr(SnapshotSplit, "perform", suspended)
    monkeypatch.setattr("exporter.jobs.runner.time.monotonic", lambda: clock() + slept[0])
    plans.run(share=0.4)
    assert max(seconds for seconds, _ in waits) <= 1.5 * runner.LONGEST_WORK


def test_after_the_last_row_of_a_limit_nobody_rests(
    plans: Plans, waits: list[tuple[float, str]]
) -> None:
    for _ in range(2):
        plans.add(snapshot())
    assert plans.run(limit=1, rows_per_second=0.01, pause=60.0).tally.rows == 1
    assert waits == []


def test_short_waits_are_told_when_they_add_up(plans: Plans) -> None:
    for _ in range(30):
        plans.add(snapshot())
    plans.run(pause=0.02)
    assert plans.recorder.reasons.count("the pause after each row") in (2, 3)
