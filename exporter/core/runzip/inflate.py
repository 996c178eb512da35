"""Plain bytes of one member, in bounded pieces whatever the packed data claims.

DEFLATE goes through ISA-L, which inflates about twice as fast as zlib and, unlike a one-shot
decoder, needs no buffer for the whole output. It lets streams pass that zlib refuses, and with it
most programs that read archives, so what others are to read goes through zlib.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol, cast

from isal import igzip_lib

from exporter.core.runzip.codes import Reason, Refusal
from exporter.core.runzip.layout import BZIP2, DEFLATED, LZMA, STORED

__all__ = ["FAILURES", "BrokenStream", "gunzip", "plain_chunks"]

#: Packed bytes handed to a decoder at once, and the most it returns at once.
PACKED_CHUNK, PLAIN_CHUNK = 64 * 1024, 256 * 1024

_LZMA_HEADER = struct.Struct("<HHBI")
_END_MARKER = 0x0002
_RAW = igzip_lib.DECOMP_DEFLATE
# The stub of isal declares its error as an instance.
_IsalError = cast("type[Exception]", igzip_lib.IsalError)
#: What the decoders raise about a malformed stream.
FAILURES = (_IsalError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


class BrokenStream(Exception):
    """The packed bytes are not one complete stream of their method, or not only that.

    `fed_at` is set where a decoder gave up over what it was fed from there on: what it would have
    put out until then is not among the chunks.
    """

    def __init__(self, text: str, fed_at: int | None = None) -> None:
        super().__init__(text)
        self.fed_at = fed_at


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


class _Zlib:
    """zlib with the interface of the other decoders."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        # New data comes only after the tail is used up.
        return self._stream.decompress(data or self._stream.unconsumed_tail, max_length)


def plain_chunks(
    method: int, flags: int, packed: memoryview, plain_size: int, window_limit: int,
    fine_from: int | None = None, *, is_strict: bool = False,
) -> Iterator[bytes]:  # fmt: skip
    """Yield the plain bytes of a member in chunks of at most `PLAIN_CHUNK`.

    `plain_size` is the declared size, which only LZMA streams without an end marker need.
    Raises `BrokenStream` when the stream ends early, is malformed or is followed by further
    bytes, `Refusal` (ZIP_BOMB) for an LZMA window beyond `window_limit` bytes, and `ValueError`
    for an unsupported method. Chunks that came before an error are not to be trusted.

    `fine_from` is the `fed_at` of an earlier reading: the decoder is fed single bytes from there,
    so that hardly anything in front of the fault is lost. `is_strict` takes no DEFLATE stream that
    zlib does not take.
    """
    if method == STORED:
        for at in range(0, len(packed), PLAIN_CHUNK):
            yield bytes(packed[at : at + PLAIN_CHUNK])
    elif method == DEFLATED:
        # Some writers give an empty file or a folder no stream at all.
        if packed or plain_size:
            decoder = _Zlib() if is_strict else igzip_lib.IgzipDecompressor(_RAW)
            yield from _decode(decoder, b"", packed, fine_from)
    elif method == BZIP2:
        yield from _decode(bz2.BZ2Decompressor(), b"", packed, fine_from)
    elif method == LZMA:
        header, body = _lzma_header(flags, packed, plain_size, window_limit)
        yield from _decode(lzma.LZMADecompressor(lzma.FORMAT_ALONE), header, body, fine_from)
    else:
        raise ValueError(f"method {method}")


def gunzip(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the plain bytes of one gzip file that comes in chunks, in chunks of 256 KiB at most.

    By the decoder that archives are read with, since another one is stricter about streams that
    no usual program writes. Raises `BrokenStream`.
    """
    decoder = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
    for chunk in packed:
        for at in range(0, len(chunk), PACKED_CHUNK):
            piece = chunk[at : at + PACKED_CHUNK]
            while not decoder.eof and (piece or not decoder.needs_input):
                try:
                    plain = decoder.decompress(piece, PLAIN_CHUNK)
                except FAILURES as error:
                    raise BrokenStream("the stream is malformed") from error
                piece = b""
                if plain:
                    yield plain
    if not decoder.eof:
        raise BrokenStream("the stream ends early")


def _decode(
    decoder: _Decoder, header: bytes, packed: memoryview, fine_from: int | None
) -> Iterator[bytes]:
    """Drive a decoder over `header` and `packed`, which must be used up exactly."""
    piece: bytes | memoryview = header
    at = fed_at = 0
    while not decoder.eof:
        if not piece and decoder.needs_input:
            size = PACKED_CHUNK if fine_from is None or at < fine_from else 1
            piece, fed_at = packed[at : at + size], at
            at += len(piece)
        fed, piece = piece, b""
        try:
            plain = decoder.decompress(fed, PLAIN_CHUNK)
        except FAILURES as error:
            raise BrokenStream("the stream is malformed", fed_at) from error
        if plain:
            yield plain
        elif not fed and not decoder.eof:
            raise BrokenStream("the stream ends early")
    if at - len(decoder.unused_data) != len(packed):
        raise BrokenStream("bytes follow the stream")


def _lzma_header(
    flags: int, packed: memoryview, plain_size: int, window_limit: int
) -> tuple[bytes, memoryview]:
    """Turn the zip form of an LZMA header into the form of an .lzma file, and cut it off.

    The window is allocated before the first byte comes out, so a declared four gigabytes must
    not be believed: no stream needs a larger one than its own output.
    """
    if len(packed) < _LZMA_HEADER.size:
        raise BrokenStream("the header is cut")
    _, size, coding, window = _LZMA_HEADER.unpack_from(packed)
    if size != 5:
        raise BrokenStream("the header has another size")
    window = min(window, max(plain_size, 4_096))
    if window > window_limit:
        raise Refusal(Reason.ZIP_BOMB, {"window_bytes": window, "limit": window_limit})
    length = 0xFFFF_FFFF_FFFF_FFFF if flags & _END_MARKER else plain_size
    return struct.pack("<BIQ", coding, window, length), packed[_LZMA_HEADER.size :]
