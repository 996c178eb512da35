"""The text of v1 documents, written fast.

Keys keep the order they are given in, `<`, `>`, `&` and the two line separators U+2028 and U+2029
are escaped, everything else above U+001F is raw UTF-8. Digests have stricter rules and a slower
encoder of their own, `exporter.core.canonical`.

The work is orjson's. It differs from the contract in number text and in the five escapes: numbers
are handed to it already written, and the escapes are put in afterwards, which is safe because
none of the five can stand outside a string.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias, cast

import orjson

from exporter.core.numbers import wire_number_text
from exporter.core.text import replace_surrogates

#: What the encoders take; `bool` is an `int`.
Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | Decimal | None

_ASCII_ESCAPES: Final = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))
_SEPARATOR_ESCAPES: Final = (
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
_PLAIN: Final = frozenset((str, int, bool, type(None)))
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode(value: Json) -> bytes:
    """Write a value on one line without white space and without a line end.

    A Decimal is written as its nearest double, text that is not Unicode gets U+FFFD for what it
    cannot say. Raises ValueError for a number that is not finite and TypeError for a value or
    key that JSON does not have.
    """
    return _dumps(value, _OPTIONS)


def encode_pretty(value: Json) -> bytes:
    """Write a value indented by two spaces, empty containers on one line; otherwise as `encode`."""
    return _dumps(value, _OPTIONS | orjson.OPT_INDENT_2)


def encode_string(text: str) -> bytes:
    """Write text as a JSON string, quotes included."""
    return _dumps(text, _OPTIONS)


def encode_float(x: float) -> bytes:
    """Write a double in its shortest form; negative zero is `-0`. ValueError if not finite."""
    return wire_number_text(x).encode()


def _dumps(value: Json, options: int) -> bytes:
    try:
        out = orjson.dumps(_written(value), option=options)
    except orjson.JSONEncodeError:
        # Looked for only after a refusal, being rare: a lone surrogate, an integer of more than 64
        # bits. Anything else that orjson refuses, it refuses again.
        out = orjson.dumps(_respelt(_written(value)), option=options)
    for raw, escaped in _ASCII_ESCAPES:
        if raw in out:
            out = out.replace(raw, escaped)
    if not out.isascii():
        for raw, escaped in _SEPARATOR_ESCAPES:
            out = out.replace(raw, escaped)
    return out


def _written(value: object) -> object:
    """A copy of the value in which every number that is not an integer is text already."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, (float, Decimal)):
        return orjson.Fragment(wire_number_text(float(value)))
    if isinstance(value, (list, tuple)):
        return [v if type(v) in _PLAIN else _written(v) for v in value]
    # The type first: it spares plain dicts the slow check against an abstract class.
    if kind is dict or isinstance(value, Mapping):
        items = cast(Mapping[object, object], value).items()
        return {k: v if type(v) in _PLAIN else _written(v) for k, v in items}
    # Enumerations and other kinds of text and integer pass; the rest orjson refuses.
    return value


def _respelt(value: object) -> object:
    """A copy without lone surrogates, and with every integer as text."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if type(value) is int:
        return orjson.Fragment(str(value))
    if isinstance(value, dict):
        return {_respelt(k) if isinstance(k, str) else k: _respelt(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_respelt(v) for v in value]
    return value
