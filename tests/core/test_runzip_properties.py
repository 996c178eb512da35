"""Archives of odd structure, made at random: what must hold for all of them."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.core import runzip
from exporter.core.runzip import Outcome, Role
from tests.core.test_runzip_builders import (
    LOG_DATA,
    LOG_NAME,
    OVERVIEW_DATA,
    OVERVIEW_NAME,
    SYMLINK,
    Part,
    build,
    encrypted,
    unicode_path,
)
from tests.core.test_runzip_names import SENSITIVE

HARMLESS = [
    b"a.txt",
    b"sub/b.md",
    b"sub/",
    b"my_track_activity.jsonl",
    "ä.txt".encode(),
    OVERVIEW_NAME,
    b"n/" + OVERVIEW_NAME,
]
ODD = [b"/etc/x", b"../x", b"c:x", b"\xff\xfe", b"a\x00b", b"a\x1b", b"", b"\x00", b"x\\y"]
TIMES = struct.pack("<HHB4x", 0x5455, 5, 1)
EXTRAS = [b"", TIMES, b"\xfe\xca\x00\x00", b"\x01", unicode_path(b"a.txt", b"b.txt")]

names = st.sampled_from([*HARMLESS, *HARMLESS, *ODD, *SENSITIVE])
contents = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([LOG_DATA, OVERVIEW_DATA, b"[]", build(Part(b"in", b"x")), bytes(3_000)]),
)


@st.composite
def odd_parts(draw: st.DrawFn) -> Part:
    """Draw a member that is odd in some ways, hostile in few."""
    name, data = draw(names), draw(contents)
    if draw(st.integers(0, 19)) == 0:
        return encrypted(name, data, descriptor=draw(st.sampled_from(["", "<4sIII"])))
    rare: dict[str, Any] = {}
    for key, values in {
        "crc": st.just(1),
        "plain_size": st.integers(0, 99),
        "packed_size": st.integers(0, 99),
        "packed": st.binary(max_size=30),
        "local_name": names,
        "local_method": st.sampled_from([0, 8]),
        "external": st.just(SYMLINK),
        "listed": st.just(False),
        "local_plain_size": st.just(5),
    }.items():
        if draw(st.integers(0, 59)) == 0:
            rare[key] = draw(values)
    return Part(
        name,
        data,
        method=draw(st.sampled_from([0, 8, 8, 8, 12, 14, 99])),
        flags=draw(st.sampled_from([0, 0, 0x800, 4])),
        descriptor=draw(st.sampled_from(["", "", "<4sIII", "<III", "<4sIQQ", "<IQQ"])),
        zip64=draw(st.integers(0, 5)) == 0,
        extra=draw(st.sampled_from(EXTRAS)),
        local_extra=draw(st.sampled_from(EXTRAS)),
        comment=draw(st.sampled_from([b"", b"", b"", b"note"])),
        gap=draw(st.sampled_from([b"", b"", b"", b"gap"])),
        stamp=draw(st.sampled_from([0, 0x5A216B4C, 0xFFFFFFFF])),
        **rare,
    )


@st.composite
def odd_archives(draw: st.DrawFn) -> tuple[list[Part], bytes]:
    """Draw an archive, with the members the directory lists."""
    parts = draw(st.lists(odd_parts(), max_size=6))
    if parts and draw(st.integers(0, 9)) == 0:
        parts.append(replace(parts[0], shares=0))
    archive = build(
        *parts,
        prefix=draw(st.sampled_from([b"", b"", b"#!/bin/sh\n"])),
        counts_prefix=draw(st.booleans()),
        before_directory=draw(st.sampled_from([b"", b"", b"gap"])),
        comment=draw(st.sampled_from([b"", b"", b"remark"])),
        trailing=draw(st.sampled_from([b"", b"", b"tail" * 9])),
        zip64=draw(st.integers(0, 3)) == 0,
    )
    return [part for part in parts if part.listed], archive


def basenames(name: bytes) -> list[str]:
    """Return every part of a name, by an own and simpler reading than the module's."""
    text = name.decode("latin-1").lower()
    whole = "".join(c for c in text if c.isprintable())
    cut = text.partition("\0")[0]
    pieces = [piece for each in (text, whole, cut) for piece in each.replace("\\", "/").split("/")]
    return [piece.strip(" .") for piece in pieces]


