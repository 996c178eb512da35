"""Rates of one's own, from a TOML file, for the commands that price."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exporter.errors import BadInput

if TYPE_CHECKING:
    from exporter.core.pricing import Rates

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

VARIABLE = "EXPORTER_CUSTOM_PRICES"
_RATES = ("input", "output", "cache_creation", "cache_read")
_ACCEPTED = "[custom_model_pricing.my-model] with input = 1.25 and output = 5 (USD per million)"


def custom_prices_option(function: Decorated) -> Decorated:
    """``--custom-prices``; the command receives ``custom_rates: dict[str, Rates] | None``."""
    return click.option(
        "--custom-prices",
        "custom_rates",
        metavar="FILE",
        callback=_load,
        help=f"TOML file with rates of your own, before all others. (env: {VARIABLE})",
    )(function)


def _load(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> dict[str, Rates] | None:
    if value is not None:
        return read_custom_rates(Path(value), "--custom-prices")
    named = os.environ.get(VARIABLE, "").strip()
    return read_custom_rates(Path(named), VARIABLE) if named else None


def read_custom_rates(path: Path, named_by: str) -> dict[str, Rates]:
    """Rates by model pattern, from the tables ``custom_model_pricing.<model>`` of a TOML file.

    Rates are USD per million tokens; one that is left out is 0. Raises BadInput, naming the
    option or variable, for a file that cannot be read or an entry that cannot be meant.
    """
    import tomllib

    from exporter.core.pricing import Rates

    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(named_by, f"{path}: {error.strerror}", accepted=_ACCEPTED) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(named_by, f"{path} is no TOML: {error}", accepted=_ACCEPTED) from None
    tables = document.get("custom_model_pricing")
    if not isinstance(tables, dict):
        raise BadInput(named_by, f"{path} has no custom_model_pricing table", accepted=_ACCEPTED)
    return {model: Rates(*_entry(named_by, model, table)) for model, table in tables.items()}


def _entry(named_by: str, model: str, table: object) -> list[float]:
    if not isinstance(table, dict) or set(table) - set(_RATES):
        raise BadInput(named_by, f"the entry of {model} is not understood", accepted=_ACCEPTED)
    rates = [table.get(name, 0) for name in _RATES]
    for rate in rates:
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not _is_finite(rate):
            raise BadInput(named_by, f"a rate of {model} is no number", accepted=_ACCEPTED)
    return [float(rate) for rate in rates]


def _is_finite(rate: float) -> bool:
    from math import isfinite

    try:
        return isfinite(rate)
    except OverflowError:
        return False
