"""CPU time of zip surgery against unpacking and recompressing, in one run.

    python -m benchmarks.runzip [--log-mb 40] [--repetitions 5]

The snapshot is synthetic: a log of JSON lines that packs about 8:1 and 60 documents of 3 MB in
total. Every figure is the median of the repetitions, in CPU time of this process, and only the
ratios are worth comparing between machines. Two references are timed:

- whole: read every member with `zipfile`, write all of them again at level 6
- rest: the same, but the log is only read, and the new archive is without it
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import time
import zipfile
from collections.abc import Callable

from exporter.core import runzip

LOG_NAME = "track_activity.jsonl"
DOCUMENTS, DOCUMENTS_MB = 60, 3
#: (what, reference it is held against, wanted ratio or None)
TARGETS = (
    ("surgery", "whole", 100),
    ("surgery, log checked", "whole", 8),
    ("surgery, everything checked", "whole", 8),
    ("surgery", "rest", None),
    ("surgery, log checked", "rest", None),
)


def main() -> None:
    """Time everything and print the medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log-mb", type=int, default=40)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    log = log_lines(options.log_mb * 1_000_000)
    archive = snapshot(log)
    packed = zipfile.ZipFile(io.BytesIO(archive)).getinfo(LOG_NAME).compress_size
    print(
        f"snapshot {len(archive) / 1e6:.1f} MB, log {len(log) / 1e6:.1f} MB "
        f"({len(log) / packed:.1f}:1), {DOCUMENTS} documents of {DOCUMENTS_MB} MB"
    )
    del log
    medians = measure(archive, options.repetitions)
    for what, seconds in medians.items():
        print(f"{what:30} {seconds * 1e3:10.2f} ms CPU")
    for what, reference, target in TARGETS:
        ratio = medians[reference] / medians[what]
        wanted = f"  (target {target}x)" if target else ""
        print(f"{what:30} {ratio:10.1f} x less CPU than {reference}{wanted}")


def measure(archive: bytes, repetitions: int) -> dict[str, float]:
    """Return the median CPU seconds of every way, the ways taking turns."""
    ways: dict[str, Callable[[], object]] = {
        "whole": lambda: recompress(archive, with_log=True),
        "rest": lambda: recompress(archive, with_log=False),
        "surgery": lambda: surgery(archive),
        "surgery, log checked": lambda: surgery_with_log(archive),
        "surgery, everything checked": lambda: surgery_with_checks(archive),
    }
    seconds: dict[str, list[float]] = {what: [] for what in ways}
    for _ in range(repetitions):
        for what, way in ways.items():
            began = time.process_time()
            way()
            seconds[what].append(time.process_time() - began)
    return {what: statistics.median(each) for what, each in seconds.items()}


def recompress(archive: bytes, *, with_log: bool) -> bytes:
    """Unpack with zipfile and pack again at level 6."""
    output = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as new,
    ):
        for info in old.infolist():
            content = old.read(info)
            if with_log or info.filename != LOG_NAME:
                new.writestr(info, content, compresslevel=6)
    return output.getvalue()


def surgery(archive: bytes) -> bytes:
    """Take the log out and join the new archive."""
    return b"".join(runzip.sanitised(runzip.inspect(archive)))


def surgery_with_log(archive: bytes) -> bytes:
    """The same, and stream the log with its size and checksum checked."""
    inspected = runzip.inspect(archive)
    for _ in runzip.LogReader(inspected).exact():
        pass
    return b"".join(runzip.sanitised(inspected))


def surgery_with_checks(archive: bytes) -> bytes:
    """The same, and check every other member too: what the backfill does."""
    inspected = runzip.inspect(archive)
    report = runzip.check_members(inspected)
    reader = runzip.LogReader(inspected, spent=report.plain_bytes)
    for _ in reader.exact():
        pass
    runzip.conclude(inspected, report, reader.facts)
    return b"".join(runzip.sanitised(inspected))


def log_lines(size: int) -> bytes:
    """Return about `size` bytes of events whose texts repeat as prompts do."""
    random_ = random.Random(7)
    words = ["".join(random_.choices("etaoinshrdlu", k=random_.randint(2, 9))) for _ in range(900)]
    history: list[str] = []
    lines: list[bytes] = []
    while size > 0:
        # A conversation is logged again with every turn, which is what makes logs pack so well.
        history = [*history[-3:], " ".join(random_.choices(words, k=150))]
        event = {
            "timestamp": f"2026-01-{random_.randint(1, 28):02d}T10:00:00.{random_.random():.6f}",
            "event_type": random_.choice(("LLMChatStartEvent", "LLMChatEndEvent")),
            "event_data": {"id_": f"{random_.getrandbits(128):032x}", "messages": history},
            "backtrace": [f"app/step_{n}.py:{random_.randint(1, 900)}" for n in range(12)],
        }
        lines.append(json.dumps(event).encode() + b"\n")
        size -= len(lines[-1])
    return b"".join(lines)


def snapshot(log: bytes) -> bytes:
    """Return an archive of the documents with the log among them."""
    random_ = random.Random(8)
    words = ["".join(random_.choices("etaoinshrdlu", k=random_.randint(2, 9))) for _ in range(4000)]
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as new:
        for number in range(DOCUMENTS):
            if number == DOCUMENTS // 2:
                new.writestr(LOG_NAME, log)
            size = DOCUMENTS_MB * 1_000_000 // DOCUMENTS
            text = " ".join(random_.choices(words, k=size // 5))[:size]
            new.writestr(f"{number:03d}-1-document.md", text)
    return output.getvalue()


if __name__ == "__main__":
    main()
