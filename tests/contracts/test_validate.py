"""Files held against their contract: what is told, where, and by which rule."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from base64 import urlsafe_b64encode
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from exporter.contracts import (
    activity_rules,
    head_rules,
    session_rules,
    surfaces,
    usage_rules,
    validate,
)
from exporter.contracts.validate import Validation, meaning
from exporter.errors import SourceNotRecognised
from tests.contracts import golden
from tests.contracts.golden import change, document, encoded, found, lines, look, without

USAGE = "/sessions/0/model_usage"
ORCA = f"{USAGE}/by_model/orca-large-2"
PRICE = "/pricing/models/orca-large-2"


# -- what a file is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label", "framing", "rows"),
    [
        (golden.TEXT, "sessions v1", "json", 2),
        (golden.LINES, "sessions v1", "ndjson", 2),
        ((golden.RESET / "expected.json").read_bytes(), "cursor_reset v1", "json", 0),
        (json.dumps(document(), indent=2).encode(), "sessions v1", "json", 2),
        (json.dumps(document(), sort_keys=True).encode(), "sessions v1", "json", 2),
        (encoded(dict(reversed(document().items()))), "sessions v1", "json", 2),
        (encoded([dict(reversed(line.items())) for line in lines()]), "sessions v1", "ndjson", 2),
        (golden.LINES.rstrip(b"\n"), "sessions v1", "ndjson", 2),
        (golden.LINES + b"\n\n", "sessions v1", "ndjson", 2),
    ],
)
def test_a_good_file_is_recognised_and_valid(
    text: bytes, label: str, framing: str, rows: int
) -> None:
    validation, findings = look(text)
    assert findings == []
    assert validation.surface and validation.surface.label == label
    assert (validation.framing, validation.rows) == (framing, rows)


def empty_document() -> dict[str, Any]:
    return {**document(), "pricing": {}, "projects": {}, "sessions": []}


def test_an_export_of_no_session_is_valid_in_both_framings() -> None:
    assert found(empty_document()) == []
    head = {"type": "meta", **without(empty_document(), "/sessions")}
    validation, findings = look([head])
    assert (validation.framing, findings) == ("ndjson", [])


@pytest.mark.parametrize("text", [b"{}", b'{"x":1}', b'{"type":"meta"}'])
def test_a_file_of_nobody_is_refused_with_what_there_is(text: bytes) -> None:
    with pytest.raises(SourceNotRecognised, match=r"it\.json is no document of ours.*sessions"):
        list(Validation().findings(BytesIO(text), "it.json"))


def test_the_surface_can_be_named() -> None:
    sessions = surfaces.find("sessions")
    assert ("/sessions", "required") in found(b"{}", surface=sessions)
    reset = surfaces.find("cursor_reset")
    assert ("/error", "required") in found(golden.TEXT, surface=reset)


def test_a_document_of_a_later_version_is_held_against_the_newest_one_known() -> None:
    assert found(change(document(), "/schema_version", 99)) == [("/schema_version", "const")]


# -- structure ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        (b"", 1, "empty"),
        (b"[]", 1, "not_an_object"),
        (golden.TEXT[:-20], 1, "ends_early"),
        (golden.TEXT + b"{}", 2, "text_after_document"),
        (golden.TEXT.rstrip() + b" {}", 1, "text_after_value"),
        (b"\xef\xbb\xbf" + golden.TEXT, 1, "byte_order_mark"),
        (golden.LINES.replace(b"\n", b"\n\n"), 2, "blank_line"),
        (golden.LINES + b'{"id":', 4, "not_json"),
        (golden.LINES + b"[" * 2000 + b"]" * 2000, 4, "too_deep"),
        (golden.LINES + golden.LINES.splitlines()[0], 4, "meta_once"),
        (b"".join(golden.LINES.splitlines(keepends=True)[1:]), 1, "meta_first"),
    ],
)
def test_broken_structure_is_told_by_line(text: bytes, line: int, rule: str) -> None:
    assert (line, rule) in [(f.line, f.rule) for f in look(text)[1]]


def test_one_broken_line_does_not_hide_the_next() -> None:
    head, first, second = golden.LINES.splitlines()
    bad = [head, b"{", first, b'{"id":NaN}', second.replace(b'"id":', b'"id":1,"x":')]
    findings = look(b"\n".join(bad))[1]
    assert [(f.line, f.row, f.pointer, f.rule) for f in findings] == [
        (2, 1, "", "not_json"),
        (4, 3, "", "not_json"),
        (5, 4, "/id", "type"),
    ]


def test_a_place_is_told_from_the_top_of_a_document_and_from_its_line() -> None:
    assert found(change(document(), "/sessions/1/agent", 7)) == [("/sessions/1/agent", "type")]
    finding = look(change(lines(), "/2/agent", 7))[1][0]
    assert (finding.line, finding.row, finding.pointer) == (3, 2, "/agent")


def test_lines_of_a_document_laid_out_for_reading_are_told() -> None:
    text = json.dumps(change(document(), "/sessions/1/agent", 7), indent=1).encode()
    finding = look(text)[1][0]
    # The session begins on the line after the one that ends the first.
    assert text.splitlines()[finding.line - 1].strip() == b"{"
    assert b'"cld-9a07"' in text.splitlines()[finding.line]


def test_all_that_is_wrong_is_told() -> None:
    bad = change(change(document(), "/sessions/0/agent", 7), "/sessions/1/machine", None)
    bad = change(without(bad, "/sessions/1/id"), "/pricing/digest", "none")
    assert found(bad) == [
        ("/sessions/0/agent", "type"),
        ("/sessions/1/id", "required"),
        ("/sessions/1/machine", "type"),
        ("/pricing/digest", "pattern"),
    ]


def test_unknown_keys_are_welcome_unless_the_strict_form_is_asked_for() -> None:
    more = change(change(document(), "/later", 1), "/sessions/0/later", 1)
    assert found(more) == []
    assert found(more, strict=True) == [
        ("/sessions/0/later", "additionalProperties"),
        ("/later", "additionalProperties"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "pointer"),
    [
        (b'"agent":"codex"', b'"agent":"codex","agent":"codex"', "/sessions/0/agent"),
        (b'"agent":"codex"', b'"agent" :"codex","agent":"codex"', "/sessions/0/agent"),
        (b'"agent":"codex"', b'"agent":"co","\\u0061gent":"codex"', "/sessions/0/agent"),
        (b'"has_cost":true,"by', b'"has_cost":true,"has_cost":true,"by', f"{USAGE}/has_cost"),
        (b'"used":false', b'"used":false,"used":false', "/pricing/fallback/used"),
        (b'"schema_version":1', b'"schema_version":1,"schema_version":1', "/schema_version"),
        (b'"sessions":[', b'"sessions":[],"sessions":[', "/sessions"),
    ],
)
def test_a_key_that_occurs_twice_is_told(old: bytes, new: bytes, pointer: str) -> None:
    assert (pointer, "duplicate_key") in found(golden.TEXT.replace(old, new, 1))


def test_texts_that_look_like_keys_are_no_keys() -> None:
    tricky = change(document(), "/sessions/0/cwd", '/srv/"a":1,"b" : {"a":2},{')
    assert found(tricky) == []
    assert found(json.dumps(tricky, indent=1).encode()) == []


# -- rules beyond the schema --------------------------------------------------------------------


def cursor(**members: Any) -> str:
    """A cursor that ends the golden document's page, signed with nothing in particular."""
    payload = {
        "database_id": document()["database_id"],
        "last_id": "cld-9a07",
        "last_activity_at": "2026-02-11T05:30:00Z",
        "limit": 2,
        **members,
    }
    parts = (encoded(payload), hashlib.sha256(b"").digest())
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def swapped() -> dict[str, Any]:
    new = document()
    new["sessions"].reverse()
    return new


