"""The standard streams, as a stranger may leave them: closed, full, or in another encoding."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import IO, TextIO

from exporter.errors import SourceUnreadable

#: Names of the streams that were closed when the program began.
_closed: set[str] = set()


def prepare() -> None:
    """Make the three streams usable; call once, before anything is read or written.

    A closed one is opened such that reading or writing it fails as on a closed one: its number
    must not go to the next file or connection. Text is UTF-8 whatever the locale says, and what
    UTF-8 cannot express, half a character, is written as an escape.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            _closed.add(name)
            _occupy(number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _occupy(number: int) -> None:
    """Open nothing under a number: for reading what is written, and for writing what is read.

    Except stderr: there is nobody left to tell that telling failed.
    """
    with suppress(OSError):
        os.fstat(number)
        return
    handle = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)


def forget(stream: TextIO) -> None:
    """Point a stream at nothing, so that the interpreter's last flush cannot complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def tell(text: str) -> None:
    """Write to stderr if that can be; a failure to tell is no failure of what was done."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        forget(sys.stderr)


def stdin_bytes() -> IO[bytes]:
    """Stdin for reading. Raises SourceUnreadable where the caller closed it."""
    if "stdin" in _closed:
        raise SourceUnreadable("stdin", "it is closed", hint="pipe something in, or name a file")
    return sys.stdin.buffer
