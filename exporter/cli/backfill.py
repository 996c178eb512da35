"""``exporter backfill``: the jobs that bring old rows into today's shape."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from exporter.cli import backfill_view, blob_options, render
from exporter.cli.blob_options import blob_option, inline_option
from exporter.cli.options import (
    Number,
    Whole,
    database_option,
    examples,
    json_option,
    quiet_option,
)
from exporter.errors import ExitCode
from exporter.settings import Settings

if TYPE_CHECKING:
    from exporter.jobs.job import Job
    from exporter.jobs.runner import Options, Summary

#: Every job, in the order in which they run when none is named.
JOBS = ("snapshots", "remotes")
_MB = 1_000_000


@click.command(
    epilog=examples(
        "exporter backfill --dry-run",
        "exporter backfill snapshots --workers 2 --max-mb-per-second 50",
        "exporter backfill remotes --json",
    )
)
@click.argument("job", required=False, type=click.Choice(JOBS))
@click.option("--limit", type=Whole(1), metavar="N", help="Stop after N rows.")
@click.option("--batch-size", type=Whole(1, 100_000), metavar="N", help="Claim N rows at most.")
@click.option(
    "--workers",
    type=Whole(1, 64),
    default=1,
    show_default=True,
    help="Processes; only 1 with --dry-run.",
)
@click.option("--dry-run", is_flag=True, help="Do everything except write; print the counts.")
@click.option("--max-rows-per-second", type=Number(0, min_open=True), metavar="X", help="Limit.")
@click.option("--max-mb-per-second", type=Number(0, min_open=True), metavar="X", help="Limit.")
@click.option(
    "--pause-ms",
    type=Number(0),
    metavar="N",
    help="Rest N milliseconds after each row.",
)
@click.option(
    "--max-replication-lag",
    type=Number(0),
    metavar="S",
    help="Wait while a standby is S seconds behind.",
)
@click.option(
    "--share",
    type=Number(0, 1, min_open=True),
    default=0.4,
    show_default=True,
    metavar="X",
    help="Part of each second that a worker may be at work; 1 where nobody waits for the server.",
)
@click.option(
    "--log-storage",
    type=click.Choice(("text", "compact")),
    default="text",
    show_default=True,
    help="Where a log goes: text in its row, or packed in a table of ours or the object store.",
)
@click.option(
    "--derive-overview",
    is_flag=True,
    help="Where a run left no overview, add one up from its log.",
)
@click.option(
    "--salvage",
    is_flag=True,
    help="Keep the whole members of an archive that was cut; it stays in quarantine.",
)
@blob_option
@inline_option
@database_option
@json_option
@quiet_option
def backfill(
    job: str | None, limit: int | None, batch_size: int | None, workers: int, dry_run: bool,
    max_rows_per_second: float | None, max_mb_per_second: float | None,
    pause_ms: float | None, max_replication_lag: float | None, share: float, log_storage: str,
    derive_overview: bool, salvage: bool, settings: Settings, as_json: bool, quiet: bool,
) -> int:  # fmt: skip
    """Run JOB (default: all, in order): snapshots takes the secret log out of run snapshots,
    remotes takes credentials out of git remotes.

    Safe to stop and to kill at any moment and to run in several places at once; run it again to
    go on. Rows that cannot be done go to quarantine, untouched: see "exporter jobs quarantine".
    """
    from exporter.jobs.runner import Options

    rate = None if max_mb_per_second is None else max_mb_per_second * _MB
    options = Options(
        limit, batch_size, workers, dry_run, max_rows_per_second, rate, share,
        max_replication_lag, (pause_ms or 0.0) / 1000,
    )  # fmt: skip
    summaries = [
        _run(
            _job(name, settings, log_storage, derive_overview, salvage),
            settings, options, as_json, quiet,
        )
        for name in ([job] if job else JOBS)
    ]  # fmt: skip
    found = any(summary.tally.outcomes.get("QUARANTINED") for summary in summaries)
    return ExitCode.FINDINGS if found else ExitCode.DONE


def _job(
    name: str, settings: Settings, log_storage: str, derive_overview: bool, salvage: bool
) -> Job:  # fmt: skip
    if name == "remotes":
        from exporter.jobs.remote_scrub import RemoteScrub

        return RemoteScrub()
    from exporter.jobs.snapshot_split import SnapshotSplit

    place = blob_options.placement(settings)
    return SnapshotSplit(
        "compact" if log_storage == "compact" else "text", objects=place.objects,
        inline_max_bytes=blob_options.inline_max_bytes(settings),
        inline_total_max_bytes=place.inline_total_max_bytes,
        salvages=salvage, derives_overview=derive_overview,
    )  # fmt: skip


def _run(
    job: Job, settings: Settings, options: Options, as_json: bool, quiet: bool
) -> Summary:  # fmt: skip
    from exporter.db.connect import connect, session, translated
    from exporter.jobs.runner import run

    with session(settings):
        pass  # refuses a schema that is not at head
    opener = partial(connect, settings, application_name=f"exporter backfill {job.name}")
    with (
        backfill_view.watched(as_json=as_json, quiet=quiet) as view,
        translated(settings.place),
    ):
        summary = run(job, opener, options, view)
    facts = {"event": "summary", **_facts(summary, options.is_dry_run)}
    if as_json:
        render.print_json(facts)
    else:
        outcomes = facts.pop("outcomes")
        render.print_facts([*list(facts.items())[1:], *outcomes.items()])
        # For scripts: one line, no separators of digits, the same names as in JSON.
        sys.stdout.write(backfill_view.line({**facts, **outcomes}) + "\n")
    return summary


def _facts(summary: Summary, is_dry_run: bool) -> dict[str, Any]:
    tally = summary.tally
    return {
        "job": summary.job,
        "dry_run": is_dry_run,
        "run": summary.run_id,
        "rows": tally.rows,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "bytes_in": tally.bytes_in,
        "bytes_out": tally.bytes_out,
        "remaining": summary.remaining,
        "finished": summary.is_finished,
        "seconds": round(summary.seconds, 3),
    }
