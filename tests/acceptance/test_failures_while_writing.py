"""A failure in the middle of the rows ends the command at once, with nothing half written."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.archives.pipeline import Pipeline

TOO_SMALL = 200_000


@pytest.fixture
def full(world: Pipeline) -> Pipeline:
    """An archive whose export is larger than what a socket holds."""
    with world.source() as archive:
        for number in range(1500):
            archive.add_session(f"s{number:04}", cwd="/home/kit/" + "x" * 300)
    return world


def export(
    world: Pipeline, *flags: str, limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    """A process of its own, which may write files of ``limit`` bytes at most."""

    def take_limit() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "exporter", "sessions", "--database-url", world.url, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=take_limit,
    )


def test_a_full_disk_ends_the_export_and_leaves_no_file(full: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = export(full, "--all", "--output", str(out / "sessions.json"), limit=TOO_SMALL)
    assert (done.returncode, done.stdout, list(out.iterdir())) == (1, "", [])
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("framing", ["--json", "--ndjson"])
def test_a_row_that_breaks_the_contract_ends_the_export(full: Pipeline, framing: str) -> None:
    full.conn.execute(
        "UPDATE session_lines SET tail = '}' WHERE session_key IN"
        " (SELECT session_key FROM sessions WHERE id = 's0003')"
    )
    done = export(full, "--all", "--validate", framing)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not fit" in done.stderr


def test_a_link_is_followed_and_rights_are_kept(full: Pipeline, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text("old")
    real.chmod(0o600)
    link = tmp_path / "link.json"
    link.symlink_to(real)
    assert export(full, "--limit", "2", "--output", str(link)).returncode == 0
    assert link.is_symlink()
    assert real.read_text().startswith('{"schema_version":1')
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_what_is_no_ordinary_file_is_written_into(full: Pipeline, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert export(full, "--limit", "2", "--output", str(pipe)).returncode == 0
        text = reader.communicate(timeout=30)[0]
    assert text.startswith(b'{"schema_version":1')
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_closed_stdout_is_no_trace_back(full: Pipeline) -> None:
    command = (
        f"exec {sys.executable} -m exporter sessions --limit 1 --database-url '{full.url}' >&-"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr


def test_custom_rates_cost_the_export_no_more_than_a_reading(
    full: Pipeline, tmp_path: Path
) -> None:
    """Each session's usage is looked up by its key; the plan has no loop over all usage."""
    rates = tmp_path / "rates.toml"
    rates.write_text("[custom_model_pricing.m]\ninput = 1\n")
    with full.source() as archive:
        for number in range(1500):
            archive.add_message(f"s{number:04}", model="m", token_usage={"input_tokens": 1_000_000})
    rows = full.export("--all", "--custom-prices", str(rates))["sessions"]
    assert {row["model_usage"]["cost_usd"] for row in rows} == {1}