def renamed_model() -> dict[str, Any]:
    new = document()
    models = new["pricing"]["models"]
    models["kite-9"] = models.pop("tern-mini")
    return new


def set_in(pointer: str, value: Any) -> Callable[[], dict[str, Any]]:
    return lambda: change(document(), pointer, value)


def twin_of_orca() -> dict[str, Any]:
    new = document()
    new["pricing"]["models"]["grebe-nano"] |= {"matched_pattern": "orca-large-2"}
    return new


BROKEN: list[tuple[str, Callable[[], dict[str, Any]], str]] = [
    ("sum", set_in(f"{USAGE}/input_tokens", 3701), f"{USAGE}/input_tokens"),
    ("sum", set_in(f"{USAGE}/reasoning_tokens", 0), f"{USAGE}/reasoning_tokens"),
    ("sum", set_in(f"{USAGE}/cost_usd", 0.0194), f"{USAGE}/cost_usd"),
    ("models_are_keys", set_in(f"{USAGE}/models", ["tern-mini"]), f"{USAGE}/models"),
    (
        "models_are_keys",
        set_in(f"{USAGE}/models", ["tern-mini", "orca-large-2"]),
        f"{USAGE}/models",
    ),
    ("model_is_key", set_in(f"{ORCA}/model", "orca"), f"{ORCA}/model"),
    ("has_cost", set_in(f"{USAGE}/has_cost", False), f"{USAGE}/has_cost"),
    ("has_cost", set_in(f"{ORCA}/has_cost", False), f"{ORCA}/has_cost"),
    ("cost", set_in(f"{ORCA}/cost_usd", 0.0154), f"{ORCA}/cost_usd"),
    ("turn_count", set_in("/sessions/0/turn_count", 4), "/sessions/0/turn_count"),
    ("classification", set_in("/sessions/0/is_automated", True), "/sessions/0/is_automated"),
    ("duration", set_in("/sessions/0/duration_seconds", 2468), "/sessions/0/duration_seconds"),
    ("duration", set_in("/sessions/1/duration_seconds", None), "/sessions/1/duration_seconds"),
    (
        "last_activity",
        set_in("/sessions/1/last_activity_at", "2026-02-11T05:29:50Z"),
        "/sessions/1/last_activity_at",
    ),
    ("order", swapped, "/sessions/1"),
    ("pricing_presence", set_in("/pricing", {}), "/pricing"),
    ("project_entry", lambda: without(document(), "/projects/barnacle"), "/projects/barnacle"),
    (
        "project_entry",
        set_in("/projects/zebra", {"resolution": "unknown", "identity": None}),
        "/projects/zebra",
    ),
    (
        "resolution",
        set_in("/projects/tidepool/resolution", "unknown"),
        "/projects/tidepool/identity",
    ),
    ("resolution", set_in("/projects/tidepool/identity", None), "/projects/tidepool/identity"),
    (
        "identity",
        set_in("/projects/tidepool/identity/machine_local", True),
        "/projects/tidepool/identity",
    ),
    (
        "project_key",
        set_in("/projects/tidepool/identity/key", "sha256:" + "0" * 64),
        "/projects/tidepool/identity/key",
    ),
    ("model_price", renamed_model, "/pricing/models/kite-9"),
    ("model_price", renamed_model, "/pricing/models/tern-mini"),
    ("cost_source", set_in("/pricing/cost_source", "computed"), "/pricing/cost_source"),
    ("cost_source", set_in(f"{PRICE}/cost_source", "mixed"), f"{PRICE}/cost_source"),
    (
        "unpriced_rate",
        set_in("/pricing/models/grebe-nano/input_cost_per_mtok", 1),
        "/pricing/models/grebe-nano",
    ),
    ("same_rates", twin_of_orca, "/pricing/models/orca-large-2"),
    ("fallback", set_in("/pricing/fallback/used", True), "/pricing/fallback"),
    (
        "fallback",
        set_in("/pricing/fallback", {"used": True, "models": ["kite-9"]}),
        "/pricing/fallback",
    ),
    ("price_counts", set_in("/pricing/source", "custom"), "/pricing/source"),
    ("price_counts", set_in("/pricing/custom_override_count", 0), "/pricing/source"),
    ("price_counts", set_in("/pricing/table_version", "fetched"), "/pricing/table_version"),
    ("cursor", set_in("/cursor/next", "one"), "/cursor/next"),
    ("cursor", set_in("/cursor/next", "e30.AAAA"), "/cursor/next"),
    ("cursor", set_in("/cursor/next", cursor(last_id="other")), "/cursor/next"),
    ("cursor", set_in("/cursor/next", cursor(limit=3)), "/cursor/next"),
    ("cursor", set_in("/cursor/next", cursor(database_id="other")), "/cursor/next"),
    ("cursor", set_in("/cursor/next", cursor() + "="), "/cursor/next"),
]


