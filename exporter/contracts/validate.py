"""Hold a file of any size against the contract that it claims to follow.

The file is read once, part by part, in flat memory. Each part is parsed, looked through for keys
that occur twice, held against the published schema (or its strict form), and then against the
rules that a schema cannot say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final, Literal, NamedTuple

import orjson

from exporter.contracts import (
    activity_rules,
    documents,
    head_rules,
    session_rules,
    surfaces,
    usage_rules,
)
from exporter.contracts import schema as schemas
from exporter.contracts.activity_rules import ActivityRules
from exporter.contracts.documents import Part, Unreadable
from exporter.contracts.head_rules import HeadRules
from exporter.contracts.schema import Checks, Step, Violation, pointer
from exporter.contracts.session_rules import SessionRules
from exporter.contracts.surfaces import Surface
from exporter.contracts.usage_rules import UsageRules
from exporter.errors import SourceNotRecognised

Framing = Literal["json", "ndjson"]

#: Rules of this module and of `documents`, in words; those of a schema are its keywords.
RULES: Final = {
    "not_json": "the text here is not JSON",
    "ends_early": "the file ends inside a value",
    "empty": "the file is empty",
    "not_an_object": "a document is an object",
    "byte_order_mark": "the file begins with a byte order mark, which JSON does not allow",
    "too_long": "one part of the document is longer than 64 MiB",
    "too_deep": "brackets are nested deeper than readers follow",
    "text_after_value": "only a line end may follow the first value",
    "text_after_document": "nothing may follow a JSON document",
    "duplicate_key": "a key occurs twice in one object, and readers keep only one",
    "meta_first": "the first line of an NDJSON stream is its meta line",
    "meta_once": "only the first line of an NDJSON stream is a meta line",
    "blank_line": "a line between others is blank",
}


#: The share of the required keys of a line that must be there for it to count as one.
_LIKE_ENOUGH: Final = 0.5
#: Who looks at what a schema cannot say, by surface and version; the head alone for all others.
_FURTHER_RULES: Final[Mapping[tuple[str, int], type[HeadRules]]] = {
    ("sessions", 1): SessionRules,
    ("usage_daily", 1): UsageRules,
    ("activity_report", 1): ActivityRules,
}
#: Every rule beyond the schema, in words.
FURTHER_RULES: Final = {
    **head_rules.RULES,
    **session_rules.RULES,
    **usage_rules.RULES,
    **activity_rules.RULES,
}


class Finding(NamedTuple):
    """One violation: the line of the file, the place in the document, the rule."""

    line: int
    #: Keys and indexes from the top of the document, or of the line of an NDJSON stream.
    path: tuple[Step, ...]
    rule: str
    #: Which row it is in, from 1; None outside of rows.
    row: int | None = None

    @property
    def pointer(self) -> str:
        return pointer(self.path)


def meaning(rule: str) -> str:
    """A rule in words; a keyword of a schema explains itself."""
    told = {**RULES, **FURTHER_RULES}.get(rule)
    return told or f"the schema's {rule}"


class Validation:
    """One file on its way past its contract.

    `findings` is to be read to its end; then ``surface``, ``framing`` and ``rows`` say what the
    file was.
    """

    def __init__(self, surface: Surface | None = None, *, strict: bool = False) -> None:
        """``surface`` None means to go by the content; ``strict`` refuses unknown keys."""
        self.surface = surface
        self.framing: Framing = "json"
        self.rows = 0
        self._strict = strict
        self._members: dict[str, Part] = {}
        #: The long arrays seen so far, each with how many items it has; they are not members.
        self._arrays: dict[str, int] = {}
        self._checks: Checks | None = None
        self._rules: HeadRules | None = None

    def findings(self, stream: IO[bytes], name: str = "the file") -> Iterator[Finding]:
        """Every violation, in the order of the file, then those of the document as a whole.

        Raises SourceNotRecognised, which shows ``name``, when no surface fits.
        """
        known = [self.surface] if self.surface else surfaces.SURFACES
        arrays = {name for surface in known for name in (surface.rows, surface.further_rows)}
        row_members = {name for name in arrays if name}
        try:
            for part in documents.parts(stream, row_members):
                if part.kind == "line" and self.framing == "json":
                    yield Finding(part.line, (), "text_after_document")
                    break
                yield from self._part(part, name)
        except Unreadable as broken:
            yield Finding(broken.line, (), broken.rule)
            return
        yield from self._whole()

    def _part(self, part: Part, name: str) -> Iterator[Finding]:
        match part.kind:
            case "member" | "rows" if part.name in self._members or part.name in self._arrays:
                yield Finding(part.line, (part.name,), "duplicate_key")
            case "member":
                self._members[part.name] = part
            case "rows":
                self._arrays[part.name] = 0
                if self._checks is None:
                    self._begin(name, {*self._members, part.name})
            case "row":
                yield from self._item(part)
            case "head":
                yield from self._end_of_first(name)
            case "line" if not part.text:
                yield Finding(part.line, (), "blank_line")
            case "line":
                yield from self._row(part, ())

    # -- what the file is -----------------------------------------------------------------------

    def _begin(self, name: str, keys: set[str]) -> None:
        """Settle on a surface, by the keys read so far, and get ready for its rows."""
        if self.surface is None:
            self.surface = self._recognised(keys)
        if self.surface is None:
            known = ", ".join(dict.fromkeys(surface.name for surface in surfaces.SURFACES))
            raise SourceNotRecognised(
                name, "no document of ours by its keys", wanted=f"{known}; or name one: --surface"
            )
        self._checks = Checks(self.surface, strict=self._strict)
        self._rules = _FURTHER_RULES.get((self.surface.name, self.surface.version), HeadRules)()
        early = {member: self._member(member) for member in sorted(self._rules.EARLY & keys)}
        self._rules.begin(
            {member: value for member, value in early.items() if self._checks.fits(member, value)},
            has_arrays=bool(self._arrays),
        )

    def _recognised(self, keys: set[str]) -> Surface | None:
        """The surface that the keys are most like, in the version that the document tells."""
        told = self._member("schema_version")
        likeness = {
            surface: (self._likeness(surface, keys), surface.version == told, surface.version)
            for surface in surfaces.SURFACES
        }
        best = max(likeness, key=lambda surface: likeness[surface])
        return best if likeness[best][0] > _LIKE_ENOUGH else None

    def _likeness(self, surface: Surface, keys: set[str]) -> float:
        """How much of what a document, or a line, of the surface must have is there, 0 to 1."""
        if surface.rows in keys or surface.further_rows in keys or surface.marks <= keys:
            return 1.0
        return max((share for _, share in self._lines_like(surface, keys)), default=0.0)

    def _line_of(self, surface: Surface, keys: set[str]) -> str | None:
        """Which line of an NDJSON stream of the surface an object with these keys is."""
        likely = [name for name, share in self._lines_like(surface, keys) if share > _LIKE_ENOUGH]
        return likely[0] if likely and not self._arrays else None

    def _lines_like(self, surface: Surface, keys: set[str]) -> Iterator[tuple[str, float]]:
        """What is missing or too much is for the schema to say, so most of the keys will do."""
        is_meta = self._member("type") == "meta"
        name = surface.meta_definition if is_meta else surface.row_definition
        if name:
            required = set(schemas.load(surface)["$defs"][name]["required"])
            yield "meta" if is_meta else "row", len(keys & required) / len(required)

    def _member(self, name: str) -> Any:
        """The value of a member read so far; None if there is none or it is not JSON."""
        part = self._members.get(name)
        return _parsed(part.text)[0] if part else None

    def _end_of_first(self, name: str) -> Iterator[Finding]:
        """The first value is complete: it is the document, or the first line of a stream."""
        if self._arrays:
            return
        keys = set(self._members)
        self._begin(name, keys)
        assert self.surface
        framed = self._line_of(self.surface, keys)
        if framed:
            self.framing = "ndjson"
        if framed == "row":
            yield Finding(1, (), "meta_first")
            row = Part("line", "", _object_text(self._members), 1)
            self._members = {}
            yield from self._row(row, ())

    # -- its parts ------------------------------------------------------------------------------

    def _item(self, part: Part) -> Iterator[Finding]:
        """An item of a long array: a row, one of the second array, or nothing that is known."""
        assert self._checks and self._rules and self.surface
        index = self._arrays[part.name]
        self._arrays[part.name] += 1
        if part.name == self.surface.rows:
            yield from self._row(part, (part.name, index))
        elif part.name == self.surface.further_rows:
            faults, item = self._row_faults(part, self.surface.further_definition)
            if _are_harmless(faults):
                faults += [Violation(*fault) for fault in self._rules.further_row(item)]
            else:
                self._rules.skip_further_row()
            for fault in faults:
                yield Finding(part.line, (part.name, index, *fault.path), fault.rule, index + 1)

    def _row(self, part: Part, path: tuple[Step, ...]) -> Iterator[Finding]:
        faults, row = self._row_faults(part)
        if any(fault.rule == "meta_once" for fault in faults):
            yield Finding(part.line, (), "meta_once")
            return
        self.rows += 1
        if self._rules and _are_harmless(faults):
            faults += [Violation(*fault) for fault in self._rules.row(row)]
        elif self._rules:
            self._rules.skip_row()
        for fault in faults:
            yield Finding(part.line, path + fault.path, fault.rule, self.rows)

    def _row_faults(self, part: Part, name: str | None = None) -> tuple[list[Violation], Any]:
        """What is wrong with one item of a definition, a row if None, by itself; and the item."""
        assert self._checks
        row, broken = (part.parsed, "") if part.parsed is not None else _parsed(part.text)
        if broken:
            return [Violation((), broken)], None
        if self.framing == "ndjson" and isinstance(row, dict) and row.get("type") == "meta":
            return [Violation((), "meta_once")], row
        return [*_duplicates(part.text, row), *self._checks.row(part.text, row, name)], row

    def _whole(self) -> Iterator[Finding]:
        """The head, and what it says of the rows."""
        assert self._checks and self.surface
        if self.framing == "ndjson" and not self._members:
            return
        head: dict[str, Any] = {}
        faults: list[Violation] = []
        for name, part in self._members.items():
            head[name], broken = _parsed(part.text)
            found = [Violation((), broken)] if broken else _duplicates(part.text, head[name])
            faults += [Violation((name, *fault.path), fault.rule) for fault in found]
        # What a schema wants is an array; its items had their turn. One of another surface is here
        # as any other key that is not known.
        head.update((name, []) for name in self._arrays)
        if not faults:
            meta = self.surface.meta_definition if self.framing == "ndjson" else None
            faults = list(self._checks.violations(meta, head))
            if self._rules and _are_harmless(faults):
                faults += [Violation(*fault) for fault in self._rules.head(head)]
        for fault in faults:
            member = self._members.get(str(fault.path[0])) if fault.path else None
            yield Finding(member.line if member else 1, fault.path, fault.rule)


def _are_harmless(faults: list[Violation]) -> bool:
    """Whether all that is known is there as it should be, if among unknown keys."""
    return all(fault.rule == "additionalProperties" for fault in faults)


def _parsed(text: bytes) -> tuple[Any, str]:
    """A value, and the rule it breaks if it cannot be read."""
    try:
        return orjson.loads(text), ""
    except orjson.JSONDecodeError as error:
        return None, "too_deep" if "depth" in str(error) else "not_json"


def _object_text(members: Mapping[str, Part]) -> bytes:
    texts = (json.dumps(name).encode() + b":" + part.text for name, part in members.items())
    return b"{" + b",".join(texts) + b"}"


# -- keys that occur twice ----------------------------------------------------------------------


def _duplicates(text: bytes, value: Any) -> list[Violation]:
    """Keys that the text has twice in one object. ``value`` is what a parser made of it."""
    # A key is followed by a colon, with white space between only where there is some in the text:
    # if writing the value anew gives as many, none was lost.
    spaced = b'" ' in text or b'"\t' in text or b'"\n' in text or b'"\r' in text
    if not spaced and text.count(b'":') == orjson.dumps(value).count(b'":'):
        return []
    try:
        found = json.loads(text, object_pairs_hook=_Pairs)
    except (RecursionError, ValueError):
        return [Violation((), "too_deep")]
    return list(_repeated(found))


class _Pairs(list[tuple[str, Any]]):
    """An object as its members in text order, repeated keys included."""


def _repeated(value: Any) -> Iterator[Violation]:
    pending: list[tuple[Any, tuple[Step, ...]]] = [(value, ())]
    while pending:
        node, path = pending.pop()
        if isinstance(node, _Pairs):
            seen: set[str] = set()
            for key, child in node:
                if key in seen:
                    yield Violation((*path, key), "duplicate_key")
                seen.add(key)
                pending.append((child, (*path, key)))
        elif isinstance(node, list):
            pending += [(child, (*path, index)) for index, child in enumerate(node)]
