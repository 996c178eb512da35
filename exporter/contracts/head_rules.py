"""What a schema cannot say of the parts that all documents share: prices and projects.

Only parts that fit their schema are looked at here. A document that lacks one of the two, or has
an empty one, has nothing wrong with it. The rules of the rows of each surface build on these, and
find here what they share: sums, orders, names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations, pairwise
from math import comb, fsum, isclose, nan
from typing import Any, ClassVar, Final, TypeAlias

from exporter.contracts.schema import Step
from exporter.core.identity import identity_key
from exporter.core.pricing import PriceRow, Rates, RateSource, cost_source, digest_rows
from exporter.core.times import parse_strict_ns

Fault: TypeAlias = tuple[tuple[Step, ...], str]
Object: TypeAlias = dict[str, Any]

#: The rules of this module, in words.
RULES: Final = {
    "sorted_keys": "the keys of a map are in byte order",
    "resolution": "a project has an identity exactly when it is resolved",
    "identity": "an identity shows what its key was made of, and nothing else",
    "project_key": "a project key is the hash of its remote or root path",
    "cost_source": "cost_source joins those of all entries it stands for",
    "unpriced_rate": "a model without a price row has rates of 0",
    "same_rates": "models of one price row have the same rates",
    "fallback": "fallback lists models of the document in byte order, and is used if it lists any",
    "price_counts": "source and table_version agree with the counts and times beside them",
    "digest": "the digest is that of the price rows, where the document holds all of them",
    "sum": "a total is the sum, or the number, of its parts, money and minutes within 1e-9",
    "order": "rows and lists come in the order of their contract, and none twice",
    "cost": "a computed cost is what tokens and rates make it",
    "project_entry": "projects holds the labels of the rows and no other",
    "model_price": "pricing.models holds the models of the rows and no other",
    "too_many_names": "more labels or models than can be compared in bounded memory",
}

#: Labels, agents and models that are remembered to be compared with the head.
MAX_NAMES: Final = 1 << 18
#: Money and minutes agree within this part of what was added, and within this much.
TOLERANCE: Final = 1e-9

RATES: Final = (
    "input_cost_per_mtok",
    "output_cost_per_mtok",
    "cache_write_cost_per_mtok",
    "cache_read_cost_per_mtok",
)
#: How many ways to tell custom rows from others are tried.
_MOST_CHOICES: Final = 64
#: What a cost source says: some rows were computed, some reported.
MARKS: Final = {"computed": (True, False), "reported": (False, True), "mixed": (True, True)}


class HeadRules:
    """Looks at the head of a document, after its rows.

    Yields the path of a fault and the rule it breaks. Surfaces with rules of their own build on
    this one; it counts the rows and looks at none.
    """

    #: Members of the head that help with the rows, where they come first.
    EARLY: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        self.rows = 0
        #: False once something was not looked at; what needs every row is then left out.
        self.complete = True

    def begin(self, early: Object, *, has_arrays: bool) -> None:
        """Take those members of `EARLY` that come before the rows and fit their schema.

        ``has_arrays`` is False for what may be an NDJSON stream.
        """

    def row(self, row: Object) -> Iterator[Fault]:
        """The faults of one row; every row of the document must come by here once."""
        self.rows += 1
        return iter(())

    def skip_row(self) -> None:
        """Count a row that does not fit its schema."""
        self.rows += 1
        self.complete = False

    def further_row(self, row: Object) -> Iterator[Fault]:
        """The faults of one item of the surface's second long array, where it has one."""
        return iter(())

    def skip_further_row(self) -> None:
        """Take note of such an item that does not fit its schema."""

    def head(self, head: Object) -> Iterator[Fault]:
        """The faults of the head."""
        projects = head.get("projects", {})
        yield from unsorted(projects, "projects")
        for label, entry in projects.items():
            for path, rule in _project(entry):
                yield ("projects", label, *path), rule
        if pricing := head.get("pricing"):
            for path, rule in _pricing(pricing):
                yield ("pricing", *path), rule


class Sum:
    """A running sum of any length that knows how exactly a stated value must meet it."""

    __slots__ = ("_lost", "_rounded", "size")

    def __init__(self) -> None:
        self._rounded = self._lost = 0.0
        #: The sum of the amounts without their signs.
        self.size = 0.0

    def add(self, value: float) -> None:
        """Add a term; what rounding loses is kept apart."""
        rounded = self._rounded + value
        if abs(self._rounded) >= abs(value):
            self._lost += (self._rounded - rounded) + value
        else:
            self._lost += (value - rounded) + self._rounded
        self._rounded = rounded
        self.size += abs(value)

    @property
    def total(self) -> float:
        return self._rounded + self._lost

    @property
    def slack(self) -> float:
        """How far a stated value may lie off."""
        return TOLERANCE * max(1.0, self.size)

    def meets(self, stated: float) -> bool:
        """Whether a stated total is this sum; never, where the sum is beyond all numbers."""
        return abs(stated - self.total) <= self.slack


def summed(values: Iterable[float]) -> float:
    """The exact sum, rounded once; not a number where it is beyond all numbers."""
    try:
        return fsum(values)
    except (OverflowError, ValueError):
        return nan


