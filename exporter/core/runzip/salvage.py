"""What can still be read of an archive whose end is missing.

Without a directory only the headers in front of the members are left, so nothing here is proof of
anything: the members go to the administrators, and the archive stays refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from isal import igzip_lib, isal_zlib

from exporter.core.runzip import extras
from exporter.core.runzip.codes import LIMITS, Limits, Refusal
from exporter.core.runzip.directory import (
    CENTRAL_MARK,
    DESCRIPTOR,
    LOCAL,
    LOCAL_MARK,
    Central,
    EndRecord,
    Entry,
    Local,
    descriptor_size,
)
from exporter.core.runzip.inflate import FAILURES, PACKED_CHUNK, PLAIN_CHUNK
from exporter.core.runzip.layout import DEFLATED, Archive, Buffer, Member, Role
from exporter.core.runzip.members import Tick, read_member
from exporter.core.runzip.names import LogRank, log_rank, until_nul

__all__ = ["Salvaged", "salvage"]

#: A member larger than this is passed over, whatever it is.
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Salvaged:
    """A member that came out whole: its size and checksum are right."""

    path: str
    is_log: bool
    body: bytes = field(repr=False)


def salvage(
    data: Buffer, limits: Limits = LIMITS, *, most: int = MOST_BYTES, tick: Tick | None = None
) -> Iterator[Salvaged]:
    """Yield the complete members of a cut archive, in the order of the file.

    Left out are members of more than `most` bytes, encrypted ones, those of an unknown method,
    and whatever does not fit its own checksum. Ends early, without an error, when a limit on
    members or on bytes is reached. `tick` as in `read_member`; what it raises comes out.
    """
    view = memoryview(data).cast("B").toreadonly()
    archive = _frame(view, limits)
    spent = seen = 0

    def count(size: int) -> None:
        nonlocal spent
        spent += size
        if tick is not None:
            tick(size)

    at = _next_header(view, 0)
    while at >= 0 and seen < limits.members:
        seen += 1
        member = _member_at(view, at, most, count)
        body = None
        if member is not None and member.entry.plain_size <= most:
            if spent + member.entry.plain_size > limits.total_bytes:
                return
            body = _body(archive, member, count)
        if member is None or body is None:
            at = _next_header(view, at + len(LOCAL_MARK))
            continue
        if not (member.is_directory and not body):
            yield Salvaged(member.path, member.role is Role.LOG, body)
        at = _next_header(view, member.entry.end_at)


def _frame(view: memoryview, limits: Limits) -> Archive:
    """An archive without members, which is what reading one member needs to know of."""
    end = EndRecord(len(view), len(view), 0, 0, 0, len(view))
    return Archive(view, end, (), None, (), None, (), limits)


def _next_header(view: memoryview, start: int) -> int:
    piece = 1 << 20
    for at in range(start, len(view), piece):
        found = bytes(view[at : at + piece + len(LOCAL_MARK) - 1]).find(LOCAL_MARK)
        if found >= 0:
            return at + found
    return -1


def _member_at(view: memoryview, at: int, most: int, count: Tick) -> Member | None:
    """The member whose header stands at `at`, if all of it is there."""
    if at + LOCAL.size > len(view):
        return None
    local = Local._make(LOCAL.unpack_from(view, at))
    name_at = at + LOCAL.size
    data_at = name_at + local.name_size + local.extra_size
    if data_at > len(view) or local.name_size == 0:
        return None
    name = bytes(view[name_at : name_at + local.name_size])
    extra = bytes(view[name_at + local.name_size : data_at])
    plain_size, packed_size, _ = extras.widened(
        extras.parse(extra)[0], (local.plain_size, local.packed_size)
    )
    central = Central(
        CENTRAL_MARK, 0, local.needed, local.flags, local.method, local.stamp, local.crc,
        packed_size, plain_size, local.name_size, local.extra_size, 0, 0, 0, 0, at,
    )  # fmt: skip
    # The header's own extra block stands in for the directory's, which is lost.
    entry = Entry(
        0, name, central, local, packed_size, plain_size, data_at - local.extra_size, at, data_at,
        data_at + packed_size, view,
    )  # fmt: skip
    if local.flags & DESCRIPTOR and not packed_size:
        found = _measured(entry, most, count)
        if found is None:
            return None
        entry = found
    rank = log_rank(name)
    is_log = rank is not None and rank is not LogRank.RESERVED
    member = Member(entry, Role.LOG if is_log else Role.KEPT, until_nul(name), rank)
    return member if entry.end_at <= len(view) and member.is_supported else None


def _measured(entry: Entry, most: int, count: Tick) -> Entry | None:
    """The entry with the sizes that its writer left open, if they stand behind the data.

    Only a DEFLATE stream says itself where it ends.
    """
    if entry.central.method != DEFLATED or entry.is_encrypted:
        return None
    decoder = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE)
    at, plain_size, crc = entry.data_at, 0, 0
    while not decoder.eof:
        piece = entry.view[at : at + PACKED_CHUNK] if decoder.needs_input else b""
        at += len(piece)
        try:
            plain = decoder.decompress(piece, PLAIN_CHUNK)
        except FAILURES:
            return None
        plain_size += len(plain)
        crc = isal_zlib.crc32(plain, crc)
        count(len(plain))
        if plain_size > most or not (piece or plain or decoder.eof):
            return None
    data_end = at - len(decoder.unused_data)
    packed_size = data_end - entry.data_at
    size = descriptor_size(entry.view[data_end:], (crc, packed_size, plain_size))
    if not size:
        return None
    central = entry.central._replace(crc=crc, packed_size=packed_size, plain_size=plain_size)
    return replace(
        entry, central=central, packed_size=packed_size, plain_size=plain_size,
        end_at=data_end + size,
    )  # fmt: skip


def _body(archive: Archive, member: Member, count: Tick) -> bytes | None:
    body = bytearray()
    chunks = read_member(archive, member)
    while True:
        try:
            chunk = next(chunks, None)
        except Refusal:
            return None
        if chunk is None:
            return bytes(body)
        body += chunk
        # Not among what is caught: it may stop the whole work.
        count(len(chunk))
