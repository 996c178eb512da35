"""The snapshots backfill: take the secret log out of every legacy snapshot.

One plan is one unit. Its bytes are read outside a transaction and taken apart in memory by
`exporter.core.runzip`; then one short transaction writes ledger, originals and row together,
guarded by the lease, the generation, the layout and the hash of the bytes that were read.
What goes to an object store is there, whole and proven, before that transaction begins.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from psycopg import sql
from psycopg.types.json import Jsonb

from exporter.artifacts import logs, plans
from exporter.artifacts.objects import Objects
from exporter.artifacts.plans import PlanTable
from exporter.core import runzip
from exporter.core.runzip import Outcome, Refusal
from exporter.db import queries
from exporter.errors import ExporterError
from exporter.jobs import ledger
from exporter.jobs.job import Connection, Lease, Tally
from exporter.jobs.ledger import Item, Settled

QUERIES = queries.load(__file__)

LogStorage = Literal["text", "compact"]

#: A member larger than this is kept inside the original snapshot only, not a second time; and so
#: is what goes beyond the total of one archive. Neither holds for the log.
MEMBER_MAX_BYTES = 32 * 1024 * 1024
ORIGINALS_BYTES = 64 * 1024 * 1024
CPU_SECONDS = 120.0
#: Bytes of members that are salvaged from one archive.
SALVAGED_BYTES = 128 * 1024 * 1024
#: Plans put on the ledger at a time.
ENQUEUE = 1000
#: A row whose workers died so often is what killed them.
MOST_ATTEMPTS = 5


class _Changed(Exception):
    """The plan is no longer the one that was read."""


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes that were read, as the guard of the write knows them again."""

    size: int
    sha256: bytes | None = None
    #: The server's number of the stored value, where it has numbers.
    value_id: int | None = None
    #: The row refers to a packed log already; which one is not for the job's role to read.
    refers_to_log: bool = False
    #: What the row said of that log's length.
    log_stood: int | None = None


@dataclass(slots=True)
class Kept:
    """Exact bytes on their way to the originals; `ref` once they are in the object store."""

    kind: str
    path: str
    body: bytes | None = field(repr=False)
    ref: logs.Reference | None = field(repr=False, default=None)


@dataclass(slots=True)
class Split:
    """A snapshot taken apart. `snapshot` None: the stored one stays.

    Of `text` and `packed` at most one is given, and none without a log.
    """

    outcome: Outcome
    notes: tuple[str, ...]
    facts: dict[str, int]
    overview: str | None
    snapshot: bytes | None = field(repr=False, default=None)
    text: bytearray | None = field(repr=False, default=None)
    packed: logs.Packed | None = None
    log_bytes: int | None = None
    encoding: str | None = None
    #: An overview worked out from the log, for a plan that has none of its own.
    derived: str | None = None
    originals: list[Kept] = field(repr=False, default_factory=list)
    #: Of the packed log, wherever it is; set when it is put there.
    ref: logs.Reference | None = field(repr=False, default=None)

    @property
    def size(self) -> int:
        """Bytes of the new snapshot, 0 when there is none."""
        return len(self.snapshot) if self.snapshot is not None else 0


# --- Taking apart ---------------------------------------------------------------------------


