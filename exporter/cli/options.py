"""Option groups that families of commands share, so that they read alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

import click

from exporter.settings import Settings, load

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Whole(click.IntRange):
    """A whole number in plain digits that a database column of 64 bits can hold."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        # int() takes digits of every script, and fails on thousands of them.
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(value)):
            self.fail(f"{value!r} is not a whole number such as 25", param, ctx)
        return int(super().convert(value, param, ctx))


class Number(click.FloatRange):
    """A finite number in plain digits: NaN is in no range and yet passes every comparison."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = float(super().convert(value, param, ctx))
        if not (str(value).isascii() and isfinite(found)):
            self.fail(f"{value!r} is not a number such as 2.5", param, ctx)
        return found


class Text(click.types.StringParamType):
    """Text that a database can be asked for: the shell passes any bytes on."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = str(super().convert(value, param, ctx))
        try:
            found.encode()
        except UnicodeEncodeError:
            self.fail(f"{found!r} is not UTF-8", param, ctx)
        if "\0" in found:
            self.fail("it holds a NUL", param, ctx)
        return found


def examples(*lines: str) -> str:
    """The epilog of a command's help; every command has one (a test looks)."""
    shown = "\n".join(f"  {line}" for line in lines)
    return f"\b\nExample{'s' if len(lines) > 1 else ''}:\n{shown}"


def _load_settings(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Settings:
    return load(value)


def database_option(function: Decorated) -> Decorated:
    """``--database-url``; the command receives the checked ``settings: Settings``."""
    return click.option(
        "--database-url",
        "settings",
        metavar="URL",
        callback=_load_settings,
        help="PostgreSQL to use; without one, the embedded server."
        " (env: EXPORTER_DATABASE_URL, then DATABASE_URL)",
    )(function)


def json_option(function: Decorated) -> Decorated:
    """``--json``; the command receives ``as_json: bool``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON instead of text for people."
    )(function)


def quiet_option(function: Decorated) -> Decorated:
    """``--quiet``; the command receives ``quiet: bool`` and gives it to render.progress."""
    return click.option("-q", "--quiet", is_flag=True, help="Draw no progress on stderr.")(function)
