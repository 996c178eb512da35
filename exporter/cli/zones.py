"""Time zones by name, and the zone of the system, for the reports that cut days."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_FOLDER: Final = "zoneinfo/"


def find_zone(name: str) -> ZoneInfo:
    """The zone of that exact IANA name. ValueError where there is none."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name!r}") from None


def system_zone(localtime: Path = Path("/etc/localtime")) -> ZoneInfo:
    """The zone of TZ, else of the file that the system links as its own, else UTC."""
    named = os.environ.get("TZ")
    if named is None:
        # Below the folder of the zones the path is the name.
        named = str(localtime.resolve()).partition(_FOLDER)[2]
    named = named.removeprefix(":").partition(_FOLDER)[2] or named.removeprefix(":")
    try:
        return find_zone(named.removeprefix("posix/").removeprefix("right/"))
    except ValueError:
        return find_zone("UTC")
