"""The one loop that all jobs run in: lease, claim, perform, count, wait, stop.

A worker is one process with one connection and one lease. What can go wrong with the server is
answered here, by SQLSTATE (`exporter.core.pace.reaction`); what can be wrong with a row is the
job's affair. A signal stops the worker between two units, and what it still held is free at once.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Protocol, TypeVar

import psycopg

from exporter.core.pace import BatchSize, Pace, Reaction, Wait, reaction, retry_delay
from exporter.errors import BadInput, ExporterError, Interrupted, LeaseHeld, ObjectStoreUnavailable
from exporter.jobs import ledger
from exporter.jobs.job import Connection, Job, Lease, LeaseLost, Opener, Tally, alive

Result = TypeVar("Result")

#: Tries of one step before a failure that may pass counts as one that does not.
TRIES = 12
#: Tries of one unit that fails in a way nobody expected.
UNIT_TRIES = 3
#: Wait for a row lock; then the unit is tried again later.
LOCK_TIMEOUT = "2s"
#: Longest statement, where the operator set no limit of his own.
STATEMENT_TIMEOUT = "2min"
#: Longest silence inside a transaction, where the operator set no limit of his own: the locks of a
#: worker that is suspended go, and a large log on a slow line has the time it needs.
IDLE_TIMEOUT = "60s"
#: Logs that become text are packed by the server: lz4 takes a fraction of the time of pglz, and
#: counts here for columns that do not name a method, such as those that came with the owner's
#: split.
_COMPRESSION = """
SELECT set_config('default_toast_compression', 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
"""
_TIMEOUTS = """
SELECT set_config('lock_timeout', %(lock)s, false), set_config('statement_timeout',
    CASE WHEN current_setting('statement_timeout') = '0' THEN %(statement)s
         ELSE current_setting('statement_timeout') END, false),
    set_config('idle_in_transaction_session_timeout',
    CASE WHEN current_setting('idle_in_transaction_session_timeout') = '0' THEN %(idle)s
         ELSE current_setting('idle_in_transaction_session_timeout') END, false)
"""
#: How far the slowest standby is behind, in seconds; 0 without one.
REPLICATION_LAG = """
SELECT coalesce(extract(epoch FROM max(replay_lag)), 0)::float8 FROM pg_stat_replication
"""
LAG_CHECK_SECONDS = 5.0
#: Between looks at work that others have in hand.
POLL_SECONDS = 0.5
#: A unit that takes longer was suspended (Ctrl-Z), not at work: no rest is owed for that.
LONGEST_WORK = 120.0
#: Shorter waits are told when they add up to this.
TOLD_SECONDS = 0.2


@dataclass(frozen=True)
class Options:
    """How to run a job. Limits hold for the run and are divided among its workers."""

    limit: int | None = None
    batch_size: int | None = None
    workers: int = 1
    is_dry_run: bool = False
    rows_per_second: float | None = None
    bytes_per_second: float | None = None
    #: Part of each second that a worker may be at work.
    share: float = 1.0
    #: Seconds that a standby may be behind before the workers wait for it.
    replication_lag: float | None = None
    #: Seconds of rest of each worker after each unit.
    pause: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What a run did. `remaining` counts rows that a further run would look at."""

    job: str
    run_id: int | None
    tally: Tally
    remaining: int
    is_finished: bool
    seconds: float


class Receiver(Protocol):
    """Told what happens while it happens; drawn by the command line."""

    def begin(self, job: str, total: int) -> None: ...

    def done(self, tally: Tally) -> None: ...

    def waiting(self, reason: str) -> None: ...


class Stop:
    """Whether a signal came, and which. The second signal is not waited for any more."""

    def __init__(self) -> None:
        self.signal_name = ""

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    def catch(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM while the block runs."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in before:
                signal.signal(number, self.catch)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(job: Job, opener: Opener, options: Options, receiver: Receiver) -> Summary:
    """Run a job to its end, to its limit, or until a signal.

    Raises Interrupted after a clean stop, LeaseHeld, BadInput for several workers of a dry run,
    and errors of the driver that did not pass.
    """
    if options.is_dry_run and options.workers > 1:
        raise BadInput("--workers", "a dry run has one worker", accepted="1 with --dry-run")
    stop = Stop()
    with stop.installed(), opener() as conn:
        total = job.expected(conn)
        receiver.begin(job.name, total if options.limit is None else min(total, options.limit))
        act = _dry_run if options.is_dry_run else _real_run
        summary = act(job, opener, conn, options, stop, receiver)
    if stop:
        raise Interrupted(stop.signal_name)
    return summary


def _real_run(
    job: Job, opener: Opener, conn: Connection, options: Options, stop: Stop, receiver: Receiver
) -> Summary:
    started = time.monotonic()
    job.prepare(conn)
    run_id = ledger.begin_run(conn, job)
    counter = _Counter(receiver)
    state = "failed"
    try:
        if options.workers == 1:
            Worker(job, opener, options, run_id, counter, stop).run()
        else:
            _processes(job, opener, options, run_id, counter, stop)
        state = "stopped" if stop else "finished"
    finally:
        left = _end(job, opener, conn, run_id, state, counter.tally)
    is_finished = state == "finished" and left == 0
    seconds = time.monotonic() - started
    return Summary(job.name, run_id, counter.tally, left or 0, is_finished, seconds)


def _end(
    job: Job, opener: Opener, conn: Connection, run_id: int, state: str, tally: Tally
) -> int | None:
    """Record the end of a run; returns how many rows are left, None if the server is not there.

    A run that did all of its work waits for a server that is gone, as its workers do, and raises
    what does not pass. One that failed or was stopped has something else to say, and raises
    nothing.
    """
    is_done = state == "finished"
    tries = TRIES if is_done else 2
    for attempt in range(1, tries + 1):
        try:
            # The connection was idle for as long as the run took: the second try has a new one.
            with alive(conn, opener) as usable:
                left = job.remaining(usable)
                is_finished = is_done and left == 0
                ledger.end_run(usable, job, run_id, state, tally, is_finished=is_finished)
                return left
        except (psycopg.Error, ExporterError) as error:
            if is_done and (attempt == tries or not _is_passing(error)):
                raise
            time.sleep(retry_delay(attempt, random.random()))
    return None


def _is_passing(error: psycopg.Error | ExporterError) -> bool:
    """Whether the same may succeed later."""
    if isinstance(error, ExporterError):
        return error.retryable
    return reaction(error.sqlstate) in (Reaction.RETRY, Reaction.RECONNECT, Reaction.HOLD)


def _dry_run(
    job: Job, opener: Opener, conn: Connection, options: Options, stop: Stop, receiver: Receiver
) -> Summary:
    """Go through all pending units without a lease and without writing, at the pace asked for."""
    started = time.monotonic()
    counter = _Counter(receiver)
    left = _Rehearsal(job, opener, options, 0, counter, stop).rehearse()
    seconds = time.monotonic() - started
    return Summary(job.name, None, counter.tally, left, False, seconds)


@dataclass
class _Counter:
    """Sums up for the run and passes on."""

    receiver: Receiver
    tally: Tally = field(default_factory=Tally)

    def done(self, tally: Tally) -> None:
        self.tally += tally
        self.receiver.done(tally)

    def waiting(self, reason: str) -> None:
        self.receiver.waiting(reason)


class Listener(Protocol):
    """The part of a receiver that a worker talks to."""

    def done(self, tally: Tally) -> None: ...

    def waiting(self, reason: str) -> None: ...


# --- One worker -----------------------------------------------------------------------------


class Worker:
    """One connection and one lease, working until nothing is left, the limit, or a signal."""

    def __init__(
        self, job: Job, opener: Opener, options: Options, run_id: int, listener: Listener,
        stop: Stop,
    ) -> None:  # fmt: skip
        self.job = job
        self.opener = opener
        self.options = options
        self.run_id = run_id
        self.listener = listener
        self.stop = stop
        self.conn = self._open()
        self.batch = BatchSize(largest=options.batch_size or 1000)
        self.pace = Pace(options.rows_per_second, options.bytes_per_second, options.share)
        self.rows = 0
        self._lag_looked = 0.0
        self._waited = 0.0
        self._untold = 0.0

    def run(self) -> None:
        try:
            taken = self._try(
                lambda: ledger.take(self.conn, self.job, self.run_id, self._pause)
            )  # fmt: skip
            with ledger.kept(self.opener, self.conn, taken) as lease:
                while not self._is_over():
                    units = self._try(lambda: self.job.claim(self.conn, lease, self._room()))
                    if units:
                        self._batch(lease, units)
                    elif self._try(lambda: self.job.is_waiting(self.conn, lease)):
                        self._wait(POLL_SECONDS, "units in the hands of other workers")
                    else:
                        break
        except (psycopg.Error, ExporterError):
            # What fails while we are asked to stop is left to the next run like all the rest.
            if not self.stop:
                raise
        finally:
            self.conn.close()

    def _pause(self) -> bool:
        """Give another run time to show that it lives; False when there is no time for that."""
        self._wait(POLL_SECONDS, "a run that may be dead")
        return not self.stop

    def _is_over(self) -> bool:
        return bool(self.stop) or self._room() <= 0

    def _room(self) -> int:
        if self.options.limit is None:
            return self.batch.rows
        return min(self.batch.rows, self.options.limit - self.rows)

    def _batch(self, lease: Lease, units: Sequence[Any]) -> None:
        for unit in units:
            if self.stop:
                return
            started, waited = time.monotonic(), self._waited
            tally = self._unit(lease, unit)
            # Whoever waited for a server or a lock was not at work, and owes no rest for it.
            seconds = time.monotonic() - started - (self._waited - waited)
            seconds = min(max(seconds, 0.0), LONGEST_WORK)
            self.rows += tally.rows
            self.listener.done(tally)
            if self._is_over():
                return
            wait = self.pace.after(tally.rows, tally.bytes_in, seconds)
            wait = max(wait, Wait(self.options.pause, "the pause after each row"))
            # With its wait: what is claimed and not worked on is kept from others.
            self.batch.took(tally.rows, seconds + wait.seconds)
            if wait.seconds:
                self._wait(wait.seconds, wait.reason)
            self._wait_for_standbys()

    def _wait_for_standbys(self) -> None:
        """Wait while a standby is further behind than allowed; looks every few seconds."""
        allowed = self.options.replication_lag
        if allowed is None or time.monotonic() - self._lag_looked < LAG_CHECK_SECONDS:
            return
        while not self.stop:
            row = self._try(lambda: self.conn.execute(REPLICATION_LAG).fetchone())
            if row is None or row[0] <= allowed:
                break
            self._wait(1.0, "standbys that are behind")
        self._lag_looked = time.monotonic()

    def _unit(self, lease: Lease, unit: Any) -> Tally:
        """Do one unit, whatever the server says meanwhile; a lost lease counts as nothing."""
        tries = 0
        while True:
            try:
                return self._perform(lease, unit)
            except LeaseLost:
                return self._lost()
            except psycopg.Error as error:
                found = reaction(error.sqlstate)
                # A signal cut the tries short: that the unit takes too long is not proven.
                is_too_long = found is Reaction.SHRINK and not self.stop
                if found is Reaction.QUARANTINE or is_too_long:
                    facts = {"sqlstate": error.sqlstate}
                    return self._refuse(lease, unit, "DB_REJECTED", facts)
                raise
            except (ExporterError, KeyboardInterrupt):
                raise
            except Exception as error:
                tries += 1
                if tries >= UNIT_TRIES:
                    # The text of an error nobody expected may quote anything; its kind may not.
                    facts = {"error": type(error).__name__}
                    return self._refuse(lease, unit, "INTERNAL", facts)

    def _perform(self, lease: Lease, unit: Any) -> Tally:
        return self._try(
            lambda: self.job.perform(self.conn, lease, unit),
            after_loss=lambda: self.job.read_back(self.conn, lease, unit),
        )

    def _refuse(self, lease: Lease, unit: Any, reason: str, facts: dict[str, Any]) -> Tally:
        try:
            return self._try(
                lambda: self.job.refuse(self.conn, lease, unit, reason, facts),
                after_loss=lambda: self.job.read_back(self.conn, lease, unit),
            )
        except LeaseLost:
            return self._lost()

    def _lost(self) -> Tally:
        """A unit is in other hands; of a job with one worker, that is all of them."""
        if self.job.is_exclusive:
            raise LeaseHeld(f"the job {self.job.name}", "it took over while we were silent")
        return Tally()

    def _try(
        self,
        step: Callable[[], Result],
        after_loss: Callable[[], Result | None] | None = None,
    ) -> Result:
        """Do a step again as long as its failure may pass.

        After a lost connection it is not known whether the step was done, so `after_loss` looks
        before the step is done again. Other errors of the driver come out.
        """
        attempt = 0
        is_unknown = False
        while True:
            try:
                if is_unknown and after_loss is not None:
                    found = after_loss()
                    is_unknown = False
                    if found is not None:
                        return found
                return step()
            except psycopg.Error as error:
                attempt += 1
                is_unknown = self._recover(error, attempt) or is_unknown
            except ObjectStoreUnavailable as error:
                # Good rows never go to quarantine for this: hold on, then stop with all as it was.
                attempt += 1
                if attempt >= TRIES or self.stop:
                    raise
                delay = retry_delay(attempt, random.random(), longest=60.0)
                self._wait(delay, f"the object store: {error.problem}")

    def _recover(self, error: psycopg.Error, attempt: int) -> bool:
        """Wait as the error asks; True when the connection was lost. Raises what will not pass."""
        if isinstance(error, psycopg.errors.UndefinedTable) and attempt == 1:
            self.job.forget()
            return False
        reason = Reaction.RECONNECT if self.conn.closed else reaction(error.sqlstate)
        if attempt >= TRIES or self.stop or not self._may_pass(reason, attempt):
            raise error
        if reason is Reaction.RECONNECT:
            self._wait(retry_delay(attempt, random.random()), "the connection was lost")
            self._reconnect()
            return True
        longest = 60.0 if reason is Reaction.HOLD else 5.0
        why = "the server lacks room" if reason is Reaction.HOLD else "locks or time-outs"
        self.batch.shrink()
        self._wait(retry_delay(attempt, random.random(), longest=longest), why)
        return False

    @staticmethod
    def _may_pass(reason: Reaction, attempt: int) -> bool:
        if reason is Reaction.SHRINK:
            return attempt < UNIT_TRIES
        return reason in (Reaction.RETRY, Reaction.RECONNECT, Reaction.HOLD)

    def _open(self) -> Connection:
        conn = self.opener()
        try:
            timeouts = {"lock": LOCK_TIMEOUT, "statement": STATEMENT_TIMEOUT, "idle": IDLE_TIMEOUT}
            conn.execute(_TIMEOUTS, timeouts)
            conn.execute(_COMPRESSION)
        except BaseException:
            conn.close()
            raise
        return conn

    def _reconnect(self) -> None:
        self.conn.close()
        for attempt in range(1, TRIES + 1):
            try:
                self.conn = self._open()
                return
            except (psycopg.Error, ExporterError):
                if attempt == TRIES or self.stop:
                    raise
                self._wait(retry_delay(attempt, random.random()), "no server answers")

    def _wait(self, seconds: float, reason: str) -> None:
        """Wait and say why, unless it is over at once."""
        self._untold += seconds
        if self._untold >= TOLD_SECONDS:
            self._untold = 0.0
            self.listener.waiting(reason)
        started = time.monotonic()
        _sleep(seconds, self.stop)
        self._waited += time.monotonic() - started


class _Rehearsal(Worker):
    """A worker of a dry run: the same answers to failures, and nothing that writes."""

    def rehearse(self) -> int:
        """Look at all pending units; returns how many rows a run would look at afterwards."""
        nothing = Lease(self.job.name, 0, 0)
        try:
            units = self._after(None)
            while units and not self._is_over():
                self._batch(nothing, units)
                units = () if self._is_over() else self._after(units[-1])
            return self._try(lambda: self.job.remaining(self.conn))
        except (psycopg.Error, ExporterError):
            if not self.stop:
                raise
            return 0
        finally:
            self.conn.close()

    def _after(self, unit: Any) -> Sequence[Any]:
        """The units that come next. Reading their keys is cheap, so not a few at a time."""
        most = self.options.batch_size or 100
        if self.options.limit is not None:
            most = min(most, self.options.limit - self.rows)
        return self._try(lambda: self.job.pending(self.conn, unit, most))

    def _perform(self, lease: Lease, unit: Any) -> Tally:
        return self._try(lambda: self.job.preview(self.conn, unit))

    def _refuse(self, lease: Lease, unit: Any, reason: str, facts: dict[str, Any]) -> Tally:
        return Tally({"QUARANTINED": 1})


def _sleep(seconds: float, stop: Stop) -> None:
    """Sleep in short pieces, so that a signal is heard."""
    end = time.monotonic() + seconds
    while not stop and (left := end - time.monotonic()) > 0:
        time.sleep(min(0.1, left))


# --- Several workers ------------------------------------------------------------------------


def _processes(
    job: Job, opener: Opener, options: Options, run_id: int, counter: _Counter, stop: Stop
) -> None:
    """Run workers as processes of their own and sum up what they say until all have ended."""
    # Not fork: a child would inherit the connection.
    context = multiprocessing.get_context("spawn")
    workers: list[tuple[BaseProcess, Pipe]] = []
    try:
        for share in _shares(options):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (job, opener, share, run_id, theirs)
            process: BaseProcess = context.Process(target=_child, args=arguments, daemon=True)
            process.start()
            theirs.close()
            workers.append((process, ours))
        failures = _listen(workers, counter, stop)
    finally:
        for process, _ in workers:
            if process.is_alive():
                process.terminate()
            process.join(timeout=30)
    if failures and not stop:
        raise failures[0]


def _shares(options: Options) -> list[Options]:
    """The options of each worker: limits divided, remainders to the first."""
    count = options.workers

    def part(value: float | None) -> float | None:
        return None if value is None else value / count

    share = replace(
        options, workers=1, rows_per_second=part(options.rows_per_second),
        bytes_per_second=part(options.bytes_per_second),
    )  # fmt: skip
    if options.limit is None:
        return [share] * count
    whole, rest = divmod(options.limit, count)
    return [replace(share, limit=whole + (number < rest)) for number in range(count)]


def _listen(
    workers: Sequence[tuple[BaseProcess, Pipe]], counter: _Counter, stop: Stop
) -> list[ExporterError]:
    """Pass on what the workers say; returns how they failed.

    A worker that dies without a word is no failure while another lives: its units are taken over.
    """
    open_pipes: dict[Pipe, BaseProcess] = {pipe: process for process, pipe in workers}
    failures: list[ExporterError] = []
    is_told = survived = False
    while open_pipes:
        if stop and not is_told:
            is_told = True
            for worker in open_pipes.values():
                worker.terminate()
        for pipe in wait_for_any(list(open_pipes), timeout=0.2):
            assert isinstance(pipe, Pipe)
            try:
                kind, value = pipe.recv()
            except (EOFError, OSError):
                worker = open_pipes.pop(pipe)
                worker.join(timeout=10)
                survived = survived or worker.exitcode == 0
                continue
            if kind == "done":
                counter.done(value)
            elif kind == "waiting":
                counter.waiting(value)
            else:
                failures.append(ExporterError(value[0], hint=value[1]))
    if not survived and not failures:
        failures.append(ExporterError("every worker died", hint="run the same command again"))
    return failures


class _Teller:
    """Tells the parent process; its silence means that we go, too."""

    def __init__(self, pipe: Pipe, stop: Stop) -> None:
        self.pipe = pipe
        self.stop = stop

    def done(self, tally: Tally) -> None:
        self._send("done", tally)

    def waiting(self, reason: str) -> None:
        self._send("waiting", reason)

    def _send(self, kind: str, value: Any) -> None:
        try:
            self.pipe.send((kind, value))
        except OSError:
            self.stop.signal_name = self.stop.signal_name or "SIGTERM"


def _child(job: Job, opener: Opener, options: Options, run_id: int, pipe: Pipe) -> None:
    """A worker process, from start to end."""
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.catch)
    # Ctrl-C reaches the whole group; the parent passes it on, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Worker(job, opener, options, run_id, _Teller(pipe, stop), stop).run()
    except ExporterError as error:
        with suppress(OSError):
            pipe.send(("failed", (error.message, error.hint)))
    except KeyboardInterrupt:
        pass  # the second signal
    except Exception as error:
        # The text of an error nobody expected may quote anything; its kind may not.
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        why = f"SQLSTATE {state}" if state else type(error).__name__
        with suppress(OSError):
            pipe.send(("failed", (f"a worker failed with {why}", "run the same command again")))
