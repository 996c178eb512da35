"""Files taken apart in flat memory, whatever the size of the blocks they arrive in."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.contracts import documents
from exporter.contracts.documents import Part, Unreadable, parts


class Drip(BytesIO):
    """A stream that never gives more than a few bytes at once, as a pipe may."""

    def __init__(self, text: bytes, size: int) -> None:
        super().__init__(text)
        self.size = size

    def read(self, count: int | None = -1) -> bytes:
        return super().read(self.size)


def taken_apart(text: bytes, size: int = 1 << 20) -> list[Part]:
    return list(parts(Drip(text, size), {"rows"}))


def brief(text: bytes) -> list[tuple[str, str, bytes, int]]:
    return [part[:4] for part in taken_apart(text)]


def test_a_document_comes_as_its_members_and_its_rows() -> None:
    text = b'{"a": [1, {"b": 2}], "rows": [{"id": 1},\n {"id": 2}], "c": "x"}\n'
    assert brief(text) == [
        ("member", "a", b'[1, {"b": 2}]', 1),
        ("rows", "rows", b"", 1),
        ("row", "rows", b'{"id": 1}', 1),
        ("row", "rows", b'{"id": 2}', 2),
        ("member", "c", b'"x"', 2),
        ("head", "", b"", 2),
    ]


def test_a_stream_of_lines_comes_as_its_head_and_its_lines() -> None:
    text = b'{"type":"meta"}\r\n{"id":1}\r\n\r\n{"id":2}\n\n \n'
    assert brief(text) == [
        ("member", "type", b'"meta"', 1),
        ("head", "", b"", 1),
        ("line", "", b'{"id":1}\r', 2),
        ("line", "", b"", 3),
        ("line", "", b'{"id":2}', 4),
    ]


def test_brackets_quotes_and_backslashes_in_texts_mean_nothing() -> None:
    row = rb'{"id":"},{ ]} \" \\","x":["[{"]}'
    text = b'{"rows":[' + row + b"," + row + b'],"z":"\\\\"}'
    found = [part.text for part in taken_apart(text) if part.kind == "row"]
    assert found == [row, row]


def test_an_array_of_rows_that_is_no_array_is_a_member() -> None:
    assert brief(b'{"rows":null}')[0] == ("member", "rows", b"null", 1)
    assert brief(b'{"rows":[]}') == [("rows", "rows", b"", 1), ("head", "", b"", 1)]


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        (b"", 1, "empty"),
        (b" \n\n ", 3, "empty"),
        (b"[1]", 1, "not_an_object"),
        (b"7", 1, "not_an_object"),
        (b"\xef\xbb\xbf{}", 1, "byte_order_mark"),
        (b"{", 1, "ends_early"),
        (b'{"a"', 1, "ends_early"),
        (b'{"a":', 1, "ends_early"),
        (b'{"a":"x', 1, "ends_early"),
        (b'{"a":[1,2', 1, "ends_early"),
        (b'{"a":1\n,"b"', 2, "ends_early"),
        (b'{"rows":[{}', 1, "ends_early"),
        (b'{"rows":[{"a":"},{', 1, "ends_early"),
        (b"{a:1}", 1, "not_json"),
        (b'{"a":1,}', 1, "not_json"),
        (b'{"a" 1}', 1, "not_json"),
        (b'{"a":}', 1, "not_json"),
        (b'{"\\x":1}', 1, "not_json"),
        (b'{"rows":[{}\n{}]}', 2, "not_json"),
        (b'{"rows":[{},]}', 1, "not_json"),
        (b"{} {}", 1, "text_after_value"),
        (b"{}x", 1, "text_after_value"),
        (b'{"a":' + b"[" * 600 + b"]" * 600 + b"}", 1, "too_deep"),
    ],
)
def test_what_cannot_be_taken_apart_is_told_by_line(text: bytes, line: int, rule: str) -> None:
    for size in (1, 3, 1 << 20):
        with pytest.raises(Unreadable) as caught:
            taken_apart(text, size)
        assert (caught.value.line, caught.value.rule) == (line, rule)


def test_a_part_may_only_be_so_long() -> None:
    text = b'{"a":"' + b"x" * 3_000_000 + b'"}'
    with pytest.raises(Unreadable, match="too_long"):
        list(parts(BytesIO(text), (), max_part_bytes=1_000_000))
    assert len(list(parts(BytesIO(text), ()))) == 2


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just('},{"\\'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text(max_size=4), JSON),
    st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=4), max_size=5),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
)
def test_nothing_is_lost_or_cut_wherever_blocks_end(
    members: dict[str, Any], rows: list[Any], indent: int | None, size: int
) -> None:
    members.pop("rows", None)
    text = json.dumps({**members, "rows": rows}, indent=indent).encode()
    found = taken_apart(text, size)
    values = {p.name: json.loads(p.text) for p in found if p.kind == "member"}
    assert values == members
    assert [json.loads(p.text) for p in found if p.kind == "row"] == rows
    assert all(p.parsed is None or p.parsed == json.loads(p.text) for p in found)


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=6), st.integers(1, 40))
def test_lines_come_as_they_are(values: list[Any], size: int) -> None:
    lines = [json.dumps(value).encode() for value in values]
    found = taken_apart(b'{"type":"meta"}\n' + b"\n".join(lines) + b"\n", size)
    assert [part.text for part in found if part.kind == "line"] == lines
    assert [part.line for part in found if part.kind == "line"] == list(range(2, len(lines) + 2))


class Endless:
    """A file of many rows that is never in memory as a whole."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks

    def read(self, count: int) -> bytes:
        return next(self.blocks, b"")


def blocks(form: str, megabytes: int) -> Iterator[bytes]:
    row = b'{"id":"' + b"x" * 1000 + b'"}'
    if form == "json":
        yield b'{"rows":[' + row
        for _ in range(megabytes):
            yield (b"," + row) * 1000
        yield b"]}"
    else:
        yield b'{"type":"meta"}\n'
        for _ in range(megabytes):
            yield (row + b"\n") * 1000


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_memory_does_not_grow_with_the_file(form: str) -> None:
    peaks = []
    for megabytes in (5, 40):
        tracemalloc.start()
        count = sum(1 for _ in parts(Endless(blocks(form, megabytes)), {"rows"}))  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count > megabytes * 1000
    assert peaks[1] < peaks[0] * 1.2 < 20 << 20


def test_the_depth_that_is_followed_is_one_that_parsers_follow() -> None:
    deepest = documents.MAX_DEPTH - 2
    text = b'{"a":' + b"[" * deepest + b"]" * deepest + b"}"
    assert json.loads(text) and len(taken_apart(text)) == 2
