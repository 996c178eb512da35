"""The pricing resolver against published vectors, and the promises no vector can show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exporter.core import pricing
from exporter.core.canonical import canonical_bytes
from exporter.core.numbers import exact_sum
from exporter.core.pricing import (
    CatalogueError,
    CostSource,
    Match,
    MatchStep,
    ModelMatcher,
    PriceRow,
    PriceTable,
    PricingError,
    Rates,
    RateSource,
    Recorded,
    StoredPrice,
    TokenCounts,
    billable_output,
    build_snapshot,
    cache_savings,
    canonical_text,
    cost,
    cost_source,
    digest_rows,
    effective_rows,
    latest_update_ns,
    models_text,
    parse_catalogue,
    snapshot_version,
    table_source,
    table_version,
)
from exporter.core.times import full_text, parse_strict_ns, seconds_text
from exporter.data import load_price_snapshot

GOLDEN = Path(__file__).parents[2] / "golden" / "pricing"
SNAPSHOT_VERSION = "litellm-398a0b15378c"

Case = dict[str, Any]


def cases(name: str) -> pytest.MarkDecorator:
    """Run a test once per case of a golden file."""
    loaded: list[Case] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    ids = [" ".join((case["id"], case.get("name", ""))).strip() for case in loaded]
    return pytest.mark.parametrize("case", loaded, ids=ids)


def row_of(wire: Case) -> PriceRow:
    """Build a row from the members a digest shows."""
    names = ("input_per_mtok", "output_per_mtok", "cache_write_per_mtok", "cache_read_per_mtok")
    rates = Rates(*(float(wire[name]) for name in names))
    stored = wire["updated_at"]
    updated_at_ns = parse_strict_ns(stored) if stored else None
    return PriceRow(wire["model_pattern"], rates, RateSource(wire["source"]), updated_at_ns)


def row(
    pattern: str,
    rates: Rates | None = None,
    source: RateSource = RateSource.FETCHED,
    updated_at: str | None = None,
) -> PriceRow:
    updated_at_ns = parse_strict_ns(updated_at) if updated_at else None
    return PriceRow(pattern, rates or Rates(1.0, 2.0), source, updated_at_ns)


patterns = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
any_rates = st.builds(Rates, finite, finite, finite, finite)
any_rows = st.builds(
    PriceRow,
    patterns,
    any_rates,
    st.sampled_from(RateSource),
    st.none() | st.integers(-62_167_219_200 * 10**9, 253_402_300_800 * 10**9 - 1),
)
counts = st.integers(0, 2**63 - 1)
any_tokens = st.builds(TokenCounts, counts, counts, counts, counts, counts)


class TestEffectiveRows:
    """Which prices are in force."""

    @cases("effective")
    def test_as_published(self, case: Case) -> None:
        rows = effective_rows(
            [StoredPrice(name, Rates(*rates), at) for name, *rates, at in case["stored"]],
            [row(name, Rates(*rates), RateSource.EMBEDDED) for name, *rates in case["snapshot"]],
            {name: Rates(*rates) for name, rates in case["custom"].items()},
        )
        expected = [
            (name, source, rate, parse_strict_ns(at) if at else None)
            for name, source, rate, at in case["rows"]
        ]
        assert [(r.pattern, r.source, r.rates.input, r.updated_at_ns) for r in rows] == expected
        assert table_source(rows) == case["source"]

    @given(st.dictionaries(patterns, any_rates), st.dictionaries(patterns, any_rates))
    def test_custom_rates_always_win_and_nothing_else_changes(
        self, stored: dict[str, Rates], custom: dict[str, Rates]
    ) -> None:
        table = [StoredPrice(name, rates, "2026-02-11T06:30:00Z") for name, rates in stored.items()]
        without = {r.pattern: r for r in effective_rows(table, [], {})}
        rows = effective_rows(table, [], custom)

        assert [r.pattern for r in rows] == sorted({*without, *custom})
        for r in rows:
            if r.pattern in custom:
                assert r == PriceRow(r.pattern, custom[r.pattern], RateSource.CUSTOM, None)
            else:
                assert r == without[r.pattern]

    def test_rows_are_in_byte_order(self) -> None:
        stored = [StoredPrice(name, Rates()) for name in ("é", "z", "Z", "\U0001f600", "ﬀ")]
        names = [r.pattern for r in effective_rows(stored, [], {})]
        assert names == sorted(names, key=str.encode)


class TestDigest:
    """The fingerprint of the prices in force."""

    @cases("digest")
    def test_as_published(self, case: Case) -> None:
        rows = [row_of(wire) for wire in case["rows"]]
        assert canonical_text(rows) == case["canonical"]
        assert digest_rows(rows) == case["digest"]

    @given(st.lists(any_rows, max_size=8))
    def test_text_equals_the_general_encoder(self, rows: list[PriceRow]) -> None:
        text = canonical_text(rows)
        assert text.encode() == canonical_bytes(json.loads(text, parse_int=float))
        assert canonical_text(reversed(rows)) == text

    @given(any_rows)
    def test_text_of_one_row_equals_the_general_encoder(self, r: PriceRow) -> None:
        wire = {
            "model_pattern": r.pattern,
            "source": r.source.value,
            "input_per_mtok": r.rates.input,
            "output_per_mtok": r.rates.output,
            "cache_write_per_mtok": r.rates.cache_write,
            "cache_read_per_mtok": r.rates.cache_read,
            "updated_at": None if r.updated_at_ns is None else seconds_text(r.updated_at_ns),
        }
        assert canonical_text([r]).encode() == canonical_bytes({"rows": [wire]})

    @cases("digest_error")
    @pytest.mark.parametrize("field", ["input", "output", "cache_write", "cache_read"])
    def test_a_rate_that_is_not_finite_names_its_row(self, case: Case, field: str) -> None:
        bad = row("nimbus-7", Rates(**{field: float(case["rate"])}))
        with pytest.raises(PricingError, match="must be finite") as caught:
            digest_rows([row("a"), bad])
        assert caught.value.pattern == "nimbus-7"

    def test_bytes_that_are_no_text_are_refused(self) -> None:
        pattern = bytes.fromhex("61628063").decode(errors="surrogateescape")
        with pytest.raises(PricingError, match="surrogate") as caught:
            digest_rows([row(pattern)])
        assert caught.value.pattern == pattern

    @pytest.mark.parametrize("at", ["0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"])
    def test_a_time_outside_the_calendar_is_refused(self, at: str) -> None:
        with pytest.raises(PricingError, match="0 to 9999") as caught:
            digest_rows([row("nimbus-7", updated_at=at)])
        assert caught.value.pattern == "nimbus-7"


class TestTimes:
    """The time of a price row in its three shapes."""

    @cases("timestamp")
    def test_as_published(self, case: Case) -> None:
        stored = StoredPrice("nimbus-7", Rates(1.0), case["stored"])
        (only,) = effective_rows([stored], [], {})
        ns = only.updated_at_ns
        assert (ns and seconds_text(ns), ns and full_text(ns)) == (case["seconds"], case["full"])
        assert table_version([only], SNAPSHOT_VERSION) == case["table_version"]

    def test_latest_time_may_belong_to_any_row(self) -> None:
        rows = [
            row("a", updated_at="2026-02-11T06:00:00Z"),
            row("b", source=RateSource.CUSTOM, updated_at="2026-02-11T06:00:00.000000001Z"),
            row("c"),
        ]
        assert latest_update_ns(rows) == rows[1].updated_at_ns
        assert latest_update_ns(rows[2:]) is None

    def test_a_latest_time_outside_the_calendar_names_its_row(self) -> None:
        rows = [
            row("a", updated_at="2026-02-11T06:00:00Z"),
            row("b", updated_at="9999-12-31T23:59:59-00:01"),
        ]
        with pytest.raises(PricingError) as caught:
            table_version(rows, SNAPSHOT_VERSION)
        assert caught.value.pattern == "b"


class TestMatching:
    """Which row prices a model name."""

    @cases("match")
    def test_as_published(self, case: Case) -> None:
        matcher = ModelMatcher(case["patterns"])
        match = matcher.explain(case["model"])
        assert matcher.match(case["model"]) == match.pattern == case["matched"]
        assert (match.step, match.ambiguous) == (case["step"], case["ambiguous"])

    @cases("match")
    def test_provider_and_spellings_as_published(self, case: Case) -> None:
        assert pricing._provider(case["model"]) == case["provider"]
        assert list(pricing._spellings(case["model"])) == case["spellings"]

    @cases("match")
    def test_order_of_the_patterns_does_not_matter(self, case: Case) -> None:
        backwards = ModelMatcher(reversed(case["patterns"]))
        assert backwards.explain(case["model"]) == ModelMatcher(case["patterns"]).explain(
            case["model"]
        )

    def test_a_tie_by_case_takes_the_first_and_shows_all(self) -> None:
        match = ModelMatcher(["nimbus-7", "NIMBUS-7"]).explain("Nimbus-7")
        assert match == Match("Nimbus-7", "NIMBUS-7", MatchStep.CASE, ("NIMBUS-7", "nimbus-7"))
        assert not match.ambiguous

    def test_an_ambiguous_model_stays_unpriced_and_shows_the_rivals(self) -> None:
        match = ModelMatcher(["vela/nimbus-7", "orion/nimbus-7"]).explain("nimbus 7")
        rivals = ("orion/nimbus-7", "vela/nimbus-7")
        assert match == Match("nimbus 7", None, MatchStep.CANONICAL, rivals)
        assert match.ambiguous

    def test_an_answer_is_remembered(self) -> None:
        matcher = ModelMatcher(["nimbus-7"])
        assert matcher.explain("Nimbus 7") is matcher.explain("Nimbus 7")

    def test_indexes_are_built_only_when_a_name_needs_them(self) -> None:
        matcher = ModelMatcher(["nimbus-7-1"])
        matcher.match("nimbus-7.1")
        assert not {"_by_lower", "_by_canonical"} & vars(matcher).keys()
        matcher.match("NIMBUS-7-1")
        assert "_by_canonical" not in vars(matcher)
        matcher.match("nimbus 7 1")
        assert "_by_canonical" in vars(matcher)

    @given(
        st.text("abz07.-_ /", min_size=1, max_size=12),
        st.text("abz07-", min_size=1, max_size=8),
    )
    def test_a_longer_or_shorter_name_never_matches(self, pattern: str, more: str) -> None:
        assume(pricing._canonical(pattern) != pricing._canonical(pattern + more))
        # Eight digits behind a dash are a date and not a longer name.
        assume(len(list(pricing._spellings(pattern + more))) == 1)
        assert ModelMatcher([pattern]).match(pattern + more) is None
        assume(len(list(pricing._spellings(pattern))) <= 1)
        assert ModelMatcher([pattern + more]).match(pattern) is None

    @given(st.text(max_size=20), st.lists(st.text(max_size=20)))
    def test_a_match_is_a_pattern_with_the_letters_and_digits_of_a_spelling(
        self, model: str, names: list[str]
    ) -> None:
        found = ModelMatcher(names).match(model)
        if found is not None:
            assert found in names
            assert pricing._canonical(found) in {"", *pricing._spellings(model)}

    @given(st.text())
    def test_lower_case_is_taken_letter_by_letter(self, text: str) -> None:
        expected = "".join("i" if c == "\u0130" else c.lower() for c in text)
        assert pricing._lower(text) == expected

    def test_lower_case_never_changes_the_number_of_letters(self) -> None:
        everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
        assert len(pricing._lower(everything)) == len(everything)


class TestCost:
    """Tokens to money."""

    @cases("cost")
    def test_as_published(self, case: Case) -> None:
        rates, tokens = Rates(**case["rates"]), TokenCounts(**case["tokens"])
        assert cost(rates, tokens) == Decimal(case["exact"])
        assert float(cost(rates, tokens)) == pytest.approx(case["double"], rel=1e-9, abs=0)

    @given(any_rates, any_tokens)
    def test_cost_is_exact(self, rates: Rates, tokens: TokenCounts) -> None:
        r = {name: Fraction(repr(rate)) for name, rate in vars(rates).items() if name != "exact"}
        output = tokens.output if tokens.output else tokens.reasoning
        expected = (
            r["input"] * tokens.input
            + r["output"] * output
            + r["cache_write"] * tokens.cache_write
            + r["cache_read"] * tokens.cache_read
        )
        assert Fraction(cost(rates, tokens)) == expected / 10**6

    @given(any_rates, st.lists(any_tokens, min_size=1, max_size=6))
    def test_pricing_a_sum_equals_summing_prices(
        self, rates: Rates, rows: list[TokenCounts]
    ) -> None:
        together = TokenCounts(
            input=sum(t.input for t in rows),
            output=sum(billable_output(t.output, t.reasoning) for t in rows),
            cache_write=sum(t.cache_write for t in rows),
            cache_read=sum(t.cache_read for t in rows),
        )
        assert cost(rates, together) == exact_sum(cost(rates, t) for t in rows)

    @given(any_rates, any_tokens)
    def test_cache_savings_are_exact(self, rates: Rates, tokens: TokenCounts) -> None:
        def rate(value: float) -> Fraction:
            return Fraction(repr(value))

        expected = tokens.cache_read * (rate(rates.input) - rate(rates.cache_read))
        expected += tokens.cache_write * (rate(rates.input) - rate(rates.cache_write))
        assert Fraction(cache_savings(rates, tokens)) == expected / 10**6

    def test_reasoning_is_billed_only_without_output(self) -> None:
        assert billable_output(200, 150) == 200
        assert billable_output(0, 150) == 150
        assert billable_output(-1, 150) == -1

    def test_a_free_model_keeps_the_sign_of_its_zero_rates(self) -> None:
        free = cost(Rates(-0.0, -0.0, -0.0, -0.0), TokenCounts(1, 1, 1, 1))
        assert math.copysign(1, float(free)) == -1
        assert math.copysign(1, float(cost(Rates(), TokenCounts(1, 1, 1, 1)))) == 1

    def test_a_rate_that_is_not_finite_has_no_cost(self) -> None:
        with pytest.raises(ValueError, match="must be finite"):
            cost(Rates(math.inf), TokenCounts(1))


def in_order(value: Any) -> Any:
    """Turn objects into lists of members, so that equality includes the order of keys."""
    if isinstance(value, dict):
        return [(key, in_order(member)) for key, member in value.items()]
    return value


def recorded_of(records: Iterable[tuple[str, str]]) -> dict[str, Recorded]:
    seen: dict[str, set[str]] = {}
    for model, kind in records:
        seen.setdefault(model, set()).add(kind)
    return {name: Recorded("computed" in k, "reported" in k) for name, k in seen.items()}


class TestBlock:
    """The pricing object of a document."""

    @cases("block")
    def test_as_published(self, case: Case) -> None:
        rows = tuple(row_of(wire) for wire in case["rows"])
        block = PriceTable(rows, SNAPSHOT_VERSION).block(recorded_of(case["recorded"]))
        assert in_order(block.asdict()) == in_order(case["wire"])

    def test_plain_values_only(self) -> None:
        rows = (row("nimbus-7", source=RateSource.CUSTOM),)
        block = PriceTable(rows, SNAPSHOT_VERSION).block({"nimbus-7": (True, True)}).asdict()
        leaves = [block["source"], block["cost_source"], block["table_version"]]
        leaves.append(block["models"]["nimbus-7"]["cost_source"])
        assert [type(leaf) for leaf in leaves] == [str] * 4

    def test_models_are_in_byte_order(self) -> None:
        names = ["ﬀ", "\U0001f600", "z", "Z", "é"]
        block = PriceTable((), SNAPSHOT_VERSION).block(dict.fromkeys(names, (True, False)))
        assert list(block.models) == sorted(names, key=str.encode)

    def test_a_model_resolves_to_the_whole_row(self) -> None:
        table = PriceTable((row("nimbus-7"), row("nimbus-8")), SNAPSHOT_VERSION)
        assert table.resolve("NIMBUS 8") is table.rows[1]
        assert table.resolve("nimbus") is None

    def test_a_row_that_cannot_be_digested_stops_the_block(self) -> None:
        with pytest.raises(PricingError):
            PriceTable((row("a", Rates(math.nan)),), SNAPSHOT_VERSION).block({})

    @pytest.mark.parametrize(
        ("pairs", "expected"),
        [
            ([], CostSource.COMPUTED),
            ([(False, False)], CostSource.COMPUTED),
            ([(True, False)], CostSource.COMPUTED),
            ([(False, True)], CostSource.REPORTED),
            ([(True, True)], CostSource.MIXED),
            ([(False, True), (True, False)], CostSource.MIXED),
            ([(False, True), (False, False)], CostSource.REPORTED),
        ],
    )
    def test_cost_source_of_what_was_recorded(
        self, pairs: list[tuple[bool, bool]], expected: CostSource
    ) -> None:
        assert cost_source(pairs) is expected


class TestCatalogue:
    """Reading a price catalogue, whole or not at all."""

    @cases("catalogue")
    def test_as_published(self, case: Case) -> None:
        text = case["text"].encode()
        if case["rows"] is None:
            with pytest.raises(CatalogueError) as caught:
                parse_catalogue(text)
            assert [caught.value.entry, caught.value.field] == case["fault"]
            return
        expected = [row(name, Rates(*rates)) for name, *rates in case["rows"]]
        assert parse_catalogue(text) == expected

    def test_the_message_names_entry_field_and_expectation(self) -> None:
        with pytest.raises(CatalogueError) as caught:
            parse_catalogue(b'{"nimbus-7":{"input_cost_per_token":"3"}}')
        message = str(caught.value)
        assert "'nimbus-7'" in message
        assert "'input_cost_per_token'" in message
        assert "must be a number or null" in message

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            pytest.param(b'{"a\x80":null}', "not UTF-8 at byte 3", id="not UTF-8"),
            pytest.param(b"{", "line 1, column 2", id="cut off"),
            pytest.param(b'{"a":' + b"[" * 100_000, "nested too deep", id="depth"),
        ],
    )
    def test_what_is_no_json_is_refused(self, text: bytes, reason: str) -> None:
        with pytest.raises(CatalogueError, match=reason):
            parse_catalogue(text)

    def test_negative_zero_keeps_its_sign(self) -> None:
        (only,) = parse_catalogue(b'{"a":{"input_cost_per_token":-0.0}}')
        assert math.copysign(1, only.rates.input) == -1


class TestSnapshot:
    """Prices that ship with the program, and the name of their version."""

    @cases("snapshot_version")
    def test_as_published(self, case: Case) -> None:
        models = parse_catalogue(case["catalogue"].encode())
        assert models_text(models) == case["models"]
        assert snapshot_version(models) == case["version"]

    def test_version_text_keeps_negative_zero_and_escapes_html(self) -> None:
        (text,) = json.loads(models_text([row("<&>\u2028", Rates(-0.0))]), parse_int=str)
        assert (text["ModelPattern"], text["InputPerMTok"]) == ("<&>\u2028", "-0")
        assert "\\u003c\\u0026\\u003e\\u2028" in models_text([row("<&>\u2028")])

    def test_a_row_without_a_version_text_is_named(self) -> None:
        for bad in (row("a", Rates(math.nan)), row("\ud800")):
            with pytest.raises(PricingError) as caught:
                snapshot_version([bad])
            assert caught.value.pattern == bad.pattern

    def test_a_catalogue_price_beats_the_overlay_and_the_overlay_fills_gaps(self) -> None:
        version, rows = build_snapshot([row("gpt-5.5", Rates(9.0)), row("nimbus-7")])
        by_name = {r.pattern: r.rates for r in rows}
        assert by_name["gpt-5.5"] == Rates(9.0)
        assert by_name["nimbus-7"] == Rates(1.0, 2.0)
        assert by_name["claude-opus-4-6"] == Rates(5.0, 25.0, 6.25, 0.5)
        assert by_name["openrouter/owl-alpha"] == Rates()
        assert list(by_name) == sorted(by_name)
        assert {r.source for r in rows} == {RateSource.EMBEDDED}
        assert version == snapshot_version(rows)

    @pytest.mark.parametrize("name", ["", " \t"])
    def test_a_blank_name_is_refused(self, name: str) -> None:
        with pytest.raises(CatalogueError, match="blank") as caught:
            build_snapshot([row(name)])
        assert caught.value.entry == name

    def test_too_many_models_are_refused(self) -> None:
        with pytest.raises(CatalogueError, match="more than 100000 models"):
            build_snapshot(row(str(number)) for number in range(100_000))

    def test_the_built_in_snapshot_is_the_one_it_says(self) -> None:
        version, rows = load_price_snapshot()
        assert (version, len(rows)) == (SNAPSHOT_VERSION, 2426)
        assert snapshot_version(rows) == version
        assert all(a.pattern < b.pattern for a, b in pairwise(rows))
        assert {(r.source, r.updated_at_ns) for r in rows} == {(RateSource.EMBEDDED, None)}

    def test_the_built_in_snapshot_lacks_nothing_of_the_overlay(self) -> None:
        assert build_snapshot(load_price_snapshot().rows) == load_price_snapshot()

    def test_the_built_in_snapshot_is_read_once(self) -> None:
        assert load_price_snapshot() is load_price_snapshot()

    def test_every_built_in_name_prices_itself(self) -> None:
        rows = load_price_snapshot().rows
        matcher = ModelMatcher(r.pattern for r in rows)
        assert all(matcher.match(r.pattern) == r.pattern for r in rows)

    def test_the_digest_of_the_built_in_snapshot_equals_the_general_encoder(self) -> None:
        text = canonical_text(load_price_snapshot().rows)
        assert canonical_bytes(json.loads(text, parse_int=float)) == text.encode()
