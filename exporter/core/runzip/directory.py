"""The directory of a zip archive, walked over raw bytes.

Python's own `zipfile` decodes names while it reads, so one bad name hides a whole archive, and
it trusts fields that other programs do not. This walk trusts nothing that is written twice: the
end record must agree with its zip64 form and with the entries, and each entry with the header
in front of its data. It decides where everything lies, not what it means.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.core.runzip import extras
from exporter.core.runzip.codes import Limits, Reason, Refusal

__all__ = [
    "CENTRAL",
    "END",
    "LOCAL",
    "Central",
    "EndRecord",
    "Entry",
    "Local",
    "descriptor_size",
    "find_end",
    "read_entries",
]

LOCAL = struct.Struct("<4s3H4I2H")
CENTRAL = struct.Struct("<4s4H4I5H2I")
END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")

LOCAL_MARK, CENTRAL_MARK, END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64_MARK, _LOCATOR64_MARK, DESCRIPTOR_MARK = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"

#: Flag bits of a member.
ENCRYPTED, DESCRIPTOR, STRONG, UTF8 = 0x0001, 0x0008, 0x0040, 0x0800

#: Bytes after the end record that are tolerated, and with them how far back it is searched.
MAX_TRAILING = 65_557
_WINDOW = END.size + 0xFFFF + MAX_TRAILING


@dataclass(frozen=True, slots=True)
class EndRecord:
    """Where the directory lies: entries in [`start`, `stop`), file offsets moved by `shift`."""

    start: int
    stop: int
    count: int
    #: Bytes in front of the archive that its own offsets do not count.
    shift: int
    comment_size: int
    #: First byte after the end record and its comment.
    end: int


class Local(NamedTuple):
    """The header in front of a member's data, as stored."""

    mark: bytes
    needed: int
    flags: int
    method: int
    #: DOS time in the low half, date in the high half.
    stamp: int
    crc: int
    packed_size: int
    plain_size: int
    name_size: int
    extra_size: int


class Central(NamedTuple):
    """A directory entry, as stored."""

    mark: bytes
    made_by: int
    needed: int
    flags: int
    method: int
    stamp: int
    crc: int
    packed_size: int
    plain_size: int
    name_size: int
    extra_size: int
    comment_size: int
    disk: int
    internal: int
    external: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One directory entry with the header it points at. Positions count from the first byte.

    The file occupies [`header_at`, `end_at`): header, data from `data_at` to `data_end`, and a
    data descriptor when there is one. The sizes here are final, those in `central` may say "see
    zip64".
    """

    index: int
    name: bytes
    central: Central
    local: Local
    packed_size: int
    plain_size: int
    #: First byte of the directory's extra block.
    extra_at: int
    header_at: int
    data_at: int
    end_at: int
    view: memoryview = field(repr=False)

    # Not copied in advance: many entries may point at one large header, and the extra blocks of
    # a hostile directory fill an archive.

    @property
    def extra(self) -> bytes:
        """The directory's extra block."""
        return bytes(self.view[self.extra_at : self.extra_at + self.central.extra_size])

    @property
    def local_name(self) -> bytes:
        """The name in the member's own header."""
        at = self.header_at + LOCAL.size
        return bytes(self.view[at : at + self.local.name_size])

    @property
    def local_extra(self) -> bytes:
        """The extra block of the member's own header."""
        return bytes(self.view[self.data_at - self.local.extra_size : self.data_at])

    @property
    def data_end(self) -> int:
        """First byte after the packed data."""
        return self.data_at + self.packed_size

    @property
    def packed(self) -> memoryview:
        """The packed bytes, not copied."""
        return self.view[self.data_at : self.data_end]

    @property
    def is_encrypted(self) -> bool:
        """Whether the data needs a password."""
        return bool(self.central.flags & (ENCRYPTED | STRONG))


