"""Whatever stands in a document, it is judged: a violation is told, nothing is raised."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from exporter.contracts import surfaces
from exporter.contracts.surfaces import Surface
from exporter.contracts.validate import meaning
from tests.contracts.golden import ROOT, look

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**53, 2**64, 10**30, 1.7e308, -1.7e308, 5e-324, "", "\ud7ff", "unknown"),
    *(
        "2026-02-30T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0000-00-00T00:00:00Z",
        [],
        {},
        [1],
        {"a": 1},
    ),
)
WITH_ROWS = [surface for surface in surfaces.SURFACES if surface.rows]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children: Any = ()
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list):
        children = enumerate(node)
    for step, child in children:
        yield (*path, step)
        yield from places(child, (*path, step))


def put(node: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value


@pytest.mark.parametrize("surface", WITH_ROWS, ids=lambda surface: surface.label)
def test_no_value_in_any_place_is_too_odd_to_be_judged(surface: Surface) -> None:
    """Every place with an odd value, and pairs of places; whole documents and streams."""
    chance = random.Random(20260214)
    folder = ROOT / surface.golden
    whole = json.loads((folder / "expected.json").read_bytes())
    lines = [json.loads(line) for line in (folder / "expected.ndjson").read_bytes().splitlines()]
    for start in (whole, lines):
        everywhere = [path for path in places(start) if start is whole or len(path) > 1]
        for path in everywhere:
            new = copy.deepcopy(start)
            put(new, path, chance.choice(VALUES))
            other = chance.choice(everywhere)
            if other[: len(path)] != path:
                put(new, other, chance.choice(VALUES))
            for finding in look(new, surface)[1]:
                assert meaning(finding.rule) and finding.line > 0


@pytest.mark.parametrize("surface", WITH_ROWS, ids=lambda surface: surface.label)
def test_a_document_without_any_one_member_is_judged(surface: Surface) -> None:
    whole = json.loads((ROOT / surface.golden / "expected.json").read_bytes())
    for path in places(whole):
        if isinstance(path[-1], str):
            new: Any = copy.deepcopy(whole)
            node = new
            for step in path[:-1]:
                node = node[step]
            del node[path[-1]]
            look(new, surface)
