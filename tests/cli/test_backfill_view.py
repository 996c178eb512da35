"""What is seen of a running backfill: a bar on a terminal, lines in a pipe, objects otherwise."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from exporter.cli import backfill_view
from exporter.cli.backfill_view import clock, line
from exporter.jobs.job import Tally
from exporter.progress import Meter
from exporter.settings import Settings
from tests.core.test_runzip_builders import snapshot
from tests.jobs.plans import Plans

COMMAND = [sys.executable, "-m", "exporter", "backfill", "snapshots"]


@pytest.fixture
def plans(settings: Settings) -> Plans:
    """Eight plans, one of which cannot be done."""
    made = Plans(settings)
    for number in range(8):
        made.add(b"no zip" if number == 1 else snapshot())
    return made


def environment(plans: Plans, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "TERM")}
    return {**kept, "EXPORTER_DATABASE_URL": plans.settings.database_url or "", **more}


def on_a_terminal(plans: Plans, *options: str, **environ: str) -> tuple[str, str]:
    """What a run draws on a terminal of its own, and what it says on stdout."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=theirs,
        env=environment(plans, TERM="xterm-256color", COLUMNS="120", **environ),
    ) as process:  # fmt: skip
        os.close(theirs)
        drawn = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ready, _, _ = select.select([ours], [], [], 0.1)
            try:
                piece = os.read(ours, 65536) if ready else b""
            except OSError:
                break
            if ready and not piece:
                break
            drawn += piece
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 3, drawn
    return drawn.decode(), out.decode()


def piped(plans: Plans, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], env=environment(plans), capture_output=True, text=True, timeout=60
    )


