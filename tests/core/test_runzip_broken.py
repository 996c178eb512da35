"""What broken members and crafted headers may not do: hide the log, or take forever."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from exporter.core import runzip
from exporter.core.runzip import BrokenStream, Refusal
from exporter.core.runzip.inflate import plain_chunks
from tests.core.test_runzip_builders import Part, build

NAME = "track_activity.jsonl"
#: A header whose extra block has not ended within the member: nothing behind it is looked at
#: before it has, or the member has.
DECOY = b"PK\x03\x04" + bytes(22) + struct.pack("<HH", 0, 0xFFFF)


def inner() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAME, b'{"n": 1}\n' * 20)
    return out.getvalue()


def cut_short(data: bytes) -> bytes:
    """A DEFLATE stream that gives out all of the data and then makes no sense."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH) + b"\x07\xff\xff"


def loosely_coded(data: bytes) -> bytes:
    """A DEFLATE stream of the data, and of a last block whose distances have an incomplete code.

    zlib refuses it, and zipfile and libarchive with it; ISA-L and Info-ZIP's unzip do not.
    """
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    begun = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    # Each field as (value, bits), lowest bit first; codes are written from their highest bit on.
    fields = [(1, 1), (2, 2), (0, 5), (1, 5), (14, 4)]
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
    fields += [(2 if symbol in (0, 1, 2, 18) else 0, 3) for symbol in order]
    one, two, zeros = (0b10, 2), (0b01, 2), (0b11, 2)
    # Lengths: 97 zeros, 1 for "a", 158 zeros, 1 for the end, and for the distances 2 and 2.
    fields += [zeros, (97 - 11, 7), one, zeros, (138 - 11, 7), zeros, (20 - 11, 7), one, two, two]
    fields += [(1, 1)]
    bits = "".join(f"{value:0{size}b}"[::-1] for value, size in fields)
    return begun + int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


def broken(data: bytes, **odd: int | bytes) -> bytes:
    part = Part(b"x.bin", data, **odd)  # type: ignore[arg-type]
    return build(Part(b"plan.txt", b"a plan"), part)


CASES = {
    "more data than declared": broken(inner(), plain_size=10, crc=1234),
    "a header that does not end": broken(DECOY + inner(), crc=77),
    "a fault behind it": broken(inner(), packed=cut_short(inner()), crc=77),
    "a fault behind it, later": broken(
        inner(), packed=cut_short(inner() + bytes(200_000)), crc=77, plain_size=999
    ),
    "a fault behind it, much later": broken(
        inner(), crc=77, plain_size=999,
        packed=cut_short(random.Random(1).randbytes(100_000) + inner() + bytes(150_000)),
    ),
    "a block that zlib refuses": broken(inner(), packed=loosely_coded(inner())),
    "a block that zlib refuses, and another size": broken(
        inner(), packed=loosely_coded(inner() + bytes(200_000)), plain_size=9
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_broken_member_does_not_hide_an_archive_with_the_log(name: str) -> None:
    """Some unpackers write out what comes before the fault, so it is looked at too."""
    for read in (runzip.sanitise, runzip.verify):
        with pytest.raises(Refusal) as refused:
            read(CASES[name])
        assert refused.value.code == "NESTED_ARCHIVE"
    assert runzip.classify(CASES[name]).code == "NESTED_ARCHIVE"


@pytest.mark.parametrize("data", [b"plain text", random.Random(2).randbytes(200_000)])
def test_a_broken_member_without_one_is_kept_as_it_is(data: bytes) -> None:
    verdict = runzip.classify(broken(data, packed=cut_short(data), crc=77))
    assert verdict.note_codes == ("MEMBER_CORRUPT:x.bin",)


def test_a_stream_that_zlib_refuses_is_no_whole_member(tmp_path: Path) -> None:
    """What Info-ZIP's unzip takes and zipfile does not is said to be broken, and stays."""
    data = b"a report of some length" * 9
    archive = broken(data, packed=loosely_coded(data))
    verdict = runzip.classify(archive)
    assert (verdict.outcome, verdict.note_codes) == ("MIGRATED", ("MEMBER_CORRUPT:x.bin",))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened, pytest.raises(zlib.error):
        opened.read("x.bin")
    if shutil.which("unzip"):
        tmp_path.joinpath("a.zip").write_bytes(archive)
        command = ["unzip", "-p", str(tmp_path / "a.zip"), "x.bin"]
        assert subprocess.run(command, capture_output=True, check=True).stdout == data


def test_strict_reading_gives_what_zlib_gives() -> None:
    """Also where little that is packed becomes much, and the other way round."""
    chance = random.Random(3)
    for data in (b"", b"a", bytes(3_000_000), chance.randbytes(700_000), b"word " * 100_000):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = memoryview(packer.compress(data) + packer.flush())
        chunks = list(plain_chunks(8, 0, packed, len(data), 1 << 20, is_strict=True))
        assert b"".join(chunks) == data
        assert max(map(len, chunks), default=0) <= 256 * 1024
        for odd in (packed[:-1], bytes(packed) + b"x"):
            with pytest.raises(BrokenStream):
                list(plain_chunks(8, 0, memoryview(odd), len(data) or 1, 1 << 20, is_strict=True))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("fill", [b"\xff", "é".encode(), b":track_activityx:\xff"])
def test_headers_with_the_longest_names_take_seconds_at_most(method: int, fill: bytes) -> None:
    """A few hundred bytes unpack to thousands of headers whose names are all the rest."""
    header = b"PK\x03\x04" + (fill * 22)[:22] + struct.pack("<HH", 0xFFFF, 0)
    data = build(Part(b"a.bin", header * 20_000 + b"\xe9" * 70_000, method=method))
    begun = time.process_time()
    assert runzip.classify(data).code == "ZIP_BOMB"
    assert time.process_time() - begun < 15
