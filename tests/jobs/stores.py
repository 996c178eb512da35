"""Object stores for tests: a folder, and a bucket on moto's server."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

#: Built here so that no scanner takes them for real ones.
ACCESS_KEY, SECRET_KEY = "AKIA" + "EXAMPLE" * 2, "wJalr" + "XUtnFEMI" * 4


@contextmanager
def moto() -> Iterator[str]:
    """Run moto's server while the block runs; gives its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, "moto does not start"
                time.sleep(0.1)
        yield endpoint
    finally:
        # Asked to end it would wait for connections that clients keep; it has nothing to save.
        process.kill()
        process.wait(timeout=30)


def set_credentials(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """The environment of an S3 client, with nothing of the machine's own in it."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")


def make_bucket(endpoint: str, name: str) -> None:
    request = Request(f"{endpoint}/{name}", method="PUT", headers={"Host": "s3.amazonaws.com"})
    urlopen(request, timeout=10).close()


@contextmanager
def without_room(folder: Path) -> Iterator[None]:
    """Let nothing larger than some kilobytes be written to a new folder while the block runs."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
