"""What a schema cannot say of the parts that all documents share: prices and projects.

Only parts that fit their schema are looked at here. A document that lacks one of the two, or has
an empty one, has nothing wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, TypeAlias

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
}

RATES: Final = (
    "input_cost_per_mtok",
    "output_cost_per_mtok",
    "cache_write_cost_per_mtok",
    "cache_read_cost_per_mtok",
)
#: What a cost source says: some rows were computed, some reported.
MARKS: Final = {"computed": (True, False), "reported": (False, True), "mixed": (True, True)}


class HeadRules:
    """Looks at the head of a document, after its rows.

    Yields the path of a fault and the rule it breaks. Surfaces with rules of their own build on
    this one; it counts the rows and looks at none.
    """

    def __init__(self) -> None:
        self.rows = 0
        #: False once something was not looked at; what needs every row is then left out.
        self.complete = True

    def use_prices(self, pricing: Object) -> None:
        """Take the pricing of the head, where it comes before the rows."""

    def row(self, row: Object) -> Iterator[Fault]:
        """The faults of one row; every row of the document must come by here once."""
        self.rows += 1
        return iter(())

    def skip_row(self) -> None:
        """Count a row that does not fit its schema."""
        self.rows += 1
        self.complete = False

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
    rows = _all_rows(pricing)
    if rows is not None and pricing["digest"] != digest_rows(rows):
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


def _all_rows(pricing: Object) -> list[PriceRow] | None:
    """The price rows in force, if the document tells each of them in full; else None."""
    models: dict[str, Object] = pricing["models"]
    matched = {p["matched_pattern"]: p for p in models.values() if p["matched_pattern"] is not None}
    if len(matched) != pricing["effective_row_count"]:
        return None
    embedded = {models[name]["matched_pattern"] for name in pricing["fallback"]["models"]}
    custom = pricing["custom_override_count"]
    if custom not in (0, len(matched.keys() - embedded)):
        return None
    latest = pricing["latest_row_updated_at"]
    if latest is not None and len(matched) - custom != 1:
        return None
    rows = []
    for pattern, price in matched.items():
        source = RateSource.CUSTOM if custom else RateSource.FETCHED
        if pattern in embedded:
            source = RateSource.EMBEDDED
        dated = latest is not None and source is not RateSource.CUSTOM
        rates = Rates(*(float(price[rate]) for rate in RATES))
        rows.append(PriceRow(pattern, rates, source, parse_strict_ns(latest) if dated else None))
    return rows
