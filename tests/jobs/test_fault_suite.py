"""The fault suite: whatever happens to a run, the end is that of a run to which nothing happened.

Each scenario is drawn from a seed. The short form, one seed and small numbers, is part of the
normal tests; ``script/faults`` runs more seeds and longer, and repeats one that failed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from exporter.artifacts import store
from exporter.artifacts.objects import Objects
from exporter.db import server
from exporter.errors import ExporterError, LeaseHeld
from exporter.jobs import ledger, runner, snapshot_split
from exporter.jobs.job import Tally
from exporter.jobs.remote_scrub import RemoteScrub
from exporter.jobs.restore import restore
from exporter.jobs.runner import Options, Stop, Worker
from exporter.jobs.snapshot_split import SnapshotSplit
from tests import postgres
from tests.conftest import MakeDatabase
from tests.core.test_runzip_builders import snapshot
from tests.jobs import faulty
from tests.jobs.faulty import SHORT_LEASE, STEPS
from tests.jobs.plans import Plans, Recorder
from tests.jobs.worlds import WORLDS, Connection, Snapshots, State, World

CHECKOUT = Path(__file__).parents[2]

#: Number of seeds; unset is the short form.
SEEDS = os.environ.get("EXPORTER_TEST_FAULT_SEEDS")
IS_FULL = bool(SEEDS)
FIRST = int(os.environ.get("EXPORTER_TEST_FAULT_SEED", "1"))

seeds = pytest.mark.parametrize("seed", range(FIRST, FIRST + int(SEEDS or 1)))
both_jobs = pytest.mark.parametrize("job", WORLDS)

#: What a run that came to its end says, without quarantine and with.
DONE = (0, 3)


@pytest.fixture
def chance(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """All that is left to chance in a scenario; a failure shows how to have it again."""
    print(f"to repeat: script/faults --seed {seed} '{request.node.nodeid}'")
    return random.Random(request.node.name)


@pytest.fixture(scope="module")
def undisturbed(make_database: MakeDatabase) -> Callable[[str, int], State]:
    """The end state of a run that nothing happened to; made once."""
    made: dict[tuple[str, int], State] = {}

    def end(job: str, times: int = 1) -> State:
        if (job, times) not in made:
            trial = Trial(WORLDS[job], make_database())
            trial.fill(times)
            trial.run()
            made[job, times] = trial.state()
        return made[job, times]

    return end


class Trial:
    """A database with a world in it, and runs over it."""

    def __init__(self, world: World, url: str) -> None:
        self.world = world
        self.url = url
        self.plans = Plans(postgres.settings_for(url))

    @contextmanager
    def opened(self) -> Iterator[Connection]:
        with self.plans.opened() as conn:
            yield conn

    def fill(self, times: int = 1) -> None:
        with self.opened() as conn:
            self.world.fill(conn, times)

    def run(self) -> None:
        """A run within this process, to the end, that nothing happens to."""
        assert self.plans.run(self.world.make_job()).is_finished

    def state(self) -> State:
        with self.opened() as conn:
            return self.world.state(conn)

    def execute(self, statement: str) -> None:
        with self.opened() as conn:
            conn.execute(statement.encode())

    def start(self, *options: str, **faults: Any) -> subprocess.Popen[str]:
        """The command in a process of its own, with faults in it."""
        faults = {"lease": SHORT_LEASE, "job": self.world.name, **faults}
        environ = {**os.environ, faulty.VARIABLE: json.dumps(faults)}
        environ["EXPORTER_DATABASE_URL"] = self.url
        command = [sys.executable, "-m", "tests.jobs.faulty", "backfill", self.world.name]
        return subprocess.Popen(
            [*command, "--quiet", *options], cwd=CHECKOUT, env=environ, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self) -> None:
        """What somebody does after a fault: run it again. The end must be the undisturbed one."""
        process = self.start()
        told = process.communicate(timeout=120)[1]
        assert process.returncode in DONE, told

    def assert_like(self, expected: State, objects: Objects | None = None) -> None:
        with self.opened() as conn:
            self.world.check(conn, objects)
            found = self.world.state(conn)
        for table, rows in expected.items():
            assert found[table] == rows, table


@pytest.fixture
def trial(job: str, database_url: str) -> Trial:
    """The job's rows in a database of the test's own."""
    made = Trial(WORLDS[job], database_url)
    made.fill()
    return made


def assert_told(process: subprocess.Popen[str], allowed: tuple[int, ...]) -> int:
    """A run ends as it may, and tells a failure in one sentence."""
    told = process.communicate(timeout=120)[1]
    assert process.returncode in allowed, told
    assert "Traceback" not in told
    if process.returncode not in DONE:
        fatal = [line for line in told.splitlines() if line.startswith("fatal: ")]
        assert len(fatal) == 1, told
    return process.returncode


# --- Killed ---------------------------------------------------------------------------------

EDGES = [(job, step) for job in STEPS for step in STEPS[job] if step != "put"]
#: Steps that a run takes once.
ONCE = {"begin run", "take lease", "prepare", "release", "end run"}


@seeds
@pytest.mark.parametrize(("job", "step"), EDGES)
def test_killed_at_any_step(
    trial: Trial, job: str, step: str, undisturbed: Callable[[str], State], seed: int,
    chance: random.Random, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    point = f"{chance.choice(('before', 'after'))} {step}"
    occurrence = 1 if step in ONCE else chance.randint(1, 3)
    # The first two are those of the run and of its lease.
    occurrence += 2 if step == "commit" else 0
    options = trial.world.slowly if step == "heartbeat" else ()
    process = trial.start(*options, kill=(point, occurrence))
    told = process.communicate(timeout=60)[1]
    # A step that comes less often than that lets the run end.
    may_end = DONE if occurrence > 1 else ()
    assert process.returncode in (-signal.SIGKILL, *may_end), (point, occurrence, told)
    monkeypatch.setattr(ledger, "LEASE_SECONDS", SHORT_LEASE[0])
    monkeypatch.setattr(ledger, "HEARTBEAT_SECONDS", SHORT_LEASE[1])
    trial.run()
    trial.assert_like(undisturbed(job))


@seeds
@both_jobs
def test_another_worker_takes_over_within_ten_seconds(
    trial: Trial, job: str, undisturbed: Callable[[str], State], chance: random.Random
) -> None:
    """With the leases of real runs, and whatever the clocks of the two machines say."""
    lease = (ledger.LEASE_SECONDS, ledger.HEARTBEAT_SECONDS)
    hour = chance.choice((3600.0, -3600.0))
    point = {"snapshots": "after parse", "remotes": "after change"}[job]
    dead = trial.start(lease=lease, clock=[hour], kill=(point, 4))
    # From here on the row lives on what the server's clock says.
    dead.communicate(timeout=60)
    assert dead.returncode == -signal.SIGKILL
    died = time.monotonic()
    heir = trial.start(lease=lease, clock=[-hour])
    with trial.opened() as conn:
        first = conn.execute("SELECT min(lease_id) FROM job_leases").fetchone()
        while conn.execute(
            "SELECT count(*) FROM job_leases AS l WHERE lease_id > %s AND (l.is_exclusive OR"
            " EXISTS (SELECT FROM job_items AS i WHERE i.lease_id = l.lease_id"
            " AND i.attempts = 2))",
            first,
        ).fetchone() == (0,):
            assert time.monotonic() - died < 10
            time.sleep(0.05)
    assert assert_told(heir, DONE) in DONE
    trial.assert_like(undisturbed(job))


def worker_processes(trial: Trial, count: int) -> list[int]:
    """The numbers of a run's worker processes, once there are so many."""
    statement = "SELECT split_part(holder, ' pid ', 2)::int FROM job_leases ORDER BY lease_id"
    with trial.opened() as conn:
        end = time.monotonic() + 30
        while len(rows := conn.execute(statement.encode()).fetchall()) < count:
            assert time.monotonic() < end
            time.sleep(0.01)
    return [row[0] for row in rows]


