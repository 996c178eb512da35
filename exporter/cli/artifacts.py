"""``exporter artifacts``: read, check and reset what a run left behind."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import click

from exporter.cli import artifact_admin, artifact_objects, blob_options, render
from exporter.cli.artifact_options import EXAMPLE_ID as _ID
from exporter.cli.artifact_options import output_option as _output
from exporter.cli.artifact_options import plan_argument as _plan
from exporter.cli.artifact_options import purpose_option, require
from exporter.cli.artifact_options import write as _write
from exporter.cli.blob_options import blob_option, inline_option
from exporter.cli.options import Text, Whole, database_option, examples, json_option
from exporter.errors import BadInput, ExitCode, ExporterError
from exporter.settings import Settings


@click.group(epilog=examples(f"exporter artifacts download {_ID} -o run.zip"))
def artifacts() -> None:
    """Read and check what a run left behind."""


@artifacts.command(
    epilog=examples(
        f"exporter artifacts download {_ID} -o run.zip",
        f'exporter artifacts download {_ID} --ticket "$TICKET" -o run.zip',
    )
)
@_plan
@click.option(
    "--file",
    type=click.Choice(("run.zip", "030-report.html")),
    default="run.zip",
    show_default=True,
    help="The snapshot, or the report.",
)
@click.option("--ticket", metavar="TICKET", help='Refuse unless "ticket" printed it for this file.')
@click.option("--user", type=Text(), metavar="USER", help="Refuse unless the plan is this user's.")
@_output
@database_option
def download(
    plan: UUID, file: str, ticket: str | None, user: str | None, output: Path | None,
    settings: Settings,
) -> None:  # fmt: skip
    """Write the snapshot of plan ID as its owner may have it.

    Stored bytes where the log is split off; else the log is cut out on the way. What cannot be
    proven free of the log is refused, and then nothing is written.
    """
    from exporter.artifacts import rows, store, tickets
    from exporter.db.connect import session

    if ticket is not None:
        tickets.check(settings.download_secret, ticket, plan, file, now=time.time())
    with session(settings) as conn:
        if user is not None:
            require(conn, "SELECT", "user_id")
            rows.require_owner(conn, plan, user)
        if file == "run.zip":
            require(conn, "SELECT", "run_zip_snapshot")
            _write(output, store.download(conn, plan))
        else:
            require(conn, "SELECT", "generated_report_html")
            _write(output, [rows.report(conn, plan)])


@artifacts.command(epilog=examples(f"exporter artifacts log {_ID} -o log.jsonl --purpose audit"))
@_plan
@_output
@purpose_option
@blob_option
@database_option
def log(plan: UUID, output: Path | None, purpose: str, settings: Settings) -> None:
    """Write the raw log of plan ID, byte for byte. For administrators; every read is recorded."""
    from exporter.artifacts import store
    from exporter.db.connect import session

    with session(settings) as conn:
        require(conn, "SELECT", "run_track_activity_jsonl", "run_track_activity_ref")
        _write(output, store.read_log(conn, plan, purpose, blob_options.objects(settings)))


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
@click.option("--sample", type=Whole(1), metavar="N", help="Look at N plans; default: 100.")
@click.option("--all", "everything", is_flag=True, help="Look at every split plan.")
@blob_option
@database_option
@json_option
def verify(sample: int | None, everything: bool, settings: Settings, as_json: bool) -> int:
    """Look into split snapshots and prove that none holds the log.

    One that might is demoted, so that it is not served as it is. Packed logs are read to their
    end, in the object store too. Exits with 3 and the list when something was found.
    """
    from exporter.artifacts import store
    from exporter.db.connect import session

    if sample and everything:
        raise BadInput("--sample", "not together with --all", accepted="one of the two")
    with session(settings) as conn:
        count = None if everything else sample or 100
        seen, offenders = store.verify(conn, count, blob_options.objects(settings))
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
@click.option("--generation", type=Whole(0), metavar="N", help="The plan's when the run began.")
@click.option("--keep", is_flag=True, help="Leave the folder where it is.")
@blob_option
@inline_option
@database_option
@json_option
def finalize(
    plan: UUID, folder: Path, generation: int | None, keep: bool, settings: Settings, as_json: bool
) -> int:
    """Store what a run left in RUN_DIR as plan ID's artifacts, then remove the folder.

    Nothing is stored when the plan was reset after the run began. Exits with 3 when there is no
    snapshot that may be served; the folder then stays, since its files are nowhere else.
    """
    from functools import partial

    from exporter.artifacts.finalise import finalise
    from exporter.db.connect import connect, session

    with session(settings):
        run = finalise(
            partial(connect, settings), plan, folder, generation, keep_folder=keep,
            placement=blob_options.placement(settings),
        )  # fmt: skip
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


def _plain(value: object) -> render.Cell:
    return value if isinstance(value, str | int | float | bool) else None


for _command in (*artifact_admin.COMMANDS, *artifact_objects.COMMANDS):
    artifacts.add_command(_command)
