"""The exports: ``exporter sessions``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

import click

from exporter.cli.contract_command import (
    ContractCommand,
    number,
    schema_version_option,
    switch,
    text,
    was_given,
    writer_of,
)
from exporter.cli.custom_prices import custom_prices_option
from exporter.cli.options import database_option, examples
from exporter.cli.output import target
from exporter.errors import ExporterError
from exporter.settings import Settings

if TYPE_CHECKING:
    from exporter.contracts.check import OutputValidator
    from exporter.exports.sessions import Answer, Request

#: Flags that a cursor already answers, in the order in which they are complained about.
_OF_THE_CURSOR: Final = (
    "project",
    "exclude_project",
    "machine",
    "git_branch",
    "agent",
    "date",
    "date_from",
    "date_to",
    "active_since",
    "min_messages",
    "max_messages",
    "min_user_messages",
    "include_one_shot",
    "include_automated",
    "include_children",
    "outcome",
    "health_grade",
    "min_tool_failures",
    "has_secret",
    "all",
)


@click.command(
    cls=ContractCommand,
    epilog=examples(
        "exporter sessions --all --ndjson > sessions.ndjson",
        "exporter sessions --project loom --date-from 2026-03-01 --limit 100",
        'exporter sessions --cursor "$NEXT" --ndjson',
        "exporter sessions --all --ndjson --output sessions.ndjson --validate",
    ),
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["json", "ndjson"]),
    default="json",
    help="One document, or a meta line and a line per session.  [default: json]",
)
@switch("--json", "Short for --format json.")
@switch("--ndjson", "Short for --format ndjson.")
@number("--limit", "Sessions of a page, 1 to 500.  [default: 500]", default=500)
@text("--cursor", "Go on after the page whose cursor.next this is.", "TOKEN")
@switch("--all", "Everything at once, without pages.")
@text("--project", "Only this project label.", "LABEL")
@text("--exclude-project", "All but this project label.", "LABEL")
@text("--machine", "Only these machines, separated by commas.", "NAMES")
@text("--agent", "Only these agents, separated by commas.", "NAMES")
@text("--git-branch", "Only these branches: project U+001F branch, separated by U+001E.", "TOKENS")
@text("--date", "Started on this UTC day.", "YYYY-MM-DD")
@text("--date-from", "Started on this UTC day or later.", "YYYY-MM-DD")
@text("--date-to", "Started on this UTC day or earlier.", "YYYY-MM-DD")
@text("--active-since", "Last active at this time or later.", "TIME")
@number("--min-messages", "At least N messages.")
@number("--max-messages", "At most N messages.")
@number("--min-user-messages", "At least N messages of the user.")
@switch("--include-one-shot", "Also sessions of at most one user message.")
@switch("--include-automated", "Also automated sessions.")
@switch("--include-children", "Trees: roots that pass the filters, and all below them.")
@text("--outcome", "Only these outcomes: completed, abandoned, errored, unknown.", "NAMES")
@text("--health-grade", "Only these grades, separated by commas.", "GRADES")
@number("--min-tool-failures", "At least N failed tool calls.", default=None)
@switch("--has-secret", "Only sessions with secret findings.")
@click.option("--output", metavar="FILE", help="Write here, all or nothing, instead of to stdout.")
@switch("--validate", "Check everything against the schema while it is written.")
@schema_version_option
@custom_prices_option
@database_option
@click.pass_context
def sessions(ctx: click.Context, /, settings: Settings, custom_rates: Any, **given: Any) -> None:
    """Export session summaries, v1: who ran when, on what, and what it cost. Never any content.

    Times, days and costs follow docs/contracts/sessions-v1.md. Exit 4 with a JSON object on stderr
    means that the cursor must restart.
    """
    ndjson = _framing(ctx, given)
    request = _request(ctx, given, custom_rates)
    write = writer_of("sessions", {1: _write}, given["schema_version"])
    from exporter.db.connect import read_snapshot, session
    from exporter.exports.sessions import open_export

    with session(settings) as conn, target(given["output"]) as out, read_snapshot(conn):
        answer = open_export(conn, request)
        # A failure while rows are written must let go of the connection before the snapshot ends.
        with closing(answer.rows):
            write(answer, ndjson, out, validate=given["validate"])


def _framing(ctx: click.Context, given: dict[str, Any]) -> bool:
    """Whether NDJSON is asked for; the spellings must agree."""
    ndjson = given["output_format"] == "ndjson" or given["ndjson"]
    explicit_json = given["json"] or (was_given(ctx, "output_format") and not ndjson)
    if ndjson and given["json"]:
        raise ExporterError("--json cannot be combined with --format ndjson")
    if given["ndjson"] and explicit_json:
        raise ExporterError("--ndjson cannot be combined with --format json")
    return bool(ndjson)


def _request(ctx: click.Context, given: dict[str, Any], custom_rates: Any) -> Request:
    """The checked request. Checks come in the order of the contract; the first failure decides."""
    from exporter.core.cursor import Filters
    from exporter.core.times import validate_date, validate_instant
    from exporter.exports.sessions import MAX_LIMIT, Request

    if given["cursor"]:
        for name in _OF_THE_CURSOR:
            if was_given(ctx, name):
                flag = name.replace("_", "-")
                raise ExporterError(f"--cursor cannot be combined with --{flag}")
    if not 1 <= given["limit"] <= MAX_LIMIT:
        raise ExporterError(f"--limit must be between 1 and {MAX_LIMIT}")
    for name in ("date", "date_from", "date_to", "active_since"):
        check = validate_instant if name == "active_since" else validate_date
        try:
            check(given[name])
        except ValueError as error:
            raise ExporterError(f"--{name.replace('_', '-')}: {error}") from None
    filters = None
    if not given["cursor"]:
        filters = Filters.from_options(
            **{name: given[name] for name in _OF_THE_CURSOR if name != "all"}
        )
    return Request(filters, given["cursor"], given["limit"], given["all"], custom_rates)


#: Rows that are written at a time, about half a megabyte.
_ROWS_AT_ONCE: Final = 256


# -- writing ------------------------------------------------------------------------------------


def _write(answer: Answer, ndjson: bool, out: IO[bytes], *, validate: bool) -> None:
    """One document, or one meta line and a line per row."""
    from exporter.core import wire

    validator = None
    if validate:
        from exporter.contracts.check import OutputValidator

        validator = OutputValidator("sessions")
    if ndjson:
        head = wire.encode({"type": "meta", **answer.head})
        if validator:
            validator.meta(head)
        out.write(head + b"\n")
        rows = _checked(answer.rows, validator) if validator else answer.rows
        while several := b"".join(islice(rows, _ROWS_AT_ONCE)):
            out.write(several)
        return
    head = wire.encode({**answer.head, "sessions": []})
    if validator:
        validator.head(head)
    out.write(head[:-2])
    separator = b""
    for row in answer.rows:
        if validator:
            validator.row(row)
        out.write(separator + row[:-1])
        separator = b","
    out.write(b"]}\n")


def _checked(rows: Iterator[bytes], validator: OutputValidator) -> Iterator[bytes]:
    for row in rows:
        validator.row(row)
        yield row
