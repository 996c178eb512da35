"""``exporter artifacts``: read, check and reset what a run left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import click

from exporter.cli import render
from exporter.cli.options import database_option, examples, json_option
from exporter.errors import BadInput, ExitCode, ExporterError
from exporter.settings import Settings

_ID = "6f1c1c0e-2f5a-4a6e-9a57-0c3d8f0f3a11"

_plan = click.argument("plan", type=click.UUID, metavar="ID")
_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write; default: stdout, unless it is a terminal.",
)


@click.group(epilog=examples(f"exporter artifacts download {_ID} -o run.zip"))
def artifacts() -> None:
    """Read and check what a run left behind."""


@artifacts.command(epilog=examples(f"exporter artifacts download {_ID} -o run.zip"))
@_plan
@_output
@database_option
def download(plan: UUID, output: Path | None, settings: Settings) -> None:
    """Write the snapshot of plan ID as its owner may have it.

    Stored bytes where the log is split off; else the log is cut out on the way. What cannot be
    proven free of the log is refused, and then nothing is written.
    """
    from exporter.artifacts import store
    from exporter.db.connect import session

    with session(settings) as conn:
        _write(output, [bytes(part) for part in store.download(conn, plan)])


@artifacts.command(epilog=examples(f"exporter artifacts log {_ID} -o log.jsonl --purpose audit"))
@_plan
@_output
@click.option("--purpose", default="", metavar="TEXT", help="Kept with the record of this read.")
@database_option
def log(plan: UUID, output: Path | None, purpose: str, settings: Settings) -> None:
    """Write the raw log of plan ID, byte for byte. For administrators; every read is recorded."""
    from exporter.artifacts import store
    from exporter.db.connect import session

    with session(settings) as conn:
        _write(output, store.read_log(conn, plan, purpose))


@artifacts.command(epilog=examples(f"exporter artifacts overview {_ID} --json"))
@_plan
@database_option
@json_option
def overview(plan: UUID, settings: Settings, as_json: bool) -> None:
    """Show what plan ID cost, per model; what is not known is "-", not 0."""
    from exporter.artifacts import store
    from exporter.db.connect import session

    with session(settings) as conn:
        found = store.overview(conn, plan)
    if as_json:
        render.print_json(found)
        return
    models = found.pop("models")
    render.print_facts([(name.replace("_", " "), _plain(value)) for name, value in found.items()])
    if models:
        columns = tuple(models[0])
        render.print_table(columns, [[_plain(model[name]) for name in columns] for model in models])


@artifacts.command(epilog=examples("exporter artifacts verify --all", "exporter artifacts verify"))
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Look at N plans; default: 100."
)
@click.option("--all", "everything", is_flag=True, help="Look at every split plan.")
@database_option
@json_option
def verify(sample: int | None, everything: bool, settings: Settings, as_json: bool) -> int:
    """Look into split snapshots and prove that none holds the log.

    One that might is demoted, so that it is not served as it is. Exits with 3 and the list when
    something was found.
    """
    from exporter.artifacts import store
    from exporter.db.connect import session

    if sample and everything:
        raise BadInput("--sample", "not together with --all", accepted="one of the two")
    with session(settings) as conn:
        seen, offenders = store.verify(conn, None if everything else sample or 100)
    columns = ("plan", "reason", "demoted")
    rows: list[list[render.Cell]] = [
        [str(one.plan), one.reason, one.is_demoted] for one in offenders
    ]
    if as_json:
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        render.print_json({"verified": seen, "offenders": found})
    else:
        render.print_facts([("verified", seen), ("offenders", len(rows))])
        if rows:
            render.print_table(columns, rows)
    return ExitCode.FINDINGS if rows else ExitCode.DONE


@artifacts.command(epilog=examples(f"exporter artifacts finalize {_ID} /srv/runs/run-7"))
@_plan
@click.argument(
    "folder", metavar="RUN_DIR", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option(
    "--generation", type=click.IntRange(0), metavar="N", help="The plan's when the run began."
)
@click.option("--keep", is_flag=True, help="Leave the folder where it is.")
@database_option
@json_option
def finalize(
    plan: UUID, folder: Path, generation: int | None, keep: bool, settings: Settings, as_json: bool
) -> int:
    """Store what a run left in RUN_DIR as plan ID's artifacts, then remove the folder.

    Nothing is stored when the plan was reset after the run began. Exits with 3 when there is no
    snapshot that may be served.
    """
    from functools import partial

    from exporter.artifacts.finalise import finalise
    from exporter.db.connect import connect, session

    with session(settings):
        run = finalise(partial(connect, settings), plan, folder, generation, keep_folder=keep)
    size = None if run.snapshot is None else len(run.snapshot)
    if as_json:
        render.print_json({"plan": str(plan), "snapshot_bytes": size, "notes": run.notes})
    else:
        notes = " ".join(run.notes) or None
        render.print_facts([("plan", str(plan)), ("snapshot bytes", size), ("notes", notes)])
    return ExitCode.FINDINGS if size is None else ExitCode.DONE


@artifacts.command(epilog=examples(f"exporter artifacts reset {_ID}"))
@_plan
@database_option
@json_option
def reset(plan: UUID, settings: Settings, as_json: bool) -> None:
    """Start plan ID over: everything its last run left is cleared. Failed or stopped plans only."""
    from exporter.artifacts import store
    from exporter.db.connect import session

    with session(settings) as conn:
        generation = store.reset(conn, plan)
    if as_json:
        render.print_json({"plan": str(plan), "generation": generation})
    else:
        render.print_facts([("plan", str(plan)), ("generation", generation)])


@artifacts.command(epilog=examples("exporter artifacts cutover"))
@database_option
@json_option
def cutover(settings: Settings, as_json: bool) -> None:
    """Make legacy snapshots unavailable for good, once none is left.

    Refuses, with the counts, while legacy or quarantined plans remain.
    """
    from exporter.artifacts import store
    from exporter.db.connect import session

    with session(settings) as conn:
        legacy, quarantined = store.cut_over(conn)
    if legacy or quarantined:
        raise ExporterError(
            f"no cutover: {legacy} legacy and {quarantined} quarantined plans remain",
            hint="run 'exporter backfill snapshots', then see 'exporter jobs quarantine'",
        )
    if as_json:
        render.print_json({"cutover": True})
    else:
        render.print_facts([("cutover", True)])


def _write(output: Path | None, parts: Iterable[bytes]) -> None:
    """To a file, which appears whole or not at all, or to stdout."""
    if output is None:
        if sys.stdout.isatty():
            raise BadInput("--output", "stdout is a terminal", accepted="-o FILE")
        _write_parts(sys.stdout.buffer, parts)
        return
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        # For the owner only: it may be the raw log.
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            _write_parts(out, parts)
        partial.replace(output)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _write_parts(out: BinaryIO, parts: Iterable[bytes]) -> None:
    for part in parts:
        out.write(part)


def _plain(value: object) -> render.Cell:
    return value if isinstance(value, str | int | float | bool) else None
