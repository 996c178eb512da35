"""Legacy plans at size, made fast: logs of 16, 24 and 40 MB, a third each, that pack about 8:1.

Packing is the slow part, so each size is packed once; a line of its own, packed alone, stands in
front of it in every plan, because equal logs would be stored once. The rest of a snapshot is 60
documents of 3 MB in total, of two kinds: the plan's own and those that all plans share.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.runzip import DOCUMENTS, DOCUMENTS_MB, LOG_NAME, log_lines
from tests.core.test_runzip_builders import Part, build, pack

LOG_MB = (16, 24, 40)


@dataclass(frozen=True)
class Packed:
    """A log of one size: its bytes, and the same as the end of a DEFLATE stream."""

    plain: bytes
    stream: bytes


class Source:
    """Snapshots by number; the same for the same number and sizes."""

    def __init__(self, log_mb: tuple[float, ...] = LOG_MB) -> None:
        self.logs = [_packed(log_lines(round(size * 1_000_000))) for size in log_mb]
        self.documents = list(_documents())

    def snapshot(self, number: int) -> bytes:
        log = self.logs[number % len(self.logs)]
        line = b'{"event_type": "RunStart", "run": %d}\n' % number
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        # A flush ends on a whole byte, and what follows may refer to nothing before it.
        first = packer.compress(line) + packer.flush(zlib.Z_FULL_FLUSH)
        crc = zlib.crc32(log.plain, zlib.crc32(line))
        size = len(line) + len(log.plain)
        part = Part(
            LOG_NAME.encode(), packed=first + log.stream, crc=crc, plain_size=size, method=8
        )
        half = len(self.documents) // 2
        own = Part(b"plan.txt", b"plan %d\n" % number)
        return build(own, *self.documents[:half], part, *self.documents[half:])

    def fill(self, conn: psycopg.Connection[Any], count: int) -> int:
        """Store so many completed plans; returns the bytes of their snapshots."""
        size = 0
        for number in range(count):
            snapshot = self.snapshot(number)
            size += len(snapshot)
            conn.execute(
                "INSERT INTO task_item (id, state, prompt, timestamp_created, progress_percentage,"
                " user_id, run_zip_snapshot, generated_report_html)"
                " VALUES (%b, 'completed', 'p', now(), 100, 'u', %b,"
                " repeat('<p>report</p>', 40000))",
                [plan_id(number), snapshot],
            )
        return size


def plan_id(number: int) -> UUID:
    return UUID(int=number + 1)


def _packed(plain: bytes) -> Packed:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return Packed(plain, packer.compress(plain) + packer.flush())


def _documents() -> Iterator[Part]:
    chance = random.Random(8)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(4000)]
    size = DOCUMENTS_MB * 1_000_000 // DOCUMENTS
    for number in range(DOCUMENTS):
        text = " ".join(chance.choices(words, k=size // 4))[:size].encode()
        yield Part(
            b"%03d-1-document.md" % number, packed=pack(text, 8), crc=zlib.crc32(text),
            plain_size=len(text),
        )  # fmt: skip