def split(
    data: bytes, storage: LogStorage = "text", inline_max: int = logs.INLINE_MAX_BYTES,
    derives_overview: bool = False,
) -> Split:  # fmt: skip
    """Take a snapshot apart and prove that what is left is free of the log.

    `derives_overview`: where there is no overview, work one out from the log. Raises Refusal with
    the reason for quarantine. Takes at most `CPU_SECONDS` of the processor.
    """
    tick = _time_limit()
    archive = runzip.inspect(data)
    report = runzip.check_members(archive, tick=tick)
    reader = None
    text: bytearray | None = None
    usage = runzip.LogUsage() if derives_overview and report.overview is None else None
    if archive.log is not None:
        is_inline = storage == "text" and archive.log.entry.plain_size <= inline_max
        reader = runzip.LogReader(archive, spent=report.plain_bytes, tick=tick, is_text=is_inline)
        text = _read(reader, usage, as_text=is_inline)
    facts = reader.facts if reader else None
    verdict = runzip.conclude(archive, report, facts)
    overview = None if report.overview is None else json.dumps(report.overview)
    found = Split(verdict.outcome, verdict.note_codes, dict(verdict.facts), overview)
    if facts is not None:
        found.log_bytes = facts.plain_bytes
        found.text = text
        found.encoding = "utf8-lossy" if facts.is_lossy else "utf8"
        derived = usage.finish() if usage else None
        found.derived = None if derived is None else json.dumps(derived)
        if text is None:
            found.encoding = "external"
            found.packed = _gzip(archive, facts)
    if verdict.outcome is Outcome.MIGRATED:
        found.snapshot = b"".join(runzip.sanitised(archive))
        runzip.verify_rewritten(found.snapshot, archive, tick=tick)
        found.originals = _originals(archive, report, facts, is_exact=text is None)
    return found


def _time_limit() -> runzip.Tick:
    end = time.process_time() + CPU_SECONDS

    def tick(size: int) -> None:
        if time.process_time() > end:
            raise Refusal(runzip.Reason.ZIP_BOMB, {"cpu_seconds": int(CPU_SECONDS)})

    return tick


def _read(
    reader: runzip.LogReader, usage: runzip.LogUsage | None, *, as_text: bool
) -> bytearray | None:
    """Read the log to its end: its text, or None when only its being whole matters."""
    text = bytearray() if as_text else None
    for chunk in reader.text() if as_text else reader.exact():
        if text is not None:
            text += chunk
        if usage is not None:
            usage.feed(chunk)
    return text


def _salvaged(data: bytes) -> list[Kept]:
    """The whole members of an archive that was cut, as far as time and memory go."""
    limits = replace(runzip.LIMITS, total_bytes=SALVAGED_BYTES)
    kept: list[Kept] = []
    with suppress(Refusal):
        for found in runzip.salvage(data, limits, tick=_time_limit()):
            kind = "log" if found.is_log else "member"
            kept.append(Kept(kind, found.path, found.body))
    return kept


def _gzip(archive: runzip.Archive, facts: runzip.LogFacts) -> logs.Packed:
    """The log as one gzip file: its packed bytes as they are, where gzip knows their method.

    DEFLATE bytes are not copied, since the snapshot they stand in is kept.
    """
    framed = runzip.gzip_frame(archive, facts)
    first_byte = runzip.deflated_at(archive)
    if framed is not None and first_byte is not None:
        digest = hashlib.sha256()
        for piece in framed:
            digest.update(piece)
        size, end = sum(map(len, framed)), bytes(framed[-1])
        return logs.Packed(digest.digest(), size, None, first_byte, end)
    if framed is not None:
        return logs.Packed.of(b"".join(framed))
    assert archive.log is not None
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    packed = bytearray()
    for chunk in runzip.read_member(archive, archive.log):
        packed += packer.compress(chunk)
    return logs.Packed.of(bytes(packed + packer.flush()))


def _originals(
    archive: runzip.Archive,
    report: runzip.MemberReport,
    facts: runzip.LogFacts | None,
    *,
    is_exact: bool,
) -> list[Kept]:
    """What the new row does not hold; a log that is stored exactly needs no second copy.

    The log itself has no path here, which tells it from further files of its name. It is kept
    whatever its size, since its text alone would not give it back; others as far as memory goes.
    """
    room = ORIGINALS_BYTES
    kept: list[Kept] = []
    for found in runzip.originals(archive, report, facts):
        is_log = found.member is archive.log
        size = found.member.entry.plain_size
        if is_exact if is_log else size > min(MEMBER_MAX_BYTES, room):
            continue
        if not is_log:
            room -= size
        body = b"".join(runzip.read_member(archive, found.member))
        kept.append(Kept(found.kind, "" if is_log else found.member.path, body))
    return kept


# --- The job --------------------------------------------------------------------------------


