"""Search bytes for zip headers that the directory does not list.

A program that repairs or streams archives finds members by their signatures, wherever these
stand: between members, behind the end record, inside a member's data. This search reads the
bytes the same way, and reports the headers that name the log.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from exporter.core.runzip.codes import Reason, Refusal
from exporter.core.runzip.names import LOG_WORD, log_rank

__all__ = ["Header", "HeaderSearch"]

#: Headers of members (03 04) and of directory entries (01 02).
_MARK = re.compile(rb"PK(?:\x03\x04|\x01\x02)")
_CENTRAL_KIND = 0x01
#: For each kind, where the sizes of name and extra stand, and where the name begins.
_LOCAL_PLACES, _CENTRAL_PLACES = (26, 30), (28, 46)
#: A header, its name and its extra block together are never longer.
_LONGEST = 46 + 2 * 0xFFFF
#: A second or two of looking at names.
NAMES_BYTES = 32 * 1024 * 1024


class Header(NamedTuple):
    """A signature at `at`; `names_log` when its name or extra block could be the log's."""

    at: int
    names_log: bool


class HeaderSearch:
    """Finds stray headers in the bytes of one archive.

    Crafted bytes can hold a signature at every fourth position, each with a name as long as it
    gets, so the search counts across all its calls and raises `Refusal` (ZIP_BOMB) after `limit`
    headers, or `NAMES_BYTES` of their names and extra blocks.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._limit = limit
        self._bytes_left = NAMES_BYTES

    def between(self, view: memoryview, start: int, stop: int) -> Iterator[Header]:
        """Yield the headers whose signature stands in [`start`, `stop`).

        What follows `stop` is no part of them: it is another member, or gone from the new archive.
        """
        inside = view[:stop]
        for found in _MARK.finditer(inside, start):
            self._count(inside, found.start())
            yield Header(found.start(), _names_log(inside, found.start()))

    def stream(self) -> LogInStream:
        """Return a search through data that arrives in chunks."""
        return LogInStream(self)

    def _count(self, view: memoryview, at: int) -> None:
        self._left -= 1
        self._bytes_left -= sum(_sizes(view, at))
        if self._left < 0 or self._bytes_left < 0:
            raise Refusal(Reason.ZIP_BOMB, {"stray_headers_limit": self._limit})


class LogInStream:
    """Watches a stream of plain bytes for headers that name the log."""

    def __init__(self, search: HeaderSearch) -> None:
        self._search = search
        self._kept = b""

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes; return True once a header that names the log was seen whole."""
        data = self._kept + chunk if self._kept else chunk
        view = memoryview(data)
        # A signature may be cut by the end of the chunk, and so may the name behind one.
        keep_from = max(0, len(data) - 3)
        for found in _MARK.finditer(data):
            if len(data) - found.start() < _LONGEST and not _is_whole(view, found.start()):
                keep_from = min(keep_from, found.start())
                break
            self._search._count(view, found.start())
            if _names_log(view, found.start()):
                return True
        self._kept = data[keep_from:]
        return False

    def finish(self) -> bool:
        """Take the end of the stream; a header cut short counts with the bytes it has."""
        view = memoryview(self._kept)
        return any(header.names_log for header in self._search.between(view, 0, len(view)))


def _places(view: memoryview, at: int) -> tuple[int, int]:
    return _CENTRAL_PLACES if view[at + 2] == _CENTRAL_KIND else _LOCAL_PLACES


def _is_whole(view: memoryview, at: int) -> bool:
    name_at = at + _places(view, at)[1]
    return len(view) >= name_at and len(view) >= name_at + sum(_sizes(view, at))


def _sizes(view: memoryview, at: int) -> tuple[int, int]:
    """Declared bytes of name and extra block; none of a header that is cut in front of them."""
    sizes_at, name_at = _places(view, at)
    if len(view) < at + name_at:
        return 0, 0
    name_size, extra_size = struct.unpack_from("<HH", view, at + sizes_at)
    return int(name_size), int(extra_size)


def _names_log(view: memoryview, at: int) -> bool:
    """Judge the header at `at`, as far as the bytes go."""
    name_size, extra_size = _sizes(view, at)
    begin = at + _places(view, at)[1]
    name = bytes(view[begin : begin + name_size])
    if log_rank(name) is not None:
        return True
    extra = bytes(view[begin + name_size : begin + name_size + extra_size])
    return LOG_WORD in extra.lower()
