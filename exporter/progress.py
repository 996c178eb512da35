"""How long work reports itself: a small receiver that knows no screen.

Functions below the command line take a :class:`Progress` and call it; the command line decides
what is drawn, and tests pass :data:`SILENT` or a recorder of their own.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what long work has done. Calls are cheap, but once a batch, not once a row."""

    def begin(self, task: str, total: int | None = None, unit: str = "rows") -> None:
        """A task starts; the one before it, if any, is over. ``total`` None: not known."""

    def advance(self, count: int = 1) -> None:
        """``count`` more units of the current task are done, and stay done."""

    def note(self, text: str) -> None:
        """One line for people, such as the reason for waiting."""


class Silent:
    """Receives and forgets."""

    def begin(self, task: str, total: int | None = None, unit: str = "rows") -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


SILENT: Progress = Silent()
