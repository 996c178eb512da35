"""Import and session export at size, as ratios against a baseline measured in the same run.

    python -m benchmarks.sessions                  the figures of docs/benchmarks.md (minutes)
    python -m benchmarks.sessions --scale 0.05     the same at a twentieth of the size

Everything happens on an embedded server of its own in a temporary folder. Times are medians of five
runs after one that is not counted; a single import is one run. The larger archives are copies of
the imported one under other ids, because an export reads roll-ups and finished lines and no usage.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.archives import big_archive
from benchmarks.origin import filled_origin, time_export
from benchmarks.process import EXPORTER, Cost, median_of, run, table
from exporter.db import connect, server
from exporter.exports.sessions import Request, open_export
from exporter.settings import Settings

RUNS = 5
Row = tuple[str, str, str, str]

_COPY_SESSIONS = """
INSERT INTO sessions ({columns})
SELECT {values} FROM sessions AS s, generate_series(1, %(copies)s) AS copy
ORDER BY copy, s.session_key
"""


class Bench:
    """One server, one database per size."""

    def __init__(self, folder: Path, scale: float) -> None:
        self.folder = folder
        self.scale = scale
        self.settings = Settings(chosen_home=folder / "home")
        self.url = server.start(self.settings.home)
        self.environment = {"EXPORTER_HOME": str(folder / "home"), "NO_COLOR": "1"}

    def size(self, number: int) -> int:
        return max(100, round(number * self.scale))

    def database(self, name: str) -> str:
        """URL of a new migrated database."""
        with closing(psycopg.connect(self.url, autocommit=True)) as conn:
            conn.execute(f'CREATE DATABASE "{name}"'.encode())
        url = psycopg.conninfo.make_conninfo(self.url, dbname=name)
        self.exporter(url, "db", "upgrade")
        return url

    def exporter(self, url: str, *arguments: str, out: Path | None = None) -> Cost:
        environment = {**self.environment, "EXPORTER_DATABASE_URL": url}
        return run([*EXPORTER, *arguments], environment, out)

    @contextmanager
    def connected(self, url: str) -> Iterator[psycopg.Connection[Any]]:
        with closing(connect.connect(replace(self.settings, database_url=url))) as conn:
            yield conn


def import_figures(bench: Bench, url: str) -> list[Row]:
    """A first import and an unchanged one."""
    sessions, messages = bench.size(100_000), 20
    source = bench.folder / "source.db"
    big_archive(source, sessions, messages, seed=1)
    first = bench.exporter(url, "import", "agentsview", str(source), "--quiet")
    again = median_of(
        RUNS, lambda: bench.exporter(url, "import", "agentsview", str(source)).seconds
    )
    source.touch()
    touched = bench.exporter(url, "import", "agentsview", str(source), "--quiet").seconds
    rate = sessions * messages / first.seconds
    command = f"import of {sessions:,} sessions, {sessions * messages:,} messages"
    return [
        ("import, messages/s", ">= 60,000", f"{rate:,.0f}", command),
        ("import, peak MiB", "flat", f"{first.peak_mib:.0f}", "the same"),
        ("unchanged import", "<= 5 %", f"{again / first.seconds:.2%}", "of the first one's time"),
        ("touched, same content", "-", f"{touched / first.seconds:.2%}", "of the first one's time"),
    ]


def double_usage(conn: psycopg.Connection[Any]) -> int:
    """As many usage rows again, so that there are twenty to a session; returns how many."""
    columns = "ordinal, model_id, event_source, at, at_nanoseconds, day_text, input_tokens,"
    columns += " output_tokens, cache_creation_input_tokens, cache_read_input_tokens,"
    columns += " reasoning_tokens, reported_cost, dedup_key, is_counted"
    conn.execute(
        f"INSERT INTO usage_rows (session_key, position, {columns})"
        f" SELECT session_key, position + 100000, {columns} FROM usage_rows".encode()
    )
    row = conn.execute("SELECT count(*) FROM usage_rows").fetchone()
    return int(row[0]) if row else 0


def export_figures(bench: Bench, url: str) -> list[Row]:
    """The whole export against COPY of the very same lines from a table, both to a file."""
    out = bench.folder / "out.ndjson"
    with bench.connected(url) as conn:
        usage = double_usage(conn)
    bench.exporter(url, "db", "rebuild")
    cost = bench.exporter(url, "sessions", "--all", "--ndjson", out=out)
    rows = sum(1 for _ in out.open("rb")) - 1
    with bench.connected(url) as conn:
        conn.execute("CREATE TABLE finished (place bigint, line text)")
        conn.execute("ALTER TABLE finished ALTER line SET STORAGE EXTERNAL")
        with conn.cursor().copy("COPY finished FROM STDIN") as copy, out.open("rb") as lines:
            next(lines)
            for place, line in enumerate(lines):
                copy.write_row((place, line.decode().rstrip("\n")))
        conn.execute("VACUUM ANALYZE finished")
        copied = median_of(RUNS, lambda: copy_seconds(conn, bench.folder / "copied"))
        conn.execute("DROP TABLE finished")
    ours = median_of(
        RUNS, lambda: bench.exporter(url, "sessions", "--all", "--ndjson", out=out).seconds
    )
    return [
        (
            "--all --ndjson against COPY",
            ">= 40 %",
            f"{copied / ours:.0%}",
            f"{rows:,} lines of {cost.bytes_out / rows:,.0f} bytes, {usage:,} usage rows:"
            f" {ours:.2f} s, COPY {copied:.2f} s",
        )
    ]


def copy_seconds(conn: psycopg.Connection[Any], out: Path) -> float:
    started = time.perf_counter()
    with (
        out.open("wb") as file,
        conn.cursor().copy(
            "COPY (SELECT line FROM finished) TO STDOUT"
            " (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
        ) as copy,
    ):
        for block in copy:
            file.write(block)
    return time.perf_counter() - started


def grow(conn: psycopg.Connection[Any], sessions: int) -> int:
    """Copy all sessions, with their roll-ups and lines, until there are about so many."""
    row = conn.execute("SELECT count(*) FROM sessions").fetchone()
    have = int(row[0]) if row else 0
    copies = max(0, round(sessions / have) - 1)
    if not copies:
        return have
    columns = [
        name
        for (name,) in conn.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'sessions'"
            " AND table_schema = current_schema() AND is_generated = 'NEVER'"
            " AND column_name <> 'session_key'"
        )
    ]
    given = {
        "id": "s.id || '-' || copy",
        "activity_ms": "s.activity_ms - copy::bigint * 86400000",
        "inserted_revision": "-s.session_key",
    }
    values = ", ".join(given.get(name, f"s.{name}") for name in columns)
    statement = _COPY_SESSIONS.format(columns=", ".join(columns), values=values)
    # A copy remembers its original in a column that is set right at the end.
    with conn.transaction():
        conn.execute("ALTER TABLE sessions DISABLE TRIGGER sessions_change_log")
        conn.execute(statement.encode(), {"copies": copies})
        for table_name in ("session_models", "session_lines"):
            conn.execute(_copy_children(conn, table_name))
        conn.execute("UPDATE sessions SET inserted_revision = 1 WHERE inserted_revision < 0")
        conn.execute("ALTER TABLE sessions ENABLE TRIGGER sessions_change_log")
    for table_name in ("sessions", "session_models", "session_lines"):
        conn.execute(f"VACUUM ANALYZE {table_name}".encode())
    return have * (copies + 1)


def _copy_children(conn: psycopg.Connection[Any], table_name: str) -> bytes:
    rows = conn.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
        " AND table_schema = current_schema() AND column_name <> 'session_key'"
        " ORDER BY ordinal_position",
        (table_name,),
    )
    names = ", ".join(f"c.{name}" for (name,) in rows)
    return (
        f"INSERT INTO {table_name} SELECT n.session_key, {names} FROM sessions AS n"
        f" JOIN {table_name} AS c ON c.session_key = -n.inserted_revision"
        " WHERE n.inserted_revision < 0"
    ).encode()


def page_milliseconds(bench: Bench, url: str) -> tuple[float, float]:
    """(first page, resumed page) of 500, within one process, and nothing but the page."""
    with bench.connected(url) as conn:
        cursor = _page(conn, "")[1]["cursor"]["next"]
        first = median_of(4 * RUNS, lambda: _page(conn, "")[0])
        resumed = median_of(4 * RUNS, lambda: _page(conn, cursor)[0])
    return first * 1000, resumed * 1000


def _page(conn: psycopg.Connection[Any], cursor: str) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    with connect.read_snapshot(conn):
        answer = open_export(conn, Request(cursor=cursor))
        for _ in answer.rows:
            pass
    return time.perf_counter() - started, answer.head


def size_figures(bench: Bench) -> list[Row]:
    """Pages and memory at three sizes of archive."""
    source = bench.folder / "small.db"
    small = bench.size(10_000)
    big_archive(source, small, 4, seed=2)
    pages: list[tuple[float, float]] = []
    memory: list[float] = []
    sizes: list[int] = []
    for factor in (1, 10, 100):
        url = bench.database(f"size_{factor}")
        bench.exporter(url, "import", "agentsview", str(source), "--quiet")
        with bench.connected(url) as conn:
            sizes.append(grow(conn, small * factor))
        pages.append(page_milliseconds(bench, url))
        out = bench.folder / "all.ndjson"
        memory.append(bench.exporter(url, "sessions", "--all", "--ndjson", out=out).peak_mib)
    shown = " / ".join(f"{size:,}" for size in sizes)
    return [
        (
            f"{name} page of 500",
            "<= 2 x",
            f"{pages[-1][i] / pages[0][i]:.2f} x",
            f"{' / '.join(f'{page[i]:.1f}' for page in pages)} ms at {shown} sessions",
        )
        for i, name in enumerate(("first", "resumed"))
    ] + [
        (
            "peak MiB of --all",
            "<= 96, within 10 %",
            f"{max(memory):.0f}, {max(memory) / memory[0] - 1:+.1%}",
            f"{' / '.join(f'{mib:.1f}' for mib in memory)} at {shown} sessions",
        )
    ]


def origin_figures(bench: Bench) -> list[Row]:
    """The same export by agentsview itself, from the archive that ours was imported from."""
    flags = ("--all", "--include-one-shot", "--include-automated")
    origin = filled_origin(bench.folder / "origin", bench.size(5_000), 20)
    try:
        theirs = statistics.median(
            time_export(origin, *flags, "--format", "ndjson")[0] for _ in range(3)
        )
    finally:
        origin.stop()
    url = bench.database("of_origin")
    bench.exporter(url, "import", "agentsview", str(origin.archive), "--quiet")
    ours = median_of(RUNS, lambda: bench.exporter(url, "sessions", "--ndjson", *flags).seconds)
    return [
        (
            "--all against agentsview",
            ">= 10 x",
            f"{theirs / ours:.1f} x",
            f"{bench.size(5_000):,} sessions: {theirs:.2f} s there, {ours:.2f} s here",
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    with tempfile.TemporaryDirectory(prefix="exporter-bench-") as name:
        Path(name).chmod(0o755)
        bench = Bench(Path(name), scale)
        try:
            url = bench.database("imported")
            rows = import_figures(bench, url) + export_figures(bench, url)
            rows += origin_figures(bench) + size_figures(bench)
        finally:
            server.stop(bench.settings.home)
    print(table(rows))


if __name__ == "__main__":
    main()