@dataclass
class SnapshotSplit:
    """The job; see `exporter.jobs.job.Job` for what each method promises."""

    log_storage: LogStorage = "text"
    inline_max_bytes: int = logs.INLINE_MAX_BYTES
    objects: Objects | None = None
    inline_total_max_bytes: int = logs.INLINE_TOTAL_MAX_BYTES
    #: Of a cut archive, keep the whole members among the originals.
    salvages: bool = False
    derives_overview: bool = False
    name: str = "snapshots"
    version: int = 1
    is_exclusive: bool = False
    _placement: logs.Placement | None = None
    _table: PlanTable | None = None
    #: Where the search for work stands in this run; None before it began.
    _after: str | None = None
    _is_searched: bool = False

    def table(self, conn: Connection) -> PlanTable:
        """The plan table, looked up once per connection of a run."""
        if self._table is None:
            self._table = plans.find(conn)
        return self._table

    def forget(self) -> None:
        self._table = None

    def placement(self) -> logs.Placement:
        """Where bytes go; one per worker, since it remembers how full the database is."""
        if self._placement is None:
            self._placement = logs.Placement(
                self.objects, self.inline_max_bytes, self.inline_total_max_bytes
            )
        return self._placement

    def prepare(self, conn: Connection) -> None:
        plans.make_index(conn, self.table(conn))
        if self.objects is not None:
            self.objects.check()

    def remaining(self, conn: Connection) -> int:
        row = conn.execute(self.table(conn).fill(QUERIES["remaining"])).fetchone()
        return int(row[0]) if row else 0

    def expected(self, conn: Connection) -> int:
        return self.remaining(conn)

    def claim(self, conn: Connection, lease: Lease, count: int) -> Sequence[Item]:
        while not (items := ledger.claim(conn, lease, count)) and not self._is_searched:
            self._enqueue(conn, lease)
        return items

    def _enqueue(self, conn: Connection, lease: Lease) -> None:
        parameters = {"after": self._after, "count": ENQUEUE, "run_id": lease.run_id}
        statement = self.table(conn).fill(QUERIES["enqueue"])
        row = conn.execute(statement, parameters).fetchone()
        if row is None or row[0] is None:
            self._is_searched = True
        else:
            self._after = str(row[0])

    def is_waiting(self, conn: Connection, lease: Lease) -> bool:
        return ledger.is_leased_elsewhere(conn, lease)

    def pending(self, conn: Connection, after: Item | None, count: int) -> Sequence[Item]:
        parameters = {"after": after.item if after else None, "count": count}
        rows = conn.execute(self.table(conn).fill(QUERIES["pending"]), parameters)
        return [Item(item, generation) for item, generation in rows]

    def read_back(self, conn: Connection, lease: Lease, unit: Item) -> Tally | None:
        return ledger.read_back(conn, lease, unit)

    def preview(self, conn: Connection, unit: Item) -> Tally:
        outcome, data, source = self._read(conn, unit)
        if outcome is not None:
            return Tally({outcome: 1})
        try:
            found = self._split(data, source, self.placement().largest_inside(conn))
        except Refusal as refusal:
            return Tally({refusal.outcome: 1}, source.size)
        size = source.size if found.snapshot is None else found.size
        return Tally({found.outcome: 1}, source.size, size)

    def perform(self, conn: Connection, lease: Lease, unit: Item) -> Tally:
        started = time.monotonic()
        if unit.attempts > MOST_ATTEMPTS:
            return self.refuse(conn, lease, unit, "INTERNAL", {"attempts": unit.attempts})
        outcome, data, source = self._read(conn, unit)
        if outcome is not None:
            return self._skip(conn, lease, unit, outcome)
        largest = self.placement().largest_inside(conn)
        try:
            found = self._split(data, source, largest)
        except Refusal as refusal:
            facts, kept = refusal.facts, None
            if self.salvages and refusal.reason is runzip.Reason.ZIP_TRUNCATED and data:
                kept = Split(refusal.outcome, (), {}, None, originals=_salvaged(data))
                facts = {**facts, "salvaged": len(kept.originals)}
                if self.objects is not None:
                    _put_outside(conn, self.objects, kept, None, largest)
            return self._quarantine(conn, lease, unit, refusal.code, facts, source, kept)
        if self.objects is not None:
            _put_outside(conn, self.objects, found, data, largest)
        # Source and result at once would be the peak of the worker's memory.
        del data
        try:
            return self._write(conn, lease, unit, found, source, started)
        except _Changed:
            return self._skip(conn, lease, unit, Outcome.SKIPPED_CHANGED)

    def refuse(
        self, conn: Connection, lease: Lease, unit: Item, reason: str, facts: Mapping[str, Any]
    ) -> Tally:
        """Into quarantine for a reason that is not in the bytes; their hash is not known here."""
        _, _, source = self._read(conn, unit, most=-1)
        return self._quarantine(conn, lease, unit, reason, facts, source)

    def _read(
        self, conn: Connection, unit: Item, most: int = runzip.LIMITS.archive_bytes
    ) -> tuple[Outcome | None, bytes | None, Source]:
        """The snapshot, or why it is not to be touched; no bytes where there are over `most`."""
        has_ids = conn.info.server_version >= 170000
        statement = QUERIES["read"].format(
            plans=self.table(conn).identifier,
            value_id=QUERIES["value_id" if has_ids else "no_value_id"],
        )
        parameters = {"item": unit.item, "generation": unit.generation, "most": most}
        with conn.cursor(binary=True) as cursor:
            row = cursor.execute(statement, parameters).fetchone()
        if row is None or row[0] or row[1] != unit.generation:
            return Outcome.SKIPPED_CHANGED, None, Source(0)
        if not row[3]:
            return Outcome.SKIPPED_NO_SOURCE, None, Source(0)
        data = row[4]
        digest = hashlib.sha256(data).digest() if data is not None else None
        source = Source(row[3], digest, row[5], row[6], row[7])
        return (Outcome.SKIPPED_BUSY if row[2] else None), data, source

    def _split(self, data: bytes | None, source: Source, largest: int) -> Split:
        if data is None:
            raise Refusal(runzip.Reason.ZIP_BOMB, {"bytes": source.size})
        found = split(data, self.log_storage, largest, self.derives_overview)
        # What a row no longer refers to is collected, and a second reference has no place there.
        if found.packed and source.refers_to_log:
            raise Refusal(runzip.Reason.LOG_STANDS, {"bytes": found.packed.size})
        return found

    def _skip(self, conn: Connection, lease: Lease, unit: Item, outcome: Outcome) -> Tally:
        with conn.transaction():
            ledger.settle(conn, lease, unit, Settled("skipped", outcome))
        return Tally({outcome: 1})

    def _quarantine(
        self, conn: Connection, lease: Lease, unit: Item, reason: str,
        facts: Mapping[str, Any], source: Source, kept: Split | None = None,
    ) -> Tally:  # fmt: skip
        settled = Settled(
            "quarantined", Outcome.QUARANTINED, reason, facts=facts,
            source_bytes=source.size, source_sha256=source.sha256,
        )  # fmt: skip
        with conn.transaction():
            ledger.settle(conn, lease, unit, settled)
            if kept is not None:
                _keep(conn, unit, kept)
        return Tally({Outcome.QUARANTINED: 1}, source.size)

    def _write(
        self, conn: Connection, lease: Lease, unit: Item, found: Split, source: Source,
        started: float,
    ) -> Tally:  # fmt: skip
        """Ledger, originals and row in one transaction. Raises LeaseLost or _Changed."""
        new, size, digest = found.snapshot, source.size, source.sha256
        if new is not None:
            size, digest = len(new), hashlib.sha256(new).digest()
        facts: dict[str, int | None] = dict(found.facts)
        if source.refers_to_log:
            # The row cannot say so any more once it has a text; the way back and later splits ask.
            facts["log_stood"] = source.log_stood
        settled = Settled(
            "done", found.outcome, notes=found.notes, facts=facts,
            source_bytes=source.size, source_sha256=source.sha256, result_bytes=size,
            result_sha256=digest, seconds=time.monotonic() - started,
        )  # fmt: skip
        parameters = {
            "item": unit.item, "generation": unit.generation, "source_bytes": source.size,
            "source_sha256": source.sha256, "value_id": source.value_id,
        }  # fmt: skip
        table = self.table(conn)
        with conn.transaction():
            ledger.settle(conn, lease, unit, settled)
            if conn.execute(_locking(table, source), parameters).fetchone() is None:
                raise _Changed
            if new is not None and not any(kept.kind == "snapshot" for kept in found.originals):
                conn.execute(table.fill(QUERIES["keep_snapshot"]), parameters)
            _keep(conn, unit, found)
            if found.packed is not None:
                _keep_packed(conn, table, parameters, found.packed)
            if new is not None and found.log_bytes is not None:
                conn.execute(QUERIES["keep_text"], parameters)
            _update(conn, table, parameters, found, size)
        return Tally({found.outcome: 1}, source.size, size)


