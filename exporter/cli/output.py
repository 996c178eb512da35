"""Where a command's bytes go: to stdout or a file, all of them or none."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Final

from exporter.errors import OutputFailed

_COPY_BYTES: Final = 1 << 20
#: A whole number of pages, and small enough that a signal need not wait.
_SEND_BYTES: Final = 1 << 24


@contextmanager
def target(output: str | None) -> Iterator[IO[bytes]]:
    """Where the bytes go: all of them when the block ends well, none when it fails.

    A link is followed. What is no ordinary file (a device, a pipe) is written into, not replaced.
    Raises OutputFailed.
    """
    if output is None or output == "-":
        with _spooled(lambda: nullcontext(sys.stdout.buffer)) as out:
            yield out
        return
    with file_target(output) as out:
        yield out


@contextmanager
def file_target(output: str, *, private: bool = False) -> Iterator[IO[bytes]]:
    """As :func:`target`, and "-" is a file name; ``private``: for its owner's eyes only."""
    if not output or "\0" in output:
        raise OutputFailed(output or "''", "it is no file name")
    try:
        path = Path(os.path.realpath(output))
        if path.is_dir() or output.endswith("/"):
            raise OutputFailed(output, "it is no file name")
        if path.exists() and not path.is_file():
            with _spooled(lambda: path.open("wb")) as out:
                yield out
        else:
            with _beside(path, private=private) as out:
                yield out
    except OSError as error:
        raise OutputFailed(output, (error.strerror or "failed").lower()) from None


@contextmanager
def _spooled(open_it: Callable[[], AbstractContextManager[IO[bytes]]]) -> Iterator[IO[bytes]]:
    """Keep the bytes aside, in memory or a nameless file, until all of them are there."""
    with tempfile.SpooledTemporaryFile(max_size=8 * _COPY_BYTES) as spool:
        yield spool
        is_in_memory = spool.tell() <= 8 * _COPY_BYTES
        spool.seek(0)
        with open_it() as out:
            if is_in_memory or not _sent(spool, out):
                while block := spool.read(_COPY_BYTES):
                    out.write(block)
            out.flush()


def _sent(spool: tempfile.SpooledTemporaryFile[bytes], out: IO[bytes]) -> bool:
    """Have the system copy the whole file to ``out``; False where it cannot, and nothing was sent.

    A large export spends a tenth of its time on copying through this process otherwise.
    """
    if not hasattr(os, "sendfile"):
        return False
    out.flush()
    offset = 0
    while True:
        try:
            sent = os.sendfile(out.fileno(), spool.fileno(), offset, _SEND_BYTES)
        except (OSError, ValueError) as error:
            if offset or isinstance(error, BrokenPipeError):
                raise
            return False
        if not sent:
            return True
        offset += sent


@contextmanager
def _beside(path: Path, *, private: bool) -> Iterator[IO[bytes]]:
    """A file beside the path, which takes its place, and its rights, when the block ends well."""
    beside = path.with_name(f".exporter-{os.urandom(8).hex()}")
    handle = _nameless(path.parent)
    is_nameless = handle is not None
    if handle is None:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb", buffering=_COPY_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), _rights(path, private=private))
            if is_nameless:
                # The file gets a name by way of its descriptor, for the moment of the exchange.
                # Only with a folder does Python make the call that follows the link in /proc.
                source = _descriptor(file.fileno())
                os.link(source, beside, src_dir_fd=file.fileno(), follow_symlinks=True)
        os.replace(beside, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)


def _nameless(folder: Path) -> int | None:
    """A new file that the system forgets with the process, whatever ends it; None where it cannot.

    Linux has such files, though not on every file system.
    """
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return None
    with suppress(OSError):
        handle = os.open(folder, flag | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        if os.path.exists(_descriptor(handle)):
            return handle
        os.close(handle)
    return None


def _descriptor(handle: int) -> str:
    return f"/proc/self/fd/{handle}"


def _rights(path: Path, *, private: bool) -> int:
    """Those of the file that is replaced; a new one is as open as the user's mask allows."""
    if private:
        return 0o600
    with suppress(FileNotFoundError):
        return path.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
