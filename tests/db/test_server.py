"""The embedded server: its life, its sharing, and what stands in its way."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter import errors
from exporter.db import account, programs, server
from tests.postgres import UNSAFE_AND_FAST, new_folder

ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a stopped embedded server, to copy instead of running initdb each time."""
    folder = new_folder()
    server.start(folder / "home", UNSAFE_AND_FAST)
    server.stop(folder / "home")
    yield folder / "home" / "postgres"
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the server's account may pass through; servers below it are stopped."""
    made = new_folder()
    yield made
    for data in made.rglob("PG_VERSION"):
        if data.parent.name == "postgres" and (data.parent / "postmaster.pid").exists():
            server.stop(data.parents[1])
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def home(folder: Path, cluster: Path) -> Path:
    """A home folder whose cluster exists and is stopped."""
    home = folder / "home"
    home.mkdir(mode=0o711)
    shutil.copytree(cluster, home / "postgres")
    if ROOT:
        owner = cluster.stat()
        for path in [home / "postgres", *(home / "postgres").rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid)
    return home


def answer(url: str, query: str) -> Any:
    with psycopg.connect(url) as conn:
        row = conn.execute(query).fetchone()
    assert row
    return row[0]


# --- Its life -------------------------------------------------------------------------------


def test_the_first_start_makes_everything_and_keeps_it_private(folder: Path) -> None:
    home = folder / "new" / "home"
    assert server.status(home).state == "absent"
    url = server.start(home, UNSAFE_AND_FAST)
    assert answer(url, "SHOW server_encoding") == "UTF8"
    assert answer(url, "SHOW TimeZone") == "UTC"
    assert answer(url, "SELECT 'a' < 'B'") is False
    assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH) == 0
    assert {path.name for path in home.iterdir()} == {"postgres", "server.lock"}


def test_start_stop_start_keeps_the_data(home: Path) -> None:
    url = server.start(home)
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 1 AS one")
    found = server.status(home)
    assert (found.state, found.url, found.version) == ("running", url, "18")
    assert server.stop(home) is True
    assert server.status(home).state == "stopped"
    assert server.stop(home) is False
    assert answer(server.start(home), "SELECT one FROM kept") == 1


def test_it_listens_on_no_network_address_whatever_its_file_says(home: Path) -> None:
    with open(home / "postgres" / "postgresql.conf", "a") as conf:
        conf.write("listen_addresses = '*'\nunix_socket_permissions = 0777\n")
    url = server.start(home)
    assert answer(url, "SHOW listen_addresses") == ""
    assert answer(url, "SHOW unix_socket_permissions") == "0700"


def test_variables_of_the_caller_do_not_steer_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "6000", "PGDATA": "/nowhere", "PGOPTIONS": "-c x=y"}.items():
        monkeypatch.setenv(name, value)
    server.start(home)
    assert server.status(home).state == "running"


def test_its_log_holds_no_statement_and_no_value(home: Path) -> None:
    with psycopg.connect(server.start(home)) as conn, pytest.raises(psycopg.DataError):
        conn.execute("SELECT 'hunter2'::integer")
    server.stop(home)
    assert "hunter2" not in (home / "postgres" / "server.log").read_text()


def test_a_server_that_was_killed_is_started_again(home: Path) -> None:
    server.start(home)
    pid = server.status(home).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    while server.status(home).state == "running":
        time.sleep(0.01)
    assert (home / "postgres" / "postmaster.pid").exists()
    assert answer(server.start(home), "SELECT 1") == 1


def test_a_start_during_a_stop_waits_and_starts_again(home: Path) -> None:
    """Whoever asked it to stop may not hold our lock: an administrator, a machine going down."""
    first = server.start(home)
    pid = server.status(home).pid
    assert pid
    with psycopg.connect(first):
        os.kill(pid, signal.SIGTERM)  # a smart shutdown: it waits for our connection to end
        while (running := server._running(home / "postgres")) and running.ready:
            time.sleep(0.01)
        assert running
        waiting = threading.Thread(target=server.start, args=(home,))
        waiting.start()
        time.sleep(0.1)
    waiting.join(30)
    assert answer(server.start(home), "SELECT 1") == 1
    assert server.status(home).pid != pid


# --- Its sharing ----------------------------------------------------------------------------

START = """
import sys
from pathlib import Path
import psycopg
from exporter.db import account, programs, server
url = server.start(Path(sys.argv[1]))
print(psycopg.connect(url).execute("SELECT pg_postmaster_start_time()::text").fetchone()[0])
"""


