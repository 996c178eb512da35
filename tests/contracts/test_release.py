"""The checks before a release: green as things are, and red for each way to break a promise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from exporter.contracts import release, tables
from exporter.contracts.release import Verdict, update, verdicts
from exporter.contracts.surfaces import SURFACES
from tests.contracts import golden

#: What a checkout has that the checks look at.
LOOKED_AT = ("golden", "schemas", "docs/contracts")


def from_files(folder: Path) -> Mapping[str, bytes]:
    """Stands for the run of the commands: gives what is there already."""
    return {
        file.name: (golden.ROOT / folder.relative_to(folder.parents[2]) / file.name).read_bytes()
        for file in folder.glob("expected.*json")
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the checks look at, to be broken."""
    for name in LOOKED_AT:
        shutil.copytree(golden.ROOT / name, tmp_path / name)
    return tmp_path


def problems(root: Path, reproduce: release.Reproduce = from_files) -> dict[str, list[str]]:
    return {verdict.check: verdict.problems for verdict in verdicts(root, reproduce)}


def test_all_is_well() -> None:
    found = problems(golden.ROOT)
    assert {check: told for check, told in found.items() if told} == {}
    assert list(found) == [
        "released files",
        "versions",
        "schema cases",
        "enums",
        "documentation",
        "examples",
        "golden documents",
        "golden output",
    ]


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    return apply


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def add(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text("{}")


SESSIONS = "golden/sessions/v1"
SCHEMA = "golden/released/0.1.0/sessions.v1.schema.json"


@pytest.mark.parametrize(
    ("breaking", "check", "told"),
    [
        (
            edit(f"{SESSIONS}/input.sql", "codex", "other"),
            "released files",
            "input.sql was changed",
        ),
        (remove(f"{SESSIONS}/archive.sql"), "released files", "archive.sql is gone"),
        (add(f"{SESSIONS}/more.json"), "released files", "more.json is not in the manifest"),
        (remove("golden/manifest.sha256"), "released files", "is not in the manifest"),
        (edit(SCHEMA, '"mixed"]', '"mixed", "x"]'), "released files", "schema.json was changed"),
        (edit(SCHEMA, '"$id"', '"id"'), "versions", "sessions v1 since 0.1.0: id_changed at /"),
        (
            edit(SCHEMA, '"reported", "mixed"]', '"reported"]'),
            "versions",
            "sessions v1 since 0.1.0: enum_grown at /pricing/cost_source",
        ),
        (
            edit(f"{SESSIONS}/expected.json", '"turn_count":3', '"turn_count":4'),
            "golden documents",
            "expected.json: turn_count at /sessions/0/turn_count",
        ),
        (
            edit(f"{SESSIONS}/expected.json", '"agent":"codex"', '"agent":"codex","x":1'),
            "golden documents",
            "additionalProperties at /sessions/0/x",
        ),
        (
            edit(f"{SESSIONS}/expected.ndjson", '"agent":"codex"', '"agent":"cody"'),
            "golden output",
            "golden/sessions/v1/expected.ndjson differs from byte",
        ),
        (
            edit("golden/cursor_reset/v1/expected.json", "no longer valid", "not valid"),
            "golden output",
            "golden/cursor_reset/v1/expected.json differs from byte",
        ),
        (
            edit(f"{SESSIONS}/expected.json", "0.0193", "0.01930"),
            "examples",
            "the example of sessions v1 is not its golden document",
        ),
        (
            edit("docs/contracts/sessions-v1.md", "| `id` | string |", "| `id` | number |"),
            "documentation",
            "sessions-v1.md has a table that is out of date",
        ),
        (
            edit("docs/contracts/sessions-v1.md", "fields sessions.v1 worktree", "fields a.v1"),
            "documentation",
            "sessions-v1.md asks for an unknown table: a.v1",
        ),
        (
            edit("docs/contracts/sessions-v1.md", "table: fields sessions.v1 cursor", "cursor"),
            "documentation",
            "no page has the table 'fields sessions.v1 cursor'",
        ),
        (
            edit("docs/contracts/versioning.md", "| breaking | `retyped`", "| risky | `retyped`"),
            "documentation",
            "versioning.md has a table that is out of date",
        ),
        (
            edit("schemas/cases/sessions.v1/valid/no_sessions.json", '"cursor"', '"curser"'),
            "schema cases",
            "no_sessions.json is judged otherwise",
        ),
        (
            edit("schemas/cases/sessions.v1/invalid/id_number.json", '"id": 7', '"id": "7"'),
            "schema cases",
            "id_number.json is judged otherwise",
        ),
    ],
)
def test_a_broken_promise_is_told(
    checkout: Path, breaking: Callable[[Path], None], check: str, told: str
) -> None:
    breaking(checkout)
    assert any(told in problem for problem in problems(checkout)[check])


def test_a_schema_that_is_written_no_more_is_told(checkout: Path) -> None:
    old = checkout / "golden/released/0.0.9/gone.v1.schema.json"
    old.parent.mkdir()
    old.write_text("{}")
    assert "gone.v1.schema.json of 0.0.9 is written no more" in problems(checkout)["versions"]


def test_every_release_counts_not_only_the_last(checkout: Path) -> None:
    """What an earlier release promised holds even if a later one forgot it."""
    earlier = checkout / "golden/released/0.0.9/sessions.v1.schema.json"
    earlier.parent.mkdir()
    schema = json.loads((checkout / SCHEMA).read_bytes())
    schema["$defs"]["session"]["properties"]["mood"] = {"type": "string"}
    earlier.write_text(json.dumps(schema))
    told = problems(checkout)["versions"]
    assert told == ["sessions v1 since 0.0.9: field_removed at /sessions/*/mood"]


def test_an_enum_of_the_code_that_the_schema_lacks_is_told(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = SURFACES[0]
    widened = {**(sessions.enums or {}), "resolution": ("resolved", "unknown", "likely")}
    monkeypatch.setitem(sessions.__dict__, "enums", widened)
    told = problems(checkout)["enums"]
    assert "sessions v1: resolution differs between code and schema" in told


def test_the_sql_of_the_export_spells_the_classifications_of_the_schema() -> None:
    text = (golden.ROOT / "exporter/db/session_text.sql").read_text()
    for value in (SURFACES[0].enums or {})["classification"]:
        assert f'"classification":"{value}"' in text
    assert text.count('"classification":') == 2


def test_a_problem_does_not_hide_the_others() -> None:
    many = Verdict("x", "12 files", [f"problem {n}" for n in range(9)])
    assert many.detail == "; ".join(f"problem {n}" for n in range(5)) + "; and 4 more"
    assert Verdict("x", "12 files", []).detail == "12 files"


def test_the_manifest_is_one_that_sha256sum_reads() -> None:
    import hashlib

    for line in (golden.ROOT / "golden/manifest.sha256").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((golden.ROOT / name).read_bytes()).hexdigest() == digest


def test_an_update_makes_all_of_it_again(checkout: Path) -> None:
    assert update(checkout, "0.1.0", from_files) == []
    breakages = (
        edit("docs/contracts/sessions-v1.md", "| `id` | string |", "| `id` | number |"),
        edit(f"{SESSIONS}/expected.json", "codex", "other"),
        edit(SCHEMA, '"$id"', '"id"'),
        remove("golden/manifest.sha256"),
    )
    for breakage in breakages:
        breakage(checkout)
    changed = update(checkout, "0.1.0", from_files)
    assert set(changed) == {
        "docs/contracts/sessions-v1.md",
        f"{SESSIONS}/expected.json",
        SCHEMA,
        "golden/manifest.sha256",
    }
    assert update(checkout, "0.1.0", from_files) == []


def test_an_update_leaves_the_schemas_of_other_releases_alone(checkout: Path) -> None:
    before = (checkout / SCHEMA).read_bytes()
    update(checkout, "0.2.0", from_files)
    assert (checkout / SCHEMA).read_bytes() == before
    assert (checkout / "golden/released/0.2.0/sessions.v1.schema.json").is_file()
    assert problems(checkout)["released files"] == []


# -- tables -------------------------------------------------------------------------------------


def test_a_table_says_what_the_schema_says() -> None:
    text = tables.table("fields sessions.v1 session")
    assert "| `cwd` | string | may be absent |" in text
    assert "| `started_at` | string | may be null |" in text
    assert "| `classification` | `interactive` \\| `automated` | – |" in text
    assert "| `worktree` | [worktree](#worktree) | may be null |" in text
    assert "| `cursor` | [cursor](#cursor) | – |" in tables.table("fields sessions.v1")
    assert "map to [model_spend](#model_spend)" in tables.table("fields sessions.v1 model_usage")
    assert "`model_spend.cost_source`" in tables.table("enums sessions.v1")


@pytest.mark.parametrize("what", ["", "fields", "fields x.v1", "fields sessions.v1 x", "rules"])
def test_an_unknown_table_is_refused(what: str) -> None:
    with pytest.raises(tables.UnknownTable):
        tables.table(what)


def test_only_what_stands_between_the_marks_is_filled() -> None:
    page = "a\n<!-- table: enums sessions.v1 -->\nold\n<!-- end -->\nb | c\n"
    filled = tables.filled(page)
    assert filled.startswith("a\n<!-- table: enums sessions.v1 -->\n| enum |")
    assert filled.endswith("<!-- end -->\nb | c\n") and "old" not in filled
    assert tables.filled(filled) == filled
