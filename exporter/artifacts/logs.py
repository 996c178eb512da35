"""Where the bytes of a plan are kept that are not in its row as they are.

A raw log is text in its row, or packed (gzip) with a reference in the row; what a job replaced is
an original. Packed logs and originals are in tables of ours, or, with a `Placement` that has an
object store, there as far as they are large.

An object is listed in the table artifact_objects, and that is committed, before it is put; the
transaction that refers to it holds its row of that list until its end and fails when that row
is gone. The collector removes a row and its object while it holds the same row alone, and
asks for references after it has it. So an object that comes into use is either kept or put anew,
however old it is and whatever was still unreferenced when the collector began.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from psycopg.types.json import Jsonb

from exporter.artifacts import plans
from exporter.artifacts.objects import ObjectDiffers, ObjectLost, Objects
from exporter.artifacts.plans import PlanTable
from exporter.core.runzip import GZIP_HEADER
from exporter.db import queries
from exporter.errors import ExporterError, ObjectStoreUnavailable

QUERIES = queries.load(__file__)

#: A log larger than this never goes into the row as text.
INLINE_MAX_BYTES: Final = 32 * 1024 * 1024
#: With an object store: so much of logs and originals is in the database at most, about.
INLINE_TOTAL_MAX_BYTES: Final = 20 * 1024**3
#: Characters of a member's path that are kept: an entry of an index holds no more. Bytes are never
#: lost by it, since different ones have different hashes.
PATH_CHARACTERS: Final = 600
#: Seconds between two looks at how much that is.
MEASURE_SECONDS: Final = 60.0

Connection = psycopg.Connection[Any]
Reference = dict[str, Any]


class Utf8:
    """UTF-8 bytes on their way into a text column, without becoming a str in between."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data


class _Utf8Dumper(Dumper):
    oid = 25  # text
    format = Format.BINARY

    def dump(self, obj: Utf8) -> Buffer:
        return obj.data


def accept_utf8(conn: psycopg.Connection[Any]) -> None:
    """Let cursors made from now on take `Utf8`; one that comes before would send it as hex."""
    conn.adapters.register_dumper(Utf8, _Utf8Dumper)


