"""What broken members and crafted headers may not do: hide the log, or take forever."""

from __future__ import annotations

import io
import random
import struct
import time
import zipfile
import zlib

import pytest

from exporter.core import runzip
from exporter.core.runzip import Refusal
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


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("fill", [b"\xff", "é".encode(), b":track_activityx:\xff"])
def test_headers_with_the_longest_names_take_seconds_at_most(method: int, fill: bytes) -> None:
    """A few hundred bytes unpack to thousands of headers whose names are all the rest."""
    header = b"PK\x03\x04" + (fill * 22)[:22] + struct.pack("<HH", 0xFFFF, 0)
    data = build(Part(b"a.bin", header * 20_000 + b"\xe9" * 70_000, method=method))
    begun = time.process_time()
    assert runzip.classify(data).code == "ZIP_BOMB"
    assert time.process_time() - begun < 15
