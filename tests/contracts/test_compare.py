"""Changes of schemas and of documents, judged by the rules of docs/contracts/versioning.md."""

from __future__ import annotations

import copy
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.contracts import schema as schemas
from exporter.contracts.compare import RULES, Change, Severity, compare_schemas, in_order
from exporter.contracts.drift import compare_documents
from exporter.contracts.surfaces import SURFACES, Surface, find
from exporter.errors import SourceNotRecognised
from tests.contracts import golden
from tests.contracts.golden import change, document, encoded, lines, without

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parent / "schema_pairs.jsonl").read_text().splitlines()
]
#: Rules that only documents can break.
OF_DOCUMENTS = {"rule_broken", "rule_kept", "unknown_field_removed", "surface_changed"}


def as_lists(changes: list[Change]) -> list[list[str]]:
    found = [[str(change.severity), change.rule, change.place] for change in changes]
    return sorted(found, key=lambda change: (change[2], change[1]))


# -- schemas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["case"])
def test_a_pair_of_schemas_is_judged_as_it_is_written(pair: dict[str, Any]) -> None:
    before = copy.deepcopy((pair["old"], pair["new"]))
    assert as_lists(compare_schemas(pair["old"], pair["new"])) == pair["changes"]
    assert (pair["old"], pair["new"]) == before


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["case"])
def test_a_schema_does_not_differ_from_its_copy(pair: dict[str, Any]) -> None:
    for schema in (pair["old"], pair["new"]):
        assert compare_schemas(schema, copy.deepcopy(schema)) == []


def test_there_are_enough_pairs_and_every_rule_is_in_one() -> None:
    assert len(PAIRS) >= 150
    assert len({pair["case"] for pair in PAIRS}) == len(PAIRS)
    used = {change[1] for pair in PAIRS for change in pair["changes"]}
    assert used == set(RULES) - OF_DOCUMENTS


@pytest.mark.parametrize(
    ("change_in_words", "edit", "expected"),
    [
        ("field removed", lambda d: d["session"]["properties"].pop("cwd"), "field_removed"),
        (
            "field retyped",
            lambda d: d["session"]["properties"]["id"].update(type="integer"),
            "retyped",
        ),
        (
            "required dropped",
            lambda d: d["session"]["required"].remove("id"),
            "field_became_optional",
        ),
        ("closed enum grown", lambda d: d["resolution"]["enum"].append("likely"), "enum_grown"),
        (
            "nullable added",
            lambda d: d["session"]["properties"]["id"].update(type=["string", "null"]),
            "nullable_added",
        ),
        (
            "nullable removed",
            lambda d: d["session"]["properties"]["started_at"].update(type="string"),
            "nullable_removed",
        ),
        ("order", lambda d: d["projects"].update({"$comment": "order: none"}), "order_changed"),
        (
            "digest derivation",
            lambda d: d["pricing_block"]["properties"]["digest"].pop("$comment"),
            "derivation_changed",
        ),
        (
            "key derivation",
            lambda d: d["identity"]["properties"]["key"].update({"$comment": "derivation: v2"}),
            "derivation_changed",
        ),
    ],
)
def test_what_the_contract_calls_breaking_is_breaking(
    change_in_words: str, edit: Any, expected: str
) -> None:
    old = schemas.load(find("sessions"))
    new = copy.deepcopy(old)
    edit(new["$defs"])
    assert [(c.severity, c.rule) for c in compare_schemas(old, new)] == [
        (Severity.BREAKING, expected)
    ]


def test_a_new_field_is_additive() -> None:
    old = schemas.load(find("sessions"))
    new = copy.deepcopy(old)
    new["$defs"]["session"]["properties"]["score"] = {"type": "number", "description": "A score."}
    new["$defs"]["session"]["required"].append("score")
    found = compare_schemas(old, new)
    assert as_lists(found) == [["additive", "field_added", "/sessions/*/score"]]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.label)
def test_a_schema_of_ours_uses_only_keywords_that_can_be_judged(surface: Surface) -> None:
    old = schemas.load(surface)
    assert compare_schemas(old, copy.deepcopy(old)) == []
    # Against nothing, everything is compared: whatever has no rule would show.
    found = {change.rule for change in compare_schemas(old, {"type": "object"})}
    assert "unjudged" not in found


def test_the_worst_comes_first_then_the_place() -> None:
    changes = [
        Change(Severity.ADDITIVE, "field_added", "/a"),
        Change(Severity.RISKY, "enum_shrunk", "/a"),
        Change(Severity.BREAKING, "retyped", "/b"),
        Change(Severity.BREAKING, "enum_grown", "/a"),
    ]
    assert [c.rule for c in in_order(changes)] == [
        *("enum_grown", "retyped"),
        *("enum_shrunk", "field_added"),
    ]