def plain(drawn: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


# --- The bar --------------------------------------------------------------------------------


def test_a_terminal_shows_rows_speed_eta_quarantine_and_why_it_waits(plans: Plans) -> None:
    drawn, out = on_a_terminal(plans, "--max-rows-per-second", "4")
    seen = plain(drawn)
    assert re.search(r"snapshots .* 8/8 rows", seen)
    assert re.search(r"\d+\.\d MB/s  ETA 0:00:0\d", seen)
    assert "1 quarantined" in seen
    assert "waiting: the limit on rows" in seen
    assert re.search(r"\x1b\[\d*;?3[0-9]", drawn), "in colour"
    assert out.splitlines()[-1].startswith("event=summary job=snapshots ")


def test_no_color_is_honoured(plans: Plans) -> None:
    drawn, _ = on_a_terminal(plans, NO_COLOR="1")
    assert "8/8 rows" in plain(drawn)
    colours = re.findall(r"\x1b\[([0-9;]*)m", drawn)
    assert [code for code in colours if re.search(r"(^|;)(3[0-8]|4[0-8]|9[0-7])(;|$)", code)] == []


def test_quiet_draws_nothing_on_a_terminal(plans: Plans) -> None:
    drawn, out = on_a_terminal(plans, "--quiet")
    assert drawn == ""
    assert "quarantined" in out.lower()


# --- Lines ----------------------------------------------------------------------------------


def test_a_pipe_gets_plain_lines_and_a_last_one_for_scripts(plans: Plans) -> None:
    done = piped(plans)
    assert done.returncode == 3
    assert "\x1b" not in done.stdout + done.stderr
    (progress,) = done.stderr.splitlines()
    assert progress.startswith("event=ended job=snapshots rows=8 total=8 rows_per_second=")
    last = dict(pair.split("=", 1) for pair in done.stdout.splitlines()[-1].split(" "))
    assert (last["event"], last["job"], last["rows"]) == ("summary", "snapshots", "8")
    assert (last["MIGRATED"], last["QUARANTINED"], last["remaining"]) == ("7", "1", "0")
    assert last["finished"] == "yes"
    assert last["bytes_in"].isdigit()


def test_programs_get_one_object_per_line(plans: Plans) -> None:
    done = piped(plans, "--json")
    assert done.stderr == ""
    (summary,) = map(json.loads, done.stdout.splitlines())
    assert summary["outcomes"] == {"MIGRATED": 7, "QUARANTINED": 1}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_stopped_run_says_how_far_it_came(plans: Plans, as_json: bool) -> None:
    options = ["--max-rows-per-second", "2", *(["--json"] if as_json else [])]
    with subprocess.Popen(
        [*COMMAND, *options], env=environment(plans), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        with plans.opened() as conn:
            _wait_until(lambda: conn.execute(
                "SELECT count(*) > 0 FROM job_items WHERE status = 'done'").fetchone() == (True,)
            )  # fmt: skip
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    if as_json:
        (told,) = map(json.loads, out.splitlines())
        assert (told["event"], told["total"]) == ("stopped", 8)
        assert 0 < told["rows"] < 8
    else:
        assert out == ""
        assert re.search(r"^event=stopped job=snapshots rows=[1-7] total=8 ", err, re.MULTILINE)
    assert "fatal: stopped by SIGTERM" in err


def _wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_run_that_waits_goes_on_telling(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backfill_view, "INTERVAL_SECONDS", 0.02)
    with backfill_view.watched(as_json=as_json, quiet=False) as view:
        time.sleep(0.06)
        view.begin("snapshots", 4)
        view.done(Tally({"MIGRATED": 1, "QUARANTINED": 1}, 3_000_000, 2_000_000))
        view.waiting("standbys that are behind")
        time.sleep(0.2)
    told = capsys.readouterr()
    lines = (told.out if as_json else told.err).splitlines()
    assert len(lines) >= 3, "the clock writes, not the worker"
    if as_json:
        facts = json.loads(lines[-1])
        assert (facts["event"], facts["rows"], facts["total"]) == ("progress", 2, 4)
        assert (facts["quarantined"], facts["bytes_in"]) == (1, 3_000_000)
        assert facts["waiting"] == "standbys that are behind"
        assert facts["eta_seconds"] is not None
    else:
        assert 'waiting="standbys that are behind"' in lines[-1]
        assert "quarantined=1" in lines[-1]


def test_a_reader_that_goes_away_ends_the_telling_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*args: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(backfill_view, "INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(backfill_view.render, "print_json", gone)
    done = []
    with backfill_view.watched(as_json=True, quiet=False) as view:
        view.begin("snapshots", 4)
        time.sleep(0.1)
        done.append(1)
    assert done
    with (
        pytest.raises(KeyError),
        backfill_view.watched(as_json=True, quiet=False) as view,
    ):
        view.begin("snapshots", 4)
        raise KeyError


# --- Options --------------------------------------------------------------------------------


def test_a_pause_rests_after_each_write(plans: Plans) -> None:
    started = time.monotonic()
    plans.run(pause=0.25)
    assert time.monotonic() - started >= 8 * 0.25
    assert set(plans.recorder.reasons) == {"the pause after each row"}


def test_a_dry_run_keeps_the_pace_too(plans: Plans) -> None:
    started = time.monotonic()
    plans.run(is_dry_run=True, rows_per_second=4.0)
    assert time.monotonic() - started >= 8 / 4 - 1.1, "a second of credit at most"
    assert "the limit on rows" in plans.recorder.reasons


def test_the_pause_is_an_option_in_milliseconds(plans: Plans) -> None:
    started = time.monotonic()
    done = piped(plans, "--pause-ms", "200", "--limit", "5", "--json")
    assert time.monotonic() - started >= 1.0
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 5


# --- Figures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0:00:00"),
        (59.6, "0:01:00"),
        (3_725.2, "1:02:05"),
        (360_000, "100:00:00"),
    ],
)
def test_a_clock_reads_as_people_read_it(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_can_be_cut_at_spaces() -> None:
    facts: dict[str, Any] = {"a": 1_000_000, "b": True, "c": "one two", "d": 0.5, "e": None}
    assert line(facts) == 'a=1000000 b=yes c="one two" d=0.5 e=-'


def test_speed_and_rest_come_from_what_was_done() -> None:
    meter = Meter(10, started=100.0)
    assert meter.eta_seconds(101.0) is None
    meter.reason = "locks"
    meter.done({"MIGRATED": 3, "QUARANTINED": 1}, 8_000, 6_000)
    assert (meter.rows, meter.outcomes["MIGRATED"], meter.reason) == (4, 3, "")
    assert (meter.rows_per_second(102.0), meter.bytes_per_second(102.0)) == (2.0, 4_000.0)
    assert meter.eta_seconds(102.0) == 3.0
    meter.done({"CLEAN": 9}, 0, 0)
    assert meter.eta_seconds(103.0) == 0.0, "more rows than were counted"
