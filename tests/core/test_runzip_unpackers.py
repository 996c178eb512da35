"""Sanitised archives in the hands of other programs: the same files with the same bytes."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.core import runzip
from tests.core.test_runzip_builders import Part, build, encrypted
from tests.core.test_runzip_outcomes import ACCEPTED, Case, by_label

Unpacker = Callable[[bytes, Path], dict[str, bytes]]


def by_zipfile(archive: bytes, folder: Path) -> dict[str, bytes]:
    """Read every member that zipfile can read."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for info in opened.infolist():
            try:
                content = opened.read(info)
            except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError):
                continue
            if not info.is_dir():
                found[info.filename] = content
    return found


def by_unzip(archive: bytes, folder: Path) -> dict[str, bytes]:
    """Unpack with Info-ZIP's unzip."""
    return _unpacked(["unzip", "-o", "-qq", "-P", "wrong", "../archive.zip"], archive, folder)


def by_bsdtar(archive: bytes, folder: Path) -> dict[str, bytes]:
    """Unpack with libarchive's bsdtar, which reads names in the character set of the locale."""
    return _unpacked(["bsdtar", "-x", "-f", "../archive.zip"], archive, folder)


def by_bsdtar_stream(archive: bytes, folder: Path) -> dict[str, bytes]:
    """Unpack from a pipe: libarchive then goes by the headers in front of the data."""
    return _unpacked(["bsdtar", "-x", "-f", "-"], archive, folder)


