"""Text that PostgreSQL can store, and the contract's white space."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.core.text import replace_surrogates, storable, trim

#: Examples may take their time: the machine may be busy with other tests.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("text", ["", "plain", "\u00e9\U0001f600", "\ufffd", "a\x01\x1f\x7fb\n"])
def test_clean_text_passes_unchanged_as_text_and_as_bytes(text: str) -> None:
    assert storable(text) == (text, False)
    assert storable(text.encode()) == (text, False)


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("\u00e9\0", "\u00e9\ufffd"),
        ("a\ud800b", "a\ufffdb"),
        ("\udcff\udfff", "\ufffd\ufffd"),
        (b"a\0b", "a\ufffdb"),
        (b"caf\xe9", "caf\ufffd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xe2\x82", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"\xf0\x9f\x98\x80\x80", "\U0001f600\ufffd"),
    ],
)
def test_each_thing_that_cannot_be_stored_becomes_one_replacement_character(
    given_text: str | bytes, stored: str
) -> None:
    assert storable(given_text) == (stored, True)


@unhurried
@given(st.text(st.characters(codec=None)) | st.binary())
@example("\ud83d\ude00")
def test_what_comes_out_can_be_stored_and_passes_a_second_time(text: str | bytes) -> None:
    stored, replaced = storable(text)
    assert "\0" not in stored
    assert stored.encode().decode() == stored
    assert storable(stored) == (stored, False)
    if not replaced:
        assert text in (stored, stored.encode())


def test_replacing_surrogates_leaves_nul_alone() -> None:
    assert replace_surrogates("a\0\ud800") == "a\0\ufffd"


def test_trimming_takes_all_white_space_but_the_four_separators() -> None:
    blanks = {chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()}
    separators = set("\x1c\x1d\x1e\x1f")
    assert {blank for blank in blanks if not trim(blank)} == blanks - separators
    assert trim(" \ttern\x1f\n") == "tern\x1f"
    assert trim("\u200bx\ufeff") == "\u200bx\ufeff"