def find_end(view: memoryview) -> EndRecord:
    """Find and check the end record.

    The last record that fits counts, with at most `MAX_TRAILING` bytes behind it. Raises
    `Refusal`: ZIP_NOT_ZIP, ZIP_TRUNCATED or ZIP_CD_MISMATCH.
    """
    at = _end_position(view)
    _, *short, comment_size = END.unpack_from(view, at)
    stop, claim = at, tuple(short)
    if at >= _LOCATOR64.size and view[at - 20 : at - 16] == _LOCATOR64_MARK:
        stop, claim = _zip64_claim(view, at - _LOCATOR64.size, claim)
    disk, first_disk, here, count, size, offset = claim
    start = stop - size
    facts = {"entries_declared": count, "directory_bytes_declared": size}
    if disk or first_disk or here != count or start < offset:
        raise Refusal(Reason.ZIP_CD_MISMATCH, facts)
    if start > offset and view[offset : offset + 4] == CENTRAL_MARK:
        # Two directories: one where the offset says, one in front of the end record.
        raise Refusal(Reason.ZIP_CD_MISMATCH, facts)
    return EndRecord(start, stop, count, start - offset, comment_size, at + END.size + comment_size)


def read_entries(view: memoryview, end: EndRecord, limits: Limits) -> list[Entry]:
    """Walk the directory and read the header each entry points at.

    Raises `Refusal`: ZIP_CD_MISMATCH when the entries do not fill the directory exactly or the
    count differs, ZIP_BOMB beyond the limits on members and names, ZIP_HEADER_MISMATCH when
    there is no header at an offset, ZIP_OVERLAP when data reaches into the directory.
    """
    entries: list[Entry] = []
    at = end.start
    while at < end.stop:
        if len(entries) >= limits.members:
            raise Refusal(Reason.ZIP_BOMB, {"members_limit": limits.members})
        if at + CENTRAL.size > end.stop or view[at : at + 4] != CENTRAL_MARK:
            raise Refusal(Reason.ZIP_CD_MISMATCH, {"entries_read": len(entries)})
        entry, at = _read_entry(view, at, end, len(entries), limits)
        entries.append(entry)
    if at != end.stop or len(entries) != end.count:
        facts = {"entries_read": len(entries), "entries_declared": end.count}
        raise Refusal(Reason.ZIP_CD_MISMATCH, facts)
    return entries


def _end_position(view: memoryview) -> int:
    base = max(0, len(view) - _WINDOW)
    tail = bytes(view[base:])
    at = tail.rfind(END_MARK)
    while at >= 0:
        if at + END.size <= len(tail):
            stop = at + END.size + int.from_bytes(tail[at + 20 : at + 22], "little")
            if stop <= len(tail) and len(tail) - stop <= MAX_TRAILING:
                return base + at
        at = tail.rfind(END_MARK, 0, at + 3)
    raise Refusal(_reason_without_end(view), {"bytes": len(view)})


def _reason_without_end(view: memoryview) -> Reason:
    if bytes(view[:4]) in (LOCAL_MARK, END_MARK, CENTRAL_MARK, DESCRIPTOR_MARK):
        return Reason.ZIP_TRUNCATED
    # A header behind other bytes makes a cut archive too, unless it is four bytes of chance.
    piece = 1 << 20
    for at in range(0, len(view), piece):
        chunk = bytes(view[at : at + piece + LOCAL.size])
        found = chunk.find(LOCAL_MARK)
        while found >= 0:
            if _is_plausible_header(chunk[found : found + LOCAL.size]):
                return Reason.ZIP_TRUNCATED
            found = chunk.find(LOCAL_MARK, found + 4)
    return Reason.ZIP_NOT_ZIP


def _is_plausible_header(raw: bytes) -> bool:
    if len(raw) < LOCAL.size:
        return False
    local = Local._make(LOCAL.unpack(raw))
    return local.needed & 0xFF <= 63 and local.method <= 99 and 0 < local.name_size <= 4_096