@pytest.mark.parametrize(
    ("rule", "broken", "pointer"), BROKEN, ids=[f"{b[0]}-{n}" for n, b in enumerate(BROKEN)]
)
def test_a_broken_rule_is_told_in_its_place(
    rule: str, broken: Callable[[], dict[str, Any]], pointer: str
) -> None:
    assert (pointer, rule) in found(broken())


def test_every_rule_has_been_broken_here() -> None:
    elsewhere = {"sorted_keys", "digest", "too_many_names"}
    owed = {**head_rules.RULES, **session_rules.RULES}
    assert {rule for rule, _, _ in BROKEN} | elsewhere == set(owed)


@pytest.mark.parametrize(
    "pointer",
    ["/projects", "/pricing/models", f"{USAGE}/by_model", "/sessions/1/model_usage/by_model"],
)
def test_maps_must_be_sorted(pointer: str) -> None:
    new = document()
    node: Any = new
    for step in pointer.split("/")[1:]:
        node = node[int(step)] if isinstance(node, list) else node[step]
    members = list(node.items())
    node.clear()
    node.update(reversed(members))
    assert (pointer, "sorted_keys") in found(new)


def test_keys_are_sorted_by_bytes_not_by_utf16_units() -> None:
    """U+FFxx comes before the astral planes, as its UTF-8 bytes do."""
    new = document()
    projects = {"\uff21": new["projects"]["barnacle"], "\U0001f9ed": new["projects"]["barnacle"]}
    new["projects"] |= projects
    assert ("/projects", "sorted_keys") not in found(new)


