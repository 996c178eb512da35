"""The daily usage report at size, as ratios against baselines measured in the same run.

    python -m benchmarks.usage_daily                  100,000 sessions, 2,000,000 usage rows
    python -m benchmarks.usage_daily --scale 0.05     the same at a twentieth of the size

``usage daily --all --json`` as a whole process, its start and connection included, is held against
agentsview 0.37.1 as a whole process with the same 5,000 sessions (``--offline``, so that it neither
reads transcripts nor asks for prices), and over a year of 100,000 against one bare statement that
reads every usage row, adds up by date and model, and neither removes a duplicate nor looks at a
session nor prices anything, on an open connection. Everything happens on an embedded server of its
own in a temporary folder, whose memory does not count. Times are medians of five runs after one
that is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.archives import big_archive
from benchmarks.origin import filled_origin
from benchmarks.process import median_of, table
from benchmarks.sessions import RUNS, Bench, Row
from exporter.db import server
from tests.interop.origin import Origin

#: Messages of a session; every second one has usage.
MESSAGES = 40
#: Days on which the sessions of the large archive begin.
DAYS = 365
ALL = ("usage", "daily", "--all", "--json", "--timezone", "UTC")
#: A window of 31 dates within those of the archive.
MONTH = ("--since", "2025-12-01", "--until", "2025-12-31")

#: Sums by date and model, without removing a duplicate, looking at a session or pricing anything.
_BARE = """
SELECT (at AT TIME ZONE 'UTC')::date, model_id, sum(input_tokens), sum(output_tokens),
    sum(cache_creation_input_tokens), sum(cache_read_input_tokens), sum(reported_cost)
FROM usage_rows GROUP BY 1, 2
"""


def seconds_of(origin: Origin) -> float:
    """One run of the origin over the same question."""
    begun = time.perf_counter()
    done = origin.run(*ALL, "--offline")
    if done.exit != 0:
        raise SystemExit(f"agentsview failed: {done.stderr}")
    return time.perf_counter() - begun


def bare_seconds(conn: psycopg.Connection[Any]) -> float:
    begun = time.perf_counter()
    conn.execute(_BARE).fetchall()
    return time.perf_counter() - begun


def against_the_origin(bench: Bench) -> list[Row]:
    sessions = bench.size(5_000)
    origin = filled_origin(bench.folder / "origin", sessions, MESSAGES)
    try:
        url = bench.database("origin")
        bench.exporter(url, "import", "agentsview", str(origin.archive), "--quiet")
        theirs = median_of(RUNS, lambda: seconds_of(origin))
        ours = median_of(RUNS, lambda: bench.exporter(url, *ALL).seconds)
    finally:
        origin.stop()
    how = f"{sessions:,} sessions: {ours:.2f} s, agentsview {theirs:.2f} s"
    return [("usage daily against agentsview", ">= 5 times", f"{theirs / ours:.1f} times", how)]


def at_full_size(bench: Bench) -> list[Row]:
    sessions = bench.size(100_000)
    source = bench.folder / "full.db"
    big_archive(source, sessions, MESSAGES, days=DAYS)
    url = bench.database("full")
    bench.exporter(url, "import", "agentsview", str(source), "--quiet")
    source.unlink()
    with bench.connected(url) as conn:
        row = conn.execute("SELECT count(*) FROM usage_rows").fetchone()
        rows = row[0] if row else 0
        conn.execute("VACUUM ANALYZE")
        bare = median_of(RUNS, lambda: bare_seconds(conn))
    peak = bench.exporter(url, *ALL, "--breakdown").peak_mib
    figures: dict[str, tuple[str, tuple[str, ...]]] = {
        "--all": ("<= 1.5 times", ALL),
        "--all --breakdown": ("-", (*ALL, "--breakdown")),
        "31 dates": ("-", (*ALL[:2], "--json", *MONTH)),
        "statusline": ("-", ("usage", "statusline")),
    }
    found = []
    for name, (target, command) in figures.items():
        ours = median_of(RUNS, lambda command=command: bench.exporter(url, *command).seconds)
        how = f"{rows:,} usage rows: {ours:.2f} s, bare sums {bare:.2f} s"
        found.append((f"usage {name} against SQL", target, f"{ours / bare:.2f} times", how))
    return [*found, ("usage daily, peak MiB", "<= 96", f"{peak:.0f}", "--all --breakdown")]


def main() -> None:
    """Print the table of figures."""
    parser = argparse.ArgumentParser(description="Measure the daily usage report.")
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="usage-daily-") as folder:
        Path(folder).chmod(0o711)
        bench = Bench(Path(folder), options.scale)
        try:
            print(table([*against_the_origin(bench), *at_full_size(bench)]))
        finally:
            server.stop(bench.settings.home)


if __name__ == "__main__":
    main()
