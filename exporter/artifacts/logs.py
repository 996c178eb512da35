"""How a raw log is stored: as text in its row, or packed in a table of ours with a reference."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from psycopg.types.json import Jsonb

from exporter.db import queries

QUERIES = queries.load(__file__)

#: A log larger than this never goes into the row as text.
INLINE_MAX_BYTES: Final = 32 * 1024 * 1024


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


def reference(packed: bytes, plain_bytes: int | None) -> Jsonb:
    """What the row says of a log that is packed elsewhere."""
    digest = hashlib.sha256(packed).hexdigest()
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Jsonb(
        {"store": "table", "key": digest, "sha256": digest, "bytes": plain_bytes,
         "encoding": "gzip", "created_at": made}
    )  # fmt: skip


def keep_blob(conn: psycopg.Connection[Any], packed: bytes) -> None:
    """Store a packed log under its hash; once, however often it comes."""
    digest = hashlib.sha256(packed).digest()
    parameters = {"sha256": digest, "byte_length": len(packed), "body": packed}
    conn.execute(QUERIES["keep_blob"], parameters)


def keep_original(
    conn: psycopg.Connection[Any], plan: Any, generation: int, kind: str, path: str, body: bytes
) -> None:
    """Keep exact bytes that the row does not hold; `path` is empty for the log itself."""
    parameters = {
        "plan": plan, "generation": generation, "kind": kind, "path": path,
        "sha256": hashlib.sha256(body).digest(), "byte_length": len(body), "body": body,
    }  # fmt: skip
    conn.execute(QUERIES["keep_original"], parameters)
