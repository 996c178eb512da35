"""Small builders of zip archives, down to the odd and the false, for the other runzip tests.

`zipfile` cannot write most of what a hostile or broken archive holds, so `build` packs every
field itself and lets each be overridden.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace

import pytest

STAMP = (0x5A21 << 16) | 0x6B4C
LOG_NAME = b"track_activity.jsonl"
LOG_DATA = b'{"event_type": "LLMChatEndEvent"}\n' * 12
OVERVIEW_NAME = b"activity_overview.json"
OVERVIEW_DATA = b'{\n  "models": {},\n  "total_cost": 0.5\n}'
SYMLINK = 0o120777 << 16
FILE = 0o100644 << 16


@dataclass(frozen=True)
class Part:
    """One member. None means the true value; `listed` is False for a hidden local entry."""

    name: bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    packed: bytes | None = None
    crc: int | None = None
    plain_size: int | None = None
    packed_size: int | None = None
    stamp: int = STAMP
    made_by: int = 0x0314
    external: int = FILE
    extra: bytes = b""
    local_extra: bytes = b""
    comment: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_crc: int | None = None
    local_plain_size: int | None = None
    local_packed_size: int | None = None
    #: Layout of a data descriptor, as for `struct`, e.g. "<4sIII"; sets flag bit 3.
    descriptor: str = ""
    zip64: bool = False
    listed: bool = True
    gap: bytes = b""
    #: Entry that points at the header of the part with this index instead of its own.
    shares: int | None = None


def pack(data: bytes, method: int) -> bytes:
    """Compress like a zip writer would; unknown methods store."""
    if method == 8:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        return packer.compress(data) + packer.flush()
    if method == 12:
        return bz2.compress(data)
    if method == 14:
        # The .lzma form starts with five bytes of properties and a size of eight.
        alone = lzma.compress(data, lzma.FORMAT_ALONE)
        return struct.pack("<BBH", 9, 4, 5) + alone[:5] + alone[13:]
    return data


def _final(part: Part) -> Part:
    packed = pack(part.data, part.method) if part.packed is None else part.packed
    flags = part.flags | (8 if part.descriptor else 0) | (2 if part.method == 14 else 0)
    return replace(
        part,
        packed=packed,
        flags=flags,
        crc=zlib.crc32(part.data) if part.crc is None else part.crc,
        plain_size=len(part.data) if part.plain_size is None else part.plain_size,
        packed_size=len(packed) if part.packed_size is None else part.packed_size,
    )


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def local_entry(part: Part) -> bytes:
    """Return header, data and descriptor of one member."""
    part = _final(part)
    assert part.packed is not None and part.crc is not None
    assert part.plain_size is not None and part.packed_size is not None
    crc, packed_size, plain_size = part.crc, part.packed_size, part.plain_size
    open_values = (0, 0, 0) if part.descriptor else (crc, packed_size, plain_size)
    local_crc, local_packed, local_plain = (
        _given(given, default)
        for given, default in zip(
            (part.local_crc, part.local_packed_size, part.local_plain_size),
            open_values,
            strict=True,
        )
    )
    extra = part.local_extra
    if part.zip64:
        extra = struct.pack("<HHQQ", 1, 16, local_plain, local_packed) + extra
        local_packed = local_plain = 0xFFFFFFFF
    name = part.name if part.local_name is None else part.local_name
    header = struct.pack(
        "<4s3H4I2H",
        b"PK\x03\x04",
        45 if part.zip64 else 20,
        _given(part.local_flags, part.flags),
        _given(part.local_method, part.method),
        part.stamp,
        local_crc,
        local_packed,
        local_plain,
        len(name),
        len(extra),
    )
    tail = b""
    if part.descriptor:
        mark = (b"PK\x07\x08",) if "4s" in part.descriptor else ()
        tail = struct.pack(part.descriptor, *mark, crc, packed_size, plain_size)
    return header + name + extra + part.packed + tail


def central_entry(part: Part, offset: int) -> bytes:
    """Return the directory entry of one member."""
    part = _final(part)
    assert part.crc is not None and part.plain_size is not None and part.packed_size is not None
    packed_size, plain_size, extra = part.packed_size, part.plain_size, part.extra
    if part.zip64:
        extra = struct.pack("<HHQQQ", 1, 24, plain_size, packed_size, offset) + extra
        packed_size = plain_size = offset = 0xFFFFFFFF
    return (
        struct.pack(
            "<4s4H4I5H2I",
            b"PK\x01\x02",
            part.made_by,
            45 if part.zip64 else 20,
            part.flags,
            part.method,
            part.stamp,
            part.crc,
            packed_size,
            plain_size,
            len(part.name),
            len(extra),
            len(part.comment),
            0,
            0,
            part.external,
            offset,
        )
        + part.name
        + extra
        + part.comment
    )


def end_record(
    count: int, size: int, offset: int, comment: bytes = b"", disk: int = 0, here: int | None = None
) -> bytes:
    """Return an end record."""
    values = (disk, 0, _given(here, count), count, size, offset, len(comment))
    return struct.pack("<4s4H2IH", b"PK\x05\x06", *values) + comment


def zip64_end(count: int, size: int, offset: int, at: int) -> bytes:
    """Return a zip64 end record that stands at `at`, and its locator."""
    record = struct.pack(
        "<4sQ2H2I4Q", b"PK\x06\x06", 44, 0x032D, 45, 0, 0, count, count, size, offset
    )
    return record + struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)


def build(
    *parts: Part,
    prefix: bytes = b"",
    counts_prefix: bool = True,
    before_directory: bytes = b"",
    comment: bytes = b"",
    trailing: bytes = b"",
    zip64: bool = False,
    count: int | None = None,
    size_off_by: int = 0,
    disk: int = 0,
) -> bytes:
    """Return an archive. Without `counts_prefix`, offsets ignore the bytes in front."""
    body = bytearray(prefix)
    base = 0 if counts_prefix else len(prefix)
    offsets: list[int] = []
    for part in parts:
        if part.shares is not None:
            offsets.append(offsets[part.shares])
            continue
        body += part.gap
        offsets.append(len(body) - base)
        body += local_entry(part)
    body += before_directory
    start = len(body)
    for part, offset in zip(parts, offsets, strict=True):
        if part.listed:
            body += central_entry(part, offset)
    listed = sum(part.listed for part in parts) if count is None else count
    size = len(body) - start + size_off_by
    if zip64:
        body += zip64_end(listed, size, start - base, len(body) - base)
        end = end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, comment, disk)
    else:
        end = end_record(listed, size, start - base, comment, disk)
    return bytes(body + end + trailing)


def snapshot(*parts: Part, **odd: object) -> bytes:
    """Return an archive of a log, an overview and two documents, and then `parts`."""
    return build(*SNAPSHOT, *parts, **odd)  # type: ignore[arg-type]


SNAPSHOT = (
    Part(b"030-report.html", b"<html>" + b"report " * 90 + b"</html>"),
    Part(LOG_NAME, LOG_DATA),
    Part(OVERVIEW_NAME, OVERVIEW_DATA),
    Part(b"sub/notes.md", b"# notes\n" * 20),
)
#: The same without a log.
CLEAN = (SNAPSHOT[0], *SNAPSHOT[2:])


def zip_crypto(data: bytes, password: bytes, check: int) -> bytes:
    """Encrypt packed bytes the old way; `check` is the byte a reader tests the password by."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte: int) -> None:
        keys[0] = zlib.crc32(bytes([byte]), keys[0] ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = zlib.crc32(bytes([keys[1] >> 24]), keys[2] ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    for byte in password:
        update(byte)
    output = bytearray()
    for byte in bytes(range(11)) + bytes([check]) + data:
        mask = (keys[2] | 2) & 0xFFFF
        output.append(byte ^ ((mask * (mask ^ 1)) >> 8 & 0xFF))
        update(byte)
    return bytes(output)


def encrypted(name: bytes, data: bytes, password: bytes = b"pw", descriptor: str = "") -> Part:
    """Return an encrypted member; a descriptor moves the check from checksum to time."""
    check = (STAMP & 0xFFFF) >> 8 if descriptor else zlib.crc32(data) >> 24
    packed = zip_crypto(pack(data, 8), password, check)
    return Part(name, data, packed=packed, flags=1, descriptor=descriptor)


def unicode_path(for_name: bytes, name: bytes) -> bytes:
    """Return an extra field with a second name."""
    return struct.pack("<HHBI", 0x7075, 5 + len(name), 1, zlib.crc32(for_name)) + name


@pytest.mark.parametrize(
    "archive",
    [
        build(),
        snapshot(),
        snapshot(zip64=True),
        build(*(replace(part, zip64=True) for part in SNAPSHOT)),
        build(*(replace(part, descriptor="<4sIII") for part in SNAPSHOT)),
        build(*(replace(part, method=12) for part in SNAPSHOT)),
        build(*(replace(part, method=14) for part in SNAPSHOT)),
        snapshot(prefix=b"#!/bin/sh\n", counts_prefix=False),
        snapshot(comment=b"remark"),
    ],
)
def test_zipfile_reads_what_the_builder_writes(archive: bytes) -> None:
    """The builder makes valid archives unless told otherwise."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = opened.namelist()
        assert opened.testzip() is None
    assert names in ([], [part.name.decode() for part in SNAPSHOT])


def test_the_builder_encrypts_as_zipfile_decrypts() -> None:
    """Both ways to check the password work."""
    parts = encrypted(b"a", b"secret " * 9), encrypted(b"b", b"other", descriptor="<4sIII")
    with zipfile.ZipFile(io.BytesIO(build(*parts))) as opened:
        assert opened.read("a", b"pw") == b"secret " * 9
        assert opened.read("b", b"pw") == b"other"
