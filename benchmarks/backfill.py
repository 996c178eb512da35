"""The snapshots backfill, the web beside it and downloads after it, against baselines of the run.

    python -m benchmarks.backfill                  200 plans; about half an hour on two cores
    python -m benchmarks.backfill --scale 0.05     a twentieth of the plans
    python -m benchmarks.backfill --server URL     a server of yours, such as one with lz4

Everything happens in databases of its own: on an embedded server in a temporary folder, or on the
server given. Rates are medians of three rounds in which the ways take turns; each way starts from
a fresh copy of the same database. Zip surgery alone is measured by benchmarks/runzip.py.

- old way: read the snapshot, unzip it, recompress all but the log, write the log as text; and the
  same with the log recompressed too, as the baseline of benchmarks/runzip.py has it
- floor: read the snapshot, inflate the log once, write it in the same storage, nothing else
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psycopg

from benchmarks.plans import LOG_MB, Source, plan_id
from benchmarks.process import EXPORTER, Cost, run, table
from benchmarks.runzip import LOG_NAME, recompress
from exporter.artifacts import logs, store
from exporter.core import runzip
from exporter.db import connect, server
from exporter.jobs import runner
from exporter.jobs.job import Tally
from exporter.jobs.snapshot_split import SnapshotSplit
from exporter.settings import Settings

ROUNDS = 3
#: Text whatever its size, so that all rows of a figure are stored alike.
_ANY_SIZE = ("--inline-max-bytes", str(1 << 30))
Storage = Literal["text", "compact"]
Row = tuple[str, str, str, str]
Conn = psycopg.Connection[Any]


class Silent:
    """A receiver that listens to nothing."""

    def begin(self, job: str, total: int) -> None: ...
    def done(self, tally: Tally) -> None: ...
    def waiting(self, reason: str) -> None: ...


class Place:
    """A server, and databases on it that come and go."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.home = folder / "home"
        self.url = url or server.start(self.home)

    def make(self, name: str, template: str = "template1") -> Settings:
        with self.maintenance() as conn:
            conn.execute(f'DROP DATABASE IF EXISTS "bench_{name}" WITH (FORCE)'.encode())
            source = template if template == "template1" else f"bench_{template}"
            conn.execute(f'CREATE DATABASE "bench_{name}" TEMPLATE "{source}"'.encode())
            # What the copy left to be written would be paid for by whoever runs first.
            conn.execute("CHECKPOINT")
        return self.settings(name)

    def settings(self, name: str) -> Settings:
        url = psycopg.conninfo.make_conninfo(self.url, dbname=f"bench_{name}")
        return Settings(database_url=url, chosen_home=self.home)

    def drop(self, name: str) -> None:
        with self.maintenance() as conn:
            conn.execute(f'DROP DATABASE IF EXISTS "bench_{name}" WITH (FORCE)'.encode())

    @contextmanager
    def copy(self, template: str) -> Iterator[Settings]:
        """A copy of a database for the length of the block."""
        try:
            yield self.make("copy", template)
        finally:
            self.drop("copy")

    @contextmanager
    def maintenance(self) -> Iterator[Conn]:
        with closing(psycopg.connect(self.url, autocommit=True)) as conn:
            yield conn

    def fill(self, name: str, source: Source, count: int) -> int:
        settings = self.make(name)
        exporter(settings, "db", "upgrade")
        with closing(connect.connect(settings)) as conn:
            size = source.fill(conn, count)
            conn.execute("VACUUM ANALYZE task_item")
        return size

    @property
    def has_lz4(self) -> bool:
        with self.maintenance() as conn:
            row = conn.execute(
                "SELECT 'lz4' = ANY (enumvals) FROM pg_settings"
                " WHERE name = 'default_toast_compression'"
            ).fetchone()
        return bool(row and row[0])


def environment(settings: Settings) -> dict[str, str]:
    return {"EXPORTER_DATABASE_URL": settings.database_url or "", "NO_COLOR": "1"}


