"""The embedded PostgreSQL server: start, find, stop.

The rules of one embedded server:

- It belongs to one home folder, whose ``postgres`` sub-folder is its data.
- It is started by the first command that needs it and **keeps running** until ``exporter db stop``
  (or until the machine stops, or its folder is deleted). Commands share it and none stops it at
  its end: no command can pull it from under another, and a warm command does not wait for a start.
- It listens on a Unix socket in a private folder and on nothing else, whatever its configuration
  file says. Whoever may enter that folder may connect: the file system is the password.
- Its log names no statement and no value, only what went wrong with the server itself.
- As root it runs under another account, since PostgreSQL refuses to be root (``account.py``).
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from exporter.db.account import Account, as_seen_by, is_root, server_account
from exporter.db.programs import MAJOR, programs_for
from exporter.errors import DataFolderVersion, FolderNotWritable, ServerStartFailed

USER = "exporter"
DATABASE = "postgres"

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_LOCK_SECONDS = 120.0
_ORPHAN_SECONDS = 10.0
_POLL_SECONDS = 0.005
#: sun_path holds 104 bytes on macOS and 108 on Linux, the closing NUL included.
_SOCKET_PATH_BYTES = 103
_SOCKET_NAME = ".s.PGSQL.5432"

#: Written into a new cluster's configuration; its owner may change them there.
_DEFAULTS: Mapping[str, str] = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # "log" ranks above "error": a failed statement may quote values, and leaves no line.
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


#: Servers that this process started.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What :func:`status` found."""

    state: Literal["absent", "stopped", "running"]
    home: Path
    data_folder: Path
    #: Major version that the data folder belongs to; None when there is no data folder.
    version: str | None = None
    pid: int | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """A server that answers on its socket."""

    pid: int
    socket_folder: str
    ready: bool

    @property
    def url(self) -> str:
        folder = quote(self.socket_folder, safe="")
        return f"postgresql://{USER}@/{DATABASE}?host={folder}&port=5432"


def start(home: Path, options: Mapping[str, str] | None = None) -> str:
    """URL of the embedded server of ``home``; starts it, and makes its data folder, when needed.

    ``options`` are server settings for this start, such as ``{"fsync": "off"}``; they are ignored
    when the server runs already. Safe to call from several processes at once: one starts it, the
    others wait. Raises FolderNotWritable, DataFolderVersion or ServerStartFailed.
    """
    data = home / "postgres"
    running = _running(data)
    if running and running.ready:
        return running.url
    if sys.platform == "win32":
        raise ServerStartFailed("it needs Unix sockets")
    account = server_account(data)
    _make_home(home)
    with _locked(home):
        running = _settled(data)
        if running is None:
            programs = programs_for(account)
            if not _version(data):
                _initialise(home, data, programs, account)
            _check_version(data)
            running = _launch_patiently(data, programs, account, options or {})
        return running.url


def stop(home: Path) -> bool:
    """Stop the embedded server of ``home``; False when none runs.

    Open transactions are rolled back and their commands fail with a lost connection.
    """
    data = home / "postgres"
    if _running(data) is None:
        return False
    with _locked(home):
        running = _running(data)
        if running is None:
            return False
        try:
            os.kill(running.pid, signal.SIGINT)
        except PermissionError as error:
            raise FolderNotWritable(str(data), "its server belongs to another user") from error
        deadline = time.monotonic() + _STOP_SECONDS
        while (data / "postmaster.pid").exists():
            if time.monotonic() > deadline:
                raise ServerStartFailed("it is still stopping", log=str(data / "server.log"))
            time.sleep(_POLL_SECONDS)
    return True


def status(home: Path) -> ServerStatus:
    """Look at the embedded server of ``home`` without starting or making anything."""
    data = home / "postgres"
    version = _version(data)
    running = _running(data)
    if running:
        return ServerStatus("running", home, data, version, running.pid, running.url)
    return ServerStatus("stopped" if version else "absent", home, data, version)


