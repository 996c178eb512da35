"""Bring an agentsview archive into ours: what is new, what changed and what is gone.

The steps each stand alone and can be repeated: prices, then the evidence of where projects are,
then billing lines, then the sessions in bounded batches, then what is gone. A run that is stopped
anywhere leaves whole batches behind, and the next run goes on with the sessions that still differ.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from exporter.core.intake import (
    MAX_LABEL_BYTES,
    Repairs,
    fits,
    instant_text,
    row_uuid,
    time_fields,
)
from exporter.core.remotes import hide_credentials
from exporter.core.tokens import clamp_event, dedup_key
from exporter.db.prices import price_table
from exporter.importers import load
from exporter.importers.load import BatchCounts
from exporter.importers.places import Places, replace_places
from exporter.importers.prepare import Models, Prepared, Preparer, is_too_long
from exporter.importers.source import (
    Listed,
    Source,
    SourceBilling,
    SourcePrice,
    SourceReplaced,
)
from exporter.progress import Progress

Connection = psycopg.Connection[Any]

#: A batch ends at this many messages or sessions, whichever comes first.
BATCH_MESSAGES: Final = 20_000
BATCH_SESSIONS: Final = 1_000
#: From this many messages on they are read by processes of their own, which take a third of a
#: second to start. The merge of what two of them read keeps a server's process busy.
APART_MESSAGES: Final = 50_000
READERS: Final = 2
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

    def forget_reading(self) -> None:
        """Begin to count anew what was read; what was written stays, and stays counted."""
        self.same = self.refused = self.messages = 0
        self.refusals.clear()

    def counts(self) -> dict[str, Any]:
        """Everything but the texts, for the run's record."""
        skip = {"source", "location"}
        values = {name: getattr(self, name) for name in self.__slots__ if name not in skip}
        return {**values, "rows_per_second": round(self.rows_per_second, 1)}


def import_archive(
    conn: Connection,
    connect: Callable[[], Connection],
    source: Source,
    progress: Progress,
    *,
    full: bool = False,
    open_source: Callable[[], Source] | None = None,
) -> Summary:
    """Import one source through ``conn`` and a second connection that ``connect`` opens.

    Much of it is read by further processes where ``open_source`` opens the source once more; it
    and ``connect`` must be picklable then.

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
        run = _Import(connect, conn, source, source_id, summary, progress, open_source)
        mark = run.run(full, mark)
        summary.unchanged = not summary.has_written
        if mark != watermark or not summary.unchanged:
            # The record tells it, too.
            summary.seconds = time.monotonic() - started
            load.finish_run(conn, source_id, summary.seconds, summary.counts(), mark)
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
        open_source: Callable[[], Source] | None,
    ) -> None:
        self._connect = connect
        self._conn = conn
        self._source = source
        self._source_id = source_id
        self._summary = summary
        self._progress = progress
        self._open_source = open_source
        #: Sessions of a later revision were merged by this run.
        self._since: int | None = None

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
                self._summary.forget_reading()
                # It may be a reader who noticed.
                with suppress(SourceReplaced):
                    self._source.reopen_if_replaced()
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
        models = Models(conn, price_table(conn))
        summary.billing_rows_changed += self._billing(models)
        excluded = source.excluded()
        gone = set(excluded)
        load.stage_listing(conn, (row for row in source.listing() if row.id not in gone))
        if self._since is None:
            self._since = load.current_revision(conn)
        else:
            # They are new or changed, which an attempt before this one counted.
            summary.same -= load.count_merged(conn, self._source_id, self._since)
        self._sessions(full, places, models)
        if summary.new + summary.changed >= BATCH_SESSIONS:
            load.refresh_statistics(conn)
        summary.removed += load.mark_gone(conn, self._source_id, excluded)
        with conn.transaction():
            load.refresh_rates(conn)

    def _billing(self, models: Models) -> int:
        rows = []
        for row in self._source.billing():
            if is_too_long(row.model):
                self._source.repairs.add("model_length")
            elif row.model:
                rows.append(row)
        models.learn({row.model for row in rows})
        lines = {row_uuid(row.dedup_key or repr(row)): _billing_line(row, models) for row in rows}
        return load.replace_billing(self._conn, self._source_id, lines)

    def _sessions(self, full: bool, places: Places, models: Models) -> None:
        """Read, work out and merge batches; one is merged while the next is being read."""
        total, todo, messages = load.count_pending(self._conn, self._source_id, everything=full)
        self._progress.begin("sessions", todo, "sessions")
        self._summary.same += total - todo
        batches = _batches(load.pending(self._conn, self._source_id, everything=full))
        with ExitStack() as stack:
            stack.enter_context(_no_collection())
            writer = stack.enter_context(self._connect())
            load.create_stage(writer)
            # Left before the connection is, so that no merge is cut off in the middle.
            pool = stack.enter_context(ThreadPoolExecutor(1))
            found = self._prepared(batches, places, models, messages)
            stack.enter_context(closing(found))
            merging: Future[BatchCounts] | None = None
            try:
                for prepared in found:
                    done, merging = merging, None
                    self._settle(done)
                    self._note(prepared)
                    if prepared.staged.size:
                        write = load.write_sessions
                        merging = pool.submit(write, writer, self._source_id, prepared.staged)
                    self._progress.advance(prepared.listed)
            except SourceReplaced:
                # What is being merged stays, and counts.
                self._settle(merging)
                raise
            self._settle(merging)

    def _prepared(
        self, batches: Iterator[list[Listed]], places: Places, models: Models, messages: int
    ) -> Generator[Prepared, None, None]:
        """The batches, read and worked out: here, or by processes where that is worth it."""
        preparer = Preparer(self._conn, self._source, self._source_id, places, models)
        if self._open_source is None or messages < APART_MESSAGES or _cores() < 2:
            yield from map(preparer.prepare, batches)
            return
        from exporter.importers.readers import Task, read_by

        task = Task(self._open_source, self._connect, self._source_id)
        with closing(read_by(READERS, task, batches, preparer.prepare)) as found:
            for prepared in found:
                # The readers may have opened another file than the one that was listed.
                self._source.reopen_if_replaced()
                yield prepared

    def _note(self, prepared: Prepared) -> None:
        summary, repairs = self._summary, self._source.repairs
        summary.messages += prepared.messages
        summary.same += prepared.same
        summary.refused += prepared.refusals.total()
        summary.refusals.update(prepared.refusals)
        for kind, count in prepared.repairs.items():
            repairs.counts[kind] = repairs.counts.get(kind, 0) + count

    def _settle(self, merging: Future[BatchCounts] | None) -> None:
        if merging is not None:
            counts = merging.result()
            self._summary.new += counts.new
            self._summary.changed += counts.changed
            self._summary.usage_rows += counts.usage_rows
            self._summary.activity_points += counts.points


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


def _cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def _billing_line(row: SourceBilling, models: Models) -> str:
    """COPY line of a billing row: counters within bounds, and a key by which copies are known."""
    counts = clamp_event("cursor", *row[2:6], reasoning_tokens=0)
    same = dedup_key(kind="cursor", event_key=row.dedup_key)
    key = "\\N" if same is None else row_uuid(same)
    return (
        f"{models.number(row.model)}\t{time_fields(row.occurred_at)}\t{counts[0]}\t{counts[1]}"
        f"\t{counts[2]}\t{counts[3]}\t{row.charged:f}\t{'t' if row.is_headless else 'f'}\t{key}\n"
    )
