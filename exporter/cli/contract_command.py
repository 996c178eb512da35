"""What the commands with a contract share: exit codes, switches, numbers and versions.

Every ordinary failure of such a command is exit 1 with nothing on stdout and one ``fatal:`` line on
stderr, wrong usage included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

from exporter.cli.options import Text
from exporter.errors import BadInput, ExporterError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))


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
        message = " ".join(error.format_message().split()).removesuffix(".")
        raise ExporterError(message) from None
    except BadInput as error:
        raise ExporterError(error.message, hint=error.hint) from None


def text(name: str, help_text: str, metavar: str = "TEXT") -> Decorator:
    return click.option(name, type=Text(), default="", metavar=metavar, help=help_text)


def switch(name: str, help_text: str) -> Decorator:
    return click.option(name, is_flag=True, help=help_text)


def number(name: str, help_text: str, default: int | None = 0) -> Decorator:
    return click.option(name, type=Int64(), default=default, metavar="N", help=help_text)


def was_given(ctx: click.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE or name in ctx.meta["given_switches"]


def schema_version_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--schema-version``; the command receives ``schema_version: int | None``."""
    return number("--schema-version", "Version to write.  [default: the newest]", None)(function)


W = TypeVar("W")


def writer_of(surface: str, by_version: Mapping[int, W], version: int | None) -> W:
    """What writes this version of a surface, or the newest; BadInput lists those there are."""
    from exporter.contracts.surfaces import Writers

    return Writers(surface, by_version).pick(version)
