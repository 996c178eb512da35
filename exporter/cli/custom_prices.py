"""Rates of one's own, from a TOML file, for the commands that price."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exporter.errors import BadInput
from exporter.settings import given_path

if TYPE_CHECKING:
    from exporter.core.pricing import Rates

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

VARIABLE = "EXPORTER_CUSTOM_PRICES"
_RATES = ("input", "output", "cache_creation", "cache_read")
#: A file of more bytes, or with a longer line, holds something else: reading a dotted key of TOML
#: takes time with the square of its length.
_MOST_BYTES = 1_000_000
_MOST_LINE = 4_096
#: Longest model name in a message.
_MOST_SHOWN = 100
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
        return read_custom_rates(given_path("--custom-prices", value), "--custom-prices")
    named = os.environ.get(VARIABLE, "").strip()
    return read_custom_rates(given_path(VARIABLE, named), VARIABLE) if named else None


def read_custom_rates(path: Path, named_by: str) -> dict[str, Rates]:
    """Rates by model pattern, from the tables ``custom_model_pricing.<model>`` of a TOML file.

    Rates are USD per million tokens; one that is left out is 0, and a negative one is an amount
    like any other. Raises BadInput, naming the option or variable, for a file that cannot be read
    or an entry that cannot be meant.
    """
    from exporter.core.pricing import Rates

    tables = _document(path, named_by).get("custom_model_pricing")
    if not isinstance(tables, dict):
        raise BadInput(named_by, f"{path} has no custom_model_pricing table", accepted=_ACCEPTED)
    return {model: Rates(*_entry(named_by, model, table)) for model, table in tables.items()}


def _document(path: Path, named_by: str) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        longest = max(map(len, content.splitlines()), default=0)
        if len(content) > _MOST_BYTES or longest > _MOST_LINE:
            raise BadInput(named_by, f"{path} is too long for prices", accepted=_ACCEPTED)
        return tomllib.loads(content.decode())
    except OSError as error:
        raise BadInput(named_by, f"{path}: {error.strerror}", accepted=_ACCEPTED) from None
    except UnicodeDecodeError:
        raise BadInput(named_by, f"{path} is not in UTF-8", accepted=_ACCEPTED) from None
    except RecursionError:
        raise BadInput(named_by, f"{path} is nested too deeply", accepted=_ACCEPTED) from None
    except ValueError as error:
        # Of the reason only the place is told: the file may be another one, with secrets in it.
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
        where = f" at {place[1]}" if place else ""
        raise BadInput(named_by, f"{path} is no TOML{where}", accepted=_ACCEPTED) from None


def _entry(named_by: str, model: str, table: object) -> list[float]:
    shown = model if len(model) <= _MOST_SHOWN else f"{model[:_MOST_SHOWN]}\u2026"
    if "\0" in model or not isinstance(table, dict) or set(table) - set(_RATES):
        raise BadInput(named_by, f"the entry of {shown} is not understood", accepted=_ACCEPTED)
    rates = [table.get(name, 0) for name in _RATES]
    if not all(map(_is_rate, rates)):
        problem = f"a rate of {shown} is no number, or one that no sum could hold"
        raise BadInput(named_by, problem, accepted=_ACCEPTED)
    return [float(rate) for rate in rates]


def _is_rate(rate: object) -> bool:
    from exporter.core.numbers import is_money

    try:
        return isinstance(rate, int | float) and not isinstance(rate, bool) and is_money(rate)
    except OverflowError:
        return False
