"""The end of a run: its folder becomes a plan's artifacts, and goes.

The log and the snapshot part ways here, so that no later reader has to take them apart. The
folder is removed only after everything of it is committed.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from exporter.artifacts import logs, plans, store
from exporter.artifacts.logs import Placement
from exporter.core import runzip
from exporter.core.runzip import Refusal
from exporter.db import queries
from exporter.errors import ExporterError, ObjectStoreUnavailable

QUERIES = queries.load(__file__)

LOG_NAME, OVERVIEW_NAME = "track_activity.jsonl", "activity_overview.json"
REPORT_NAMES = ("030-report.html", "report.html")
#: Says in the folder of which plan it became part, and how long the log was before that: a commit
#: that was done and not answered is known again by it, also by a later process.
MARK_NAME = ".exporter-finalize.json"
#: Left out of snapshots at any depth, beside everything named like the log.
_LEFT_OUT = frozenset({"log.txt", MARK_NAME})
TRIES = 3
#: What a zip can say of time.
_FIRST_DATE, _LAST_DATE = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)


@dataclass(slots=True)
class Run:
    """What a folder holds. `snapshot` None: there is nothing that may be served."""

    report: str | None = field(repr=False, default=None)
    log: bytes | None = field(repr=False, default=None)
    overview: str | None = field(repr=False, default=None)
    snapshot: bytes | None = field(repr=False, default=None)
    #: Kind, path and bytes of what the row will not hold.
    originals: list[tuple[str, str, bytes]] = field(repr=False, default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Bytes of the plan's log before this run's part; None until an attempt has looked.
    earlier_bytes: int | None = None


def finalise(
    opener: Callable[[], psycopg.Connection[Any]], plan: UUID, folder: Path,
    generation: int | None = None, *, keep_folder: bool = False,
    placement: Placement | None = None,
) -> Run:  # fmt: skip
    """Store what a run left in its folder, then remove the folder; returns what was found.

    The folder stays when not all of it is stored: without a snapshot, its files are nowhere else.
    `generation` is that of the plan when the run began; None takes it as it is now. Raises
    ExporterError when the plan was reset meanwhile (nothing is stored) and when the database or
    the object store refuses three times (the plan is marked failed); the folder then stays.
    """
    with opener() as conn:
        row = conn.execute(plans.find(conn).fill(QUERIES["generation"]), {"plan": plan}).fetchone()
    if row is None:
        raise store.no_artifact(plan, "row")
    generation = row[0] if generation is None else generation
    run = read_folder(folder)
    run.earlier_bytes = _marked(folder, plan, generation)
    placement = placement or Placement()
    for attempt in range(1, TRIES + 1):
        try:
            with opener() as conn:
                log = _whole_log(conn, plan, run, placement)
                _mark(folder, plan, generation, run)
                _store(conn, plan, generation, run, placement, log)
            break
        except ObjectStoreUnavailable:
            if attempt == TRIES:
                _give_up(opener, plan, generation)
                raise
            time.sleep(0.1 * 2**attempt)
        except psycopg.errors.InsufficientPrivilege:
            # Trying again does not help, and the plan did not fail: somebody else may store it.
            raise
        except psycopg.Error as error:
            if attempt == TRIES:
                _give_up(opener, plan, generation)
                raise ExporterError(
                    f"plan {plan} was not finalised: the database refused {TRIES} times"
                    f" (SQLSTATE {error.sqlstate})",
                    hint="the run's folder is still there; run the same command again",
                ) from error
            time.sleep(0.1 * 2**attempt)
    if not keep_folder and run.snapshot is not None and "LOG_READ_ERROR" not in run.notes:
        _remove(plan, folder)
    return run


def _remove(plan: UUID, folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ExporterError(
            f"plan {plan} was finalised, but {folder} could not be removed",
            hint="everything of it is stored; remove it by hand",
        ) from error


# --- Reading --------------------------------------------------------------------------------


def read_folder(folder: Path) -> Run:
    """Read a run's folder; links and special files are not followed. Raises OSError for none."""
    run = Run()
    os.scandir(folder).close()
    try:
        run.log = _plain_file(folder / LOG_NAME)
    except OSError:
        run.notes.append("LOG_READ_ERROR")
    for name in reversed(REPORT_NAMES):
        data = _plain_file(folder / name)
        if data is not None:
            run.report = data.decode("utf-8", "replace").replace("\0", "")
    data = _plain_file(folder / OVERVIEW_NAME)
    if data is not None:
        found = runzip.parse_overview(data)
        run.overview = None if found is None else json.dumps(found)
        if found is None:
            run.notes.append("OVERVIEW_INVALID")
            run.originals.append(("overview", OVERVIEW_NAME, data))
    _snapshot(folder, run)
    return run


