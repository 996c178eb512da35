"""``exporter backfill``: the jobs that bring old rows into today's shape."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from exporter.cli import render
from exporter.cli.options import database_option, examples, json_option, quiet_option
from exporter.errors import ExitCode
from exporter.progress import Progress
from exporter.settings import Settings

if TYPE_CHECKING:
    from exporter.jobs.job import Job, Tally
    from exporter.jobs.runner import Options, Summary

#: Every job, in the order in which they run when none is named.
JOBS = ("snapshots", "remotes")
#: Seconds between two lines of progress where nobody watches a bar.
INTERVAL_SECONDS = 10.0
_MB = 1_000_000


@click.command(
    epilog=examples(
        "exporter backfill --dry-run",
        "exporter backfill snapshots --workers 2 --max-mb-per-second 50",
        "exporter backfill remotes --json",
    )
)
@click.argument("job", required=False, type=click.Choice(JOBS))
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N rows.")
@click.option(
    "--batch-size", type=click.IntRange(1, 100_000), metavar="N", help="Claim N rows at most."
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes."
)
@click.option("--dry-run", is_flag=True, help="Do everything except write; print the counts.")
@click.option(
    "--max-rows-per-second", type=click.FloatRange(0, min_open=True), metavar="X", help="Limit."
)
@click.option(
    "--max-mb-per-second", type=click.FloatRange(0, min_open=True), metavar="X", help="Limit."
)
@click.option(
    "--max-replication-lag",
    type=click.FloatRange(0),
    metavar="S",
    help="Wait while a standby is S seconds behind.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    metavar="X",
    help="Part of each second that a worker may be at work.",
)
@click.option(
    "--log-storage",
    type=click.Choice(("text", "compact")),
    default="text",
    show_default=True,
    help="Where a log goes: text in its row, or packed in a table of ours.",
)
@database_option
@json_option
@quiet_option
def backfill(
    job: str | None, limit: int | None, batch_size: int | None, workers: int, dry_run: bool,
    max_rows_per_second: float | None, max_mb_per_second: float | None,
    max_replication_lag: float | None, share: float, log_storage: str, settings: Settings,
    as_json: bool, quiet: bool,
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
        max_replication_lag,
    )  # fmt: skip
    summaries = [
        _run(_job(name, log_storage), settings, options, as_json, quiet)
        for name in ([job] if job else JOBS)
    ]
    found = any(summary.tally.outcomes.get("QUARANTINED") for summary in summaries)
    return ExitCode.FINDINGS if found else ExitCode.DONE


def _job(name: str, log_storage: str) -> Job:
    if name == "remotes":
        from exporter.jobs.remote_scrub import RemoteScrub

        return RemoteScrub()
    from exporter.jobs.snapshot_split import SnapshotSplit

    return SnapshotSplit("compact" if log_storage == "compact" else "text")


def _run(
    job: Job, settings: Settings, options: Options, as_json: bool, quiet: bool
) -> Summary:  # fmt: skip
    from exporter.db.connect import connect, session, translated
    from exporter.jobs.runner import run

    with session(settings):
        pass  # refuses a schema that is not at head
    opener = partial(connect, settings, application_name=f"exporter backfill {job.name}")
    with render.progress(quiet=quiet or as_json) as bar, translated(settings.place):
        summary = run(job, opener, options, _Teller(bar, as_json, quiet))
    facts = _facts(summary, options.is_dry_run)
    if as_json:
        render.print_json({"event": "summary", **facts})
    else:
        outcomes = facts.pop("outcomes")
        render.print_facts([*facts.items(), *outcomes.items()])
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


class _Teller:
    """Draws a bar on a terminal; elsewhere writes a line, or one JSON object, now and then."""

    def __init__(self, bar: Progress, as_json: bool, quiet: bool) -> None:
        self.bar = bar
        self.as_json = as_json
        self.is_silent = not as_json and (quiet or sys.stderr.isatty())
        self.rows = self.size = self.quarantined = self.total = 0
        self.job = self.reason = ""
        self.started = self.told = time.monotonic()

    def begin(self, job: str, total: int) -> None:
        self.job, self.total = job, total
        self.bar.begin(job, total)

    def done(self, tally: Tally) -> None:
        self.rows += tally.rows
        self.size += tally.bytes_in
        self.quarantined += tally.outcomes.get("QUARANTINED", 0)
        self.bar.advance(tally.rows)
        self._tell()

    def waiting(self, reason: str) -> None:
        if reason != self.reason:
            self.bar.note(f"waiting: {reason}")
        self.reason = reason
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if self.is_silent or now - self.told < INTERVAL_SECONDS:
            return
        self.told = now
        seconds = now - self.started
        rate = self.rows / seconds
        eta = max(0, self.total - self.rows) / rate if rate else None
        facts = {
            "event": "progress", "job": self.job, "rows": self.rows, "total": self.total,
            "rows_per_second": round(rate, 2), "mb_per_second": round(self.size / _MB / seconds, 2),
            "eta_seconds": None if eta is None else round(eta), "quarantined": self.quarantined,
            "waiting": self.reason or None,
        }  # fmt: skip
        self.reason = ""
        if self.as_json:
            render.print_json(facts)
            sys.stdout.flush()
        else:
            render.note(" ".join(f"{name}={value}" for name, value in facts.items() if value))
