"""The log's text and gzip form, the overview, and how readers behave when used otherwise."""

from __future__ import annotations

import gzip
import json
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from exporter.core import runzip
from exporter.core.runzip import LogReader, LogText, Reason, Refusal, parse_overview
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_DATA,
    LOG_NAME,
    OVERVIEW_DATA,
    OVERVIEW_NAME,
    Part,
    build,
    pack,
    snapshot,
)


def text_of(data: bytes, size: int) -> tuple[bytes, bool]:
    """Return the text of a log that arrives in chunks of `size`, and whether it is lossy."""
    text = LogText()
    chunks = [text.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join([*chunks, text.finish()]), text.is_lossy


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain\r\n", "plain\r\n"),
        ("añ€😀".encode(), "añ€😀"),
        (b"\xef\xbb\xbfx", "\ufeffx"),
        (b"a\x00b\x00", "ab"),
        (b"\xff\xfeA", "\ufffd\ufffdA"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"x\xf0\x9f\x98", "x\ufffd"),
        (b"\xe2\x82A\xe2\x82\xac", "\ufffdA€"),
        (b"\xc0\x80", "\ufffd\ufffd"),
    ],
)
def test_text_is_what_postgresql_accepts(data: bytes, expected: str, size: int) -> None:
    """Chunk borders make no difference, and lossy means that the bytes differ."""
    text, is_lossy = text_of(data, size)
    assert text.decode() == expected
    assert is_lossy == (text != data)
    assert expected == data.decode(errors="replace").replace("\0", "")


def test_clean_chunks_pass_without_a_copy() -> None:
    """The usual log costs a look, not a copy."""
    chunk = b"x" * 1000
    assert LogText().feed(chunk) is chunk


def test_a_log_is_read_as_bytes_or_as_text() -> None:
    """The text comes in chunks too, and both ends give the same facts."""
    data = b"one\x00\n" * 100_000
    archive = runzip.inspect(build(Part(LOG_NAME, data)))
    exact, text = LogReader(archive), LogReader(archive)
    assert b"".join(exact.exact()) == data
    assert b"".join(text.text()) == data.replace(b"\0", b"")
    assert exact.facts == text.facts
    assert (exact.facts.plain_bytes, exact.facts.crc) == (len(data), zlib.crc32(data))


def test_facts_are_there_only_after_the_end() -> None:
    """Nobody can frame or conclude a log that was not checked."""
    archive = runzip.inspect(snapshot())
    reader = LogReader(archive)
    with pytest.raises(ValueError, match="not read"):
        _ = reader.facts
    with pytest.raises(ValueError, match="not read"):
        runzip.conclude(archive, runzip.check_members(archive))


def test_there_is_no_reader_without_a_log() -> None:
    """The caller must look at `log` first."""
    with pytest.raises(ValueError, match="no log"):
        LogReader(runzip.inspect(build(*CLEAN)))


