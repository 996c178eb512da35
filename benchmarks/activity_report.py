"""The activity report at size, as ratios against a baseline measured in the same run.

    python -m benchmarks.activity_report                  100,000 sessions, 2,000,000 usage rows
    python -m benchmarks.activity_report --scale 0.05     the same at a twentieth of the size

A month of ``activity report --json`` as a whole process is held against agentsview 0.37.1 as a
whole process with the same 5,000 sessions. Of a year of 100,000 it is held against bare statements
that read the same rows, sort them and send what any answer needs; both on an open connection.
Everything happens on an embedded server of its own in a temporary folder. Times are medians of five
runs after one that is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.archives import big_archive
from benchmarks.origin import filled_origin
from benchmarks.process import Cost, median_of, table
from benchmarks.sessions import RUNS, Bench, Row
from exporter.core.calendar import Range, Request, resolve
from exporter.db import connect, server
from exporter.exports.activity_report import Selection, open_report
from tests.interop.origin import Origin

#: Messages of a session; every second one has usage.
MESSAGES = 40
#: Days on which the sessions of the large archive begin.
DAYS = 365
MONTH = ("--preset", "month", "--date", "2025-12-10", "--timezone", "UTC")
DAY = ("--date", "2025-12-10", "--timezone", "UTC")

#: What any answer to the question must do at least: find the sessions, cut their activity to the
#: range, sort its ends, count each response once, and hand all intervals over in order.
_BARE = (
    """
    SELECT at, sum(change) OVER (ORDER BY at, change ROWS UNBOUNDED PRECEDING) FROM (
        SELECT p.at, 1 AS change FROM sessions AS s JOIN activity_points AS p USING (session_key)
        WHERE s.visible AND s.started_at < %(end)s AND s.ended_at >= %(start)s
          AND p.at >= %(start)s AND p.at < %(end)s AND p.active_nanoseconds > 0
        UNION ALL
        SELECT p.at + p.active_nanoseconds / 1000 * interval '1 microsecond', -1
        FROM sessions AS s JOIN activity_points AS p USING (session_key)
        WHERE s.visible AND s.started_at < %(end)s AND s.ended_at >= %(start)s
          AND p.at >= %(start)s AND p.at < %(end)s AND p.active_nanoseconds > 0
    ) AS events
    """,
    """
    SELECT session_key, model_id, sum(output_tokens), sum(input_tokens),
        sum(cache_creation_input_tokens), sum(cache_read_input_tokens), sum(reported_cost)
    FROM (
        SELECT DISTINCT ON (u.dedup_key) u.*
        FROM sessions AS s JOIN usage_rows AS u USING (session_key)
        WHERE s.visible AND s.started_at < %(end)s AND s.ended_at >= %(start)s
          AND u.at >= %(start)s AND u.at < %(end)s
        ORDER BY u.dedup_key, u.at, s.id
    ) AS u
    GROUP BY session_key, model_id
    """,
    """
    SELECT json_build_object('session_id', s.id, 'start', p.at,
        'end', p.at + p.active_nanoseconds / 1000 * interval '1 microsecond')::text
    FROM sessions AS s JOIN activity_points AS p USING (session_key)
    WHERE s.visible AND s.started_at < %(end)s AND s.ended_at >= %(start)s
      AND p.at >= %(start)s AND p.at < %(end)s AND p.active_nanoseconds > 0
    ORDER BY p.at, p.active_nanoseconds, s.id
    """,
)


def covered() -> Range:
    """The month as the export takes it."""
    return resolve(Request("month", "2025-12-10"), ZoneInfo("UTC"), 1 << 62)


def bare_seconds(bench: Bench, url: str) -> float:
    """The three statements of the bare aggregate, all their rows sent to us and dropped."""
    bounds = {"start": "2025-12-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}
    with bench.connected(url) as conn:
        conn.execute("SET jit = off")
        conn.execute("SET work_mem = '32MB'")
        started = time.perf_counter()
        for statement in _BARE:
            query = f"COPY ({statement}) TO STDOUT".encode()
            with conn.cursor().copy(query, bounds) as copy:
                for _ in copy:
                    pass
        return time.perf_counter() - started


def export_seconds(bench: Bench, url: str) -> float:
    """The whole report within one process, all its text read."""
    with bench.connected(url) as conn:
        started = time.perf_counter()
        with (
            connect.read_snapshot(conn),
            open_report(conn, covered(), "UTC", Selection(), framing="pretty") as found,
        ):
            for rows in (found.sessions, found.intervals):
                for _ in rows:
                    pass
        return time.perf_counter() - started


def full_figures(bench: Bench) -> list[Row]:
    """A month and a day of the large archive."""
    source = bench.folder / "source.db"
    sessions = bench.size(100_000)
    big_archive(source, sessions, MESSAGES, days=DAYS)
    url = bench.database("full")
    bench.exporter(url, "import", "agentsview", str(source), "--quiet")
    source.unlink()
    with bench.connected(url) as conn:
        conn.execute("VACUUM ANALYZE")
    bare = median_of(RUNS, lambda: bare_seconds(bench, url))
    ours = median_of(RUNS, lambda: export_seconds(bench, url))
    out = bench.folder / "month.json"
    month = costs(bench, url, MONTH, out)
    day = costs(bench, url, DAY, bench.folder / "day.json")
    command = f"{sessions:,} sessions: {ours:.2f} s, bare {bare:.2f} s"
    return [
        ("month against the bare aggregate", "<= 1.5 x", f"{ours / bare:.2f} x", command),
        (
            "month, whole command",
            "-",
            f"{_middle(month):.2f} s",
            f"{month[0].bytes_out / 2**20:.0f} MiB of JSON",
        ),
        ("day, whole command", "-", f"{_middle(day):.2f} s", f"{day[0].bytes_out:,} bytes"),
        (
            "peak MiB of a month",
            "<= 96",
            f"{max(cost.peak_mib for cost in month):.0f}",
            f"{max(cost.peak_mib for cost in day):.0f} of a day",
        ),
    ]


def costs(bench: Bench, url: str, flags: tuple[str, ...], out: Path) -> list[Cost]:
    """Some runs of the whole command after one that is not counted."""
    command = ("activity", "report", "--json", *flags)
    bench.exporter(url, *command, out=out)
    return [bench.exporter(url, *command, out=out) for _ in range(RUNS)]


def _middle(measured: list[Cost]) -> float:
    return statistics.median(cost.seconds for cost in measured)


def origin_figures(bench: Bench) -> list[Row]:
    """The same month by agentsview itself, from the archive that ours was imported from."""
    sessions = bench.size(5_000)
    origin = filled_origin(bench.folder / "origin", sessions, MESSAGES)
    try:
        theirs = median_of(3, lambda: origin_seconds(origin))
    finally:
        origin.stop()
    url = bench.database("of_origin")
    bench.exporter(url, "import", "agentsview", str(origin.archive), "--quiet")
    with bench.connected(url) as conn:
        conn.execute("VACUUM ANALYZE")
    command = _middle(costs(bench, url, MONTH, bench.folder / "ours.json"))
    within = median_of(RUNS, lambda: export_seconds(bench, url))
    return [
        (
            "month against agentsview",
            ">= 5 x",
            f"{theirs / command:.1f} x",
            f"{sessions:,} sessions: {theirs:.2f} s there, {command:.2f} s here,"
            f" {within:.2f} s of it for the report",
        )
    ]


def origin_seconds(origin: Origin) -> float:
    started = time.perf_counter()
    done = origin.run("activity", "report", "--offline", "--no-sync", "--json", *MONTH)
    if done.exit != 0:
        raise SystemExit(f"agentsview failed: {done.stderr}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    with tempfile.TemporaryDirectory(prefix="exporter-bench-") as name:
        Path(name).chmod(0o755)
        bench = Bench(Path(name), scale)
        try:
            rows = origin_figures(bench) + full_figures(bench)
        finally:
            server.stop(bench.settings.home)
    print(table(rows))


if __name__ == "__main__":
    main()
