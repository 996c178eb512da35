"""Page cursors and the filters in them.

Case numbers are those of the session-export contract.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.core.cursor import (
    ORDER,
    Cursor,
    CursorInvalid,
    CursorOrderMismatch,
    Filters,
    decode,
    encode,
    payload,
    signature,
)
from exporter.core.times import parse_instant_ms

#: Examples may take their time: the machine may be busy with other tests.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRET = bytes(range(32))
DATABASE_ID = "7c1e4a52-9b0d-4f6e-8a35-d2c9b1f07e64"
#: The published example; its fingerprint members are those our cursors do not have.
PUBLISHED_HEAD = (
    '{"database_id":"7c1e4a52-9b0d-4f6e-8a35-d2c9b1f07e64",'
    '"filters":{"exclude_one_shot":true,"automated_scope":"human"},'
    '"order":"last_activity_at DESC, id ASC",'
    '"watermark":"2026-02-11T08:41:07.900Z","watermark_sort":2461082.861896991,'
    '"last_activity_at":"2026-02-11T08:41:07.900Z","last_activity_sort":2461082.861896991,'
    '"last_id":"cdx-4f21","limit":1'
)
PUBLISHED_FINGERPRINTS = (
    ',"snapshot_count":2,'
    '"snapshot_digest":"8fefe10aa9eeba275ca5fe5d1dd08ac3d1aba86307c469164ed744977b53eca2",'
    '"prefix_count":1,'
    '"prefix_digest":"5fce831fd95699bca4ba72edc2f454950ebea5adbdf8a8563f35601285c64da2"'
)
PUBLISHED_SIGNATURE = "8HhZWmD23WPRa9lNP4rOwtk0962bpqyoVNaA6O_3iRU"


def instant(text: str) -> int:
    found = parse_instant_ms(text)
    assert found is not None
    return found


EXAMPLE = Cursor(
    database_id=DATABASE_ID,
    filters=Filters(),
    watermark="2026-02-11T08:41:07.900Z",
    watermark_ms=instant("2026-02-11T08:41:07.900Z"),
    last_activity_at="2026-02-11T08:41:07.900Z",
    last_activity_ms=instant("2026-02-11T08:41:07.900Z"),
    last_id="cdx-4f21",
    limit=1,
    revision=17,
    revision_token="proof",
)


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(content: bytes, secret: bytes = SECRET) -> str:
    """Any content as cursor text with a good signature."""
    return f"{base64url(content)}.{base64url(signature(content, secret))}"


def members(**over: Any) -> dict[str, Any]:
    return {**json.loads(payload(EXAMPLE)), **over}


# --- the signed text ------------------------------------------------------------------------------


def test_payload_is_the_published_one_but_for_the_fingerprints() -> None:
    ours = ',"revision":17,"revision_token":"proof"}'
    assert payload(EXAMPLE).decode() == PUBLISHED_HEAD + ours


def test_signature_of_the_published_payload_is_the_published_one() -> None:
    content = (PUBLISHED_HEAD + PUBLISHED_FINGERPRINTS + "}").encode()
    assert base64url(signature(content, SECRET)) == PUBLISHED_SIGNATURE


def test_text_is_url_safe_and_reads_back_equal() -> None:
    text = encode(EXAMPLE, SECRET)
    assert text == signed(payload(EXAMPLE))
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert decode(text, SECRET) == EXAMPLE
    assert decode(text, SECRET, database_id=DATABASE_ID) == EXAMPLE


def test_line_ends_anywhere_in_the_text_are_skipped() -> None:
    text = "\r\n".join(encode(EXAMPLE, SECRET))
    assert decode(text + "\n", SECRET) == EXAMPLE


texts = st.text(st.characters(codec="utf-8"))
instants = st.integers(instant("0000-01-01T00:00+14:59"), instant("9999-12-31T23:59:59.999Z"))
int64 = st.integers(-(2**63), 2**63 - 1)
option_filters = st.builds(
    Filters.from_options,
    project=texts,
    exclude_project=texts,
    machine=texts,
    git_branch=st.lists(texts).map("\x1e".join) | st.just("tern\x1f\x1ekelp\x1fdev"),
    agent=st.lists(texts).map(",".join),
    date=texts,
    date_from=texts,
    date_to=texts,
    active_since=texts,
    min_messages=int64,
    max_messages=int64,
    min_user_messages=int64,
    include_one_shot=st.booleans(),
    include_automated=st.booleans(),
    include_children=st.booleans(),
    outcome=texts,
    health_grade=st.lists(texts).map(",".join),
    min_tool_failures=st.none() | int64,
    has_secret=st.booleans(),
)
cursors = st.builds(
    Cursor,
    database_id=texts,
    filters=option_filters,
    watermark=texts,
    watermark_ms=instants,
    last_activity_at=texts,
    last_activity_ms=instants,
    last_id=texts,
    limit=st.integers(1, 500),
    revision=st.integers(0, 2**63 - 1),
    revision_token=texts,
)


@unhurried
@given(cursors, st.binary(min_size=1))
def test_every_cursor_reads_back_equal(cursor: Cursor, secret: bytes) -> None:
    assert decode(encode(cursor, secret), secret) == cursor


def test_an_instant_at_noon_reads_back_though_its_day_number_is_whole() -> None:
    noon = replace(EXAMPLE, watermark_ms=instant("2026-03-04T12:00"))
    assert b'"watermark_sort":2461104,' in payload(noon)
    assert decode(encode(noon, SECRET), SECRET) == noon


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *["", "nonsense", ".", "a.b.c", "e30.", ".e30", "e30=.e30=", "e30.e30", "e30 .e30"],
        *[
            "\u00e9.\u00e9",
            "A.A",
            "\ud800.a",
            encode(EXAMPLE, SECRET) + ".",
            encode(EXAMPLE, SECRET) + "=",
        ],
    ],
)
def test_text_that_is_no_cursor_is_invalid(text: str) -> None:
    with pytest.raises(CursorInvalid):
        decode(text, SECRET)


def test_case_59_a_cursor_with_any_payload_byte_changed_is_invalid() -> None:
    content = payload(EXAMPLE)
    mark = base64url(signature(content, SECRET))
    for at in range(len(content)):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(CursorInvalid):
            decode(f"{base64url(changed)}.{mark}", SECRET)


@pytest.mark.parametrize(
    "secret", [b"\0", bytes(32), SECRET[:-1], SECRET + b"\1", b"cursor_secret"]
)
def test_case_59_a_cursor_signed_with_another_secret_is_invalid(secret: bytes) -> None:
    with pytest.raises(CursorInvalid):
        decode(encode(EXAMPLE, secret), SECRET)


def test_case_59_a_cut_signature_is_invalid() -> None:
    content = payload(EXAMPLE)
    for size in (0, 1, 31):
        mark = base64url(signature(content, SECRET)[:size])
        with pytest.raises(CursorInvalid):
            decode(f"{base64url(content)}.{mark}", SECRET)


def test_an_empty_secret_signs_nothing() -> None:
    with pytest.raises(ValueError, match="empty secret"):
        encode(EXAMPLE, b"")


def test_case_60_a_cursor_of_another_archive_is_invalid() -> None:
    with pytest.raises(CursorInvalid):
        decode(encode(EXAMPLE, SECRET), SECRET, database_id="another")


def test_case_61_a_genuine_cursor_of_another_order_is_told_apart() -> None:
    other = replace(EXAMPLE, order="id ASC")
    with pytest.raises(CursorOrderMismatch) as refused:
        decode(encode(other, SECRET), SECRET, database_id=DATABASE_ID)
    assert refused.value.order == "id ASC"
    assert not isinstance(refused.value, CursorInvalid)
    assert ORDER in str(refused.value)


def test_another_order_is_noticed_only_in_a_genuine_cursor_of_this_archive() -> None:
    other = replace(EXAMPLE, order="id ASC")
    with pytest.raises(CursorInvalid):
        decode(encode(other, b"another"), SECRET)
    with pytest.raises(CursorInvalid):
        decode(encode(other, SECRET), SECRET, database_id="another")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 5_000])
def test_a_signed_payload_that_is_no_cursor_is_invalid(content: bytes) -> None:
    with pytest.raises(CursorInvalid):
        decode(signed(content), SECRET)


@pytest.mark.parametrize(
    "over",
    [
        {"database_id": 5},
        {"filters": None},
        {"filters": []},
        {"filters": {}},
        {"filters": {"automated_scope": "machine"}},
        {"filters": {"automated_scope": "human", "project": 1}},
        {"filters": {"automated_scope": "human", "outcome": "errored"}},
        {"filters": {"automated_scope": "human", "outcome": [1]}},
        {"filters": {"automated_scope": "human", "min_messages": True}},
        {"filters": {"automated_scope": "human", "min_messages": 1.5}},
        {"filters": {"automated_scope": "human", "has_secret": 1}},
        {"watermark_sort": None},
        {"watermark_sort": "2461082.861896991"},
        {"watermark_sort": 2461082.86189699},
        {"last_activity_sort": 1e308},
        {"limit": "1"},
        {"limit": True},
        {"revision": None},
        {"revision": 2**64},
        {"revision_token": 1},
    ],
)
def test_a_signed_payload_with_a_member_of_the_wrong_type_is_invalid(over: dict[str, Any]) -> None:
    with pytest.raises(CursorInvalid):
        decode(signed(json.dumps(members(**over)).encode()), SECRET)


def test_a_genuine_cursor_of_the_origin_is_invalid_for_want_of_a_revision() -> None:
    with pytest.raises(CursorInvalid):
        decode(signed((PUBLISHED_HEAD + PUBLISHED_FINGERPRINTS + "}").encode()), SECRET)


def test_unknown_members_are_ignored() -> None:
    content = json.dumps(members(later=1) | {"filters": {"automated_scope": "human", "new": 1}})
    found = decode(signed(content.encode()), SECRET)
    assert found == replace(EXAMPLE, filters=Filters(include_one_shot=True))


# --- filters --------------------------------------------------------------------------------------


def test_filters_in_the_payload_have_a_fixed_order_and_leave_out_what_is_not_set() -> None:
    filters = Filters.from_options(
        has_secret=True,
        min_tool_failures=0,
        health_grade="B,A",
        outcome="errored, abandoned",
        include_children=True,
        include_automated=True,
        include_one_shot=True,
        min_user_messages=2,
        max_messages=9,
        min_messages=-3,
        active_since="2026-03-04",
        date_to="2026-03-03",
        date_from="2026-03-01",
        date="2026-03-02",
        agent="codex,claude",
        git_branch="tern\x1fdev\x1ekelp\x1f",
        machine=" elm , oak,",
        exclude_project="kelp",
        project=" tern ",
    )
    assert json.dumps(filters.to_payload(), indent=None) == json.dumps(
        {
            "project": "tern",
            "exclude_project": "kelp",
            "machine": "elm,oak",
            "git_branch": "kelp\x1f\x1etern\x1fdev",
            "agent": "claude,codex",
            "date": "2026-03-02",
            "date_from": "2026-03-01",
            "date_to": "2026-03-03",
            "active_since": "2026-03-04",
            "min_messages": -3,
            "max_messages": 9,
            "min_user_messages": 2,
            "automated_scope": "all",
            "include_children": True,
            "outcome": ["abandoned", "errored"],
            "health_grade": ["A", "B"],
            "min_tool_failures": 0,
            "has_secret": True,
        }
    )


def test_no_options_are_the_default_filters() -> None:
    assert Filters.from_options() == Filters()


def test_case_42_lists_are_split_trimmed_and_sorted_and_a_blank_list_filters_nothing() -> None:
    assert Filters.from_options(machine=" elm , oak,").machines == ("elm", "oak")
    assert Filters.from_options(machine=" , ").machines == ()
    assert Filters.from_options(agent="b,a,B,\u00e9,z").agents == ("B", "a", "b", "z", "\u00e9")


def test_case_43_branch_tokens() -> None:
    def branches(text: str) -> tuple[tuple[str, str], ...] | None:
        return Filters.from_options(git_branch=text).branches

    assert branches("tern\x1fdev") == (("tern", "dev"),)
    assert branches(" tern\x1f ") == (("tern", ""),)
    assert branches("tern") == ()
    assert branches("kelp\x1ftern\x1fdev\x1e\x1etern") == (("kelp", "tern\x1fdev"),)
    assert branches(" \x1e ") is None
    assert branches("") is None


def test_case_44_outcomes_keep_their_case() -> None:
    assert Filters.from_options(outcome="errored, Abandoned").outcomes == ("Abandoned", "errored")


def test_case_65_filters_are_equal_when_they_select_alike() -> None:
    kept = Filters.from_options(machine=" oak, elm ")
    assert kept == Filters.from_options(machine="elm,oak")
    assert kept != Filters.from_options(machine="elm")


def test_option_bytes_that_are_not_text_match_what_the_archive_stored_for_them() -> None:
    filters = Filters.from_options(project="caf\udce9", machine="a\udcff,b")
    assert (filters.project, filters.machines) == ("caf\ufffd", ("a\ufffd", "b"))


@unhurried
@given(option_filters)
def test_filters_read_back_equal_from_their_payload(filters: Filters) -> None:
    assert Filters.from_payload(filters.to_payload()) == filters
    assert Filters.from_payload(json.loads(json.dumps(filters.to_payload()))) == filters
