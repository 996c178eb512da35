"""Run a command as a whole process and say what it cost: seconds, CPU seconds, peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXPORTER = (sys.executable, "-m", "exporter")


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float
    peak_mib: float
    bytes_out: int


#: Starts the command from a small process, because a child's peak counts what its parent had. The
#: time is taken there: the small process has a start of its own.
_LAUNCHER = """
import os, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[2:])
took = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
os.write(int(sys.argv[1]), f"{took} {used.ru_utime + used.ru_stime} {used.ru_maxrss}".encode())
sys.exit(code)
"""


def run(arguments: Sequence[str], environment: dict[str, str], out: Path | None = None) -> Cost:
    """One finished run; a failing command ends the benchmark with its message."""
    reader, writer = os.pipe()
    with open(out or os.devnull, "wb") as target:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(writer), *arguments],
            stdout=target,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            pass_fds=[writer],
        )
    os.close(writer)
    with os.fdopen(reader) as said:
        seconds, cpu_seconds, peak_kib = said.read().split()
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.decode()}")
    size = out.stat().st_size if out else 0
    return Cost(float(seconds), float(cpu_seconds), int(peak_kib) / 1024, size)


def median_of(times: int, once: Callable[[], float]) -> float:
    """Median of some runs after one that is not counted."""
    once()
    return statistics.median(once() for _ in range(times))


def table(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """Columns: figure, target, measured, how."""
    head = ("figure", "target", "measured", "by")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(4)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)