def test_a_cursor_that_ends_the_page_is_good() -> None:
    assert found(change(document(), "/cursor/next", cursor())) == []


def priced_by_one_row(**over: Any) -> dict[str, Any]:
    """The golden document with a single price row in force, all of which it tells."""
    new = document()
    del new["sessions"][0], new["projects"]["tidepool"]
    models = new["pricing"]["models"]
    del models["tern-mini"]
    new["pricing"] |= {
        "source": "fetched",
        "custom_override_count": 0,
        "effective_row_count": 1,
        "cost_source": "computed",
        "digest": "sha256:5bf9a1a81d2c5b7a4f7c4a3f1b0dc1e7a6ea7d8a3a0e34aa6ee0f1d1ff6c2d3e",
        **over,
    }
    return new


def digest_of(source: str, updated_at: str | None) -> str:
    row = (
        '{"cache_read_per_mtok":0.3,"cache_write_per_mtok":3.75,"input_per_mtok":3,'
        '"model_pattern":"orca-large-2","output_per_mtok":15,'
        f'"source":"{source}","updated_at":{json.dumps(updated_at)}}}'
    )
    return "sha256:" + hashlib.sha256(f'{{"rows":[{row}]}}'.encode()).hexdigest()


@pytest.mark.parametrize(
    ("source", "time", "over"),
    [
        ("fetched", "2026-02-10T06:30:00Z", {}),
        ("fetched", None, {"latest_row_updated_at": None, "table_version": "fetched"}),
        (
            "custom",
            None,
            {
                "source": "custom",
                "custom_override_count": 1,
                "latest_row_updated_at": None,
                "table_version": "custom",
            },
        ),
        (
            "embedded",
            None,
            {
                "source": "embedded",
                "latest_row_updated_at": None,
                "table_version": "litellm-0123456789ab",
                "fallback": {"used": True, "models": ["orca-large-2"]},
            },
        ),
    ],
)
def test_the_digest_is_computed_again_where_all_rows_are_told(
    source: str, time: str | None, over: dict[str, Any]
) -> None:
    assert ("/pricing/digest", "digest") in found(priced_by_one_row(**over))
    assert found(priced_by_one_row(**over, digest=digest_of(source, time))) == []


def test_a_digest_over_rows_that_are_not_told_is_left_alone() -> None:
    assert found(priced_by_one_row(effective_row_count=2)) == []


@pytest.mark.parametrize(
    ("identity", "wrong"),
    [
        ({"key_source": "root_path", "root_path": "/srv/x", "machine_local": True}, "project_key"),
        ({"key_source": "root_path", "root_path": "/srv/x"}, "identity"),
        ({"key_source": "git_remote", "root_path": "/srv/x"}, "identity"),
        ({"key_source": "git_remote"}, None),
        ({"key_source": "git_remote", "normalized_remote": "h.example/\ufffd"}, None),
    ],
)
def test_a_key_is_checked_against_what_is_shown(
    identity: dict[str, Any], wrong: str | None
) -> None:
    whole = {"key": "sha256:" + "0" * 64, **identity}
    rules = {rule for _, rule in found(change(document(), "/projects/tidepool/identity", whole))}
    assert rules == ({wrong} if wrong else set())


def test_reasoning_makes_a_cost_lie_between_none_and_all_of_it() -> None:
    for cost, good in ((0.0135, True), (0.0144, True), (0.0153, True), (0.0134, False)):
        new = change(
            change(document(), f"{ORCA}/cost_usd", cost), f"{USAGE}/cost_usd", cost + 0.004
        )
        assert (found(new) == []) is good


