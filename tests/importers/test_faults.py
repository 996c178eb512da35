"""An import may be killed at any instant and run again, or run beside another: nothing is lost,
nothing is there twice, and the archive ends as one clean run leaves it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from exporter.db.connect import connect
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.importers.test_import import stored
from tests.postgres import settings_for

MODELS = ("orca-large-2", "tern-mini", "grebe-nano")

#: The command with small batches, so that there is something between two of them.
SMALL_BATCHES = """
import sys
from exporter.cli import main
from exporter.importers import agentsview
agentsview.BATCH_SESSIONS = 5
agentsview.APART_MESSAGES = {apart}
main.main()
"""

#: Whether processes of their own read the source, as they do for large ones.
both_ways = pytest.mark.parametrize("apart", [False, True], ids=["alone", "readers"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a hundred and twenty sessions."""
    path = tmp_path_factory.mktemp("killed") / "sessions.db"
    chance = random.Random(7)
    with SqliteArchive(path) as archive:
        archive.add_price(MODELS[0], 3, 15, 3.75, 0.3)
        archive.add_mapping("/home/kit/tern", "tern", machine="oak")
        for number in range(120):
            name = archive.add_session(f"k{number:03}", cwd=f"/home/kit/tern/{number % 7}")
            for _ in range(chance.randrange(2, 9)):
                usage = {"input_tokens": chance.randrange(5000), "output_tokens": 9}
                archive.add_message(name, model=chance.choice(MODELS), token_usage=usage)
            archive.add_event(name, model=MODELS[1], output_tokens=4, cost_usd=0.01)
    return path


@pytest.fixture(scope="module")
def undisturbed(source: Path, make_database: Callable[[], str]) -> dict[str, object]:
    """What one clean run makes of it."""
    url = make_database()
    assert finish(start(url, source)) == 0
    return outcome(url)


def start(url: str, source: Path, apart: bool = False) -> subprocess.Popen[bytes]:
    arguments = ["import", "agentsview", str(source), "--database-url", url, "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_BATCHES.format(apart=0 if apart else 1 << 60), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> int:
    process.communicate()
    return process.returncode


def outcome(url: str) -> dict[str, object]:
    world = Pipeline(url, Path(os.devnull))
    with closing(connect(settings_for(url))) as conn:
        world.conn = conn
        found: dict[str, object] = dict(stored(world))
        found["complete"] = world.conn.execute(
            "SELECT count(*) FROM sources WHERE completed_at IS NOT NULL"
        ).fetchone()
    return found


def skip_numbers_of_models(url: str) -> None:
    """As a kill in the middle of storing new models does, which a test hits by chance only."""
    assert finish(start(url, Path(os.devnull))) == 1, "what is no archive is refused"
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        conn.execute("SELECT nextval(pg_get_serial_sequence('exporter.models', 'model_id'))")


def sessions_so_far(url: str) -> int:
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        row = conn.execute("SELECT count(*) FROM exporter.sessions").fetchone()
    return int(row[0]) if row else 0


@both_ways
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_import_that_is_run_again_ends_like_a_clean_one(
    source: Path,
    undisturbed: dict[str, object],
    make_database: Callable[[], str],
    seed: int,
    apart: bool,
) -> None:
    url = make_database()
    chance = random.Random(seed)
    skip_numbers_of_models(url)
    for _ in range(3):
        process = start(url, source, apart)
        wanted = sessions_so_far(url) + chance.randrange(1, 40)
        deadline = time.monotonic() + 20
        while process.poll() is None and sessions_so_far(url) < wanted:
            assert time.monotonic() < deadline
            time.sleep(chance.random() / 200)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert finish(start(url, source, apart)) == 0
    assert outcome(url) == undisturbed


@both_ways
def test_imports_that_run_side_by_side_end_like_one(
    source: Path, undisturbed: dict[str, object], make_database: Callable[[], str], apart: bool
) -> None:
    url = make_database()
    running = [start(url, source, apart) for _ in range(3)]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert outcome(url) == undisturbed


@both_ways
def test_a_terminated_import_says_so_and_goes_on_next_time(
    source: Path, undisturbed: dict[str, object], make_database: Callable[[], str], apart: bool
) -> None:
    url = make_database()
    process = start(url, source, apart)
    while process.poll() is None and sessions_so_far(url) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate()[1].decode()
    assert process.returncode in (0, 143), stderr
    assert "Traceback" not in stderr
    assert finish(start(url, source, apart)) == 0
    assert outcome(url) == undisturbed


@both_ways
def test_a_server_that_ends_our_connections_costs_only_the_batch(
    source: Path, undisturbed: dict[str, object], make_database: Callable[[], str], apart: bool
) -> None:
    url = make_database()
    process = start(url, source, apart)
    while process.poll() is None and sessions_so_far(url) < 5:
        time.sleep(0.005)
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    stderr = process.communicate()[1].decode()
    assert process.returncode in (0, 1), stderr
    assert "Traceback" not in stderr
    assert finish(start(url, source, apart)) == 0
    assert outcome(url) == undisturbed


def readers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of the readers of an import; multiprocessing's own helper is none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == process.pid and b"spawn_main" in command:
            found.append(int(folder.name))
    return found


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")


@linux
def test_an_import_whose_reader_dies_says_so_and_goes_on_next_time(
    source: Path, undisturbed: dict[str, object], make_database: Callable[[], str]
) -> None:
    url = make_database()
    process = start(url, source, apart=True)
    while process.poll() is None and sessions_so_far(url) < 5:
        time.sleep(0.005)
    for pid in readers_of(process):
        os.kill(pid, signal.SIGKILL)
    stderr = process.communicate()[1].decode()
    if process.returncode:
        assert process.returncode == 1
        assert stderr.splitlines() == [
            "fatal: a reading process of the import died; run the same command again"
        ]
    assert finish(start(url, source, apart=True)) == 0
    assert outcome(url) == undisturbed


@linux
def test_readers_do_not_outlive_an_import_that_was_killed(
    source: Path, make_database: Callable[[], str]
) -> None:
    process = start(make_database(), source, apart=True)
    readers: list[int] = []
    while process.poll() is None and len(readers) < 2:
        readers = readers_of(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(readers) == 2
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
