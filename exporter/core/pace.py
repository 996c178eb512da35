"""How fast a job may go, as arithmetic: batch sizes, waits, delays before another try.

Nothing here looks at a clock: callers say how long something took and are told how long to wait.
Times are seconds, rates are per second.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

__all__ = ["BatchSize", "Pace", "Reaction", "Wait", "reaction", "retry_delay"]


class Reaction(Enum):
    """What a failed statement asks of whoever ran it."""

    #: The same again in a moment: nothing was done.
    RETRY = auto()
    #: The connection is gone, and what was sent last may or may not have been done.
    RECONNECT = auto()
    #: Too much at once.
    SHRINK = auto()
    #: The server lacks room; wait for its owner.
    HOLD = auto()
    #: This row will never pass.
    QUARANTINE = auto()
    #: No try will ever pass.
    STOP = auto()


_EXACT = {
    "40001": Reaction.RETRY,
    "40P01": Reaction.RETRY,
    "55P03": Reaction.RETRY,
    "40003": Reaction.RECONNECT,
    "53300": Reaction.RECONNECT,
    "57P01": Reaction.RECONNECT,
    "57P02": Reaction.RECONNECT,
    "57P03": Reaction.RECONNECT,
    "57P05": Reaction.RECONNECT,
    "25P03": Reaction.RECONNECT,
    "57014": Reaction.SHRINK,
    "54000": Reaction.QUARANTINE,
    "58030": Reaction.HOLD,
}
_BY_CLASS = {
    "08": Reaction.RECONNECT,
    "22": Reaction.QUARANTINE,
    "23": Reaction.QUARANTINE,
    "53": Reaction.HOLD,
}


def reaction(sqlstate: str | None) -> Reaction:
    """Return what to do about an error; None is a connection that broke without a word."""
    if sqlstate is None:
        return Reaction.RECONNECT
    return _EXACT.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], Reaction.STOP)


def retry_delay(attempt: int, luck: float, *, first: float = 0.05, longest: float = 5.0) -> float:
    """Return the seconds before try `attempt` (1 is the first repetition), doubling each time.

    `luck` from 0 to 1 spreads callers that failed together over the second half of the time.
    """
    return min(longest, first * 2.0 ** min(attempt - 1, 30)) * (0.5 + luck / 2)


@dataclass
class BatchSize:
    """How many rows to take at once so that they last about `target_seconds`.

    Grows by a fifth at most, shrinks at once and in proportion, halves on `shrink`.
    """

    largest: int
    target_seconds: float = 2.0
    current: float = 1.0
    #: Measured seconds for one row, a running mean that favours the newest.
    _seconds_per_row: float | None = None

    @property
    def rows(self) -> int:
        return max(1, int(self.current))

    def took(self, rows: int, seconds: float) -> None:
        """Learn from a batch that was done."""
        if rows <= 0:
            return
        measured = max(seconds, 1e-6) / rows
        before = self._seconds_per_row
        self._seconds_per_row = measured if before is None else 0.6 * before + 0.4 * measured
        aim = self.target_seconds / self._seconds_per_row
        grown = max(self.current * 1.2, self.current + 1)
        self.current = max(1.0, min(aim, grown, float(self.largest)))

    def shrink(self) -> None:
        """Learn from a time-out or a wait for a lock."""
        self.current = max(1.0, self.current / 2)


class Wait(NamedTuple):
    """How long to wait, and why, for people; no wait has an empty reason."""

    seconds: float
    reason: str


@dataclass
class Pace:
    """Upper limits for one worker; None is no limit. `share` is the part of each second to use."""

    rows_per_second: float | None = None
    bytes_per_second: float | None = None
    share: float = 1.0
    #: Seconds still owed from work that was done faster than allowed.
    _debts: dict[str, float] | None = None

    def after(self, rows: int, size: int, seconds: float) -> Wait:
        """Return the wait that `rows` rows of `size` bytes, done in `seconds`, ask for.

        Waits are counted as done: the next call starts from there.
        """
        due = {"its share of each second": seconds / self.share}
        if self.rows_per_second:
            due["the limit on rows"] = rows / self.rows_per_second
        if self.bytes_per_second:
            due["the limit on bytes"] = size / self.bytes_per_second
        debts = self._debts or {}
        # A credit is kept for one second at most, so that a lull is not followed by a rush.
        owed = {
            reason: max(-1.0, debts.get(reason, 0.0) + needed - seconds)
            for reason, needed in due.items()
        }
        reason = max(owed, key=lambda name: owed[name])
        wait = max(0.0, owed[reason])
        self._debts = {name: max(-1.0, value - wait) for name, value in owed.items()}
        return Wait(wait, reason) if wait > 0 else Wait(0.0, "")
