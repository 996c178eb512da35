"""The documentation says what is true: made anew where it is made, complete where it is written."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from exporter import errors
from exporter.cli.main import cli
from exporter.errors import ExitCode, ExporterError
from exporter.settings import VARIABLES
from tests.reference import helps, reference

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_command_line_reference_is_fresh() -> None:
    written = (ROOT / "docs/reference/cli.md").read_text()
    assert written == reference(), "run script/cli-reference"


@pytest.mark.parametrize(("path", "text"), list(helps(cli, "exporter")))
def test_every_command_has_an_example_that_names_it(path: str, text: str) -> None:
    examples = text.rpartition("Example")[2]
    assert path in examples or path == "exporter"


def test_every_error_and_exit_code_is_documented() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    classes = [
        thing
        for _, thing in inspect.getmembers(errors, inspect.isclass)
        if issubclass(thing, ExporterError) and thing is not ExporterError
    ]
    assert [c.code for c in classes if c.code not in text] == []
    assert [int(code) for code in ExitCode if not re.search(rf"\b{int(code)}\b", text)] == []


def test_every_variable_of_the_program_is_documented() -> None:
    used = set()
    for path in (ROOT / "exporter").rglob("*.py"):
        used |= set(re.findall(r"\bEXPORTER_[A-Z_]+\b", path.read_text()))
    assert used <= set(VARIABLES), "settings.VARIABLES lists them all"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
