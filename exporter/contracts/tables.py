"""Tables of the documentation that are made from schemas and rules.

A page marks where a table belongs, and `exporter contract check` sees to it that what stands there
is what would be made now:

    <!-- table: fields sessions.v1 session -->
    …
    <!-- end -->

``fields SURFACE.vN [DEFINITION]``, ``enums SURFACE.vN``, ``document_rules`` and ``change_rules``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from exporter.contracts import compare, schema, surfaces, validate
from exporter.contracts.schema import Schema
from exporter.contracts.surfaces import Surface

_TABLE: Final = re.compile(r"(<!-- table: (?P<what>[^\n>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


class UnknownTable(ValueError):
    """A page asks for a table that nobody makes."""


def filled(page: str) -> str:
    """The page with every marked table made anew. Raises UnknownTable."""
    return _TABLE.sub(lambda found: f"{found[1]}{table(found['what'])}{found[3]}", page)


def table(what: str) -> str:
    """One table in Markdown, by the words of its mark. Raises UnknownTable."""
    match what.split():
        case ["fields", name, *part] if len(part) < 2:
            return _fields(name, part[0] if part else None)
        case ["enums", name]:
            return _enums(name)
        case ["document_rules"]:
            rules = {**validate.RULES, **validate.FURTHER_RULES}
            return _markdown(
                ("rule", "meaning"), ((f"`{name}`", text) for name, text in rules.items())
            )
        case ["change_rules"]:
            rows = [(rule.severity, f"`{name}`", rule.meaning) for name, rule in _by_severity()]
            return _markdown(("severity", "rule", "change"), rows)
    raise UnknownTable(what)


def field_tables(surface: Surface) -> list[str]:
    """The marks of all field tables of a surface."""
    name = f"{surface.name}.v{surface.version}"
    parts = schema.load(surface).get("$defs", {}).items()
    objects = [part for part, node in parts if "properties" in node]
    return [f"fields {name}", *(f"fields {name} {part}" for part in objects)]


def enums(whole: Schema) -> Iterator[tuple[str, Sequence[str]]]:
    """Every closed enum of a schema and its values."""
    for name, values, _ in _enum_places(whole):
        yield name, values


def _by_severity() -> list[tuple[str, compare.Rule]]:
    ranks = list(compare.Severity)
    return sorted(compare.RULES.items(), key=lambda item: ranks.index(item[1].severity))


def _schema(name: str) -> Schema:
    known = {f"{surface.name}.v{surface.version}": surface for surface in surfaces.SURFACES}
    if name not in known:
        raise UnknownTable(name)
    return schema.load(known[name])


def _fields(name: str, part: str | None) -> str:
    whole = _schema(name)
    node = whole["$defs"].get(part) if part else whole
    if not node or "properties" not in node:
        raise UnknownTable(f"{name} {part}")
    rows = [
        (
            f"`{field}`",
            _type(value, whole),
            _presence(field, value, node, whole),
            _words(value, whole),
        )
        for field, value in node["properties"].items()
    ]
    return _markdown(("field", "type", "null, absent", "value"), rows)


def _type(node: Schema, whole: Schema) -> str:
    """What a person would call the type of a value, null apart."""
    name = node.get("$ref", "").removeprefix("#/$defs/")
    node = _target(node, whole)
    for branch in node.get("anyOf", ()):
        if branch.get("type") != "null" and "maxProperties" not in branch:
            return _type(branch, whole)
    if "const" in node:
        return f"`{_json(node['const'])}`"
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    kind = next(kind for kind in kinds if kind != "null")
    if kind == "array":
        return f"list of {_type(node['items'], whole)}"
    if kind == "object" and "additionalProperties" in node:
        return f"map to {_type(node['additionalProperties'], whole)}"
    return f"[{name}](#{name})" if kind == "object" and "properties" in node and name else str(kind)


def _presence(field: str, value: Schema, parent: Schema, whole: Schema) -> str:
    told = []
    if field not in parent["required"]:
        told.append("may be absent")
    if _is_nullable(_target(value, whole)):
        told.append("may be null")
    return ", ".join(told) or "–"


def _is_nullable(node: Schema) -> bool:
    kinds = node.get("type", [])
    return "null" in kinds or any(branch.get("type") == "null" for branch in node.get("anyOf", ()))


def _words(node: Schema, whole: Schema) -> str:
    text = node.get("description") or _target(node, whole).get("description", "")
    known = _target(node, whole).get("examples")
    if known:
        text += " Known: " + ", ".join(f"`{_json(value)}`" for value in known) + "."
    return str(text)


def _enums(name: str) -> str:
    closed = [
        (f"`{part}`", ", ".join(f"`{value}`" for value in values), where)
        for part, values, where in _enum_places(_schema(name))
    ]
    return _markdown(("enum", "values", "where"), closed)


def _enum_places(whole: Schema) -> Iterator[tuple[str, Sequence[str], str]]:
    for part, node in whole.get("$defs", {}).items():
        if "enum" in node:
            users = [
                f"`{owner}.{field}`"
                for owner, other in whole["$defs"].items()
                for field, value in other.get("properties", {}).items()
                if value.get("$ref") == f"#/$defs/{part}"
            ]
            yield part, node["enum"], ", ".join(users)
        for field, value in node.get("properties", {}).items():
            if "enum" in value:
                yield field, value["enum"], f"`{part}.{field}`"


def _target(node: Schema, whole: Schema) -> Schema:
    name = node.get("$ref", "").removeprefix("#/$defs/")
    found: Schema = whole["$defs"][name] if name else node
    return found


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _markdown(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