@seeds
@pytest.mark.parametrize("job", ["snapshots"])
def test_a_worker_process_that_is_killed_is_replaced_by_its_sibling(
    trial: Trial, job: str, undisturbed: Callable[[str], State], chance: random.Random
) -> None:
    run = trial.start(*trial.world.slowly, "--workers", "2")
    victim = chance.choice(worker_processes(trial, 2))
    time.sleep(chance.uniform(0, 0.8))
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    assert assert_told(run, DONE) in DONE
    trial.assert_like(undisturbed(job))


@seeds
@pytest.mark.parametrize("job", ["snapshots"])
def test_workers_go_when_the_run_that_started_them_is_killed(
    trial: Trial, job: str, undisturbed: Callable[[str], State], chance: random.Random
) -> None:
    run = trial.start(*trial.world.slowly, "--workers", "2")
    worker_processes(trial, 2)
    time.sleep(chance.uniform(0, 0.8))
    run.kill()
    run.wait()
    end = time.monotonic() + 10
    with trial.opened() as conn:
        while conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'exporter backfill%'"
        ).fetchone() != (0,):
            assert time.monotonic() < end
            time.sleep(0.05)
    run.communicate()
    trial.finish()
    trial.assert_like(undisturbed(job))


# --- The server -----------------------------------------------------------------------------


