"""Commands of ``exporter artifacts`` for who keeps plans: rows, uploads, purges, tickets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from exporter.cli import render
from exporter.cli.artifact_options import (
    EXAMPLE_ID,
    output_option,
    plan_argument,
    purpose_option,
    require,
    write,
)
from exporter.cli.blob_options import blob_option, inline_option, objects, placement
from exporter.cli.options import Text, Whole, database_option, examples, json_option
from exporter.errors import BadInput, ExitCode
from exporter.settings import Settings

#: A longer text is cut where people read it; --json has all of it.
_SHOWN_CHARACTERS = 200
_FILES = ("run.zip", "030-report.html")


@click.command(
    epilog=examples(
        f"exporter artifacts show {EXAMPLE_ID} --json",
        f"exporter artifacts show {EXAMPLE_ID} --field has_run_zip_snapshot",
    )
)
@plan_argument
@click.option(
    "--field", "fields", type=Text(), multiple=True, metavar="NAME", help="Only this; repeatable."
)
@database_option
@json_option
def show(plan: UUID, fields: tuple[str, ...], settings: Settings, as_json: bool) -> None:
    """Show the columns of plan ID that may be shown.

    Of the snapshot and the raw log only whether they are there and how long they are: they are
    never read for this, and asking for one by name is an error.
    """
    from exporter.artifacts import rows
    from exporter.db.connect import session

    with session(settings) as conn:
        found = rows.show(conn, plan, fields)
    if as_json:
        render.print_row(found.fields)
    else:
        render.print_facts([(name, _cell(value)) for name, value in found.fields.items()])
    if found.withheld:
        render.note("not shown, since this database role may not: " + ", ".join(found.withheld))


@click.command(epilog=examples(f"exporter artifacts ticket {EXAMPLE_ID} run.zip --seconds 60"))
@plan_argument
@click.argument("file", metavar="FILE", type=click.Choice(_FILES))
@click.option(
    "--seconds",
    type=Whole(1, 86_400),
    default=900,
    show_default=True,
    metavar="N",
    help="How long it runs.",
)
@json_option
def ticket(plan: UUID, file: str, seconds: int, as_json: bool) -> None:
    """Print a ticket, with which "download --ticket" gives out FILE of plan ID for a while.

    FILE is run.zip or 030-report.html. Signed with EXPORTER_DOWNLOAD_SECRET; no database is opened.
    """
    from exporter.artifacts import tickets
    from exporter.settings import load

    now = time.time()
    made = tickets.issue(load().download_secret, plan, file, now=now, lifetime=seconds)
    if as_json:
        render.print_json({"ticket": made, "plan": str(plan), "file": file, "seconds": seconds})
    else:
        click.echo(made)


@click.command(epilog=examples(f"exporter artifacts put {EXAMPLE_ID} repaired.zip"))
@plan_argument
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@blob_option
@inline_option
@database_option
@json_option
def put(plan: UUID, file: Path, settings: Settings, as_json: bool) -> None:
    """Make FILE the snapshot of plan ID, if it is proven free of the log. For administrators.

    The snapshot that it replaces is kept, in the object store where it is large; report, log and
    overview stay. A file that may hold the log, that can be read in two ways, or that has links or
    names that lead out of its folder, is refused and nothing is stored.
    """
    from exporter.artifacts.upload import put as put_snapshot
    from exporter.core.runzip import LIMITS
    from exporter.db.connect import session

    # A pipe or a device does not say how much it will give.
    with file.open("rb") as source:
        data = source.read(LIMITS.archive_bytes + 1)
    if len(data) > LIMITS.archive_bytes:
        accepted = f"at most {LIMITS.archive_bytes:,} bytes"
        raise BadInput("FILE", f"{file.name} is too large", accepted=accepted)
    with session(settings) as conn:
        require(conn, "UPDATE", "run_zip_snapshot", "run_generation")
        generation = put_snapshot(conn, plan, data, placement(settings))
    if as_json:
        render.print_json({"plan": str(plan), "generation": generation})
    else:
        render.print_facts([("plan", str(plan)), ("generation", generation)])


@click.command(epilog=examples("exporter artifacts purge --keep 100 --dry-run"))
@click.option(
    "--keep",
    type=click.Choice(("10", "25", "50", "100", "250", "500")),
    default="50",
    show_default=True,
    help="How many of the newest logs stay.",
)
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@database_option
@json_option
def purge(keep: str, dry_run: bool, settings: Settings, as_json: bool) -> int:
    """Remove the raw logs of all plans but the newest; all else of the plans stays.

    Legacy plans are left as they are, since their log may be inside the snapshot too. Exits with 3
    when one of them is among the old: run "exporter backfill snapshots" first.
    """
    from exporter.artifacts.purge import purge as purge_logs
    from exporter.db.connect import session

    with session(settings) as conn:
        require(conn, "UPDATE", "run_track_activity_jsonl")
        found = purge_logs(conn, int(keep), is_dry_run=dry_run)
    facts: dict[str, render.Cell] = {
        "dry_run": dry_run, "purged": found.purged, "busy": found.busy,
        "legacy_left": found.legacy, "legacy_plans": found.unsplit,
    }  # fmt: skip
    if as_json:
        render.print_json(facts)
    else:
        render.print_facts([(name.replace("_", " "), value) for name, value in facts.items()])
    return ExitCode.FINDINGS if found.legacy else ExitCode.DONE


@click.command(epilog=examples(f"exporter artifacts originals {EXAMPLE_ID}"))
@plan_argument
@database_option
@json_option
def originals(plan: UUID, settings: Settings, as_json: bool) -> None:
    """List the originals that are kept of plan ID, without their bytes. For administrators."""
    from exporter.artifacts.originals import FACTS, listed
    from exporter.db.connect import session

    with session(settings) as conn:
        found = listed(conn, plan)
    if as_json:
        render.print_json(found)
    else:
        render.print_table(FACTS, [[one[name] for name in FACTS] for one in found])


@click.command(epilog=examples("exporter artifacts original 17 -o before.zip --purpose repair"))
@click.argument("number", type=Whole(1), metavar="NUMBER")
@output_option
@purpose_option
@blob_option
@database_option
def original(number: int, output: Path | None, purpose: str, settings: Settings) -> None:
    """Write original NUMBER, byte for byte. For administrators; every read is recorded."""
    from exporter.artifacts.originals import read
    from exporter.db.connect import session

    with session(settings) as conn:
        write(output, [read(conn, number, purpose, objects(settings))])


COMMANDS = (show, ticket, put, purge, originals, original)


def _cell(value: Any) -> render.Cell:
    """A value of the row on one line, cut where it is long."""
    if value is None or isinstance(value, bool):
        return value
    text = render.column_text(value)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}... ({len(text):,} characters)"
