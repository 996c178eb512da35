"""Time zones by name, and the zone of the system, for the reports that cut days.

The rules are those of the ``tzdata`` package, which is pinned and new, and not those of the system,
which may be years old and then begin days at the wrong hour.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_FOLDER: Final = "zoneinfo/"


def find_zone(name: str) -> ZoneInfo:
    """The zone of that exact IANA name. ValueError where there is none."""
    if name not in _names():
        raise ValueError(f"unknown time zone {name!r}")
    return _zone(name)


@cache
def _names() -> frozenset[str]:
    """All there are; not so ``localtime`` or ``right/UTC``, which only some systems have."""
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split())


@cache
def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo

    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def system_zone(localtime: Path = Path("/etc/localtime")) -> ZoneInfo:
    """The zone of TZ, else of the file that the system links as its own, else UTC.

    TZ may name a zone or a file, such as ``:/etc/localtime``.
    """
    named = os.environ.get("TZ")
    named = str(localtime) if named is None else named.removeprefix(":")
    if named.startswith("/"):
        # Below the folder of the zones the path is the name; other paths may be a link into it.
        inside = named.partition(_FOLDER)[2]
        named = inside or str(Path(named).resolve()).partition(_FOLDER)[2]
    try:
        return find_zone(named.removeprefix("posix/").removeprefix("right/"))
    except ValueError:
        return find_zone("UTC")