def test_the_tick_sees_every_byte_and_can_stop_the_work() -> None:
    """A job bounds the time of a row from outside."""
    archive = runzip.inspect(snapshot(Part(b"big", b"x" * 1_000_000)))
    seen: list[int] = []
    report = runzip.check_members(archive, tick=seen.append)
    assert sum(seen) == report.plain_bytes

    class OutOfTimeError(Exception):
        pass

    def stop(size: int) -> None:
        raise OutOfTimeError

    with pytest.raises(OutOfTimeError):
        runzip.check_members(archive, tick=stop)
    with pytest.raises(OutOfTimeError):
        list(LogReader(archive, tick=stop).exact())


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("method", [0, 8])
def test_the_gzip_frame_holds_the_packed_bytes_as_they_are(method: int, size: int) -> None:
    """Nothing is compressed again, and any gzip reader gets the log."""
    data = (LOG_DATA * (size // len(LOG_DATA) + 1))[:size]
    archive = runzip.inspect(build(Part(LOG_NAME, data, method=method)))
    reader = LogReader(archive)
    list(reader.exact())
    frame = runzip.gzip_frame(archive, reader.facts)
    assert frame is not None
    assert gzip.decompress(b"".join(frame)) == data
    if method == 8:
        assert frame[1] == pack(data, 8)


def test_an_empty_log_without_a_stream_is_framed_too() -> None:
    """Some writers declare DEFLATE for nothing at all."""
    archive = runzip.inspect(build(Part(LOG_NAME, b"", packed=b"")))
    reader = LogReader(archive)
    assert list(reader.exact()) == []
    frame = runzip.gzip_frame(archive, reader.facts)
    assert frame is not None
    assert gzip.decompress(b"".join(frame)) == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_source_may_be_any_buffer(kind: Any) -> None:
    """The source is not copied, whatever holds it."""
    data = snapshot()
    assert runzip.classify(kind(data)) == runzip.classify(data)
    assert b"".join(runzip.sanitise(kind(data))) == b"".join(runzip.sanitise(data))


def test_kept_members_are_slices_of_the_source() -> None:
    """Neighbours are passed on in one piece; only the directory is new."""
    data = snapshot()
    before, behind, *directory = runzip.sanitise(data)
    assert isinstance(before, memoryview)
    assert isinstance(behind, memoryview)
    assert before.obj is behind.obj is data
    assert all(isinstance(piece, bytes) for piece in directory)


def test_a_refusal_says_why_in_numbers_and_travels_between_processes() -> None:
    """No name and no content, and workers can hand it to their parent."""
    with pytest.raises(Refusal) as caught:
        runzip.inspect(build(Part(b"secret-name/" + LOG_NAME, b"x", method=99)))
    refusal = caught.value
    assert (refusal.code, refusal.reason) == ("LOG_METHOD_99", Reason.LOG_METHOD)
    assert "secret-name" not in f"{refusal} {refusal!r}"
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.code, again.facts, str(again)) == (refusal.code, refusal.facts, str(refusal))


def test_every_reason_has_its_sentence() -> None:
    """The message can be built for all of them."""
    for reason in Reason:
        assert str(Refusal(reason, {"method": 9})).startswith(reason)


@pytest.mark.parametrize("method", [9, 99])
def test_a_member_that_cannot_be_read_says_so(method: int) -> None:
    """A password, an unknown method or a fault are refusals of the one member."""
    parts = (
        Part(b"a", b"1", method=method),
        Part(b"b", b"1", flags=1),
        Part(b"c", b"1", crc=7),
    )
    archive = runzip.inspect(build(*parts))
    codes = []
    for member in archive.members:
        with pytest.raises(Refusal) as caught:
            list(runzip.read_member(archive, member))
        codes.append(caught.value.code)
    assert codes == [f"MEMBER_METHOD_{method}", "MEMBER_ENCRYPTED", "MEMBER_CORRUPT"]


def test_only_some_corrupt_members_are_named() -> None:
    """A broken archive of thousands of members does not fill the ledger."""
    parts = [Part(b"%d" % number, b"x", crc=1) for number in range(150)]
    verdict = runzip.classify(build(*parts))
    assert len(verdict.notes) == 101
    assert verdict.facts["members_corrupt"] == 150
    assert verdict.note_codes[-1] == "MEMBER_CORRUPT"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (OVERVIEW_DATA, {"models": {}, "total_cost": 0.5}),
        (b"{}", {}),
        (b'\xef\xbb\xbf {"a": 1}', {"a": 1}),
        (b'{"a": 1}}', {"a": 1}),
        (b'{"a": 1} trailing \xc3\xa4', {"a": 1}),
        (b'{"total_cost": NaN, "total_tokens": 9}', {"total_cost": None, "total_tokens": 9}),
        (b'{"total_cost": "0.75", "total_tokens": "12"}', {"total_cost": 0.75, "total_tokens": 12}),
        (b'{"total_cost": -1, "total_tokens": true}', {"total_cost": None, "total_tokens": None}),
        (b'{"total_cost": "x", "total_tokens": []}', {"total_cost": None, "total_tokens": None}),
        (b'{"total_cost": 1e999, "free": -Infinity}', {"total_cost": None, "free": None}),
        (b'{"total_cost": "1e999", "free": true}', {"total_cost": None, "free": True}),
        (b'{"a\\u0000": "b\\u0000\\ud800c"}', {"a": "b\ufffdc"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"last_updated": null, "models": []}', {"last_updated": None, "models": None}),
        (
            b'{"models": {"P:m": {"calls": "4", "total_cost": "NaN", "x": "4"}, "q": 1}}',
            {"models": {"P:m": {"calls": 4, "total_cost": None, "x": "4"}, "q": None}},
        ),
    ],
)
def test_an_overview_is_mended_until_jsonb_takes_it(raw: bytes, expected: dict[str, Any]) -> None:
    """Figures that cannot be used become null, text keeps what can be stored."""
    parsed = parse_overview(raw)
    assert parsed == expected
    assert json.dumps(parsed, allow_nan=False).encode()
    types = [type(value) for value in (parsed or {}).values()]
    assert types == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"{}"',
        b"x{}",
        b"\xff{}",
        b'{"a": ' * 64 + b"1" + b"}" * 64 + b" ",
        b'{"a":' * 20_000,
        b"[" * 500_000,
        b'{"a": "' + b"x" * (1 << 20) + b'"}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        json.dumps({"models": {str(number): {} for number in range(2_001)}}).encode(),
    ],
    ids=lambda raw: f"{raw[:8]!r}-{len(raw)}",
)
def test_anything_but_an_object_within_the_limits_is_no_overview(raw: bytes) -> None:
    """Bad JSON, other values, too deep, too many, too long."""
    if raw.endswith(b"} "):
        assert parse_overview(raw) is not None, "64 levels are allowed"
        raw = b'{"b": ' + raw + b"}"
    assert parse_overview(raw) is None


