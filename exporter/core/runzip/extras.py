"""Extra fields: small tagged records behind a name in both kinds of header.

They matter three times. The zip64 field holds sizes too wide for the header, the Unicode path
field holds a second name that some readers prefer, and any field can hide bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from exporter.core.runzip.codes import Reason, Refusal
from exporter.core.runzip.names import LOG_WORD, is_bad

__all__ = ["Field", "pack", "parse", "safe_fields", "second_name", "widened"]

ZIP64 = 0x0001
UNICODE_PATH = 0x7075

#: The fields that survive, with the sizes each may have: times, owners, encryption strength.
#: Anything else could be a hiding place and says nothing a snapshot needs.
_KEPT_SIZES: dict[int, range] = {
    0x000A: range(32, 33),  # NTFS times
    0x5455: range(1, 14),  # Unix times
    0x5855: range(8, 13),  # Unix times and owner, old form
    0x7855: range(0, 5),  # Unix owner, old form
    0x7875: range(3, 20),  # Unix owner
    0x9901: range(7, 8),  # AES parameters, without which an encrypted copy cannot be opened
    UNICODE_PATH: range(6, 5 + 4_096 + 1),
}


class Field(NamedTuple):
    """One tagged record."""

    tag: int
    body: bytes


def parse(raw: bytes) -> tuple[list[Field], bool]:
    """Split an extra block into fields; the flag says whether it parsed to the last byte."""
    fields: list[Field] = []
    at = 0
    while at + 4 <= len(raw):
        tag, size = struct.unpack_from("<HH", raw, at)
        if at + 4 + size > len(raw):
            break
        fields.append(Field(tag, raw[at + 4 : at + 4 + size]))
        at += 4 + size
    return fields, at == len(raw)


def pack(fields: list[Field]) -> bytes:
    """Join fields into an extra block."""
    return b"".join(struct.pack("<HH", tag, len(body)) + body for tag, body in fields)


def widened(fields: list[Field], values: tuple[int, ...], disk: int = 0) -> tuple[int, ...]:
    """Replace header values that say "see zip64", in their fixed order, and add the disk number.

    A value without its replacement stays as it is, and fails the checks that follow. Raises
    `Refusal` (ZIP_SIZE_LIE) for a second zip64 field, because readers differ in which they use.
    """
    if not fields:
        return (*values, disk)
    blocks = [field.body for field in fields if field.tag == ZIP64]
    if len(blocks) > 1:
        raise Refusal(Reason.ZIP_SIZE_LIE, {"zip64_fields": len(blocks)})
    rest = blocks[0] if blocks else b""
    wide: list[int] = []
    for value, escape, width in [*((v, 0xFFFFFFFF, 8) for v in values), (disk, 0xFFFF, 4)]:
        if value == escape and len(rest) >= width:
            value, rest = int.from_bytes(rest[:width], "little"), rest[width:]
        wide.append(value)
    return tuple(wide)


def second_name(fields: list[Field]) -> bytes | None:
    """Return the name of the Unicode path field, whether or not its checksum still holds."""
    return next((field.body[5:] for field in fields if field.tag == UNICODE_PATH), None)


def safe_fields(fields: list[Field], name: bytes) -> list[Field]:
    """Return the fields that a rewritten header carries; `name` is the name it will have."""
    return [field for field in fields if _is_safe(field, name)]


def _is_safe(field: Field, name: bytes) -> bool:
    if len(field.body) not in _KEPT_SIZES.get(field.tag, ()):
        return False
    if field.tag != UNICODE_PATH:
        return LOG_WORD not in field.body.lower()
    # The field names the file only while its checksum matches the header's name. What the name
    # means has been judged with the header's own name; here it must merely be well formed.
    version, crc = struct.unpack_from("<BI", field.body)
    return version == 1 and crc == zlib.crc32(name) and not is_bad(field.body[5:])
