"""Proof before serving: what passes, what does not, and what hostile archives may cost."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from exporter.core import runzip
from exporter.core.runzip import LIMITS, Refusal
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_DATA,
    LOG_NAME,
    SNAPSHOT,
    Part,
    build,
    central_entry,
    encrypted,
    local_entry,
    pack,
    unicode_path,
)
from tests.core.test_runzip_names import SENSITIVE

MIB = 1024 * 1024
INNER = build(*SNAPSHOT)


def field(tag: int, body: bytes) -> bytes:
    """Return one extra field."""
    return struct.pack("<HH", tag, len(body)) + body


@pytest.mark.parametrize(
    "archive",
    [
        build(),
        build(*CLEAN),
        build(*CLEAN, zip64=True),
        build(*(replace(part, descriptor="<4sIII") for part in CLEAN)),
        build(*CLEAN, Part(b"inner.zip", build(*CLEAN))),
        build(*CLEAN, encrypted(b"s", b"secret"), Part(b"m", b"x", method=99)),
        build(*CLEAN, Part(b"broken", b"x", crc=1)),
        build(*CLEAN, Part(b"a", b"1", extra=field(0xCAFE, b""), local_extra=field(0xCAFE, b""))),
    ],
)
def test_an_archive_that_cannot_hold_the_log_passes(archive: bytes) -> None:
    """Oddities that hide nothing are in order for bytes that are served unchanged."""
    runzip.verify(archive)


def cases() -> Iterator[tuple[str, bytes, str]]:
    """Yield (label, archive, code) of archives that may not be served."""
    for name in SENSITIVE:
        yield f"name {name!r}", build(*CLEAN, Part(name)), "LOG_PRESENT"
    named = field(0x6375, b"\x01\0\0\0\0" + LOG_NAME)
    yield "in an extra field", build(Part(b"a", b"1", extra=named)), "LOG_PRESENT"
    yield "in front", build(Part(b"a", b"1", local_extra=named.upper())), "LOG_PRESENT"
    second = unicode_path(b"a", b"x/" + LOG_NAME)
    yield "second name", build(Part(b"a", b"1", extra=second)), "ZIP_HEADER_MISMATCH"
    yield "prefix", build(*CLEAN, prefix=b"x"), "EXTRANEOUS_BYTES"
    yield "gap", build(*CLEAN, before_directory=b"x"), "EXTRANEOUS_BYTES"
    yield "trailing", build(*CLEAN, trailing=b"x"), "EXTRANEOUS_BYTES"
    yield "comment", build(*CLEAN, comment=b"x"), "EXTRANEOUS_BYTES"
    yield "member comment", build(Part(b"a", b"1", comment=b"x")), "EXTRANEOUS_BYTES"
    yield "hidden", build(*CLEAN, Part(b"h", b"x", listed=False)), "EXTRANEOUS_BYTES"
    hidden = replace(SNAPSHOT[1], listed=False)
    yield "hidden log", build(hidden, *CLEAN), "ZIP_HIDDEN_ENTRY"
    old = central_entry(SNAPSHOT[1], 0)
    yield "old directory", build(*CLEAN, before_directory=old), "ZIP_HIDDEN_ENTRY"
    for method in (0, 8, 12, 14):
        yield f"nested {method}", build(Part(b"x", INNER, method=method)), "NESTED_ARCHIVE"
    # The log behind the end of another member's stream, or inside data that nobody can read.
    tail = pack(b"text", 8) + local_entry(SNAPSHOT[1])
    yield "behind a stream", build(Part(b"a", b"text", packed=tail)), "NESTED_ARCHIVE"
    yield "method 99", build(Part(b"a", INNER, method=99)), "NESTED_ARCHIVE"
    yield "not a zip", b"hello", "ZIP_NOT_ZIP"
    yield "nothing", b"", "NO_SOURCE"


@pytest.mark.parametrize(("archive", "code"), [pytest.param(*c[1:], id=c[0]) for c in cases()])
def test_an_archive_that_could_hold_the_log_fails(archive: bytes, code: str) -> None:
    """Whatever reading makes it so, and whatever stands where no reader looks."""
    with pytest.raises(Refusal) as caught:
        runzip.verify(archive)
    assert caught.value.code == code


@pytest.mark.parametrize(("archive", "code"), [pytest.param(*c[1:], id=c[0]) for c in cases()])
def test_what_surgery_did_not_make_is_proven_in_full(archive: bytes, code: str) -> None:
    """Packed bytes other than the source's are read, whoever handed them over."""
    with pytest.raises(Refusal) as caught:
        runzip.verify_rewritten(archive, runzip.inspect(build(*CLEAN, *SNAPSHOT)))
    assert caught.value.code == code


