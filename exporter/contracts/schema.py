"""Published schemas: read, closed, cut into definitions, made into validators.

One file serves two readings. As published it is open: an object may hold keys that the schema
does not name, since readers ignore what they do not know. For what the program itself writes
the strict form applies, in which every object is closed; it is derived, never written down.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from functools import cache, cached_property
from operator import attrgetter
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import orjson

from exporter.contracts.surfaces import Surface

if TYPE_CHECKING:
    from collections.abc import Callable

    from jsonschema_rs import Draft202012Validator, ValidationError

Schema = dict[str, Any]
Step = str | int

#: Keywords that say something to people and nothing about a document.
ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "examples", "default", "deprecated"}
)
#: What the first keys of a schema look like, how far to look, and how long a schema may be.
_SCHEMA_MARK: Final = re.compile(rb'"(?:\$schema|\$id|\$defs|\$ref|type|properties|anyOf)"\s*:')
_SCHEMA_KEYS: Final = frozenset({"$schema", "$id", "$defs", "$ref", "properties", "anyOf"})
_MARK_BYTES: Final = 4_096
_MAX_SCHEMA_BYTES: Final = 16 << 20
#: A branch that fails like this at its very top was not meant for the value at all.
_NOT_MEANT: Final = frozenset({"type", "const", "enum", "maxProperties"})


class Violation(NamedTuple):
    """One place where a document breaks a rule of its schema."""

    #: Keys and indexes from the top of the document.
    path: tuple[Step, ...]
    #: The keyword that was broken.
    rule: str

    @property
    def pointer(self) -> str:
        return pointer(self.path)


def pointer(path: tuple[Step, ...]) -> str:
    """A JSON pointer (RFC 6901); "" is the whole document."""
    texts = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "".join(f"/{text}" for text in texts)


def place(path: tuple[Step, ...], fields: Collection[Step]) -> str:
    """A pointer with ``*`` for every index and for every key that is not one of ``fields``."""
    return pointer(tuple(step if step in fields else "*" for step in path))


@cache
def load(surface: Surface) -> Schema:
    """The schema as published."""
    schema: Schema = orjson.loads(text(surface))
    return schema


@cache
def text(surface: Surface) -> bytes:
    """The bytes of the published file."""
    return surface.schema_file.read_bytes()


def strict_text(surface: Surface) -> bytes:
    """The strict form, laid out for reading."""
    return orjson.dumps(_strict_form(surface), option=orjson.OPT_INDENT_2) + b"\n"


def read_schema(stream: IO[bytes]) -> Schema | None:
    """The schema that a file holds; None, and the file at its start again, if it holds none.

    A document may be of any size, so only its beginning is looked at.
    """
    start = stream.read(_MARK_BYTES)
    if not _SCHEMA_MARK.search(start):
        stream.seek(0)
        return None
    stream.seek(0)
    try:
        schema = orjson.loads(stream.read(_MAX_SCHEMA_BYTES))
    except orjson.JSONDecodeError:
        schema = None
    if isinstance(schema, dict) and not _SCHEMA_KEYS.isdisjoint(schema):
        return schema
    stream.seek(0)
    return None


def file_digest(surface: Surface) -> str:
    """``sha256:…`` of the published file, as a consumer can compute it."""
    return f"sha256:{hashlib.sha256(text(surface)).hexdigest()}"


def strict(node: Any) -> Any:
    """The same schema with every object closed to keys that it does not name.

    Only a schema that says ``type: object`` describes a whole object; a map and the branches of
    a condition do not, and stay as they are.
    """
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: strict(value) for key, value in node.items()}
    if node.get("type") == "object" and "properties" in node:
        closed.setdefault("additionalProperties", False)
    return closed


def definition(schema: Schema, name: str) -> Schema:
    """One definition as a schema of its own."""
    return {
        "$schema": schema["$schema"],
        "$ref": f"#/$defs/{name}",
        "$defs": schema["$defs"],
    }


def property_names(node: Any) -> frozenset[str]:
    """Every key that the schema names anywhere; other keys in a document are data."""
    if isinstance(node, list):
        return frozenset().union(*map(property_names, node))
    if not isinstance(node, dict):
        return frozenset()
    own = node.get("properties")
    named = frozenset(own) if isinstance(own, dict) else frozenset()
    return named.union(*map(property_names, node.values()))


def validator(schema: Schema) -> Draft202012Validator:
    """A compiled validator; it never looks anything up outside of the schema."""
    from jsonschema_rs import Draft202012Validator

    return Draft202012Validator(schema, offline=True)


def violations(checker: Draft202012Validator, document: Any) -> Iterator[Violation]:
    """Every broken rule; where one of several forms was meant, what is wrong with that form."""
    try:
        for error in checker.iter_errors(document):
            yield from _explained(error)
    except ValueError:
        # The one thing that a validator refuses to look at.
        yield Violation((), "too_deep")


def _explained(error: ValidationError) -> Iterator[Violation]:
    path, rule = tuple(error.instance_path), error.kind.name
    kind: Any = error.kind
    if rule == "required":
        yield Violation((*path, kind.property), rule)
    elif rule == "additionalProperties":
        yield from (Violation((*path, name), rule) for name in kind.unexpected)
    elif rule in ("anyOf", "oneOf") and hasattr(kind, "context"):
        meant = [branch for branch in kind.context if _is_meant(branch, path)]
        if len(meant) == 1:
            for inner in meant[0]:
                yield from _explained(inner)
        else:
            yield Violation(path, rule)
    else:
        yield Violation(path, rule)


def _is_meant(branch: list[ValidationError], path: tuple[Step, ...]) -> bool:
    return not any(
        error.kind.name in _NOT_MEANT and tuple(error.instance_path) == path for error in branch
    )


class Checks:
    """The compiled checks of one surface, each made when it is first needed."""

    def __init__(self, surface: Surface, *, strict: bool = False) -> None:
        """``strict`` closes every object."""
        self.schema: Schema = _strict_form(surface) if strict else load(surface)
        self._row = surface.row_definition
        self._validators: dict[str | None, Draft202012Validator] = {}
        self._fast: dict[str, Callable[[bytes], bool] | None] = {}

    def violations(self, name: str | None, document: Any) -> Iterator[Violation]:
        """Every rule that a value breaks of one definition; of the whole schema for None."""
        return violations(self._validator(name), document)

    def fits(self, member: str, value: Any) -> bool:
        """Whether a value fits the definition of a member of the document."""
        node = self.schema.get("properties", {}).get(member, {})
        name = node.get("$ref", "").removeprefix("#/$defs/")
        return bool(name) and next(self.violations(name, value), None) is None

    def row(self, text: bytes, row: Any, name: str | None = None) -> Iterator[Violation]:
        """Every rule that a row breaks, given as its text and as the value.

        ``name`` is the definition, if it is not that of a row of the surface.
        """
        name = name or self._row
        fast = self._fast_check(name) if name else None
        return iter(()) if fast and fast(text) else self.violations(name, row)

    @cached_property
    def is_good_row(self) -> Callable[[bytes], bool]:
        """A fast test of the text of a row; False means that `violations` must decide."""
        found = self._fast_check(self._row) if self._row else None
        return found or (lambda text: False)

    def _fast_check(self, name: str) -> Callable[[bytes], bool] | None:
        if name not in self._fast:
            self._fast[name] = fast_check(self.schema, name)
        return self._fast[name]

    def _validator(self, name: str | None) -> Draft202012Validator:
        if name not in self._validators:
            part = self.schema if name is None else definition(self.schema, name)
            self._validators[name] = validator(part)
        return self._validators[name]


@cache
def _strict_form(surface: Surface) -> Schema:
    closed: Schema = strict(load(surface))
    return closed


# -- a second, faster way to say yes ------------------------------------------------------------


def fast_check(schema: Schema, name: str) -> Callable[[bytes], bool] | None:
    """A test of JSON text against a definition, several times faster than a validator.

    True means valid. False means that the validator must decide, and say why. None when the
    definition uses keywords that have no fast form.
    """
    import msgspec

    compiler = _Compiler(schema)
    try:
        decode = msgspec.json.Decoder(compiler.reference(name)).decode
    except _NoFastForm:
        return None
    lists = [attrgetter(".".join(path)) for path in compiler.unique]

    def check(line: bytes) -> bool:
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        for values in lists:
            found = values(row)
            if len(found) > 1 and len(set(found)) != len(found):
                return False
        return True

    return check


class _NoFastForm(Exception):
    """The definition cannot be said in types."""


class _Compiler:
    """Turns definitions of a schema into types that msgspec decodes into.

    It knows the keywords that the published schemas use for rows and refuses all others, so that
    a rule can never be overlooked.
    """

    def __init__(self, schema: Schema) -> None:
        self.definitions: Schema = schema["$defs"]
        self.open: list[str] = []
        #: Where, from the top of the row, lists lie whose items must differ.
        self.unique: list[tuple[str, ...]] = []

    def reference(self, name: str, path: tuple[str, ...] | None = ()) -> Any:
        """The type of a definition; ``path`` is None where a value may be absent or repeated."""
        if name in self.open:
            raise _NoFastForm("recursion")
        self.open.append(name)
        kind = self._type(self.definitions[name], name, path)
        self.open.pop()
        return kind

    def _type(self, node: Schema, name: str, path: tuple[str, ...] | None) -> Any:
        keywords = {key: value for key, value in node.items() if key not in ANNOTATIONS}
        if "$ref" in keywords:
            _only(keywords, "$ref")
            return self.reference(keywords["$ref"].removeprefix("#/$defs/"), path)
        if "anyOf" in keywords:
            _only(keywords, "anyOf")
            return _union(self._type(branch, name, None) for branch in keywords["anyOf"])
        kinds = keywords.pop("type", None)
        if isinstance(kinds, list):
            return _union(self._of_kind(kind, keywords, name, path) for kind in kinds)
        return self._of_kind(kinds, keywords, name, path)

    def _of_kind(self, kind: Any, keywords: Schema, name: str, path: Any) -> Any:
        match kind:
            case "null":
                return None
            case "boolean":
                _only(keywords)
                return bool
            case "number":
                _only(keywords)
                return float
            case "integer":
                return _bounded(int, keywords, {"minimum": "ge", "maximum": "le"})
            case "string" if "enum" in keywords:
                _only(keywords, "enum")
                return Literal[tuple(keywords["enum"])]
            case "string":
                return _bounded(str, keywords, {"minLength": "min_length", "pattern": "pattern"})
            case "array":
                return self._array(keywords, name, path)
            case "object" if "properties" in keywords:
                return self._object(keywords, name, path)
            case "object":
                return self._map(keywords, name)
        raise _NoFastForm(kind)

    def _array(self, keywords: Schema, name: str, path: tuple[str, ...] | None) -> Any:
        _only(keywords, "items", "uniqueItems")
        if keywords.get("uniqueItems"):
            if path is None:
                raise _NoFastForm("uniqueItems")
            self.unique.append(path)
        return list.__class_getitem__(self._type(keywords["items"], name, None))

    def _object(self, keywords: Schema, name: str, path: tuple[str, ...] | None) -> Any:
        import msgspec

        _only(keywords, "properties", "required", "additionalProperties")
        fields: list[Any] = []
        for key, node in keywords["properties"].items():
            needed = key in keywords["required"]
            below = (*path, key) if needed and path is not None else None
            kind = self._type(node, f"{name}_{key}", below)
            absent = (kind | msgspec.UnsetType, msgspec.UNSET)
            fields.append((key, kind) if needed else (key, *absent))
        closed = keywords.get("additionalProperties") is False
        # The row is looked at once and dropped: nothing for the garbage collector to follow.
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=closed, gc=False)

    def _map(self, keywords: Schema, name: str) -> Any:
        _only(keywords, "additionalProperties", "propertyNames")
        key = self._of_kind("string", keywords.get("propertyNames", {}), name, None)
        value = self._type(keywords["additionalProperties"], name, None)
        return dict.__class_getitem__((key, value))


def _only(keywords: Schema, *known: str) -> None:
    if unknown := set(keywords) - set(known):
        raise _NoFastForm(*unknown)


def _bounded(kind: Any, keywords: Schema, names: dict[str, str]) -> Any:
    from msgspec import Meta

    _only(keywords, *names)
    limits: dict[str, Any] = {names[key]: value for key, value in keywords.items()}
    return Annotated[kind, Meta(**limits)] if limits else kind


def _union(kinds: Iterator[Any]) -> Any:
    found = next(kinds)
    for kind in kinds:
        found = found | kind
    return found
