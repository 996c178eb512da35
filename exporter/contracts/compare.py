"""What changed between two schemas, or two documents, and what it means for those who read them.

A change is judged from the side of a reader who was written for the old form: whatever he may now
meet and was not told of is breaking. What he will only stop meeting is risky, since files that were
kept may not fit the new form. What he can ignore is additive. The rules are a table; the page
docs/contracts/versioning.md shows the same one.

Schemas are compared keyword by keyword, in the part of JSON Schema that ours are written in. A
keyword outside of it that differs cannot be judged, and counts as breaking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from exporter.contracts.schema import ANNOTATIONS, Schema


class Severity(StrEnum):
    """How much a change hurts; the worst comes first."""

    BREAKING = "breaking"
    RISKY = "risky"
    ADDITIVE = "additive"


class Rule(NamedTuple):
    severity: Severity
    meaning: str


class Change(NamedTuple):
    """One difference. ``place`` is a path through the document, ``*`` for any entry."""

    severity: Severity
    rule: str
    place: str


_BREAKING, _RISKY, _ADDITIVE = Severity

#: Every rule there is. A document is compared by some of them.
RULES: Final[Mapping[str, Rule]] = {
    "field_removed": Rule(_BREAKING, "a field is gone"),
    "field_became_optional": Rule(_BREAKING, "a field that was always there may be absent"),
    "field_became_required": Rule(_RISKY, "a field that could be absent is always there"),
    "field_added": Rule(_ADDITIVE, "a new field in an open object"),
    "field_added_to_closed": Rule(_BREAKING, "a new field in an object that was closed"),
    "field_order_changed": Rule(_RISKY, "fields are written in another order"),
    "retyped": Rule(_BREAKING, "a value has another type"),
    "type_widened": Rule(_BREAKING, "a value may be of one more type"),
    "type_narrowed": Rule(_RISKY, "a value is no longer of one of its types"),
    "nullable_added": Rule(_BREAKING, "a value may be null"),
    "nullable_removed": Rule(
        _BREAKING, "a value that could be null, and so meant something, cannot"
    ),
    "const_changed": Rule(_BREAKING, "a fixed value is another one"),
    "enum_grown": Rule(_BREAKING, "a closed enum has a new value"),
    "enum_shrunk": Rule(_RISKY, "a closed enum lost a value"),
    "enum_opened": Rule(_BREAKING, "a closed enum or fixed value may be anything"),
    "enum_closed": Rule(_RISKY, "values that were open are a closed enum"),
    "bound_widened": Rule(_BREAKING, "a limit was moved out or dropped"),
    "bound_narrowed": Rule(_RISKY, "a limit was moved in or added"),
    "pattern_changed": Rule(_BREAKING, "a text follows another pattern, or none any more"),
    "pattern_added": Rule(_RISKY, "a text follows a pattern where it followed none"),
    "format_changed": Rule(_RISKY, "the named format of a text changed"),
    "unique_removed": Rule(_BREAKING, "items of a list may be equal"),
    "unique_added": Rule(_RISKY, "items of a list are never equal"),
    "object_opened": Rule(_BREAKING, "a closed object may hold unknown keys"),
    "object_closed": Rule(_RISKY, "an open object holds no unknown keys"),
    "map_untyped": Rule(_BREAKING, "entries of a map may be anything"),
    "map_typed": Rule(_RISKY, "entries that could be anything have one form"),
    "map_removed": Rule(_BREAKING, "a map holds no entries any more"),
    "form_added": Rule(_BREAKING, "a value may take one more form"),
    "form_removed": Rule(_RISKY, "a value no longer takes one of its forms"),
    "order_changed": Rule(_BREAKING, "rows, keys or names are sorted otherwise, or not at all"),
    "derivation_changed": Rule(_BREAKING, "a digest or key is made in another way"),
    "meaning_changed": Rule(_BREAKING, "a field means something else"),
    "promise_added": Rule(
        _ADDITIVE, "an order, derivation or meaning is promised for the first time"
    ),
    "rule_broken": Rule(_BREAKING, "a rule beyond the schema holds no longer, as of sums"),
    "rule_kept": Rule(_ADDITIVE, "a rule that was broken holds"),
    "unknown_field_removed": Rule(_RISKY, "a key that the contract does not know is gone"),
    "surface_changed": Rule(_BREAKING, "it is another kind of document"),
    "definition_removed": Rule(_BREAKING, "a part that stands for itself, as a line does, is gone"),
    "definition_added": Rule(_ADDITIVE, "a new part that stands for itself"),
    "id_changed": Rule(_BREAKING, "the schema goes by another name"),
    "dialect_changed": Rule(_RISKY, "the schema is written in another version of JSON Schema"),
    "description_changed": Rule(_RISKY, "a field is described in other words, or in none"),
    "description_added": Rule(_ADDITIVE, "a field is described for the first time"),
    "examples_changed": Rule(_ADDITIVE, "the known values of an open enum changed"),
    "default_changed": Rule(_RISKY, "what an absent field stands for changed"),
    "deprecation_changed": Rule(_ADDITIVE, "a field is marked as deprecated, or is not any more"),
    "unjudged": Rule(_BREAKING, "a keyword without a rule here differs"),
}

#: Promises that no keyword can say; a ``$comment`` begins with one of these words.
_PROMISES: Final = ("order", "derivation", "meaning")
_LOWER: Final = (("minLength", 0), ("minItems", 0), ("minProperties", 0), ("minContains", 1))
_UPPER: Final = ("maxLength", "maxItems", "maxProperties", "maxContains")
#: Keywords that a comparison below looks at.
_JUDGED: Final = frozenset(
    {
        *("$ref", "$defs", "type", "const", "enum", "anyOf"),
        *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
        *(name for name, _ in _LOWER),
        *_UPPER,
        *("pattern", "format", "items", "uniqueItems"),
        *("properties", "required", "additionalProperties", "propertyNames"),
    }
)
#: What a type lets through. A number may have a fraction, an integer may not.
_ATOMS: Final[Mapping[str, frozenset[str]]] = {
    **{name: frozenset({name}) for name in ("boolean", "integer", "string", "array", "object")},
    "number": frozenset({"integer", "fraction"}),
}
_ANYTHING: Final = frozenset().union(*_ATOMS.values())
_NULL: Final[Schema] = {"type": "null"}
_ANY: Final[Schema] = {}
_NEVER: Final[Schema] = {"not": {}}

Found = Iterator[tuple[str, str]]


def compare_schemas(old: Schema, new: Schema) -> list[Change]:
    """Every difference that has a rule, worst first, then by place."""
    found = _Comparison(old, new).run()
    changes = {Change(RULES[rule].severity, rule, place) for rule, place in found}
    return in_order(changes)


def in_order(changes: Iterable[Change]) -> list[Change]:
    """Worst first, then by place."""
    ranks = list(Severity)
    return sorted(changes, key=lambda change: (ranks.index(change.severity), *change[1:][::-1]))


class _Form(NamedTuple):
    """What a schema says of a value, null apart."""

    nullable: bool
    #: Alternatives, resolved; a schema without any is its own one alternative.
    branches: list[Schema]


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self.old, self.new = old, new
        self._seen: set[tuple[int, int]] = set()
        #: Schemas that were put together here stay, or another could get their id.
        self._kept: list[Schema] = []

    def run(self) -> Found:
        if self.old.get("$id") != self.new.get("$id"):
            yield "id_changed", ""
        if self.old.get("$schema") != self.new.get("$schema"):
            yield "dialect_changed", ""
        yield from self._node(self.old, self.new, "")
        # A definition that no other refers to is a part that readers use by its name.
        parts_old, parts_new = _own_parts(self.old), _own_parts(self.new)
        for name in parts_old:
            part = self.new.get("$defs", {}).get(name)
            if part is None:
                yield "definition_removed", f"#{name}"
            else:
                yield from self._node(self.old["$defs"][name], part, f"#{name}")
        for name in parts_new - parts_old:
            if name not in self.old.get("$defs", {}):
                yield "definition_added", f"#{name}"

    def _node(self, old: Any, new: Any, place: str) -> Found:
        """Compare two schemas of one place, each pair once."""
        pair = (id(old), id(new))
        if pair in self._seen:
            return
        self._seen.add(pair)
        old, new = _resolved(old, self.old), _resolved(new, self.new)
        self._kept += (old, new)
        if (id(old), id(new)) != pair:
            if (id(old), id(new)) in self._seen:
                return
            self._seen.add((id(old), id(new)))
        yield from _annotations(old, new, place)
        was, now = _form(old, self.old), _form(new, self.new)
        if was.nullable != now.nullable and was.branches and now.branches:
            yield ("nullable_added" if now.nullable else "nullable_removed"), place
        yield from self._branches(was.branches, now.branches, place)

    def _branches(self, old: list[Schema], new: list[Schema], place: str) -> Found:
        if len(old) == len(new) == 1:
            yield from self._branch(old[0], new[0], place)
            return
        left = list(new)
        unmatched = []
        for branch in old:
            twin = _twin(branch, left)
            if twin is None:
                unmatched.append(branch)
            else:
                left.remove(twin)
                yield from self._branch(branch, twin, place)
        # What is left on both sides is one form that became another.
        for branch, other in zip(unmatched, left, strict=False):
            yield from self._branch(branch, other, place)
        yield from (("form_removed", place) for _ in unmatched[len(left) :])
        yield from (("form_added", place) for _ in left[len(unmatched) :])

    def _branch(self, old: Schema, new: Schema, place: str) -> Found:
        retyped = list(_types(old, new, place))
        yield from retyped
        if any(rule == "retyped" for rule, _ in retyped):
            return
        yield from _values(old, new, place)
        yield from _bounds(old, new, place)
        yield from _texts(old, new, place)
        yield from self._object(old, new, place)
        yield from self._list(old, new, place)
        for keyword in sorted((set(old) | set(new)) - _JUDGED - ANNOTATIONS):
            if old.get(keyword, _NEVER) != new.get(keyword, _NEVER):
                yield "unjudged", place

    def _object(self, old: Schema, new: Schema, place: str) -> Found:
        had, has = old.get("properties", {}), new.get("properties", {})
        closed = old.get("additionalProperties") is False
        for name in had:
            if name not in has:
                yield "field_removed", f"{place}/{name}"
        for name in has:
            if name not in had:
                yield "field_added_to_closed" if closed else "field_added", f"{place}/{name}"
        yield from _required(old, new, place)
        common = [name for name in had if name in has]
        if common != [name for name in has if name in had]:
            yield "field_order_changed", place
        for name in common:
            yield from self._node(had[name], has[name], f"{place}/{name}")
        yield from self._map(old, new, place)
        names_old, names_new = old.get("propertyNames", _ANY), new.get("propertyNames", _ANY)
        if names_old != names_new:
            yield from self._node(names_old, names_new, f"{place}/*")

    def _map(self, old: Schema, new: Schema, place: str) -> Found:
        was, now = _openness(old), _openness(new)
        if was == now == "map":
            entry_old, entry_new = old["additionalProperties"], new["additionalProperties"]
            yield from self._node(entry_old, entry_new, f"{place}/*")
        elif was != now:
            yield _OPENNESS_RULES[was, now], place

    def _list(self, old: Schema, new: Schema, place: str) -> Found:
        if old.get("uniqueItems", False) != new.get("uniqueItems", False):
            yield "unique_removed" if old.get("uniqueItems") else "unique_added", place
        if "items" in old or "items" in new:
            yield from self._node(old.get("items", _ANY), new.get("items", _ANY), f"{place}/*")


# -- one subject each ---------------------------------------------------------------------------


def _annotations(old: Schema, new: Schema, place: str) -> Found:
    was, now = old.get("description"), new.get("description")
    if was != now:
        yield "description_added" if was is None else "description_changed", place
    for keyword, rule in (
        ("examples", "examples_changed"),
        ("default", "default_changed"),
        ("deprecated", "deprecation_changed"),
    ):
        if old.get(keyword) != new.get(keyword):
            yield rule, place
    promised, promises = _promise(old), _promise(new)
    if promised != promises:
        yield f"{promised[0]}_changed" if promised[0] else "promise_added", place


def _promise(node: Schema) -> tuple[str, str]:
    """The kind of promise in a comment and its words; two empty texts for any other comment."""
    kind, colon, words = str(node.get("$comment", "")).partition(":")
    return (kind, words.strip()) if colon and kind in _PROMISES else ("", "")


def _types(old: Schema, new: Schema, place: str) -> Found:
    was, now = _atoms(old), _atoms(new)
    if was == now:
        return
    if not was <= now and not now <= was:
        yield "retyped", place
    else:
        yield "type_widened" if was < now else "type_narrowed", place


def _values(old: Schema, new: Schema, place: str) -> Found:
    was, now = _allowed(old), _allowed(new)
    if was == now:
        return
    if was is None:
        yield "enum_closed", place
    elif now is None:
        yield "enum_opened", place
    elif "const" in old and "const" in new:
        yield "const_changed", place
    else:
        if now - was:
            yield "enum_grown", place
        if was - now:
            yield "enum_shrunk", place


def _allowed(node: Schema) -> frozenset[bytes] | None:
    """The values of an enum or a const, null apart, as text; None where any value will do."""
    if "const" in node:
        values = [node["const"]]
    elif "enum" in node:
        values = node["enum"]
    else:
        return None
    # True is 1 to Python, and neither is to JSON.
    return frozenset(orjson.dumps(value) for value in values if value is not None)


def _bounds(old: Schema, new: Schema, place: str) -> Found:
    lower = [(old.get(name, none), new.get(name, none)) for name, none in _LOWER]
    lower.append((_limit(old, "minimum", -1), _limit(new, "minimum", -1)))
    upper = [(old.get(name, float("inf")), new.get(name, float("inf"))) for name in _UPPER]
    upper.append((_limit(old, "maximum", 1), _limit(new, "maximum", 1)))
    outward = [now < was for was, now in lower] + [now > was for was, now in upper]
    inward = [now > was for was, now in lower] + [now < was for was, now in upper]
    if any(outward):
        yield "bound_widened", place
    if any(inward):
        yield "bound_narrowed", place


def _limit(node: Schema, name: str, side: int) -> tuple[float, int]:
    """A bound of a number and, for an exclusive one, a step inwards; ``side`` 1 is the upper."""
    inclusive = node.get(name, side * float("inf"))
    exclusive = node.get(f"exclusive{name.capitalize()}", side * float("inf"))
    limits = [(inclusive, 0), (exclusive, -side)]
    return min(limits) if side > 0 else max(limits)


def _texts(old: Schema, new: Schema, place: str) -> Found:
    was, now = old.get("pattern"), new.get("pattern")
    if was != now:
        yield "pattern_added" if was is None else "pattern_changed", place
    if old.get("format") != new.get("format"):
        yield "format_changed", place


def _required(old: Schema, new: Schema, place: str) -> Found:
    was, now = set(old.get("required", ())), set(new.get("required", ()))
    gone = set(old.get("properties", ())) - set(new.get("properties", ()))
    fresh = set(new.get("properties", ())) - set(old.get("properties", ()))
    for name in sorted(was - now - gone):
        yield "field_became_optional", f"{place}/{name}"
    for name in sorted(now - was - fresh):
        yield "field_became_required", f"{place}/{name}"


_OPENNESS_RULES: Final[Mapping[tuple[str, str], str]] = {
    ("open", "closed"): "object_closed",
    ("open", "map"): "map_typed",
    ("closed", "open"): "object_opened",
    ("closed", "map"): "object_opened",
    ("map", "open"): "map_untyped",
    ("map", "closed"): "map_removed",
}


def _openness(node: Schema) -> str:
    extra = node.get("additionalProperties", True)
    if isinstance(extra, bool):
        return "open" if extra else "closed"
    return "map" if extra else "open"


# -- reading a schema ---------------------------------------------------------------------------


def _resolved(node: Any, root: Schema) -> Schema:
    """The schema behind references; what stands beside a reference adds to it."""
    if isinstance(node, bool):
        return _ANY if node else _NEVER
    schema: Schema = node
    # A reference that leads nowhere, or in a circle, stays: then it differs or it does not.
    for _ in range(16):
        name = str(schema.get("$ref", ""))
        target = root.get("$defs", {}).get(name.removeprefix("#/$defs/"))
        if not name.startswith("#/$defs/") or target is None:
            break
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**target, **beside} if beside else target
    return schema


def _form(node: Schema, root: Schema) -> _Form:
    branches = [_resolved(branch, root) for branch in node.get("anyOf", ())]
    if not branches:
        kinds = node.get("type")
        listed = kinds if isinstance(kinds, list) else [kinds]
        nullable = "null" in listed or None in node.get("enum", ()) or node.get("const", 0) is None
        if kinds is None and "enum" not in node and "const" not in node:
            nullable = False
        return _Form(nullable, [] if listed == ["null"] else [node])
    beside = {key: value for key, value in node.items() if key not in {"anyOf", *ANNOTATIONS}}
    if beside:
        branches = [{**branch, **beside} for branch in branches]
    forms = [_form(branch, root) for branch in branches]
    return _Form(any(form.nullable for form in forms), [b for form in forms for b in form.branches])


def _atoms(node: Schema) -> frozenset[str]:
    kinds = node.get("type")
    if kinds is None:
        return _ANYTHING
    names = kinds if isinstance(kinds, list) else [kinds]
    none: frozenset[str] = frozenset()
    return none.union(*(_ATOMS.get(name, none) for name in names))


def _twin(branch: Schema, others: list[Schema]) -> Schema | None:
    """Which of the others is the same alternative: the same schema, or else the most alike."""
    tests: tuple[Callable[[Schema], bool], ...] = (
        lambda other: other is branch or other == branch,
        lambda other: _atoms(other) == _atoms(branch) and _alike(other, branch),
    )
    for test in tests:
        found = [other for other in others if test(other)]
        if found:
            return found[0]
    return None


def _alike(one: Schema, other: Schema) -> bool:
    """Whether two objects share most of their fields; other values only need the same type."""
    fields, others = set(one.get("properties", ())), set(other.get("properties", ()))
    return len(fields & others) * 2 >= max(len(fields), len(others))


def _own_parts(schema: Schema) -> set[str]:
    """Definitions that nothing refers to."""
    return set(schema.get("$defs", ())) - set(_references(schema))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix("#/$defs/")
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
