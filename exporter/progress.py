"""How long work reports itself: a small receiver that knows no screen, and a meter of speed.

Functions below the command line take a :class:`Progress` and call it; the command line decides
what is drawn, and tests pass :data:`SILENT` or a recorder of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass
class Meter:
    """Adds up what a run has done and works out its speed. Callers bring the clock, in seconds."""

    total: int
    started: float
    rows: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    #: Why the run waits now; empty while it works.
    reason: str = ""

    def done(self, outcomes: Mapping[str, int], bytes_in: int, bytes_out: int) -> None:
        """Some rows are done; whatever was waited for has passed."""
        for name, count in outcomes.items():
            self.outcomes[name] = self.outcomes.get(name, 0) + count
            self.rows += count
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.reason = ""

    def rows_per_second(self, now: float) -> float:
        """The mean since the start, waits included."""
        return self.rows / max(now - self.started, 1e-9)

    def bytes_per_second(self, now: float) -> float:
        """The mean of bytes read since the start, waits included."""
        return self.bytes_in / max(now - self.started, 1e-9)

    def eta_seconds(self, now: float) -> float | None:
        """Seconds until the last row at the speed so far; None before the first row."""
        left = max(0, self.total - self.rows)
        if not left:
            return 0.0
        return left / self.rows_per_second(now) if self.rows else None