def _locking(table: PlanTable, source: Source) -> sql.Composed:
    """The statement that locks the plan's row if it is still the one that was read."""
    same = "same_hash" if source.value_id is None else "same_value"
    unchanged = QUERIES["unchanged"].format(same_bytes=QUERIES[same])
    return QUERIES["lock"].format(plans=table.identifier, unchanged=unchanged)


def _put_outside(
    conn: Connection, objects: Objects, found: Split, data: bytes | None, largest: int
) -> None:
    """Put what does not stay in the database into the object store, before the transaction."""
    if found.packed is not None and data is not None:
        packed = found.packed.within(data)
        found.ref = logs.put(conn, objects, packed, encoding="gzip", plain_bytes=found.log_bytes)
        found.packed = None
    if found.snapshot is not None and data is not None and len(data) > largest:
        found.originals.append(Kept("snapshot", "", data))
    for kept in found.originals:
        if kept.body is not None and len(kept.body) > largest:
            size = len(kept.body)
            kept.ref = logs.put(conn, objects, kept.body, encoding="identity", plain_bytes=size)
            kept.body = None


def _keep(conn: Connection, unit: Item, found: Split) -> None:
    """Store what leaves the archive, and a log that does not go into the row."""
    for kept in found.originals:
        if kept.ref is not None:
            logs.hold(conn, kept.ref)
        logs.keep_original(
            conn, unit.item, unit.generation, kept.kind, kept.path, kept.body, kept.ref
        )
    if found.packed is not None:
        found.ref = logs.reference(found.packed, found.log_bytes)
    elif found.ref is not None:
        logs.hold(conn, found.ref)


