"""The list of surfaces, and the writers of their versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exporter.contracts.surfaces import SURFACES, Surface, Writers, find
from exporter.errors import BadInput

LATER = Surface(name="sessions", version=2, since="9.0.0", marks=frozenset())


def test_a_surface_is_found_by_name_in_its_newest_version() -> None:
    assert find("sessions").version == max(s.version for s in SURFACES if s.name == "sessions")
    assert find("sessions", among=[*SURFACES, LATER]) is LATER
    assert find("sessions", 1, among=[*SURFACES, LATER]).since == "0.1.0"


def test_unknown_names_and_versions_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(BadInput, match=r"accepted: sessions, .*cursor_reset"):
        find("session")
    with pytest.raises(BadInput, match="--schema-version: sessions has no version 7; accepted: 1"):
        find("sessions", 7)


def test_no_surface_is_listed_twice_and_each_has_its_schema() -> None:
    assert len({surface.label for surface in SURFACES}) == len(SURFACES)
    for surface in SURFACES:
        assert surface.schema_file.is_file()


def test_a_released_version_is_written_after_a_newer_one_exists() -> None:
    writers: Writers[Callable[[str], str]] = Writers(
        "sessions", {1: lambda project: f"project {project}", 2: lambda project: f"p. {project}"}
    )
    assert writers.versions == [1, 2]
    assert writers.pick(1)("tern") == "project tern"
    assert writers.pick(2)("tern") == "p. tern"
    assert writers.pick()("tern") == "p. tern"
    with pytest.raises(BadInput, match="sessions has no version 3; accepted: 1, 2"):
        writers.pick(3)


def test_with_one_version_that_one_is_written() -> None:
    writers = Writers("sessions", {1: "the only one"})
    assert writers.pick() == writers.pick(1) == "the only one"
    with pytest.raises(BadInput, match=r"accepted: 1$"):
        writers.pick(2)
