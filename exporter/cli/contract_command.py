"""What the commands with a contract share: exit codes, switches, and where the bytes go.

Every ordinary failure of such a command is exit 1 with nothing on stdout and one ``fatal:`` line on
stderr, wrong usage included.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from exporter.errors import BadInput, ExporterError, OutputFailed

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_COPY_BYTES: Final = 1 << 20


class Int64(click.ParamType[int]):
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


def text(name: str, help_text: str, metavar: str = "TEXT") -> Decorator:
    return click.option(name, default="", metavar=metavar, help=help_text)


def switch(name: str, help_text: str) -> Decorator:
    return click.option(name, is_flag=True, help=help_text)


def number(name: str, help_text: str, default: int | None = 0) -> Decorator:
    return click.option(name, type=Int64(), default=default, metavar="N", help=help_text)


def was_given(ctx: click.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE or name in ctx.meta["given_switches"]


@contextmanager
def target(output: str | None) -> Iterator[IO[bytes]]:
    """Where the bytes go: all of them when the block ends well, none when it fails.

    A link is followed. What is no ordinary file (a device, a pipe) is written into, not replaced.
    """
    if output is None or output == "-":
        with _spooled(lambda: nullcontext(sys.stdout.buffer)) as out:
            yield out
        return
    path = Path(os.path.realpath(output))
    if not output or path.is_dir():
        raise OutputFailed(output or "''", "it is no file name")
    try:
        if path.exists() and not path.is_file():
            with _spooled(lambda: path.open("wb")) as out:
                yield out
        else:
            with _beside(path) as out:
                yield out
    except OSError as error:
        raise OutputFailed(output, (error.strerror or "failed").lower()) from None


@contextmanager
def _spooled(open_it: Callable[[], AbstractContextManager[IO[bytes]]]) -> Iterator[IO[bytes]]:
    """Keep the bytes aside, in memory or a nameless file, until all of them are there."""
    with tempfile.SpooledTemporaryFile(max_size=8 * _COPY_BYTES) as spool:
        yield spool
        spool.seek(0)
        with open_it() as out:
            while block := spool.read(_COPY_BYTES):
                out.write(block)
            out.flush()


@contextmanager
def _beside(path: Path) -> Iterator[IO[bytes]]:
    """A file beside the path, which takes its place, and its rights, when the block ends well."""
    handle, beside = tempfile.mkstemp(prefix=".exporter-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=_COPY_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, path.stat().st_mode & 0o7777 if path.exists() else _usual_rights())
        os.replace(beside, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)


def _usual_rights() -> int:
    """A temporary file is private; a new one is as open as the user's mask allows."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def schema_version_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--schema-version``; the command receives ``schema_version: int | None``."""
    return number("--schema-version", "Version to write.  [default: the newest]", None)(function)


W = TypeVar("W")


def writer_of(surface: str, by_version: Mapping[int, W], version: int | None) -> W:
    """What writes this version of a surface, or the newest; BadInput lists those there are."""
    from exporter.contracts.surfaces import Writers

    return Writers(surface, by_version).pick(version)
