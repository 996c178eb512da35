"""``exporter identity``: what identifies a git remote, and what a project label stands for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from exporter.cli import render
from exporter.cli.options import database_option, examples, json_option
from exporter.cli.pricing import print_wire, values_of
from exporter.settings import Settings

if TYPE_CHECKING:
    from exporter.exports.facts import Candidate, ProjectEvidence

Value = TypeVar("Value")

#: Rows of one table, and labels of one question to the database.
_BATCH: Final = 200
_WITHHELD: Final = "(withheld: may hold a credential)"


@click.group(
    epilog=examples(
        "exporter identity normalize git@git.example.net:team/tool.git",
        "exporter identity show tool",
    )
)
def identity() -> None:
    """Show what identifies git remotes and projects."""


@identity.command(
    epilog=examples(
        "exporter identity normalize git@git.example.net:team/tool.git",
        "git remote -v | awk '{print $2}' | exporter identity normalize - --json",
    )
)
@click.argument("remotes", metavar="REMOTE ...|-", nargs=-1, required=True)
@json_option
def normalize(remotes: tuple[str, ...], as_json: bool) -> None:
    """Bring each REMOTE to its comparable and its storable form, with its key.

    "-" reads remotes from stdin, one per line. The table never shows a remote as it was given,
    and withholds one that may hold a credential even in its stored form. The objects of --json
    echo what was given, for scripts, and mark such a one as suspect.
    """
    values = values_of(remotes, "REMOTE")
    if as_json:
        for raw in values:
            print_wire(_normalized(raw))
        return
    withheld = 0
    for batch in _batches(enumerate(values, 1)):
        answers = [(number, _normalized(raw)) for number, raw in batch]
        render.print_table(
            ["value", "stored", "normalized", "key"],
            [_table_row(number, answer) for number, answer in answers],
        )
        withheld += sum("suspect" in answer for _, answer in answers)
    if withheld:
        render.note(f"{withheld} withheld, as they may hold a credential; --json shows them")


def _normalized(raw: str) -> dict[str, Any]:
    """The answer for one remote, keys in order; ``suspect`` is there only when it is true."""
    from exporter.core.identity import remote_identity
    from exporter.core.remotes import may_hold_credential, storage_form

    found = remote_identity(raw)
    normalized = found.normalized_remote if found else None
    stored = storage_form(raw)
    answer: dict[str, Any] = {
        "raw": raw,
        "normalized": normalized,
        "stored": stored,
        "key": found.key if found else None,
    }
    return {**answer, "suspect": True} if may_hold_credential(raw) else answer


def _table_row(number: int, answer: dict[str, Any]) -> list[render.Cell]:
    if "suspect" in answer:
        return [number, _WITHHELD, _WITHHELD, answer["key"]]
    return [number, answer["stored"] or None, answer["normalized"], answer["key"]]


@identity.command(
    epilog=examples(
        "exporter identity show tool",
        "exporter identity show - --json < labels.txt",
    )
)
@click.argument("labels", metavar="LABEL ...|-", nargs=-1, required=True)
@database_option
@json_option
def show(labels: tuple[str, ...], settings: Settings, as_json: bool) -> None:
    """Show what each project LABEL stands for, and the candidates where that is ambiguous.

    "-" reads labels from stdin, one per line. A label of which the archive knows nothing is
    unknown, which is no failure.
    """
    from exporter.core.text import storable
    from exporter.db.connect import read_snapshot, session
    from exporter.exports.facts import project_evidence

    values = values_of(labels, "LABEL")
    first = True
    with session(settings) as conn:
        for batch in _batches(values):
            # Labels are stored without what PostgreSQL cannot hold, and looked up alike.
            names = [storable(label)[0] for label in batch]
            with read_snapshot(conn):
                found = project_evidence(conn, list(dict.fromkeys(names)))
            for label, name in zip(batch, names, strict=True):
                answer = _project(label, found[name])
                if as_json:
                    print_wire(answer)
                else:
                    sys.stdout.write("" if first else "\n")
                    render.print_facts(_in_words(answer))
                first = False


def _project(label: str, found: ProjectEvidence) -> dict[str, Any]:
    """The answer for one label, keys in order, all of them always there."""
    known = found.resolution.identity
    ambiguous = found.resolution.resolution == "ambiguous"
    return {
        "label": label,
        "resolution": found.resolution.resolution,
        "key": known.key if known else None,
        "key_source": known.key_source if known else None,
        "normalized_remote": known.normalized_remote if known else None,
        "root_path": known.root_path if known else None,
        "machine_local": known.machine_local if known else False,
        "withheld": known is not None and any(c.is_withheld for c in found.candidates),
        "observations": found.observations,
        "evidence": found.evidence,
        "candidates": [_candidate(each) for each in found.candidates] if ambiguous else [],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "key": candidate.key,
        "key_source": candidate.key_source,
        "normalized_remote": candidate.normalized_remote,
        "root_path": candidate.root_path,
        "withheld": candidate.is_withheld,
        "count": candidate.count,
    }


def _in_words(answer: dict[str, Any]) -> list[tuple[str, render.Cell]]:
    facts: list[tuple[str, render.Cell]] = [
        ("label", answer["label"]),
        ("resolution", answer["resolution"]),
    ]
    if answer["key"] is not None:
        facts += [("key", answer["key"]), _place(answer)]
    facts += [("observations", answer["observations"]), ("evidence", answer["evidence"])]
    for each in answer["candidates"]:
        name, text = _place(each)
        seen = f"{answer['evidence']}: {each['count']:,}"
        facts.append(("candidate", f"{each['key']}  {name} {text}  ({seen})"))
    return facts


def _place(answer: dict[str, Any]) -> tuple[str, str | None]:
    """What a key was made of, in a word and its text."""
    if answer["key_source"] == "root_path":
        return "path on its machine", answer["root_path"]
    return "git remote", _WITHHELD if answer["withheld"] else answer["normalized_remote"]


def _batches(values: Iterable[Value]) -> Iterator[list[Value]]:
    iterator = iter(values)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
