"""The ``exporter`` program: its commands, and errors to exit codes.

Commands are loaded when they are called, not when the program starts, and import what is heavy
inside their functions: ``exporter --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

from exporter import __version__
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


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program is, so that it unwinds as it does for SIGINT."""


class _PipeClosed(Exception):
    """The reader of our stdout went away, as ``head`` does: no failure of ours."""


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

    def invoke(self, ctx: click.Context) -> Any:
        # Before click sees them: it has fixed answers of its own to these two.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            name = "SIGTERM" if isinstance(error, Terminated) else "SIGINT"
            raise Interrupted(name) from error
        except BrokenPipeError as error:
            raise _PipeClosed from error


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
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code; failures are told on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    _open_closed_streams()
    invocation = Invocation()
    try:
        result = cli.main(list(args), "exporter", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except _PipeClosed:
        _forget_stdout()
        return ExitCode.DONE
    except (Exception, KeyboardInterrupt) as error:
        code = _report(error, debug=invocation.debug)
        _finish_stdout()
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def _open_closed_streams() -> None:
    """A caller may have closed stdout or stderr; what is written there then goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _report(error: BaseException, *, debug: bool) -> int:
    """Tell a failure on stderr in one line (two for wrong usage) and return the exit code."""
    if isinstance(error, BrokenPipeError):
        _forget_stdout()
        return ExitCode.DONE
    if debug and not isinstance(error, click.ClickException):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        error.show(sys.stderr)
        return error.exit_code
    failure = _as_ours(error)
    if isinstance(failure, CursorReset):
        from exporter.cli.render import print_json

        print_json(failure.as_json(), sys.stderr)
    else:
        from exporter.cli.render import note

        note(f"fatal: {failure}")
    return failure.exit_code


def _as_ours(error: BaseException) -> ExporterError:
    """An error of ours for whatever came up."""
    match error:
        case ExporterError():
            return error
        case click.Abort():
            return ExporterError("not confirmed", hint="nothing was changed")
        case KeyboardInterrupt():
            return Interrupted("SIGTERM" if isinstance(error, Terminated) else "SIGINT")
        case OSError(filename=str() as name) if error.strerror:
            return OutputFailed(name, error.strerror.lower())
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
        _forget_stdout()


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
