"""Number text in both spellings, and decimals that never round."""

from __future__ import annotations

import json
import math
from decimal import Decimal, Inexact
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.core.numbers import (
    EXACT,
    exact_sum,
    number_text,
    shortest_decimal,
    wire_number_text,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "pricing" / "number.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))

finite = st.floats(allow_nan=False, allow_infinity=False)
not_finite = pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']} {case['value']}")
def test_number_text_is_as_published(case: dict[str, Any]) -> None:
    assert number_text(float(case["value"])) == case["text"]


@given(finite)
@example(-0.0)
@example(1e16)
@example(-1.5e20)
@example(math.nextafter(1e21, 0))
@example(1e21)
@example(1e-4)
@example(-1.25e-5)
@example(1e-6)
@example(math.nextafter(1e-6, 0))
@example(1e-7)
@example(5e-324)
@example(1.7976931348623157e308)
def test_number_text_equals_the_rfc8785_package(x: float) -> None:
    assert number_text(x) == rfc8785.dumps(x).decode()


@given(finite)
def test_both_spellings_read_back_as_the_same_double(x: float) -> None:
    assert float(number_text(x)) == x
    back = float(wire_number_text(x))
    assert back == x
    assert math.copysign(1, back) == math.copysign(1, x)


def test_only_the_wire_keeps_the_sign_of_zero() -> None:
    assert (number_text(-0.0), wire_number_text(-0.0)) == ("0", "-0")
    assert (number_text(0.0), wire_number_text(0.0)) == ("0", "0")


def test_an_int_is_written_as_the_double_it_stands_for() -> None:
    assert number_text(2**53 + 1) == "9007199254740992"
    assert number_text(10**22) == "1e+22"
    assert shortest_decimal(2**53 + 1) == 2**53


@not_finite
def test_a_number_that_is_not_finite_has_no_text(x: float) -> None:
    for function in (number_text, wire_number_text, shortest_decimal):
        with pytest.raises(ValueError, match="must be finite"):
            function(x)


@given(finite)
def test_shortest_decimal_spells_the_double(x: float) -> None:
    assert float(shortest_decimal(x)) == x
    assert Fraction(shortest_decimal(x)) == Fraction(repr(x))


def test_shortest_decimal_is_the_number_a_person_wrote() -> None:
    assert shortest_decimal(0.3) == Decimal("0.3")
    assert shortest_decimal(0.1 + 0.2) == Decimal("0.30000000000000004")


@given(st.lists(finite))
def test_exact_sum_loses_nothing(values: list[float]) -> None:
    total = exact_sum(map(shortest_decimal, values))
    assert Fraction(total) == sum(Fraction(repr(value)) for value in values)


def test_exact_sum_holds_the_smallest_and_the_largest_double_together() -> None:
    total = exact_sum([Decimal("1.7976931348623157e308"), Decimal("5e-324")])
    assert EXACT.subtract(total, Decimal("1.7976931348623157e308")) == Decimal("5e-324")


def test_exact_arithmetic_refuses_to_round() -> None:
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))
