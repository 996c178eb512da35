"""Bring an agentsview archive into ours: what is new, what changed and what is gone.

The steps each stand alone and can be repeated: prices, then the evidence of where projects are,
then billing lines, then the sessions in bounded batches, then what is gone. A run that is stopped
anywhere leaves whole batches behind, and the next run goes on with the sessions that still differ.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from exporter.core.intake import (
    MAX_LABEL_BYTES,
    Refused,
    Repairs,
    Rows,
    SourceSession,
    fits,
    instant_text,
    public_session,
    row_uuid,
    session_rows,
    time_fields,
)
from exporter.core.pricing import PriceTable
from exporter.core.remotes import hide_credentials
from exporter.core.tokens import clamp_event, dedup_key
from exporter.db.prices import price_table
from exporter.importers import load
from exporter.importers.load import BatchCounts, Prepared
from exporter.importers.places import Places, replace_places
from exporter.importers.source import (
    Listed,
    Source,
    SourceBilling,
    SourcePrice,
    SourceReplaced,
    Whole,
)
from exporter.progress import Progress

Connection = psycopg.Connection[Any]

#: A batch ends at this many messages or sessions, whichever comes first.
BATCH_MESSAGES: Final = 20_000
BATCH_SESSIONS: Final = 1_000
#: How often a source that is replaced under our hands is started over.
RESTARTS: Final = 3


@dataclass(slots=True)
class Summary:
    """What one import did. ``unchanged`` means that nothing had to be written."""

    source: str
    location: str
    unchanged: bool = False
    new: int = 0
    changed: int = 0
    same: int = 0
    removed: int = 0
    refused: int = 0
    messages: int = 0
    usage_rows: int = 0
    activity_points: int = 0
    billing_rows_changed: int = 0
    price_rows_changed: int = 0
    place_rows_changed: int = 0
    seconds: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)
    repairs: dict[str, int] = field(default_factory=dict)

    @property
    def rows_per_second(self) -> float:
        return self.messages / self.seconds if self.seconds else 0.0

    @property
    def has_written(self) -> bool:
        changed = self.price_rows_changed + self.place_rows_changed + self.billing_rows_changed
        return bool(self.new + self.changed + self.removed + changed)

    def counts(self) -> dict[str, Any]:
        """Everything but the texts, for the run's record."""
        skip = {"source", "location"}
        values = {name: getattr(self, name) for name in self.__slots__ if name not in skip}
        return {**values, "rows_per_second": round(self.rows_per_second, 1)}


class _Models:
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


def import_archive(
    conn: Connection,
    connect: Callable[[], Connection],
    source: Source,
    progress: Progress,
    *,
    full: bool = False,
) -> Summary:
    """Import one source through ``conn`` and a second connection that ``connect`` opens.

    Raises the errors of the source when it cannot be read to the end; what was merged stays.
    """
    started = time.monotonic()
    summary = Summary(source.info.kind, source.info.location)
    source_id, watermark = load.register_source(conn, source.info)
    mark = source.watermark()
    if not full and mark and mark == watermark:
        summary.unchanged = True
        row = conn.execute(
            "SELECT count(*) FROM sessions WHERE source_id = %s AND presence = 'present'",
            (source_id,),
        ).fetchone()
        summary.same = row[0] if row else 0
    else:
        run = _Import(connect, conn, source, source_id, summary, progress)
        mark = run.run(full, mark)
        summary.unchanged = not summary.has_written
        if mark != watermark or not summary.unchanged:
            seconds = time.monotonic() - started
            load.finish_run(conn, source_id, seconds, summary.counts(), mark)
    summary.seconds = time.monotonic() - started
    return summary