def test_prices_behind_the_sessions_leave_only_costs_unchecked() -> None:
    bad = change(document(), f"{ORCA}/cost_usd", 0.0154)
    bad["pricing"] = bad.pop("pricing")
    assert (f"{ORCA}/cost_usd", "cost") not in found(bad)
    assert ("/pricing/cost_source", "cost_source") in found(
        change(bad, "/pricing/cost_source", "computed")
    )


def test_a_bad_session_does_not_make_the_head_look_wrong() -> None:
    bad = change(document(), "/sessions/0/agent", None)
    assert found(bad) == [("/sessions/0/agent", "type")]


def test_equal_instants_are_ordered_by_id() -> None:
    new = document()
    twin = json.loads(json.dumps(new["sessions"][1]))
    new["sessions"].append({**twin, "id": "zzz"})
    assert found(new) == []
    new["sessions"][2]["id"] = "aaa"
    assert found(new) == [("/sessions/2", "order")]
    new["sessions"][2]["id"] = twin["id"]
    assert found(new) == [("/sessions/2", "order")]


def test_a_text_that_is_no_time_may_stand_anywhere() -> None:
    new = document()
    odd = {**new["sessions"][1], "id": "odd", "ended_at": "later", "last_activity_at": "later"}
    new["sessions"].insert(0, {**odd, "duration_seconds": None})
    assert found(new) == []


def test_more_names_than_fit_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_rules, "MAX_NAMES", 2)
    text = golden.many_lines(5)
    rows = [line.replace(b'"tidepool"', b'"p%d"' % n, 1) for n, line in enumerate(text[1:-1])]
    rules = [rule for _, rule in found(b"\n".join([text[0], *rows, text[-1]]))]
    assert set(rules) == {"too_many_names"}


# -- sizes --------------------------------------------------------------------------------------


class Stream:
    """A long export that is never in memory as a whole."""

    def __init__(self, pieces: Any) -> None:
        self.pieces = iter(pieces)

    def read(self, count: int) -> bytes:
        return next(self.pieces, b"")


def endless(count: int) -> Any:
    head, first, second = golden.LINES.splitlines(keepends=True)
    yield head
    for n in range(count):
        yield first.replace(b'"cdx-4f21"', b'"cdx-%09d"' % n)
    yield second


def test_memory_does_not_grow_with_the_number_of_sessions() -> None:
    list(Validation().findings(Stream(endless(10))))  # type: ignore[arg-type]
    peaks = []
    for count in (1_000, 8_000):
        tracemalloc.start()
        validation = Validation()
        assert list(validation.findings(Stream(endless(count)))) == []  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert validation.rows == count + 1
    assert peaks[1] < peaks[0] * 1.2


def test_a_large_document_is_as_good_as_its_lines() -> None:
    assert found(golden.many_as_json(2_000)) == []
    assert found(b"\n".join(golden.many_lines(2_000))) == []


def test_every_rule_is_said_in_words() -> None:
    for rule in (*validate.RULES, *validate.FURTHER_RULES):
        assert meaning(rule) and "schema's" not in meaning(rule)
    assert meaning("maxLength") == "the schema's maxLength"
    tables = [
        module.RULES
        for module in (validate, head_rules, session_rules, usage_rules, activity_rules)
    ]
    assert len({rule for table in tables for rule in table}) == sum(map(len, tables))
    assert {**validate.RULES, **validate.FURTHER_RULES}.keys() == set().union(*tables)


# -- other surfaces -----------------------------------------------------------------------------

WITH_PRICES = [surface for surface in surfaces.SURFACES if surface.rows]


@pytest.mark.parametrize("surface", WITH_PRICES, ids=lambda surface: surface.label)
def test_the_common_parts_of_every_surface_are_looked_at(surface: surfaces.Surface) -> None:
    whole = json.loads((golden.ROOT / surface.golden / "expected.json").read_bytes())
    assert found(whole) == []
    assert whole["pricing"]["fallback"]["used"] is False
    whole["pricing"]["fallback"]["used"] = True
    whole["projects"]["~"] = {"resolution": "resolved", "identity": None}
    told = found(whole)
    assert ("/pricing/fallback", "fallback") in told
    assert ("/projects/~0/identity", "resolution") in told


@pytest.mark.parametrize("surface", surfaces.SURFACES, ids=lambda surface: surface.label)
def test_golden_documents_are_recognised_by_their_content(surface: surfaces.Surface) -> None:
    for file in sorted((golden.ROOT / surface.golden).glob("expected.*json")):
        validation, findings = look(file.read_bytes())
        assert (validation.surface, findings) == (surface, [])
        assert validation.framing == file.suffix[1:]
