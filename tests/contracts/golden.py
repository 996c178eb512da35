"""Golden documents as tests start from them."""

from __future__ import annotations

import copy
import json
from io import BytesIO
from pathlib import Path
from typing import Any

from exporter.contracts.surfaces import Surface
from exporter.contracts.validate import Finding, Validation

ROOT = Path(__file__).parents[2]
SESSIONS = ROOT / "golden/sessions/v1"
RESET = ROOT / "golden/cursor_reset/v1"

TEXT = (SESSIONS / "expected.json").read_bytes()
LINES = (SESSIONS / "expected.ndjson").read_bytes()
_DOCUMENT = json.loads(TEXT)


def document() -> dict[str, Any]:
    """A session export that keeps every rule, to be changed at will."""
    return copy.deepcopy(_DOCUMENT)


def lines() -> list[dict[str, Any]]:
    """The lines of the same as NDJSON: the head, then two sessions."""
    return [json.loads(line) for line in LINES.splitlines()]


def many_lines(count: int) -> list[bytes]:
    """NDJSON lines of an export with this many sessions (at least two) that keeps every rule."""
    head, first, second = LINES.splitlines()
    like_first = (first.replace(b'"cdx-4f21"', b'"cdx-%09d"' % n) for n in range(count - 1))
    return [head, *like_first, second]


def many_as_json(count: int) -> bytes:
    """The same as one document."""
    start = TEXT[: TEXT.index(b'"sessions":[') + len(b'"sessions":[')]
    return start + b",".join(many_lines(count)[1:]) + b"]}\n"


def encoded(value: Any) -> bytes:
    """JSON text of a document, or NDJSON text of a list of lines."""
    if isinstance(value, list):
        return b"".join(json.dumps(line).encode() + b"\n" for line in value)
    return json.dumps(value).encode()


def look(
    value: Any, surface: Surface | None = None, *, strict: bool = False
) -> tuple[Validation, list[Finding]]:
    """Validate bytes, a document or lines; gives the validation and everything it found."""
    validation = Validation(surface, strict=strict)
    text = value if isinstance(value, bytes) else encoded(value)
    return validation, list(validation.findings(BytesIO(text)))


def found(value: Any, **options: Any) -> list[tuple[str, str]]:
    """(pointer, rule) of everything that is wrong."""
    return [(finding.pointer, finding.rule) for finding in look(value, **options)[1]]


def change(value: Any, pointer: str, new: Any) -> Any:
    """The same document with one place changed; the place is a pointer without escapes."""
    *above, last = pointer.split("/")[1:]
    node = value
    for step in above:
        node = node[int(step)] if isinstance(node, list) else node[step]
    node[int(last) if isinstance(node, list) else last] = new
    return value


def without(value: Any, pointer: str) -> Any:
    """The same document with one member taken out."""
    *above, last = pointer.split("/")[1:]
    node = value
    for step in above:
        node = node[int(step)] if isinstance(node, list) else node[step]
    del node[int(last) if isinstance(node, list) else last]
    return value