def test_packed_bytes_that_differ_from_the_source_are_read_again() -> None:
    """Same name, method, size and checksum, and yet another stream."""
    plain = INNER + b"x" * 40
    source = Part(b"a.bin", b"text", packed=pack(b"text", 8), plain_size=len(plain), crc=7)
    archive = runzip.inspect(build(source))
    runzip.verify_rewritten(build(source), archive)
    other = replace(source, packed=pack(plain, 8))
    with pytest.raises(Refusal) as caught:
        runzip.verify_rewritten(build(other), archive)
    assert caught.value.code == "NESTED_ARCHIVE"


@pytest.mark.parametrize("border", range(262_144 - 70, 262_144 + 4))
def test_a_nested_header_is_found_across_a_chunk_border(border: int) -> None:
    """The search through plain bytes does not see chunks."""
    data = b"x" * border + local_entry(Part(LOG_NAME, b""))
    archive = build(Part(b"a", data))
    assert runzip.classify(archive).code == "NESTED_ARCHIVE"


def test_extra_fields_survive_if_they_are_times_owners_or_a_true_second_name() -> None:
    """Everything else could be a hiding place."""
    times = field(0x5455, b"\x01" + bytes(4))
    name = "ä.txt".encode()
    second = unicode_path(b"\x84.txt", name)
    good = Part(b"\x84.txt", b"1", extra=times + second, local_extra=times)
    archive = build(good)
    assert b"".join(runzip.sanitise(archive)) == archive
    for odd in (
        field(0xCAFE, b"secret"),
        field(0x5455, b"secret" * 9),
        field(0x000A, LOG_NAME.ljust(32)),
        unicode_path(b"other", name),
        unicode_path(b"a", b"b\x00c"),
        b"\x55\x54\x05",
        field(0x5455, b"\x01" + bytes(4))[:-1],
    ):
        archive = build(Part(b"a", b"1", extra=times + odd, local_extra=odd))
        verdict = runzip.classify(archive)
        assert verdict.note_codes == ("EXTRA_DROPPED",)
        expected = build(Part(b"a", b"1", extra=times))
        assert b"".join(runzip.sanitise(archive)) == expected


@contextmanager
def bounded(mib: float) -> Iterator[None]:
    """Fail when the block allocates more at its peak."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= mib * MIB


def bomb(size: int, method: int = 8) -> bytes:
    """Return an archive whose log is all zeros."""
    return build(Part(LOG_NAME, bytes(size), method=method))


def shared_header() -> bytes:
    """Return many entries that all point at one header with the longest name and extra block."""
    name, extra = b"n" * 65_535, field(0xCAFE, b"e" * 65_531)
    first = Part(b"a", b"", local_name=name, local_extra=extra)
    return build(first, *(replace(first, shares=0) for _ in range(1_999)))


def long_names() -> bytes:
    """Return names made of separators only, which take the longest to judge."""
    return build(*(Part(b"/\\" * 2_000 + b"%05d\xff" % n, b"", method=0) for n in range(2_000)))


HOSTILE: dict[str, tuple[Callable[[], bytes], float]] = {
    "bomb": (lambda: bomb(50_000_000), 4),
    "bzip2 bomb": (lambda: bomb(50_000_000, 12), 8),
    "lzma bomb": (lambda: bomb(50_000_000, 14), 16),
    "many entries on one header": (shared_header, 40),
    "long names": (long_names, 40),
    "stored signatures": (lambda: build(Part(b"a", b"PK\x03\x04" * MIB, method=0)), 8),
    "packed signatures": (lambda: build(Part(b"a", b"PK\x03\x04" * MIB)), 8),
    "end records": (lambda: build(*CLEAN, trailing=b"PK\x05\x06" * 30_000), 4),
    "no end record": (lambda: b"PK\x03\x04" * (2 * MIB), 8),
}
#: Fewer members are allowed, and with them fewer stray headers, to keep the tests short.
FEW = replace(LIMITS, members=2_000)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("label", HOSTILE)
def test_a_hostile_archive_costs_little(label: str) -> None:
    """Memory and time follow the bytes that are there, not what they claim."""
    make, mib = HOSTILE[label]
    archive = make()
    with bounded(mib):
        verdict = runzip.classify(archive, FEW)
    assert verdict.outcome is not runzip.Outcome.CLEAN


def test_a_log_of_forty_megabytes_is_never_held_whole() -> None:
    """Case A44's bound, for a log that is accepted."""
    log = LOG_DATA * 50_000 + random.Random(1).randbytes(2 * MIB) * 10
    archive = build(*CLEAN, Part(LOG_NAME, log))
    with bounded(4):
        inspected = runzip.inspect(archive)
        reader = runzip.LogReader(inspected)
        total = sum(map(len, reader.exact()))
        runzip.gzip_frame(inspected, reader.facts)
        runzip.sanitised(inspected)
    assert total == reader.facts.plain_bytes == len(log)


