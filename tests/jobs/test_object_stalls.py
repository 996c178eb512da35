"""A bucket that stops answering: told within the time that a worker has to end."""

from __future__ import annotations

import signal
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from exporter.artifacts import objects as objects_module
from exporter.artifacts.objects import PART_BYTES, Objects, key_of
from exporter.errors import ObjectStoreUnavailable
from tests.jobs import stores

#: What a worker has between SIGTERM and its end, in seconds.
WORKER_SECONDS = 30.0
#: In place of the real one, which nobody wants to wait for.
STALL = 1.0
KEY = key_of("0" * 36, bytes(32))
LARGE = bytes(PART_BYTES) * 3 + b"end"

STARTED = (
    b"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId>"
    b"</InitiateMultipartUploadResult>"
)
COMPLETED = b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"


class Bucket:
    """A server that takes requests, says what it was asked, and hangs where it is told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        #: Whether a request, by its first line, is never answered.
        self.hangs: Callable[[str], bool] = lambda line: False
        #: Seconds before any other answer.
        self.delay = 0.0
        self.over = threading.Event()

    def serve(self, reader: Any, writer: Any) -> None:
        while line := reader.readline().decode().rsplit(" ", 1)[0]:
            size = 0
            while header := reader.readline().strip().lower():
                if header.startswith(b"content-length:"):
                    size = int(header.partition(b":")[2])
            self.seen.append(line)
            if self.hangs(line):
                # The body stays unread, as on a link that died.
                self.over.wait()
                return
            reader.read(size)
            time.sleep(self.delay)
            status = b"404 Not Found" if line.startswith("HEAD") else b"200 OK"
            body = b""
            if line.startswith("POST"):
                body = STARTED if line.endswith("uploads=") else COMPLETED
            head = b'HTTP/1.1 %s\r\nETag: "1"\r\ncontent-length: %d\r\n\r\n'
            writer.write(head % (status, len(body)) + body)


@contextmanager
def running(bucket: Bucket) -> Iterator[str]:
    """Run the server while the block runs; gives its address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            bucket.serve(self.rfile, self.wfile)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        bucket.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def stalling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    bucket = Bucket()
    monkeypatch.setattr(objects_module, "STALL_TIMEOUT", timedelta(seconds=STALL))
    monkeypatch.setattr(objects_module, "RETRY_TIMEOUT", timedelta(seconds=0.2))
    with running(bucket) as endpoint:
        stores.set_credentials(monkeypatch, endpoint)
        yield bucket


def put(data: bytes) -> float:
    """Put an object into a bucket that fails; returns the seconds until that is told."""
    started = time.monotonic()
    with pytest.raises(ObjectStoreUnavailable, match="it does not answer"):
        Objects("s3://bucket/x").put(KEY, data)
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("method", "size"), [("HEAD", 10), ("PUT", 10), ("HEAD", len(LARGE)), ("POST", len(LARGE))]
)
def test_a_bucket_that_takes_a_request_and_never_answers_is_told_after_one_stall(
    stalling: Bucket, method: str, size: int
) -> None:
    stalling.hangs = lambda line: line.startswith(method)
    seconds = put(LARGE[:size])
    assert STALL <= seconds < 2 * STALL + 1
    assert len(stalling.seen) <= 3, "what stalled is not sent again"


def test_a_link_that_dies_in_the_middle_of_a_large_object_is_told_after_two_stalls(
    stalling: Bucket,
) -> None:
    stalling.hangs = lambda line: "partNumber=2" in line or line.startswith("DELETE")
    assert 2 * STALL <= put(LARGE) < 3 * STALL
    assert stalling.seen[-1].startswith("DELETE"), "its parts were to be removed"


def test_the_time_until_a_dead_link_is_told_is_less_than_a_worker_has_to_end() -> None:
    # Failures that pass, one more try at their end that stalls, and the parts that stay.
    stall = objects_module.STALL_TIMEOUT.total_seconds()
    retries = objects_module.RETRY_TIMEOUT.total_seconds() + 1.0
    assert 2 * stall + retries < WORKER_SECONDS


def test_a_slow_bucket_that_goes_on_takes_longer_than_any_stall(
    stalling: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([False, True])
    monkeypatch.setattr(Objects, "_is_whole", lambda self, key, size: next(looks))
    stalling.delay = 0.6 * STALL
    started = time.monotonic()
    Objects("s3://bucket/x").put(KEY, LARGE)
    assert time.monotonic() - started > 2 * STALL
    assert sum("partNumber" in line for line in stalling.seen) == 4


def test_an_interrupt_is_heard_between_two_parts_and_the_parts_are_removed(
    stalling: Bucket,
) -> None:
    stalling.delay = 0.4
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(KeyboardInterrupt):
            Objects("s3://bucket/x").put(KEY, LARGE * 3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stalling.seen[-1].startswith("DELETE")
    assert sum("partNumber" in line for line in stalling.seen) < 6