def started_by_processes(home: Path, count: int) -> set[str]:
    command = [sys.executable, "-c", START, str(home)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    answers = {process.communicate(timeout=120)[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    return answers


def test_commands_that_start_at_once_share_one_server(home: Path) -> None:
    assert len(started_by_processes(home, 4)) == 1
    assert server.status(home).state == "running"


def test_commands_that_start_at_once_make_one_data_folder(folder: Path) -> None:
    assert len(started_by_processes(folder / "home", 3)) == 1
    assert [path.name for path in (folder / "home").glob("postgres*")] == ["postgres"]


def test_what_a_killed_first_start_left_behind_is_removed(folder: Path) -> None:
    left = folder / "home" / "postgres-new-abc"
    left.mkdir(parents=True)
    (folder / "home").chmod(0o711)
    (left / "PG_VERSION").write_text("18\n")
    server.start(folder / "home", UNSAFE_AND_FAST)
    assert not left.exists()


# --- What stands in its way -----------------------------------------------------------------


def test_a_long_path_gets_a_private_socket_folder_elsewhere(home: Path) -> None:
    long = home.parent / ("x" * 90)
    home.rename(long)
    url = server.start(long)
    assert answer(url, "SELECT 1") == 1
    socket_folder = Path(answer(url, "SHOW unix_socket_directories"))
    assert socket_folder.parent != long
    assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    server.stop(long)
    socket_folder.rmdir()


def test_a_path_with_odd_characters_works(home: Path) -> None:
    odd = home.parent / 'it\'s, "odd" %41 ü'
    home.rename(odd)
    url = server.start(odd)
    assert answer(url, "SELECT 1") == 1
    socket_folder = Path(answer(url, "SHOW unix_socket_directories"))
    server.stop(odd)
    socket_folder.rmdir()


def test_a_data_folder_of_another_major_version_is_left_alone(home: Path) -> None:
    (home / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(errors.DataFolderVersion) as caught:
        server.start(home)
    assert (caught.value.found, caught.value.wanted) == ("16", server.MAJOR)
    assert "pg_upgrade" in str(caught.value)
    assert (home / "postgres" / "PG_VERSION").read_text() == "16\n"


def test_a_version_that_cannot_be_read_is_not_repeated(home: Path) -> None:
    (home / "postgres" / "PG_VERSION").write_bytes(b"\xff\x1b[31m\n")
    with pytest.raises(errors.DataFolderVersion, match="an unknown version"):
        server.start(home)


def test_a_pid_file_with_something_else_in_it_is_told(home: Path) -> None:
    (home / "postgres" / "postmaster.pid").write_text("x\n")
    assert server.status(home).state == "stopped"
    with pytest.raises(errors.ServerStartFailed, match="postmaster"):
        server.start(home)


def test_a_link_to_nowhere_in_the_place_of_the_data_is_told(folder: Path) -> None:
    (folder / "home").mkdir(mode=0o711)
    (folder / "home" / "postgres").symlink_to(folder / "nowhere")
    with pytest.raises(errors.FolderNotWritable) as caught:
        server.start(folder / "home", UNSAFE_AND_FAST)
    assert caught.value.folder == str(folder / "home" / "postgres")
    assert [path.name for path in (folder / "home").glob("postgres-new-*")] == []


@pytest.mark.parametrize("path", ["x" * 300, "x" * 5_000, "x/" * 2_500])
def test_a_path_that_no_system_takes_is_told(folder: Path, path: str) -> None:
    with pytest.raises(errors.FolderNotWritable, match="file name too long"):
        server.start(folder / path)


def test_a_full_disk_is_told_with_the_way_out(folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0711", "tmpfs", str(disk)], check=False
    )
    if made.returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(errors.ServerStartFailed, match="No space left") as caught:
            server.start(disk / "home", UNSAFE_AND_FAST)
        assert "free space" in caught.value.hint
        assert [path.name for path in (disk / "home").iterdir()] == ["server.lock"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("2026 LOG:  x\n2026 FATAL:  no room\n2026 LOG:  bye\n", "no room"),
        ("initdb: error: cannot\ninitdb: removing contents\n", "cannot"),
        ("something\n\n", "something"),
        ("", ""),
    ],
)
def test_the_reason_is_what_the_program_died_of(said: str, reason: str) -> None:
    assert server._reason(said) == reason


def test_a_folder_with_other_files_is_left_alone(folder: Path) -> None:
    (folder / "home" / "postgres").mkdir(parents=True)
    (folder / "home" / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(errors.FolderNotWritable, match="no PostgreSQL cluster"):
        server.start(folder / "home")
    assert (folder / "home" / "postgres" / "letter.txt").read_text() == "dear"


def test_a_file_in_the_place_of_the_folder_is_told(folder: Path) -> None:
    (folder / "home").write_text("")
    with pytest.raises(errors.FolderNotWritable) as caught:
        server.start(folder / "home")
    assert caught.value.folder == str(folder / "home")


def test_a_home_that_cannot_be_made_is_told() -> None:
    with pytest.raises(errors.FolderNotWritable):
        server.start(Path("/proc/no/such"))


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_told(folder: Path) -> None:
    (folder / "home").mkdir(mode=0o500)
    with pytest.raises(errors.FolderNotWritable, match="permission denied"):
        server.start(folder / "home")


@pytest.fixture
def private_home(folder: Path) -> Path:
    """A home that does not exist yet, below a folder that only root may enter."""
    if not ROOT:
        pytest.skip("only root runs the server under another account")
    (folder / "private").mkdir(mode=0o700)
    return folder / "private" / "deep" / "home"


def test_a_home_below_a_private_folder_of_root_works(private_home: Path) -> None:
    """The server's account cannot go there by path, and no folder is opened up for it."""
    url = server.start(private_home, UNSAFE_AND_FAST)
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 1 AS one")
    server.stop(private_home)
    assert answer(server.start(private_home, UNSAFE_AND_FAST), "SELECT one FROM kept") == 1
    assert server.status(private_home).state == "running"
    assert stat.S_IMODE(private_home.parents[1].stat().st_mode) == 0o700


def test_where_no_name_for_the_working_folder_exists_such_a_home_is_told(
    private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "_WORKING_FOLDER", "/no/such")
    with pytest.raises(errors.FolderNotWritable, match="may not enter"):
        server.start(private_home)


@pytest.fixture
def unreachable_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for copies of binaries that the server's account cannot reach where they are."""
    if not ROOT:
        pytest.skip("only root runs the server under another account")
    package = programs.programs_for(None).parents[1]
    reachable = programs.barrier

    def barrier(path: Path, account: Any) -> Path | None:
        return package if path.is_relative_to(package) else reachable(path, account)

    monkeypatch.setattr(programs, "barrier", barrier)
    monkeypatch.setattr(programs, "default_home", lambda: folder / "shared")
    return folder / "shared"


def test_binaries_that_the_servers_account_cannot_reach_are_copied_once(
    home: Path, unreachable_package: Path
) -> None:
    assert answer(server.start(home), "SELECT 1") == 1
    (copy,) = unreachable_package.iterdir()
    before = copy.stat().st_ino
    server.stop(home)
    assert answer(server.start(home), "SELECT 1") == 1
    assert [path.stat().st_ino for path in unreachable_package.iterdir()] == [before]


def test_a_copy_that_somebody_else_could_have_changed_is_not_run(
    home: Path, unreachable_package: Path
) -> None:
    server.start(home)
    server.stop(home)
    (copy,) = unreachable_package.iterdir()
    copy.chmod(0o777)
    with pytest.raises(errors.ServerStartFailed, match="is not root's"):
        server.start(home)


def test_a_configuration_that_does_not_start_names_the_reason_and_the_log(home: Path) -> None:
    with open(home / "postgres" / "postgresql.conf", "a") as conf:
        conf.write("no_such_parameter = 1\n")
    with pytest.raises(errors.ServerStartFailed) as caught:
        server.start(home)
    assert "configuration file" in str(caught.value)
    assert caught.value.log == str(home / "postgres" / "server.log")


def test_a_socket_folder_that_another_user_made_first_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SOCKET_PATH_BYTES", 60)
    monkeypatch.setattr(server.tempfile, "gettempdir", lambda: "/tmp")
    long = home.parent / ("x" * 40)
    home.rename(long)
    uid = (long / "postgres").stat().st_uid
    digest = server.hashlib.sha256(os.fsencode(long / "postgres")).hexdigest()[:12]
    planted = Path("/tmp") / f"exporter-{uid}-{digest}"
    planted.symlink_to(home.parent)
    try:
        with pytest.raises(errors.FolderNotWritable, match="belongs to another user"):
            server.start(long)
    finally:
        planted.unlink()
