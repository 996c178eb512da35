"""What SIGINT and SIGTERM do: leave at once while nothing is open, else unwind.

Imports next to nothing, so that it is in force within a millisecond of the program's start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program is, so that it unwinds as it does for SIGINT."""


def leave_at_once() -> None:
    """From now on a signal ends the process with 130 or 143, without a word and without unwinding.

    For the time before the command begins and after it has ended: Python would show a trace-back.
    """
    _handle(_leave)


def unwind() -> None:
    """From now on a signal raises KeyboardInterrupt, or Terminated, where the program is."""
    _handle(_raise)


def _handle(handler: Callable[[int, FrameType | None], Any]) -> None:
    for number in _SIGNALS:
        # What the caller told us to ignore, as nohup does, stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated
