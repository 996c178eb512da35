"""``exporter usage``: what was spent per day, and today."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import click

from exporter.cli.contract_command import (
    ContractCommand,
    schema_version_option,
    switch,
    text,
    writer_of,
)
from exporter.cli.custom_prices import custom_prices_option
from exporter.cli.options import database_option, examples
from exporter.cli.output import target
from exporter.errors import ExporterError
from exporter.settings import Settings

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from exporter.core.pricing import PriceRow
    from exporter.core.window import Window
    from exporter.exports.usage_daily import Report, Request


@click.group(
    epilog=examples(
        "exporter usage daily --since 14d",
        "exporter usage statusline",
    )
)
def usage() -> None:
    """Show what was spent."""


@usage.command(
    cls=ContractCommand,
    epilog=examples(
        "exporter usage daily",
        "exporter usage daily --since 2026-03-01 --until 2026-03-31 --breakdown",
        "exporter usage daily --all --timezone Europe/Lisbon --json --output usage.json",
        "exporter usage daily --since 90d --chart usage.svg",
    ),
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["human", "json", "ndjson"]),
    help="A table for people, one document, or a meta line and a line per day.  [default: human]",
)
@switch("--json", "Short for --format json.")
@switch("--ndjson", "Short for --format ndjson.")
@text("--since", "First local date; or so many days or hours back, as 14d or 36h.", "DATE")
@text("--until", "Last local date; or so many days or hours back.", "DATE")
@switch("--all", "All dates, instead of the last 31.")
@text("--timezone", "IANA name of the zone that dates are cut in.  [default: the system's]", "ZONE")
@text("--agent", "Only these agents, separated by commas without blanks.", "NAMES")
@text("--project", "Only this project label.", "LABEL")
@text("--machine", "Only these machines, separated by commas.", "NAMES")
@switch("--breakdown", "Also the models of each day; in JSON, its projects and agents.")
@click.option("--output", metavar="FILE", help="Write here, all or nothing, instead of to stdout.")
@click.option("--chart", metavar="FILE", help="Also draw cost per day, as FILE.svg or .png.")
@switch("--validate", "Check everything against the schema before it is written.")
@switch("--offline", "Let built-in prices come before stored ones of the same name.")
@switch("--no-sync", "Accepted and ignored: a report never imports.")
@click.option("--now", hidden=True, callback=lambda ctx, parameter, value: _moment(value))
@schema_version_option
@custom_prices_option
@database_option
def daily(settings: Settings, custom_rates: Any, now: datetime, **given: Any) -> None:
    """Report tokens and cost per local date and model, v1.

    Every session counts, automated ones and helpers included, and a response that several
    sessions hold counts once. Fields and rules are in docs/contracts/usage-daily-v1.md.
    """
    framing = _framing(given)
    chart_format = _chart_format(given["chart"], given["output"])
    request = _request(given, custom_rates, now)
    write = writer_of("usage_daily", {1: _write}, given["schema_version"])
    from exporter.db.connect import read_snapshot, session
    from exporter.exports.usage_daily import read_report

    with session(settings) as conn, target(given["output"]) as out:
        with read_snapshot(conn):
            report = read_report(conn, request)
        _note_request(request)
        write(report, framing, out, given)
        if chart_format:
            from exporter.cli import usage_chart

            with target(given["chart"]) as picture:
                usage_chart.draw(report, request.zone, picture, chart_format)
    if framing == "human":
        _note_missing(report, given["agent"])


@usage.command(
    cls=ContractCommand,
    epilog=examples("exporter usage statusline", "exporter usage statusline --agent claude"),
)
@text("--agent", "Only these agents, separated by commas without blanks.", "NAMES")
@switch("--offline", "Let built-in prices come before stored ones of the same name.")
@switch("--no-sync", "Accepted and ignored: a report never imports.")
@click.option("--now", hidden=True, callback=lambda ctx, parameter, value: _moment(value))
@custom_prices_option
@database_option
def statusline(settings: Settings, custom_rates: Any, now: datetime, **given: Any) -> None:
    """Print today's cost on one line, for a prompt or a status bar."""
    from exporter.cli.usage_view import money
    from exporter.cli.zones import system_zone
    from exporter.core.window import Window
    from exporter.db.connect import read_snapshot, session
    from exporter.exports.usage_daily import Request, read_cost

    zone = system_zone()
    today = now.astimezone(zone).date().isoformat()
    request = Request(
        Window(today, today),
        zone.key,
        zone,
        agents=_agents(given["agent"]),
        custom_rates=custom_rates,
        embedded=built_in_prices(given["offline"]),
    )
    with session(settings) as conn, read_snapshot(conn):
        cost = read_cost(conn, request)
    of_agent = f" ({given['agent']})" if given["agent"] else ""
    click.echo(f"{money(cost)} today{of_agent}")


# -- what was asked for -------------------------------------------------------------------------


