"""``exporter contract`` as people and CI call it: output, exit codes, streams."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.contracts.surfaces import SURFACES
from tests.contracts import golden
from tests.contracts.golden import change, document, encoded, without

PROGRAM = [sys.executable, "-m", "exporter", "contract"]
SCHEMA = golden.ROOT / "schemas/sessions.v1.schema.json"


def run(*arguments: str | Path, text: bytes = b"", **environ: str) -> Any:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        input=text,
        env={**os.environ, **environ},
        capture_output=True,
        timeout=120,
        check=False,
    )


def stdout_of(*arguments: str | Path, text: bytes = b"", code: int = 0) -> str:
    done = run(*arguments, text=text)
    assert (done.returncode, done.stderr) == (code, b""), done.stderr.decode()
    return str(done.stdout.decode())


# -- list and show ------------------------------------------------------------------------------


def test_list_names_every_surface_with_what_pins_it() -> None:
    import hashlib

    listed = json.loads(stdout_of("list", "--json"))
    assert [(row["surface"], row["version"]) for row in listed] == [
        (surface.name, surface.version) for surface in SURFACES
    ]
    sessions = next(row for row in listed if row["surface"] == "sessions")
    assert sessions["schema"] == "urn:exporter:schema:sessions:v1"
    assert sessions["digest"] == "sha256:" + hashlib.sha256(SCHEMA.read_bytes()).hexdigest()
    assert sessions["since"] == "0.1.0"
    assert all(row["digest"] in stdout_of("list") for row in listed)


def test_show_prints_the_schema_byte_for_byte() -> None:
    assert stdout_of("show", "sessions").encode() == SCHEMA.read_bytes()
    assert stdout_of("show", "sessions", "--schema-version", "1").encode() == SCHEMA.read_bytes()


def test_show_prints_an_example_and_the_strict_form() -> None:
    assert stdout_of("show", "sessions", "--example").encode() == golden.TEXT
    strict = json.loads(stdout_of("show", "sessions", "--strict"))
    assert strict["$defs"]["session"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "nothing"], "SURFACE: 'nothing' is none; accepted: sessions"),
        (["show", "sessions", "--schema-version", "7"], "has no version 7; accepted: 1"),
        (["show", "sessions", "--example", "--strict"], "--strict"),
        (["validate", "-", "--schema-version", "1"], "accepted: --surface sessions"),
        (["validate", "-", "--surface", "nothing"], "'nothing' is none"),
    ],
)
def test_wrong_usage_is_told_with_what_would_do(arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert told in done.stderr.decode()


# -- validate -----------------------------------------------------------------------------------


def test_a_valid_file_is_told_in_one_line(tmp_path: Path) -> None:
    file = golden.SESSIONS / "expected.json"
    assert stdout_of("validate", file) == "sessions v1, json: 2 rows, valid\n"
    assert stdout_of("validate", "-", text=golden.LINES) == "sessions v1, ndjson: 2 rows, valid\n"
    reset = golden.RESET / "expected.json"
    assert stdout_of("validate", reset) == "cursor_reset v1, json, valid\n"


def test_every_violation_has_line_place_rule_and_words(tmp_path: Path) -> None:
    lines = golden.LINES.splitlines()
    lines[1] = encoded(change(json.loads(lines[1]), "/turn_count", 4))
    lines[2] = encoded(without(json.loads(lines[2]), "/agent"))
    file = tmp_path / "export.ndjson"
    file.write_bytes(b"\n".join(lines))
    told = stdout_of("validate", file, code=3).splitlines()
    assert told == [
        f"{file}:2: /turn_count: turn_count: turn_count equals user_message_count",
        f"{file}:3: /agent: required: the schema's required",
        "sessions v1, ndjson: 2 rows, 2 violations",
    ]


def test_json_is_a_line_per_violation_and_a_summary() -> None:
    text = encoded(change(document(), "/sessions/0/turn_count", 4))
    told = [
        json.loads(line)
        for line in stdout_of("validate", "-", "--json", text=text, code=3).splitlines()
    ]
    assert told == [
        {"line": 1, "row": 1, "pointer": "/sessions/0/turn_count", "rule": "turn_count"},
        {
            "surface": "sessions",
            "version": 1,
            "framing": "json",
            "rows": 2,
            "violations": 1,
            "valid": False,
        },
    ]


def test_no_value_is_ever_shown() -> None:
    secret = "what-nobody-should-see"
    text = encoded(
        change(change(document(), "/sessions/0/turn_count", secret), "/cursor/next", secret)
    )
    assert secret not in stdout_of("validate", "-", text=text, code=3)


def test_a_name_in_a_place_cannot_steer_a_terminal() -> None:
    text = document()
    text["projects"]["\x1b[2J"] = {"resolution": "lost", "identity": None}
    told = stdout_of("validate", "-", text=encoded(text), code=3)
    assert "\x1b" not in told and "/projects/\\u001b[2J/resolution: enum" in told


def test_unknown_keys_matter_only_when_asked() -> None:
    text = encoded(change(document(), "/later", 1))
    assert "valid" in stdout_of("validate", "-", text=text)
    assert "/later: additionalProperties" in stdout_of(
        "validate", "-", "--strict", text=text, code=3
    )


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (["validate", "/nowhere/x.json"], b"", "/nowhere/x.json cannot be read"),
        (["validate", "/"], b"", "/ cannot be read (is a directory)"),
        (["validate", "-"], b'{"nobody":1}', "stdin is no document of ours"),
    ],
)
def test_a_file_that_cannot_be_judged_fails(arguments: list[str], text: bytes, told: str) -> None:
    done = run(*arguments, text=text)
    assert (done.returncode, done.stdout) == (1, b"")
    assert told in done.stderr.decode()


def test_a_closed_pipe_ends_quietly() -> None:
    bad = b"\n".join([golden.LINES.splitlines()[0], *[b"{"] * 20_000])
    shell = f'"{sys.executable}" -m exporter contract validate - | head -1'
    done = subprocess.run(["bash", "-c", shell], input=bad, capture_output=True, check=False)
    assert done.stdout.decode() == "stdin:2: (whole): not_json: the text here is not JSON\n"
    assert done.stderr == b""


# -- diff ---------------------------------------------------------------------------------------


def test_diff_of_schemas_ends_with_3_when_something_breaks(tmp_path: Path) -> None:
    schema = json.loads(SCHEMA.read_bytes())
    schema["$defs"]["cost_source"]["enum"].append("guessed")
    worse = tmp_path / "worse.json"
    worse.write_text(json.dumps(schema))
    told = stdout_of("diff", SCHEMA, worse, code=3).splitlines()
    assert told[1].split("  ") == [
        "breaking",
        "/pricing/cost_source",
        "enum_grown",
        "a closed enum has a new value",
    ]
    found = json.loads(stdout_of("diff", SCHEMA, worse, "--json", code=3))
    assert found == [
        {
            "severity": "breaking",
            "place": "/pricing/cost_source",
            "rule": "enum_grown",
            "meaning": "a closed enum has a new value",
        }
    ]


def test_diff_of_what_only_grew_ends_with_0(tmp_path: Path) -> None:
    more = tmp_path / "more.json"
    more.write_bytes(encoded(change(document(), "/later", 1)))
    told = stdout_of("diff", golden.SESSIONS / "expected.json", more)
    assert "additive  /later  field_added" in told
    done = run("diff", SCHEMA, SCHEMA)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"nothing changed\n")
    assert json.loads(stdout_of("diff", SCHEMA, SCHEMA, "--json")) == []


def test_diff_compares_like_with_like() -> None:
    done = run("diff", SCHEMA, golden.SESSIONS / "expected.json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "is a schema and the other file is none" in done.stderr.decode()


def test_diff_reads_files_and_not_pipes() -> None:
    done = run("diff", "-", SCHEMA)
    assert done.returncode == 1
    assert "stdin cannot be read (it cannot be read twice)" in done.stderr.decode()


# -- check --------------------------------------------------------------------------------------


def test_check_ends_with_one_table(make_database: Any) -> None:
    url = make_database(migrated=False)
    found = json.loads(run("check", "--json", "--database-url", url).stdout)
    assert [verdict["check"] for verdict in found][-1] == "golden output"
    assert {v["check"]: v["problems"] for v in found if not v["passed"]} == {}
    table = stdout_of("check", "--database-url", url).splitlines()
    assert table[0].split() == ["check", "result", "detail"]
    assert len(table) == len(found) + 1
    assert all(" ok " in line for line in table[1:])


def test_no_machine_updates_a_contract() -> None:
    done = run("check", "--update", "--database-url", "postgresql://nobody@localhost/x", CI="true")
    assert done.returncode == 2
    assert "--update: no machine decides on a contract" in done.stderr.decode()


# -- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["validate"], ["diff"], ["check"]])
def test_help_answers_at_once_and_has_examples(command: list[str]) -> None:
    best = float("inf")
    for _ in range(3):
        before = _children_seconds()
        told = stdout_of(*command, "--help")
        best = min(best, _children_seconds() - before)
    assert "exporter contract" in told.partition("Example")[2]
    # Of the processor, not of the clock: what else the machine does is not counted.
    assert best < 0.3


def _children_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from exporter.cli.main import run\n"
        "run(['contract', '--help'])\n"
        "print([m for m in sys.modules if m.partition('.')[0] in "
        "('jsonschema_rs', 'msgspec', 'orjson', 'psycopg', 'rich', 'alembic')], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stderr.decode().strip() == "[]"
