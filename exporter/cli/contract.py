"""``exporter contract``: the published forms of documents, and whether files keep to them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from exporter.cli import render
from exporter.cli.options import Whole, examples, json_option
from exporter.cli.streams import stdin_bytes
from exporter.errors import BadInput, ExitCode, ExporterError, SourceUnreadable
from exporter.settings import given_path

if TYPE_CHECKING:
    from exporter.contracts.compare import Change
    from exporter.contracts.validate import Finding, Validation

_version_option = click.option(
    "--schema-version",
    type=Whole(min=1),
    metavar="N",
    help="Version of the surface.  [default: the newest]",
)


@click.group(
    epilog=examples(
        "exporter contract list",
        "exporter sessions --all | exporter contract validate -",
        "exporter contract diff old.schema.json new.schema.json",
    )
)
def contract() -> None:
    """Show the published forms of documents, and hold files against them.

    Works without a database, on files of any size. docs/contracts/versioning.md says what a
    version promises.
    """


@contract.command(
    "list", epilog=examples("exporter contract list", "exporter contract list --json")
)
@json_option
def list_(as_json: bool) -> None:
    """List every surface, its versions and digests."""
    from exporter.contracts import schema
    from exporter.contracts.surfaces import SURFACES

    columns = ("surface", "version", "since", "schema", "digest")
    rows: list[tuple[str, int, str, str, str]] = [
        (s.name, s.version, s.since, s.schema_id, schema.file_digest(s)) for s in SURFACES
    ]
    if as_json:
        render.print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        render.print_table(columns, rows)


@contract.command(
    epilog=examples(
        "exporter contract show sessions > sessions.v1.schema.json",
        "exporter contract show sessions --example | jq .sessions[0]",
    )
)
@click.argument("surface", metavar="SURFACE")
@_version_option
@click.option("--example", is_flag=True, help="Print a document that follows the schema instead.")
@click.option("--strict", is_flag=True, help="Print the form in which every object is closed.")
def show(surface: str, schema_version: int | None, example: bool, strict: bool) -> None:
    """Print the schema of SURFACE as published.

    Byte for byte, so that its digest is the one that "exporter contract list" tells.
    """
    from exporter.contracts import schema
    from exporter.contracts.surfaces import find

    if example and strict:
        raise BadInput("--strict", "an example has one form", accepted="--example alone")
    found = find(surface, schema_version)
    if example:
        text = found.example_file.read_bytes()
    elif strict:
        text = schema.strict_text(found)
    else:
        text = schema.text(found)
    sys.stdout.buffer.write(text)


# -- validate -----------------------------------------------------------------------------------


@contract.command(
    epilog=examples(
        "exporter contract validate sessions.json",
        "exporter sessions --all --ndjson | exporter contract validate - --json",
        "exporter contract validate export.txt --surface sessions --schema-version 1",
    )
)
@click.argument("file", metavar="FILE")
@click.option("--surface", metavar="NAME", help="What the file is.  [default: by its content]")
@_version_option
@click.option("--strict", is_flag=True, help="Refuse keys that the schema does not name.")
@json_option
def validate(
    file: str, surface: str | None, schema_version: int | None, strict: bool, as_json: bool
) -> int:
    """Check FILE against its contract.

    FILE is JSON or NDJSON of any size, or "-" for stdin. Every violation is told with its line,
    its JSON pointer and the rule, never with a value. In NDJSON the pointer begins at the line.
    With --json each is an object on a line of its own, and the last line sums up. Exit 3 when
    there are any.
    """
    from exporter.contracts.surfaces import find
    from exporter.contracts.validate import Validation

    if schema_version is not None and surface is None:
        raise BadInput("--schema-version", "of which surface", accepted="--surface sessions")
    validation = Validation(find(surface, schema_version) if surface else None, strict=strict)
    count = 0
    with _opened(file) as stream:
        for finding in validation.findings(stream, _name(file)):
            count += 1
            _print_finding(finding, _name(file), as_json)
    _print_summary(validation, count, as_json)
    return ExitCode.FINDINGS if count else ExitCode.DONE


def _print_finding(finding: Finding, name: str, as_json: bool) -> None:
    from exporter.contracts.validate import meaning

    if as_json:
        place = {"line": finding.line, "row": finding.row, "pointer": finding.pointer}
        render.print_json({**place, "rule": finding.rule})
    else:
        place_text = finding.pointer or "(whole)"
        text = f"{name}:{finding.line}: {place_text}: {finding.rule}: {meaning(finding.rule)}"
        click.echo(render.one_line(text))


def _print_summary(validation: Validation, count: int, as_json: bool) -> None:
    surface = validation.surface
    if as_json:
        summary: dict[str, Any] = {
            "surface": surface and surface.name,
            "version": surface and surface.version,
            "framing": validation.framing,
            "rows": validation.rows,
            "violations": count,
            "valid": not count,
        }
        render.print_json(summary)
        return
    kind = f"{surface.label}, {validation.framing}" if surface else "no document"
    rows = f": {validation.rows:,} rows" if surface and surface.row_definition else ""
    outcome = "valid" if not count else "1 violation" if count == 1 else f"{count:,} violations"
    click.echo(f"{kind}{rows}, {outcome}")


# -- diff ---------------------------------------------------------------------------------------


@contract.command(
    epilog=examples(
        "exporter contract diff sessions.v1.schema.json sessions.v2.schema.json",
        "exporter contract diff export-of-may.ndjson export-of-june.ndjson --json",
    )
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@json_option
def diff(old: str, new: str, as_json: bool) -> int:
    """Say what changed from OLD to NEW.

    Both are schemas, or both are documents. Each change is told with how much it hurts.

    breaking: a reader of OLD may fail. risky: a reader may, or files that were kept do not fit any
    more. additive: a reader need not care. Of documents only what the contract decides is compared,
    not their data. Exit 3 when anything is breaking.
    """
    from exporter.contracts.compare import Severity

    changes = _changes(old, new)
    if as_json:
        render.print_json([_change_facts(change) for change in changes])
    elif changes:
        render.print_table(
            ("severity", "place", "rule", "meaning"),
            [tuple(_change_facts(change).values()) for change in changes],
        )
    else:
        render.note("nothing changed")
    broken = any(change.severity is Severity.BREAKING for change in changes)
    return ExitCode.FINDINGS if broken else ExitCode.DONE


def _changes(old: str, new: str) -> list[Change]:
    from exporter.contracts.compare import compare_schemas
    from exporter.contracts.drift import compare_documents
    from exporter.contracts.schema import read_schema

    with _opened(old) as before, _opened(new) as after:
        for name, stream in ((old, before), (new, after)):
            # Devices say that they can be read again, and then read otherwise.
            if not (stream.seekable() and stat.S_ISREG(os.fstat(stream.fileno()).st_mode)):
                raise SourceUnreadable(
                    _name(name), "it cannot be read twice", hint="save it to a file first"
                )
        schemas = [read_schema(stream) for stream in (before, after)]
        if schemas[0] is not None and schemas[1] is not None:
            return compare_schemas(schemas[0], schemas[1])
        if schemas != [None, None]:
            raise ExporterError(
                f"{old if schemas[0] else new} is a schema and the other file is none",
                hint="compare two schemas or two documents",
            )
        return compare_documents(before, after, old_name=old, new_name=new)


def _change_facts(change: Change) -> dict[str, render.Cell]:
    from exporter.contracts.compare import RULES

    return {
        "severity": change.severity.value,
        "place": change.place or "/",
        "rule": change.rule,
        "meaning": RULES[change.rule].meaning,
    }


# -- check --------------------------------------------------------------------------------------


@contract.command(
    epilog=examples(
        "exporter contract check",
        "exporter contract check --database-url postgresql://ci@localhost/postgres --json",
    )
)
@click.option(
    "--database-url",
    metavar="URL",
    help="Server for the golden archives, in a schema of their own.  [default: one for the moment]",
)
@click.option("--update", is_flag=True, help="Make goldens, tables and the manifest anew instead.")
@json_option
def check(database_url: str | None, update: bool, as_json: bool) -> int:
    """Check a checkout before a release, as CI does.

    Released files are as released, schemas only grew, code, documentation and schemas agree, and
    every golden document comes out of its seed again. Exit 3 when anything is wrong.
    """
    from exporter.cli.reproduce import reproducer
    from exporter.contracts import release

    root = _checkout()
    if update and os.environ.get("CI"):
        raise BadInput("--update", "no machine decides on a contract", accepted="a person's run")
    with reproducer(database_url) as reproduce:
        if update:
            return _update(root, reproduce, as_json)
        found = list(release.verdicts(root, reproduce))
    if as_json:
        render.print_json(
            [
                {
                    "check": verdict.check,
                    "passed": not verdict.problems,
                    "looked_at": verdict.looked_at,
                    "problems": verdict.problems,
                }
                for verdict in found
            ]
        )
    else:
        rows = [(v.check, "FAILED" if v.problems else "ok", v.detail) for v in found]
        render.print_table(("check", "result", "detail"), rows)
    return ExitCode.FINDINGS if any(verdict.problems for verdict in found) else ExitCode.DONE


def _update(root: Path, reproduce: Any, as_json: bool) -> int:
    from exporter import __version__
    from exporter.contracts import release

    changed = release.update(root, __version__, reproduce)
    if as_json:
        render.print_json({"changed": changed})
    else:
        for name in changed:
            click.echo(name)
        render.note(f"{len(changed)} files changed; read them as a change of contract")
    return ExitCode.DONE


def _checkout() -> Path:
    """The top of the checkout that this program runs from."""
    from exporter import paths

    root = paths.schemas_folder().parent
    if not (root / "golden").is_dir():
        raise ExporterError(
            "this is an installed copy, without golden files",
            hint="run the command in a checkout of the project",
        )
    return root


# -- files --------------------------------------------------------------------------------------


def _name(file: str) -> str:
    return "stdin" if file == "-" else file


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    """A file to read from its start, or stdin. Raises SourceUnreadable."""
    if file == "-":
        yield stdin_bytes()
        return
    # Only the opening: what fails later may as well be our output.
    try:
        stream = given_path("FILE", file).open("rb", buffering=0)
    except OSError as error:
        raise SourceUnreadable(file, (error.strerror or "no access").lower()) from None
    with stream:
        yield stream
