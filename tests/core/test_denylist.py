"""What is never shown, wherever it comes up."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from exporter.cli import render
from exporter.core.denylist import ALLOWED, DENIED, is_denied, refuse_denied
from exporter.errors import BadInput, ExitCode

PACKAGE = Path(__file__).parents[2] / "exporter"

#: Fields of bytes that are no content: names out of an archive, digests, parts on their way out.
HARMLESS = {
    ("core/runzip/directory.py", "Entry", "name"),
    ("core/runzip/layout.py", "Member", "key"),
    ("core/runzip/members.py", "_Survey", "overview"),
    ("core/runzip/rewrite.py", "_Output", "pieces"),
    ("exports/activity_report.py", "Report", "sessions"),
    ("exports/activity_report.py", "Report", "intervals"),
    ("exports/sessions.py", "Answer", "rows"),
}


@pytest.mark.parametrize(
    "name",
    [
        *sorted(DENIED),
        "Run_Zip_Snapshot",
        " run_zip_snapshot ",
        "run zip snapshot",
        "run-track-activity-jsonl",
        "run_track_activity_gz",
        "old_track_activity",
        "TRACK_ACTIVITY",
    ],
)
def test_a_denied_name_is_denied_however_it_is_spelled(name: str) -> None:
    assert is_denied(name)
    with pytest.raises(BadInput) as caught:
        refuse_denied(["state", name])
    assert caught.value.exit_code == ExitCode.USAGE
    assert name in str(caught.value)


@pytest.mark.parametrize("name", [*sorted(ALLOWED), "state", "run_generation", "activity"])
def test_what_may_be_told_is_not_denied(name: str) -> None:
    assert not is_denied(name)


def test_a_new_column_like_a_log_is_denied_until_it_is_on_the_list() -> None:
    assert is_denied("run_track_activity_summary")
    assert "run_track_activity_summary" not in ALLOWED


def test_there_is_one_denylist() -> None:
    """Further lists of these names would go their own ways."""
    holding = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Set | ast.List | ast.Tuple)
        and {e.value for e in node.elts if isinstance(e, ast.Constant)} >= DENIED - {"body"}
    ]
    assert holding == ["core/denylist.py"]


# --- Renderers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"run_zip_snapshot": "x"},
        [{"plan": 1, "deep": [{"body": "x"}]}],
        {"a": ({"run_track_activity_jsonl": None},)},
    ],
)
def test_json_with_a_denied_key_is_not_written(
    value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput):
        render.print_json(value)
    assert capsys.readouterr().out == ""


def test_tables_and_facts_with_a_denied_name_are_not_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BadInput):
        render.print_table(["id", "body"], [[1, "x"]])
    with pytest.raises(BadInput):
        render.print_facts([("id", 1), ("run zip snapshot", "x")])
    assert capsys.readouterr().out == ""


def test_nothing_else_turns_rows_into_text() -> None:
    """JSON for people and programs is made in one place of the command line, which refuses."""
    making = [
        str(path.relative_to(PACKAGE))
        for path in (PACKAGE / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("dumps", "dump")
        and isinstance(node.value, ast.Name)
        and node.value.id in ("json", "csv")
    ]
    # The other one writes the refusal of a cursor, whose fields are fixed by its contract.
    assert set(making) <= {"cli/render.py", "cli/main.py"}


# --- Reprs ----------------------------------------------------------------------------------


def test_no_dataclass_shows_bytes_in_its_repr() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and _is_dataclass(node):
                place = str(path.relative_to(PACKAGE))
                found |= {(place, node.name, name) for name in _shown_bytes(node)}
    assert found - HARMLESS == set()


def _is_dataclass(node: ast.ClassDef) -> bool:
    texts = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(text.startswith("dataclass") and "repr=False" not in text for text in texts)


def _shown_bytes(node: ast.ClassDef) -> list[str]:
    kinds = ("bytes", "bytearray", "memoryview", "Buffer")
    return [
        field.target.id
        for field in node.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and any(kind in ast.unparse(field.annotation) for kind in kinds)
        and not field.target.id.endswith("sha256")
        and not (field.value is not None and "repr=False" in ast.unparse(field.value))
    ]
