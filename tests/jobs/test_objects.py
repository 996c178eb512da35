"""An object store by itself: what is put is there, and what goes wrong is said without secrets."""

from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.artifacts.objects import ObjectDiffers, ObjectLost, Objects, is_key, key_of
from exporter.errors import BadInput, ExporterError, ObjectStoreError, ObjectStoreUnavailable
from tests.jobs import stores

ARCHIVE = str(uuid.UUID(int=7))
DATA = b"a packed log" * 500


def key(data: bytes = DATA, archive: str = ARCHIVE) -> str:
    return key_of(archive, hashlib.sha256(data).digest())


def read(objects: Objects, name: str) -> bytes:
    return b"".join(objects.read(name))


def listed(objects: Objects) -> list[tuple[str, int]]:
    return [(found.key, found.size) for found in objects.list(ARCHIVE)]


def spoil(objects: Objects, name: str, data: bytes) -> None:
    """Write other bytes under a key, as something else than this program may."""
    import obstore

    obstore.put(objects._store, name, data, mode="overwrite")


# --- Bytes ----------------------------------------------------------------------------------


def test_what_is_put_is_stored_once_and_read_back(objects: Objects) -> None:
    assert is_key(key())
    for data in (DATA, bytearray(DATA), memoryview(DATA)):
        objects.put(key(), data)
    assert read(objects, key()) == DATA
    assert listed(objects) == [(key(), len(DATA))]


def test_nothing_and_much_can_be_put(objects: Objects) -> None:
    large = os.urandom(1_000_000) * 9
    for data in (b"", large):
        objects.put(key(data), data)
        assert read(objects, key(data)) == data


def test_databases_that_share_a_store_do_not_see_one_another(objects: Objects) -> None:
    other = key(archive=str(uuid.UUID(int=8)))
    objects.put(other, DATA)
    assert listed(objects) == []


@pytest.mark.parametrize("other", [b"b" * len(DATA), b"cut", b""], ids=["same size", "cut", "none"])
def test_other_bytes_than_those_put_are_found_and_put_right(objects: Objects, other: bytes) -> None:
    objects.put(key(), DATA)
    spoil(objects, key(), other)
    with pytest.raises(ObjectDiffers):
        read(objects, key())
    objects.put(key(), DATA)
    assert read(objects, key()) == DATA


def test_what_is_not_there_is_lost_and_can_be_removed(objects: Objects) -> None:
    objects.put(key(), DATA)
    objects.delete(key())
    objects.delete(key())
    for name in (key(), "no/key", "../etc/passwd"):
        with pytest.raises(ObjectLost):
            read(objects, name)
    assert listed(objects) == []


def test_a_store_goes_to_another_process(objects: Objects) -> None:
    objects.put(key(), DATA)
    copy = pickle.loads(pickle.dumps(objects))
    assert (copy.kind, copy.place) == (objects.kind, objects.place)
    assert read(copy, key()) == DATA


def test_a_folder_is_made_and_only_for_its_owner(tmp_path: Path) -> None:
    objects = Objects(str(tmp_path / "new" / "store"))
    objects.put(key(), DATA)
    path = tmp_path / "new" / "store" / key()
    assert path.read_bytes() == DATA
    modes = [place.stat().st_mode & 0o777 for place in (path, path.parent, path.parents[2])]
    assert modes == [0o600, 0o700, 0o700]


# --- Addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind", "place"),
    [
        ("/srv/objects", "file", "/srv/objects"),
        ("file:///srv/my%20objects", "file", "/srv/my objects"),
        ("s3://bucket", "s3", "s3://bucket"),
        ("s3://bucket/a/b/", "s3", "s3://bucket/a/b"),
    ],
)
def test_folders_and_buckets_are_understood(url: str, kind: str, place: str) -> None:
    objects = Objects(url)
    assert (objects.kind, objects.place) == (kind, place)


@pytest.mark.parametrize(
    "url",
    ["", "s3://", "s3://B!", "https://host/x", "file://host/x", "file:///", "s3://[x", "a\0b"],
)
def test_what_can_be_no_store_is_refused(url: str) -> None:
    with pytest.raises(BadInput):
        Objects(url)


