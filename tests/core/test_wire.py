"""The text of v1 documents.

Case numbers are those of the session-export contract.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.core.numbers import wire_number_text
from exporter.core.wire import encode, encode_float, encode_pretty, encode_string

#: Examples may take their time: the machine may be busy with other tests.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def json_of(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )


exact = st.none() | st.booleans() | st.integers() | st.text()
finite = st.floats(allow_nan=False, allow_infinity=False)


def plain_string(text: str) -> str:
    """The contract's string escapes, one character at a time."""
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r"}
    out = []
    for character in text:
        if character in short or character == "\t":
            out.append(short.get(character, "\\t"))
        elif character < " " or character in "<>&\u2028\u2029":
            out.append(f"\\u{ord(character):04x}")
        else:
            out.append(character)
    return f'"{"".join(out)}"'


def plain_json(value: Any, indent: str | None = None, margin: str = "\n") -> str:
    """The encoder written plainly: one call per value, no library."""
    if isinstance(value, str):
        return plain_string(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return wire_number_text(value)
    inner = margin + (indent or "")
    colon = ":" if indent is None else ": "
    if isinstance(value, dict):
        items = [plain_string(k) + colon + plain_json(v, indent, inner) for k, v in value.items()]
    else:
        items = [plain_json(item, indent, inner) for item in value]
    left, right = "{}" if isinstance(value, dict) else "[]"
    if indent is None:
        return left + ",".join(items) + right
    return left + inner + ("," + inner).join(items) + margin + right if items else left + right


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param("a<b&c", r'"a\u003cb\u0026c"', id="case 26"),
        (">", r'"\u003e"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ('"\\/', r'"\"\\/"'),
        ("\b\f\n\r\t", r'"\b\f\n\r\t"'),
        ("\0\x01\x0b\x1f", r'"\u0000\u0001\u000b\u001f"'),
        ("\x7f\x80\u00e9\U0001f600\ufffd", '"\x7f\x80\u00e9\U0001f600\ufffd"'),
        ("\u2027\u202a\ue200", '"\u2027\u202a\ue200"'),
        (r"\u003c", r'"\\u003c"'),
        ("", '""'),
    ],
)
def test_strings(text: str, written: str) -> None:
    assert encode_string(text) == encode(text) == written.encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param(2.0, "2", id="case 27 whole"),
        pytest.param(0.0000005, "5e-7", id="case 27 small"),
        pytest.param(0.00002, "0.00002", id="case 27 plain"),
        (-0.0, "-0"),
        (0.0, "0"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (5e-324, "5e-324"),
        (0.1, "0.1"),
    ],
)
def test_floats(value: float, written: str) -> None:
    assert encode_float(value) == encode(value) == written.encode()
    assert encode({"cost": [value]}) == f'{{"cost":[{written}]}}'.encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("0.1", "0.1"),
        ("0.02275", "0.02275"),
        ("1E+2", "100"),
        ("-0", "-0"),
        ("0.0000005000", "5e-7"),
        ("9007199254740993", "9007199254740992"),
        ("0.10000000000000000555111512312578270", "0.1"),
    ],
)
def test_a_decimal_is_written_as_its_nearest_double(value: str, written: str) -> None:
    assert encode({"cost": Decimal(value)}) == f'{{"cost":{written}}}'.encode()


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("1e400"), Decimal("-Infinity")]
)
@pytest.mark.parametrize("write", [encode, encode_pretty])
def test_a_number_that_is_not_finite_is_refused(write: Any, value: Any) -> None:
    with pytest.raises(ValueError):
        write({"sessions": [{"cost_usd": value}]})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_float_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError):
        encode_float(value)


@pytest.mark.parametrize("value", [object(), b"bytes", {1: 2}, {"a": {None: 1}}, {"a": {1, 2}}])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_keys_stay_in_the_order_given_and_nothing_is_added() -> None:
    value = {"b": 1, "a": [True, False, None], "<": {"z": "", "y": ()}}
    assert encode(value) == rb'{"b":1,"a":[true,false,null],"\u003c":{"z":"","y":[]}}'


def test_integers_of_any_size_and_enumerations_of_text_are_written() -> None:
    class Source(StrEnum):
        FETCHED = "fetched"

    value = {"big": [2**64, -(2**70), True], "source": Source.FETCHED}
    assert encode(value) == (
        b'{"big":[18446744073709551616,-1180591620717411303424,true],"source":"fetched"}'
    )


def test_text_without_a_utf8_form_gets_the_replacement_character() -> None:
    assert encode_string("a\ud800\0") == '"a\ufffd\\u0000"'.encode()
    assert encode({"k\udcff": ["\udfff", 0.5, 3]}) == '{"k\ufffd":["\ufffd",0.5,3]}'.encode()


def test_pretty_text_is_indented_by_two_spaces_with_empty_containers_on_one_line() -> None:
    value = {"empty": {}, "none": [], "minutes": [1.5, 2.0], "a<b": {"usd": Decimal("0.10")}}
    assert encode_pretty(value).decode().split("\n") == [
        "{",
        '  "empty": {},',
        '  "none": [],',
        '  "minutes": [',
        "    1.5,",
        "    2",
        "  ],",
        r'  "a\u003cb": {',
        '    "usd": 0.1',
        "  }",
        "}",
    ]


@unhurried
@given(json_of(exact | finite))
@example({"a": {}, "b": [[], {"c": -0.0}]})
def test_both_forms_are_those_of_a_plain_encoder(value: Any) -> None:
    assert encode(value).decode() == plain_json(value)
    assert encode_pretty(value).decode() == plain_json(value, indent="  ")


@unhurried
@given(json_of(exact))
def test_reading_the_text_gives_the_value_back(value: Any) -> None:
    assert json.loads(encode(value)) == value
    assert json.loads(encode_pretty(value)) == value


@unhurried
@given(finite)
def test_reading_the_text_of_a_double_gives_the_double_back(x: float) -> None:
    assert math.copysign(1, x) == math.copysign(1, float(encode_float(x)))
    assert float(encode_float(x)) == x
