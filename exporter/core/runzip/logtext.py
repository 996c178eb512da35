"""A log's bytes as text that PostgreSQL accepts, chunk by chunk.

PostgreSQL text is valid UTF-8 without NUL. Nearly every log is that already and passes through
without a copy; of the others the text is an approximation, and says so.
"""

from __future__ import annotations

import codecs

__all__ = ["LogText"]

_Decoder = codecs.getincrementaldecoder("utf-8")


class LogText:
    """Turns chunks of bytes into chunks of UTF-8 text without NUL.

    NUL bytes are left out, invalid sequences become U+FFFD. `is_lossy` tells, once `finish` was
    called, whether the text differs from the bytes.
    """

    def __init__(self) -> None:
        self.is_lossy = False
        #: An unfinished sequence from the end of the last chunk, at most three bytes.
        self._pending = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the log, return the next bytes of the text."""
        if not self._pending and chunk.isascii() and 0 not in chunk:
            return chunk
        return self._convert(self._pending + chunk, final=False)

    def finish(self) -> bytes:
        """Take the end of the log, return the rest of the text."""
        return self._convert(self._pending, final=True)

    def _convert(self, data: bytes, *, final: bool) -> bytes:
        try:
            decoder = _Decoder("strict")
            decoder.decode(data, final)
            self._pending = decoder.getstate()[0]
            text = data[: len(data) - len(self._pending)]
        except UnicodeDecodeError:
            self.is_lossy = True
            decoder = _Decoder("replace")
            text = decoder.decode(data, final).encode()
            self._pending = decoder.getstate()[0]
        if 0 in text:
            self.is_lossy = True
            text = text.replace(b"\0", b"")
        return text
