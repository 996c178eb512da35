"""The ``exporter`` program run within this process, as a process of its own would show it.

Starting Python and loading the program takes many times longer than most commands do. That the
two ways say the same is a test of its own, in ``tests/interop/test_inside.py``.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from unittest import mock

from exporter.cli.main import run

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_inside(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and standard error of one command line, with nothing on stdin.

    ``environment`` is all that the command sees of one; None leaves this process's in place.
    """
    nothing, out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(3))
    with (
        _surroundings(environment),
        mock.patch.object(sys, "stdin", nothing),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(arguments)
    said = []
    for stream in (out, err):
        stream.flush()
        said.append(stream.buffer.getvalue())
    return int(code), *said


@contextlib.contextmanager
def _surroundings(environment: Mapping[str, str] | None) -> Iterator[None]:
    """Put the environment, and what signals do, back as they were when the block ends."""
    handlers = [(number, signal.getsignal(number)) for number in _SIGNALS]
    try:
        with mock.patch.dict(os.environ, environment or {}, clear=environment is not None):
            time.tzset()
            yield
    finally:
        time.tzset()
        for number, handler in handlers:
            signal.signal(number, handler)
