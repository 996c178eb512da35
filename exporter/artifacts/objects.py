"""An object store, a folder or an S3 bucket, as a place for bytes named by their own hash.

The name of an object ends in the SHA-256 of its bytes, so whoever puts or reads it can tell
whether it is whole, and putting it twice is harmless. Nothing here knows the database; which
objects are in use, and what keeps the collector from them, is `exporter.artifacts.logs`.

What goes wrong becomes an ExporterError in words of our own: the texts of the library and of the
server quote addresses and answers, and are looked at but never passed on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from exporter.errors import BadInput, ObjectStoreError, ObjectStoreUnavailable

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import LocalStore, S3Store

Buffer: TypeAlias = bytes | bytearray | memoryview

ACCEPTED: Final = "a folder such as /srv/objects, or s3://BUCKET/PREFIX"
#: Of one request that gives bytes, from end to end.
REQUEST_TIMEOUT: Final = timedelta(minutes=10)
#: A bucket that lets a request, with what it carries, wait so long is given up. It happens twice
#: in a row at most: to a part, and to the removal of the parts before it.
STALL_TIMEOUT: Final = timedelta(seconds=12)
#: A request that failed is sent again within so long, at most `RETRIES` times.
RETRY_TIMEOUT: Final = timedelta(seconds=2)
RETRIES: Final = 3
#: What is larger goes to a bucket in parts of this size, the least that S3 takes.
PART_BYTES: Final = 5 * 1024 * 1024
_CHUNK = 4 * 1024 * 1024
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]\Z")
_KEY = re.compile(r"[0-9a-f-]{36}/[0-9a-f]{2}/(?P<digest>[0-9a-f]{64})\Z")
_STATUS = re.compile(r"status code: (\d{3})")
_ERRNO = re.compile(r"\(os error (\d+)\)")


class ObjectLost(Exception):
    """There is no object of that name."""


class _NoConditions(Exception):
    """The server cannot write on the condition that there is nothing yet."""


class ObjectDiffers(Exception):
    """The object of that name does not hold the bytes it was named after."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in a list: its key, its size in bytes, and when it was last written."""

    key: str
    size: int
    modified: datetime


def key_of(archive: str, digest: bytes) -> str:
    """The key of an object. `archive` keeps databases that share a store from one another."""
    name = digest.hex()
    return f"{archive}/{name[:2]}/{name}"


def is_key(text: str) -> bool:
    """Whether a name in the store is one of ours."""
    return _KEY.match(text) is not None


