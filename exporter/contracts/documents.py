"""Read a document of any size as a stream of its parts, in flat memory.

A file is either one JSON document, whose rows lie in an array of its top object, or NDJSON, whose
first line is the head and whose other lines are rows. Which of the two is found out while reading.
Only the ends of values are looked for here; whether the text of a part is JSON is for whoever
parses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import IO, Any, Final, Literal, NamedTuple

import orjson

#: The largest part that is held in memory: a row, or a member of the head.
MAX_PART_BYTES: Final = 64 << 20
#: Brackets inside brackets; a reader of JSON may stop at this depth.
MAX_DEPTH: Final = 512
_BLOCK_BYTES: Final = 1 << 18
#: How far to look for what seems to be the next row.
_LIKELY_BYTES: Final = 1 << 14

_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR: Final = re.compile(rb"[^\s,\]}{\[\"]++")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
#: Everything up to a bracket, or up to a string that does not end here.
_FLAT: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Kind = Literal["member", "rows", "row", "head", "line"]


class Part(NamedTuple):
    """One piece of a file.

    ``member`` is a member of the top object other than its rows; ``rows`` opens the array of
    rows and each ``row`` is one of them, ``rows`` without a text;
    ``head`` closes the top object, and its text is empty. ``line`` is what follows the first
    value: a line of an NDJSON stream, without its line end.
    """

    kind: Kind
    #: Name of the member, of the array for a row, and '' for others.
    name: str
    text: bytes
    #: Line of the file on which it begins, from 1.
    line: int
    #: The value, where finding its end took parsing it; else None.
    parsed: dict[str, Any] | None = None


class Unreadable(Exception):
    """The rest of the file cannot be taken apart. ``rule`` names what is wrong at ``line``."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(f"line {line}: {rule}")
        self.line = line
        self.rule = rule


def parts(
    stream: IO[bytes], row_members: Collection[str], max_part_bytes: int = MAX_PART_BYTES
) -> Iterator[Part]:
    """Take a file apart, in its own order.

    An array under one of ``row_members`` at the top is streamed as rows; every other member comes
    whole. Raises Unreadable where the structure is broken, a part is too long, or the first value
    is no object.
    """
    text = _Text(stream, max_part_bytes)
    if text.starts_with(_BYTE_ORDER_MARK):
        raise Unreadable(1, "byte_order_mark")
    if text.skip_blanks() == b"":
        raise Unreadable(text.line, "empty")
    if text.peek() != b"{":
        raise Unreadable(text.line, "not_an_object")
    yield from _members(text, row_members)
    yield Part("head", "", b"", text.line)
    yield from _lines(text)


def _members(text: _Text, row_members: Collection[str]) -> Iterator[Part]:
    text.take(b"{")
    if text.skip_blanks() == b"}":
        text.take(b"}")
        return
    while True:
        text.skip_blanks()
        name, line = _name(text), text.line
        text.skip_blanks()
        text.take(b":")
        if text.skip_blanks() == b"[" and name in row_members:
            yield from _rows(text, name)
        else:
            yield Part("member", name, text.value(), line)
        if not _goes_on(text, b"}"):
            return


def _rows(text: _Text, name: str) -> Iterator[Part]:
    yield Part("rows", name, b"", text.line)
    text.take(b"[")
    if text.skip_blanks() == b"]":
        text.take(b"]")
        return
    while True:
        text.skip_blanks()
        line = text.line
        row = text.likely_object()
        if row is None:
            yield Part("row", name, text.value(), line)
        else:
            yield Part("row", name, row[0], line, row[1])
        if not _goes_on(text, b"]"):
            return


def _goes_on(text: _Text, end: bytes) -> bool:
    """Whether a comma follows; the closing bracket is consumed."""
    if text.skip_blanks() == b",":
        text.take(b",")
        return True
    text.take(end)
    return False


def _name(text: _Text) -> str:
    if text.peek() != b'"':
        raise text.broken()
    line = text.line
    try:
        return str(json.loads(text.value()))
    except ValueError:
        raise Unreadable(line, "not_json") from None


