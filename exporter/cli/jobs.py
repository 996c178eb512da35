"""``exporter jobs``: what jobs did, what they put in quarantine, and the way back."""

from __future__ import annotations

from uuid import UUID

import click

from exporter.cli import render
from exporter.cli.blob_options import blob_option, objects
from exporter.cli.options import Text, Whole, database_option, examples, json_option
from exporter.errors import BadInput, ExitCode, ExporterError, ObjectStoreUnavailable
from exporter.settings import Settings


@click.group(epilog=examples("exporter jobs status", "exporter jobs quarantine"))
def jobs() -> None:
    """Show what jobs did, and their quarantine."""


@jobs.command(epilog=examples("exporter jobs status", "exporter jobs status --json"))
@database_option
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """Show every job: its state, its live workers, and how many rows are where."""
    from exporter.db.connect import session
    from exporter.jobs import ledger

    with session(settings) as conn:
        found = ledger.status(conn)
    if as_json:
        render.print_json(found)
        return
    columns = ("job", "state", "workers", "pending", "leased", "done", "skipped", "quarantined")
    rows = [
        [job["job"], job["state"], job["workers"], *(job["items"].get(c, 0) for c in columns[3:])]
        for job in found
    ]
    render.print_table(columns, rows)


@jobs.command(
    epilog=examples("exporter jobs quarantine", "exporter jobs quarantine ZIP_NOT_ZIP --json")
)
@click.argument("reason", type=Text(), required=False)
@click.option("--limit", type=Whole(1), default=1000, show_default=True, metavar="N")
@database_option
@json_option
def quarantine(reason: str | None, limit: int, settings: Settings, as_json: bool) -> int:
    """List rows that could not be done, with the reason; their bytes are as they were.

    Exits with 3 when there are any.
    """
    from exporter.db.connect import session
    from exporter.jobs import ledger

    with session(settings) as conn:
        found = ledger.quarantined(conn, reason=reason, limit=limit)
    if as_json:
        render.print_json(found)
    else:
        rows = [
            [entry["job"], entry["item"], entry["reason"], _short(entry["facts"])]
            for entry in found
        ]
        render.print_table(("job", "item", "reason", "facts"), rows)
    return ExitCode.FINDINGS if found else ExitCode.DONE


@jobs.command(epilog=examples("exporter jobs retry ZIP_TRUNCATED", "exporter jobs retry RESTORED"))
@click.argument("reason", type=Text())
@database_option
@json_option
def retry(reason: str, settings: Settings, as_json: bool) -> None:
    """Let the next backfill try again what is in quarantine for REASON."""
    from exporter.db.connect import session
    from exporter.jobs import ledger, reasons

    with session(settings) as conn:
        count = ledger.requeue(conn, reason)
    if not count and not reasons.is_known(reason):
        raise BadInput(
            "REASON",
            f"{reason!r} is no reason code, and nothing is in quarantine for it",
            accepted="a reason that 'exporter jobs quarantine' lists, such as ZIP_TRUNCATED",
        )
    if as_json:
        render.print_json({"reason": reason, "requeued": count})
    else:
        render.print_facts([("requeued", count)])


@jobs.command(
    epilog=examples(
        "exporter jobs restore 6f1c1c0e-2f5a-4a6e-9a57-0c3d8f0f3a11", "exporter jobs restore --all"
    )
)
@click.argument("plan", type=click.UUID, metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="Of every plan that nobody changed since.")
@blob_option
@database_option
@json_option
def restore(plan: UUID | None, everything: bool, settings: Settings, as_json: bool) -> int:
    """Put back the snapshot that the backfill replaced in plan ID.

    The plan is then as before its split, and stays so until "exporter jobs retry RESTORED". Each
    plan is a transaction of its own; --all may be stopped and run again, and exits with 3 when a
    plan could not be put back, or its log was purged: that one is put back by its ID alone.
    """
    from exporter.db.connect import session
    from exporter.jobs.restore import restore as restore_snapshot

    if everything == (plan is not None):
        raise BadInput("ID", "one plan or all of them", accepted="ID, or --all")
    if plan is None:
        return _restore_all(settings, as_json)
    with session(settings) as conn:
        found = restore_snapshot(conn, plan, objects(settings))
    if found.unpurges:
        render.note(f"the log of plan {plan} had been purged and is back inside its snapshot")
    if as_json:
        render.print_json({"plan": str(plan), "snapshot_bytes": found.size})
    else:
        render.print_facts([("plan", str(plan)), ("snapshot bytes", found.size)])
    return ExitCode.DONE


def _restore_all(settings: Settings, as_json: bool) -> int:
    from exporter.artifacts import plans
    from exporter.db.connect import session
    from exporter.jobs import ledger
    from exporter.jobs.restore import restore as restore_snapshot

    store = objects(settings)
    facts = {"restored": 0, "left": 0, "snapshot_bytes": 0}
    with session(settings) as conn:
        for plan in ledger.split_plans(conn, plans.find(conn).identifier):
            try:
                found = restore_snapshot(conn, plan, store, unpurges=False)
                facts["snapshot_bytes"] += found.size
                facts["restored"] += 1
            except ObjectStoreUnavailable:
                raise
            except ExporterError as error:
                facts["left"] += 1
                render.note(f"left as it is: {error.message}")
    if as_json:
        render.print_json(facts)
    else:
        render.print_facts([(name.replace("_", " "), count) for name, count in facts.items()])
    return ExitCode.FINDINGS if facts["left"] else ExitCode.DONE


def _short(facts: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(facts.items()))
