"""Run snapshots to look at, as a planning service left them: good, odd and hostile.

    python -m tests.archives.sample_plans

puts them into the plan table of the database that the settings name, each under an id of its own,
as if no backfill had ever seen them. Needs what the program needs, and nothing more.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg.sql import SQL

from exporter.artifacts import plans
from exporter.db import connect
from exporter.settings import load

LOG = "track_activity.jsonl"
OVERVIEW = "activity_overview.json"
#: The same on each run, so that a second demo shows what the first one did.
_FIRST = UUID("5a3e0000-0000-4000-8000-000000000001")


@dataclass(frozen=True)
class Sample:
    """One plan; `expected` is what the backfill makes of it."""

    name: str
    expected: str
    snapshot: bytes
    state: str = "completed"


def samples() -> Iterator[Sample]:
    """All plans, in the order of their ids."""
    yield Sample("a whole run", "MIGRATED", archive())
    yield Sample("another run", "MIGRATED", archive(calls=9))
    yield Sample("a run without a log", "CLEAN", archive(log=None))
    yield Sample("no overview", "MIGRATED", archive(overview=None))
    yield Sample("a second log in a folder", "MIGRATED", archive(**{f"old/{LOG}": log_of(1)}))
    yield Sample("the log twice at one path", "MIGRATED", _twice())
    yield Sample("a NUL byte in the log", "MIGRATED", archive(log=b"torn\0line\n" + log_of(2)))
    yield Sample("a name that climbs out", "MIGRATED", archive(**{"../../etc/motd": b"hello\n"}))
    yield Sample("a comment and bytes behind", "MIGRATED", archive() + b"\n-- appended --\n")
    yield Sample("a run under way", "SKIPPED_BUSY", archive(), "processing")
    yield Sample("an error page instead of a zip", "ZIP_NOT_ZIP", b"<html>502</html>")
    yield Sample("cut on the way", "ZIP_TRUNCATED", archive()[:-40])
    yield Sample("a broken log", "LOG_CORRUPT", _broken())
    yield Sample("a log under another name", "ZIP_HEADER_MISMATCH", _disguised())
    yield Sample(
        "a run inside the run", "NESTED_ARCHIVE", archive(log=None, **{"inner.zip": archive()})
    )
    yield Sample("fifty million zeros", "ZIP_BOMB", archive(log=bytes(50_000_000)))


def plan_id(number: int) -> UUID:
    return UUID(int=_FIRST.int + number)


# --- Archives -------------------------------------------------------------------------------


def archive(
    *, calls: int = 4, log: bytes | None = b"", overview: bytes | None = b"", **more: bytes
) -> bytes:
    """A snapshot; an empty log or overview stands for one of so many calls."""
    files = {
        "start_time.json": b'{"server_iso_utc": "2026-03-02T08:30:00Z"}',
        "plan.txt": b"Plant a kelp forest on the north shore.\n",
        "030-report.html": b"<html><body><h1>Kelp forest</h1></body></html>\n" * 40,
    }
    if overview is not None:
        files[OVERVIEW] = overview or overview_of(calls)
    if log is not None:
        files[LOG] = log or log_of(calls)
    return _zip([*files.items(), *more.items()])


def _zip(files: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made, warnings.catch_warnings():
        # A name given twice is meant.
        warnings.simplefilter("ignore")
        for name, data in files:
            info = zipfile.ZipInfo(name, (2026, 3, 2, 8, 30, 0))
            info.compress_type = method
            info.external_attr = 0o100644 << 16
            made.writestr(info, data)
    return out.getvalue()


def log_of(calls: int) -> bytes:
    """Lines as the service writes them: prompt, answer and what they used."""
    lines = []
    for number in range(calls):
        usage = {"input_tokens": 900 + number, "output_tokens": 120, "total_tokens": 1020 + number,
                 "raw_usage_data": {"cost": 0.0025}}  # fmt: skip
        raw = {"model": "heron-2-large", "provider": "Heron"}
        data = {"messages": [f"draft step {number}"] * 30, "response": {"raw": raw}}
        event = {"timestamp": f"2026-03-02T08:3{number % 10}:00", "event_data": data}
        lines.append(json.dumps({**event, "event_type": "LLMChatStartEvent"}))
        ended = {**event, "event_type": "LLMChatEndEvent", "token_usage": usage}
        lines.append(json.dumps(ended))
    return "".join(f"{line}\n" for line in lines).encode()


def overview_of(calls: int) -> bytes:
    tokens = {"input_tokens": 900 * calls, "output_tokens": 120 * calls, "thinking_tokens": 0}
    total = 1020 * calls
    cost = round(0.0025 * calls, 4)
    model = {"calls": calls, "total_cost": cost, "total_tokens": total, **tokens}
    found = {
        "last_updated": "2026-03-02T08:39:00.000000", "models": {"Heron:heron-2-large": model},
        "total_cost": cost, "total_tokens": total,
        **{f"total_{name}": value for name, value in tokens.items()},
    }  # fmt: skip
    return json.dumps(found, indent=2, sort_keys=True).encode()


def _twice() -> bytes:
    return _zip([("plan.txt", b"plan\n"), (LOG, log_of(1)), (LOG, log_of(3))])


def _broken() -> bytes:
    """A byte of the log is another one, and its checksum says so."""
    whole = _zip([("plan.txt", b"plan\n"), (LOG, log_of(2))], zipfile.ZIP_STORED)
    return whole.replace(b"draft step 1", b"draft step l", 1)


def _disguised() -> bytes:
    """The directory lists a harmless name in front of the log's own header."""
    whole = archive()
    at = whole.rindex(LOG.encode())
    return whole[:at] + b"notes_on_work.jsonl."[: len(LOG)] + whole[at + len(LOG) :]


# --- Storing --------------------------------------------------------------------------------


def store(conn: psycopg.Connection[object]) -> list[UUID]:
    """Put all plans into the plan table, as new ones; returns their ids."""
    table = plans.find(conn)
    made = list(samples())
    ids = [plan_id(number) for number in range(len(made))]
    with conn.transaction():
        conn.execute(
            "DELETE FROM job_items WHERE job = 'snapshots' AND item = ANY(%s)",
            [list(map(str, ids))],
        )
        conn.execute("DELETE FROM artifact_originals WHERE plan_id = ANY(%s)", [ids])
        conn.execute(table.fill(SQL("DELETE FROM {plans} WHERE id = ANY(%s)")), [ids])
        for plan, sample in zip(ids, made, strict=True):
            conn.execute(
                table.fill(SQL(
                    "INSERT INTO {plans} (id, state, prompt, timestamp_created, run_zip_snapshot)"
                    " VALUES (%s, %s, %s, now(), %s)"
                )),
                [plan, sample.state, sample.name, sample.snapshot],
            )  # fmt: skip
    return ids


def main() -> None:
    with connect.session(load(None)) as conn:
        ids = store(conn)
    for plan, sample in zip(ids, samples(), strict=True):
        print(f"{plan}  {sample.name}")


if __name__ == "__main__":
    main()