def exporter(settings: Settings, *arguments: str, out: Path | None = None) -> Cost:
    return run([*EXPORTER, *arguments], environment(settings), out)


# --- Whole rows -----------------------------------------------------------------------------


def old_way(conn: Conn, count: int, *, with_log: bool, at_once: bool = False) -> None:
    """What a program without surgery does with each plan, in a transaction per plan.

    `at_once`: it also sends a log as we do, which is no surgery, but a way with the driver.
    """
    for number in range(count):
        plan = plan_id(number)
        data = _read(conn, plan)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = archive.read(LOG_NAME).decode("utf-8", "replace")
        snapshot = recompress(data, with_log=with_log)
        with logs.sent_at_once(conn) if at_once else nullcontext():
            conn.execute(
                "UPDATE task_item SET run_zip_snapshot = %b, run_track_activity_jsonl = %s,"
                " run_track_activity_bytes = %s, run_artifact_layout_version = 2 WHERE id = %s",
                [snapshot, text, len(text), plan],
            )


def floor(conn: Conn, count: int, storage: Storage) -> None:
    """The least that any way must do: read, inflate, write the log."""
    logs.accept_utf8(conn)
    for number in range(count):
        plan = plan_id(number)
        archive = runzip.inspect(_read(conn, plan))
        reader = runzip.LogReader(archive, is_text=storage == "text")
        if storage == "compact":
            for _ in reader.exact():
                pass
            framed = runzip.gzip_frame(archive, reader.facts)
            assert framed is not None
            logs.keep_packed(conn, logs.Packed.of(b"".join(framed)))
            continue
        text = bytearray()
        for chunk in reader.text():
            text += chunk
        with logs.sent_at_once(conn):
            conn.execute(
                "UPDATE task_item SET run_track_activity_jsonl = %b WHERE id = %b",
                [logs.Utf8(text), plan],
            )


def _read(conn: Conn, plan: Any) -> bytes:
    with conn.cursor(binary=True) as cursor:
        row = cursor.execute(
            "SELECT run_zip_snapshot FROM task_item WHERE id = %s", [plan]
        ).fetchone()
    assert row is not None
    return bytes(row[0])


def ours(settings: Settings, storage: Storage) -> None:
    opener = partial(connect.connect, settings)
    job = SnapshotSplit(storage, inline_max_bytes=1 << 30)
    summary = runner.run(job, opener, runner.Options(), Silent())
    assert summary.is_finished and not summary.remaining, summary


def rows_per_second(place: Place, count: int, compression: str, act: Callable[..., None]) -> float:
    """One round of one way over a fresh copy."""
    with place.copy("sample") as settings:
        with closing(connect.connect(settings)) as conn:
            conn.execute(
                "ALTER TABLE task_item ALTER run_track_activity_jsonl"
                f" SET COMPRESSION {compression}".encode()
            )
            started = time.perf_counter()
            act(conn, settings)
        return count / (time.perf_counter() - started)


