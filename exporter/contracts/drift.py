"""What one document does that an earlier one of the same kind did not.

Both are held against the contract of the earlier one. A rule that it kept and the later one breaks
is a change, and so is a key that only one of them has beside those of the contract. What the
contract leaves open (another session, an absent optional field) is data and no change.
"""

from __future__ import annotations

from typing import IO, Final, NamedTuple, TypeAlias

from exporter.contracts import schema as schemas
from exporter.contracts.compare import RULES, Change, in_order
from exporter.contracts.surfaces import Surface
from exporter.contracts.validate import Validation
from exporter.errors import SourceNotRecognised

#: What a newly broken rule of validation is as a change; any other is a broken rule.
_AS_CHANGE: Final = {
    "required": "field_removed",
    "type": "retyped",
    "anyOf": "retyped",
    "const": "const_changed",
    "enum": "enum_grown",
    "pattern": "pattern_changed",
    "uniqueItems": "unique_removed",
    **dict.fromkeys(("minimum", "maximum", "minLength", "propertyNames"), "bound_widened"),
    **dict.fromkeys(("order", "sorted_keys", "models_are_keys"), "order_changed"),
    **dict.fromkeys(("digest", "project_key"), "derivation_changed"),
}
#: Places that are told apart; a file without any sense to it has no more to tell.
_MAX_PLACES: Final = 10_000

Place: TypeAlias = tuple[str, str]


class _Look(NamedTuple):
    """What a document was found to be: where it breaks which rule, each once."""

    surface: Surface
    broken: frozenset[Place]


def compare_documents(
    old: IO[bytes], new: IO[bytes], *, old_name: str = "OLD", new_name: str = "NEW"
) -> list[Change]:
    """Every change from one document to another, worst first. Both may be of any size.

    The second may be read twice, so it must be a file. Raises SourceNotRecognised when the first
    is no document of ours.
    """
    before = _look(old, None, old_name)
    try:
        after = _look(new, None, new_name)
    except SourceNotRecognised:
        return [_change("surface_changed", "")]
    if after.surface.name != before.surface.name:
        return [_change("surface_changed", "")]
    if after.surface is not before.surface:
        new.seek(0)
        after = _look(new, before.surface, new_name)
    changes = {_appeared(rule, place) for place, rule in after.broken - before.broken}
    return in_order(changes | {_went(rule, place) for place, rule in before.broken - after.broken})


def _look(stream: IO[bytes], surface: Surface | None, name: str) -> _Look:
    """Read a document to its end. ``surface`` None means the one that its content tells."""
    validation = Validation(surface, strict=True)
    broken: set[Place] = set()
    fields: frozenset[str] = frozenset()
    for finding in validation.findings(stream, name):
        assert validation.surface
        fields = fields or schemas.property_names(schemas.load(validation.surface))
        path = finding.path
        if finding.row is not None and validation.framing == "ndjson":
            path = (validation.surface.rows or "", 0, *path)
        # The one key that the contract does not know is what a finding of this rule is about.
        known = {*fields, path[-1]} if finding.rule == "additionalProperties" else fields
        if len(broken) < _MAX_PLACES:
            broken.add((schemas.place(path, known), finding.rule))
    assert validation.surface
    return _Look(validation.surface, frozenset(broken))


def _appeared(rule: str, place: str) -> Change:
    if rule == "additionalProperties":
        return _change("field_added", place)
    return _change(_AS_CHANGE.get(rule, "rule_broken"), place)


def _went(rule: str, place: str) -> Change:
    kept = "unknown_field_removed" if rule == "additionalProperties" else "rule_kept"
    return _change(kept, place)


def _change(rule: str, place: str) -> Change:
    return Change(RULES[rule].severity, rule, place)