class Objects:
    """The objects of one store. Opened when first used; survives the trip to another process.

    `kind` is "file" or "s3"; `place` names the store in messages. Every method may raise
    ObjectStoreUnavailable (no room, no answer) and ObjectStoreError (no right, no such bucket).
    """

    def __init__(self, url: str) -> None:
        """`url` is a folder, file:///FOLDER or s3://BUCKET/PREFIX; raises BadInput for others.

        An S3 store takes endpoint, region and credentials from the usual AWS_* variables.
        """
        self.url = url
        self.kind, self._root, self._prefix = _parse(url)
        self.place = self._root if self.kind == "file" else f"s3://{self._root}/{self._prefix}"
        self.place = self.place.rstrip("/") or "/"
        self._is_conditional = True
        self._opened: LocalStore | S3Store | None = None

    def __reduce__(self) -> tuple[type[Objects], tuple[str]]:
        return Objects, (self.url,)

    def check(self) -> None:
        """Fail now rather than later when the store cannot be used at all."""
        if self.kind == "file":
            self._make_folders("")
        for _ in self.list("0"):
            break

    def put(self, key: str, data: Buffer) -> None:
        """Store bytes under their key, once, and prove by reading back that they are there.

        An object that is there already is proven the same way; when it holds anything else, it is
        replaced, which mends every reference to it. Returns only when the bytes would survive a
        power failure, as far as the store can tell.
        """
        if self.kind == "file":
            self._make_folders(key)
        if not self._is_whole(key, len(data)):
            self._put(key, data, is_new=True)
            if not self._is_whole(key, len(data)):
                self._put(key, data, is_new=False)
                if not self._is_whole(key, len(data)):
                    problem = "it does not give back what was put"
                    raise ObjectStoreUnavailable(self.place, problem)
        if self.kind == "file":
            self._settle(key)

    def read(self, key: str) -> Iterator[bytes]:
        """The bytes of an object in chunks. Raises ObjectLost, and at the end ObjectDiffers."""
        import obstore

        found = _KEY.match(key)
        if found is None:
            raise ObjectLost(key)
        digest = hashlib.sha256()
        with self._told():
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                data = bytes(chunk)
                digest.update(data)
                yield data
        if digest.hexdigest() != found["digest"]:
            raise ObjectDiffers(key)

    def verify(self, key: str) -> None:
        """Read an object to its end. Raises ObjectLost and ObjectDiffers."""
        for _ in self.read(key):
            pass

    def list(self, archive: str) -> Iterator[Stored]:
        """The objects of one database."""
        import obstore

        with self._told(lost_is_empty=True):
            for batch in obstore.list(self._store, prefix=archive):
                for found in batch:
                    yield Stored(found["path"], found["size"], found["last_modified"])

    def has(self, key: str) -> bool:
        """Whether there is an object, whole or not."""
        import obstore

        try:
            with self._told():
                obstore.head(self._store, key)
        except ObjectLost:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already."""
        import obstore

        with self._told(lost_is_empty=True):
            obstore.delete(self._store, key)

    def delete_partial(self, archive: str, before: datetime) -> None:
        """Remove what a killed process had begun to write before a time, in a folder."""
        if self.kind != "file":
            return
        for path in Path(self._root, archive).glob("*/*#*"):
            try:
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failure(error.errno, None) from error

    # --- Inside -----------------------------------------------------------------------------

    @property
    def _store(self) -> LocalStore | S3Store:
        if self._opened is None:
            from obstore.store import LocalStore

            with self._told():
                if self.kind == "file":
                    # The library says no more than that it failed.
                    Path(self._root).stat()
                    self._opened = LocalStore(self._root)
                else:
                    self._opened = self._bucket()
        return self._opened

    def _bucket(self) -> S3Store:
        from obstore.store import S3Store

        # As settings of the store: options of the HTTP client would replace what the environment
        # says of it, AWS_ALLOW_HTTP above all. The library's types do not know the second one.
        timeouts: dict[str, Any] = {"timeout": REQUEST_TIMEOUT, "read_timeout": STALL_TIMEOUT}
        first, longest = timedelta(milliseconds=100), timedelta(seconds=1)
        return S3Store(
            self._root, prefix=self._prefix or None,
            retry_config={
                "max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT,
                "backoff": {"init_backoff": first, "max_backoff": longest, "base": 2},
            },
            **timeouts,
        )  # fmt: skip

    def _put(self, key: str, data: Buffer, *, is_new: bool) -> None:
        """Write an object; a new one only where there is none yet, which is no failure.

        To a bucket a large one goes part by part, each within the stall timeout: so a link that is
        dead is told from one that is slow, and a signal is heard between two parts. Parts are put
        without a condition; what would be overwritten has the same bytes.
        """
        import obstore

        if self.kind == "s3" and len(data) > PART_BYTES:
            with self._told():
                obstore.put(
                    self._store, key, _parts(data), mode="overwrite", use_multipart=True,
                    chunk_size=PART_BYTES, max_concurrency=1,
                )  # fmt: skip
            return
        mode: PutMode = "create" if is_new and self._is_conditional else "overwrite"
        try:
            with self._told(is_conditional=mode == "create"):
                obstore.put(self._store, key, data, mode=mode, use_multipart=False)
        except obstore.exceptions.AlreadyExistsError:
            pass
        except _NoConditions:
            # What would be overwritten meanwhile has the same bytes.
            self._is_conditional = False
            self._put(key, data, is_new=False)

    def _is_whole(self, key: str, size: int) -> bool:
        import obstore

        try:
            with self._told():
                found = obstore.head(self._store, key)
            if found["size"] != size:
                return False
            self.verify(key)
        except (ObjectLost, ObjectDiffers):
            return False
        return True

    def _make_folders(self, key: str) -> None:
        """Folders that only their owner may look into: what they hold may be a raw log."""
        try:
            place = Path(self._root)
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in Path(key).parts[:-1]:
                place /= name
                place.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._failure(error.errno, None) from error

    def _settle(self, key: str) -> None:
        """Bring a file and its name to the disk; the database commits next."""
        path = Path(self._root, key)
        try:
            path.chmod(0o600)
            for place in (path, path.parent, path.parent.parent, Path(self._root)):
                handle = os.open(place, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except OSError as error:
            raise self._failure(error.errno, None) from error

    @contextmanager
    def _told(self, *, lost_is_empty: bool = False, is_conditional: bool = False) -> Iterator[None]:
        """Turn what the library raises into errors of ours."""
        import obstore

        try:
            yield
        except obstore.exceptions.AlreadyExistsError:
            raise
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            text = str(error)
            is_object = self._opened is not None and "NoSuchBucket" not in text
            if isinstance(error, FileNotFoundError) and is_object:
                if lost_is_empty:
                    return
                raise ObjectLost from error
            if is_conditional and "status code: 501" in text:
                raise _NoConditions from error
            number = _ERRNO.search(text)
            code = error.errno if isinstance(error, OSError) else None
            raise self._failure(int(number[1]) if number else code, text) from error

    def _failure(self, number: int | None, text: str | None) -> ObjectStoreError:
        """The error for a number of the system's, or for what the text of another shows."""
        if number is not None:
            return self._system_failure(number)
        text = text or ""
        status = _STATUS.search(text)
        if "://169.254." in text:
            # Without any in the environment the library asks the machine it may be running on.
            problem = "no credentials were found"
            return ObjectStoreError(
                self.place, problem, hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if "NoSuchBucket" in text:
            return ObjectStoreError(self.place, "there is no such bucket")
        if "BadScheme" in text:
            return ObjectStoreError(
                self.place, "its endpoint is no https address",
                hint="correct AWS_ENDPOINT_URL, or set AWS_ALLOW_HTTP=true for plain http",
            )  # fmt: skip
        if status is None:
            return ObjectStoreUnavailable(self.place, "it does not answer")
        return self._answer(int(status[1]))

    def _answer(self, status: int) -> ObjectStoreError:
        if status in (401, 403):
            return ObjectStoreError(
                self.place, "it refuses our credentials",
                hint="check the AWS_* variables and what they may do in this bucket",
            )  # fmt: skip
        if status == 507:
            return ObjectStoreUnavailable(self.place, "there is no room left")
        if status in (408, 409, 425, 429) or status >= 500:
            return ObjectStoreUnavailable(self.place, f"it answers with status {status}")
        return ObjectStoreError(self.place, f"it answers with status {status}")

    def _system_failure(self, number: int) -> ObjectStoreError:
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return ObjectStoreUnavailable(self.place, "there is no room left")
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return ObjectStoreError(self.place, "there is no right to write or read there")
        problem = os.strerror(number).lower()
        if number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
            return ObjectStoreError(self.place, problem)
        return ObjectStoreUnavailable(self.place, problem)


def _parts(data: Buffer) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), PART_BYTES):
        yield view[start : start + PART_BYTES]


def _parse(url: str) -> tuple[str, str, str]:
    """Kind, folder or bucket, and prefix. What is refused is not shown: it may hold a secret."""
    name = "--blob-url or EXPORTER_BLOB_URL"
    scheme, has_scheme, _ = url.partition("://")
    if "\0" in url or "\n" in url or not url.strip():
        raise BadInput(name, "not one line of text", accepted=ACCEPTED)
    if not has_scheme:
        return "file", str(Path(url).expanduser().absolute()), ""
    try:
        parts = urlsplit(url)
        has_secret = "@" in parts.netloc or bool(parts.query) or bool(parts.fragment)
    except ValueError:
        raise BadInput(name, "not a URL", accepted=ACCEPTED) from None
    if has_secret:
        problem = "credentials and parameters do not belong there; AWS_* variables hold them"
        raise BadInput(name, problem, accepted=ACCEPTED)
    if scheme.lower() == "file" and parts.netloc in ("", "localhost") and len(parts.path) > 1:
        return "file", unquote(parts.path), ""
    if scheme.lower() == "s3" and _BUCKET.match(parts.netloc):
        return "s3", parts.netloc, parts.path.strip("/")
    raise BadInput(name, "neither a folder nor a bucket", accepted=ACCEPTED)
