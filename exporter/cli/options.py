"""Option groups that families of commands share, so that they read alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from exporter.settings import Settings, load

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


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