def _moment(text: str | None) -> datetime:
    """The present moment, or the one that a test put in its place."""
    if text is None:
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ExporterError("--now: it is no time such as 2026-03-04T09:30:00Z") from None


def _framing(given: dict[str, Any]) -> str:
    """human, json or ndjson; --json wins over human, and other contradictions are refused."""
    named = given["output_format"]
    if given["ndjson"] and (given["json"] or named in ("json", "human")):
        raise ExporterError("--ndjson cannot be combined with another format")
    if given["json"] and named == "ndjson":
        raise ExporterError("--json cannot be combined with --format ndjson")
    framing = "ndjson" if given["ndjson"] else "json" if given["json"] else named or "human"
    if given["validate"] and framing == "human":
        raise ExporterError("--validate needs --json or --ndjson")
    return str(framing)


def _chart_format(path: str | None, output: str | None) -> str | None:
    """The format of the picture; complains before any work about what cannot be drawn."""
    if not path:
        return None
    from exporter.cli import activity_chart

    chart_format = activity_chart.chart_format(path)
    activity_chart.refuse_same_file(path, output)
    activity_chart.require_library()
    return chart_format


def _request(given: dict[str, Any], custom_rates: Any, now: datetime) -> Request:
    """The checked request; the first of zone, end, start and their order to fail decides."""
    from exporter.core import window
    from exporter.exports.usage_daily import Request

    zone = _zone(given["timezone"])
    try:
        dates = window.resolve(
            given["since"], given["until"], everything=given["all"], zone=zone, now=now
        )
    except window.WindowError as error:
        raise ExporterError(str(error)) from None
    return Request(
        dates,
        zone.key,
        zone,
        project=given["project"],
        machines=tuple(name.strip() for name in given["machine"].split(",") if name.strip()),
        agents=_agents(given["agent"]),
        breakdown=given["breakdown"],
        custom_rates=custom_rates,
        embedded=built_in_prices(given["offline"]),
    )


def _zone(name: str) -> ZoneInfo:
    from exporter.cli.zones import find_zone, system_zone

    try:
        return find_zone(name) if name else system_zone()
    except ValueError as error:
        raise ExporterError(
            f"invalid --timezone: {error}", hint="give an IANA name such as Europe/Lisbon or UTC"
        ) from None


def _agents(names: str) -> tuple[str, ...] | None:
    """Names as they stand between the commas: blanks belong to them."""
    return tuple(names.split(",")) if names else None


def built_in_prices(offline: bool) -> tuple[PriceRow, ...]:
    """Prices that come before stored ones of the same name: what ``--offline`` stands for."""
    if not offline:
        return ()
    from exporter.data import load_price_snapshot

    return load_price_snapshot().rows


# -- writing ------------------------------------------------------------------------------------


def _write(report: Report, framing: str, out: IO[bytes], given: dict[str, Any]) -> None:
    from exporter.core import wire

    if framing == "human":
        from exporter.cli import render, usage_view

        breakdown = given["breakdown"]
        # Who asks for the format by name gets the contract's own table everywhere.
        if given["output"] or given["output_format"] or not sys.stdout.isatty():
            page = usage_view.plain_table(report, breakdown=breakdown)
        else:
            page = usage_view.terminal_table(
                report,
                breakdown=breakdown,
                width=shutil.get_terminal_size().columns,
                colours=render.colours(),
            )
        out.write(page.encode("utf-8", "replace"))
        return
    check = None
    if given["validate"]:
        from exporter.contracts.check import OutputValidator

        check = OutputValidator("usage_daily")
    if framing == "json":
        document = wire.encode_pretty(report.asdict())
        if check:
            check.head(document)
        out.write(document + b"\n")
        return
    meta = wire.encode({"type": "meta", **report.meta()})
    if check:
        check.meta(meta)
    out.write(meta + b"\n")
    for day in report.daily:
        line = wire.encode(day)
        if check:
            check.row(line)
        out.write(line + b"\n")


def _note_request(request: Request) -> None:
    """Tell a person which dates are meant, and which names hold blanks; programs hear nothing."""
    if not sys.stderr.isatty():
        return
    from exporter.cli.render import note

    note(f"window: {_dates(request.window)} ({request.zone})")
    padded = [name for name in request.agents or () if name != name.strip()]
    if padded:
        names = ", ".join(f'"{name}"' for name in padded)
        note(f"note: blanks around a name in --agent are part of it: {names}")


def _dates(window: Window) -> str:
    first, last = window
    if first and last:
        return f"{first} to {last}"
    return f"since {first}" if first else f"until {last}" if last else "all dates"


def _note_missing(report: Report, agents: str) -> None:
    """Say why there is nothing to see, where only agents without token data were asked for."""
    from exporter.cli.render import note
    from exporter.exports.usage_daily import CREDIT_AGENTS

    named = {name.strip() for name in agents.split(",")}
    if named <= set(CREDIT_AGENTS) and not any(report.totals.values()):
        note("note: these GitHub Copilot records hold no token or cost data that could be added up")
