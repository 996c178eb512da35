"""The published schemas: what they accept, their strict form, and the fast way to yes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.contracts import schema as schemas
from exporter.contracts import surfaces
from exporter.contracts.surfaces import SURFACES, Surface
from tests.contracts import golden

CASES = golden.ROOT / "schemas/cases"
EXPECTED = json.loads((CASES / "expected.json").read_bytes())
FILES = sorted(CASES.glob("*/*/*.json"))
SESSIONS = surfaces.find("sessions")
ROW = SESSIONS.row_definition or ""


def surface_of(file: Path) -> Surface:
    name, _, version = file.parents[1].name.partition(".v")
    return surfaces.find(name, int(version))


def case_id(file: Path) -> str:
    return f"{file.parents[1].name}-{file.stem}"


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.label)
def test_a_schema_is_a_schema_under_its_own_name(surface: Surface) -> None:
    schema = schemas.load(surface)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == surface.schema_id
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.label)
def test_every_field_is_described_and_every_reference_leads_somewhere(surface: Surface) -> None:
    schema = schemas.load(surface)
    definitions = schema.get("$defs", {})
    for owner in (schema, *definitions.values()):
        for name, node in owner.get("properties", {}).items():
            target = definitions[node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else node
            assert node.get("description") or target.get("description"), name


@pytest.mark.parametrize("file", FILES, ids=case_id)
@pytest.mark.parametrize("strict", [False, True], ids=["published", "strict"])
def test_a_case_is_judged_as_it_is_written(file: Path, strict: bool) -> None:
    surface = surface_of(file)
    expected = EXPECTED[file.parents[1].name]
    wanted = list(expected["invalid"].get(file.stem, []))
    if strict:
        wanted += expected["strict"].get(file.stem, [])
    assert bool(expected["invalid"].get(file.stem)) == (file.parent.name == "invalid")
    document = json.loads(file.read_bytes())
    checks = schemas.Checks(surface, strict=strict)
    assert sorted([v.pointer, v.rule] for v in checks.violations(None, document)) == sorted(wanted)


@pytest.mark.parametrize("file", FILES, ids=case_id)
def test_the_reference_validator_agrees(file: Path) -> None:
    schema = schemas.load(surface_of(file))
    document = json.loads(file.read_bytes())
    valid = jsonschema.Draft202012Validator(schema).is_valid(document)
    assert valid == (file.parent.name == "valid")


def test_every_case_that_is_expected_exists() -> None:
    there = {(file.parents[1].name, file.stem) for file in FILES}
    for name, groups in EXPECTED.items():
        for case in [*groups["invalid"], *groups["strict"]]:
            assert (name, case) in there


def test_the_strict_form_closes_objects_and_leaves_maps_and_conditions() -> None:
    schema = {
        "type": "object",
        "properties": {
            "open": {"type": "object", "properties": {}},
            "closed": {"type": "object", "properties": {}, "additionalProperties": False},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "entries": {"type": "array", "items": {"type": "object", "properties": {}}},
        },
        "if": {"properties": {"open": {"const": {}}}},
    }
    before = copy.deepcopy(schema)
    closed = schemas.strict(schema)
    assert closed["additionalProperties"] is False
    assert closed["properties"]["open"]["additionalProperties"] is False
    assert closed["properties"]["entries"]["items"]["additionalProperties"] is False
    assert closed["properties"]["map"]["additionalProperties"] == {"type": "string"}
    assert "additionalProperties" not in closed["if"]
    assert schema == before


def test_a_pointer_escapes_what_it_must() -> None:
    assert schemas.pointer(("projects", "a/b~c", 0)) == "/projects/a~1b~0c/0"
    assert schemas.pointer(()) == ""
    assert schemas.place(("projects", "a/b", 3, "id"), {"projects", "id"}) == "/projects/*/*/id"


def test_what_is_wrong_is_told_of_the_form_that_was_meant() -> None:
    schema = {
        "anyOf": [
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
            {"type": "null"},
        ]
    }
    validator = schemas.validator(schema)
    told = [[v.pointer, v.rule] for v in schemas.violations(validator, {"a": 1})]
    assert told == [["/a", "type"]]
    assert [[v.pointer, v.rule] for v in schemas.violations(validator, 7)] == [["", "anyOf"]]
    assert list(schemas.violations(validator, None)) == []


def test_a_document_too_deep_to_compare_is_told_so() -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}
    validator = schemas.validator({"uniqueItems": True})
    assert [v.rule for v in schemas.violations(validator, [deep, deep])] == ["too_deep"]


# -- the fast way to yes ------------------------------------------------------------------------

STRICT = schemas.Checks(SESSIONS, strict=True)
OPEN = schemas.Checks(SESSIONS)
ROWS = golden.lines()[1:]

JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, child in children:
        found.append((*path, key))
        if isinstance(child, dict | list):
            found += places(child, (*path, key))
    return found


@st.composite
def damaged_rows(draw: st.DrawFn) -> dict[str, Any]:
    """A session with a few members replaced, removed or added."""
    row = copy.deepcopy(draw(st.sampled_from(ROWS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(row)))
        node = row
        for step in path[:-1]:
            node = node[step]
        match draw(st.sampled_from(["replace", "remove", "add", "repeat"])):
            case "replace":
                node[path[-1]] = draw(JUNK)
            case "remove":
                del node[path[-1]]
            case "add" if isinstance(node, dict):
                node[draw(st.text(max_size=4))] = draw(JUNK)
            case "repeat" if isinstance(node, list):
                node.append(node[path[-1]])
    return row


@settings(max_examples=400, deadline=None)
@given(damaged_rows())
def test_whatever_passes_the_fast_check_is_valid(row: dict[str, Any]) -> None:
    text = json.dumps(row).encode()
    for checks in (STRICT, OPEN):
        if checks.is_good_row(text):
            assert list(checks.violations(ROW, orjson.loads(text))) == []


def test_the_fast_check_knows_a_good_session() -> None:
    for line in golden.LINES.splitlines()[1:]:
        assert STRICT.is_good_row(line)
        assert STRICT.is_good_row(line + b"\n")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"nul", b'{"id":"\xff"}', b'{"id":"\\ud800"}', b'{"id":NaN}', b"[" * 5000],
)
def test_the_fast_check_refuses_what_is_no_session(text: bytes) -> None:
    assert not STRICT.is_good_row(text)


@pytest.mark.parametrize(
    "node",
    [
        {"type": "object", "properties": {"a": {"const": 1}}, "required": []},
        {"type": "string", "maxLength": 3},
        {"oneOf": [{"type": "string"}]},
        {"type": ["string", "null"], "if": {}},
        {"type": "object", "required": [], "properties": {"a": {"$ref": "#/$defs/x"}}},
        {"type": "array", "items": {"type": "array", "items": {}, "uniqueItems": True}},
    ],
)
def test_a_keyword_without_a_fast_form_leaves_the_validator_alone(node: dict[str, Any]) -> None:
    assert schemas.fast_check({"$defs": {"x": node}}, "x") is None
