"""How long the origin program takes for its own session export.

    python -m benchmarks.origin --sessions 5000 --messages 20

needs agentsview 0.37.1 (``pip install 'exporter[interop]'``).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.archives import big_archive
from tests.interop.origin import Origin


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, and what one run wrote."""

    sessions: int
    messages: int
    exported_rows: int
    bytes: int
    seconds: list[float]
    #: Processor time of the same runs, which a busy machine stretches less.
    cpu_seconds: list[float]

    @property
    def median_seconds(self) -> float:
        """The middle of all runs."""
        return statistics.median(self.seconds)


def filled_origin(home: Path, sessions: int, messages_per_session: int, seed: int = 1) -> Origin:
    """The program with an archive of its own making, filled by ``big_archive``."""
    origin = Origin(home)
    origin.sync()
    big_archive(origin.archive, sessions, messages_per_session, seed)
    return origin


def time_export(origin: Origin, *flags: str) -> tuple[float, float, str]:
    """Seconds and processor seconds of one ``export sessions`` with these flags, and its output."""
    begun, cpu_begun = time.perf_counter(), _children_cpu()
    done = origin.export_sessions(*flags)
    seconds, cpu_seconds = time.perf_counter() - begun, _children_cpu() - cpu_begun
    if done.exit != 0:
        raise RuntimeError(f"agentsview failed: {done.stderr}")
    return seconds, cpu_seconds, done.stdout


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def time_origin(
    sessions: int = 5_000, messages_per_session: int = 20, runs: int = 3, seed: int = 1
) -> Timing:
    """Time ``agentsview export sessions --all --format ndjson`` on a large archive."""
    flags = ("--all", "--format", "ndjson", "--include-one-shot", "--include-automated")
    with tempfile.TemporaryDirectory(prefix="origin-") as home:
        origin = filled_origin(Path(home), sessions, messages_per_session, seed)
        try:
            timed = [time_export(origin, *flags) for _ in range(runs)]
        finally:
            origin.stop()
    seconds, cpu_seconds, outputs = zip(*timed, strict=True)
    return Timing(
        sessions=sessions,
        messages=sessions * messages_per_session,
        exported_rows=outputs[0].count("\n") - 1,
        bytes=len(outputs[0].encode()),
        seconds=list(seconds),
        cpu_seconds=list(cpu_seconds),
    )


def main() -> None:
    """Print the timing as JSON."""
    parser = argparse.ArgumentParser(description="Time the origin's own session export.")
    parser.add_argument("--sessions", type=int, default=5_000)
    parser.add_argument("--messages", type=int, default=20, help="messages in each session")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    timing = time_origin(options.sessions, options.messages, options.runs)
    print(json.dumps({**asdict(timing), "median_seconds": timing.median_seconds}))


if __name__ == "__main__":
    main()
