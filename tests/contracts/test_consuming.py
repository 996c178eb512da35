"""docs/guides/consuming.md: every snippet runs as it stands, on the golden archive."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts import golden
from tests.contracts.test_canonical_vectors import VECTORS, vector_id

PAGE = (golden.ROOT / "docs/guides/consuming.md").read_text("utf-8")
SNIPPETS = {
    name: (language, code)
    for name, language, code in re.findall(
        r"<!-- snippet: (\w+) -->\n```(\w+)\n(.*?)```\n", PAGE, re.DOTALL
    )
}
BIN = Path(sys.executable).parent
SHIM = """#!{python}
import json, os, pathlib, subprocess, sys
calls = pathlib.Path("calls")
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
if len(calls.read_text()) == 2:
    error = {{"error": "cursor_reset", "message": "restart", "database_id": "x"}}
    sys.exit(print(json.dumps(error), file=sys.stderr) or 4)
sys.exit(subprocess.call([{exporter!r}, *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def environment(
    make_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What a person has whose archive is the golden one, and the program on the path."""
    url = make_database()
    source = tmp_path_factory.mktemp("source") / "sessions.db"
    with sqlite3.connect(source) as archive:
        archive.executescript((golden.SESSIONS / "input.sql").read_text("utf-8"))
    archive.close()
    variables = {**os.environ, "EXPORTER_DATABASE_URL": url, "PYTHONWARNINGS": "ignore"}
    variables["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [BIN / "exporter", "import", "agentsview", source],
        env=variables,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return variables


@pytest.fixture(scope="module")
def files(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first snippet was run."""
    folder = tmp_path_factory.mktemp("consumer")
    assert run("write", folder, environment) == ""
    schema = subprocess.run(
        [BIN / "exporter", "contract", "show", "sessions"],
        env=environment,
        capture_output=True,
        check=True,
    )
    (folder / "sessions.v1.schema.json").write_bytes(schema.stdout)
    return folder


def run(name: str, folder: Path, environment: dict[str, str]) -> str:
    """What a snippet prints, run in a folder."""
    language, code = SNIPPETS[name]
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
    done = subprocess.run(
        [*command, code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return str(done.stdout)


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def test_the_export_is_written_in_both_framings(files: Path) -> None:
    assert len(json.loads((files / "sessions.json").read_bytes())["sessions"]) == 2
    assert len((files / "sessions.ndjson").read_bytes().splitlines()) == 3


@pytest.mark.parametrize("name", ["jq_json", "jq_ndjson"])
def test_jq_sums_the_cost(name: str, files: Path, environment: dict[str, str]) -> None:
    needs("jq")
    assert float(run(name, files, environment)) == pytest.approx(0.01975, abs=1e-9)


def test_python_sums_the_cost_of_each_project(files: Path, environment: dict[str, str]) -> None:
    told = run("python_ndjson", files, environment)
    assert told == "tidepool\t0.01930\nbarnacle\t0.00045\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("duckdb_total", [(0.01975,)]),
        ("duckdb_json", [(0.01975,)]),
        ("duckdb_models", [("grebe-nano", 0.0), ("orca-large-2", 0.01575), ("tern-mini", 0.004)]),
    ],
)
def test_duckdb_sums_the_cost(
    name: str, expected: list[tuple[object, ...]], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    monkeypatch.chdir(files)
    for row, wanted in zip(duckdb.sql(SNIPPETS[name][1]).fetchall(), expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-9) if len(row) == 1 else row[0] == wanted[0]
        assert row[-1] == pytest.approx(wanted[-1], abs=1e-9)


@pytest.mark.parametrize("name", ["polars", "pandas"])
def test_data_frames_sum_the_cost(name: str, files: Path, environment: dict[str, str]) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    assert float(run(name, files, environment)) == pytest.approx(0.01975, abs=1e-9)


def test_pages_make_a_whole_and_a_reset_starts_again(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    assert run("pages", tmp_path, environment) == "cdx-4f21\ncld-9a07\n"
    shim = tmp_path / "bin/exporter"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(python=sys.executable, exporter=str(BIN / "exporter")))
    shim.chmod(0o755)
    path = f"{shim.parent}{os.pathsep}{environment['PATH']}"
    assert run("pages", tmp_path, {**environment, "PATH": path}) == "cdx-4f21\ncld-9a07\n"
    # The first page, the reset, and both pages again.
    assert (tmp_path / "calls").read_text() == "xxxx"


def test_news_replace_what_was_there(files: Path, environment: dict[str, str]) -> None:
    needs("jq")
    assert run("since", files, environment) == "2\n"
    news = json.loads((files / "news.json").read_bytes())
    assert [row["id"] for row in news["sessions"]] == ["cdx-4f21"]


def test_any_validator_reads_the_schema(files: Path, environment: dict[str, str]) -> None:
    assert run("schema", files, environment) == "valid\n"


def test_keys_can_be_made_again(files: Path, environment: dict[str, str]) -> None:
    assert run("keys", files, environment) == "tidepool ok\n"


def test_the_digest_can_be_made_again(files: Path, environment: dict[str, str]) -> None:
    needs("jq", "sha256sum")
    assert run("digest", files, environment) == "ok\n"
    # From the rows alone, in any order, without the program.
    prices = files / "prices.json"
    rows = json.loads(prices.read_bytes())["rows"]
    assert len(rows) > 1
    prices.write_text(json.dumps({"rows": rows[::-1]}, indent=1))
    assert run("digest_python", files, environment) == "ok\n"
    rows[0]["input_per_mtok"] = 2.5e-7
    prices.write_text(json.dumps({"rows": rows}))
    assert run("digest_python", files, environment) == "differs\n"


@pytest.mark.parametrize("vector", VECTORS, ids=vector_id)
def test_the_canonical_text_of_the_page_is_ours(vector: dict[str, str]) -> None:
    """Where the names of members are ASCII, as those of price rows are."""
    code = SNIPPETS["digest_python"][1].partition("with open(")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # what the page shows
    value = json.loads(vector["input"])
    if vector["canonical"].isascii() or vector["rule"] != "keys":
        assert names["canonical"](value) == vector["canonical"]


def test_every_snippet_of_the_page_is_run_here() -> None:
    assert len(SNIPPETS) == PAGE.count("<!-- snippet: ")
    # Nothing on the page is code without being a snippet.
    assert PAGE.count("\n```") == 2 * len(SNIPPETS)
    tests = Path(__file__).read_text("utf-8")
    assert [name for name in SNIPPETS if f'"{name}"' not in tests] == []