def _plain_file(path: Path) -> bytes | None:
    if path.is_symlink() or not path.is_file():
        return None
    return path.read_bytes()


def _snapshot(folder: Path, run: Run) -> None:
    """Build the snapshot and prove that it is free of the log; what fails the proof is dropped."""
    try:
        built = _zip(folder, run)
        runzip.verify(built)
    except Refusal as refusal:
        run.notes.append(refusal.code)
    except (OSError, ValueError):
        run.notes.append("ZIP_FAILED")
    else:
        run.snapshot = built


def _zip(folder: Path, run: Run) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(_files(folder)):
            base = name.rpartition(b"/")[2].decode("utf-8", "replace")
            if base in _LEFT_OUT:
                continue
            text = name.decode("utf-8", "replace")
            if runzip.log_rank(name) is not None:
                if text != LOG_NAME:
                    run.originals.append(("log", text, path.read_bytes()))
                    run.notes.append("MULTI_LOG")
                continue
            stamp = time.gmtime(path.stat().st_mtime)[:6]
            info = zipfile.ZipInfo(text, min(max(stamp, _FIRST_DATE), _LAST_DATE))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, path.read_bytes())
    return out.getvalue()


def _files(folder: Path) -> Iterator[tuple[bytes, Path]]:
    """Names relative to the folder, with "/", of its ordinary files at any depth."""
    for place, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                yield os.fsencode(path.relative_to(folder).as_posix()), path


# --- Writing --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Parts:
    """The log's columns, and what is kept beside the row."""

    columns: dict[str, Any] = field(repr=False)
    packed: logs.Packed | None = None
    originals: list[tuple[str, str, bytes | None, logs.Reference | None]] = field(
        repr=False, default_factory=list
    )
    #: Objects that the row and the originals refer to.
    objects: list[logs.Reference] = field(default_factory=list)


def _store(
    conn: psycopg.Connection[Any], plan: UUID, generation: int, run: Run, placement: Placement,
    log: bytes | None,
) -> None:  # fmt: skip
    """Everything in one transaction; nothing for a plan that was reset since the run began."""
    logs.accept_utf8(conn)
    table = plans.find(conn)
    parts = _parts(conn, run, placement, log)
    values = {
        "plan": plan, "generation": generation, "report": run.report, "snapshot": run.snapshot,
        "overview": run.overview, **parts.columns,
    }  # fmt: skip
    with conn.transaction():
        conn.execute(table.fill(QUERIES["lock"]), values)
        conn.execute(table.fill(QUERIES["keep_replaced"]), values)
        row = conn.execute(table.fill(QUERIES["finalise"]), values).fetchone()
        if row is None:
            raise ExporterError(
                f"STALE_RUN: plan {plan} was reset after this run began, and nothing was stored",
                hint="remove the run's folder by hand",
            )
        if run.snapshot is not None:
            store.record_proven(conn, plan, generation, run.snapshot)
        for ref in parts.objects:
            logs.hold(conn, ref)
        for kind, path, body, ref_or_none in parts.originals:
            logs.keep_original(conn, plan, generation, kind, path, body, ref_or_none)
        if parts.packed is not None:
            logs.keep_packed(conn, parts.packed)


