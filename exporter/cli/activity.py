"""``exporter activity report``: when agents were at work, how many at once, and at what cost."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Final, cast

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
from exporter.cli.usage import built_in_prices
from exporter.errors import ContractViolation, ExporterError
from exporter.settings import Settings

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from exporter.core.calendar import Range
    from exporter.exports.activity_report import Report, Selection

_AUTOMATION: Final = ("all", "interactive", "automated")
#: Which rows each kind of output wants, as arguments of the export.
_ROWS: Final[dict[str, dict[str, Any]]] = {
    "human": {"most_sessions": 5, "with_intervals": False},
    "json": {"framing": "pretty"},
    "ndjson": {"with_intervals": False},
}


@click.group(
    epilog=examples(
        "exporter activity report",
        "exporter activity report --preset week --timezone Europe/Lisbon --json",
    )
)
def activity() -> None:
    """Show when agents were at work."""


@activity.command(
    cls=ContractCommand,
    epilog=examples(
        "exporter activity report",
        "exporter activity report --preset month --date 2026-03-01 --chart march.svg",
        "exporter activity report --preset custom"
        " --from 2026-03-04T09:00:00Z --to 2026-03-04T17:00:00Z",
        "exporter activity report --preset week --automation automated --ndjson",
    ),
)
@text("--preset", "day, week, month or custom.  [default: day]", "NAME")
@text("--date", "A day of the range, for day, week and month.  [default: today]", "YYYY-MM-DD")
@text("--from", "Start of a custom range, RFC 3339.", "TIME")
@text("--to", "End of a custom range, not part of it.", "TIME")
@text("--timezone", "IANA name of the zone that days follow.  [default: the system's]", "ZONE")
@text("--bucket", "5m, 15m, 1h, 1d or 1w.  [default: by the length of the range]", "SIZE")
@text("--project", "Only this project label.", "LABEL")
@text("--agent", "Only these agents, separated by commas.", "NAMES")
@text("--machine", "Only these machines, separated by commas.", "NAMES")
@text("--automation", "all, interactive or automated sessions.  [default: all]", "KIND")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["human", "json", "ndjson"]),
    help="Text for people, one document, or a meta line and a line per session.  [default: human]",
)
@switch("--json", "Short for --format json.")
@switch("--ndjson", "Short for --format ndjson.")
@click.option("--output", metavar="FILE", help="Write here, all or nothing, instead of to stdout.")
@click.option("--chart", metavar="FILE", help="Also draw agents over time, as FILE.svg or .png.")
@switch("--validate", "Check everything against the schema while it is written.")
@switch("--offline", "Let built-in prices come before stored ones of the same name.")
@switch("--no-sync", "Accepted and ignored: a report never imports.")
@schema_version_option
@custom_prices_option
@database_option
def report(settings: Settings, custom_rates: Any, **given: Any) -> None:
    """Report when agents were at work in a range, how many at once, and at what cost, v1.

    Fields and rules are in docs/contracts/activity-report-v1.md.
    """
    framing = _framing(given)
    chart = given["chart"]
    if chart:
        from exporter.cli import activity_chart

        chart_format = activity_chart.chart_format(chart)
        activity_chart.refuse_same_file(chart, given["output"])
        activity_chart.require_library()
    zone_name, zone = _zone(given["timezone"])
    covered = _range(given, zone)
    selection = _selection(given)
    write = writer_of("activity_report", {1: _write}, given["schema_version"])
    from exporter.db.connect import read_snapshot, session
    from exporter.exports.activity_report import open_report

    asked = (covered, zone_name, selection, custom_rates)
    embedded = built_in_prices(given["offline"])
    with (
        session(settings) as conn,
        target(given["output"]) as out,
        read_snapshot(conn),
        open_report(conn, *asked, embedded=embedded, **_ROWS[framing]) as found,
    ):
        write(found, framing, zone, out, given)
        if chart:
            with target(chart) as picture:
                activity_chart.draw(found.head, zone, picture, chart_format)


def now_ns() -> int:
    """The present instant in Unix nanoseconds; tests put another in its place."""
    return time.time_ns()


# -- what was asked for -------------------------------------------------------------------------


def _framing(given: dict[str, Any]) -> str:
    """human, json or ndjson; the spellings must not contradict one another."""
    named = given["output_format"]
    if given["ndjson"] and (given["json"] or named in ("json", "human")):
        raise ExporterError("--ndjson cannot be combined with another format")
    if given["json"] and named == "ndjson":
        raise ExporterError("--json cannot be combined with --format ndjson")
    framing = "ndjson" if given["ndjson"] else "json" if given["json"] else named or "human"
    if given["validate"] and framing == "human":
        raise ExporterError("--validate needs --json or --ndjson")
    return str(framing)


def _zone(name: str) -> tuple[str, ZoneInfo]:
    """The zone of the days, and the name under which the report shows it."""
    from exporter.cli.zones import find_zone, system_zone

    try:
        zone = find_zone(name) if name else system_zone()
    except ValueError:
        raise ExporterError(
            f"invalid timezone: {name}", hint="give an IANA name such as Europe/Lisbon or UTC"
        ) from None
    return zone.key, zone


def _range(given: dict[str, Any], zone: ZoneInfo) -> Range:
    from exporter.core.calendar import RangeError, Request, resolve

    request = Request(given["preset"], given["date"], given["from"], given["to"], given["bucket"])
    try:
        return resolve(request, zone, now_ns())
    except RangeError as error:
        raise ExporterError(str(error), hint=_accepted(str(error))) from None


def _accepted(problem: str) -> str:
    """A value that would have done."""
    known = {
        "invalid preset": "give day, week, month or custom",
        "invalid date": "write it as YYYY-MM-DD, like 2026-03-04",
        "invalid from": "write it like 2026-03-04T09:30:00Z or 2026-03-04T09:30:00+02:00",
        "invalid to": "write it like 2026-03-04T09:30:00Z or 2026-03-04T09:30:00+02:00",
        "invalid bucket": "give 5m, 15m, 1h, 1d or 1w",
    }
    return known.get(problem.partition(":")[0], "")


def _selection(given: dict[str, Any]) -> Selection:
    from exporter.exports.activity_report import Automation, Selection

    automation = given["automation"] or "all"
    if automation not in _AUTOMATION:
        raise ExporterError(
            f'invalid automation "{automation}" (want all, interactive, or automated)'
        )
    return Selection(
        given["project"],
        _names(given["agent"]),
        _names(given["machine"]),
        cast("Automation", automation),
    )


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",") if name.strip())


# -- writing ------------------------------------------------------------------------------------


def _write(
    found: Report, framing: str, zone: ZoneInfo, out: IO[bytes], given: dict[str, Any]
) -> None:
    check = _Check() if given["validate"] else None
    if framing == "human":
        _write_text(found, zone, out, on_terminal=not given["output"] and sys.stdout.isatty())
    elif framing == "ndjson":
        _write_lines(found, out, check)
    else:
        _write_document(found, out, check)


def _write_text(found: Report, zone: ZoneInfo, out: IO[bytes], *, on_terminal: bool) -> None:
    import io
    import json

    from exporter.cli.activity_view import print_report

    sessions = [json.loads(row) for row in found.sessions]
    page = io.StringIO()
    width = shutil.get_terminal_size().columns if on_terminal else None
    print_report(found.head, sessions, zone, page, width)
    out.write(page.getvalue().encode("utf-8", "replace"))


def _write_lines(found: Report, out: IO[bytes], check: _Check | None) -> None:
    """One meta line, then a line per session; the intervals are for the document only."""
    from exporter.core import wire

    meta = wire.encode({"type": "meta", **found.head})
    if check:
        check.validator.meta(meta)
    out.write(meta + b"\n")
    for row in found.sessions:
        if check:
            check.validator.row(row)
        out.write(row + b"\n")


def _write_document(found: Report, out: IO[bytes], check: _Check | None) -> None:
    """One document, its two long arrays streamed into it."""
    from exporter.core import wire

    if check:
        check.validator.head(wire.encode({**found.head, "by_session": [], "intervals": []}))
    out.write(wire.encode_pretty(found.head)[:-2])
    out.write(b',\n  "by_session": ')
    _write_array(_checked(found.sessions, check and check.validator.row), out)
    out.write(b',\n  "intervals": ')
    _write_array(_checked(found.intervals, check and check.intervals), out)
    out.write(b"\n}\n")


def _checked(blocks: Iterator[bytes], check: Any) -> Iterator[bytes]:
    for block in blocks:
        if check:
            check(block)
        yield block


def _write_array(blocks: Iterator[bytes], out: IO[bytes]) -> None:
    before = b"[\n"
    for block in blocks:
        out.write(before + block)
        before = b",\n"
    out.write(b"[]" if before == b"[\n" else b"\n  ]")


class _Check:
    """The checks of ``--validate``, for what goes out in pieces."""

    def __init__(self) -> None:
        from exporter.contracts.check import OutputValidator
        from exporter.contracts.schema import Checks

        self.validator = OutputValidator("activity_report")
        self._checks = Checks(self.validator.surface, strict=True)

    def intervals(self, block: bytes) -> None:
        """Check some intervals with commas between them. Raises ContractViolation."""
        import json

        first = next(self._checks.violations("intervals", json.loads(b"[" + block + b"]")), None)
        if first is not None:
            problem = f"an interval breaks {first.rule} at {first.pointer}"
            raise ContractViolation(self.validator.surface.label, problem)