def _zip64_claim(
    view: memoryview, locator_at: int, claim: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    """Return the zip64 end record's position and values, which the short record must repeat.

    Some readers follow the locator, some look right in front of it, some ignore both while the
    short record has no escape value. Only an archive that all of them read alike is accepted.
    """
    _, locator_disk, record_offset, disks = _LOCATOR64.unpack_from(view, locator_at)
    at = locator_at - _END64.size
    if at < record_offset or locator_disk or disks > 1 or view[at : at + 4] != _END64_MARK:
        raise Refusal(Reason.ZIP_CD_MISMATCH, {"zip64": 1})
    _, size, _, _, *wide = _END64.unpack_from(view, at)
    escapes = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    agrees = all(
        short in (escape, long) for short, long, escape in zip(claim, wide, escapes, strict=True)
    )
    directory_bytes, directory_offset = wide[4:]
    # The record's own offset must be moved by the same prefix as the directory's.
    same_shift = at - record_offset == at - directory_bytes - directory_offset
    if size != _END64.size - 12 or not agrees or not same_shift:
        raise Refusal(Reason.ZIP_CD_MISMATCH, {"zip64": 1})
    return at, tuple(wide)


def _read_entry(
    view: memoryview, at: int, end: EndRecord, index: int, limits: Limits
) -> tuple[Entry, int]:
    central = Central._make(CENTRAL.unpack_from(view, at))
    name_at = at + CENTRAL.size
    extra_at = name_at + central.name_size
    comment_at = extra_at + central.extra_size
    after = comment_at + central.comment_size
    if after > end.stop:
        raise Refusal(Reason.ZIP_CD_MISMATCH, {"entries_read": index})
    if central.name_size > limits.name_bytes:
        raise Refusal(Reason.ZIP_BOMB, {"name_bytes": central.name_size})
    plain_size, packed_size, offset, disk = extras.widened(
        extras.parse(bytes(view[extra_at:comment_at]))[0],
        (central.plain_size, central.packed_size, central.offset),
        central.disk,
    )
    if disk:
        raise Refusal(Reason.ZIP_CD_MISMATCH, {"disk": disk})
    header_at = offset + end.shift
    local, data_at = _read_local(view, header_at, end.start)
    data_end = data_at + packed_size
    if data_end > end.start:
        raise Refusal(Reason.ZIP_OVERLAP, {"member": index, "packed_bytes": packed_size})
    size_behind = 0
    if (central.flags | local.flags) & DESCRIPTOR:
        behind = view[data_end : end.start]
        size_behind = descriptor_size(behind, (central.crc, packed_size, plain_size))
    entry = Entry(
        index=index,
        name=bytes(view[name_at:extra_at]),
        central=central,
        local=local,
        packed_size=packed_size,
        plain_size=plain_size,
        extra_at=extra_at,
        header_at=header_at,
        data_at=data_at,
        end_at=data_end + size_behind,
        view=view,
    )
    return entry, after


def _read_local(view: memoryview, at: int, limit: int) -> tuple[Local, int]:
    if at + LOCAL.size > limit or view[at : at + 4] != LOCAL_MARK:
        raise Refusal(Reason.ZIP_HEADER_MISMATCH, {"header_at": at})
    local = Local._make(LOCAL.unpack_from(view, at))
    data_at = at + LOCAL.size + local.name_size + local.extra_size
    if data_at > limit:
        raise Refusal(Reason.ZIP_OVERLAP, {"header_at": at})
    return local, data_at


def descriptor_size(behind: memoryview, expected: tuple[int, int, int]) -> int:
    """Return the bytes of a data descriptor that repeats checksum and sizes, or 0.

    It comes with or without a signature, and with sizes of four or eight bytes.
    """
    for layout in ("<4sIQQ", "<IQQ", "<4sIII", "<III"):
        size = struct.calcsize(layout)
        if len(behind) < size:
            continue
        *mark, crc, packed_size, plain_size = struct.unpack_from(layout, behind)
        if (crc, packed_size, plain_size) == expected and mark in ([], [DESCRIPTOR_MARK]):
            return size
    return 0
