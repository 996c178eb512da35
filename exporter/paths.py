"""Where the package's own files lie: inside an installed wheel, or in a checkout.

A wheel carries ``alembic/`` as ``exporter/_alembic`` and ``schemas/`` as ``exporter/_schemas``;
a checkout has them beside the package. Callers ask here and need not know which it is.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_REVISION = re.compile(r"""^revision(?:\s*:\s*str)?\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def migrations_folder() -> Path:
    """The folder with ``env.py`` and ``versions/``."""
    return _carried("alembic")


def schemas_folder() -> Path:
    """The folder with the published JSON Schemas."""
    return _carried("schemas")


def data_folder() -> Path:
    """The folder with package data, such as the embedded price catalogue."""
    return _PACKAGE / "data"


@cache
def known_revisions() -> tuple[str, ...]:
    """Revision ids of all migrations of this program, oldest first; the last one is the head.

    Read from the numbered files and not through alembic, whose import alone takes longer than a
    whole data command may.
    """
    scripts = sorted((migrations_folder() / "versions").glob("[0-9]*.py"))
    found = [_REVISION.search(script.read_text(encoding="utf-8")) for script in scripts]
    return tuple(match[1] for match in found if match)


def _carried(name: str) -> Path:
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parent / name
