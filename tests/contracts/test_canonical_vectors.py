"""The text that digests are made of: RFC 8785 on data of our own, and where version 1 differs.

Each vector holds an input, its canonical text and the hex of the same bytes. The rules are those
of the public vectors: numbers as ECMAScript prints them, keys by UTF-16 units, the shortest
escapes, no white space. Version 1 escapes U+2028 and U+2029 too, and digests numbers as doubles.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from exporter.core.canonical import MAX_DEPTH, CanonicalError, canonical_bytes
from exporter.core.pricing import PriceRow, Rates, RateSource, canonical_text

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parent / "canonical_vectors.jsonl").read_text().splitlines()
]


def vector_id(vector: dict[str, str]) -> str:
    return f"{vector['rule']}-{vector['name']}"


@pytest.mark.parametrize("vector", VECTORS, ids=vector_id)
def test_a_vector_comes_out_byte_for_byte(vector: dict[str, str]) -> None:
    made = canonical_bytes(json.loads(vector["input"]))
    assert made.decode() == vector["canonical"]
    assert made.hex() == vector["hex"]


@pytest.mark.parametrize("vector", VECTORS, ids=vector_id)
def test_canonical_text_is_its_own_canonical_text(vector: dict[str, str]) -> None:
    # A number that is written as a large integer is read as one, and no longer a double.
    value = json.loads(vector["canonical"], parse_int=float)
    assert canonical_bytes(value).hex() == vector["hex"]


@pytest.mark.parametrize("vector", VECTORS, ids=vector_id)
def test_only_the_two_separators_differ_from_the_standard(vector: dict[str, str]) -> None:
    standard = rfc8785.dumps(json.loads(vector["input"])).decode()
    has_separators = bool(re.search("[\u2028\u2029]", standard))
    assert (standard != vector["canonical"]) == has_separators
    assert standard.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029") == vector["canonical"]


def test_every_rule_has_vectors_of_its_own() -> None:
    assert len({vector_id(vector) for vector in VECTORS if vector["rule"] != "numbers"}) > 30
    assert {vector["rule"] for vector in VECTORS} == {
        *("numbers", "escapes", "keys", "structure", "separators")
    }


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (2**53, "54 bits may not fit a double"),
        (-(2**53), "54 bits"),
        ({"a": [10**30]}, r"\$\.a\[0\]: an integer of 100 bits"),
        (float("nan"), r"\$: nan has no JSON form"),
        ({"a": float("inf")}, r"\$\.a: inf has no JSON form"),
        ([float("-inf")], r"\$\[0\]: -inf has no JSON form"),
        ("\ud83e", "half of a surrogate pair"),
        ({"a": "x\udded"}, r"\$\.a: .*half of a surrogate pair"),
        ({"\ud83e": 1}, "half of a surrogate pair"),
        ("\udded\ud83e", "half of a surrogate pair"),
    ],
)
def test_what_has_no_canonical_form_is_a_clear_error(value: Any, told: str) -> None:
    with pytest.raises(CanonicalError, match=told):
        canonical_bytes(value)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1_000, 5_000])
@pytest.mark.parametrize("in_lists", [True, False], ids=["lists", "objects"])
def test_depth_is_a_clear_error_and_not_the_end_of_the_stack(depth: int, in_lists: bool) -> None:
    value: Any = 0
    for _ in range(depth):
        value = [value] if in_lists else {"a": value}
    with pytest.raises(CanonicalError, match=f"nested deeper than {MAX_DEPTH} levels"):
        canonical_bytes(value)


# -- the digest of prices -----------------------------------------------------------------------


def price(pattern: str = "tern-mini", **rates: float) -> PriceRow:
    return PriceRow(pattern, Rates(**rates), RateSource.CUSTOM)


def test_the_digested_text_is_canonical_but_for_the_separators() -> None:
    rows = [price("b"), price("a\u2028", input=0.1), price("<&>", output=1e21)]
    text = canonical_text(rows)
    assert canonical_bytes(json.loads(text, parse_int=float)) == text.encode()
    assert rfc8785.dumps(json.loads(text, parse_int=float)) != text.encode()


def test_rates_are_doubles_whatever_their_size() -> None:
    """An integer of that size has no canonical form; a rate of that size has."""
    with pytest.raises(CanonicalError):
        canonical_bytes(2**60)
    assert '"input_per_mtok":1152921504606847000,' in canonical_text([price(input=float(2**60))])


def test_both_zeros_are_one_rate() -> None:
    assert canonical_text([price(input=-0.0)]) == canonical_text([price(input=0.0)])


def test_markup_is_not_escaped_as_documents_escape_it() -> None:
    assert '"model_pattern":"<a&b>"' in canonical_text([price("<a&b>")])


def test_rows_are_sorted_by_code_points_not_by_utf16_units() -> None:
    """As maps of documents are: keys of one object by UTF-16 units, rows by the bytes of UTF-8."""
    text = canonical_text([price("\U0001f9ed"), price("\ufb33")])
    assert text.index("\ufb33") < text.index("\U0001f9ed")