# --- Finding a running server ---------------------------------------------------------------


def _running(data: Path) -> _Postmaster | None:
    """The server of a data folder if it accepts connections on its socket.

    The pid file alone proves nothing: after a crash its number may belong to any process.
    """
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise FolderNotWritable(str(data), "it belongs to another user") from error
    except OSError as error:
        raise FolderNotWritable(str(data), (error.strerror or "unreadable").lower()) from error
    if len(lines) < 6 or not lines[0].strip().isdigit():
        return None
    folder = os.path.normpath(data / lines[4].strip())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.path.join(folder, _SOCKET_NAME))
        except OSError:
            return None
    ready = len(lines) >= 8 and lines[7].strip() == "ready"
    return _Postmaster(int(lines[0]), folder, ready)


def _settled(data: Path) -> _Postmaster | None:
    """The server once it is ready, or None once it is gone: it may be on the way to either."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        running = _running(data)
        if running is None or running.ready:
            return running
        if time.monotonic() > deadline:
            problem = "it has been starting or stopping for a minute"
            raise ServerStartFailed(problem, log=str(data / "server.log"))
        time.sleep(_POLL_SECONDS)


def _version(data: Path) -> str | None:
    try:
        return (data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problem = "it belongs to another user" if isinstance(error, PermissionError) else None
        problem = problem or (error.strerror or "unreadable").lower()
        raise FolderNotWritable(str(data), problem) from error


def _check_version(data: Path) -> None:
    found = _version(data)
    if found != str(MAJOR):
        named = found if found and re.fullmatch(r"[0-9.]{1,10}", found) else "an unknown version"
        raise DataFolderVersion(str(data), named, MAJOR)


# --- Folders, locks and accounts ------------------------------------------------------------


def _make_home(home: Path) -> None:
    """Make the home folder, private to its owner; as root, others may pass through, not look."""
    try:
        home.mkdir(mode=0o711 if is_root() else 0o700, parents=True, exist_ok=True)
        found = home.stat()
        if is_root() and found.st_uid == 0 and not found.st_mode & stat.S_IXOTH:
            home.chmod(found.st_mode | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise FolderNotWritable(str(home), (error.strerror or "unusable").lower()) from error


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the one lock of a home folder, so that one process starts, makes or stops the server.

    The kernel drops the lock when its holder dies, whatever way.
    """
    import fcntl

    try:
        handle = os.open(home / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderNotWritable(str(home), (error.strerror or "unusable").lower()) from error
    try:
        if is_root():
            # Root in somebody's home must not leave a lock there that its owner cannot take.
            os.fchown(handle, home.stat().st_uid, home.stat().st_gid)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerStartFailed(
                        "another command is starting it and does not end"
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(handle)


# --- Making and launching ---------------------------------------------------------------


def _environment() -> dict[str, str]:
    """What the server's processes see: no PG* variable of the caller may steer them."""
    kept = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
    return {**{key: os.environ[key] for key in kept if key in os.environ}, "LC_ALL": "C"}


def _initialise(home: Path, data: Path, programs: Path, account: Account | None) -> None:
    """Run initdb beside the final place, then move it there: a kill leaves no half cluster."""
    if data.exists() and any(data.iterdir()):
        raise FolderNotWritable(str(data), "it holds something that is no PostgreSQL cluster")
    for stale in home.glob("postgres-new-*"):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        fresh = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=home))
        if account:
            os.chown(fresh, account.uid, account.gid)
    except OSError as error:
        raise FolderNotWritable(str(home), (error.strerror or "unusable").lower()) from error
    command = [
        *(str(programs / "initdb"), "--pgdata", as_seen_by(account, fresh), "--username", USER),
        *("--auth", "trust", "--encoding", "UTF8", "--locale", "C"),
        *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-instructions"),
        *(f"--set={name}={value}" for name, value in _DEFAULTS.items()),
    ]
    try:
        done = _run(command, fresh, account)
        if done.returncode:
            raise ServerStartFailed(_reason(done.stderr) or "initdb failed")
        if data.exists():
            data.rmdir()
        fresh.rename(data)
    except OSError as error:
        raise FolderNotWritable(str(data), (error.strerror or "unusable").lower()) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _run(
    command: Sequence[str], folder: Path, account: Account | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=folder,
        env=_environment(),
        umask=0o077,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _launch_patiently(
    data: Path, programs: Path, account: Account | None, options: Mapping[str, str]
) -> _Postmaster:
    """Launch; after a server was killed, wait some seconds for the last of its processes to go."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while True:
        # A dead child of ours would still count as a running server until we ask for its status.
        _started[:] = [process for process in _started if process.poll() is None]
        try:
            return _launch(data, programs, account, options)
        except ServerStartFailed as error:
            held = "still in use" in error.message or "already exists" in error.message
            if not held or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _launch(
    data: Path, programs: Path, account: Account | None, options: Mapping[str, str]
) -> _Postmaster:
    """Start the server process, detached from us and our terminal, and wait until it is ready."""
    settings = {
        **options,
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": _socket_folder(data, account),
        "unix_socket_permissions": "0700",
    }
    arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    log = data / "server.log"
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > 1_000_000:
            log.unlink()
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        if account:
            os.chown(log, account.uid, account.gid)
        beginning = output.tell()
        process = subprocess.Popen(
            [str(programs / "postgres"), "-D", as_seen_by(account, data), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=data,
            env=_environment(),
            umask=0o077,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    _started.append(process)
    return _wait_until_ready(data, lambda: _check_alive(process, log, beginning))


@atexit.register
def _let_go() -> None:
    """A server outlives the process that started it: Python must not warn that it still runs."""
    for process in _started:
        if process.poll() is None:
            process.returncode = 0


def _check_alive(process: subprocess.Popen[bytes], log: Path, beginning: int) -> None:
    if process.poll() is None:
        return
    with open(log, "rb") as text:
        text.seek(beginning)
        reason = _reason(text.read().decode("utf-8", "replace"))
    raise ServerStartFailed(reason or f"exit status {process.returncode}", log=str(log))


def _wait_until_ready(data: Path, check_alive: Callable[[], None]) -> _Postmaster:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        running = _running(data)
        if running and running.ready:
            return running
        check_alive()
        if time.monotonic() > deadline:
            problem = "it is still recovering" if running else "it does not answer"
            raise ServerStartFailed(f"{problem} after 60 seconds", log=str(data / "server.log"))
        time.sleep(_POLL_SECONDS)


def _socket_folder(data: Path, account: Account | None) -> str:
    """A private folder for the socket: the data folder, or one with a short and plain path.

    Clients reach it by its path, which has a limit, and which libpq splits at commas.
    """
    path = os.fsencode(data / _SOCKET_NAME)
    if len(path) <= _SOCKET_PATH_BYTES and b"," not in path:
        # The server's working folder: its name needs no quoting, and its path no permission.
        return "."
    uid = account.uid if account else os.geteuid()
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"exporter-{uid}-{digest}"
    if len(os.fsencode(folder / _SOCKET_NAME)) > _SOCKET_PATH_BYTES:
        raise FolderNotWritable(str(data), "its path is too long for a Unix socket")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if account and folder.lstat().st_uid == 0:
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
        found = folder.lstat()
    except OSError as error:
        raise FolderNotWritable(str(folder), (error.strerror or "unusable").lower()) from error
    # Another user may have made it first, to listen in our place.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise FolderNotWritable(str(folder), "it belongs to another user")
    return str(folder)


def _reason(text: str) -> str:
    """The last line that says why, without time stamp and severity; else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for severity in ("PANIC:", "FATAL:", "error:"):
        said = [line.partition(severity)[2].strip() for line in lines if severity in line]
        if said:
            return said[-1]
    return lines[-1] if lines else ""
