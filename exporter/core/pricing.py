"""The one pricing resolver: price rows and token counts in, exact costs and provenance out.

Everything about prices meets here, in the order an export needs it:

* price rows: `PriceRow`, `StoredPrice`, and `effective_rows`, which decides what is in force;
* their fingerprint: `digest_rows` over `canonical_text`;
* names: `ModelMatcher` finds the one row that prices a reported model name, or none;
* money: `cost` and `cache_savings` as exact decimals;
* the report: `PriceTable.block` builds the ``pricing`` object of a document;
* sources: `parse_catalogue`, `build_snapshot` and `snapshot_version`.

A run reads its prices once, so it has one `PriceTable` and one block, however many pages it
writes; there is nothing to merge.

Rates are US dollars per million tokens. They are kept as the doubles that were stored, because
the digest and the comparison with the built-in snapshot are defined on doubles, and are turned
into decimals of their shortest text for arithmetic. Byte order of UTF-8 is the order of code
points, which is how Python compares text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from exporter.core.canonical import CanonicalError, digest, json_string
from exporter.core.numbers import EXACT, is_money, number_text, shortest_decimal, wire_number_text
from exporter.core.times import full_text, parse_strict_ns, seconds_text

__all__ = [
    "METADATA_PREFIX",
    "CatalogueError",
    "CostSource",
    "Fallback",
    "Match",
    "MatchStep",
    "ModelMatcher",
    "ModelPrice",
    "PriceRow",
    "PriceSnapshot",
    "PriceTable",
    "PricingBlock",
    "PricingError",
    "RateSource",
    "Rates",
    "Recorded",
    "StoredPrice",
    "TokenCounts",
    "billable_output",
    "build_snapshot",
    "cache_savings",
    "canonical_text",
    "cost",
    "cost_source",
    "digest_rows",
    "effective_rows",
    "latest_update_ns",
    "models_text",
    "parse_catalogue",
    "snapshot_version",
    "table_source",
    "table_version",
]

K = TypeVar("K")

#: Table rows whose pattern starts like this carry notes of the importer, never prices.
METADATA_PREFIX = "_"


class PricingError(ValueError):
    """A price row cannot be reported; no digest exists, so the whole export must stop.

    `pattern` is the model name of the row and `reason` says what is wrong with it.
    """

    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(f"price row {pattern!r}: {reason}")
        self.pattern = pattern
        self.reason = reason


class CatalogueError(ValueError):
    """A price catalogue was refused as a whole; the prices in force stay as they are.

    `entry` is the model name at fault and `field` the field of that entry; either is None when
    the fault lies outside. `reason` says what was expected.
    """

    def __init__(self, entry: str | None, field: str | None, reason: str) -> None:
        place = "price catalogue"
        if entry is not None:
            place += f", entry {entry!r}"
        if field is not None:
            place += f", field {field!r}"
        super().__init__(f"{place}: {reason}")
        self.entry = entry
        self.field = field
        self.reason = reason


# Price rows ---------------------------------------------------------------------------------


class RateSource(StrEnum):
    """Where the rates of an effective row come from."""

    #: Equal to the built-in snapshot in all four rates.
    EMBEDDED = "embedded"
    #: Anything else that was stored.
    FETCHED = "fetched"
    #: Set by the person who runs the program.
    CUSTOM = "custom"


class ExactRates(NamedTuple):
    """The four rates as exact decimals, US dollars per million tokens."""

    input: Decimal
    output: Decimal
    cache_write: Decimal
    cache_read: Decimal


@dataclass(frozen=True)
class Rates:
    """The four rates of a model as stored doubles, US dollars per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cache_write: float = 0.0
    cache_read: float = 0.0

    @cached_property
    def exact(self) -> ExactRates:
        """The decimals that the shortest texts of the doubles spell.

        Raises `ValueError` for a rate that is not finite.
        """
        return ExactRates(
            shortest_decimal(self.input),
            shortest_decimal(self.output),
            shortest_decimal(self.cache_write),
            shortest_decimal(self.cache_read),
        )


_NO_RATES = Rates()


class PriceRow(NamedTuple):
    """One price in force."""

    #: A model name, matched by the rules of `ModelMatcher`; there are no wildcards.
    pattern: str
    rates: Rates
    source: RateSource
    #: When the rates last changed, in nanoseconds since 1970 UTC; None when not known.
    updated_at_ns: int | None = None