@contextmanager
def sent_at_once(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Let the driver's library wait for the socket while a large value goes out in the block.

    Otherwise, after every piece that the socket takes, it moves all the rest to the front of its
    buffer, which for a log is most of what sending costs. A signal is seen after the value is out.
    """
    conn.pgconn.nonblocking = 0
    try:
        yield
    finally:
        if not conn.closed:
            conn.pgconn.nonblocking = 1


@dataclass(frozen=True, slots=True)
class Packed:
    """A log as one gzip file, known by the hash of its bytes.

    `first_byte` is where its DEFLATE bytes begin in the snapshot they come from, when they stand
    there as they are; `frame_end` is what follows them, 8 bytes, after a header that is always the
    same. Otherwise `body` has all of it.
    """

    sha256: bytes
    size: int
    body: bytes | None = field(repr=False, default=None)
    first_byte: int = 0
    frame_end: bytes = field(repr=False, default=b"")

    @classmethod
    def of(cls, body: bytes) -> Packed:
        return cls(hashlib.sha256(body).digest(), len(body), body)

    def within(self, snapshot: Buffer) -> bytes:
        """The whole gzip file; `snapshot` is the one it comes from."""
        if self.body is not None:
            return self.body
        size = self.size - len(GZIP_HEADER) - len(self.frame_end)
        part = memoryview(snapshot)[self.first_byte : self.first_byte + size]
        return b"".join((GZIP_HEADER, part, self.frame_end))


def reference(packed: Packed, plain_bytes: int | None) -> Reference:
    """What the row says of a log that is packed in a table of ours."""
    digest = packed.sha256.hex()
    return _reference("table", digest, digest, plain_bytes, "gzip", datetime.now(UTC))


def keep_packed(conn: Connection, packed: Packed) -> None:
    """Store a packed log that has its bytes under its hash; once, however often it comes."""
    assert packed.body is not None
    parameters = {"sha256": packed.sha256, "byte_length": packed.size, "body": packed.body}
    conn.execute(QUERIES["keep_blob"], parameters)


def keep_part(
    conn: Connection, table: PlanTable, packed: Packed, source: Mapping[str, Any]
) -> bool:
    """Store where a packed log stands in the kept snapshot of a plan, inside the transaction.

    `source` names it: plan, generation, source_sha256. False when that snapshot was moved to the
    object store just now: nothing may refer to it any more, and the transaction must not commit.
    """
    parameters = {
        **source, "packed_sha256": packed.sha256, "byte_length": packed.size,
        "first_byte": packed.first_byte, "frame_end": packed.frame_end,
    }  # fmt: skip
    conn.execute(table.fill(QUERIES["keep_part"]), parameters)
    row = conn.execute(QUERIES["is_part_here"], parameters).fetchone()
    return bool(row and row[0])


def packed_bytes(conn: Connection, digest: bytes) -> bytes | None:
    """A packed log of our table as one gzip file, checked; None: it is not there, or not whole."""
    statement = QUERIES["blob"].format(packed_body=QUERIES["packed_body"])
    row = conn.execute(statement, {"sha256": digest}, binary=True).fetchone()
    if row is None or row[0] is None or hashlib.sha256(row[0]).digest() != digest:
        return None
    return bytes(row[0])


def write_out_parts(conn: Connection, original: int) -> None:
    """Inside a transaction: an original is about to leave, and logs in it are to stay."""
    parameters = {"original": original}
    conn.execute(QUERIES["lock_original"], parameters)
    if conn.execute(QUERIES["lock_parts"], parameters).rowcount:
        table = plans.find(conn)
        body = QUERIES["packed_body"]
        statement = QUERIES["write_out_parts"].format(plans=table.identifier, packed_body=body)
        conn.execute(statement, parameters)
        conn.execute(QUERIES["drop_parts"], parameters)


def keep_original(
    conn: Connection, plan: Any, generation: int, kind: str, path: str, body: Buffer | None,
    ref: Reference | None = None,
) -> None:  # fmt: skip
    """Keep exact bytes that the row does not hold: themselves, or a reference to their object.

    `path` is empty for the log itself.
    """
    if body is not None:
        digest, size = hashlib.sha256(body).digest(), len(body)
    else:
        assert ref is not None
        digest, size = bytes.fromhex(ref["sha256"]), ref["bytes"]
    parameters = {
        "plan": plan, "generation": generation, "kind": kind, "path": path[:PATH_CHARACTERS],
        "sha256": digest, "byte_length": size, "body": body,
        "ref": None if ref is None else Jsonb(ref),
    }  # fmt: skip
    conn.execute(QUERIES["keep_original"], parameters)


# --- The object store -----------------------------------------------------------------------


@dataclass(slots=True)
class Placement:
    """What goes to the object store, if there is one: packed logs, and originals that are large.

    Once the database holds about `inline_total_max_bytes` of logs and originals, all of them.
    """

    objects: Objects | None = None
    inline_max_bytes: int | None = None
    inline_total_max_bytes: int = INLINE_TOTAL_MAX_BYTES
    _is_full: bool = False
    _measured: float | None = None

    def largest_inside(self, conn: Connection) -> int:
        """The size up to which bytes stay in the database, now; -1: nothing does.

        Looks at the database once in a while. Workers that look at the same time may exceed the
        total by what they write until they look again.
        """
        limit = INLINE_MAX_BYTES if self.inline_max_bytes is None else self.inline_max_bytes
        if self.objects is None:
            return limit
        now = time.monotonic()
        if self._measured is None or now - self._measured >= MEASURE_SECONDS:
            statement = plans.find(conn).fill(QUERIES["inline_bytes"])
            row = conn.execute(statement).fetchone()
            assert row is not None
            self._is_full = row[0] >= self.inline_total_max_bytes
            self._measured = now
        return -1 if self._is_full else limit


def put(
    conn: Connection, objects: Objects, data: Buffer, *, encoding: str, plain_bytes: int | None
) -> Reference:
    """Store an object and return the reference to it. Outside a transaction.

    Nothing refers to it yet: a transaction that is to do so calls `hold` with the reference.
    """
    digest = hashlib.sha256(data).digest()
    parameters = {
        "store": objects.kind, "sha256": digest, "name": digest.hex(), "byte_length": len(data),
    }  # fmt: skip
    row = conn.execute(QUERIES["list_object"], parameters).fetchone()
    assert row is not None
    key, made = row
    objects.put(key, data)
    return _reference(objects.kind, key, digest.hex(), plain_bytes, encoding, made)


def hold(conn: Connection, ref: Reference) -> None:
    """Inside a transaction that refers to an object: keep it from the collector until its end.

    Raises ObjectStoreUnavailable when it was collected since it was put: put it again.
    """
    if conn.execute(QUERIES["hold_object"], ref).fetchone() is None:
        raise ObjectStoreUnavailable(ref["store"], "an object was collected before it was used")


def fault(conn: Connection, ref: Reference, objects: Objects | None) -> str | None:
    """What is wrong with the bytes that a reference names, as a code; None: nothing."""
    if ref["store"] == "table":
        statement = QUERIES["is_blob_whole"].format(packed_body=QUERIES["packed_body"])
        row = conn.execute(statement, {"key": ref["key"]}).fetchone()
        return "LOG_UNAVAILABLE" if row is None else None if row[0] else "LOG_DIFFERS"
    if objects is None or objects.kind != ref["store"]:
        return "LOG_UNAVAILABLE"
    try:
        objects.verify(ref["key"])
    except ObjectLost:
        return "LOG_UNAVAILABLE"
    except ObjectDiffers:
        return "LOG_DIFFERS"
    return None


def read(ref: Reference, objects: Objects | None, what: str) -> Iterator[bytes]:
    """The stored bytes that a reference to an object names, in chunks.

    All of them are checked before this returns, and again on the way. Raises ExporterError
    (log_unavailable) naming `what` when they are not there or not what they were.
    """
    if objects is None or objects.kind != ref["store"]:
        found = "no object store is configured" if objects is None else f"not {objects.place}"
        raise ExporterError(
            f"log_unavailable: {what} is in an object store of the kind {ref['store']}, {found}",
            hint="name that store with --blob-url or EXPORTER_BLOB_URL",
        )
    key = ref["key"]
    for _ in _checked(objects, key, what):
        pass
    return _checked(objects, key, what)


def _checked(objects: Objects, key: str, what: str) -> Iterator[bytes]:
    try:
        yield from objects.read(key)
    except (ObjectLost, ObjectDiffers) as error:
        state = "is gone" if isinstance(error, ObjectLost) else "does not hold what was stored"
        raise ExporterError(
            f"log_unavailable: {what} cannot be read, its object in {objects.place} {state}",
            hint="put that store back from a backup; the plan is unchanged",
        ) from error


def original(conn: Connection, number: int, objects: Objects | None, plan: UUID) -> bytes | None:
    """The bytes of a kept original wherever they are, checked; None when there is none."""
    row = conn.execute(QUERIES["original"], {"original": number}, binary=True).fetchone()
    if row is None:
        return None
    body, ref, digest = row
    data = body if ref is None else b"".join(read(ref, objects, f"an original of plan {plan}"))
    if hashlib.sha256(data).digest() != bytes(digest):
        raise ExporterError(
            f"log_unavailable: an original of plan {plan} is not what was stored",
            hint="put the database back from a backup",
        )
    return bytes(data)


def _reference(
    store: str, key: str, digest: str, plain_bytes: int | None, encoding: str, made: datetime
) -> Reference:  # fmt: skip
    # Not rounded: together with the key it names one entry of the list of objects.
    created_at = made.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return {
        "store": store, "key": key, "sha256": digest, "bytes": plain_bytes, "encoding": encoding,
        "created_at": created_at,
    }  # fmt: skip
