"""What a source holds of some sessions, as COPY text that is ready to be merged.

This is where an import spends its processor time, and it needs nothing of the merge: the reading
processes of `exporter.importers.readers` do it side by side with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

from exporter.core.intake import (
    MAX_LABEL_BYTES,
    Refused,
    Rows,
    SourceSession,
    fits,
    public_session,
    session_rows,
)
from exporter.core.pricing import PriceTable
from exporter.core.remotes import hide_credentials
from exporter.importers import load
from exporter.importers.load import Staged
from exporter.importers.places import Places
from exporter.importers.source import Listed, Source, Whole

Connection = psycopg.Connection[Any]


class Prepared(NamedTuple):
    """A batch of the listing, read and worked out. ``repairs`` and ``refusals`` are its own."""

    staged: Staged
    listed: int
    messages: int
    same: int
    refusals: Counter[str]
    repairs: dict[str, int]


class Models:
    """Numbers of model names, stored on first sight."""

    def __init__(self, conn: Connection, table: PriceTable) -> None:
        self._conn = conn
        self._table = table
        self._known: dict[str, int] = {}

    def learn(self, names: set[str]) -> None:
        if unknown := names - self._known.keys():
            stored = {name: _stored_name(name) for name in unknown}
            numbers = load.ensure_models(self._conn, self._table, sorted(set(stored.values())))
            self._known.update((name, numbers[text]) for name, text in stored.items())

    def number(self, name: str) -> int:
        return self._known[name]


class Preparer:
    """Prepares the batches of one source, over a connection that merges nothing meanwhile."""

    def __init__(
        self, conn: Connection, source: Source, source_id: int, places: Places, models: Models
    ) -> None:
        self._conn = conn
        self._source = source
        self._source_id = source_id
        self._places = places
        self._models = models

    def prepare(self, batch: Sequence[Listed]) -> Prepared:
        """Read a batch, and note the sessions of it that say nothing new.

        Raises `SourceReplaced`, and the errors of the source and of the archive.
        """
        self._source.reopen_if_replaced()
        fingerprints = {row.id: row.fingerprint for row in batch}
        known = load.known_digests(self._conn, self._source_id, list(fingerprints))
        found = list(self._source.sessions(list(fingerprints)))
        self._models.learn({n for w in found for n in _model_names(w) if not is_too_long(n)})
        staging = load.Staging()
        same = {}
        refusals: Counter[str] = Counter()
        for whole in found:
            try:
                session, rows = self._rows(whole)
            except Refused as refusal:
                refusals[refusal.reason] += 1
                continue
            fingerprint = fingerprints[session.id]
            if known.get(session.id) == rows.digest:
                same[session.id] = fingerprint
                continue
            place = (session.project, session.machine, session.cwd, rows.directory)
            staging.add(rows, self._places.fields(*place), fingerprint)
        load.note_fingerprints(self._conn, self._source_id, same)
        repairs = self._source.repairs.counts
        self._source.repairs.counts = {}
        messages = sum(len(whole.messages) for whole in found)
        return Prepared(staging.finished(), len(batch), messages, len(same), refusals, repairs)

    def _rows(self, whole: Whole) -> tuple[SourceSession, Rows]:
        if any(map(is_too_long, _model_names(whole))):
            raise Refused("model_length")
        repairs = self._source.repairs
        session = public_session(whole.session, repairs)
        number = self._models.number
        return session, session_rows(session, whole.messages, whole.events, number, repairs)


def is_too_long(model: str) -> bool:
    """Whether a model's name does not fit an index entry."""
    return not fits(model, MAX_LABEL_BYTES) or (
        "\0" in model and not fits(_stored_name(model), MAX_LABEL_BYTES)
    )


def _stored_name(model: str) -> str:
    """A model's name as the archive can keep it, and may."""
    return hide_credentials(model.replace("\0", "\ufffd"))


def _model_names(whole: Whole) -> set[str]:
    names = {message.model for message in whole.messages if message.model}
    names.update(event.model for event in whole.events if event.model)
    return names
