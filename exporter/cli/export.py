"""The exports: ``exporter sessions``."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from exporter.cli.custom_prices import custom_prices_option
from exporter.cli.options import database_option, examples
from exporter.errors import BadInput, ExporterError, OutputFailed
from exporter.settings import Settings

if TYPE_CHECKING:
    from exporter.exports.sessions import Answer, Request

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

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
_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_COPY_BYTES: Final = 1 << 20


class _Int64(click.ParamType[int]):
    """A whole number of 64 bits: a sign, then digits, and nothing else."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if re.fullmatch(r"[+-]?[0-9]{1,20}", text) and -(1 << 63) <= int(text) < 1 << 63:
            return int(text)
        self.fail(f"{text!r} is not a whole number such as 25", param, ctx)


class ContractCommand(click.Command):
    """A command whose exit codes are part of a contract: every ordinary failure is 1.

    Its switches also take a value, ``--all=false``; one that was given counts as given even so.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _failures_are_ordinary():
            return super().parse_args(ctx, self._switches(ctx, args))

    def invoke(self, ctx: click.Context) -> Any:
        with _failures_are_ordinary():
            return super().invoke(ctx)

    def _switches(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Replace each switch by its last value: present for true, absent for false."""
        names = {
            option: parameter.name
            for parameter in self.params
            if isinstance(parameter, click.Option) and parameter.is_flag
            for option in parameter.opts
        }
        final: dict[str, bool] = {}
        rest = []
        for index, argument in enumerate(args):
            if argument == "--":
                rest += args[index:]
                break
            option, has_value, value = argument.partition("=")
            if option not in names:
                rest.append(argument)
                continue
            if has_value and value not in _TRUE | _FALSE:
                raise click.UsageError(f"{option} takes true or false, not {value!r}")
            final[option] = not has_value or value in _TRUE
        ctx.meta["given_switches"] = {names[option] for option in final}
        return rest + [option for option, wanted in final.items() if wanted]


@contextmanager
def _failures_are_ordinary() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise ExporterError(error.format_message()) from None
    except BadInput as error:
        raise ExporterError(error.message, hint=error.hint) from None


def _text(name: str, help_text: str, metavar: str = "TEXT") -> Decorator:
    return click.option(name, default="", metavar=metavar, help=help_text)


def _switch(name: str, help_text: str) -> Decorator:
    return click.option(name, is_flag=True, help=help_text)


def _number(name: str, help_text: str, default: int | None = 0) -> Decorator:
    return click.option(name, type=_Int64(), default=default, metavar="N", help=help_text)


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
@_switch("--json", "Short for --format json.")
@_switch("--ndjson", "Short for --format ndjson.")
@_number("--limit", "Sessions of a page, 1 to 500.  [default: 500]", default=500)
@_text("--cursor", "Go on after the page whose cursor.next this is.", "TOKEN")
@_switch("--all", "Everything at once, without pages.")
@_text("--project", "Only this project label.", "LABEL")
@_text("--exclude-project", "All but this project label.", "LABEL")
@_text("--machine", "Only these machines, separated by commas.", "NAMES")
@_text("--agent", "Only these agents, separated by commas.", "NAMES")
@_text("--git-branch", "Only these branches: project U+001F branch, separated by U+001E.", "TOKENS")
@_text("--date", "Started on this UTC day.", "YYYY-MM-DD")
@_text("--date-from", "Started on this UTC day or later.", "YYYY-MM-DD")
@_text("--date-to", "Started on this UTC day or earlier.", "YYYY-MM-DD")
@_text("--active-since", "Last active at this time or later.", "TIME")
@_number("--min-messages", "At least N messages.")
@_number("--max-messages", "At most N messages.")
@_number("--min-user-messages", "At least N messages of the user.")
@_switch("--include-one-shot", "Also sessions of at most one user message.")
@_switch("--include-automated", "Also automated sessions.")
@_switch("--include-children", "Trees: roots that pass the filters, and all below them.")
@_text("--outcome", "Only these outcomes: completed, abandoned, errored, unknown.", "NAMES")
@_text("--health-grade", "Only these grades, separated by commas.", "GRADES")
@_number("--min-tool-failures", "At least N failed tool calls.", default=None)
@_switch("--has-secret", "Only sessions with secret findings.")
@click.option("--output", metavar="FILE", help="Write here, all or nothing, instead of to stdout.")
@_switch("--validate", "Check everything against the schema while it is written.")
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
    from exporter.db.connect import read_snapshot, session
    from exporter.exports.sessions import open_export

    with session(settings) as conn, _target(given["output"]) as out, read_snapshot(conn):
        answer = open_export(conn, request)
        _write(answer, ndjson, out, validate=given["validate"])


def _framing(ctx: click.Context, given: dict[str, Any]) -> bool:
    """Whether NDJSON is asked for; the spellings must agree."""
    ndjson = given["output_format"] == "ndjson" or given["ndjson"]
    explicit_json = given["json"] or (_was_given(ctx, "output_format") and not ndjson)
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
            if _was_given(ctx, name):
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


def _was_given(ctx: click.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE or name in ctx.meta["given_switches"]


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
        for row in answer.rows:
            if validator:
                validator.row(row)
            out.write(row)
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


@contextmanager
def _target(output: str | None) -> Iterator[IO[bytes]]:
    """Where the bytes go: all of them when the block ends well, none when it fails."""
    if output is None or output == "-":
        with tempfile.SpooledTemporaryFile(max_size=8 * _COPY_BYTES) as spool:
            yield spool
            spool.seek(0)
            while block := spool.read(_COPY_BYTES):
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
        return
    path = Path(output)
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OutputFailed(output, (error.strerror or "no access").lower()) from None
    try:
        with os.fdopen(handle, "wb", buffering=_COPY_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _take_usual_rights(beside)
        os.replace(beside, path)
    except OSError as error:
        raise OutputFailed(output, (error.strerror or "failed").lower()) from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)


def _take_usual_rights(beside: str) -> None:
    """A temporary file is private; the finished one is as open as the user's mask allows."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(beside, 0o666 & ~mask)