def _unpacked(command: list[str], archive: bytes, folder: Path) -> dict[str, bytes]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    folder.joinpath("archive.zip").write_bytes(archive)
    target = folder / "target"
    target.mkdir()
    # Exit codes speak of members that are meant to be unreadable, so the files decide.
    subprocess.run(
        command,
        cwd=target,
        input=archive,
        capture_output=True,
        timeout=30,
        check=False,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    return {
        # One member claims gigabytes, and becomes a file with holes.
        str(path.relative_to(target)): path.read_bytes() if path.stat().st_size < 1 << 24 else b""
        for path in target.rglob("*")
        if path.is_file()
    }


UNPACKERS: dict[str, tuple[Unpacker, frozenset[int]]] = {
    "zipfile": (by_zipfile, frozenset({0, 8, 12, 14})),
    "unzip": (by_unzip, frozenset({0, 8, 12})),
    "bsdtar": (by_bsdtar, frozenset({0, 8, 12, 14})),
}


def is_plain(part: Part) -> bool:
    """Tell whether a member has no fault of its own that keeps a program from reading it."""
    own = (part.crc, part.packed, part.plain_size)
    return own == (None, None, None) and not part.flags & 1 and not part.name.endswith(b"/")


def expected_files(case: Case, methods: frozenset[int]) -> dict[str, bytes]:
    """Return the files that must be there; of one name, the last member wins."""
    return {
        part.name.partition(b"\0")[0].decode(errors="surrogateescape"): part.data
        for part in case.kept
        if is_plain(part) and part.method in methods
    }


@pytest.mark.parametrize("program", UNPACKERS)
@pytest.mark.parametrize("case", ACCEPTED, ids=by_label)
def test_the_new_archive_unpacks_to_the_same_bytes(
    case: Case, program: str, tmp_path: Path
) -> None:
    """Every readable member comes out with its bytes, and no file is there that was not kept."""
    unpack, methods = UNPACKERS[program]
    found = unpack(b"".join(runzip.sanitise(case.data, case.limits)), tmp_path)
    expected = expected_files(case, methods)
    if "BAD_NAME" in case.notes:
        # Every program spells such names in its own way.
        assert not Counter(expected.values()) - Counter(found.values())
    else:
        assert {name: found.get(name) for name in expected} == expected
    assert len(found) <= len(case.kept)
    assert not any(name.endswith("track_activity.jsonl") for name in found)


@pytest.mark.parametrize("case", ACCEPTED, ids=by_label)
def test_a_stream_reader_finds_no_other_members(case: Case, tmp_path: Path) -> None:
    """A reader that never sees the directory gets the same files."""
    found = by_bsdtar_stream(b"".join(runzip.sanitise(case.data, case.limits)), tmp_path)
    # It stops at what it cannot read, so files may be missing; there are none too many.
    assert len(found) <= len(case.kept)
    if "BAD_NAME" not in case.notes:
        assert set(found) <= {part.name.decode() for part in case.kept}


@pytest.mark.parametrize("descriptor", ["", "<4sIII", "<III"])
def test_an_encrypted_member_still_opens_with_its_password(descriptor: str, tmp_path: Path) -> None:
    """What the password is checked against survives the new header."""
    part = encrypted(b"s.txt", b"secret " * 40, b"pw", descriptor)
    archive = b"".join(runzip.sanitise(build(Part(b"a", b"1", descriptor="<4sIII"), part)))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.read("s.txt", b"pw") == part.data
    command = ["unzip", "-o", "-qq", "-P", "pw", "../archive.zip"]
    assert _unpacked(command, archive, tmp_path) == {"a": b"1", "s.txt": part.data}


def test_an_archive_of_zipfile_without_a_log_is_served_as_it_is(tmp_path: Path) -> None:
    """What the usual writer makes is CLEAN, down to folders, wide names and duplicates."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        new.mkdir("sub")
        new.writestr("sub/ä.txt", "text " * 99)
        new.writestr("a.txt", b"", zipfile.ZIP_STORED)
        new.writestr("a.txt", b"again", zipfile.ZIP_BZIP2)
        new.writestr("b.txt", b"LZMA", zipfile.ZIP_LZMA)
    archive = output.getvalue()
    assert runzip.classify(archive).outcome is runzip.Outcome.CLEAN
    (served,) = runzip.sanitise(archive)[:1]
    assert b"".join(runzip.sanitise(archive)) == archive
    assert isinstance(served, memoryview)


def test_an_archive_of_bsdtar_loses_only_its_log(tmp_path: Path) -> None:
    """Another writer: data descriptors, owner and time fields, and a folder prefix."""
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed")
    source = tmp_path / "run"
    source.mkdir()
    for name in ("track_activity.jsonl", "030-report.html", "activity_overview.json"):
        (source / name).write_text("{}\n" * 50)
    command = ["bsdtar", "--format", "zip", "-cf", "run.zip", "run"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    archive = (tmp_path / "run.zip").read_bytes()
    verdict = runzip.classify(archive)
    assert (verdict.outcome, verdict.facts["log_bytes"]) == (runzip.Outcome.MIGRATED, 150)
    rewritten = b"".join(runzip.sanitise(archive))
    assert set(by_bsdtar(rewritten, tmp_path)) == {
        "run/030-report.html",
        "run/activity_overview.json",
    }
    runzip.verify(rewritten)


class Pipe(io.RawIOBase):
    """A stream that cannot seek."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += data
        return len(data)


@pytest.mark.parametrize("force_zip64", [False, True])
@pytest.mark.parametrize("is_pipe", [False, True])
def test_what_zipfile_streams_becomes_a_classic_archive(force_zip64: bool, is_pipe: bool) -> None:
    """Cases A45 and A46, from a real writer: neither descriptors nor zip64 are left."""
    output: Any = Pipe() if is_pipe else io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as new:
        for name in ("a.txt", "track_activity.jsonl"):
            with new.open(name, "w", force_zip64=force_zip64) as member:
                member.write(b"0123456789")
    archive = bytes(output.written if is_pipe else output.getvalue())
    verdict = runzip.classify(archive)
    assert (verdict.outcome, verdict.note_codes) == (runzip.Outcome.MIGRATED, ())
    rewritten = b"".join(runzip.sanitise(archive))
    stamp = int.from_bytes(rewritten[10:14], "little")
    made_by = 0x032D if force_zip64 else 0x0314
    part = Part(b"a.txt", b"0123456789", stamp=stamp, external=0o600 << 16, made_by=made_by)
    assert rewritten == build(part)


@pytest.mark.parametrize("method", [0, 8, 12, 14])
def test_an_absurd_version_does_not_lock_readers_out(method: int) -> None:
    """One member that claims to need version 12.7 hides the whole archive from zipfile."""
    archive = bytearray(build(Part(b"a", b"1" * 40, method=method)))
    archive[4] = archive[archive.find(b"PK\x01\x02") + 6] = 127
    with pytest.raises(NotImplementedError):
        zipfile.ZipFile(io.BytesIO(archive))
    rewritten = b"".join(runzip.sanitise(archive))
    assert zipfile.ZipFile(io.BytesIO(rewritten)).read("a") == b"1" * 40
