"""Columns stand where a person sees them: wide characters take two cells, combining marks none."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.cells import cell_len

from exporter.cli import render
from exporter.cli.activity_view import print_report
from exporter.cli.usage_view import plain_table, terminal_table
from exporter.exports.usage_daily import TOKEN_FIELDS, Report

ROOT = Path(__file__).parents[2]
#: Three names of five cells each, and one of seven.
NAMES = ["e\u0301tude", "\u65e5\u672ca", "tern5", "\uff21\uff22\uff23d"]
WIDE = "\u6f22\u5b57" * 40


def places(lines: list[str], mark: str) -> set[int]:
    """The cells at which a mark begins, of the lines that have it."""
    return {cell_len(line.partition(mark)[0]) for line in lines if mark in line}


@pytest.mark.parametrize(
    ("text", "width"),
    [
        *(("", 0), ("tern", 4), ("Zo\u00eb \u2014 \u201cx\u201d\u2026", 10), ("\u65e5\u672c", 4)),
        *(("e\u0301", 1), ("\uff21", 2), ("\ud55c", 2), ("\u200b", 0), ("\U0001f600", 2)),
    ],
)
def test_width_is_what_a_terminal_shows(text: str, width: int) -> None:
    assert render.cells(text) == width


@pytest.mark.parametrize("width", range(1, 12))
@pytest.mark.parametrize("text", [*NAMES, WIDE, "plain text", "e\u0301" * 20])
def test_a_cut_text_fits_and_ends_in_an_ellipsis(text: str, width: int) -> None:
    cut = render.shortened(text, width)
    assert cell_len(cut) <= width
    assert cut == text or (cut.endswith("\u2026") and text.startswith(cut[:-1]))
    assert cut == text or cell_len(cut) >= width - 1, "no more is cut than must be"


def test_a_piped_table_is_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table(["name", "n", "last"], [[name, 1, "|"] for name in NAMES])
    lines = capsys.readouterr().out.splitlines()
    assert places(lines, "|") == {7 + 2 + 1 + 2}
    render.print_table(["name", "wide"], [["|", name] for name in NAMES])
    assert places(capsys.readouterr().out.splitlines()[1:], "|") == {0}


def test_facts_are_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_facts([(name, "|") for name in NAMES])
    assert places(capsys.readouterr().out.splitlines(), "|") == {7 + 2}


def test_the_activity_report_is_aligned_by_what_is_seen() -> None:
    document = json.loads((ROOT / "golden/activity_report/v1/expected.json").read_bytes())
    for share, name in zip(document["by_project"], NAMES, strict=False):
        share["key"] = name
    for row, name in zip(document["by_session"], NAMES, strict=False):
        row.update(title=name, project=f"{name}#", agent="|")
    page = io.StringIO()
    print_report(document, document["by_session"], ZoneInfo("UTC"), page, None)
    shares, sessions = page.getvalue().split("By model")
    assert len(places(shares.splitlines(), ".5 min")) == 1
    assert len(places(sessions.splitlines(), "|")) == 1


def usage_report() -> Report:
    tokens: dict[str, Any] = dict.fromkeys(TOKEN_FIELDS, 7)
    models = [{"modelName": name, **tokens, "cost": Decimal(1)} for name in (*NAMES, WIDE)]
    day = {"date": "2026-03-04", **tokens, "totalCost": Decimal(5), "modelBreakdowns": models}
    day["modelsUsed"] = [str(model["modelName"]) for model in models]
    return Report({}, [day], {**tokens, "totalCost": Decimal(5)}, {"total": 1})


@pytest.mark.parametrize("width", [120, 160, 250])
def test_the_usage_table_of_a_terminal_is_aligned_by_what_is_seen(width: int) -> None:
    page = terminal_table(usage_report(), breakdown=True, width=width, colours=False)
    lines = page.splitlines()
    assert len(places(lines, "$1.00")) == 1
    page = terminal_table(usage_report(), breakdown=False, width=width, colours=False)
    assert max(map(cell_len, page.splitlines())) <= width


def test_the_plain_usage_table_of_the_contract_counts_characters() -> None:
    """Programs read it, and find a column at the same character in every line."""
    lines = plain_table(usage_report(), breakdown=True).splitlines()
    assert len({line.index("$") for line in lines if "$" in line}) == 1


def test_rich_is_imported_only_for_text_that_needs_it() -> None:
    script = (
        "import sys; from exporter.cli import render, activity_view, usage_view\n"
        "render.print_facts([(sys.argv[1], 1)])\n"
        "print(any(name.partition('.')[0] == 'rich' for name in sys.modules))"
    )
    for name, is_imported in (("na\u00efve \u2014 tern\u2026", "False"), (NAMES[1], "True")):
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", script, name],
            capture_output=True,
            check=True,
            encoding="utf-8",
        )
        assert done.stdout.splitlines()[-1] == is_imported