class StoredPrice(NamedTuple):
    """One row of the price table as read from the database, metadata rows included."""

    pattern: str
    rates: Rates
    #: The stored text; text that is not a strict RFC 3339 time counts as no time.
    updated_at: str | None = None


def effective_rows(
    stored: Iterable[StoredPrice],
    snapshot: Iterable[PriceRow],
    custom: Mapping[str, Rates],
) -> tuple[PriceRow, ...]:
    """Return the prices in force, one row per pattern, in byte order of the patterns.

    `stored` may hold metadata rows, which are left out whatever their rates. Without any price
    row left, the rows of the built-in `snapshot` stand in for the table. `custom` rates then
    replace whole rows, or add some, and have no time.
    """
    embedded = {row.pattern: row for row in snapshot}
    rows = {
        price.pattern: _stored_row(price, embedded)
        for price in stored
        if not price.pattern.startswith(METADATA_PREFIX)
    }
    if not rows:
        rows = embedded
    for pattern, rates in custom.items():
        rows[pattern] = PriceRow(pattern, rates, RateSource.CUSTOM)
    return tuple(rows[pattern] for pattern in sorted(rows))


def _stored_row(price: StoredPrice, embedded: Mapping[str, PriceRow]) -> PriceRow:
    twin = embedded.get(price.pattern)
    same = twin is not None and twin.rates == price.rates
    source = RateSource.EMBEDDED if same else RateSource.FETCHED
    updated_at_ns = parse_strict_ns(price.updated_at) if price.updated_at else None
    return PriceRow(price.pattern, price.rates, source, updated_at_ns)


# Digest -------------------------------------------------------------------------------------


class _RowTexts(NamedTuple):
    """A row in text form; the field order is the order by which the digest sorts."""

    pattern: str
    source: str
    input: str
    output: str
    cache_write: str
    cache_read: str
    #: Empty for a row without a time.
    updated_at: str


def digest_rows(rows: Iterable[PriceRow]) -> str:
    """Return the digest of price rows, ``sha256:…``, independent of their order.

    Raises `PricingError` as `canonical_text` does.
    """
    return digest(canonical_text(rows).encode())


def canonical_text(rows: Iterable[PriceRow]) -> str:
    """Return the canonical JSON text ``{"rows":[…]}`` whose UTF-8 bytes are digested.

    Raises `PricingError` naming the row for a rate that is not finite, a pattern that is not
    valid Unicode, and a time outside the years 0 to 9999.
    """
    # Most rates and times occur many times over. Both zeros share a key and a digest text.
    numbers = _Memo(number_text)
    seconds = _Memo(seconds_text)
    texts = sorted(_row_texts(row, numbers, seconds) for row in rows)
    return '{"rows":[' + ",".join(map(_row_json, texts)) + "]}"


def _row_texts(row: PriceRow, numbers: _Memo[float], seconds: _Memo[int]) -> _RowTexts:
    rates, ns = row.rates, row.updated_at_ns
    try:
        return _RowTexts(
            row.pattern,
            row.source.value,
            numbers[rates.input],
            numbers[rates.output],
            numbers[rates.cache_write],
            numbers[rates.cache_read],
            "" if ns is None else seconds[ns],
        )
    except ValueError as error:
        raise PricingError(row.pattern, str(error)) from error


def _row_json(row: _RowTexts) -> str:
    try:
        pattern = json_string(row.pattern)
    except CanonicalError as error:
        raise PricingError(row.pattern, error.reason) from error
    updated_at = f'"{row.updated_at}"' if row.updated_at else "null"
    return (
        f'{{"cache_read_per_mtok":{row.cache_read},"cache_write_per_mtok":{row.cache_write},'
        f'"input_per_mtok":{row.input},"model_pattern":{pattern},'
        f'"output_per_mtok":{row.output},"source":"{row.source}","updated_at":{updated_at}}}'
    )