def test_an_lzma_window_is_no_larger_than_the_data() -> None:
    """A declared window of four gigabytes is not allocated."""
    packed = bytearray(pack(LOG_DATA, 14))
    packed[5:9] = b"\xff\xff\xff\xff"
    archive = build(Part(LOG_NAME, LOG_DATA, method=14, packed=bytes(packed)))
    verdict = runzip.classify(archive)
    assert (verdict.outcome, verdict.facts["log_bytes"]) == ("MIGRATED", len(LOG_DATA))


def lzma_without_marker(data: bytes) -> bytes:
    """Encode bytes as LZMA literals, with nothing behind the last one.

    Python's encoder always writes an end marker, other zip writers leave it out.
    """
    output = bytearray()
    low, width, cache, pending = 0, 0xFFFFFFFF, 0, 1
    chances: dict[int, int] = {}

    def shift() -> None:
        nonlocal low, cache, pending
        if low < 0xFF000000 or low > 0xFFFFFFFF:
            carry = low >> 32
            output.append((cache + carry) & 0xFF)
            output.extend([(0xFF + carry) & 0xFF] * (pending - 1))
            cache, pending = low >> 24 & 0xFF, 0
        pending += 1
        low = low << 8 & 0xFFFFFFFF

    def encode(context: int, bit: int) -> None:
        nonlocal low, width
        chance = chances.get(context, 1024)
        bound = (width >> 11) * chance
        if bit:
            low, width = low + bound, width - bound
            chances[context] = chance - (chance >> 5)
        else:
            width = bound
            chances[context] = chance + (2048 - chance >> 5)
        while width < 1 << 24:
            width = width << 8 & 0xFFFFFFFF
            shift()

    for byte in data:
        encode(0, 0)
        symbol = 1
        for place in range(7, -1, -1):
            bit = byte >> place & 1
            encode(symbol, bit)
            symbol = symbol << 1 | bit
    for _ in range(5):
        shift()
    return struct.pack("<BBHBI", 9, 4, 5, 0, 1 << 16) + bytes(output)


@pytest.mark.parametrize(("size", "code"), [(0, ""), (-1, "LOG_CORRUPT"), (1, "LOG_CORRUPT")])
def test_an_lzma_stream_without_an_end_marker_ends_at_its_size(size: int, code: str) -> None:
    """Other writers leave the marker out and clear the flag; the size must then be right."""
    packed, plain_size = lzma_without_marker(LOG_DATA), len(LOG_DATA) + size
    part = Part(LOG_NAME, LOG_DATA, method=14, packed=packed, plain_size=plain_size)
    # The builder sets the flag for method 14, so it is taken away from both headers.
    archive = bytearray(build(part))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.find(mark) + offset] &= ~2
    assert runzip.classify(archive).code == code


def test_twenty_thousand_members_are_handled() -> None:
    """The limit itself is allowed, one more is not."""
    parts = [Part(b"%05d.txt" % number, b"x", method=0) for number in range(20_000)]
    assert runzip.is_unchanged(runzip.inspect(build(*parts)))
    with pytest.raises(Refusal) as caught:
        runzip.inspect(build(*parts, Part(b"one more")))
    assert caught.value.code == "ZIP_BOMB"