WORDS = st.sampled_from(["a", "b", "c", "x y", "é"])
LEAVES = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "number", "boolean", ["string", "null"]])},
    optional={"description": WORDS, "minimum": st.integers(-2, 2), "minLength": st.integers(0, 2)},
)
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda entry: {"type": "object", "additionalProperties": entry}, inner),
        st.builds(
            lambda fields: {"type": "object", "properties": fields, "required": sorted(fields)},
            st.dictionaries(WORDS, inner, max_size=3),
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, SCHEMAS)
def test_two_schemas_without_a_change_are_the_same(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    changes = compare_schemas(old, new)
    assert all(RULES[change.rule].severity is change.severity for change in changes)
    if not changes:
        assert normalised(old) == normalised(new)


def normalised(node: Any) -> Any:
    """Without what says nothing: a least length of 0."""
    if isinstance(node, list):
        return [normalised(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: normalised(value)
        for key, value in node.items()
        if not (key == "minLength" and value == 0)
    }


# -- documents ----------------------------------------------------------------------------------


def compared(new: Any, old: Any = golden.TEXT) -> list[tuple[str, str, str]]:
    texts = [v if isinstance(v, bytes) else encoded(v) for v in (old, new)]
    changes = compare_documents(BytesIO(texts[0]), BytesIO(texts[1]))
    return [(str(change.severity), change.rule, change.place) for change in changes]


def test_framing_layout_and_data_are_no_change() -> None:
    assert compared(golden.LINES) == []
    assert compared(json.dumps(document(), indent=2).encode()) == []
    other = document()
    del (
        other["sessions"][1],
        other["projects"]["barnacle"],
        other["pricing"]["models"]["grebe-nano"],
    )
    other = without(other, "/sessions/0/git_branch")
    assert compared(other) == []
    assert compared(golden.TEXT, old=other) == []


KEY = "/projects/tidepool/identity/key"
ENUM = "/sessions/0/model_usage/by_model/orca-large-2/cost_source"

DOCUMENTS: list[tuple[Any, list[tuple[str, str, str]]]] = [
    (lambda: change(document(), "/later", 1), [("additive", "field_added", "/later")]),
    (
        lambda: change(lines(), "/1/later", 1),
        [("additive", "field_added", "/sessions/*/later")],
    ),
    (
        lambda: without(document(), "/sessions/1/agent"),
        [("breaking", "field_removed", "/sessions/*/agent")],
    ),
    (
        lambda: without(lines(), "/2/agent"),
        [("breaking", "field_removed", "/sessions/*/agent")],
    ),
    (lambda: without(document(), "/database_id"), [("breaking", "field_removed", "/database_id")]),
    (
        lambda: change(document(), "/sessions/0/id", 7),
        [("breaking", "retyped", "/sessions/*/id")],
    ),
    (
        lambda: change(document(), ENUM, "guessed"),
        [("breaking", "enum_grown", "/sessions/*/model_usage/by_model/*/cost_source")],
    ),
    (
        lambda: change(document(), "/schema_version", 2),
        [("breaking", "const_changed", "/schema_version")],
    ),
    (
        lambda: change(document(), KEY, "sha256:" + "0" * 64),
        [("breaking", "derivation_changed", "/projects/*/identity/key")],
    ),
    (
        lambda: {**document(), "sessions": document()["sessions"][::-1]},
        [("breaking", "order_changed", "/sessions/*")],
    ),
    (
        lambda: change(document(), "/sessions/0/turn_count", 9),
        [("breaking", "rule_broken", "/sessions/*/turn_count")],
    ),
    (
        lambda: change(document(), "/sessions/0/message_count", 0),
        [("breaking", "bound_widened", "/sessions/*/message_count")],
    ),
    (lambda: (golden.RESET / "expected.json").read_bytes(), [("breaking", "surface_changed", "")]),
    (lambda: b'{"nobody":1}', [("breaking", "surface_changed", "")]),
]


@pytest.mark.parametrize(("new", "expected"), DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_pair_of_documents_is_judged_by_the_contract_of_the_first(
    new: Any, expected: list[tuple[str, str, str]]
) -> None:
    assert compared(new()) == expected


def test_what_was_wrong_before_is_no_change() -> None:
    bad = encoded(change(document(), "/sessions/0/turn_count", 9))
    assert compared(bad, old=bad) == []
    assert compared(golden.TEXT, old=bad) == [("additive", "rule_kept", "/sessions/*/turn_count")]


def test_a_key_that_the_contract_does_not_know_may_be_missed() -> None:
    more = encoded(change(document(), "/later", 1))
    assert compared(golden.TEXT, old=more) == [("risky", "unknown_field_removed", "/later")]
    assert compared(more, old=more) == []


def test_the_first_document_must_be_ours() -> None:
    with pytest.raises(SourceNotRecognised, match="OLD is no document of ours"):
        compared(golden.TEXT, old=b'{"nobody":1}')
