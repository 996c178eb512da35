"""What must hold before a change may be released: the checks behind ``exporter contract check``.

They look at a checkout: schemas and their cases, golden files and the manifest of what was
released, and the tables of the documentation. Making the golden output again needs a database and
is the caller's to supply.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from exporter.contracts import compare, tables
from exporter.contracts import schema as schemas
from exporter.contracts.compare import Severity
from exporter.contracts.surfaces import SURFACES, Surface
from exporter.contracts.validate import Validation
from exporter.core import wire
from exporter.errors import CursorReset

#: Makes the output of a golden folder from its seed: file name to bytes. Called from two threads.
Reproduce = Callable[[Path], Mapping[str, bytes]]

MANIFEST: Final = "golden/manifest.sha256"
RELEASED: Final = "golden/released"
#: A folder with this file is made from an archive; one without tells its own id.
SEED: Final = "input.sql"
_PAGES: Final = "docs/contracts"
_SHOWN_PROBLEMS: Final = 5


class Verdict(NamedTuple):
    """The outcome of one check: what it looked at, and every problem it found."""

    check: str
    looked_at: str
    problems: list[str]

    @property
    def detail(self) -> str:
        """What was looked at, or the first problems."""
        if not self.problems:
            return self.looked_at
        more = len(self.problems) - _SHOWN_PROBLEMS
        shown = "; ".join(self.problems[:_SHOWN_PROBLEMS])
        return f"{shown}; and {more} more" if more > 0 else shown


def verdicts(root: Path, reproduce: Reproduce) -> Iterator[Verdict]:
    """Run every check on the checkout at ``root``, the one that takes longest last."""
    yield _released_files(root)
    yield _versions(root)
    yield _cases(root)
    yield _enums()
    yield _documentation(root)
    yield _examples(root)
    yield _golden_documents(root)
    yield _reproduction(root, reproduce)


def update(root: Path, release: str, reproduce: Reproduce) -> list[str]:
    """Make everything anew that the checks compare with; returns the files that changed.

    Only for a person who reads the difference as a change of contract. ``release`` is the one
    that is being made: its own copies of the schemas are replaced, those of others never are.
    """
    made: dict[Path, bytes] = {}
    for surface in SURFACES:
        if not (root / surface.golden).is_dir():
            continue
        made[root / RELEASED / release / surface.schema_file.name] = schemas.text(surface)
        for name, content in _golden_output(root / surface.golden, reproduce).items():
            made[root / surface.golden / name] = content
        made[surface.example_file] = made[root / surface.golden / "expected.json"]
    for page in _pages(root):
        made[page] = tables.filled(page.read_text("utf-8")).encode()
    changed = [path for path, content in made.items() if _write(path, content)]
    if _write(root / MANIFEST, _manifest(root)):
        changed.append(root / MANIFEST)
    return [str(path.relative_to(root)) for path in changed]


# -- the checks ---------------------------------------------------------------------------------


def _released_files(root: Path) -> Verdict:
    """Every file of the manifest is as it was, and none is beside it."""
    problems = []
    listed = {}
    path = root / MANIFEST
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        digest, _, name = line.partition("  ")
        listed[name] = digest
    found = {str(file.relative_to(root)): file for file in _released(root)}
    for name, digest in listed.items():
        if name not in found:
            problems.append(f"{name} is gone")
        elif _sha256(found[name]) != digest:
            problems.append(f"{name} was changed")
    problems += [f"{name} is not in the manifest" for name in found if name not in listed]
    return Verdict("released files", f"{len(listed)} files as in {MANIFEST}", problems)


def _versions(root: Path) -> Verdict:
    """No schema breaks what any release before it promised under the same version."""
    problems = []
    kept = sorted((root / RELEASED).glob("*/*.schema.json"))
    working = {surface.schema_file.name: surface for surface in SURFACES}
    growth = 0
    for file in kept:
        surface = working.get(file.name)
        if surface is None:
            problems.append(f"{file.name} of {file.parent.name} is written no more")
            continue
        changes = compare.compare_schemas(orjson.loads(file.read_bytes()), schemas.load(surface))
        growth += sum(change.severity is Severity.ADDITIVE for change in changes)
        problems += [
            f"{surface.label} since {file.parent.name}: {change.rule} at {change.place or '/'}"
            for change in changes
            if change.severity is Severity.BREAKING
        ]
    compared = f"{len(kept)} released schemas, {growth} additive changes since"
    return Verdict("versions", compared, problems or _without(kept, "released schema"))


def _cases(root: Path) -> Verdict:
    """Each schema accepts and refuses the small documents that were written for it."""
    expected = orjson.loads((root / "schemas/cases/expected.json").read_bytes())
    problems = []
    count = 0
    for surface in SURFACES:
        name = f"{surface.name}.v{surface.version}"
        for strict in (False, True):
            checks = schemas.Checks(surface, strict=strict)
            for file in sorted((root / "schemas/cases" / name).glob("*valid/*.json")):
                count += not strict
                document = orjson.loads(file.read_bytes())
                found = sorted([v.pointer, v.rule] for v in checks.violations(None, document))
                groups = ("invalid", "strict") if strict else ("invalid",)
                told = expected.get(name, {"invalid": {}, "strict": {}})
                wanted = [fault for group in groups for fault in told[group].get(file.stem, ())]
                if found != sorted(wanted) or (file.parent.name == "invalid") > bool(found):
                    problems.append(f"{file.relative_to(root)} is judged otherwise")
    return Verdict("schema cases", f"{count} documents", problems or _without(count, "case"))


def _enums() -> Verdict:
    """What the code can write is what the schema lists."""
    problems = []
    count = 0
    for surface in SURFACES:
        listed = {name: tuple(map(str, v)) for name, v in tables.enums(schemas.load(surface))}
        count += len(listed)
        written = {name: tuple(map(str, values)) for name, values in (surface.enums or {}).items()}
        for name in listed.keys() | written.keys():
            if set(listed.get(name, ())) != set(written.get(name, ())):
                problems.append(f"{surface.label}: {name} differs between code and schema")
    return Verdict("enums", f"{count} closed enums", problems)


def _documentation(root: Path) -> Verdict:
    """The tables of the pages are what the schemas say, and every definition has one."""
    problems = []
    count = 0
    pages = {page: page.read_text("utf-8") for page in _pages(root)}
    for page, text in pages.items():
        count += text.count("<!-- table: ")
        try:
            if tables.filled(text) != text:
                problems.append(f"{page.relative_to(root)} has a table that is out of date")
        except tables.UnknownTable as error:
            problems.append(f"{page.relative_to(root)} asks for an unknown table: {error}")
    together = "\n".join(pages.values())
    for surface in SURFACES:
        for mark in tables.field_tables(surface):
            if f"<!-- table: {mark} -->" not in together:
                problems.append(f"no page has the table {mark!r}")
    return Verdict("documentation", f"{count} tables on {len(pages)} pages", problems)


def _examples(root: Path) -> Verdict:
    """The examples that travel with the schemas are golden documents."""
    problems = [
        f"the example of {surface.label} is not its golden document"
        for surface in SURFACES
        if not surface.example_file.exists()
        or surface.example_file.read_bytes() != _read(root / surface.golden / "expected.json")
    ]
    return Verdict("examples", f"{len(SURFACES)} examples", problems)


def _golden_documents(root: Path) -> Verdict:
    """Every golden document keeps every rule there is, in the strict form of its schema."""
    problems = []
    count = 0
    for surface in SURFACES:
        if not _expected(root, surface):
            problems.append(f"{surface.label} has no golden document")
        for file in _expected(root, surface):
            count += 1
            validation = Validation(surface, strict=True)
            with file.open("rb") as stream:
                problems += [
                    f"{file.relative_to(root)}: {finding.rule} at {finding.pointer or 'its top'}"
                    for finding in validation.findings(stream)
                ]
    return Verdict("golden documents", f"{count} documents", problems)


def _reproduction(root: Path, reproduce: Reproduce) -> Verdict:
    """Every golden document comes out of its seed again, byte for byte."""
    problems = []
    count = 0
    folders = [root / s.golden for s in SURFACES if (root / s.golden).is_dir()]
    # Each mostly waits for processes of its own.
    with ThreadPoolExecutor(2) as pool:
        outputs = pool.map(lambda folder: _golden_output(folder, reproduce), folders)
        for folder, output in zip(folders, outputs, strict=True):
            for name, made in output.items():
                count += 1
                expected = _read(folder / name)
                if made != expected:
                    at = _first_difference(made, expected)
                    place = (folder / name).relative_to(root).as_posix()
                    problems.append(f"{place} differs from byte {at} on")
    return Verdict("golden output", f"{count} documents made again", problems)


# -- files --------------------------------------------------------------------------------------


def _golden_output(folder: Path, reproduce: Reproduce) -> Mapping[str, bytes]:
    if (folder / SEED).exists():
        return reproduce(folder)
    # What has no archive behind it is a function of the id that it tells.
    database_id = json.loads((folder / "expected.json").read_bytes())["database_id"]
    return {"expected.json": wire.encode(CursorReset(database_id).as_json()) + b"\n"}


def _expected(root: Path, surface: Surface) -> list[Path]:
    """The golden documents of a surface."""
    return sorted((root / surface.golden).glob("expected.*json"))


def _released(root: Path) -> list[Path]:
    """The files that a release fixes, in the order of the manifest."""
    folders = [root / RELEASED, *(root / surface.golden for surface in SURFACES)]
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


def _manifest(root: Path) -> bytes:
    """One line per file, as ``sha256sum -c`` reads it from the top of the checkout."""
    lines = (f"{_sha256(file)}  {file.relative_to(root).as_posix()}\n" for file in _released(root))
    return "".join(lines).encode()


def _pages(root: Path) -> list[Path]:
    return sorted((root / _PAGES).glob("*.md"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _write(path: Path, content: bytes) -> bool:
    """Whether the file had to be written."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return True


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _without(found: Iterable[object] | int, what: str) -> list[str]:
    """A check that looked at nothing has not passed."""
    return [] if found else [f"there is no {what}"]