def _lines(text: _Text) -> Iterator[Part]:
    """What follows the first value, line by line; nothing but blanks is the end of the file."""
    line = text.line
    rest = text.rest_of_line()
    if rest.strip(b" \t\r"):
        raise Unreadable(line, "text_after_value")
    # A blank line counts only when something follows it, as the end of a file is no line.
    blank: list[Part] = []
    while True:
        line = text.line
        found = text.rest_of_line()
        if not found and text.at_end:
            return
        if found.strip(b" \t\r"):
            yield from blank
            blank.clear()
            yield Part("line", "", found, line)
        elif not blank:
            blank.append(Part("line", "", b"", line))


class _Text:
    """A window on the stream that slides forward, and the line it has come to."""

    def __init__(self, stream: IO[bytes], max_part_bytes: int) -> None:
        self._stream = stream
        self._max = max_part_bytes
        self._data = b""
        self._at = 0
        self._ended = False
        self.line = 1

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data) and not self._fill()

    def starts_with(self, mark: bytes) -> bool:
        while len(self._data) - self._at < len(mark) and self._fill():
            pass
        return self._data.startswith(mark, self._at)

    def peek(self) -> bytes:
        """The next byte, or nothing at the end."""
        if self._at == len(self._data):
            self._fill()
        return self._data[self._at : self._at + 1]

    def take(self, wanted: bytes) -> None:
        if self.peek() != wanted:
            raise self.broken()
        self._at += 1

    def broken(self) -> Unreadable:
        """What to raise when something else was expected here."""
        return Unreadable(self.line, "not_json" if self.peek() else "ends_early")

    def skip_blanks(self) -> bytes:
        """Go to the next byte that means something and return it."""
        while True:
            found = _BLANKS.match(self._data, self._at)
            assert found
            self._advance(found.end())
            if self._at < len(self._data) or not self._fill():
                return self.peek()

    def value(self) -> bytes:
        """The text of the JSON value that begins here."""
        first = self.peek()
        if first in (b"{", b"["):
            end = self._end_of_container()
        elif first == b'"':
            end = self._end_of(_STRING)
        else:
            end = self._end_of(_SCALAR)
        text = self._data[self._at : end]
        self._advance(end)
        return text

    def likely_object(self) -> tuple[bytes, dict[str, Any]] | None:
        """The object here, if it ends where the next one seems to begin; else stays put.

        Several times faster than following the brackets. An object cannot begin with another
        whole object, so text that parses is the value.
        """
        end = self._data.find(b"},{", self._at, self._at + _LIKELY_BYTES) + 1
        if not end:
            return None
        text = self._data[self._at : end]
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        self._advance(end)
        return text, value

    def rest_of_line(self) -> bytes:
        """The text up to the next line end, which is consumed but not returned."""
        looked = self._at
        while (end := self._data.find(b"\n", looked)) < 0:
            looked = len(self._data) - self._at
            if not self._fill():
                end = len(self._data)
                break
        text = self._data[self._at : end]
        self._advance(min(end + 1, len(self._data)))
        return text

    def _end_of(self, pattern: re.Pattern[bytes]) -> int:
        while True:
            found = pattern.match(self._data, self._at)
            if found and (found.end() < len(self._data) or self._ended):
                return found.end()
            # What ends with the window may go on behind it.
            if not self._fill():
                if found:
                    return found.end()
                raise Unreadable(self.line, "ends_early" if self.peek() in b'"' else "not_json")
            if not found and self.peek() != b'"':
                raise self.broken()

    def _end_of_container(self) -> int:
        at, depth = self._at, 0
        while True:
            found = _FLAT.match(self._data, at)
            assert found
            at = found.end()
            bracket = self._data[at : at + 1]
            if bracket in (b"", b'"'):
                at -= self._at
                if not self._fill():
                    raise Unreadable(self.line, "ends_early")
            else:
                at += 1
                depth += 1 if bracket in b"{[" else -1
                if depth == 0:
                    return at
                if depth > MAX_DEPTH:
                    raise Unreadable(self.line, "too_deep")

    def _fill(self) -> bool:
        """Read on; what lies before the current place is dropped, so the place becomes 0."""
        if self._ended:
            return False
        kept = self._data[self._at :]
        if len(kept) > self._max:
            raise Unreadable(self.line, "too_long")
        # Twice as much each time: a long value is looked through from its start again.
        block = self._stream.read(max(_BLOCK_BYTES, len(kept)))
        self._data, self._at = kept + block, 0
        self._ended = not block
        return bool(block)

    def _advance(self, end: int) -> None:
        self.line += self._data.count(b"\n", self._at, end)
        self._at = end