def _parts(
    conn: psycopg.Connection[Any], run: Run, placement: Placement, log: bytes | None
) -> _Parts:  # fmt: skip
    """Decide where everything goes, and put into the object store what goes there."""
    largest, objects = placement.largest_inside(conn), placement.objects
    parts, exact = _log_parts(log, largest)
    if parts.packed is not None and objects is not None and log is not None:
        body = parts.packed.within(b"")
        ref = logs.put(conn, objects, body, encoding="gzip", plain_bytes=len(log))
        parts.packed, parts.columns["ref"] = None, Jsonb(ref)
        parts.objects.append(ref)
    for kind, path, body in [*run.originals, *exact]:
        if objects is None or len(body) <= largest:
            parts.originals.append((kind, path, body, None))
            continue
        ref = logs.put(conn, objects, body, encoding="identity", plain_bytes=len(body))
        parts.originals.append((kind, path, None, ref))
        parts.objects.append(ref)
    return parts


def _whole_log(
    conn: psycopg.Connection[Any], plan: UUID, run: Run, placement: Placement
) -> bytes | None:
    """A resumed run goes on with the log it had: the earlier part first.

    Where this very run was stored by an attempt whose answer was lost, its part is there already.
    What the part is like says nothing: a resumed run may repeat the end of the one before.
    """
    earlier = store.stored_log(conn, plan, placement.objects)
    before = b"" if earlier is None else b"".join(earlier)
    if run.log is None:
        return before or None
    start = run.earlier_bytes
    if start is not None and len(before) == start + len(run.log) and before[start:] == run.log:
        return before
    run.earlier_bytes = len(before)
    return before + run.log


def _marked(folder: Path, plan: UUID, generation: int) -> int | None:
    """What an earlier attempt at the same run of the same plan wrote down in its folder."""
    try:
        mark = json.loads(_plain_file(folder / MARK_NAME) or b"null")
        size = mark["earlier_bytes"]
        is_ours = (mark["plan"], mark["generation"]) == (str(plan), generation)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return size if is_ours and isinstance(size, int) and size >= 0 else None


def _mark(folder: Path, plan: UUID, generation: int, run: Run) -> None:
    """Write down, before anything is stored, what `_marked` reads; a link is replaced.

    Without it (a folder that cannot be written) another process would store the part again, which
    is better than to lose one.
    """
    if run.earlier_bytes is None or run.earlier_bytes == _marked(folder, plan, generation):
        return
    mark = {"plan": str(plan), "generation": generation, "earlier_bytes": run.earlier_bytes}
    with suppress(OSError):
        (folder / MARK_NAME).unlink(missing_ok=True)
        with (folder / MARK_NAME).open("x") as file:
            json.dump(mark, file)


def _log_parts(
    log: bytes | None, largest: int
) -> tuple[_Parts, list[tuple[str, str, bytes]]]:  # fmt: skip
    """The columns of a log, packed when it is larger than `largest`, and its exact bytes if lost.

    A packed log is in the table until it is put elsewhere.
    """
    columns: dict[str, Any] = dict.fromkeys(("log", "log_bytes", "encoding", "ref"))
    if log is None:
        return _Parts(columns), []
    columns["log_bytes"] = len(log)
    if len(log) > largest:
        packed = logs.Packed.of(gzip.compress(log, 6, mtime=0))
        columns |= {"encoding": "external", "ref": Jsonb(logs.reference(packed, len(log)))}
        return _Parts(columns, packed), []
    reader = runzip.LogText()
    text = reader.feed(log) + reader.finish()
    columns |= {"log": logs.Utf8(text), "encoding": "utf8-lossy" if reader.is_lossy else "utf8"}
    return _Parts(columns), [("log", "", log)] if reader.is_lossy else []


def _give_up(
    opener: Callable[[], psycopg.Connection[Any]], plan: UUID, generation: int
) -> None:  # fmt: skip
    """Say on the plan itself that its run could not be stored, if the database takes that."""
    message = "The run ended, but its results could not be stored."
    parameters = {"plan": plan, "generation": generation, "message": message}
    try:
        with opener() as conn:
            conn.execute(plans.find(conn).fill(QUERIES["give_up"]), parameters)
    except (psycopg.Error, ExporterError):
        return
