"""The ``exporter`` command with faults in it: ``python -m tests.jobs.faulty ARGUMENT...``.

What goes wrong, and where, is JSON in the variable `VARIABLE`; worker processes inherit it. The
program itself knows nothing of it: named points of the jobs are wrapped from outside.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from exporter.artifacts import logs
from exporter.jobs import ledger, remote_scrub, runner, snapshot_split
from exporter.jobs.remote_scrub import RemoteScrub
from exporter.jobs.snapshot_split import SnapshotSplit

VARIABLE = "TEST_FAULTS"

#: Seconds of a lease, and between two signs of life, where a test cannot wait for real ones.
SHORT_LEASE = (0.6, 0.15)

_COMMON: dict[str, tuple[Any, str]] = {
    "begin run": (ledger, "begin_run"),
    "take lease": (ledger, "take"),
    "heartbeat": (ledger, "_renew"),
    # Of any transaction: leases are taken in one, too.
    "commit": (psycopg.Transaction, "__exit__"),
    "unit": (runner.Worker, "_unit"),
    "release": (ledger, "_release"),
    "end run": (ledger, "end_run"),
}
#: Every step of a job at which something may happen: where its function is.
STEPS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "snapshots": {
        **_COMMON,
        "prepare": (SnapshotSplit, "prepare"),
        "enqueue": (SnapshotSplit, "_enqueue"),
        "claim": (SnapshotSplit, "claim"),
        "read": (SnapshotSplit, "_read"),
        "parse": (snapshot_split, "split"),
        "settle": (ledger, "settle"),
        "keep": (logs, "keep_original"),
        "update": (snapshot_split, "_update"),
        # Only where there is an object store.
        "put": (logs, "put"),
    },
    "remotes": {
        **_COMMON,
        "claim": (RemoteScrub, "claim"),
        "hold": (ledger, "hold"),
        "change": (remote_scrub, "_change_theirs"),
        "change ours": (remote_scrub, "_change_ours"),
        "report": (ledger, "report"),
    },
}

Put = Callable[[Any, str, Any], object]


def watch(job: str, reach: Callable[[str], object], put: Put = setattr) -> None:
    """Call `reach` with "before STEP" and "after STEP" wherever a run passes."""
    for step, (owner, attribute) in STEPS[job].items():
        put(owner, attribute, _watched(step, getattr(owner, attribute), reach))


def _watched(
    step: str, function: Callable[..., Any], reach: Callable[[str], object]
) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        reach(f"before {step}")
        found = function(*args, **kwargs)
        reach(f"after {step}")
        return found

    return watched


def kill_at(point: str, occurrence: int) -> Callable[[str], None]:
    """Something to reach: it kills the process when it comes to a point for the Nth time."""
    count = 0
    lock = threading.Lock()

    def reach(reached: str) -> None:
        nonlocal count
        with lock:
            count += reached == point
            if count == occurrence and reached == point:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


def shift_clock(offsets: list[float]) -> None:
    """Let the wall clock of this process be wrong by these seconds, one after the other."""
    looks = 0
    real = {name: getattr(time, name) for name in ("time", "gmtime", "localtime")}

    def shifted() -> float:
        nonlocal looks
        looks += 1
        return float(real["time"]()) + offsets[looks % len(offsets)]

    def broken_down(name: str) -> Callable[..., time.struct_time]:
        def look(seconds: float | None = None) -> time.struct_time:
            found: time.struct_time = real[name](shifted() if seconds is None else seconds)
            return found

        return look

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)
    time.gmtime, time.localtime = broken_down("gmtime"), broken_down("localtime")


def apply(faults: Mapping[str, Any]) -> None:
    """Build the faults into this process."""
    ledger.LEASE_SECONDS, ledger.HEARTBEAT_SECONDS = faults.get(
        "lease", (ledger.LEASE_SECONDS, ledger.HEARTBEAT_SECONDS)
    )
    runner.LOCK_TIMEOUT = faults.get("lock_timeout", runner.LOCK_TIMEOUT)
    runner.TRIES = faults.get("tries", runner.TRIES)
    runner.IDLE_TIMEOUT = faults.get("idle_timeout", runner.IDLE_TIMEOUT)
    snapshot_split.MOST_ATTEMPTS = faults.get("attempts", snapshot_split.MOST_ATTEMPTS)
    if "clock" in faults:
        shift_clock(faults["clock"])
    if "kill" in faults:
        point, occurrence = faults["kill"]
        watch(faults["job"], kill_at(point, occurrence))


if VARIABLE in os.environ:
    apply(json.loads(os.environ[VARIABLE]))

if __name__ == "__main__":
    from exporter.cli.main import run

    sys.exit(run(sys.argv[1:]))
