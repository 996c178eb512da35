"""The log member: its bytes, its text, its packed bytes as gzip, and what is kept beside it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from exporter.core.runzip.layout import DEFLATED, STORED, Archive, Buffer, Member, Role
from exporter.core.runzip.logtext import LogText
from exporter.core.runzip.members import MemberReport, Tick, read_member

__all__ = [
    "GZIP_HEADER",
    "LogFacts",
    "LogReader",
    "Original",
    "deflated_at",
    "gzip_frame",
    "originals",
]

#: DEFLATE, no name, no time, unknown system: equal logs give equal frames.
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LARGEST_STORED_BLOCK = 0xFFFF


@dataclass(frozen=True, slots=True)
class LogFacts:
    """A log that was read to its end and found whole.

    `is_lossy` says that its text differs from its bytes, see `LogText`; False where no text of it
    was asked for.
    """

    plain_bytes: int
    crc: int
    is_lossy: bool


@dataclass(frozen=True, slots=True)
class Original:
    """A member whose exact bytes are to be kept apart; `kind` is log, overview or member."""

    kind: str
    member: Member


class LogReader:
    """Streams the log once, as bytes or as text, and knows its facts afterwards.

    `spent` is the plain size of the other members (`MemberReport.plain_bytes`), for the limit
    on the total. `tick` is called with the size of every chunk and may raise to stop the work.
    `is_text` False: the log is stored as its bytes, and what its text would be is not looked at.
    """

    def __init__(
        self, archive: Archive, *, spent: int = 0, tick: Tick | None = None, is_text: bool = True
    ) -> None:
        if archive.log is None:
            raise ValueError("the archive has no log")
        self._chunks = read_member(archive, archive.log, spent=spent, tick=tick)
        self._log = archive.log
        self._text = LogText()
        self._is_text = is_text
        self._facts: LogFacts | None = None

    def exact(self) -> Iterator[bytes]:
        """Yield the log's bytes in chunks of at most 256 KiB.

        Raises `Refusal` (LOG_CORRUPT, LOG_TOO_LARGE, ZIP_BOMB, ZIP_SIZE_LIE), possibly after
        the last chunk: what was yielded before is then to be thrown away.
        """
        for chunk in self._chunks:
            if self._is_text and not self._text.is_lossy:
                self._text.feed(chunk)
            yield chunk
        self._text.finish()
        self._conclude()

    def text(self) -> Iterator[bytes]:
        """Yield the log as UTF-8 text without NUL bytes. Raises as `exact` does."""
        for chunk in self._chunks:
            yield self._text.feed(chunk)
        yield self._text.finish()
        self._conclude()

    @property
    def facts(self) -> LogFacts:
        """What is known once the stream ended; `ValueError` before."""
        if self._facts is None:
            raise ValueError("the log was not read to its end")
        return self._facts

    def _conclude(self) -> None:
        entry = self._log.entry
        self._facts = LogFacts(entry.plain_size, entry.central.crc, self._text.is_lossy)


def gzip_frame(archive: Archive, facts: LogFacts) -> list[Buffer] | None:
    """Return the log as one gzip file made of its packed bytes as they are.

    `facts` come from a `LogReader` that reached the end: only then is it known that the packed
    bytes are whole. A log stored without compression is framed as such. None for the methods
    that gzip does not know, BZIP2 and LZMA.
    """
    if archive.log is None:
        raise ValueError("the archive has no log")
    entry = archive.log.entry
    if entry.central.method == DEFLATED and entry.packed_size:
        body: list[Buffer] = [entry.packed]
    elif entry.central.method in (STORED, DEFLATED):
        body = list(_stored_blocks(entry.packed))
    else:
        return None
    trailer = struct.pack("<II", facts.crc, facts.plain_bytes & 0xFFFFFFFF)
    return [GZIP_HEADER, *body, trailer]


def deflated_at(archive: Archive) -> int | None:
    """Where in the archive the log's DEFLATE bytes begin; None for another method."""
    if archive.log is None:
        raise ValueError("the archive has no log")
    entry = archive.log.entry
    is_deflated = entry.central.method == DEFLATED and entry.packed_size
    return entry.data_at if is_deflated else None


def originals(
    archive: Archive, report: MemberReport, facts: LogFacts | None = None
) -> list[Original]:
    """List the members whose exact bytes must be kept because the new row does not hold them.

    These are the log if its text is lossy, further log files unless they repeat the log at its
    own path, an invalid overview, and the members that leave the archive for another reason.
    Members that cannot be read are not listed; they survive in the original snapshot only.
    """
    found: list[Original] = []
    for member in archive.members:
        if member.index in report.unreadable:
            continue
        if member is archive.log:
            if facts is not None and facts.is_lossy:
                found.append(Original("log", member))
        elif member.role is Role.LOG:
            if not _repeats_log(archive, member):
                found.append(Original("log", member))
        elif member is report.invalid_overview:
            found.append(Original("overview", member))
        elif member.role is not Role.KEPT and not _is_empty_directory(member):
            found.append(Original("member", member))
    return found


def _is_empty_directory(member: Member) -> bool:
    return member.is_directory and member.entry.plain_size == 0


def _repeats_log(archive: Archive, member: Member) -> bool:
    log = archive.log
    if log is None or member.key != log.key:
        return False
    one, other = log.entry, member.entry
    if (one.central.crc, one.plain_size) != (other.central.crc, other.plain_size):
        return False
    if one.central.method == other.central.method and one.packed == other.packed:
        return True
    # Equal checksums prove nothing, and the chunks of one method need not end where the other's do.
    return _same_stream(read_member(archive, log), read_member(archive, member))


def _same_stream(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    left = right = b""
    for more_left, more_right in zip_longest(one, other, fillvalue=b""):
        left, right = left + more_left, right + more_right
        common = min(len(left), len(right))
        if left[:common] != right[:common]:
            return False
        left, right = left[common:], right[common:]
    return left == right


def _stored_blocks(plain: memoryview) -> Iterator[Buffer]:
    """Yield uncompressed DEFLATE blocks over the bytes, the last one marked."""
    at = 0
    while True:
        block = plain[at : at + _LARGEST_STORED_BLOCK]
        at += len(block)
        is_last = at == len(plain)
        yield struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF)
        yield block
        if is_last:
            return
