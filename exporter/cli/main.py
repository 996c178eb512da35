"""The ``exporter`` program: its commands, and errors to exit codes.

Commands are loaded when they are called, not when the program starts, and import what is heavy
inside their functions: ``exporter --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click

from exporter import __version__
from exporter.cli import signals, streams
from exporter.cli.options import examples
from exporter.errors import CursorReset, ExitCode, ExporterError, Interrupted, OutputFailed

#: Every command: where it lives, and its line in ``exporter --help``. A family of commands is one
#: line here; it appears in the help and in the documentation by being listed.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "db": ("exporter.cli.db:db", "Make, check and run the database."),
    "sessions": ("exporter.cli.export:sessions", "Export session summaries, v1."),
    "usage": ("exporter.cli.usage:usage", "Report what was spent, v1."),
    "activity": ("exporter.cli.activity:activity", "Report when agents were at work, v1."),
    "import": ("exporter.cli.importing:import_group", "Bring an archive of another program in."),
    "contract": ("exporter.cli.contract:contract", "Show published forms, and check files."),
    "backfill": ("exporter.cli.backfill:backfill", "Bring old rows into today's shape."),
    "jobs": ("exporter.cli.jobs:jobs", "Show what jobs did, and their quarantine."),
    "artifacts": ("exporter.cli.artifacts:artifacts", "Read and check what a run left behind."),
    "pricing": ("exporter.cli.pricing:pricing", "Bring prices in, show which are in force."),
    "identity": ("exporter.cli.identity:identity", "Show what identifies remotes and projects."),
}


@dataclass
class Invocation:
    """What the options before the command said; every command finds it as ``ctx.obj``."""

    debug: bool = False


#: A longer message loses its middle: a value of thousands of characters helps nobody.
_LONGEST_MESSAGE = 1_000
#: Of any URL that has some; a path has been through pathlib and lost a slash.
_CREDENTIALS = re.compile(r"(\w:/{1,2})[^\s/@]*:[^\s@]*@")


class _LazyGroup(click.Group):
    """Knows its commands by name and loads each when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            known = ", ".join(COMMANDS)
            raise click.UsageError(f"no command {args[0]!r}; there are: {known}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _set_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and ctx.obj is not None:
        ctx.obj.debug = True


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "exporter db upgrade",
        "exporter db status --json",
        "EXPORTER_DATABASE_URL=postgresql://me@db.example/archive exporter db status",
    ),
)
@click.version_option(__version__, prog_name="exporter", message="%(prog)s %(version)s")
@click.option(
    "-v",
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    envvar="EXPORTER_DEBUG",
    help="Show the trace-back of a failure. (env: EXPORTER_DEBUG)",
)
def cli() -> None:
    """Keep archives of coding-agent sessions in PostgreSQL and export them.

    Results go to stdout, everything else to stderr. Without a database URL an embedded PostgreSQL
    server is used; it is started when needed and keeps running until "exporter db stop".
    """


def main() -> NoReturn:
    """Run the command line of this process and exit; ``exporter.__main__`` comes before."""
    code = run(sys.argv[1:])
    signals.leave_at_once()
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code; failures are told on stderr."""
    invocation = Invocation()
    try:
        streams.prepare()
        signals.unwind()
        result = _result(args, invocation)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        code = _report(error, debug=invocation.debug)
        _finish_stdout()
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def _result(args: Sequence[str], invocation: Invocation) -> Any:
    """What the command returns. Click's own ``main`` would answer signals and broken pipes."""
    completion = "_EXPORTER_COMPLETE"
    if completion in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "exporter", completion, os.environ[completion])
    try:
        with cli.make_context("exporter", list(args), obj=invocation) as ctx:
            return cli.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code


def _report(error: BaseException, *, debug: bool) -> int:
    """Tell a failure on stderr in one line and return the exit code.

    A group without a command shows its help there instead.
    """
    if isinstance(error, BrokenPipeError):
        streams.forget(sys.stdout)
        return ExitCode.DONE
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        streams.tell(error.format_message() + "\n")
        return error.exit_code
    if debug and not isinstance(error, click.ClickException):
        import traceback

        streams.tell("".join(traceback.format_exception(error)))
    failure = _as_ours(error)
    if isinstance(failure, CursorReset):
        import json

        streams.tell(json.dumps(failure.as_json(), separators=(",", ":")) + "\n")
    else:
        from exporter.cli.render import note

        note(f"fatal: {_presentable(str(failure))}")
    return failure.exit_code


def _presentable(text: str) -> str:
    """The message without the password of a URL that came to the wrong option, and not endless."""
    text = _CREDENTIALS.sub(r"\1***@", text)
    half = _LONGEST_MESSAGE // 2
    return text if len(text) <= 2 * half else f"{text[:half]} … {text[-half:]}"


def _as_ours(error: BaseException) -> ExporterError:
    """An error of ours for whatever came up."""
    match error:
        case ExporterError():
            return error
        case click.ClickException():
            return _wrong_usage(error)
        case click.Abort(__context__=KeyboardInterrupt() as cause):
            return _interrupted(cause)
        case click.Abort():
            return ExporterError("not confirmed", hint="nothing was changed")
        case KeyboardInterrupt():
            return _interrupted(error)
        case OSError(filename=str() as name) if error.strerror:
            return OutputFailed(name, error.strerror.lower())
        case FileNotFoundError() if "temporary directory" in str(error):
            # Python's own words, without a file name; what is tried is TMPDIR, /tmp and the like.
            return ExporterError("no temporary folder can be written", hint="set TMPDIR to one")
        case OSError(errno=errno.EBADF):
            return OutputFailed("the output", "stdout is closed")
        case OSError() if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG):
            return OutputFailed("the output", os.strerror(error.errno).lower())
        case MemoryError():
            return ExporterError("memory ran out", hint="free memory and run again")
    # The text of an error nobody expected may quote anything, a password or a prompt: its kind
    # and its place are safe to show.
    return ExporterError(
        f"unexpected {type(error).__name__} in {_place(error)}",
        hint="run 'exporter --debug ...' for the trace-back; it may show private data",
    )


def _interrupted(error: KeyboardInterrupt) -> Interrupted:
    return Interrupted("SIGTERM" if isinstance(error, signals.Terminated) else "SIGINT")


def _wrong_usage(error: click.ClickException) -> ExporterError:
    """What click found wrong with the options, in our form."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    command = ctx.command_path if ctx else "exporter"
    message = " ".join(error.format_message().split()).removesuffix(".")
    failure = ExporterError(message, hint=f"see '{command} --help'")
    failure.exit_code = ExitCode(error.exit_code)
    return failure


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    found = "the program"
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.startswith("exporter"):
            found = f"{name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _finish_stdout() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        streams.forget(sys.stdout)