class _Import:
    """One run over a source that may have changed."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        conn: Connection,
        source: Source,
        source_id: int,
        summary: Summary,
        progress: Progress,
    ) -> None:
        self._connect = connect
        self._conn = conn
        self._source = source
        self._source_id = source_id
        self._summary = summary
        self._progress = progress

    def run(self, full: bool, mark: str) -> str:
        """Do all steps; returns the watermark of the state that was read."""
        load.create_stage(self._conn)
        for attempt in range(RESTARTS + 1):
            try:
                self._bring_over(full)
                break
            except SourceReplaced:
                if attempt == RESTARTS:
                    raise
                mark = self._source.watermark()
        unusable = self._source.repairs.counts.pop("refused_id", 0)
        if unusable:
            self._summary.refused += unusable
            self._summary.refusals["id"] += unusable
        self._summary.repairs = dict(self._source.repairs.counts)
        return mark

    def _bring_over(self, full: bool) -> None:
        conn, source, summary = self._conn, self._source, self._summary
        prices = _usable_prices(source.prices(), source.repairs)
        summary.price_rows_changed += load.replace_prices(conn, self._source_id, prices)
        places, changed = replace_places(
            conn, self._source_id, source.observations(), source.mappings(), source.repairs
        )
        summary.place_rows_changed += changed
        models = _Models(conn, price_table(conn))
        summary.billing_rows_changed += self._billing(models)
        excluded = source.excluded()
        gone = set(excluded)
        load.stage_listing(conn, (row for row in source.listing() if row.id not in gone))
        self._sessions(full, places, models)
        if summary.new + summary.changed >= BATCH_SESSIONS:
            load.refresh_statistics(conn)
        summary.removed += load.mark_gone(conn, self._source_id, excluded)
        with conn.transaction():
            load.refresh_rates(conn)

    def _billing(self, models: _Models) -> int:
        rows = []
        for row in self._source.billing():
            if _too_long(row.model):
                self._source.repairs.add("model_length")
            elif row.model:
                rows.append(row)
        models.learn({row.model for row in rows})
        lines = {row_uuid(row.dedup_key or repr(row)): _billing_line(row, models) for row in rows}
        return load.replace_billing(self._conn, self._source_id, lines)

    def _sessions(self, full: bool, places: Places, models: _Models) -> None:
        """Read, work out and merge batches; one is merged while the next is being read."""
        total, todo = load.count_pending(self._conn, self._source_id, everything=full)
        self._progress.begin("sessions", todo, "sessions")
        self._summary.same += total - todo
        with _no_collection(), ThreadPoolExecutor(1) as pool, self._connect() as writer:
            load.create_stage(writer)
            merging: Future[BatchCounts] | None = None
            for batch in _batches(load.pending(self._conn, self._source_id, everything=full)):
                self._source.reopen_if_replaced()
                prepared = self._prepare(batch, places, models)
                self._settle(merging)
                merging = None
                if prepared:
                    merging = pool.submit(load.write_sessions, writer, self._source_id, prepared)
                self._progress.advance(len(batch))
            self._settle(merging)

    def _settle(self, merging: Future[BatchCounts] | None) -> None:
        if merging is not None:
            counts = merging.result()
            self._summary.new += counts.new
            self._summary.changed += counts.changed
            self._summary.usage_rows += counts.usage_rows
            self._summary.activity_points += counts.points

    def _prepare(self, batch: Sequence[Listed], places: Places, models: _Models) -> list[Prepared]:
        """The sessions of a batch that say something new, as COPY lines."""
        fingerprints = {row.id: row.fingerprint for row in batch}
        known = load.known_digests(self._conn, self._source_id, list(fingerprints))
        found = list(self._source.sessions(list(fingerprints)))
        models.learn({n for whole in found for n in _model_names(whole) if not _too_long(n)})
        prepared = []
        same = {}
        for whole in found:
            self._summary.messages += len(whole.messages)
            try:
                session, rows = self._rows(whole, models)
            except Refused as refusal:
                self._summary.refused += 1
                self._summary.refusals[refusal.reason] += 1
                continue
            if known.get(session.id) == rows.digest:
                same[session.id] = fingerprints[session.id]
                continue
            derived = places.fields(session.project, session.machine, session.cwd, rows.directory)
            prepared.append(Prepared(session.id, fingerprints[session.id], rows, derived))
        self._summary.same += len(same)
        load.note_fingerprints(self._conn, self._source_id, same)
        return prepared

    def _rows(self, whole: Whole, models: _Models) -> tuple[SourceSession, Rows]:
        if any(map(_too_long, _model_names(whole))):
            raise Refused("model_length")
        repairs = self._source.repairs
        session = public_session(whole.session, repairs)
        return session, session_rows(session, whole.messages, whole.events, models.number, repairs)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Leave out the search for cycles: rows have none, and looking for them in millions of fresh
    tuples takes a fifth of an import. What is no longer used is freed at once all the same."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _stored_name(model: str) -> str:
    """A model's name as the archive can keep it, and may."""
    return hide_credentials(model.replace("\0", "\ufffd"))


def _too_long(model: str) -> bool:
    return not fits(model, MAX_LABEL_BYTES) or (
        "\0" in model and not fits(_stored_name(model), MAX_LABEL_BYTES)
    )


def _usable_prices(prices: Iterator[SourcePrice], repairs: Repairs) -> Iterator[SourcePrice]:
    """The prices whose pattern fits an index entry and holds nothing that looks like a secret."""
    for price in prices:
        if not fits(price.model_pattern, MAX_LABEL_BYTES):
            repairs.add("model_length")
        elif hide_credentials(price.model_pattern) != price.model_pattern:
            repairs.add("credential")
        else:
            # Text that is no time says nothing, and might say anything.
            yield price._replace(updated_at=instant_text(price.updated_at))


def _batches(rows: Iterator[Listed]) -> Iterator[list[Listed]]:
    batch: list[Listed] = []
    weight = 0
    for row in rows:
        batch.append(row)
        weight += row.weight
        if weight >= BATCH_MESSAGES or len(batch) >= BATCH_SESSIONS:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _model_names(whole: Whole) -> set[str]:
    names = {message.model for message in whole.messages if message.model}
    names.update(event.model for event in whole.events if event.model)
    return names


def _billing_line(row: SourceBilling, models: _Models) -> str:
    """COPY line of a billing row: counters within bounds, and a key by which copies are known."""
    counts = clamp_event("cursor", *row[2:6], reasoning_tokens=0)
    same = dedup_key(kind="cursor", event_key=row.dedup_key)
    key = "\\N" if same is None else row_uuid(same)
    return (
        f"{models.number(row.model)}\t{time_fields(row.occurred_at)}\t{counts[0]}\t{counts[1]}"
        f"\t{counts[2]}\t{counts[3]}\t{row.charged:f}\t{'t' if row.is_headless else 'f'}\t{key}\n"
    )
