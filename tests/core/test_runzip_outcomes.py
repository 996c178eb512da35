"""Every archive outcome by its number in the table of outcomes, and what is left afterwards."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from exporter.core import runzip
from exporter.core.runzip import LIMITS, LogReader, Outcome, Reason
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_DATA,
    LOG_NAME,
    OVERVIEW_NAME,
    SNAPSHOT,
    SYMLINK,
    Part,
    build,
    central_entry,
    encrypted,
    end_record,
    local_entry,
    pack,
    snapshot,
    unicode_path,
)

MIB = 1024 * 1024
SMALL = replace(
    LIMITS, members=2_000, member_bytes=2 * MIB, total_bytes=5 * MIB, ratio_floor_bytes=MIB
)
DESCRIPTORS = ("<4sIII", "<III", "<4sIQQ", "<IQQ")
FLAT = b"0123456789abcdef" * (MIB // 16)
#: Compresses so badly that only sizes matter.
NOISE = b"".join(zlib.crc32(i.to_bytes(4)).to_bytes(4) for i in range(MIB // 4))


@dataclass(frozen=True)
class Case:
    """One archive and what must come of it; `kept` are the members of the new archive."""

    row: int
    label: str
    archive: bytes | Callable[[], bytes]
    code: str = ""
    notes: Sequence[str] = ()
    kept: Sequence[Part] = CLEAN
    log: bytes | None = LOG_DATA
    originals: Sequence[tuple[str, bytes]] = ()
    outcome: Outcome = Outcome.MIGRATED
    limits: runzip.Limits = field(default=LIMITS)

    @property
    def data(self) -> bytes:
        return self.archive if isinstance(self.archive, bytes) else self.archive()


def refused(
    row: int, label: str, archive: bytes | Callable[[], bytes], code: str, **more: Any
) -> Case:
    return Case(row, label, archive, code, outcome=Outcome.QUARANTINED, **more)


def clean(row: int, label: str, *parts: Part, notes: Sequence[str] = ()) -> Case:
    kept = parts
    return Case(row, label, build(*parts), "", notes, kept, None, outcome=Outcome.CLEAN)


def with_log(data: bytes, **odd: Any) -> bytes:
    """Return an archive whose log has these bytes or that oddity."""
    return build(SNAPSHOT[0], Part(LOG_NAME, data, **odd), *SNAPSHOT[2:])


def with_part(*parts: Part) -> bytes:
    return snapshot(*parts)


def log_case(row: int, label: str, data: bytes, **more: Any) -> Case:
    return Case(row, label, with_log(data), log=data, **more)


def also(row: int, label: str, part: Part, notes: Sequence[str] = (), **more: Any) -> Case:
    """Return a case of a further member that is kept."""
    return Case(row, label, snapshot(part), notes=notes, kept=(*CLEAN, part), **more)


def gone(row: int, label: str, part: Part, notes: Sequence[str], **more: Any) -> Case:
    """Return a case of a further member that leaves the archive."""
    more.setdefault("originals", [("member", part.data)])
    return Case(row, label, snapshot(part), notes=notes, **more)


def overlap_by_size() -> bytes:
    """Return an archive whose first member claims the bytes of the second."""
    second = Part(b"b.txt", b"second")
    first = Part(b"a.txt", b"x", method=0)
    reach = 1 + len(local_entry(second))
    return build(replace(first, packed_size=reach, plain_size=reach), second)


def cut_behind_inner_zip() -> bytes:
    """Return a cut archive in which an uncut one is stored whole."""
    inner = build(Part(b"x.txt", b"inner"))
    return build(Part(b"inner.zip", inner, method=0), Part(b"y.txt", b"y" * 90))[:-90]


def two_directories() -> bytes:
    """Return an archive with one directory at the offset and another before the end record."""
    part = Part(b"a.txt", b"a")
    body, entry = local_entry(part), central_entry(part, 0)
    other = central_entry(replace(part, comment=b"x"), 0)
    return body + entry + other + end_record(1, len(other), len(body))


INNER = build(*SNAPSHOT)
BAD_STREAM = b"\x07" + pack(LOG_DATA, 8)[1:]
UNSAFE_LOGS = (b"/", b"../", b"C:", b"c:\\", b"..\\", b"\\\\host\\share\\", b"a/../")
UNSAFE_NAMES = (b"/etc/y", b"../../x", b"a/../../x", b"C:\\x", b"c:x", b"\\x", b"..\\x", b"..", b"")
BAD_OVERVIEWS = (
    b"",
    b"{",
    b"[1,2]",
    b"3",
    b'"x"',
    b"null",
    b"\xff\xfe{}",
    b"{" + b" " * MIB + b"}",
)

CASES: list[Case] = [
    Case(1, "zero bytes", b"", outcome=Outcome.SKIPPED_NO_SOURCE),
    refused(2, "A13 text", b"hello", "ZIP_NOT_ZIP"),
    refused(2, "one byte", b"P", "ZIP_NOT_ZIP"),
    refused(2, "long noise", NOISE, "ZIP_NOT_ZIP"),
    refused(3, "A40 cut 30 bytes", snapshot()[:-30], "ZIP_TRUNCATED"),
    refused(3, "cut in the end record", snapshot()[:-1], "ZIP_TRUNCATED"),
    refused(3, "cut in the first member", snapshot()[:40], "ZIP_TRUNCATED"),
    refused(3, "cut to a signature", b"PK\x03\x04", "ZIP_TRUNCATED"),
    refused(3, "cut empty archive", build()[:-1], "ZIP_TRUNCATED"),
    refused(3, "cut in the comment", snapshot(comment=b"remark")[:-1], "ZIP_TRUNCATED"),
    refused(3, "cut behind a prefix", (b"x" * 99 + snapshot())[:-30], "ZIP_TRUNCATED"),
    refused(3, "cut behind an inner archive", cut_behind_inner_zip, "ZIP_TRUNCATED"),
    clean(4, "A57 empty archive", notes=["EMPTY"]),
    refused(
        5,
        "A41 checksum in the directory",
        with_log(LOG_DATA, crc=1, local_crc=zlib.crc32(LOG_DATA)),
        "LOG_CORRUPT",
    ),
    refused(5, "broken stream", with_log(LOG_DATA, packed=BAD_STREAM), "LOG_CORRUPT"),
    refused(5, "cut stream", with_log(LOG_DATA, packed=pack(LOG_DATA, 8)[:-3]), "LOG_CORRUPT"),
    refused(
        5,
        "bytes behind the stream",
        with_log(LOG_DATA, packed=pack(LOG_DATA, 8) + b"x"),
        "LOG_CORRUPT",
    ),
    refused(5, "no stream", with_log(LOG_DATA, packed=b""), "LOG_CORRUPT"),
    refused(
        5, "declared too large", with_log(LOG_DATA, plain_size=len(LOG_DATA) + 1), "LOG_CORRUPT"
    ),
    refused(5, "longer, checksum wrong", with_log(LOG_DATA, plain_size=5, crc=7), "LOG_CORRUPT"),
    refused(5, "stored, checksum wrong", with_log(LOG_DATA, method=0, crc=7), "LOG_CORRUPT"),
    *(
        refused(
            5,
            f"cut stream, method {m}",
            with_log(LOG_DATA, method=m, packed=pack(LOG_DATA, m)[:-9]),
            "LOG_CORRUPT",
        )
        for m in (12, 14)
    ),
    refused(5, "in a second log", with_part(Part(b"x/" + LOG_NAME, b"x", crc=1)), "LOG_CORRUPT"),
    also(
        6,
        "A42 checksum of a.txt",
        Part(b"a.txt", b"text", crc=1, local_crc=zlib.crc32(b"text")),
        ["MEMBER_CORRUPT:a.txt"],
    ),
    also(
        6,
        "broken stream",
        Part(b"d/a.txt", LOG_DATA, packed=BAD_STREAM),
        ["MEMBER_CORRUPT:d/a.txt"],
    ),
    also(
        6,
        "cut stream",
        Part(b"a\n", b"text", packed=pack(b"text", 8)[:-1]),
        ["BAD_NAME", "MEMBER_CORRUPT:a\\n"],
    ),
    also(6, "huge size", Part(b"a", b"text", plain_size=5 << 30, zip64=True), ["MEMBER_CORRUPT:a"]),
    refused(7, "A14 encrypted log", build(*CLEAN, encrypted(LOG_NAME, LOG_DATA)), "LOG_ENCRYPTED"),
    refused(7, "encrypted and AES", with_log(LOG_DATA, method=99, flags=1), "LOG_ENCRYPTED"),
    also(8, "encrypted other", encrypted(b"s.bin", b"secret"), ["MEMBER_ENCRYPTED"]),
    also(
        8,
        "encrypted, descriptor",
        encrypted(b"s.bin", b"secret", descriptor="<4sIII"),
        ["MEMBER_ENCRYPTED"],
    ),
    *(
        refused(9, f"A55 method {m} on the log", with_log(LOG_DATA, method=m), f"LOG_METHOD_{m}")
        for m in (1, 6, 9, 93, 95, 99)
    ),
    *(Case(9, f"method {m} on the log", with_log(LOG_DATA, method=m)) for m in (0, 8, 12, 14)),
    also(10, "A55 method 99 on b.bin", Part(b"b.bin", b"bytes", method=99), ["MEMBER_METHOD_99"]),
    Case(11, "zip64 end record", snapshot(zip64=True)),
    Case(11, "zip64 members", build(*(replace(part, zip64=True) for part in SNAPSHOT))),
    Case(
        11,
        "zip64 both, prefix",
        build(
            *(replace(part, zip64=True) for part in SNAPSHOT),
            zip64=True,
            prefix=b"xyz",
            counts_prefix=False,
        ),
        notes=["PREFIX_BYTES"],
    ),
    Case(11, "A46 zip64 log of 10 B", with_log(b"0123456789", zip64=True), log=b"0123456789"),
    Case(
        11,
        "zip64 streamed",
        build(*(replace(part, zip64=True, descriptor="<4sIQQ") for part in SNAPSHOT)),
    ),
    *(
        Case(12, f"A45 descriptor {d}", build(*(replace(part, descriptor=d) for part in SNAPSHOT)))
        for d in DESCRIPTORS
    ),
    Case(
        12,
        "descriptor, no log",
        build(*(replace(part, descriptor="<4sIII") for part in CLEAN)),
        log=None,
    ),
    Case(12, "flag only in front", build(*(replace(part, local_flags=8) for part in SNAPSHOT))),
    Case(
        13,
        "A02 log below",
        snapshot(Part(b"sub/" + LOG_NAME, b"below")),
        notes=["MULTI_LOG"],
        originals=[("log", b"below")],
    ),
    Case(
        13,
        "two below",
        build(*CLEAN, Part(b"b/" + LOG_NAME, b"b"), Part(b"a/" + LOG_NAME, b"a")),
        notes=["MULTI_LOG"],
        log=b"a",
        originals=[("log", b"b")],
    ),
    Case(
        13,
        "the deeper one first",
        build(*CLEAN, Part(b"a/a/" + LOG_NAME, b"aa"), Part(b"b/" + LOG_NAME, b"b")),
        notes=["MULTI_LOG"],
        log=b"b",
        originals=[("log", b"aa")],
    ),
    Case(
        13,
        "equal bytes, other path",
        build(*CLEAN, Part(b"b/" + LOG_NAME, b"b"), Part(b"a/" + LOG_NAME, b"b")),
        notes=["MULTI_LOG"],
        log=b"b",
        originals=[("log", b"b")],
    ),
    Case(
        13,
        "fallback log beside it",
        snapshot(Part(b"track_activity_w7_fallback.jsonl", b"w7")),
        notes=["MULTI_LOG"],
        originals=[("log", b"w7")],
    ),
    Case(
        13,
        "only a fallback log",
        build(*CLEAN, Part(b"track_activity_w7_fallback.jsonl", b"w7")),
        log=b"w7",
    ),
    Case(
        14,
        "A43 A then BB",
        build(*CLEAN, Part(LOG_NAME, b"A"), Part(LOG_NAME, b"BB")),
        notes=["DUPLICATE_NAME"],
        log=b"BB",
        originals=[("log", b"A")],
    ),
    Case(
        14,
        "twice the same",
        build(*CLEAN, Part(LOG_NAME, b"A"), Part(LOG_NAME, b"A")),
        notes=["DUPLICATE_NAME"],
        log=b"A",
    ),
    Case(
        14,
        "the same, packed otherwise",
        build(*CLEAN, Part(LOG_NAME, FLAT), Part(LOG_NAME, FLAT, method=0)),
        notes=["DUPLICATE_NAME"],
        log=FLAT,
    ),
    clean(15, "duplicate name", Part(b"a", b"1"), Part(b"a", b"2"), notes=["DUPLICATE_NAME"]),
    Case(
        15,
        "duplicate name and a log",
        snapshot(Part(b"a", b"1"), Part(b"a", b"2")),
        notes=["DUPLICATE_NAME"],
        kept=(*CLEAN, Part(b"a", b"1"), Part(b"a", b"2")),
    ),
    *(
        log_case(16, label, data, notes=["LOG_TEXT_LOSSY"], originals=[("log", data)])
        for label, data in [
            ("A04 NUL", b"one\n\x00two\n"),
            ("A05 ff fe", b"\xff\xfeA"),
            ("encoded surrogate", b"\xed\xa0\x80"),
            ("cut character", b"caf\xc3"),
            ("late", b"x" * MIB + b"\xff"),
        ]
    ),
    log_case(17, "escapes", b'{"a": "\\ud800\\u0000"}\n'),
    *(
        log_case(18, label, data)
        for label, data in [
            ("not JSON", b"not json"),
            ("no newline", b"{}\n{}"),
            ("CRLF", b"{}\r\n"),
            ("BOM", b"\xef\xbb\xbf{}\n"),
            ("empty", b""),
            ("wide", "añ😀\n".encode() * 70_000),
        ]
    ),
    *(
        Case(
            19,
            f"overview {data[:6]!r} of {len(data)}",
            build(SNAPSHOT[1], Part(OVERVIEW_NAME, data)),
            notes=["OVERVIEW_INVALID"],
            kept=[Part(OVERVIEW_NAME, data)],
            originals=[("overview", data)],
        )
        for data in BAD_OVERVIEWS
    ),
    Case(
        19,
        "overview without a log",
        build(Part(OVERVIEW_NAME, b"[]")),
        notes=["OVERVIEW_INVALID"],
        kept=[Part(OVERVIEW_NAME, b"[]")],
        log=None,
        originals=[("overview", b"[]")],
    ),
    Case(
        19,
        "overview corrupt",
        build(Part(OVERVIEW_NAME, b"{}", crc=1)),
        notes=["OVERVIEW_INVALID", "MEMBER_CORRUPT:activity_overview.json"],
        kept=[Part(OVERVIEW_NAME, b"{}", crc=1)],
        log=None,
    ),
    *(
        Case(
            20,
            f"log at {prefix!r}",
            build(*CLEAN, Part(prefix + LOG_NAME, LOG_DATA)),
            notes=["UNSAFE_NAME"],
        )
        for prefix in UNSAFE_LOGS
    ),
    *(
        gone(21, f"A47 member {name!r}", Part(name, b"bytes"), ["UNSAFE_NAME"])
        for name in UNSAFE_NAMES
    ),
    gone(
        21,
        "unsafe and encrypted",
        encrypted(b"/s", b"bytes"),
        ["UNSAFE_NAME", "MEMBER_ENCRYPTED"],
        originals=[],
    ),
    also(22, "A48 flagged UTF-8, ff fe", Part(b"\xff\xfe", b"odd", flags=0x800), ["BAD_NAME"]),
    also(22, "control bytes", Part(b"a\x07\x1bb.txt", b"odd"), ["BAD_NAME"]),
    also(22, "NUL", Part(b"a.txt\x00tail", b"odd"), ["BAD_NAME"]),
    Case(
        22,
        "A49 log with NUL",
        build(*CLEAN, Part(LOG_NAME + b"\x00foo", LOG_DATA)),
        notes=["BAD_NAME"],
    ),
    gone(22, "NUL first", Part(b"\x00a.txt", b"odd"), ["BAD_NAME", "UNSAFE_NAME"]),
    clean(23, "directories", Part(b"d/", external=0o40755 << 16), Part(b"d/e/f/g.txt", b"g")),
    also(23, "directory and a log", Part(b"d/", external=0o40755 << 16 | 0x10)),
    Case(
        23,
        "reserved directory",
        snapshot(Part(LOG_NAME + b"/"), Part(LOG_NAME + b"/x", b"child")),
        originals=[("member", b"child")],
    ),
    Case(
        23,
        "only a reserved directory",
        build(*CLEAN, Part(LOG_NAME + b"/x", b"child")),
        log=None,
        originals=[("member", b"child")],
    ),
    gone(24, "symlink", Part(b"copy.txt", LOG_NAME, external=SYMLINK), ["SYMLINK"]),
    gone(24, "fifo", Part(b"pipe", b"", external=0o10644 << 16), ["SYMLINK"]),
    gone(24, "Windows link", Part(b"copy.txt", b"x", made_by=0x0A14, external=0x400), ["SYMLINK"]),
    Case(
        24,
        "link in place of the log",
        build(*CLEAN, Part(LOG_NAME, b"x", external=SYMLINK)),
        notes=["SYMLINK"],
        log=None,
        originals=[("member", b"x")],
    ),
    refused(25, "A44 fifty million zeros", lambda: with_log(bytes(50_000_000)), "ZIP_BOMB"),
    refused(25, "total", with_log(NOISE), "ZIP_BOMB", limits=replace(SMALL, total_bytes=MIB)),
    refused(
        25, "archive too large", snapshot(), "ZIP_BOMB", limits=replace(LIMITS, archive_bytes=99)
    ),
    refused(25, "too many members", snapshot(), "ZIP_BOMB", limits=replace(LIMITS, members=3)),
    refused(25, "name too long", build(Part(b"n" * 4_097)), "ZIP_BOMB"),
    refused(
        25,
        "LZMA window",
        with_log(FLAT, method=14),
        "ZIP_BOMB",
        limits=replace(LIMITS, window_bytes=4_096),
    ),
    *(
        refused(
            26,
            f"ratio, method {m}",
            with_part(Part(b"z", bytes(2 * MIB), method=m)),
            "ZIP_BOMB",
            limits=SMALL,
        )
        for m in (8, 12, 14)
    ),
    refused(
        26,
        "ratio behind a false size",
        with_part(Part(b"z", bytes(2 * MIB), plain_size=9, crc=1)),
        "ZIP_BOMB",
        limits=SMALL,
    ),
    refused(
        26,
        "larger than a member may be",
        with_part(Part(b"z", NOISE * 3)),
        "ZIP_BOMB",
        limits=SMALL,
    ),
    refused(
        26,
        "total",
        with_part(*(Part(b"%d" % i, NOISE) for i in range(6))),
        "ZIP_BOMB",
        limits=SMALL,
    ),
    refused(
        26,
        "stray headers",
        with_part(Part(b"z", b"PK\x03\x04" * 9_000, method=0)),
        "ZIP_BOMB",
        limits=SMALL,
    ),
    refused(
        26,
        "packed stray headers",
        with_part(Part(b"z", b"PK\x01\x02" * 9_000)),
        "ZIP_BOMB",
        limits=SMALL,
    ),
    refused(
        27,
        "A54 two entries, one header",
        build(Part(b"a", b"1"), Part(b"a", b"1", shares=0)),
        "ZIP_OVERLAP",
    ),
    refused(
        27,
        "two names, one header",
        build(Part(b"a", b"1"), Part(b"b", b"1", shares=0)),
        "ZIP_OVERLAP",
    ),
    refused(27, "into the next member", overlap_by_size, "ZIP_OVERLAP"),
    refused(27, "into the directory", build(Part(b"a", b"1", packed_size=40)), "ZIP_OVERLAP"),
    refused(
        27, "zip64 size", build(Part(b"a", b"1", zip64=True, packed_size=1 << 63)), "ZIP_OVERLAP"
    ),
    refused(
        28,
        "A52 name",
        build(Part(b"harmless.json", LOG_DATA, local_name=LOG_NAME)),
        "ZIP_HEADER_MISMATCH",
    ),
    refused(
        28,
        "name the other way",
        build(Part(LOG_NAME, LOG_DATA, local_name=b"harmless.json")),
        "ZIP_HEADER_MISMATCH",
    ),
    refused(28, "method", build(Part(b"a", b"1", method=0, local_method=8)), "ZIP_HEADER_MISMATCH"),
    refused(28, "encryption", build(Part(b"a", b"1", local_flags=1)), "ZIP_HEADER_MISMATCH"),
    refused(
        28,
        "second name",
        build(Part(b"a", b"1", extra=unicode_path(b"a", LOG_NAME))),
        "ZIP_HEADER_MISMATCH",
    ),
    refused(
        28,
        "second name in front",
        build(Part(b"a", b"1", local_extra=unicode_path(b"a", LOG_NAME))),
        "ZIP_HEADER_MISMATCH",
    ),
    refused(
        28, "no header", snapshot().replace(b"PK\x03\x04", b"PK\x03\x05", 1), "ZIP_HEADER_MISMATCH"
    ),
    refused(
        29,
        "A53 unlisted log",
        snapshot(Part(b"x/" + LOG_NAME, b"old", listed=False)),
        "ZIP_HIDDEN_ENTRY",
    ),
    refused(
        29,
        "unlisted log, no other",
        build(replace(SNAPSHOT[1], listed=False), *CLEAN),
        "ZIP_HIDDEN_ENTRY",
    ),
    refused(
        29,
        "listed by an old directory",
        snapshot(before_directory=central_entry(SNAPSHOT[1], 0)),
        "ZIP_HIDDEN_ENTRY",
    ),
    refused(29, "behind the end", snapshot(trailing=local_entry(SNAPSHOT[1])), "ZIP_HIDDEN_ENTRY"),
    Case(
        29,
        "unlisted other",
        snapshot(Part(b"old.txt", b"old", listed=False)),
        notes=["HIDDEN_ENTRY", "GAP_BYTES"],
    ),
    Case(29, "gap without a header", snapshot(before_directory=b"padding"), notes=["GAP_BYTES"]),
    Case(30, "A50 shell text", build(*CLEAN, prefix=b"#" * 50), notes=["PREFIX_BYTES"], log=None),
    Case(
        30,
        "offsets not moved",
        snapshot(prefix=b"#" * 50, counts_prefix=False),
        notes=["PREFIX_BYTES"],
    ),
    Case(
        30,
        "before an empty archive",
        b"#" * 50 + build(),
        notes=["PREFIX_BYTES", "EMPTY"],
        kept=(),
        log=None,
    ),
    Case(
        31,
        "A51 planted key",
        build(*CLEAN, trailing=b"sk-planted-key" * 50),
        notes=["TRAILING_BYTES"],
        log=None,
    ),
    Case(31, "65 557 bytes", snapshot(trailing=b"x" * 65_557), notes=["TRAILING_BYTES"]),
    Case(
        31,
        "and a comment",
        snapshot(comment=b"c" * 65_535, trailing=b"x" * 65_557),
        notes=["TRAILING_BYTES", "COMMENT_DROPPED"],
    ),
    refused(32, "65 558 bytes", snapshot(trailing=b"x" * 65_558), "ZIP_TRUNCATED"),
    *(
        refused(
            33,
            f"log, method {m}",
            with_log(LOG_DATA, method=m, plain_size=34, crc=zlib.crc32(LOG_DATA[:34])),
            "ZIP_SIZE_LIE",
        )
        for m in (0, 8, 12, 14)
    ),
    refused(
        33,
        "other member",
        build(Part(b"a", b"abc", plain_size=1, crc=zlib.crc32(b"a"))),
        "ZIP_SIZE_LIE",
    ),
    refused(33, "only in front", build(Part(b"a", b"abc", local_plain_size=2)), "ZIP_SIZE_LIE"),
    refused(
        33,
        "two zip64 fields",
        build(Part(b"a", b"1", zip64=True, extra=b"\x01\x00\x08\x00" + bytes(8))),
        "ZIP_SIZE_LIE",
    ),
    refused(34, "count", snapshot(count=3), "ZIP_CD_MISMATCH"),
    refused(34, "count too high", snapshot(count=5), "ZIP_CD_MISMATCH"),
    refused(34, "size", snapshot(size_off_by=-1), "ZIP_CD_MISMATCH"),
    refused(34, "size beyond the file", snapshot(size_off_by=1 << 24), "ZIP_CD_MISMATCH"),
    refused(34, "multi-disk", snapshot(disk=1), "ZIP_CD_MISMATCH"),
    refused(34, "zip64 count", snapshot(zip64=True, count=3), "ZIP_CD_MISMATCH"),
    refused(34, "two directories", two_directories, "ZIP_CD_MISMATCH"),
    refused(34, "bytes cut out", snapshot()[:60] + snapshot()[61:], "ZIP_CD_MISMATCH"),
    *(
        refused(
            35,
            f"A56 inner.zip, method {m}",
            with_part(Part(b"inner.zip", INNER, method=m)),
            "NESTED_ARCHIVE",
        )
        for m in (0, 8, 12, 14)
    ),
    refused(
        35, "no .zip in the name", with_part(Part(b"a.txt", b"x" * MIB + INNER)), "NESTED_ARCHIVE"
    ),
    refused(
        35,
        "only its directory",
        with_part(Part(b"a", INNER[INNER.find(b"PK\x01\x02") :])),
        "NESTED_ARCHIVE",
    ),
    refused(
        35,
        "cut behind the name",
        with_part(Part(b"a", b"PK\x03\x04" + bytes(22) + b"\x14\x00\x09\x00" + LOG_NAME)),
        "NESTED_ARCHIVE",
    ),
    also(35, "inner archive without a log", Part(b"inner.zip", build(*CLEAN))),
    Case(36, "archive comment", snapshot(comment=b"remark"), notes=["COMMENT_DROPPED"]),
    Case(
        36,
        "member comment",
        build(*CLEAN, Part(b"a", b"1", comment=b"remark")),
        notes=["COMMENT_DROPPED"],
        kept=(*CLEAN, Part(b"a", b"1")),
        log=None,
    ),
    refused(
        37,
        "log beyond the limit",
        lambda: with_log(NOISE * 2 + b"x"),
        "LOG_TOO_LARGE",
        limits=SMALL,
    ),
]


def by_label(case: Case) -> str:
    return f"{case.row:02d}-{case.label}"


ACCEPTED = [case for case in CASES if case.outcome in (Outcome.MIGRATED, Outcome.CLEAN)]
REFUSED = [case for case in CASES if case not in ACCEPTED]


@pytest.mark.parametrize("case", CASES, ids=by_label)
def test_the_outcome_is_the_one_of_the_table(case: Case) -> None:
    """Outcome, reason code and notes are exactly those expected."""
    verdict = runzip.classify(case.data, case.limits)
    expected = "NO_SOURCE" if case.row == 1 else case.code
    assert (verdict.outcome, verdict.code) == (case.outcome, expected)
    assert sorted(verdict.note_codes) == sorted(case.notes)


@pytest.mark.parametrize("case", ACCEPTED, ids=by_label)
def test_the_new_archive_holds_the_kept_members_as_they_were(case: Case) -> None:
    """Names, order, packed bytes, checksums, times and attributes survive; nothing is added."""
    rewritten = b"".join(runzip.sanitise(case.data, case.limits))
    assert listing(rewritten) == [as_listed(part) for part in case.kept]
    assert len(rewritten) == 22 + sum(size_of(part) for part in case.kept)


@pytest.mark.parametrize("case", ACCEPTED, ids=by_label)
def test_the_new_archive_passes_its_own_tests(case: Case) -> None:
    """It verifies, needs no further surgery, and CLEAN means the source itself."""
    data = case.data
    rewritten = b"".join(runzip.sanitise(data, case.limits))
    runzip.verify(rewritten, case.limits)
    runzip.verify_rewritten(rewritten, runzip.inspect(data, case.limits))
    assert runzip.is_unchanged(runzip.inspect(rewritten, case.limits))
    assert case.outcome is not Outcome.CLEAN or rewritten == data


@pytest.mark.parametrize("case", ACCEPTED, ids=by_label)
def test_the_log_comes_out_exactly(case: Case) -> None:
    """Streamed bytes, and the packed bytes as gzip, are the log; there is none without one."""
    archive = runzip.inspect(case.data, case.limits)
    assert (archive.log is None) == (case.log is None)
    if archive.log is None:
        return
    reader = LogReader(archive)
    chunks = list(reader.exact())
    assert b"".join(chunks) == case.log
    assert max(map(len, chunks), default=0) <= 256 * 1024
    frame = runzip.gzip_frame(archive, reader.facts)
    if archive.log.entry.central.method in (0, 8):
        assert frame is not None
        assert gzip.decompress(b"".join(frame)) == case.log
    else:
        assert frame is None


@pytest.mark.parametrize("case", ACCEPTED, ids=by_label)
def test_what_leaves_the_archive_is_listed_as_an_original(case: Case) -> None:
    """Every dropped or approximated content can be read in full and stored apart."""
    archive = runzip.inspect(case.data, case.limits)
    report = runzip.check_members(archive)
    facts = None
    if archive.log is not None:
        reader = LogReader(archive, spent=report.plain_bytes)
        assert b"".join(reader.text()).decode() is not None
        facts = reader.facts
    found = runzip.originals(archive, report, facts)
    contents = [(one.kind, b"".join(runzip.read_member(archive, one.member))) for one in found]
    assert contents == list(case.originals)


@pytest.mark.parametrize("case", REFUSED, ids=by_label)
def test_a_refused_archive_gives_no_bytes(case: Case) -> None:
    """Neither sanitising nor verifying lets it through, except where only the log is at fault."""
    with pytest.raises(runzip.Refusal):
        runzip.verify(case.data, case.limits)
    if case.code in ("LOG_CORRUPT", "LOG_TOO_LARGE", "ZIP_SIZE_LIE") or case.row == 25:
        return
    with pytest.raises(runzip.Refusal) as caught:
        runzip.sanitise(case.data, case.limits)
    assert caught.value.code == (case.code or "NO_SOURCE")


def test_every_outcome_has_a_case() -> None:
    """All rows of the table are there; the last is only given by the database."""
    assert {case.row for case in CASES} | {38} == set(range(1, 39))
    assert Reason.DB_REJECTED == "DB_REJECTED"


def listing(archive: bytes) -> list[tuple[object, ...]]:
    """Return what zipfile and the member's own header say about each member."""
    rows: list[tuple[object, ...]] = []
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.comment == b""
        for info in opened.infolist():
            name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
            at = info.header_offset
            header = archive[at : at + 30]
            data_at = (
                at
                + 30
                + int.from_bytes(header[26:28], "little")
                + int.from_bytes(header[28:30], "little")
            )
            assert archive[at + 30 : at + 30 + len(name)] == name
            packed = archive[data_at : data_at + info.compress_size]
            stamp = int.from_bytes(header[10:14], "little")
            crc = int.from_bytes(header[14:18], "little")
            assert (crc, int.from_bytes(header[8:10], "little")) == (info.CRC, info.compress_type)
            rows.append(
                (
                    name,
                    info.compress_type,
                    stamp,
                    crc,
                    info.file_size,
                    packed,
                    info.external_attr,
                    info.comment,
                )
            )
    return rows


def as_listed(part: Part) -> tuple[object, ...]:
    packed = pack(part.data, part.method) if part.packed is None else part.packed
    crc = zlib.crc32(part.data) if part.crc is None else part.crc
    size = len(part.data) if part.plain_size is None else part.plain_size
    name = part.name.partition(b"\0")[0]
    return name, part.method, part.stamp, crc, size, packed, part.external, b""


def size_of(part: Part) -> int:
    """Return the bytes of a member in an archive with nothing to spare."""
    name = part.name.partition(b"\0")[0]
    packed = pack(part.data, part.method) if part.packed is None else part.packed
    wide = 20 + 12 if (part.plain_size or 0) > 0xFFFFFFFF else 0
    descriptor = 16 if part.descriptor and part.flags & 1 else 0
    return 30 + 46 + 2 * len(name) + len(packed) + wide + descriptor