def disturb(
    trial: Trial, act: Callable[[], object], chance: random.Random, *, seconds: float,
    every: tuple[float, float], options: tuple[str, ...] = (), **faults: Any,
) -> None:  # fmt: skip
    """Act again and again while a run goes on; one that fails is followed by another."""
    end = time.monotonic() + seconds
    while True:
        process = trial.start(*options, **faults)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(chance.uniform(*every))
            with suppress(psycopg.Error, ExporterError):
                act()
        if assert_told(process, (*DONE, 1)) in DONE:
            return
        assert time.monotonic() < end + 30


def terminate(trial: Trial) -> int:
    """End all connections but our own; returns how many there were."""
    with trial.opened() as conn:
        return conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        ).rowcount


@seeds
@both_jobs
def test_connections_that_the_server_ends_at_any_moment(
    trial: Trial, job: str, undisturbed: Callable[[str], State], chance: random.Random
) -> None:
    workers = chance.choice("12") if job == "snapshots" else "1"
    ended: list[int] = []
    disturb(
        trial, lambda: ended.append(terminate(trial)), chance, seconds=10 if IS_FULL else 3,
        every=(0.02, 0.3), options=(*trial.world.slowly, "--workers", workers),
    )  # fmt: skip
    assert sum(ended) > 0
    trial.assert_like(undisturbed(job))


#: What is committed survives the crash of the server, though not that of the machine.
CRASH_SAFE = {"fsync": "off", "max_connections": "50"}


class Cluster:
    """An embedded server of the test's own, to be crashed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = server.start(home, CRASH_SAFE)
        self._count = 0

    def database(self) -> str:
        self._count += 1
        name = f"faults_{self._count}"
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        url = self.url.replace(f"/{server.DATABASE}?", f"/{name}?")
        postgres.migrate_database(url)
        return url

    def crash(self, away: float) -> None:
        """What ``pg_ctl restart -m immediate`` does, with some seconds in between."""
        pid = server.status(self.home).pid
        assert pid
        os.kill(pid, signal.SIGQUIT)
        time.sleep(away)
        server.start(self.home, CRASH_SAFE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = postgres.new_folder()
    made = Cluster(folder / "crashing")
    yield made
    server.stop(made.home)
    shutil.rmtree(folder)


@seeds
@both_jobs
def test_a_server_that_crashes_and_comes_back(
    cluster: Cluster, job: str, undisturbed: Callable[[str], State], seed: int,
    chance: random.Random,
) -> None:  # fmt: skip
    trial = Trial(WORLDS[job], cluster.database())
    trial.fill()
    workers = chance.choice("12") if job == "snapshots" else "1"
    crashes = most = 4 if IS_FULL else 2

    def crash() -> None:
        nonlocal crashes
        if crashes:
            crashes -= 1
            time.sleep(chance.uniform(0, 0.7))
            cluster.crash(chance.uniform(0, 1.5))

    disturb(
        trial, crash, chance, seconds=30, every=(0.3, 1.0),
        options=(*trial.world.slowly, "--workers", workers),
    )  # fmt: skip
    assert crashes < most
    trial.assert_like(undisturbed(job))


LOCKS = {
    "snapshots": ("task_item", "SELECT FROM task_item WHERE id = {} FOR UPDATE"),
    "remotes": (
        "theirs.project_identity_observations",
        "SELECT FROM theirs.project_identity_observations WHERE {} > 0 FOR UPDATE",
    ),
}


@seeds
@both_jobs
def test_a_storm_of_locks(
    trial: Trial, job: str, undisturbed: Callable[[str], State], chance: random.Random
) -> None:
    table, row = LOCKS[job]

    def hold() -> None:
        with trial.opened() as conn, conn.transaction():
            key = chance.randint(1, 12)
            text = f"'{UUID(int=key)}'" if job == "snapshots" else str(key)
            whole = f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
            conn.execute(chance.choice((whole, row.format(text))).encode())
            time.sleep(chance.uniform(0.005, 0.15))

    disturb(
        trial, hold, chance, seconds=8 if IS_FULL else 2, every=(0.0, 0.05),
        options=trial.world.slowly, lock_timeout="20ms",
    )  # fmt: skip
    trial.assert_like(undisturbed(job))


# --- Several workers ------------------------------------------------------------------------


@seeds
def test_workers_with_one_row_do_it_once(
    seed: int, chance: random.Random, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four workers, one plan after the other, each step as long as chance will have it."""
    plans = Plans(postgres.settings_for(database_url))
    faulty.watch(
        "snapshots", lambda point: time.sleep(chance.choice((0, 0, 0.003, 0.02))),
        monkeypatch.setattr,
    )  # fmt: skip
    for _ in range(10 if IS_FULL else 4):
        plan = plans.add(snapshot())
        tallies = together(plans, 4)
        assert tallies == {"MIGRATED": 1}
        assert sorted(kind for kind, _, _ in plans.originals(plan)) == ["snapshot"]
        assert plans.item(plan)[:2] == ("done", "MIGRATED")


