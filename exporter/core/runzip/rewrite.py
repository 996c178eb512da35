"""The sanitised archive: kept members as they are, everything around them written anew.

Packed bytes are never touched. A header that would come out the same is not even copied: the
longest possible runs of the source are passed on as slices of it, so the cost is that of the
directory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from exporter.core.runzip import extras
from exporter.core.runzip.directory import (
    CENTRAL,
    CENTRAL_MARK,
    DESCRIPTOR,
    DESCRIPTOR_MARK,
    ENCRYPTED,
    END,
    END_MARK,
    LOCAL,
    LOCAL_MARK,
    UTF8,
    Entry,
)
from exporter.core.runzip.layout import BZIP2, LZMA, Archive, Buffer, Member
from exporter.core.runzip.names import is_utf8

__all__ = ["is_unchanged", "sanitised"]

_ESCAPE = 0xFFFFFFFF
#: What a reader must support for zip64, and for plain DEFLATE.
_NEEDS_ZIP64, _NEEDS_DEFLATE = 45, 20
_NEEDS = {BZIP2: 46, LZMA: 63}


@dataclass(slots=True)
class _Output:
    """Pieces of the new archive in order; a slice of the source is kept as its two bounds."""

    view: memoryview = field(repr=False)
    pieces: list[bytes | tuple[int, int]] = field(default_factory=list)
    size: int = 0

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)

    def add_source(self, start: int, stop: int) -> None:
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, tuple) and last[1] == start:
            self.pieces[-1] = (last[0], stop)
        else:
            self.pieces.append((start, stop))
        self.size += stop - start

    def buffers(self) -> list[Buffer]:
        return [
            piece if isinstance(piece, bytes) else self.view[slice(*piece)] for piece in self.pieces
        ]


def sanitised(archive: Archive) -> list[Buffer]:
    """Return the archive without what must leave it, as buffers to join or to write in turn.

    Members keep their order, packed bytes, checksums, times and attributes. Prefix, gaps,
    trailing bytes, comments, data descriptors and unknown extra fields are gone; zip64 is used
    only where a declared size needs it. A `memoryview` among the buffers is part of the source.

    Says nothing about the inside of compressed members: for bytes that will be served,
    `check_members` must have passed too.
    """
    return _assemble(archive).buffers()


def is_unchanged(archive: Archive) -> bool:
    """Tell whether the sanitised archive is the source itself, byte for byte."""
    output = _assemble(archive)
    if output.size != len(archive.view):
        return False
    at = 0
    for piece in output.pieces:
        if isinstance(piece, tuple):
            if piece[0] != at:
                return False
            at = piece[1]
        elif bytes(archive.view[at : at + len(piece)]) != piece:
            return False
        else:
            at += len(piece)
    return True


def _assemble(archive: Archive) -> _Output:
    output = _Output(archive.view)
    kept = archive.kept
    placed: dict[int, int] = {}
    # Data stays in the order of the file, entries in the order of the directory.
    for member in sorted(kept, key=lambda member: member.entry.header_at):
        placed[member.index] = output.size
        _add_member(output, member)
    start = output.size
    for member in kept:
        output.add(_central_record(member, placed[member.index]))
    count, size = len(kept), output.size - start
    output.add(END.pack(END_MARK, 0, 0, count, count, size, start, 0))
    return output


def _add_member(output: _Output, member: Member) -> None:
    entry = member.entry
    header = _local_header(member)
    if bytes(output.view[entry.header_at : entry.data_at]) == header:
        output.add_source(entry.header_at, entry.data_end)
    else:
        output.add(header)
        output.add_source(entry.data_at, entry.data_end)
    if _new_flags(member) & DESCRIPTOR:
        output.add(_descriptor(entry))


def _local_header(member: Member) -> bytes:
    entry, central, name = member.entry, member.entry.central, member.key
    packed_size, plain_size, wide = entry.packed_size, entry.plain_size, b""
    if plain_size >= _ESCAPE:
        # A member's own header carries both sizes in the field or neither.
        wide = struct.pack("<HHQQ", extras.ZIP64, 16, plain_size, packed_size)
        packed_size = plain_size = _ESCAPE
    extra = wide + _safe_extra(entry.local_extra, name)
    return LOCAL.pack(
        LOCAL_MARK, _new_needed(entry, entry.local.needed), _new_flags(member),
        central.method, central.stamp, central.crc, packed_size, plain_size, len(name), len(extra),
    ) + name + extra  # fmt: skip


def _central_record(member: Member, header_at: int) -> bytes:
    entry, central, name = member.entry, member.entry.central, member.key
    plain_size, wide = entry.plain_size, b""
    if plain_size >= _ESCAPE:
        wide = struct.pack("<HHQ", extras.ZIP64, 8, plain_size)
        plain_size = _ESCAPE
    extra = wide + _safe_extra(entry.extra, name)
    return CENTRAL.pack(
        CENTRAL_MARK, central.made_by, _new_needed(entry, central.needed), _new_flags(member),
        central.method, central.stamp, central.crc, entry.packed_size, plain_size, len(name),
        len(extra), 0, 0, central.internal, central.external, header_at,
    ) + name + extra  # fmt: skip


def _safe_extra(block: bytes, name: bytes) -> bytes:
    if not block:
        return b""
    return extras.pack(extras.safe_fields(extras.parse(block)[0], name))


def _new_flags(member: Member) -> int:
    """Return the flags of both new headers.

    With the old encryption the flag for a descriptor also says what the password is checked
    against, the time instead of the checksum, so there flag and descriptor have to stay.
    """
    flags = member.entry.central.flags | (member.entry.local.flags & DESCRIPTOR)
    if not flags & ENCRYPTED:
        flags &= ~DESCRIPTOR
    if flags & UTF8 and not is_utf8(member.key):
        # Readers that believe the flag would fail on the whole archive.
        flags &= ~UTF8
    return flags


def _new_needed(entry: Entry, needed: int) -> int:
    """Return the version a reader needs, lowered when zip64 was written without need.

    An absurd version makes some readers refuse the whole archive: the method's own replaces it.
    """
    if needed & 0xFF > max(_NEEDS.values()):
        return _NEEDS.get(entry.central.method, _NEEDS_DEFLATE)
    if needed & 0xFF != _NEEDS_ZIP64 or entry.plain_size >= _ESCAPE:
        return needed
    blocks = (entry.extra, entry.local_extra)
    had_zip64 = any(each.tag == extras.ZIP64 for b in blocks for each in extras.parse(b)[0])
    return needed - _NEEDS_ZIP64 + _NEEDS_DEFLATE if had_zip64 else needed


def _descriptor(entry: Entry) -> bytes:
    sizes = "QQ" if entry.plain_size >= _ESCAPE else "II"
    values = (entry.central.crc, entry.packed_size, entry.plain_size)
    return struct.pack("<4sI" + sizes, DESCRIPTOR_MARK, *values)
