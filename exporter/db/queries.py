"""Annotated ``.sql`` files: each statement has a name and a sentence above it.

A file beside the module that owns it reads::

    -- Sessions of one page, newest first.
    -- name: page
    SELECT session_key FROM sessions WHERE {eligible} ORDER BY last_activity_at DESC

and is used as ``QUERIES = queries.load(__file__)``, then ``conn.execute(QUERIES["page"])``. A
statement with ``{placeholders}`` is filled with fragments of the same kind:
``QUERIES["page"].format(eligible=QUERIES["eligible"])``; in such a one, literal braces are doubled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from psycopg import sql

_NAME = re.compile(r"^--[ \t]*name:[ \t]*(\w+)[ \t]*\n", re.MULTILINE)


def load(beside: str | Path) -> Mapping[str, sql.SQL]:
    """Statements of the ``.sql`` file that has the name of the given module, by their names.

    Comments above a name belong to the statement below it and are left out. Raises ValueError
    for a name used twice or a statement without text: defects of ours, found at import.
    """
    path = Path(beside).with_suffix(".sql")
    found: dict[str, sql.SQL] = {}
    _, *parts = _NAME.split(path.read_text(encoding="utf-8"))
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        statement = _without_trailing_comments(body)
        if name in found or not statement:
            raise ValueError(f"{path.name}: {name} is defined twice or empty")
        found[name] = sql.SQL(statement)
    return MappingProxyType(found)


def _without_trailing_comments(body: str) -> str:
    """Drop the comment lines at the end: they describe the next statement."""
    lines = body.rstrip().splitlines()
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("--")):
        lines.pop()
    return "\n".join(lines).strip().removesuffix(";")
