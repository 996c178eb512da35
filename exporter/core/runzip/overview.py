"""The overview of a run: from the bytes of its file to an object that may be stored.

The file is written by racing processes, so bytes may follow a complete object; a number may be
NaN or a string. What a JSONB column would refuse is mended here, and nothing is invented: a
figure that cannot be used becomes null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from math import isfinite
from typing import TypeAlias

from exporter.core.runzip.codes import LIMITS, Limits

__all__ = ["Json", "parse_overview", "usable_number"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")

_TOTALS = ("total_cost", "total_input_tokens", "total_output_tokens", "total_thinking_tokens")
_OF_MODEL = ("total_cost", "input_tokens", "output_tokens", "thinking_tokens", "calls")
_NUMERIC = frozenset({*_TOTALS, "total_tokens"})
_NUMERIC_OF_MODEL = frozenset({*_OF_MODEL, "total_tokens"})


def parse_overview(raw: bytes, limits: Limits = LIMITS) -> dict[str, Json] | None:
    """Return the object of an overview file, or None when the file is not acceptable.

    Accepted is one JSON object in UTF-8, with or without bytes behind it, within the limits on
    bytes, levels and models. In the known numeric fields, numbers in quotes become numbers;
    NaN, infinities, negatives and anything else become null. In all text, U+0000 is left out
    and half a surrogate pair becomes U+FFFD. Unknown fields are kept.
    """
    if len(raw) > limits.overview_bytes:
        return None
    try:
        text = raw.decode("utf-8-sig").lstrip()
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or _levels(value, limits.overview_levels) is None:
        return None
    models = value.get("models")
    if isinstance(models, dict) and len(models) > limits.overview_models:
        return None
    cleaned = _clean(value)
    assert isinstance(cleaned, dict)
    return _with_numbers(cleaned)


def _levels(value: Json, limit: int) -> int | None:
    """Return how deep the value nests, or None beyond `limit`."""
    level, current = 0, [value]
    while current := [item for item in current if isinstance(item, dict | list)]:
        level += 1
        if level > limit:
            return None
        current = [inner for item in current for inner in _inner(item)]
    return level


def _inner(item: Json) -> Iterable[Json]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _clean(value: Json) -> Json:
    if isinstance(value, dict):
        return {_clean_text(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def _clean_text(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text.replace("\0", ""))


def _with_numbers(overview: dict[str, Json]) -> dict[str, Json]:
    mended = _numbers_in(overview, _NUMERIC)
    if "models" in mended:
        models = mended["models"]
        mended["models"] = (
            {
                name: _numbers_in(model, _NUMERIC_OF_MODEL) if isinstance(model, dict) else None
                for name, model in models.items()
            }
            if isinstance(models, dict)
            else None
        )
    return mended


def _numbers_in(fields: dict[str, Json], numeric: frozenset[str]) -> dict[str, Json]:
    return {key: usable_number(item) if key in numeric else item for key, item in fields.items()}


def usable_number(value: Json) -> int | float | None:
    """Return a count or an amount, also one in quotes; None for anything else.

    Anything else is also what is negative, not finite, or beyond the range of a float.
    """
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip())
        if found is None or len(value) > 400:
            return None
        value = float(value) if found[1] or found[2] else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if isfinite(value) and value >= 0 else None
    except OverflowError:
        return None
