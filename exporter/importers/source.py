"""What every source archive gives an importer, whatever database it is kept in.

A source is read in short transactions and is never written. It lists its sessions with a
fingerprint of each, so that only those that look different are read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from exporter.core.intake import Repairs, SourceEvent, SourceMessage, SourceSession


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Which archive this is. ``location`` names where it was read and holds no credential."""

    kind: str
    archive_id: str
    database_id: str
    location: str
    era: str
    data_version: int | None


class Listed(NamedTuple):
    """One session of the listing: ``fingerprint`` as 32 hex digits, ``weight`` in messages."""

    id: str
    fingerprint: str
    weight: int


class Whole(NamedTuple):
    """A session with its messages in ordinal order and its usage events."""

    session: SourceSession
    messages: list[SourceMessage]
    events: list[SourceEvent]


class SourcePrice(NamedTuple):
    """Rates in USD per million tokens, as stored doubles."""

    model_pattern: str
    input: float
    output: float
    cache_creation: float
    cache_read: float
    updated_at: str
    is_custom: bool = False


class SourceObservation(NamedTuple):
    project: str
    machine: str
    root_path: str
    git_remote: str
    git_remote_name: str
    worktree_name: str
    worktree_root_path: str
    observed_at: str


class SourceMapping(NamedTuple):
    machine: str
    path_prefix: str
    layout: str
    project: str
    is_enabled: bool


class SourceBilling(NamedTuple):
    """An account-level billing line; ``charged`` in dollars. Whom it was billed to is not read."""

    occurred_at: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    charged: Decimal
    is_headless: bool
    dedup_key: str


class SourceReplaced(Exception):
    """The source's database was replaced by another file while it was being read."""


class Source(Protocol):
    """A source archive, open for reading. Repairs of hostile values are counted in ``repairs``."""

    info: SourceInfo
    repairs: Repairs

    def watermark(self) -> str:
        """A token of the source's state; an equal one later means that nothing changed."""

    def listing(self) -> Iterator[Listed]: ...

    def excluded(self) -> list[str]:
        """Ids that the source's owner removed for good."""

    def sessions(self, ids: Sequence[str]) -> Iterator[Whole]:
        """Read these sessions; ids that are gone meanwhile are left out."""

    def prices(self) -> Iterator[SourcePrice]: ...

    def observations(self) -> Iterator[SourceObservation]: ...

    def mappings(self) -> Iterator[SourceMapping]: ...

    def billing(self) -> Iterator[SourceBilling]: ...

    def reopen_if_replaced(self) -> None:
        """Raise `SourceReplaced`, after opening the new file, when the source was replaced."""

    def close(self) -> None: ...
