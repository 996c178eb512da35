"""Kept originals for an administrator: which there are, and the bytes of one, on the record."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

from exporter.artifacts import logs
from exporter.artifacts.objects import Objects
from exporter.db import queries
from exporter.errors import ExporterError

QUERIES = queries.load(__file__)

Connection = psycopg.Connection[Any]

FACTS = ("original", "generation", "kind", "member", "bytes", "sha256", "kept_at")


def listed(conn: Connection, plan: UUID) -> list[dict[str, Any]]:
    """The originals of a plan, oldest first, each as `FACTS`; their bytes are not read."""
    return [
        dict(zip(FACTS, (*row[:6], row[6].isoformat()), strict=True))
        for row in conn.execute(QUERIES["list"], {"plan": plan})
    ]


def read(
    conn: Connection, original: int, purpose: str, objects: Objects | None = None
) -> bytes:  # fmt: skip
    """The exact bytes of one original; the read is recorded before they are returned.

    Raises ExporterError when there is none, or when it is not what was stored.
    """
    row = conn.execute(QUERIES["one"], {"original": original}).fetchone()
    if row is None:
        raise ExporterError(
            f"there is no original {original}", hint="'exporter artifacts originals ID' lists them"
        )
    plan, kind, size = row
    data = logs.original(conn, original, objects, plan)
    if data is None:
        raise ExporterError(f"original {original} of plan {plan} was removed just now")
    audit = {"plan": plan, "kind": f"original {kind}", "bytes": size, "purpose": purpose}
    conn.execute(QUERIES["audit"], audit)
    return data
