"""Mutated archives: whatever the bytes, a verdict comes, and the log never gets through."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from exporter.core import runzip
from exporter.core.runzip import LIMITS, Outcome, Refusal
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_NAME,
    SNAPSHOT,
    Part,
    build,
    encrypted,
    snapshot,
)
from tests.core.test_runzip_properties import (
    assert_free_of_the_log,
    assert_zipfile_agrees,
    basenames,
    header_names,
)

#: Small limits, so that a lucky size field costs nothing.
TIGHT = replace(LIMITS, member_bytes=1 << 20, total_bytes=1 << 22, ratio_floor_bytes=1 << 16)
MUTANTS_PER_SEED = 600

SEEDS = [
    snapshot(),
    snapshot(zip64=True, comment=b"remark"),
    build(*(replace(part, zip64=True) for part in SNAPSHOT)),
    build(*(replace(part, descriptor="<4sIII") for part in SNAPSHOT)),
    build(*(replace(part, method=method) for part in SNAPSHOT for method in (0, 12, 14))),
    snapshot(Part(b"inner.zip", build(*CLEAN), method=0), encrypted(b"s", b"secret")),
    snapshot(Part(b"sub/" + LOG_NAME, b"again"), prefix=b"#!/bin/sh\n", counts_prefix=False),
    build(*CLEAN, Part(b"x" * 20, b"{}", extra=struct.pack("<HHB4x", 0x5455, 5, 1))),
    build(),
]
MARKS = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07")
VALUES = (0, 1, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)

Mutation = Callable[[random.Random, bytearray], None]


def flip(rng: random.Random, data: bytearray) -> None:
    """Change one bit."""
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_field(rng: random.Random, data: bytearray) -> None:
    """Put an extreme number into a header."""
    places = positions(data)
    if places:
        at = rng.choice(places) + rng.randrange(4, 56)
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice(VALUES) if rng.random() < 0.7 else rng.randrange(len(data))
        data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")


def cut(rng: random.Random, data: bytearray) -> None:
    """Take a piece away."""
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 60)]


def insert(rng: random.Random, data: bytearray) -> None:
    """Put noise, a signature or the log's name somewhere."""
    piece = rng.choice((rng.randbytes(9), rng.choice(MARKS), LOG_NAME, b"\0"))
    at = rng.randrange(len(data) + 1)
    data[at:at] = piece


def repeat(rng: random.Random, data: bytearray) -> None:
    """Copy a piece to another place, over what is there or in between."""
    start, size = rng.randrange(len(data)), rng.randrange(1, 200)
    at = rng.randrange(len(data) + 1)
    stop = at + size if rng.random() < 0.5 else at
    data[at:stop] = data[start : start + size]


def rename(rng: random.Random, data: bytearray) -> None:
    """Write the log's name over another place, mostly over a name of its length."""
    found = data.find(b"x" * 20)
    at = found if found >= 0 else rng.randrange(len(data))
    name = LOG_NAME if rng.random() < 0.7 else LOG_NAME.upper()
    data[at : at + len(name)] = name


def truncate(rng: random.Random, data: bytearray) -> None:
    """Cut off the end."""
    del data[rng.randrange(len(data)) :]


MUTATIONS: Sequence[Mutation] = (flip, set_field, set_field, cut, insert, repeat, rename, truncate)


def positions(data: bytes | bytearray) -> list[int]:
    """Return where the headers stand."""
    return [at for mark in MARKS for at in range(len(data)) if data.startswith(mark, at)]


def mutants(seed: bytes, number: int, rng: random.Random) -> Sequence[bytes]:
    """Return archives with one to four mutations each, always the same for one `rng`."""
    found = []
    for _ in range(number):
        data = bytearray(seed)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
            if data:
                rng.choice(MUTATIONS)(rng, data)
        found.append(bytes(data))
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_a_mutated_archive_is_refused_or_comes_out_clean(number: int) -> None:
    """Only `Refusal` is raised, and what is handed out is proven free of the log."""
    rng = random.Random(number)
    for data in mutants(SEEDS[number], MUTANTS_PER_SEED, rng):
        verdict = runzip.classify(data, TIGHT)
        try:
            rewritten = b"".join(runzip.sanitise(data, TIGHT))
        except Refusal as refusal:
            assert verdict.code == refusal.code
            continue
        assert_free_of_the_log(rewritten)
        runzip.verify(rewritten, TIGHT)
        runzip.verify_rewritten(rewritten, runzip.inspect(data, TIGHT))
        assert_zipfile_agrees(rewritten)
        if verdict.outcome is Outcome.CLEAN:
            assert rewritten == data


def passes(check: Callable[..., object], data: bytes, *arguments: object) -> bool:
    try:
        check(data, *arguments)
    except Refusal:
        return False
    return True


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_verified_bytes_are_free_of_the_log(number: int) -> None:
    """What passes as it is, mutated or not, holds no header that names the log."""
    rng = random.Random(100 + number)
    clean = b"".join(runzip.sanitise(SEEDS[number]))
    source = runzip.inspect(clean, TIGHT)
    passed = 0
    for data in mutants(clean, MUTANTS_PER_SEED, rng):
        # What is known of the source never lets anything pass that would not pass by itself.
        is_in_order = passes(runzip.verify, data, TIGHT)
        assert passes(runzip.verify_rewritten, data, source) == is_in_order
        if not is_in_order:
            continue
        passed += 1
        for name in header_names(data):
            assert LOG_NAME.decode() not in basenames(name)
    assert passed
