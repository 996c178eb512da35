"""What a job supplies to the runner, and what it gets back: units of work and their tallies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import psycopg

Connection: TypeAlias = psycopg.Connection[Any]
#: Opens a connection set up as the program wants it; survives the trip to another process.
Opener: TypeAlias = Callable[[], Connection]


@contextmanager
def alive(conn: Connection, opener: Opener) -> Iterator[Connection]:
    """The connection, or another one for the length of the block when it is gone."""
    if not conn.closed:
        yield conn
    else:
        with opener() as fresh:
            yield fresh


class LeaseLost(Exception):
    """Another worker took the unit over; nothing of ours was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to do units of a job. `number` only grows: the newest holder wins."""

    job: str
    number: int
    run_id: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of some rows: how many had each outcome, and bytes read and written."""

    outcomes: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def rows(self) -> int:
        return sum(self.outcomes.values())

    def __add__(self, other: Tally) -> Tally:
        outcomes = dict(self.outcomes)
        for name, count in other.outcomes.items():
            outcomes[name] = outcomes.get(name, 0) + count
        return Tally(
            outcomes, self.bytes_in + other.bytes_in, self.bytes_out + other.bytes_out
        )  # fmt: skip


class Job(Protocol):
    """One kind of work over many rows. Survives the trip to another process.

    All methods get a connection outside a transaction. A unit is whatever `claim` returned.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def is_exclusive(self) -> bool:
        """Whether one worker does all of it, because its rows cannot be claimed one by one."""

    def forget(self) -> None:
        """Look tables up again: their owner may have renamed them."""

    def prepare(self, conn: Connection) -> None:
        """Get ready, once per run, before any worker starts."""

    def remaining(self, conn: Connection) -> int:
        """How many rows have work left in them now; none after a run that came to its end."""

    def expected(self, conn: Connection) -> int:
        """How many rows a run that begins now will look at, to tell how far it is."""

    def claim(self, conn: Connection, lease: Lease, count: int) -> Sequence[Any]:
        """Take units of about `count` rows; none: there are none to be had now."""

    def is_waiting(self, conn: Connection, lease: Lease) -> bool:
        """Whether units are in other hands, which may yet die and leave them."""

    def perform(self, conn: Connection, lease: Lease, unit: Any) -> Tally:
        """Do a unit, all of it or nothing. Raises LeaseLost."""

    def preview(self, conn: Connection, unit: Any) -> Tally:
        """Do a unit as far as it goes without writing anything."""

    def pending(self, conn: Connection, after: Any, count: int) -> Sequence[Any]:
        """Units as `claim` would give, after the given one (None: from the start), unclaimed."""

    def read_back(self, conn: Connection, lease: Lease, unit: Any) -> Tally | None:
        """What became of a unit whose commit was not answered; None: it was not done."""

    def refuse(
        self, conn: Connection, lease: Lease, unit: Any, reason: str, facts: Mapping[str, Any]
    ) -> Tally:
        """Put a unit that cannot be done into quarantine."""
