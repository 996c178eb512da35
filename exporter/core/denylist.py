"""The serializer denylist: what no generic renderer of rows may ever show.

One constant for all of them: lists, tables, JSON, facts on a terminal, reprs. Deny wins: asking for
a denied name is an error, not an omission, and a name that only looks like a log is denied until
somebody puts it on the list of what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from exporter.errors import BadInput

#: Columns of a plan that are never shown, and the bytes of a kept original or packed log.
DENIED: Final = frozenset(
    {"run_track_activity_jsonl", "run_track_activity_ref", "run_zip_snapshot", "body"}
)
#: What may be said of them: whether they are there, how long they are, and how they are encoded.
ALLOWED: Final = frozenset(
    {
        "run_track_activity_bytes",
        "run_track_activity_encoding",
        *(f"has_{name}" for name in DENIED),
        *(f"{name}_bytes" for name in DENIED),
    }
)
_LIKE_A_LOG = "track_activity"
_BREAKS = re.compile(r"[\s.-]+")


def is_denied(name: str) -> bool:
    """Whether a field of this name may not be shown, however it is spelled."""
    plain = _BREAKS.sub("_", name.strip()).lower()
    if plain in ALLOWED:
        return False
    return plain in DENIED or _LIKE_A_LOG in plain


def refuse_denied(names: Iterable[str], asked_by: str = "field") -> None:
    """Raise BadInput, naming the first denied field; ``asked_by`` is the option it came with."""
    for name in names:
        if is_denied(name):
            known = name if name in DENIED else "run_track_activity_jsonl"
            raise BadInput(asked_by, f"{name} is never shown", accepted=f"has_{known}")
