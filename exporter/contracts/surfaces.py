"""Every document that leaves the program: its name, versions, schema and golden folder.

A version, once released, keeps its schema and its golden files for ever. Which versions can
still be written is the business of each export, which keeps its writers in a `Writers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar, get_args

from exporter import paths
from exporter.core.calendar import UNITS
from exporter.core.pricing import CostSource
from exporter.core.resolution import KeySource, Resolution
from exporter.errors import BadInput

W = TypeVar("W")

#: Who was at the other end of a session; the SQL of the session export spells it.
Classification = Literal["interactive", "automated"]
#: Whether a session of the activity report was at work; the SQL of that report spells it.
TimingQuality = Literal["timed", "untimed"]


@dataclass(frozen=True, eq=False)
class Surface:
    """One version of one document."""

    name: str
    version: int
    #: Release of the program that wrote it first.
    since: str
    #: Keys by which a document of this kind is told from others; it has them all.
    marks: frozenset[str]
    #: Member of the document that holds the rows; None for a document without.
    rows: str | None = None
    #: Definitions in the schema: of one row, and of the first line of an NDJSON stream.
    row_definition: str | None = None
    meta_definition: str | None = None
    #: A second long array of the JSON form, which an NDJSON stream leaves out, and its items.
    further_rows: str | None = None
    further_definition: str | None = None
    #: Definition of each closed enum, and the values that the code can write.
    enums: Mapping[str, tuple[str, ...]] | None = None

    @cached_property
    def label(self) -> str:
        """``sessions v1``, as messages name it."""
        return f"{self.name} v{self.version}"

    @property
    def schema_file(self) -> Path:
        return paths.schemas_folder() / f"{self.name}.v{self.version}.schema.json"

    @property
    def example_file(self) -> Path:
        return paths.schemas_folder() / "examples" / f"{self.name}.v{self.version}.json"

    @property
    def schema_id(self) -> str:
        return f"urn:exporter:schema:{self.name}:v{self.version}"

    @property
    def golden(self) -> str:
        """The folder of its golden files, as written in the manifest."""
        return f"golden/{self.name}/v{self.version}"


SURFACES: Final = (
    Surface(
        name="sessions",
        version=1,
        since="0.1.0",
        marks=frozenset({"schema_version", "cursor", "sessions"}),
        rows="sessions",
        row_definition="session",
        meta_definition="meta",
        enums={
            "resolution": get_args(Resolution),
            "classification": get_args(Classification),
            "cost_source": tuple(CostSource),
            "key_source": get_args(KeySource),
        },
    ),
    Surface(
        name="usage_daily",
        version=1,
        since="0.1.0",
        marks=frozenset({"schema_version", "daily", "sessionCounts"}),
        rows="daily",
        row_definition="day",
        meta_definition="meta",
        enums={
            "resolution": get_args(Resolution),
            "cost_source": tuple(CostSource),
            "key_source": get_args(KeySource),
        },
    ),
    Surface(
        name="activity_report",
        version=1,
        since="0.1.0",
        marks=frozenset({"schema_version", "buckets", "by_session"}),
        rows="by_session",
        row_definition="session",
        meta_definition="meta",
        further_rows="intervals",
        further_definition="interval",
        enums={
            "resolution": get_args(Resolution),
            "cost_source": tuple(CostSource),
            "key_source": get_args(KeySource),
            "bucket_unit": tuple(dict.fromkeys(unit.name for unit in UNITS.values())),
            "timing_quality": get_args(TimingQuality),
        },
    ),
    Surface(name="cursor_reset", version=1, since="0.1.0", marks=frozenset({"error", "message"})),
)


def find(name: str, version: int | None = None, among: Iterable[Surface] = SURFACES) -> Surface:
    """The surface of that name, its newest version if none is given.

    Raises BadInput, which lists those that there are.
    """
    named = {surface.version: surface for surface in among if surface.name == name}
    if not named:
        known = ", ".join(dict.fromkeys(surface.name for surface in among))
        raise BadInput("SURFACE", f"{name!r} is none", accepted=known)
    if version is None:
        return named[max(named)]
    if version not in named:
        raise _unknown_version(name, version, named)
    return named[version]


class Writers(Generic[W]):
    """What can still write each version of one surface.

    An export keeps one, with an entry for every version it can write, and gives it the value of
    its ``--schema-version``.
    """

    def __init__(self, surface: str, by_version: Mapping[int, W]) -> None:
        self.surface = surface
        self._by_version = dict(by_version)

    @property
    def versions(self) -> list[int]:
        return sorted(self._by_version)

    def pick(self, version: int | None = None) -> W:
        """The writer of a version, of the newest if none is given; BadInput for any other."""
        if version is None:
            version = max(self._by_version)
        if version not in self._by_version:
            raise _unknown_version(self.surface, version, self._by_version)
        return self._by_version[version]


def _unknown_version(name: str, version: int, known: Iterable[int]) -> BadInput:
    return BadInput(
        "--schema-version",
        f"{name} has no version {version}",
        accepted=", ".join(str(number) for number in sorted(known)),
    )