def header_names(archive: bytes) -> list[bytes]:
    """Return the name behind every header signature, wherever it stands."""
    found = []
    for mark, size_at, name_at in ((b"PK\x03\x04", 26, 30), (b"PK\x01\x02", 28, 46)):
        at = archive.find(mark)
        while at >= 0:
            size = int.from_bytes(archive[at + size_at : at + size_at + 2], "little")
            found.append(archive[at + name_at : at + name_at + size])
            at = archive.find(mark, at + 1)
    return found


def assert_free_of_the_log(archive: bytes) -> None:
    """No header, anywhere in the bytes, names the log."""
    for name in header_names(archive):
        assert LOG_NAME.decode() not in basenames(name)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for info in opened.infolist():
            assert LOG_NAME.decode() not in basenames(info.orig_filename.encode())
            assert LOG_NAME not in info.extra.lower()
            assert info.comment == b""


def assert_zipfile_agrees(archive: bytes) -> None:
    """Every member that the module can read, zipfile reads to the same bytes."""
    inspected = runzip.inspect(archive)
    unreadable = runzip.check_members(inspected).unreadable
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for member, info in zip(inspected.members, opened.infolist(), strict=True):
            # Flag bit 5, patched data, is something zipfile refuses to look at.
            if member.index not in unreadable and not info.flag_bits & 0x20:
                assert b"".join(runzip.read_member(inspected, member)) == opened.read(info)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@example(([], build()))
@given(odd_archives())
def test_an_accepted_archive_keeps_its_members_and_loses_its_log(
    drawn: tuple[list[Part], bytes],
) -> None:
    """Nothing kept is altered, the log is never there, and a second surgery changes nothing."""
    parts, data = drawn
    verdict = runzip.classify(data)
    if verdict.outcome is Outcome.QUARANTINED:
        assert verdict.code
        return
    archive = runzip.inspect(data)
    rewritten = b"".join(runzip.sanitise(data))
    assert_free_of_the_log(rewritten)
    runzip.verify(rewritten)
    runzip.verify_rewritten(rewritten, archive)
    again = runzip.inspect(rewritten)
    assert runzip.is_unchanged(again)
    assert all(member.role is Role.KEPT for member in again.members)
    assert kept_of(archive) == kept_of(again)
    assert_zipfile_agrees(rewritten)
    assert (verdict.outcome is Outcome.CLEAN) <= (rewritten == data)
    assert len(archive.members) == len(parts)
    assert len(rewritten) <= len(data)


def kept_of(archive: runzip.Archive) -> list[tuple[object, ...]]:
    """Return everything about the kept members that must survive."""
    return [
        (
            member.key,
            bytes(member.entry.packed),
            member.entry.plain_size,
            *(member.entry.central[i] for i in (1, 4, 5, 6, 13, 14)),
        )
        for member in archive.kept
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(odd_archives())
def test_the_log_is_the_last_member_at_the_best_path(drawn: tuple[list[Part], bytes]) -> None:
    """Its bytes are those that were packed, whatever stands around it."""
    _, data = drawn
    if runzip.classify(data).outcome is not Outcome.MIGRATED:
        return
    archive = runzip.inspect(data)
    if archive.log is None:
        assert not archive.extra_logs
        return
    reader = runzip.LogReader(archive)
    log = b"".join(reader.exact())
    with zipfile.ZipFile(io.BytesIO(rebuilt(archive, archive.log))) as opened:
        assert opened.read("log") == log
    frame = runzip.gzip_frame(archive, reader.facts)
    assert (frame is None) == (archive.log.entry.central.method in (12, 14))


def rebuilt(archive: runzip.Archive, member: runzip.Member) -> bytes:
    """Return an archive of one member's packed bytes, for zipfile to unpack."""
    central = member.entry.central
    return build(
        Part(
            b"log",
            b"",
            method=central.method,
            packed=bytes(member.entry.packed),
            crc=central.crc,
            plain_size=member.entry.plain_size,
        )
    )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    """Bytes that are no archive are refused, with a code."""
    verdict = runzip.classify(data)
    assert verdict.outcome in (Outcome.QUARANTINED, Outcome.SKIPPED_NO_SOURCE)
    assert verdict.code