def same_amount(a: float, b: float) -> bool:
    """Whether two amounts of money or minutes are the same."""
    return isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def differing(found: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """The names that only one side has, in byte order."""
    return sorted(set(wanted).symmetric_difference(found))


def unsorted(members: Iterable[str], *path: Step) -> Iterator[Fault]:
    # The order of code points is that of UTF-8 bytes.
    if any(a >= b for a, b in pairwise(members)):
        yield path, "sorted_keys"


def _project(entry: Object) -> Iterator[Fault]:
    identity = entry["identity"]
    if (identity is not None) != (entry["resolution"] == "resolved"):
        yield ("identity",), "resolution"
    if identity is None:
        return
    local = identity["key_source"] == "root_path"
    shown = set(identity) & {"normalized_remote", "root_path", "machine_local"}
    # A remote whose text may hold a credential is withheld.
    if not (shown == {"root_path", "machine_local"} if local else shown <= {"normalized_remote"}):
        yield ("identity",), "identity"
        return
    value = identity.get("root_path" if local else "normalized_remote")
    # The key was made of bytes; what stands for one that is not UTF-8 cannot be turned back.
    if value is None or "\ufffd" in value:
        return
    if identity["key"] != identity_key(identity["key_source"], value):
        yield ("identity", "key"), "project_key"


def _pricing(pricing: Object) -> Iterator[Fault]:
    models: dict[str, Object] = pricing["models"]
    yield from unsorted(models, "models")
    for model, price in models.items():
        if price["matched_pattern"] is None and any(price[rate] for rate in RATES):
            yield ("models", model), "unpriced_rate"
    for model in _models_at_odds(models):
        yield ("models", model), "same_rates"
    marks = [MARKS[price["cost_source"]] for price in models.values()]
    if pricing["cost_source"] != cost_source(marks):
        yield ("cost_source",), "cost_source"
    fallback = pricing["fallback"]
    if (
        fallback["used"] != bool(fallback["models"])
        or any(a >= b for a, b in pairwise(fallback["models"]))
        or not set(fallback["models"]) <= set(models)
    ):
        yield ("fallback",), "fallback"
    yield from _price_counts(pricing)
    possible = _possible_rows(pricing)
    if possible and pricing["digest"] not in map(digest_rows, possible):
        yield ("digest",), "digest"


def _models_at_odds(models: Mapping[str, Object]) -> Iterator[str]:
    rates: dict[str, list[float]] = {}
    for model, price in models.items():
        pattern, own = price["matched_pattern"], [price[rate] for rate in RATES]
        if pattern is not None and rates.setdefault(pattern, own) != own:
            yield model


def _price_counts(pricing: Object) -> Iterator[Fault]:
    sources = set(filter(None, pricing["source"].split("+")))
    if not sources <= set(RateSource):
        return
    custom, rows = pricing["custom_override_count"], pricing["effective_row_count"]
    others = sources - {RateSource.CUSTOM.value}
    if (custom > 0) != (RateSource.CUSTOM in sources) or (rows > custom) != bool(others):
        yield ("source",), "price_counts"
        return
    latest = pricing["latest_row_updated_at"]
    version: str | None = None
    if RateSource.FETCHED in sources:
        version = RateSource.FETCHED.value if latest is None else f"{latest[:19]}Z"
    elif not others:
        version = RateSource.CUSTOM.value if sources else ""
    if version is not None and pricing["table_version"] != version:
        yield ("table_version",), "price_counts"


def _possible_rows(pricing: Object) -> list[list[PriceRow]]:
    """What the price rows in force can be, if the document tells each of them in full.

    It does not tell which of them are custom ones, so there may be several answers; none where
    something is missing, or where the answers are too many to try.
    """
    models: dict[str, Object] = pricing["models"]
    matched = {p["matched_pattern"]: p for p in models.values() if p["matched_pattern"] is not None}
    custom = pricing["custom_override_count"]
    # Of several rows with a time only the newest is told.
    is_dated = pricing["latest_row_updated_at"] is not None
    if len(matched) != pricing["effective_row_count"] or (is_dated and len(matched) - custom != 1):
        return []
    embedded = {models[name]["matched_pattern"] for name in pricing["fallback"]["models"]}
    others = sorted(matched.keys() - embedded)
    is_clear = custom in (0, len(others))
    if not is_clear and (len(others) > _MOST_CHOICES or comb(len(others), custom) > _MOST_CHOICES):
        return []
    return [
        [_price_row(pattern, matched[pattern], pricing, chosen, embedded) for pattern in matched]
        for chosen in combinations(others, custom)
    ]


def _price_row(
    pattern: str, price: Object, pricing: Object, custom: Collection[str], embedded: set[str]
) -> PriceRow:
    source = RateSource.EMBEDDED if pattern in embedded else RateSource.FETCHED
    latest = pricing["latest_row_updated_at"]
    if pattern in custom:
        source, latest = RateSource.CUSTOM, None
    rates = Rates(*(float(price[rate]) for rate in RATES))
    return PriceRow(pattern, rates, source, parse_strict_ns(latest) if latest else None)
