"""What every source archive gives an importer, whatever database it is kept in.

A source is read in short transactions and is never written. It lists its sessions with a
fingerprint of each, so that only those that look different are read again.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from exporter.core.intake import Repairs, SourceEvent, SourceMessage, SourceSession

_OBSERVED: Final = ("project", "machine", "root_path")
_MAPPED: Final = ("machine", "path_prefix", "project")
#: The columns without which a table of an archive says nothing. Any other may be absent.
REQUIRED: Final[Mapping[str, Sequence[str]]] = {
    "sessions": ("id",),
    "messages": ("session_id", "ordinal", "role", "timestamp"),
    "usage_events": ("session_id", "id", "model"),
    "excluded_sessions": ("id",),
    "model_pricing": ("model_pattern",),
    "cursor_usage_events": ("occurred_at", "model"),
    "project_identity_observations": _OBSERVED,
    "source_project_identity_observations": _OBSERVED,
    "worktree_project_mappings": _MAPPED,
    "source_worktree_project_mappings": _MAPPED,
    "archive_metadata": ("key", "value"),
}


def missing_column(columns: Mapping[str, Container[str]]) -> str | None:
    """``table without the column name`` for the first required one that a table lacks."""
    for table, required in REQUIRED.items():
        for name in required:
            if table in columns and name not in columns[table]:
                return f"{table} without the column {name}"
    return None


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
        """Raise `SourceReplaced` when the source was replaced, after opening the new file.

        ``repairs`` is then about the new one only.
        """

    def close(self) -> None: ...