@seeds
def test_leases_that_run_out_under_living_workers(
    seed: int, chance: random.Random, database_url: str, undisturbed: Callable[[str], State],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Everybody takes everybody's rows over all the time; what is written is written once."""
    monkeypatch.setattr(ledger, "LEASE_SECONDS", 0.03)
    monkeypatch.setattr(ledger, "HEARTBEAT_SECONDS", 60.0)
    monkeypatch.setattr(ledger, "FREE_TRIES", 10_000)
    monkeypatch.setattr(snapshot_split, "MOST_ATTEMPTS", 10_000)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    trial = Trial(WORLDS["snapshots"], database_url)
    trial.fill()
    faulty.watch(
        "snapshots", lambda point: time.sleep(chance.choice((0, 0, 0, 0.005, 0.02))),
        monkeypatch.setattr,
    )  # fmt: skip
    tallies = together(trial.plans, 4)
    assert sum(tallies.values()) == len(undisturbed("snapshots")["items"])
    monkeypatch.undo()
    trial.run()
    trial.assert_like(undisturbed("snapshots"))


def together(plans: Plans, count: int) -> dict[str, int]:
    """Let workers start at one moment and work until nothing is left; what they did, in sum."""
    barrier = threading.Barrier(count)
    recorders = [Recorder() for _ in range(count)]
    failures: list[BaseException] = []

    def work(recorder: Recorder) -> None:
        job = SnapshotSplit()
        try:
            with plans.opened() as conn:
                run_id = ledger.begin_run(conn, job)
            worker = Worker(job, plans.opener, Options(), run_id, recorder, Stop())
            barrier.wait()
            worker.run()
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(recorder,)) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return dict(sum((recorder.tally for recorder in recorders), Tally()).outcomes)


@seeds
@both_jobs
def test_a_worker_that_sleeps_too_long_finds_its_work_done(
    trial: Trial, job: str, undisturbed: Callable[[str], State], chance: random.Random
) -> None:
    """Stopped as a laptop is when it is closed; it wakes up when another has taken over."""
    late = trial.start(*trial.world.slowly, "--batch-size", "5", idle_timeout="1s")
    with trial.opened() as conn:
        while conn.execute("SELECT count(*) FROM job_leases").fetchone() == (0,):
            time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.4))
    late.send_signal(signal.SIGSTOP)
    try:
        trial.finish()
    finally:
        late.send_signal(signal.SIGCONT)
    assert_told(late, (*DONE, 5))
    trial.assert_like(undisturbed(job))


@seeds
def test_clocks_that_are_wrong_and_jump(
    seed: int, chance: random.Random, database_url: str, undisturbed: Callable[..., State]
) -> None:
    """Real leases, so that a row that changes hands was taken from a living worker."""
    times = 4
    trial = Trial(WORLDS["snapshots"], database_url)
    trial.fill(times)
    lease = (ledger.LEASE_SECONDS, ledger.HEARTBEAT_SECONDS)
    hour = 3600.0
    clocks = [[hour], [-hour], [chance.uniform(-hour, hour) for _ in range(7)]]
    options = ("--max-rows-per-second", "10", "--batch-size", "2")
    running = [trial.start(*options, lease=lease, clock=clock) for clock in clocks]
    for process in running:
        assert assert_told(process, DONE) in DONE
    trial.assert_like(undisturbed("snapshots", times))
    with trial.opened() as conn:
        most, workers, late = conn.execute(
            "SELECT max(attempts), count(DISTINCT lease_id),"
            " count(*) FILTER (WHERE changed_at > clock_timestamp() + interval '1 minute')"
            " FROM job_items"
        ).fetchone() or (0, 0, 0)
    assert (most, late) == (1, 0)
    assert workers > 1


