"""Token counters of a use, and its deduplication key.

Case numbers are those of the session-export contract.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from time import perf_counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.core.tokens import (
    MOST_TOKENS,
    NO_TOKENS,
    TokenCounts,
    clamp_event,
    dedup_key,
    read_token_usage,
    walk_token_usage,
)

#: Examples may take their time: the machine may be busy with other tests.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

Reader = Callable[[str], TokenCounts]
NAMES = TokenCounts._fields


def counts(
    input_tokens: int = 0,
    output_tokens: int = 0,
    cache_creation: int = 0,
    cache_read: int = 0,
    reasoning: int = 0,
) -> TokenCounts:
    return TokenCounts(input_tokens, output_tokens, cache_creation, cache_read, reasoning)


def a(value: str) -> str:
    """Usage text with this value as input and a plain 6 as output behind it."""
    return f'{{"input_tokens":{value},"output_tokens":6}}'


@pytest.fixture(params=[read_token_usage, walk_token_usage], ids=["fast", "walk"])
def read(request: pytest.FixtureRequest) -> Reader:
    """Both readers: the one that is used and the one that defines it."""
    return request.param


# --- usage text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            '{"input_tokens":2500,"output_tokens":700,"cache_creation_input_tokens":150,'
            '"cache_read_input_tokens":9000}',
            counts(2500, 700, 150, 9000),
            id="case 66",
        ),
        pytest.param(
            '{"output_tokens":50,"reasoning_tokens":30}', counts(0, 50, 0, 0, 30), id="case 67"
        ),
        pytest.param(
            '{"input_tokens":"42","output_tokens":1e3,"cache_read_input_tokens":-7}',
            counts(42, 1),
            id="case 68",
        ),
        pytest.param(
            '{"usage":{"input_tokens":9},"output_tokens":3}', counts(0, 3), id="case 69 nested"
        ),
        pytest.param('{"input_tokens":5,"output_tokens":6,"cac', counts(5, 6), id="case 69 cut"),
        pytest.param('{"input_tokens":05,,"output_tokens":6x}', counts(5, 6), id="case 69 garbage"),
        pytest.param(
            '{"input_tokens":5,"x":tru,"output_tokens":6}', counts(5), id="case 69 half a word"
        ),
        pytest.param('{"input_tokens":3000000}', counts(2_000_000), id="case 70"),
    ],
)
def test_contract_cases(read: Reader, text: str, expected: TokenCounts) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            " ",
            "null",
            "5",
            '"x"',
            "[]",
            '[{"input_tokens":5}]',
            "{",
            "{}",
            'x{"input_tokens":5}',
        ],
        *['\ufeff{"input_tokens":5}', '{"Input_tokens":5}', '{"input":5}', '{"input_tokens" 5}'],
    ],
)
def test_text_without_top_level_counters_counts_nothing(read: Reader, text: str) -> None:
    assert read(text) == NO_TOKENS


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("-0", 0),
        ("007", 7),
        ("-7", 0),
        ("12.7", 12),
        ("12.", 12),
        ("1e3", 1),
        ("1E+3", 1),
        ("2000000", 2_000_000),
        ("2000001", 2_000_000),
        ("9" * 25, 2_000_000),
        ("9" * 5_000, 2_000_000),
        ("-" + "9" * 5_000, 0),
        ("0" * 5_000 + "7", 7),
        ('"42"', 42),
        ('" +7 "', 7),
        ('"-3"', 0),
        ('"\\n5\\t"', 5),
        ('"\u00a06\u2003"', 6),
        ('"4\\u0032"', 42),
        ('"' + "9" * 5_000 + '"', 2_000_000),
        ('"\x1f6"', 0),
        ('"\\u001f6"', 0),
        ('"12.5"', 0),
        ('"1e3"', 0),
        ('"1_000"', 0),
        ('"\u0663"', 0),
        ('"0x10"', 0),
        ('"+"', 0),
        ('""', 0),
        ('"4\\q2"', 0),
        ('"a\\"b"', 0),
        ("true", 0),
        ("false", 0),
        ("null", 0),
        ("[7]", 0),
        ('{"input_tokens":7}', 0),
        ("tru", 0),
        ("+9", 0),
        (".5", 0),
        ("-", 0),
        ("", 0),
    ],
)
def test_counter_values(read: Reader, value: str, expected: int) -> None:
    assert read(a(value)) == counts(expected, 6)


@pytest.mark.parametrize(
    "value",
    [
        *['"plain"', '"esc \\" \\u00e9"', "12", "-1.5e+7", "true", "false", "null", "[]", "{}"],
        *['{"a":[1,{"b":"}"}]}', "[nonsense]", "[1,,2]", '["]","\\""]'],
        *["truest", "12abc", "1.5.2", "1e5."],
    ],
)
def test_reading_goes_on_behind_the_value_of_another_name(read: Reader, value: str) -> None:
    assert read(f'{{"x" : {value} , "output_tokens":6}}') == counts(0, 6)


@pytest.mark.parametrize(
    "value",
    [
        *[
            "",
            "tru",
            "+9",
            ".5",
            "-",
            "1.",
            "1e",
            "1.5e+",
            "12.",
            "NaN",
            '"a\\q"',
            '"a\tb"',
            '"a',
            "[}",
        ],
        *['{"a":1', "[{]}", '["\t"]'],
    ],
)
def test_reading_ends_at_a_malformed_value_of_another_name(read: Reader, value: str) -> None:
    assert read(f'{{"input_tokens":5,"x":{value},"output_tokens":6}}') == counts(5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"input\\u005ftokens":5}', counts(5)),
        ('{"input_tokens" \t\r\n:\n 5}', counts(5)),
        (' \n{"input_tokens":5} trailing "output_tokens":6', counts(5)),
        ('{"input_tokens":5}{"output_tokens":6}', counts(5)),
        ('{"input_tokens":5 "output_tokens":6}', counts(5, 6)),
        ('{/* note */"input_tokens":5}', counts(5)),
        ('{"loose" "input_tokens":5}', counts(5)),
        ('{]"input_tokens":5}', counts(5)),
        ('{{"input_tokens":9}"output_tokens":6}', counts(0, 6)),
        ('{["input_tokens":9]"output_tokens":6}', counts(0, 6)),
        ('{["input_tokens":9,"output_tokens":6}', counts(9, 6)),
        ('{"input_tokens":[1,"output_tokens":6}', counts(0, 6)),
        ('{"bad\\q":1,"input_tokens":5}', counts()),
        ('{"input_tokens":5,"output_tokens":"6', counts(5)),
        ('{"input_tokens":5,"output_tokens":1', counts(5, 1)),
        ('{"input_tokens":5,"input_tokens":8}', counts(8)),
        ('{"input_tokens":5,"input_tokens":null}', counts(5)),
        ('{"input_tokens":5,"input_tokens":"many"}', counts(5)),
        ('{"input_tokens":null,"input_tokens":8}', counts(8)),
    ],
)
def test_the_walk_through_odd_text(read: Reader, text: str, expected: TokenCounts) -> None:
    assert read(text) == expected


SCALARS = st.sampled_from(
    [
        *["0", "5", "-7", "12.7", "1e3", "1.", "9" * 25, "true", "null", "tru", ""],
        *['"42"', '" +7 "', '"4\\u0032"', '"x"', '"\\q"', '"open', "+9", "NaN"],
    ]
)
KEYS = st.sampled_from([*NAMES, "input\\u005ftokens", "x", "a b", "\u00e9", "bad\\q"])


def members(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds('{}"{}"{}:{}{}'.format, BLANKS, KEYS, BLANKS, BLANKS, values)
    return st.builds(
        "".join, st.lists(st.builds("{}{}".format, member, st.sampled_from([",", ",", ",,", ""])))
    )


BLANKS = st.sampled_from(["", "", "", " ", "\n\t", "\u00a0"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds("[{},{}]".format, inner, inner) | st.builds("{{{}}}".format, members(inner))
    ),
    max_leaves=4,
)


@st.composite
def usage_text(draw: st.DrawFn) -> str:
    """Text near usage JSON: members of all kinds, sometimes cut, sometimes with a stray mark."""
    text = "{" + draw(members(VALUES)) + draw(st.sampled_from(["}", "}", "", "]", "}x"]))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(list('{}[]":,\\ 0e.-\x01'))) + text[at:]
    if draw(st.booleans()):
        text = text[: draw(st.integers(0, len(text)))]
    return text


@given(usage_text())
@settings(unhurried, max_examples=250)
def test_fast_reading_equals_the_walk_on_text_near_json(text: str) -> None:
    assert read_token_usage(text) == walk_token_usage(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(NAMES) | st.text(), st.integers(0, 5000) | st.integers() | JSON
    ),
    st.booleans(),
)
@settings(unhurried, max_examples=150)
@example({"input_tokens": 2**64}, True)
@example({"input_tokens": -(2**63) - 1}, True)
def test_fast_reading_equals_the_walk_on_json(usage: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(usage, ensure_ascii=ascii_only)
    assert read_token_usage(text) == walk_token_usage(text)
    for name, count in zip(NAMES, read_token_usage(text), strict=True):
        value = usage.get(name)
        if type(value) is int:
            assert count == min(max(value, 0), MOST_TOKENS)


@unhurried
@given(st.text())
def test_no_text_makes_the_reader_fail(text: str) -> None:
    for usage in (text, "{" + text, '{"input_tokens":' + text, '{"x":' + text):
        assert all(0 <= count <= MOST_TOKENS for count in read_token_usage(usage))


@pytest.mark.parametrize(
    "text",
    [
        *["{" * 100_000, '{"a":' * 30_000, '{"input_tokens":[' * 10_000, "{" + '{"' * 50_000],
        *[
            '{"input_tokens":"' + "\\" * 100_000,
            "{" + "[]" * 50_000,
            "{" + "[{" * 50_000 + "}]" * 9,
        ],
    ],
    ids=["braces", "members", "counters", "quotes", "escapes", "pairs", "crossed"],
)
def test_hostile_text_takes_time_in_step_with_its_length(text: str) -> None:
    start = perf_counter()
    read_token_usage(text)
    # Far above what it takes; a quadratic reader would need minutes.
    assert perf_counter() - start < 10


# --- events ---------------------------------------------------------------------------------------


def test_case_70_a_provider_event_is_cut_and_a_session_event_keeps_its_size() -> None:
    big = 3_000_000
    assert clamp_event("provider", big, 1, 2, 3, 0) == counts(MOST_TOKENS, 1, 2, 3)
    assert clamp_event("session", big, 1, 2, 3, 0) == counts(big, 1, 2, 3)


@pytest.mark.parametrize("source", ["provider", "session", ""])
def test_event_counters_are_never_negative_but_reasoning_stays_as_stored(source: str) -> None:
    assert clamp_event(source, -1, -2, -3, -4, -5) == counts(reasoning=-5)
    assert clamp_event(source, 0, 0, 0, 0, 9_000_000).reasoning_tokens == 9_000_000


def test_an_event_of_source_message_counts_no_tokens() -> None:
    assert clamp_event("message", 1, 2, 3, 4, 5) == NO_TOKENS


# --- deduplication ------------------------------------------------------------------------------


def test_case_73_two_messages_with_one_pair_of_ids_are_one_use_whoever_sent_them() -> None:
    one = dedup_key(kind="message", session_id="s", agent="claude", message_id="m", request_id="r")
    two = dedup_key(kind="message", session_id="t", agent="codex", message_id="m", request_id="r")
    assert one is not None and one == two


def test_case_75_without_a_pair_the_source_id_decides_and_without_ids_every_message_counts() -> (
    None
):
    one = dedup_key(kind="message", agent="claude", message_id="m", source_uuid="u")
    two = dedup_key(kind="message", agent="claude", request_id="r", source_uuid="u")
    assert one is not None and one == two
    assert dedup_key(kind="message", agent="codex", source_uuid="u") != one
    assert dedup_key(kind="message", source_uuid="u") is None
    assert dedup_key(kind="message", agent="claude") is None


def test_case_76_a_message_and_an_event_never_share_a_key() -> None:
    message = dedup_key(kind="message", session_id="s", agent="s", source_uuid="u")
    event = dedup_key(kind="event", session_id="s", source="s", event_key="u")
    assert message != event


def test_events_are_told_apart_by_session_source_and_key_or_row() -> None:
    keys = [
        dedup_key(kind="event", session_id="s", source="p", event_key="5", event_id=1),
        dedup_key(kind="event", session_id="t", source="p", event_key="5", event_id=1),
        dedup_key(kind="event", session_id="s", source="q", event_key="5", event_id=1),
        dedup_key(kind="event", session_id="s", source="p", event_key="6", event_id=1),
        dedup_key(kind="event", session_id="s", source="p", event_id=5),
        dedup_key(kind="event", session_id="s", source="p", event_id=6),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    again = dedup_key(kind="event", session_id="s", source="p", event_key="5", event_id=2)
    assert again == keys[0]


def test_a_billing_row_has_a_key_only_if_one_is_stored() -> None:
    assert dedup_key(kind="cursor", event_key="k") == dedup_key(kind="cursor", event_key="k")
    assert dedup_key(kind="cursor") is None
    assert dedup_key(kind="event") is None


def keyed(parts: tuple[str, str, str]) -> list[str | None]:
    """The keys of one row per kind, each made of the same three texts."""
    one, two, three = parts
    return [
        dedup_key(kind="message", message_id=one, request_id=two),
        dedup_key(kind="message", agent=one, source_uuid=two),
        dedup_key(kind="event", session_id=one, source=two, event_key=three),
        dedup_key(kind="event", session_id=one, source=two, event_id=three),
        dedup_key(kind="cursor", event_key=one),
    ]


@unhurried
@given(*[st.tuples(*[st.text("ab0123:\x1f", min_size=1, max_size=4)] * 3)] * 2)
@example(("a:b", "c", "d"), ("a", "b:c", "d"))
@example(("1:a", "b", "c"), ("1", "a:b", "c"))
def test_equal_keys_mean_equal_identifiers_whatever_is_in_them(
    left: tuple[str, str, str], right: tuple[str, str, str]
) -> None:
    used = [2, 2, 3, 3, 1]
    for kind, (one, two) in enumerate(zip(keyed(left), keyed(right), strict=True)):
        assert (one == two) == (left[: used[kind]] == right[: used[kind]])
    for one, two in combinations(enumerate([*keyed(left), *keyed(right)]), 2):
        if one[0] % 5 != two[0] % 5:
            assert one[1] != two[1]
