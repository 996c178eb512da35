"""Canonical JSON for digests, and nothing but digests.

The bytes follow RFC 8785 with one deviation that the v1 surfaces fixed long ago: U+2028 and
U+2029 are escaped. Ordinary output has its own, faster encoder in `exporter.core.wire`.

`canonical_bytes` takes any value. Where the shape is fixed and the rows are many, a module may
write the text itself from `json_string` and `exporter.core.numbers.number_text`; the tests hold
such text against `canonical_bytes`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TypeAlias

import rfc8785

__all__ = ["MAX_DEPTH", "CanonicalError", "canonical_bytes", "digest", "json_string"]

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

#: Containers inside containers. Far above any document of ours, far below Python's stack.
MAX_DEPTH = 100

#: From here on neighbouring integers share a double, so a reader could not get the value back.
_INTEGER_BOUND = 2**53

_NOT_UNICODE = "text holds half of a surrogate pair, which UTF-8 cannot encode"
_LINE_SEPARATOR, _PARAGRAPH_SEPARATOR = "\u2028", "\u2029"
_quote = json.JSONEncoder(ensure_ascii=False).encode


class CanonicalError(ValueError):
    """A value has no canonical form.

    `path` says where in the document, as ``$`` followed by keys and indexes; `reason` says why.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def canonical_bytes(value: Json) -> bytes:
    """Return the canonical UTF-8 bytes of a JSON value.

    Raises `CanonicalError` for NaN and infinities, integers outside ±(2^53 - 1), text that is
    not valid Unicode, keys that are not text, other types, and nesting beyond `MAX_DEPTH`.
    """
    for path, reason in _faults(value):
        raise CanonicalError(_path_text(path), reason)
    encoded = rfc8785.dumps(value)
    # Both can only stand inside a string, where their escape means the same.
    return encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def digest(data: bytes) -> str:
    """Return ``sha256:`` and the lower-case hexadecimal SHA-256 of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def json_string(text: str) -> str:
    """Return the quoted form that `canonical_bytes` gives the same text.

    Raises `CanonicalError` for text that is not valid Unicode.
    """
    quoted = _quote(text)
    if quoted.isascii():
        return quoted
    if not _is_unicode(text):
        raise CanonicalError("$", _NOT_UNICODE)
    return quoted.replace(_LINE_SEPARATOR, "\\u2028").replace(_PARAGRAPH_SEPARATOR, "\\u2029")


#: A path from the inside out: the last key or index, and the path before it.
_Path: TypeAlias = "tuple[_Path, str | int] | None"


def _faults(value: object) -> Iterator[tuple[_Path, str]]:
    """Yield every place that has no canonical form; the caller may stop at the first.

    A loop instead of recursion, so that deep input meets the limit and not the stack.
    """
    pending: list[tuple[object, _Path, int]] = [(value, None, 0)]
    while pending:
        node, path, depth = pending.pop()
        if isinstance(node, (list, tuple, dict)):
            if depth == MAX_DEPTH:
                yield path, f"nested deeper than {MAX_DEPTH} levels"
                continue
            items = node.items() if isinstance(node, dict) else enumerate(node)
            for key, child in items:
                if isinstance(node, dict) and (reason := _key_fault(key)):
                    yield path, reason
                pending.append((child, (path, key), depth + 1))
        elif reason := _scalar_fault(node):
            yield path, reason


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str):
        return f"key {key!r} is not text"
    return None if _is_unicode(key) else f"key {key!r}: {_NOT_UNICODE}"


def _scalar_fault(node: object) -> str | None:
    if node is None or isinstance(node, bool):
        return None
    if isinstance(node, str):
        return None if _is_unicode(node) else _NOT_UNICODE
    if isinstance(node, int):
        if -_INTEGER_BOUND < node < _INTEGER_BOUND:
            return None
        return f"an integer of {node.bit_length()} bits may not fit a double; pass a float or text"
    if isinstance(node, float):
        return None if isfinite(node) else f"{node} has no JSON form; a number must be finite"
    return f"a value of type {type(node).__name__} has no JSON form"


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path_text(path: _Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f".{step}" if isinstance(step, str) else f"[{step}]")
    return "$" + "".join(reversed(steps))