def whole_rows(place: Place, count: int) -> list[Row]:
    ways: dict[str, tuple[str, Callable[..., None]]] = {
        "old": ("pglz", lambda conn, _: old_way(conn, count, with_log=False)),
        "old, sent at once": (
            "pglz",
            lambda conn, _: old_way(conn, count, with_log=False, at_once=True),
        ),
        "old, log too": ("pglz", lambda conn, _: old_way(conn, count, with_log=True)),
        "text pglz": ("pglz", lambda _, settings: ours(settings, "text")),
        "text pglz floor": ("pglz", lambda conn, _: floor(conn, count, "text")),
        "compact": ("pglz", lambda _, settings: ours(settings, "compact")),
        "compact floor": ("pglz", lambda conn, _: floor(conn, count, "compact")),
    }
    if place.has_lz4:
        ways["text lz4"] = ("lz4", lambda _, settings: ours(settings, "text"))
        ways["text lz4 floor"] = ("lz4", lambda conn, _: floor(conn, count, "text"))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (compression, act) in ways.items():
            rates[name].append(rows_per_second(place, count, compression, act))
            note(f"{name}: {rates[name][-1]:.2f} rows/s")
    medians = {name: statistics.median(each) for name, each in rates.items()}
    rows: list[Row] = []
    for name, target in (("text pglz", 1.8), ("text lz4", 4.0), ("compact", 8.0)):
        if name not in medians:
            rows.append((f"row, {name}, against the old way", f">= {target} x", "-", "no lz4 here"))
            continue
        mine, old, least = medians[name], medians["old"], medians[f"{name} floor"]
        sent, whole = medians["old, sent at once"], medians["old, log too"]
        rows += [
            (f"row, {name}, against the old way", f">= {target} x", f"{mine / old:.1f} x",
             f"{count} rows: {mine:.2f} rows/s, {old:.2f} the old way"),
            (f"row, {name}, against that, sent as here", "-", f"{mine / sent:.1f} x",
             f"{sent:.2f} rows/s that way"),
            (f"row, {name}, against recompressing the log too", "-", f"{mine / whole:.1f} x",
             f"{whole:.2f} rows/s that way"),
            (f"row, {name}, against read, inflate, write", ">= 75 %", f"{mine / least:.0%}",
             f"{least:.2f} rows/s at least"),
        ]  # fmt: skip
    return rows


# --- The command ----------------------------------------------------------------------------


def command(settings: Settings, folder: Path, storage: Storage, workers: int) -> tuple[Any, Cost]:
    """A backfill as a process: its summary and its cost, children included."""
    out = folder / "backfill.json"
    options = (
        "--workers", str(workers), "--share", "1", "--log-storage", storage, *_ANY_SIZE, "--json",
    )  # fmt: skip
    cost = exporter(settings, "backfill", "snapshots", *options, out=out)
    summary = json.loads(out.read_text().splitlines()[-1])
    assert summary["finished"], summary
    return summary, cost


def workers(place: Place, folder: Path) -> list[Row]:
    rows: list[Row] = []
    for storage in ("text", "compact"):
        found: list[tuple[Any, Cost]] = []
        for count in (1, 2):
            with place.copy("full") as settings:
                found.append(command(settings, folder, storage, count))
            summary, cost = found[-1]
            rate = summary["rows"] / summary["seconds"]
            note(f"{storage}, {count} workers: {rate:.2f} rows/s, {cost.peak_mib:.0f} MiB")
        (one, cost), (two, _) = found
        rows += [
            (f"two workers, {storage}", ">= 1.6 x one", f"{one['seconds'] / two['seconds']:.2f} x",
             f"{one['rows']} plans: {one['seconds']:.1f} s, two {two['seconds']:.1f} s"),
            (f"one worker, {storage}, MB/s", ">= 20",
             f"{one['bytes_in'] / one['seconds'] / 1e6:.1f}", "bytes of legacy snapshots"),
            (f"peak MiB of a worker, {storage}", "<= 256", f"{cost.peak_mib:.0f}",
             f"logs of {' / '.join(map(str, LOG_MB))} MB"),
        ]  # fmt: skip
    return rows


def done_already(place: Place, count: int) -> list[Row]:
    """A run that finds every plan done."""
    settings = place.make("done")
    exporter(settings, "db", "upgrade")
    with closing(connect.connect(settings)) as conn:
        conn.execute(
            "INSERT INTO task_item (id, state, run_zip_snapshot, run_artifact_layout_version)"
            " SELECT gen_random_uuid(), 'completed', 'zip', 2 FROM generate_series(1, %s)",
            [count],
        )
        conn.execute(
            "INSERT INTO job_items (job, item, status, outcome, source_bytes)"
            " SELECT 'snapshots', id::text, 'done', 'MIGRATED', 3 FROM task_item"
        )
        conn.execute("VACUUM ANALYZE task_item, job_items")
    inside, whole = [], []
    for _ in range(2 * ROUNDS):
        started = time.perf_counter()
        ours(settings, "text")
        inside.append(time.perf_counter() - started)
        whole.append(exporter(settings, "backfill", "snapshots", "--json").seconds)
    place.drop("done")
    seconds = statistics.median(inside)
    text = f"{count:,} rows; whole process {statistics.median(whole):.2f} s"
    return [("a run over rows that are done", "<= 1 s", f"{seconds:.2f} s", text)]


