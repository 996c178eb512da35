"""``exporter artifacts collect`` and ``move``: what is kept in the object store, and what goes."""

from __future__ import annotations

import click

from exporter.cli import render
from exporter.cli.blob_options import (
    blob_option,
    inline_max_bytes,
    inline_option,
    needed_objects,
    objects,
)
from exporter.cli.options import Number, database_option, examples, json_option
from exporter.errors import ExitCode
from exporter.settings import Settings


@click.command(
    epilog=examples(
        "exporter artifacts collect --dry-run",
        "exporter artifacts collect --blob-url s3://BUCKET/exporter --older-than 72",
    )
)
@click.option(
    "--older-than",
    type=Number(0, 24 * 36_500),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Leave alone what was put more recently.",
)
@click.option("--dry-run", is_flag=True, help="Count; remove nothing.")
@blob_option
@database_option
@json_option
def collect(older_than: float, dry_run: bool, settings: Settings, as_json: bool) -> None:
    """Remove packed logs and objects that no plan and no original refers to any more.

    Resets, purges and runs that broke off leave them behind. Only objects of this database are
    looked at; a copy of the database needs an object store of its own.
    """
    from exporter.artifacts.collect import collect as remove
    from exporter.db.connect import session

    store = objects(settings)
    with session(settings) as conn:
        found = remove(conn, store, older_than=older_than, is_dry_run=dry_run)
    facts: dict[str, render.Cell] = {
        "dry_run": dry_run, "older_than_hours": older_than, "objects": found.objects,
        "blobs": found.blobs, "bytes": found.size,
    }  # fmt: skip
    if as_json:
        render.print_json(facts)
    else:
        render.print_facts([(name.replace("_", " "), value) for name, value in facts.items()])


@click.command(
    epilog=examples(
        "exporter artifacts move --to store --blob-url /srv/objects",
        "exporter artifacts move --to database",
    )
)
@click.option(
    "--to",
    "target",
    type=click.Choice(("store", "database")),
    required=True,
    help="Where they are to be.",
)
@blob_option
@inline_option
@database_option
@json_option
def move(target: str, settings: Settings, as_json: bool) -> int:
    """Move packed logs and large originals into the object store, or back into the database.

    Safe to kill and to run again. What is left behind goes with "exporter artifacts collect".
    Exits with 3 when something could not be read; it then stays as it is.
    """
    from exporter.artifacts.move import Target
    from exporter.artifacts.move import move as carry
    from exporter.db.connect import session

    store = needed_objects(settings)
    with session(settings) as conn:
        place: Target = "store" if target == "store" else "database"
        found = carry(conn, place, store, inline_max_bytes(settings))
    facts: dict[str, render.Cell] = {
        "to": target, "logs": found.logs, "originals": found.originals, "bytes": found.size,
        "unavailable": found.unavailable,
    }  # fmt: skip
    if as_json:
        render.print_json(facts)
    else:
        render.print_facts(list(facts.items()))
    return ExitCode.FINDINGS if found.unavailable else ExitCode.DONE


COMMANDS = (collect, move)
