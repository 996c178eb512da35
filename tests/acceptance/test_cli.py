"""The program as a process: help, exit codes, signals, pipes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from exporter import __version__
from exporter.cli.main import COMMANDS, Invocation, cli
from exporter.db import connect
from exporter.paths import known_revisions
from exporter.settings import Settings
from tests.postgres import new_folder, settings_for

PROGRAM = [sys.executable, "-m", "exporter"]
HEAD = known_revisions()[-1]
NOWHERE = "postgresql://me:hunter2@127.0.0.1:1/archive"

#: Slow to import; none may be needed to show help.
HEAVY = ("alembic", "jsonschema", "jsonschema_rs", "orjson", "psycopg", "rich", "sqlalchemy")


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every level of the program, as the words that lead there."""
    yield path
    names = cli.context_settings["help_option_names"]
    ctx = click.Context(group, obj=Invocation(), help_option_names=names)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


LEVELS = list(commands(cli))


# --- Help -----------------------------------------------------------------------------------


def test_version_is_one_line() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"exporter {__version__}\n", "")


@pytest.mark.parametrize("path", LEVELS, ids=lambda path: " ".join(("exporter", *path)))
def test_help_on_every_level_has_an_example_that_starts_with_the_command(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main([*path, "--help"], "exporter", standalone_mode=False, obj=Invocation())
    text = capsys.readouterr().out
    _, found, example = text.partition("Example")
    assert found
    assert " ".join(("exporter", *path)) in example
    assert max(map(len, text.splitlines())) <= 100


def test_help_imports_nothing_heavy() -> None:
    lines = [
        "import sys",
        "from exporter.cli.main import run",
        *(f"run([*{path!r}, '--help'])" for path in LEVELS),
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


def test_help_of_the_program_lists_every_command_with_a_line() -> None:
    text = run("--help").stdout
    for name, (_, line) in COMMANDS.items():
        assert name in text
        assert line.partition(" ")[0] in text


# --- Wrong usage, and failures --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "there are: "),
        (["db", "nonsense"], "No such command"),
        (["--nonsense"], "No such option"),
        (["db", "upgrade", "--database-url", "sqlite:///x"], "accepted: postgresql://"),
        (["db", "upgrade", "9999"], "accepted: 0001, 0002"),
        (["db", "sql", "--undo"], "accepted: 0002:0001"),
        (["db", "stop", "--database-url", NOWHERE], "not the embedded server"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_2_and_shows_what_is_accepted(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPORTER_SCHEMA", "public"),
        ("EXPORTER_LOCK_TIMEOUT_MS", "soon"),
        ("EXPORTER_DATABASE_URL", "mysql://me:hunter2@h/a"),
    ],
)
def test_a_wrong_variable_exits_2_and_is_named(name: str, value: str) -> None:
    done = run("db", "status", **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"fatal: {name}: ")
    assert "hunter2" not in done.stderr


def test_a_failure_is_one_line_without_trace_back_or_password() -> None:
    done = run("db", "status", EXPORTER_DATABASE_URL=NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "fatal: postgresql://me@127.0.0.1:1/archive does not answer (connection refused);"
        " start that server or check --database-url or EXPORTER_DATABASE_URL\n"
    )


@pytest.mark.parametrize("option", ["--debug", "-v"])
def test_debug_shows_the_trace_back_before_the_line(option: str) -> None:
    done = run(option, "db", "status", EXPORTER_DATABASE_URL=NOWHERE)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.splitlines()[-1].startswith("fatal: ")


def test_a_defect_names_its_place_and_not_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from exporter.cli import main

    def fail() -> None:
        raise KeyError("hunter2")

    monkeypatch.setattr(
        main.cli.__class__, "get_command", lambda *_: click.Command("x", None, fail)
    )
    assert main.run(["db"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fatal: unexpected KeyError in exporter.cli.main")
    assert "hunter2" not in said


# --- Databases ------------------------------------------------------------------------------


def test_upgrade_status_and_downgrade(empty_database_url: str) -> None:
    there = {"EXPORTER_DATABASE_URL": empty_database_url}
    assert json.loads(run("db", "status", "--json", **there).stdout)["state"] == "absent"
    up = run("db", "upgrade", **there)
    assert (up.returncode, up.stdout, up.stderr) == (
        0,
        f"schema exporter: revision {HEAD} (at head)\n",
        "",
    )
    assert f"revision        {HEAD}\n" in run("db", "status", **there).stdout
    refused = run("db", "downgrade", "base", **there)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert json.loads(run("db", "status", "--json", **there).stdout)["revision"] == HEAD
    down = json.loads(run("db", "downgrade", "base", "--yes", "--json", **there).stdout)
    assert (down["revision"], down["state"]) == (None, "absent")


def test_rebuild_says_how_many_derived_rows_were_wrong(database_url: str) -> None:
    done = run("db", "rebuild", "--json", EXPORTER_DATABASE_URL=database_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout).values()) == {0}
    assert "mended" in run("db", "rebuild", EXPORTER_DATABASE_URL=database_url).stdout


def test_sql_prints_a_script_and_needs_no_database() -> None:
    done = run("db", "sql", EXPORTER_DATABASE_URL=NOWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("BEGIN;")
    assert done.stdout.rstrip().endswith("COMMIT;")


def test_the_embedded_server_from_first_look_to_stop() -> None:
    folder = new_folder()
    there = {"EXPORTER_HOME": str(folder / "home")}
    try:
        looked = json.loads(run("db", "status", "--json", **there).stdout)
        assert looked["embedded_server"] == "absent"
        assert not (folder / "home").exists()
        assert run("db", "upgrade", **there).returncode == 0
        url = run("db", "url", **there).stdout.strip()
        assert url == run("db", "start", **there).stdout.strip()
        with connect.session(settings_for(url)):
            pass
        assert json.loads(run("db", "status", "--json", **there).stdout)["state"] == "at head"
    finally:
        stopped = run("db", "stop", **there)
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert stopped.stderr == "the embedded server is stopped\n"
    assert run("db", "stop", **there).stderr == "no embedded server runs\n"
    shutil.rmtree(folder)


# --- Pipes, disks and signals ---------------------------------------------------------------


def test_a_reader_that_goes_away_ends_the_program_quietly() -> None:
    """More is printed than a pipe holds, so the write fails for certain."""
    process = subprocess.Popen(
        [*PROGRAM, "db", "sql"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["db", "sql"], ["--version"], ["--help"]])
def test_a_full_disk_is_told_and_fails(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == (
        "fatal: the output cannot be written (no space left on device);"
        " free space or choose another place\n"
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_the_program_with_its_own_code(
    settings: Settings, number: signal.Signals, code: int
) -> None:
    """The upgrade waits for a lock that we hold; whatever it began is rolled back."""
    with connect.session(settings, at_head=False) as holder, holder.transaction():
        holder.execute("LOCK TABLE alembic_version IN ROW EXCLUSIVE MODE")
        process = subprocess.Popen(
            [*PROGRAM, "db", "upgrade"],
            env={**os.environ, "EXPORTER_DATABASE_URL": settings.database_url or ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        waiting += " AND datname = current_database()"
        while not (holder.execute(waiting).fetchone() or [0])[0]:
            holder.execute("SELECT pg_stat_clear_snapshot()")
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert said == f"fatal: stopped by {number.name}; run the same command again to continue\n"


def test_a_name_from_outside_cannot_steer_the_terminal() -> None:
    there = {"EXPORTER_HOME": "/proc/\x1b[31mred"}
    done = run("db", "start", **there)
    assert done.returncode == 1
    for shown in (done.stderr, run("db", "status", **there).stdout):
        assert "\x1b" not in shown
        assert "\\u001b[31mred" in shown