@pytest.mark.parametrize("url", ["s3://{}:{}@bucket/x", "s3://bucket/x?key={}&secret={}"])
def test_credentials_in_an_address_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        Objects(url.format(stores.ACCESS_KEY, stores.SECRET_KEY))
    assert stores.SECRET_KEY not in str(caught.value)
    assert stores.ACCESS_KEY not in str(caught.value)


# --- What goes wrong ------------------------------------------------------------------------


def failure(objects: Objects) -> ObjectStoreError:
    with pytest.raises(ObjectStoreError) as caught:
        objects.put(key(), DATA)
    shown = str(caught.value)
    assert stores.SECRET_KEY not in shown and stores.ACCESS_KEY not in shown
    assert "\n" not in shown and "obstore" not in shown
    assert objects.place in shown
    return caught.value


def test_a_full_disk_is_worth_another_try_and_leaves_nothing(tmp_path: Path) -> None:
    large = os.urandom(200_000)
    objects = Objects(str(tmp_path / "small"))
    with stores.without_room(tmp_path / "small"):
        with pytest.raises(ObjectStoreUnavailable, match="no room left"):
            objects.put(key(large), large)
        assert listed(objects) == []
    objects.put(key(large), large)
    assert read(objects, key(large)) == large


def test_a_folder_that_is_away_is_said_and_not_made_by_reading(tmp_path: Path) -> None:
    objects = Objects(str(tmp_path / "away"))
    for act in (lambda: read(objects, key()), lambda: listed(objects)):
        with pytest.raises(ObjectStoreUnavailable, match="no such file or directory"):
            act()
    assert not (tmp_path / "away").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        error = failure(Objects(str(tmp_path / place)))
        assert not error.retryable


def test_a_folder_without_the_right_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    # Root may write there; to the kernel's own folders nobody may.
    error = failure(Objects(str(Path("/sys") if os.geteuid() == 0 else closed) + "/objects"))
    assert error.problem == "there is no right to write or read there"
    assert not error.retryable


def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    objects = Objects("s3://no-such-bucket/x")
    assert failure(objects).problem == "there is no such bucket"
    with pytest.raises(ObjectStoreError, match="no such bucket"):
        objects.check()


def test_a_server_that_does_not_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stores.set_credentials(monkeypatch, "http://127.0.0.1:9")
    error = failure(Objects("s3://bucket/x"))
    assert (error.problem, error.retryable) == ("it does not answer", True)


def test_plain_http_needs_to_be_allowed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    error = failure(Objects(bucket))
    assert "AWS_ALLOW_HTTP" in error.hint
    assert not error.retryable


class _Answer(http.server.BaseHTTPRequestHandler):
    status = 200
    methods: tuple[str, ...] = ()
    seen: list[str] = []  # noqa: RUF012 - shared on purpose

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b"" if self.command == "HEAD" else f"<Error>{stores.SECRET_KEY}</Error>".encode()
        is_meant = self.command in self.methods
        self.send_response(self.status if is_meant else 404)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Answer]]:
    """A server that answers puts with a status of the test's choice, and heads with 404."""

    class Answer(_Answer):
        methods = ("PUT",)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stores.set_credentials(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield Answer
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "problem", "is_passing"),
    [
        (401, "it refuses our credentials", False),
        (403, "it refuses our credentials", False),
        (400, "it answers with status 400", False),
        (429, "it answers with status 429", True),
        (500, "it answers with status 500", True),
        (501, "it answers with status 501", True),
        (503, "it answers with status 503", True),
        (507, "there is no room left", True),
    ],
)
def test_what_a_server_answers_is_told_in_our_own_words(
    answering: type[_Answer], status: int, problem: str, is_passing: bool
) -> None:
    answering.status = status
    error = failure(Objects("s3://bucket/x"))
    assert (error.problem, error.retryable) == (problem, is_passing)


def test_a_server_that_forgets_what_it_took_is_not_believed(answering: type[_Answer]) -> None:
    answering.status = 200
    assert failure(Objects("s3://bucket/x")).problem == "it does not give back what was put"


def test_every_failure_is_an_error_of_ours() -> None:
    assert issubclass(ObjectStoreUnavailable, ObjectStoreError)
    assert issubclass(ObjectStoreError, ExporterError)
