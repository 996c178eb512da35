"""What several exports and probes read alike: project identities, and where prices came from.

Everything here only reads, and takes the connection that the caller opened; what must be seen as
of one instant is read inside `exporter.db.connect.read_snapshot`. The one exception is
`hold_prices`, which writes nothing either but keeps others from writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import psycopg

from exporter.core.pricing import Rates
from exporter.core.resolution import Identity, KeySource, ProjectResolution
from exporter.core.text import utf8_bytes
from exporter.db import queries

QUERIES = queries.load(__file__)
Connection = psycopg.Connection[Any]


# -- projects -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the keys that a label's evidence gives; `repr` shows no remote and no path."""

    #: ``sha256:`` and 64 hexadecimal digits.
    key: str
    key_source: KeySource
    normalized_remote: str | None = field(repr=False)
    root_path: str | None = field(repr=False)
    #: The remote may carry a credential, so its text is not stored.
    is_withheld: bool
    #: Observations, or sessions, that gave this key.
    count: int


@dataclass(frozen=True, slots=True)
class ProjectEvidence:
    """What a label stands for, and why."""

    resolution: ProjectResolution
    #: Stored observations of the label, usable or not.
    observations: int
    #: What decided: observations, or without a usable one the places of the label's sessions.
    evidence: Literal["observations", "sessions"] | None
    #: The keys found, in byte order.
    candidates: tuple[Candidate, ...]


def project_resolutions(conn: Connection, labels: Sequence[str]) -> dict[str, ProjectResolution]:
    """What each label stands for, in byte order of the labels; every label has an entry."""
    rows = conn.execute(QUERIES["projects"], {"labels": list(labels)})
    found = {row[0]: _resolution(*row[1:]) for row in rows}
    return {label: found[label] for label in sorted(found, key=utf8_bytes)}


def project_evidence(conn: Connection, labels: Sequence[str]) -> dict[str, ProjectEvidence]:
    """The same with the evidence; call it inside a snapshot, it asks more than once."""
    asked = {"labels": list(labels)}
    counts = dict(conn.execute(QUERIES["observation_counts"], asked).fetchall())
    observed = _candidates(conn, "observed_keys", asked["labels"])
    placed = _candidates(conn, "places_keys", [x for x in asked["labels"] if x not in observed])
    return {
        label: ProjectEvidence(
            resolution,
            counts.get(label, 0),
            "observations" if label in observed else "sessions" if label in placed else None,
            tuple(observed.get(label) or placed.get(label) or ()),
        )
        for label, resolution in project_resolutions(conn, labels).items()
    }


def _candidates(conn: Connection, query: str, labels: list[str]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for label, *fields in conn.execute(QUERIES[query], {"labels": labels}):
        found.setdefault(label, []).append(Candidate(*fields))
    return found


def _resolution(
    seen_low: str | None,
    seen_high: str | None,
    ran_low: str | None,
    ran_high: str | None,
    key_source: str | None,
    remote: str | None,
    root: str | None,
    is_redacted: bool | None,
    path_root: str | None,
) -> ProjectResolution:
    """Observations decide; where there is none that is usable, the places of sessions do."""
    low, high = (seen_low, seen_high) if seen_low is not None else (ran_low, ran_high)
    if low is None:
        return ProjectResolution("unknown")
    if low != high:
        return ProjectResolution("ambiguous")
    if seen_low is None or key_source == "root_path":
        return ProjectResolution(
            "resolved", Identity(low, "root_path", None, root or path_root, machine_local=True)
        )
    # A withheld remote may carry a credential; its key alone joins the project.
    return ProjectResolution(
        "resolved", Identity(low, "git_remote", None if is_redacted else remote)
    )


# -- prices -------------------------------------------------------------------------------------


class PriceOrigin(NamedTuple):
    """The source whose row is in force for a pattern."""

    #: Of the source, such as ``catalogue`` or ``agentsview-sqlite``.
    kind: str
    location: str
    #: When the rates last changed, as stored; '' when not known.
    updated_at: str


def price_origins(conn: Connection) -> Mapping[str, PriceOrigin]:
    """Which source brought each stored price that is in force, by pattern."""
    rows = conn.execute(QUERIES["price_origins"])
    return {pattern: PriceOrigin(*origin) for pattern, *origin in rows}


def prices_of_source(conn: Connection, kind: str, archive_id: str) -> dict[str, Rates]:
    """The rates that one source brought, by pattern; none for a source that is not known."""
    rows = conn.execute(QUERIES["prices_of_source"], {"kind": kind, "archive_id": archive_id})
    return {pattern: Rates(*rates) for pattern, *rates in rows}


def hold_prices(conn: Connection) -> None:
    """Let nobody else change prices until the caller's transaction ends; reading goes on."""
    conn.execute(QUERIES["hold_prices"])
