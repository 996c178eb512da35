"""Canonical bytes: the package's result, one deviation, and errors that say where."""

from __future__ import annotations

import hashlib
import json
import math
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.core.canonical import (
    MAX_DEPTH,
    CanonicalError,
    canonical_bytes,
    digest,
    json_string,
)

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@given(documents)
def test_bytes_are_those_of_the_package_but_for_line_separators(value: Any) -> None:
    expected = rfc8785.dumps(value).decode()
    expected = expected.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    assert canonical_bytes(value) == expected.encode()


@given(documents)
def test_bytes_read_back_as_the_value(value: Any) -> None:
    assert json.loads(canonical_bytes(value), parse_int=float) == value


@given(text)
@example("\u2028\u2029")
@example('"\\/<>&\x00\x1f\x7f\b\f\n\r\t\ufffd\U0001f600')
def test_a_string_written_alone_equals_the_string_in_a_document(value: str) -> None:
    assert json_string(value).encode() == canonical_bytes(value)


def test_keys_are_ordered_by_utf16_and_separators_in_keys_escaped() -> None:
    # U+FB00 is one unit and sorts after the surrogate pair of U+1F600.
    value = {"\ufb00": 1, "\U0001f600": 2, "\u2028": 3}
    assert canonical_bytes(value).decode() == '{"\\u2028":3,"\U0001f600":2,"\ufb00":1}'


def test_tuples_count_as_arrays() -> None:
    assert canonical_bytes({"b": (1, 2.0), "a": -0.0}) == b'{"a":0,"b":[1,2]}'


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        pytest.param({"rows": [{"r": math.nan}]}, "$.rows[0].r", "must be finite", id="nan"),
        pytest.param([1.0, -math.inf], "$[1]", "must be finite", id="infinity"),
        pytest.param({"n": 2**53}, "$.n", "54 bits", id="wide integer"),
        pytest.param(-(2**53), "$", "54 bits", id="wide negative integer"),
        pytest.param(10**5000, "$", "16610 bits", id="integer too wide to print"),
        pytest.param(["ok", "a\ud800"], "$[1]", "surrogate", id="lone surrogate"),
        pytest.param({"a": {"\udc80": 1}}, "$.a", "surrogate", id="lone surrogate in a key"),
        pytest.param({"a": {1: 2}}, "$.a", "key 1 is not text", id="key is not text"),
        pytest.param({"a": Decimal(1)}, "$.a", "type Decimal", id="other type"),
        pytest.param({"a": b"x"}, "$.a", "type bytes", id="raw bytes"),
    ],
)
def test_a_value_without_a_canonical_form_is_refused(value: Any, path: str, reason: str) -> None:
    with pytest.raises(CanonicalError, match=reason) as caught:
        canonical_bytes(value)
    assert caught.value.path == path


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth_is_limited_far_from_the_stack() -> None:
    assert canonical_bytes(nested(MAX_DEPTH)) == b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(CanonicalError, match="nested deeper"):
            canonical_bytes(nested(levels))


def test_a_string_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(CanonicalError, match="surrogate"):
        json_string("ab\udc80c")


def test_digest_names_its_algorithm() -> None:
    assert digest(b"") == "sha256:" + hashlib.sha256(b"").hexdigest()