@pytest.mark.parametrize(
    ("parts", "cost"),
    [
        # A19, A20, then depth, byte order, and the last of one name.
        ([(b"n/activity_overview.json", 1.25)], 1.25),
        ([(b"old_activity_overview.json", 9.9), (OVERVIEW_NAME, 1.1)], 1.1),
        ([(b"a/b/activity_overview.json", 1), (b"z/activity_overview.json", 2)], 2),
        ([(b"z/activity_overview.json", 1), (b"a/activity_overview.json", 2)], 2),
        ([(OVERVIEW_NAME, 1), (OVERVIEW_NAME, 2)], 2),
        ([(b"../activity_overview.json", 1), (b"a/activity_overview.json", 2)], 2),
        ([(b"old_activity_overview.json", 9.9)], None),
    ],
)
def test_the_overview_comes_from_the_right_member(
    parts: list[tuple[bytes, float]], cost: float | None
) -> None:
    """Same basename, lowest depth, then byte order; members that leave do not count."""
    files = [Part(name, b'{"total_cost": %g}' % value) for name, value in parts]
    report = runzip.check_members(runzip.inspect(build(*files)))
    assert (report.overview or {}).get("total_cost") == cost
    assert report.invalid_overview is None


def test_decoded_chunks_do_not_depend_on_how_the_data_packs() -> None:
    """Long runs, noise and stored blocks come out alike, in bounded chunks."""

    def samples() -> Iterator[bytes]:
        noise = b"".join(zlib.crc32(bytes([i & 255, i >> 8])).to_bytes(4) for i in range(40_000))
        yield from (noise, bytes(700_000), noise + bytes(700_000) + noise, noise * 5)

    for data in samples():
        for packer in (zlib.compressobj(level, zlib.DEFLATED, -15) for level in (0, 1, 9)):
            packed = packer.compress(data[: len(data) // 2])
            packed += packer.flush(zlib.Z_FULL_FLUSH)
            packed += packer.compress(data[len(data) // 2 :]) + packer.flush()
            archive = runzip.inspect(build(Part(b"a", data, packed=packed)))
            chunks = list(runzip.read_member(archive, archive.members[0]))
            assert b"".join(chunks) == data
            assert max(map(len, chunks)) <= 256 * 1024