def _keep_packed(
    conn: Connection, table: PlanTable, parameters: Mapping[str, Any], packed: logs.Packed
) -> None:  # fmt: skip
    """Store a packed log in our table; one that the kept snapshot holds, as a part of that."""
    if packed.body is not None:
        logs.keep_packed(conn, packed)
        return
    source = {**parameters, "plan": parameters["item"]}
    if not logs.keep_part(conn, table, packed, source):
        raise _Changed


def _update(
    conn: Connection, table: PlanTable, parameters: Mapping[str, Any], found: Split, size: int
) -> None:
    """Change the plan's row, and look at what the server says it now holds before it counts."""
    name = "write_split" if found.log_bytes is not None else "write_without_log"
    if found.snapshot is None:
        name = "write_clean"
    log = None if found.text is None else logs.Utf8(found.text)
    ref = None if found.ref is None else Jsonb(found.ref)
    values = {
        **parameters, "snapshot": found.snapshot, "overview": found.overview,
        "derived": found.derived,
        "log": log, "log_bytes": found.log_bytes, "encoding": found.encoding, "ref": ref,
    }  # fmt: skip
    logs.accept_utf8(conn)
    packed = QUERIES["packed"] if ref is not None else sql.SQL("")
    statement = QUERIES[name].format(plans=table.identifier, packed=packed)
    with logs.sent_at_once(conn):
        held = conn.execute(statement, values).fetchone()
    is_whole = held is not None and held[0] == size
    if is_whole and found.text is not None:
        held = conn.execute(QUERIES["log_bytes"], parameters).fetchone()
        is_whole = held is not None and held[0] == len(found.text)
    if not is_whole:
        raise ExporterError("the server stored another length than was sent")