# --- The web beside it ----------------------------------------------------------------------

#: What pages and pollers of the owner's program send, by how often.
MIX = (
    ("SELECT id, state, progress_percentage, timestamp_created FROM task_item WHERE user_id = 'u'"
     " ORDER BY timestamp_created DESC, id LIMIT 20", 3),
    ("SELECT state, progress_percentage, progress_message FROM task_item WHERE id = %(id)s", 5),
    ("UPDATE task_item SET last_seen_timestamp = now() WHERE id = %(other)s", 3),
    ("SELECT generated_report_html FROM task_item WHERE id = %(id)s", 1),
)  # fmt: skip


class Web:
    """Clients that ask for something, wait a little, and ask again."""

    def __init__(self, settings: Settings, plans: int, clients: int = 4) -> None:
        self.settings = settings
        self.plans = plans
        self.clients = clients

    def p95(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """95th percentile, in seconds, of what was asked while the time lasts."""
        took: list[float] = []
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._ask, args=(number, took, end, until))
            for number in range(self.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return percentile(took, 0.95)

    def _ask(
        self, number: int, took: list[float], end: float, until: Callable[[], bool]
    ) -> None:  # fmt: skip
        statements = [text for text, weight in MIX for _ in range(weight)]
        with closing(connect.connect(self.settings)) as conn:
            turn = number
            while time.monotonic() < end and not until():
                turn += 7
                parameters = {
                    "id": plan_id(turn % self.plans), "other": plan_id(turn * 13 % self.plans),
                }  # fmt: skip
                started = time.perf_counter()
                _run(conn, statements[turn % len(statements)], parameters)
                took.append(time.perf_counter() - started)
                time.sleep(0.02)


def _run(conn: Conn, statement: str, parameters: dict[str, Any]) -> None:
    cursor = conn.execute(statement.encode(), parameters)
    if cursor.description is not None:
        cursor.fetchall()


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def foreground(place: Place, plans: int, seconds: float) -> list[Row]:
    """The web's waits with nothing else to do, and with a backfill at its default pace."""
    rows: list[Row] = []
    for storage in ("text", "compact"):
        idle, busy = [], []
        for _ in range(ROUNDS):
            with place.copy("full") as settings:
                web = Web(settings, plans)
                web.p95(1.0)
                idle.append(web.p95(seconds))
                options = ("backfill", "snapshots", "--log-storage", storage, *_ANY_SIZE, "--quiet")
                with subprocess.Popen(
                    [*EXPORTER, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    env={**os.environ, **environment(settings)},
                ) as process:  # fmt: skip
                    # The start of the interpreter is no backfill yet.
                    wait_for_a_row(settings, process)
                    busy.append(web.p95(seconds, lambda: process.poll() is not None))
                    process.terminate()
        before, during = statistics.median(idle), statistics.median(busy)
        rows.append(
            (f"p95 of the web beside it, {storage}", "<= 1.3 x idle", f"{during / before:.2f} x",
             f"{before * 1e3:.2f} ms idle, {during * 1e3:.2f} ms; 4 clients, default pace")
        )  # fmt: skip
    return rows


def wait_for_a_row(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    """Until a backfill in another process has done its first row, or has ended."""
    with closing(connect.connect(settings)) as conn:
        while process.poll() is None:
            row = conn.execute("SELECT EXISTS (SELECT FROM job_items WHERE status = 'done')")
            if row.fetchone() == (True,):
                return
            time.sleep(0.02)


# --- Downloads ------------------------------------------------------------------------------


def downloads(place: Place, folder: Path, count: int, requests: int) -> list[Row]:
    """A split plan as stored, against reading, unzipping, dropping the log and recompressing."""
    # Every third plan has the largest log.
    largest = [plan_id(n) for n in range(count) if n % len(LOG_MB) == LOG_MB.index(max(LOG_MB))]
    with place.copy("sample") as settings:
        with closing(connect.connect(settings)) as conn:
            legacy = _timed(largest, requests // 5, lambda p: [_old_download(conn, p)])
            sanitised = _timed(largest, requests, lambda p: store.download(conn, p))
        ours(settings, "compact")
        with closing(connect.connect(settings)) as conn:
            split = _timed(largest, requests, lambda plan: store.download(conn, plan))
        memory = [
            exporter(settings, "artifacts", name, str(largest[0]), out=folder / "out").peak_mib
            for name in ("overview", "download")
        ]
        body = (folder / "out").stat().st_size / 2**20
    old_p95, old_cpu = legacy
    rows: list[Row] = []
    for name, (p95, cpu) in (("split", split), ("legacy, by surgery", sanitised)):
        targets = (">= 90 % lower", ">= 95 % lower") if name == "split" else ("-", "-")
        rows += [
            (f"download, {name}, p95", targets[0], f"{1 - p95 / old_p95:.1%} lower",
             f"{p95 * 1e3:.1f} ms, {old_p95 * 1e3:.0f} ms by recompressing"),
            (f"download, {name}, CPU", targets[1], f"{1 - cpu / old_cpu:.1%} lower",
             f"{cpu * 1e3:.1f} ms, {old_cpu * 1e3:.0f} ms; this process, {max(LOG_MB)} MB logs"),
        ]  # fmt: skip
    growth = memory[1] - memory[0]
    text = f"above a process that reads a few columns; body {body:.1f} MiB"
    rows.append(("download, split, peak MiB", "<= body + 16", f"{growth:.1f}", text))
    return rows


def _old_download(conn: Conn, plan: Any) -> bytes:
    return recompress(_read(conn, plan), with_log=False)


def _timed(plans: list[Any], times: int, act: Callable[[Any], Any]) -> tuple[float, float]:
    """(95th percentile of the seconds, mean CPU seconds of this process)."""
    took: list[float] = []
    with open(os.devnull, "wb") as nowhere:
        cpu = time.process_time()
        for turn in range(max(times, 5)):
            started = time.perf_counter()
            for part in act(plans[turn % len(plans)]):
                nowhere.write(part)
            took.append(time.perf_counter() - started)
        cpu = time.process_time() - cpu
    return percentile(took, 0.95), cpu / len(took)


# --- All of it ------------------------------------------------------------------------------


def note(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--server", metavar="URL", help="instead of the embedded server")
    options = parser.parse_args()
    count = max(6, round(200 * options.scale))
    sample = max(6, round(30 * options.scale))
    seconds = max(3.0, 10 * options.scale)
    with tempfile.TemporaryDirectory(prefix="exporter-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        place = Place(folder, options.server)
        try:
            source = Source()
            size = place.fill("full", source, count)
            place.fill("sample", source, sample)
            note(f"{count} plans of {size / 1e6 / count:.1f} MB on {server_name(place)}")
            rows = whole_rows(place, sample)
            rows += workers(place, folder)
            rows += done_already(place, max(1000, round(100_000 * options.scale)))
            rows += foreground(place, count, seconds)
            rows += downloads(place, folder, sample, max(20, round(200 * options.scale)))
        finally:
            for database in ("copy", "full", "sample", "done"):
                place.drop(database)
            if not options.server:
                server.stop(place.home)
    print(table(rows))


def server_name(place: Place) -> str:
    with place.maintenance() as conn:
        row = conn.execute("SHOW server_version").fetchone()
    lz4 = "with" if place.has_lz4 else "without"
    return f"PostgreSQL {row[0] if row else '?'} {lz4} lz4"


if __name__ == "__main__":
    main()
