"""A throw-away PostgreSQL cluster that wants passwords over TCP, as no embedded one does."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

PASSWORD = "right-hunter2"


def debian_programs() -> Path | None:
    """The folder with the newest PostgreSQL that Debian's packages installed; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def password_cluster(programs: Path) -> Iterator[str]:
    """URL of a running cluster on the loopback interface, with its password in it."""
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    as_account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    extra = as_account if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="exporter-cluster-", dir="/tmp") as name:
        folder = Path(name)
        secret = folder / "password"
        secret.write_text(PASSWORD + "\n")
        if extra:
            for path in (folder, secret):
                os.chown(path, account.pw_uid, account.pw_gid)
        data = folder / "data"
        subprocess.run(
            [
                *(programs / "initdb", "-D", data, "-U", "owner", "--encoding=UTF8"),
                *("--locale=C", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **extra,
        )
        port = _free_port()
        process = subprocess.Popen(
            [
                *(programs / "postgres", "-D", data, "-p", str(port), "-k", ""),
                *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **extra,
        )
        try:
            url = f"postgresql://owner:{PASSWORD}@127.0.0.1:{port}/postgres"
            _wait_for(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the cluster did not start"
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError("the cluster does not answer")
