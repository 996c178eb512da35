"""NO_COLOR on a real terminal: what people read is plain text, without a single escape code."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from uuid import UUID

import pytest

from exporter.cli.main import run
from tests.archives.sample import sample_archive
from tests.conftest import MakeDatabase
from tests.core.test_runzip_builders import snapshot
from tests.jobs.plans import Plans
from tests.postgres import settings_for

ESCAPE = "\x1b"
PLAN = UUID(int=1)
#: Commands that print for people, and whether a terminal gets styles where nothing forbids them.
COMMANDS = {
    "usage daily --all --breakdown": True,
    "usage statusline": False,
    "activity report --preset week --date 2026-03-10": True,
    "activity report --preset month --date 2026-02-10": True,
    "jobs status": True,
    "jobs quarantine": True,
    "artifacts overview PLAN": False,
    "artifacts originals PLAN": True,
    "pricing show": False,
    "db status": False,
}


@pytest.fixture(scope="module")
def url(make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample archive, a plan that was split and one that is in quarantine."""
    made = make_database()
    archive = tmp_path_factory.mktemp("archive") / "sessions.db"
    sample_archive(archive)
    assert run(["import", "agentsview", str(archive), "--database-url", made, "--quiet"]) == 0
    plans = Plans(settings_for(made))
    assert plans.add(snapshot()) == PLAN
    plans.add(b"no zip")
    plans.run()
    return made


def on_a_terminal(url: str, command: str, **environ: str) -> str:
    """What a command shows on a terminal, which stdout and stderr both are."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "TERM")}
    kept |= {"EXPORTER_DATABASE_URL": url, "TERM": "xterm-256color", "COLUMNS": "110", **environ}
    words = [str(PLAN) if word == "PLAN" else word for word in command.split()]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "exporter", *words], stdin=theirs, stdout=theirs, stderr=theirs,
        env=kept,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                # The other end of a terminal is closed.
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode in (0, 3), shown
    return shown.decode()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_escape_code_is_left(url: str, command: str) -> None:
    shown = on_a_terminal(url, command, NO_COLOR="1")
    assert len(shown.splitlines()) > 1 or command == "usage statusline"
    assert ESCAPE not in shown


@pytest.mark.parametrize("command", [name for name, has_styles in COMMANDS.items() if has_styles])
def test_an_empty_variable_forbids_nothing_and_the_words_are_the_same(
    url: str, command: str
) -> None:
    styled = on_a_terminal(url, command, NO_COLOR="")
    assert ESCAPE in styled
    assert re.sub(r"\x1b\[[0-9;]*m", "", styled) == on_a_terminal(url, command, NO_COLOR="1")


def test_a_pipe_gets_no_escape_code(url: str) -> None:
    for command, has_styles in COMMANDS.items():
        if has_styles:
            words = [str(PLAN) if word == "PLAN" else word for word in command.split()]
            done = subprocess.run(
                [sys.executable, "-m", "exporter", *words, "--database-url", url],
                capture_output=True, check=False,
            )  # fmt: skip
            assert done.stdout and b"\x1b" not in done.stdout + done.stderr, command