class _Memo(dict[K, str]):
    """A dictionary that fills itself by calling a function with the missing key."""

    def __init__(self, make: Callable[[K], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> str:
        text = self[key] = self._make(key)
        return text


# Matching a model name ----------------------------------------------------------------------


class MatchStep(StrEnum):
    """How a model name found its pattern."""

    EXACT = "exact"
    #: After turning every dot of the model name into a dash.
    DASHED = "dashed"
    #: Equal but for case.
    CASE = "case"
    #: Equal but for case, after turning dots into dashes.
    DASHED_CASE = "dashed-case"
    #: Equal in letters and digits, with compatible providers.
    CANONICAL = "canonical"
    NONE = "none"


class Match(NamedTuple):
    """The outcome for one model name, with what is needed to explain it."""

    model: str
    #: The pattern as stored; None when the model stays unpriced.
    pattern: str | None
    #: The step that decided, also when it decided that the choice is ambiguous.
    step: MatchStep
    #: Every pattern the deciding step could not tell apart, in byte order. With several, a
    #: canonical match is refused, and a match by case takes the first.
    equals: tuple[str, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether several patterns fit and none was taken."""
        return self.pattern is None and len(self.equals) > 1


class ModelMatcher:
    """Finds the pattern that prices a model name.

    There is no prefix, suffix or wildcard matching: a name is equal to a pattern, or equal in
    one of the looser senses of `MatchStep`, tried in that order. The empty pattern never
    matches. Answers are remembered, and the indexes for the looser steps are built when the
    first name needs them, so keep one matcher for a whole run.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = frozenset(patterns) - {""}
        self._matches: dict[str, Match] = {}

    def match(self, model: str) -> str | None:
        """Return the pattern that prices the model, or None if it is unpriced."""
        return self.explain(model).pattern

    def explain(self, model: str) -> Match:
        """Return the outcome for a model together with the step and the patterns that tied."""
        found = self._matches.get(model)
        if found is None:
            found = self._matches[model] = self._find(model)
        return found

    def _find(self, model: str) -> Match:
        if model in self._patterns:
            return Match(model, model, MatchStep.EXACT, (model,))
        dashed = model.replace(".", "-")
        if dashed in self._patterns:
            return Match(model, dashed, MatchStep.DASHED, (dashed,))
        for text, step in ((model, MatchStep.CASE), (dashed, MatchStep.DASHED_CASE)):
            if equals := self._by_lower.get(_lower(text)):
                return Match(model, equals[0], step, tuple(equals))
        equals = self._canonical_equals(model)
        if not equals:
            return Match(model, None, MatchStep.NONE)
        pattern = equals[0] if len(equals) == 1 else None
        return Match(model, pattern, MatchStep.CANONICAL, tuple(equals))

    def _canonical_equals(self, model: str) -> list[str]:
        """Return the patterns of the best rank for the first spelling of the model with any."""
        provider = _provider(model)
        for spelling in _spellings(model):
            ranks: tuple[list[str], list[str], list[str]] = ([], [], [])
            for pattern_provider, pattern in self._by_canonical.get(spelling, ()):
                if not pattern_provider:
                    ranks[1].append(pattern)
                elif pattern_provider == provider:
                    ranks[0].append(pattern)
                elif not provider:
                    ranks[2].append(pattern)
            for equals in ranks:
                if equals:
                    return equals
        return []

    @cached_property
    def _by_lower(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for pattern in sorted(self._patterns):
            index.setdefault(_lower(pattern), []).append(pattern)
        return index

    @cached_property
    def _by_canonical(self) -> dict[str, list[tuple[str, str]]]:
        """Provider and pattern by canonical name, the patterns in byte order."""
        index: dict[str, list[tuple[str, str]]] = {}
        for pattern in sorted(self._patterns):
            index.setdefault(_canonical(pattern), []).append((_provider(pattern), pattern))
        return index


_NOT_ALPHANUMERIC = re.compile("[^a-z0-9]+")
_DATE_LENGTH = len("-20260101")


def _lower(text: str) -> str:
    """Lower each code point by itself.

    Python's `str.lower` agrees but for two letters: it turns U+0130 into two code points, and a
    sigma at the end of a word into its final form.
    """
    if text.isascii():
        return text.lower()
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()


def _alphanumeric(text: str) -> str:
    return _NOT_ALPHANUMERIC.sub("", _lower(text))


def _canonical(name: str) -> str:
    """Return the letters and digits after the last slash."""
    return _alphanumeric(name.rpartition("/")[2])


def _provider(name: str) -> str:
    """Return the letters and digits before the last slash; empty when there is no provider."""
    return _alphanumeric(name.rpartition("/")[0])


def _spellings(model: str) -> Iterator[str]:
    """Yield the canonical names to look for, the fullest first, each once."""
    ungrouped = _without_group(model)
    seen = {""}
    for text in (model, ungrouped, _without_date(ungrouped)):
        name = _canonical(text)
        if name not in seen:
            seen.add(name)
            yield name


def _without_group(name: str) -> str:
    """Cut one trailing ``(…)`` or ``[…]`` that does not start the name, and blanks around it."""
    trimmed = name.rstrip(" ")
    opening = {")": "(", "]": "["}.get(trimmed[-1:])
    start = trimmed.rfind(opening) if opening else -1
    return trimmed[:start].rstrip(" ") if start > 0 else name


def _without_date(name: str) -> str:
    """Cut a trailing dash with exactly eight digits, if anything stands before it."""
    date = name[-_DATE_LENGTH:]
    if len(name) > _DATE_LENGTH and re.fullmatch("-[0-9]{8}", date):
        return name[:-_DATE_LENGTH]
    return name


# Money --------------------------------------------------------------------------------------


class TokenCounts(NamedTuple):
    """The tokens of one usage row, or of several if `output` already holds what is billed."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0
    reasoning: int = 0


def billable_output(output: int, reasoning: int) -> int:
    """Return the tokens billed at the output rate: reasoning counts only without any output.

    This is decided per usage row. Sum its results before pricing a group at once.
    """
    return output if output != 0 else reasoning


def cost(rates: Rates, tokens: TokenCounts) -> Decimal:
    """Return what the tokens cost in US dollars, exactly.

    Exactness makes it additive: pricing summed counts gives the sum of the single costs, as
    long as `billable_output` was applied row by row. Add costs with `numbers.exact_sum`.

    Raises `ValueError` for a rate that is not finite.
    """
    exact = rates.exact
    output = billable_output(tokens.output, tokens.reasoning)
    total = EXACT.multiply(exact.input, tokens.input)
    total = EXACT.fma(exact.output, output, total)
    total = EXACT.fma(exact.cache_write, tokens.cache_write, total)
    total = EXACT.fma(exact.cache_read, tokens.cache_read, total)
    return _per_million(total)


def cache_savings(rates: Rates, tokens: TokenCounts) -> Decimal:
    """Return in US dollars, exactly, what caching saved against paying the input rate.

    Negative where the cache rates are above the input rate. Raises `ValueError` for a rate that
    is not finite.
    """
    exact = rates.exact
    read = EXACT.multiply(EXACT.subtract(exact.input, exact.cache_read), tokens.cache_read)
    write = EXACT.subtract(exact.input, exact.cache_write)
    return _per_million(EXACT.fma(write, tokens.cache_write, read))


def _per_million(amount: Decimal) -> Decimal:
    return EXACT.scaleb(amount, -6)


# The pricing block --------------------------------------------------------------------------


class CostSource(StrEnum):
    """Whether costs were computed from rates, reported by the source, or both."""

    COMPUTED = "computed"
    REPORTED = "reported"
    MIXED = "mixed"


class Recorded(NamedTuple):
    """What the usage rows of one model contributed."""

    #: At least one row without a reported cost.
    computed: bool = False
    #: At least one row with a reported cost.
    reported: bool = False


class ModelPrice(NamedTuple):
    """The price of one reported model; the fields are in emission order."""

    #: The pattern as stored; None for an unpriced model, whose rates are then 0.
    matched_pattern: str | None
    input_cost_per_mtok: float
    output_cost_per_mtok: float
    cache_write_cost_per_mtok: float
    cache_read_cost_per_mtok: float
    cost_source: CostSource


class Fallback(NamedTuple):
    """Which reported models were priced by the built-in snapshot."""

    used: bool
    #: Model names as reported, in byte order.
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PricingBlock:
    """The ``pricing`` object of a document; the fields are in emission order."""

    source: str
    table_version: str
    latest_row_updated_at: str | None
    custom_override_count: int
    effective_row_count: int
    digest: str
    cost_source: CostSource
    fallback: Fallback
    #: By model name as reported, the names in byte order.
    models: dict[str, ModelPrice]

    def asdict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists and texts, keys in emission order."""
        block = {each.name: getattr(self, each.name) for each in fields(self)}
        block["cost_source"] = self.cost_source.value
        block["fallback"] = {"used": self.fallback.used, "models": list(self.fallback.models)}
        block["models"] = {
            name: {**price._asdict(), "cost_source": price.cost_source.value}
            for name, price in self.models.items()
        }
        return block


@dataclass(frozen=True)
class PriceTable:
    """The prices of one run, read once.

    What depends on the rows alone is computed on first use and kept.
    """

    #: As returned by `effective_rows`: one row per pattern.
    rows: tuple[PriceRow, ...]
    #: Version of the built-in snapshot that decided which rows are embedded.
    snapshot_version: str

    @cached_property
    def digest(self) -> str:
        """The digest of all rows. Raises `PricingError` as `canonical_text` does."""
        return digest_rows(self.rows)

    @cached_property
    def matcher(self) -> ModelMatcher:
        """The matcher over the patterns of all rows."""
        return ModelMatcher(self._by_pattern)

    @cached_property
    def _by_pattern(self) -> dict[str, PriceRow]:
        return {row.pattern: row for row in self.rows}

    def resolve(self, model: str) -> PriceRow | None:
        """Return the row that prices a reported model name; None if it is unpriced."""
        pattern = self.matcher.match(model)
        return None if pattern is None else self._by_pattern[pattern]

    def block(self, recorded: Mapping[str, tuple[bool, bool]]) -> PricingBlock:
        """Return the pricing block for the models that usage rows recorded.

        `recorded` maps model names as reported to a `Recorded` or an equal pair. The empty name
        is left out. A surface that shows ``{}`` instead of a block for no results decides that
        itself.

        Raises `PricingError` for a row that cannot be digested or dated.
        """
        names = sorted(name for name in recorded if name)
        fallback = tuple(name for name in names if self._is_embedded(name))
        return PricingBlock(
            source=table_source(self.rows),
            table_version=table_version(self.rows, self.snapshot_version),
            latest_row_updated_at=_latest_text(self.rows, full_text),
            custom_override_count=sum(row.source is RateSource.CUSTOM for row in self.rows),
            effective_row_count=len(self.rows),
            digest=self.digest,
            cost_source=cost_source(recorded[name] for name in names),
            fallback=Fallback(bool(fallback), fallback),
            models={name: self._model_price(name, recorded[name]) for name in names},
        )

    def _is_embedded(self, model: str) -> bool:
        row = self.resolve(model)
        return row is not None and row.source is RateSource.EMBEDDED

    def _model_price(self, model: str, recorded: tuple[bool, bool]) -> ModelPrice:
        row = self.resolve(model)
        rates = row.rates if row else _NO_RATES
        return ModelPrice(
            matched_pattern=row.pattern if row else None,
            input_cost_per_mtok=rates.input,
            output_cost_per_mtok=rates.output,
            cache_write_cost_per_mtok=rates.cache_write,
            cache_read_cost_per_mtok=rates.cache_read,
            cost_source=cost_source([recorded]),
        )


def table_source(rows: Iterable[PriceRow]) -> str:
    """Return which sources the rows have, as one word.

    One of ``""`` (no rows), ``embedded``, ``fetched``, ``custom``, ``custom+embedded`` and
    ``custom+fetched``; any fetched row hides the embedded ones.
    """
    sources = {row.source for row in rows}
    base = _base_source(sources)
    parts = [RateSource.CUSTOM] if RateSource.CUSTOM in sources else []
    return "+".join(parts + ([base] if base else []))


def table_version(rows: Sequence[PriceRow], embedded_version: str) -> str:
    """Return what names this state of the prices, by the most telling source among the rows.

    Fetched: the latest time of any row in whole seconds, or ``fetched`` if no row has one.
    Embedded: `embedded_version`. Only custom rows: ``custom``. No rows: ``""``.

    Raises `PricingError` for a latest time outside the years 0 to 9999.
    """
    sources = {row.source for row in rows}
    match _base_source(sources):
        case RateSource.FETCHED:
            return _latest_text(rows, seconds_text) or RateSource.FETCHED.value
        case RateSource.EMBEDDED:
            return embedded_version
        case _:
            return RateSource.CUSTOM.value if sources else ""


def latest_update_ns(rows: Iterable[PriceRow]) -> int | None:
    """Return the latest time of any row, nanoseconds since 1970 UTC; None if none has a time."""
    return max((row.updated_at_ns for row in rows if row.updated_at_ns is not None), default=None)


def cost_source(recorded: Iterable[tuple[bool, bool]]) -> CostSource:
    """Return how the costs behind (computed, reported) pairs came about.

    Nothing recorded counts as computed.
    """
    pairs = list(recorded)
    if not any(reported for _, reported in pairs):
        return CostSource.COMPUTED
    computed = any(computed for computed, _ in pairs)
    return CostSource.MIXED if computed else CostSource.REPORTED


def _base_source(sources: set[RateSource]) -> RateSource | None:
    for source in (RateSource.FETCHED, RateSource.EMBEDDED):
        if source in sources:
            return source
    return None


def _latest_text(rows: Iterable[PriceRow], form: Callable[[int], str]) -> str | None:
    dated = [row for row in rows if row.updated_at_ns is not None]
    latest_ns = latest_update_ns(dated)
    if latest_ns is None:
        return None
    try:
        return form(latest_ns)
    except ValueError as error:
        # An offset can push a stored time past either end of the calendar.
        pattern = next(row.pattern for row in dated if row.updated_at_ns == latest_ns)
        raise PricingError(pattern, str(error)) from error


# Catalogue and snapshot ---------------------------------------------------------------------


class PriceSnapshot(NamedTuple):
    """Prices that ship with the program."""

    version: str
    #: In byte order of the patterns, source embedded, without times.
    rows: tuple[PriceRow, ...]


#: Catalogue fields in the order of the fields of `Rates`; US dollars per single token.
_COST_FIELDS = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_creation_input_token_cost",
    "cache_read_input_token_cost",
)
_PROVIDER_FIELD = "litellm_provider"

_MAX_SNAPSHOT_MODELS = 100_000

#: Models that a snapshot prices even when the catalogue does not list them.
_OVERLAY = {
    **dict.fromkeys(
        ("claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8"), Rates(5.0, 25.0, 6.25, 0.5)
    ),
    "claude-opus-4-20250514": Rates(15.0, 75.0, 18.75, 1.5),
    "claude-fable-5": Rates(10.0, 50.0, 12.5, 1.0),
    **dict.fromkeys(
        ("claude-sonnet-4-6", "claude-sonnet-4-20250514", "claude-sonnet-4-5-20250514"),
        Rates(3.0, 15.0, 3.75, 0.3),
    ),
    "claude-haiku-4-5-20251001": Rates(1.0, 5.0, 1.25, 0.1),
    "claude-haiku-3-5-20241022": Rates(0.8, 4.0, 1.0, 0.08),
    "gpt-5.5": Rates(5.0, 30.0, 0.0, 0.5),
    "gpt-5.4": Rates(2.5, 15.0, 0.0, 0.25),
    "gpt-5.4-mini": Rates(0.75, 4.5, 0.0, 0.075),
    "gpt-5.4-nano": Rates(0.2, 1.25, 0.0, 0.02),
    **dict.fromkeys(("gpt-5.3-codex", "gpt-5.2-codex"), Rates(1.75, 14.0, 0.0, 0.175)),
    "gpt-5.1-codex-max": Rates(1.25, 10.0, 0.0, 0.125),
    "mistral-large": Rates(4.0, 4.0, 0.0, 0.0),
    "mistral-large-3": Rates(4.0, 4.0, 4.0, 0.3),
    **dict.fromkeys(("mistral-medium", "mistral-medium-3"), Rates(2.75, 2.75, 0.0, 0.0)),
    "mistral-medium-3.5": Rates(1.5, 7.5, 1.5, 0.25),
    # Known to be free, which is not the same as unpriced.
    "openrouter/owl-alpha": Rates(),
}


class _Object(list[tuple[str, object]]):
    """A JSON object as its members in text order, repeated names included."""


def parse_catalogue(text: bytes) -> list[PriceRow]:
    """Read LiteLLM's price catalogue into fetched rows, in byte order of the model names.

    An entry with neither an input nor an output price is left out; a price of 0 is a price. A
    name or field that occurs twice counts as it occurs last. No entry is filtered by name, mode
    or provider. Costs per token become rates by one binary multiplication, noise included,
    because stored rates are compared as doubles.

    Raises `CatalogueError` at the first entry of the wrong shape; a catalogue is used whole or
    not at all.
    """
    document = _load_catalogue(text)
    if document is None:
        return []
    if not isinstance(document, _Object):
        raise CatalogueError(None, None, "must be an object of model names")
    entries = {name: _entry_rates(name, entry) for name, entry in document}
    return [
        PriceRow(name, rates, RateSource.FETCHED)
        for name, rates in sorted(entries.items(), key=lambda item: item[0])
        if rates is not None
    ]


def build_snapshot(catalogue: Iterable[PriceRow]) -> PriceSnapshot:
    """Turn a parsed catalogue into a snapshot, adding the models it should not lack.

    Raises `CatalogueError` for a blank model name and for more models than a snapshot may hold,
    `PricingError` as `snapshot_version` does.
    """
    rates = {**_OVERLAY, **{row.pattern: row.rates for row in catalogue}}
    blank = next((name for name in rates if not name.strip()), None)
    if blank is not None:
        raise CatalogueError(blank, None, "a snapshot cannot hold a blank model name")
    if len(rates) > _MAX_SNAPSHOT_MODELS:
        raise CatalogueError(None, None, f"more than {_MAX_SNAPSHOT_MODELS} models")
    rows = tuple(PriceRow(name, rates[name], RateSource.EMBEDDED) for name in sorted(rates))
    return PriceSnapshot(snapshot_version(rows), rows)


def snapshot_version(models: Iterable[PriceRow]) -> str:
    """Return ``litellm-`` and twelve hexadecimal digits that stand for names and rates.

    Raises `PricingError` as `models_text` does.
    """
    return f"litellm-{hashlib.sha256(models_text(models).encode()).hexdigest()[:12]}"


def models_text(models: Iterable[PriceRow]) -> str:
    """Return the JSON array that the version of a snapshot is computed from.

    Raises `PricingError` for a rate that is not finite and a name that is not valid Unicode.
    """
    ordered = sorted(models, key=lambda row: row.pattern)
    return f"[{','.join(map(_model_json, ordered))}]"


def _model_json(row: PriceRow) -> str:
    rates = row.rates
    try:
        name = json_string(row.pattern)
        numbers = map(
            wire_number_text, (rates.input, rates.output, rates.cache_write, rates.cache_read)
        )
        input_, output, cache_write, cache_read = numbers
    except ValueError as error:
        raise PricingError(row.pattern, str(error)) from error
    # This text was born in an encoder that makes JSON safe inside HTML.
    for character in "<>&":
        name = name.replace(character, f"\\u{ord(character):04x}")
    return (
        f'{{"ModelPattern":{name},"InputPerMTok":{input_},"OutputPerMTok":{output},'
        f'"CacheCreationPerMTok":{cache_write},"CacheReadPerMTok":{cache_read}}}'
    )


def _load_catalogue(text: bytes) -> object:
    try:
        # Whole numbers become doubles at once: some are wider than Python is willing to parse.
        return json.loads(
            text.decode(),
            object_pairs_hook=_Object,
            parse_int=float,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise CatalogueError(None, None, f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise CatalogueError(None, None, reason) from error
    except RecursionError as error:
        raise CatalogueError(None, None, "nested too deep") from error


def _refuse_constant(name: str) -> object:
    raise CatalogueError(None, None, f"not JSON: {name} is not a number")


def _entry_rates(name: str, entry: object) -> Rates | None:
    """Return the rates of one catalogue entry; None for an entry without a price."""
    if entry is None:
        return None
    if not isinstance(entry, _Object):
        raise CatalogueError(name, None, "must be an object or null")
    costs: dict[str, float | None] = {}
    for key, value in entry:
        field = _lower(key)
        if field in _COST_FIELDS:
            costs[field] = _rate(name, key, value)
        elif field == _PROVIDER_FIELD and not isinstance(value, str | None):
            raise CatalogueError(name, key, "must be text or null")
    rates = [costs.get(field) for field in _COST_FIELDS]
    if rates[0] is None and rates[1] is None:
        return None
    return Rates(*(0.0 if rate is None else rate for rate in rates))


def _rate(name: str, field: str, value: object) -> float | None:
    """Return US dollars per million tokens for US dollars per token."""
    if value is None:
        return None
    if not isinstance(value, float):
        raise CatalogueError(name, field, "must be a number or null")
    rate = value * 1e6
    if not is_money(rate):
        raise CatalogueError(name, field, "is no usable price: too large, or too small")
    return rate