@pytest.mark.parametrize("hours", [1, -1])
@both_jobs
def test_a_server_clock_that_is_set_keeps_nobody_waiting(
    job: str, trial: Trial, hours: int, undisturbed: Callable[[str], State],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Set forward, leases have run out; set back, those of the dead would last for an hour."""
    dead = trial.start(kill=("after claim", 1))
    dead.communicate(timeout=60)
    trial.execute(f"UPDATE job_leases SET lease_until = lease_until - interval '{hours} hours'")
    monkeypatch.setattr(ledger, "LEASE_SECONDS", SHORT_LEASE[0])
    monkeypatch.setattr(ledger, "HEARTBEAT_SECONDS", SHORT_LEASE[1])
    started = time.monotonic()
    trial.run()
    assert time.monotonic() - started < 10
    trial.assert_like(undisturbed(job))


def test_a_server_clock_that_is_set_back_costs_a_living_worker_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = Plans(postgres.settings_for(database_url))
    plans.add(snapshot())
    ours, theirs = SnapshotSplit(), SnapshotSplit()
    with plans.opened() as conn, plans.opened() as other:
        run_id = ledger.begin_run(conn, ours)
        with (
            ledger.lease(plans.opener, conn, ours, run_id) as old,
            ledger.lease(plans.opener, other, theirs, run_id) as new,
        ):
            (unit,) = ours.claim(conn, old, 1)
            conn.execute("UPDATE job_leases SET lease_until = lease_until + interval '1 hour'")
            assert theirs.is_waiting(other, new)
            assert theirs.claim(other, new, 1) == []
            assert ours.perform(conn, old, unit).outcomes == {"MIGRATED": 1}


# --- The owner, at the same moment ----------------------------------------------------------

#: The row that its owner changes: the first one with a log.
TARGET = UUID(int=1)
Act = Callable[[Connection], object]


def retry(conn: Connection) -> None:
    store.reset(conn, TARGET)


def resume(conn: Connection) -> None:
    conn.execute(
        "UPDATE task_item SET state = 'pending', run_generation = run_generation + 1 WHERE id = %s",
        [TARGET],
    )


def delete(conn: Connection) -> None:
    conn.execute("DELETE FROM task_item WHERE id = %s", [TARGET])


#: By the key that a row had when the run began, as its owner knows it.
_THEIRS = "theirs.project_identity_observations"
_OLD = "root_path = '/0' AND git_remote LIKE '%@%'"
_AGENTSVIEW = {
    "delete": f"DELETE FROM {_THEIRS} WHERE {_OLD}",
    "see again": f"UPDATE {_THEIRS} SET observed_at = '2026-02-02' WHERE {_OLD}",
    "add": f"INSERT INTO {_THEIRS} (project, machine, root_path, git_remote, observed_at) VALUES"
    " ('loom', 'desk', '/0', 'ssh://me@git.brook.example/kite/other', '2026-02-02')",
}


def _executing(statement: str) -> Act:
    return lambda conn: conn.execute(statement.encode())


OWNER: dict[str, dict[str, Act]] = {
    "snapshots": {"retry": retry, "resume": resume, "delete": delete},
    "remotes": {action: _executing(statement) for action, statement in _AGENTSVIEW.items()},
}


def settled(trial: Trial) -> State:
    """What of the end may not depend on when the owner acted."""
    state = trial.state()
    if trial.world.name == "remotes":
        return state
    passed_over = ("SKIPPED_CHANGED", "SKIPPED_BUSY")
    return {**state, "items": [row for row in state["items"] if row[3] not in passed_over]}


def settle_down(trial: Trial) -> None:
    """The owner's program is done with its rows; the next run looks at what it left."""
    if trial.world.name == "snapshots":
        trial.execute("UPDATE task_item SET state = 'failed'")
    trial.run()


@pytest.fixture(scope="module")
def in_turn(make_database: MakeDatabase) -> Callable[[str, str], list[State]]:
    """The ends when the owner acted before a run, and when he acted after it; made once."""
    made: dict[tuple[str, str], list[State]] = {}

    def one(job: str, act: Act, *, is_first: bool) -> State:
        trial = Trial(WORLDS[job], make_database())
        trial.fill()
        if not is_first:
            trial.run()
        with trial.opened() as conn:
            act(conn)
        settle_down(trial)
        return settled(trial)

    def ends(job: str, action: str) -> list[State]:
        if (job, action) not in made:
            act = OWNER[job][action]
            made[job, action] = [one(job, act, is_first=first) for first in (True, False)]
        return made[job, action]

    return ends


RACES = [
    (job, action, step)
    for job, steps in {
        "snapshots": [step for step in STEPS["snapshots"] if step != "put"],
        "remotes": ["claim", "hold", "change", "commit"],
    }.items()
    for number, step in enumerate(steps)
    # In short one owner per step, each in turn.
    for action in (OWNER[job] if IS_FULL else [list(OWNER[job])[number % 3]])
]


@seeds
@pytest.mark.parametrize(("job", "action", "step"), RACES)
def test_the_owner_changes_a_row_at_any_step(
    trial: Trial, job: str, action: str, step: str, seed: int, chance: random.Random,
    in_turn: Callable[[str, str], list[State]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The end is as if he had come before the run, or after it: nothing in between."""
    point = f"{chance.choice(('before', 'after'))} {step}"
    # Transactions and pages that have nothing to do with the row come first.
    occurrence = chance.randint(1, 4) if step in ("commit", "claim", "hold") else 1
    race(trial, point, occurrence, OWNER[job][action], monkeypatch)
    settle_down(trial)
    with trial.opened() as conn:
        trial.world.check(conn)
    assert settled(trial) in in_turn(job, action)


def race(
    trial: Trial, point: str, occurrence: int, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the owner act when a run comes to a point. What is done first is the row he changes.

    Within a transaction of the run he may have to wait for its end, so he has a thread.
    """
    owner: list[threading.Thread] = []
    count = 0

    def change() -> None:
        with trial.opened() as conn:
            act(conn)

    def reach(reached: str) -> None:
        nonlocal count
        count += reached == point
        if reached == point and count == occurrence:
            owner.append(threading.Thread(target=change))
            owner[0].start()
            owner[0].join(timeout=0.25)

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "HEARTBEAT_SECONDS", 0.01)
        faulty.watch(trial.world.name, reach, patched.setattr)
        trial.plans.run(trial.world.make_job())
    for thread in owner:
        thread.join()


# --- The object store -----------------------------------------------------------------------

#: Logs and originals of any size go there.
EVERYTHING_OUTSIDE = ("--inline-max-bytes", "20")


@pytest.fixture(scope="module")
def undisturbed_outside(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> State:
    """The end when logs and originals are in an object store that nothing happens to."""
    trial = Trial(WORLDS["snapshots"], make_database())
    trial.fill()
    folder = tmp_path_factory.mktemp("objects") / "store"
    process = trial.start("--blob-url", str(folder), *EVERYTHING_OUTSIDE)
    assert assert_told(process, DONE) == 3
    return trial.state()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is full before the job is done."""
    command = ["mount", "-t", "tmpfs", "-o", "size=56k,mode=700", "tmpfs", str(tmp_path)]
    is_linux = sys.platform.startswith("linux")
    if not is_linux or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


@seeds
@pytest.mark.parametrize("job", ["snapshots"])
def test_a_full_disk_under_the_object_store(
    trial: Trial, job: str, small_disk: Path, undisturbed_outside: State, chance: random.Random
) -> None:
    """A run waits for room, gives up in one sentence, and the next one goes on."""
    options = ("--blob-url", str(small_disk), *EVERYTHING_OUTSIDE)
    process = trial.start(*options, tries=3)
    told = process.communicate(timeout=60)[1]
    assert (process.returncode, told.count("fatal: ")) == (1, 1), told
    assert "there is no room left" in told and "Traceback" not in told
    waiting = trial.start(*options)
    time.sleep(chance.uniform(0, 2))
    enlarge(small_disk)
    assert assert_told(waiting, DONE) in DONE
    trial.assert_like(undisturbed_outside, Objects(str(small_disk)))


@seeds
@pytest.mark.parametrize("job", ["snapshots"])
@pytest.mark.parametrize("step", ["put", "settle", "keep", "update"])
def test_killed_between_object_and_row_and_the_object_vanishes(
    trial: Trial, job: str, step: str, undisturbed_outside: State, chance: random.Random,
    tmp_path: Path,
) -> None:  # fmt: skip
    """What no row refers to may be collected before the next run, which puts it anew."""
    options = ("--blob-url", str(tmp_path), *EVERYTHING_OUTSIDE)
    point = (f"{chance.choice(('before', 'after'))} {step}", chance.randint(1, 3))
    killed = trial.start(*options, kill=point)
    told = killed.communicate(timeout=60)[1]
    assert killed.returncode == -signal.SIGKILL, told
    in_use = str(trial.state())
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name not in in_use:
            path.unlink()
    assert assert_told(trial.start(*options), DONE) == 3
    trial.assert_like(undisturbed_outside, Objects(str(tmp_path)))


@seeds
@pytest.mark.parametrize("job", ["snapshots"])
def test_an_object_that_vanishes_is_told_and_changes_nothing(
    trial: Trial, job: str, undisturbed_outside: State, chance: random.Random, tmp_path: Path
) -> None:
    options = ("--blob-url", str(tmp_path), *EVERYTHING_OUTSIDE)
    assert assert_told(trial.start(*options), DONE) == 3
    objects = Objects(str(tmp_path))
    with trial.opened() as conn:
        rows = conn.execute(
            "SELECT id, run_track_activity_ref->>'key' FROM task_item"
            " WHERE run_track_activity_ref IS NOT NULL ORDER BY id"
        ).fetchall()
        plan, key = chance.choice(rows)
        kept = (tmp_path / key).read_bytes()
        (tmp_path / key).unlink()
        with pytest.raises(ExporterError, match="log_unavailable"):
            list(store.read_log(conn, plan, "", objects))
        hurt = {one.plan for one in store.verify(conn, objects=objects)[1]}
        assert hurt == {row[0] for row in rows if row[1] == key}
        assert trial.world.state(conn) == undisturbed_outside
    assert assert_told(trial.start(*options), DONE) in DONE
    objects.put(key, kept)
    trial.assert_like(undisturbed_outside, objects)


# --- All of it at once ----------------------------------------------------------------------


@seeds
def test_workers_are_killed_and_plans_are_retried_until_all_is_done(
    seed: int, chance: random.Random, database_url: str, undisturbed: Callable[..., State]
) -> None:
    """In full: four workers, one killed every five seconds, two retries a second."""
    times, count, kill_every = (60, 4, 5.0) if IS_FULL else (6, 2, 0.7)
    trial = Trial(WORLDS["snapshots"], database_url)
    trial.fill(times)
    lease = (3.0, 0.5) if IS_FULL else SHORT_LEASE
    options = ("--max-rows-per-second", "8" if IS_FULL else "20")
    plans = [UUID(int=n + 1) for n in range(times * len(Snapshots().kinds()))]
    retried = storm(trial, plans, chance, count, kill_every, options, lease)
    trial.finish()
    expected = undisturbed("snapshots", times)
    with trial.opened() as conn:
        trial.world.check(conn)
        generation = "SELECT id FROM task_item WHERE run_generation > 0 ORDER BY id"
        assert {row[0] for row in conn.execute(generation)} == retried
        traces = conn.execute(
            "SELECT count(*) FROM task_item WHERE run_generation > 0 AND num_nonnulls("
            "run_zip_snapshot, run_track_activity_jsonl, run_track_activity_bytes,"
            " run_track_activity_encoding, run_track_activity_ref, run_activity_overview_json,"
            " run_artifact_layout_version, generated_report_html) > 0"
        )
        assert traces.fetchone() == (0,)
    assert_rest_like(trial.state(), expected, retried)


def assert_rest_like(found: State, expected: State, retried: set[UUID]) -> None:
    """Plans that nobody retried are as after one undisturbed run; of the others, no half."""
    for table in ("plans", "originals", "items"):
        rest = [row for row in found[table] if UUID(str(row[0])) not in retried]
        assert rest == [row for row in expected[table] if UUID(str(row[0])) not in retried], table
    kept = {row[0] for row in found["originals"]} & retried
    whole = [row for row in expected["originals"] if row[0] in kept]
    assert [row for row in found["originals"] if row[0] in kept] == whole


def storm(
    trial: Trial, plans: list[UUID], chance: random.Random, count: int, kill_every: float,
    options: tuple[str, ...], lease: tuple[float, float],
) -> set[UUID]:  # fmt: skip
    """Keep workers going, kill one now and then and retry plans, until nothing is left."""

    def start() -> subprocess.Popen[str]:
        return trial.start(*options, "--batch-size", "4", lease=lease, attempts=1000)

    retried: set[UUID] = set()
    running = [start() for _ in range(count)]
    due = time.monotonic() + kill_every
    while all(process.poll() is None for process in running):
        time.sleep(0.5 if IS_FULL else 0.2)
        plan = chance.choice(plans)
        with trial.opened() as conn, suppress(ExporterError):
            store.reset(conn, plan)
            retried.add(plan)
        if time.monotonic() > due:
            due += kill_every
            victim = running.pop(chance.randrange(count))
            victim.kill()
            victim.communicate()
            running.append(start())
    for process in running:
        assert_told(process, DONE)
    return retried


# --- One fault each, at the one place where it bites ----------------------------------------


@pytest.fixture
def plans(settings: Any) -> Plans:
    return Plans(settings)


def test_no_lock_is_held_while_a_zip_is_parsed(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans.add(snapshot())
    split = snapshot_split.split
    seen: list[tuple[Any, ...]] = []

    def looked_at(*args: Any) -> Any:
        time.sleep(0.2)
        with plans.opened() as conn:
            seen.extend(
                conn.execute(
                    "SELECT a.state, a.xact_start, a.backend_xmin::text, l.mode"
                    " FROM pg_stat_activity AS a LEFT JOIN pg_locks AS l USING (pid)"
                    " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
                    " AND a.backend_type = 'client backend'"
                )
            )
        return split(*args)

    monkeypatch.setattr(snapshot_split, "split", looked_at)
    plans.run()
    assert set(seen) == {("idle", None, None, None)}


def test_a_claim_that_was_not_answered_is_done_all_the_same(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are the worker's by the ledger, and it does not know it."""
    for _ in range(3):
        plans.add(snapshot())
    claim = SnapshotSplit.claim
    lost: list[int] = []

    def unanswered(self: SnapshotSplit, conn: Any, lease: Any, count: int) -> Any:
        units = claim(self, conn, lease, 3)
        if not lost:
            lost.append(len(units))
            conn.close()
            raise psycopg.OperationalError("the answer never came")
        return units

    monkeypatch.setattr(SnapshotSplit, "claim", unanswered)
    summary = plans.run()
    assert (lost, summary.tally.rows, summary.is_finished) == ([3], 3, True)


def test_a_search_for_work_leaves_alone_what_another_run_is_finishing(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen as legacy before the commit, and as done after it, it must not be waiting again."""
    data = snapshot()
    plan = plans.add(data)
    search: list[threading.Thread] = []

    def other_run() -> None:
        job = SnapshotSplit()
        with plans.opened() as conn:
            run_id = ledger.begin_run(conn, job)
            with ledger.lease(plans.opener, conn, job, run_id) as lease:
                job._enqueue(conn, lease)

    def reach(point: str) -> None:
        if point == "after settle" and not search:
            search.append(threading.Thread(target=other_run))
            search[0].start()
            search[0].join(timeout=0.5)

    faulty.watch("snapshots", reach, monkeypatch.setattr)
    plans.run()
    search[0].join()
    assert plans.item(plan)[:2] == ("done", "MIGRATED")
    with plans.opened() as conn:
        assert restore(conn, plan).size == len(data)


def test_a_server_that_is_away_at_the_end_is_waited_for(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans.add(snapshot())
    end_run = ledger.end_run
    tries: list[int] = []

    def away(conn: Any, *args: Any, **kwargs: Any) -> None:
        tries.append(1)
        if len(tries) < 5:
            conn.close()
            raise psycopg.OperationalError("gone")
        end_run(conn, *args, **kwargs)

    monkeypatch.setattr(ledger, "end_run", away)
    assert plans.run().is_finished
    with plans.opened() as conn:
        assert conn.execute("SELECT state FROM jobs").fetchone() == ("finished",)


def test_a_signal_while_a_lock_is_waited_for_is_a_clean_stop(plans: Plans) -> None:
    trial = Trial(WORLDS["snapshots"], plans.settings.database_url or "")
    trial.fill()
    with psycopg.connect(trial.url) as owner:
        owner.execute("SELECT FROM exporter.task_item FOR UPDATE")
        process = trial.start(lock_timeout="300ms")
        with trial.opened() as conn:
            while conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            ).fetchone() == (0,):
                time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert_told(process, (143,))
        owner.rollback()
    with trial.opened() as conn:
        assert conn.execute("SELECT state FROM job_runs").fetchone() == ("stopped",)
        trial.world.check(conn)


def test_an_exclusive_job_takes_over_from_the_dead_and_not_from_the_living(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(ledger, "HEARTBEAT_SECONDS", 0.2)
    job = RemoteScrub()
    with plans.opened() as conn:
        run_id = ledger.begin_run(conn, job)
        with (
            ledger.lease(plans.opener, conn, job, run_id),
            pytest.raises(LeaseHeld),
        ):
            plans.run(RemoteScrub())
        with monkeypatch.context() as silent:
            silent.setattr(ledger, "HEARTBEAT_SECONDS", 60.0)
            silent.setattr(ledger, "_release", lambda *args: None)
            with ledger.lease(plans.opener, conn, job, run_id):
                pass
    assert plans.run(RemoteScrub()).is_finished
    assert "a run that may be dead" in plans.recorder.reasons


def test_a_second_signal_shows_no_trace_back(plans: Plans) -> None:
    trial = Trial(WORLDS["snapshots"], plans.settings.database_url or "")
    trial.fill()
    with psycopg.connect(trial.url) as owner:
        owner.execute("SELECT FROM exporter.task_item FOR UPDATE")
        process = trial.start("--workers", "2", lock_timeout="20s")
        with trial.opened() as conn:
            while conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            ).fetchone() == (0,):
                time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        owner.rollback()
        assert_told(process, (130, 143))
