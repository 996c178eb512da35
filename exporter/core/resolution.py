"""What a project label stands for, as exports show it.

How it is found out is in `exporter.core.identity`; an export reads what an import found and needs
none of that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

KeySource: TypeAlias = Literal["git_remote", "root_path"]
Resolution: TypeAlias = Literal["resolved", "unknown", "ambiguous"]


@dataclass(frozen=True, slots=True)
class Identity:
    """What identifies a project: a remote everywhere, or a root path on its own machine."""

    #: ``sha256:`` and 64 hexadecimal digits.
    key: str
    key_source: KeySource
    #: Readable text; the key was made of the bytes, which need not be UTF-8.
    normalized_remote: str | None = field(default=None, repr=False)
    root_path: str | None = field(default=None, repr=False)
    #: The same path on another machine has the same key and may be another project.
    machine_local: bool = False

    def as_wire(self) -> dict[str, str | bool]:
        """Return the fields that an export shows, in their order."""
        wire: dict[str, str | bool] = {"key": self.key, "key_source": self.key_source}
        if self.normalized_remote is not None:
            wire["normalized_remote"] = self.normalized_remote
        if self.root_path is not None:
            wire["root_path"] = self.root_path
        if self.machine_local:
            wire["machine_local"] = True
        return wire


@dataclass(frozen=True, slots=True)
class ProjectResolution:
    """What a project label stands for."""

    #: ``resolved`` has an identity; ``unknown`` found none; ``ambiguous`` found several.
    resolution: Resolution
    identity: Identity | None = None

    def including(self, found: Identity | None) -> ProjectResolution:
        """Return the resolution after one more identity was found for the label."""
        if found is None or self.resolution == "ambiguous":
            return self
        if self.identity is None:
            return ProjectResolution("resolved", found)
        return self if self.identity.key == found.key else AMBIGUOUS

    def as_wire(self) -> dict[str, object]:
        """Return the entry that an export shows, its fields in their order."""
        identity = None if self.identity is None else self.identity.as_wire()
        return {"resolution": self.resolution, "identity": identity}


UNKNOWN: Final = ProjectResolution("unknown")
AMBIGUOUS: Final = ProjectResolution("ambiguous")
