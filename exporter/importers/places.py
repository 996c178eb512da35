"""Where sessions ran: observations, worktree mappings, and what they say of each session.

A remote enters the archive only in its storage form, which has no user, password, query or
fragment. Where even that text may carry a credential it is withheld, and only its key is kept.
Paths and labels lose what looks like a credential before anything is made of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from exporter.core.identity import (
    MappedRoots,
    Observation,
    SessionPlace,
    WorktreeIndex,
    WorktreeMapping,
    derive_identity,
    session_identity,
)
from exporter.core.intake import (
    MAX_LABEL_BYTES,
    MAX_TEXT_BYTES,
    Repairs,
    copy_text,
    fits,
    instant_text,
    row_uuid,
)
from exporter.core.remotes import (
    clean_path,
    hide_credentials,
    may_hold_credential,
    storage_form,
)
from exporter.core.text import trim
from exporter.db import queries
from exporter.importers.load import render
from exporter.importers.source import SourceMapping, SourceObservation

QUERIES = queries.load(__file__)

#: A remote may be named by its URL; such a name is not kept.
_PLAIN_NAME = re.compile(r"[\w.-]{1,64}")


class Places:
    """What the observations and mappings of one source say of a session."""

    def __init__(
        self, observations: Iterable[Observation], mappings: Iterable[WorktreeMapping]
    ) -> None:
        grouped: dict[tuple[str, str], list[Observation]] = {}
        for row in observations:
            grouped.setdefault((row.project, row.machine), []).append(row)
        self._worktrees = {pair: WorktreeIndex(rows) for pair, rows in grouped.items()}
        self._roots = MappedRoots(mappings)

    @classmethod
    def load(cls, conn: psycopg.Connection[Any], source_id: int) -> Places:
        parameters = {"source_id": source_id}
        observations = conn.execute(QUERIES["worktrees"], parameters).fetchall()
        mappings = conn.execute(QUERIES["mappings"], parameters).fetchall()
        return cls(
            (Observation(*row) for row in observations), (WorktreeMapping(*row) for row in mappings)
        )

    def of(
        self, project: str, machine: str, cwd: str, directory: str
    ) -> tuple[bool, str, str, str | None, str | None]:
        """(has worktree, its name, its root, path key, path root) of a session."""
        index = self._worktrees.get((project, machine))
        worktree = index.match(cwd) if index is not None and cwd else None
        identity = session_identity(SessionPlace(project, machine, cwd, directory), self._roots)
        return (
            worktree is not None,
            worktree.name or "" if worktree else "",
            worktree.root_path or "" if worktree else "",
            identity.key if identity else None,
            identity.root_path if identity else None,
        )

    def fields(self, project: str, machine: str, cwd: str, directory: str) -> str:
        """The same as five COPY fields."""
        has, name, root, key, path = self.of(project, machine, cwd, directory)
        return "\t".join(
            ("t" if has else "f", copy_text(name), copy_text(root), copy_text(key), copy_text(path))
        )


def replace_places(
    conn: psycopg.Connection[Any],
    source_id: int,
    observations: Iterable[SourceObservation],
    mappings: Iterable[SourceMapping],
    repairs: Repairs,
) -> tuple[Places, int]:
    """Make the stored evidence of a source equal to what it holds now, and redo what depends on it.

    Returns the places for the sessions to come, and how many stored rows changed.
    """
    parameters = {"source_id": source_id}
    with conn.transaction():
        _stage(conn, "observations", _observation_rows(source_id, observations, repairs))
        dirty = conn.execute(QUERIES["upsert_observations"]).fetchall()
        dirty += conn.execute(QUERIES["delete_observations"], parameters).fetchall()
        _stage(conn, "mappings", _mapping_rows(source_id, mappings, repairs))
        remapped = conn.execute(QUERIES["upsert_mappings"]).rowcount
        remapped += conn.execute(QUERIES["delete_mappings"], parameters).rowcount
        places = Places.load(conn, source_id)
        if dirty or remapped:
            refresh_places(conn, source_id, places, None if remapped else sorted(set(dirty)))
    return places, len(dirty) + remapped


def refresh_places(
    conn: psycopg.Connection[Any],
    source_id: int,
    places: Places,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> int:
    """Derive worktree and path identity again; of all the source's sessions where pairs is None.

    Runs in the caller's transaction and holds one page of sessions in memory. Returns how many
    sessions changed.
    """
    parameters = {
        "source_id": source_id,
        "all": pairs is None,
        "projects": [project for project, _ in pairs or ()],
        "machines": [machine for _, machine in pairs or ()],
    }
    changed = 0
    conn.execute("SELECT FROM archive FOR UPDATE")
    with conn.cursor(name="places") as cursor:
        cursor.itersize = 5000
        cursor.execute(QUERIES["places"], parameters)
        while rows := cursor.fetchmany(5000):
            lines = [
                f"{row[0]}\t{places.fields(*row[1:5])}\n"
                for row in rows
                if places.of(*row[1:5]) != tuple(row[5:])
            ]
            changed += len(lines)
            with conn.cursor() as writer, writer.copy("COPY stage_derived FROM STDIN") as copy:
                copy.write("".join(lines).encode())
    if changed:
        conn.execute(QUERIES["update_places"])
        render(conn, sql.SQL("SELECT session_key FROM stage_derived"))
        conn.execute("DELETE FROM stage_derived")
    return changed


def _stage(conn: psycopg.Connection[Any], what: str, rows: Iterator[tuple[Any, ...]]) -> None:
    conn.execute(QUERIES[f"stage_{what}"])
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(f"stage_{what}"))
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _observation_rows(
    source_id: int, observations: Iterable[SourceObservation], repairs: Repairs
) -> Iterator[tuple[Any, ...]]:
    """Rows of project_observations, one per natural key: the one observed last."""
    rows: dict[str, tuple[Any, ...]] = {}
    for seen in observations:
        row = _observation_row(source_id, seen, repairs) if _is_kept(seen, seen.project) else None
        if row is None:
            repairs.add("observation")
            continue
        known = rows.get(row[1])
        if known is None or known[9] < row[9]:
            rows[row[1]] = row
    yield from rows.values()


def _is_kept(row: SourceObservation | SourceMapping, project: str) -> bool:
    """Whether the texts of a row are short enough; a project is part of an index entry."""
    texts = (value for value in row if isinstance(value, str))
    return fits(project, MAX_LABEL_BYTES) and all(fits(text, MAX_TEXT_BYTES) for text in texts)


def _public(text: str, repairs: Repairs) -> str:
    """Trimmed text without what looks like a credential; counts what went."""
    trimmed = trim(text)
    public = hide_credentials(trimmed)
    if public != trimmed:
        repairs.add("credential")
    return public


def _observation_row(
    source_id: int, seen: SourceObservation, repairs: Repairs
) -> tuple[Any, ...] | None:
    """One observation as it may be stored, None for one that has no project or machine.

    The key is that of the text at the source, because its owner recomputes it from there; the
    remote itself is stored only if its storage form is free of anything like a credential.
    """
    project, machine, root, worktree_name, worktree_root, observed = (
        _public(text, repairs)
        for text in (
            *(seen.project, seen.machine, seen.root_path, seen.worktree_name),
            *(seen.worktree_root_path, seen.observed_at),
        )
    )
    if not project or not machine:
        return None
    identity = derive_identity(root, seen.git_remote, worktree_root)
    remote = storage_form(seen.git_remote)
    normalized = identity.normalized_remote if identity else None
    redacted = may_hold_credential(seen.git_remote)
    if redacted or (normalized is not None and ("\0" in normalized or "\ufffd" in normalized)):
        normalized = None
    natural = "\x1f".join(
        (project, machine, root, "" if redacted else remote, _redacted_key(identity, redacted))
    )
    return (
        source_id,
        row_uuid(natural),
        project,
        machine,
        root,
        "" if redacted else remote,
        _remote_name(seen.git_remote_name),
        worktree_name,
        worktree_root,
        observed,
        instant_text(observed) or None,
        identity.key if identity else None,
        identity.key_source if identity else None,
        normalized,
        identity.root_path if identity else None,
        redacted,
    )


def _remote_name(name: str) -> str:
    """The name of a remote, '' for one that may be the remote itself or a credential."""
    is_plain = _PLAIN_NAME.fullmatch(name) and hide_credentials(name) == name
    return name if is_plain else ""


def _redacted_key(identity: Any, redacted: bool) -> str:
    """Keeps two withheld remotes of one root apart, by their keys."""
    return identity.key if redacted and identity else ""


def _mapping_rows(
    source_id: int, mappings: Iterable[SourceMapping], repairs: Repairs
) -> Iterator[tuple[Any, ...]]:
    rows = {}
    for seen in mappings:
        if not _is_kept(seen, seen.project):
            repairs.add("mapping")
            continue
        prefix = clean_path(_public(seen.path_prefix, repairs))
        project = _public(seen.project, repairs).replace("-", "_")
        machine, layout = hide_credentials(seen.machine), hide_credentials(seen.layout)
        key = row_uuid(f"{machine}\x1f{prefix}")
        rows[key] = (source_id, key, machine, prefix, layout, project, seen.is_enabled)
    yield from rows.values()
