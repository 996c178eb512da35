"""The PostgreSQL server that tests run against, and databases on it.

Which server, in this order:

- ``--postgres-image postgres:16``: a container, when Docker answers;
- ``EXPORTER_TEST_DATABASE_URL``: a server by URL, whose role may create databases;
- else the embedded one, in a folder made for this run: in memory where there is room, and without
  fsync.

One server serves all xdist workers; it starts when the first test needs it. The schema is built
once as a template database, and each test that commits gets a clone of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from exporter.db import server
from exporter.errors import ExporterError
from exporter.settings import Settings, load

#: Where the processes of one run meet; set by the controller, read by its workers.
FOLDER_VARIABLE = "EXPORTER_TEST_RUN_FOLDER"
URL_VARIABLE = "EXPORTER_TEST_DATABASE_URL"

_PREFIX = "exporter-test-"

#: A file system in memory, and the bytes that must be free on it. A clone of the template is made
#: there in less than half the time that a disk takes.
_MEMORY = Path("/dev/shm")
_DISK = Path("/tmp")
_ROOM = 4 << 30

#: No test outlives its machine, so nothing needs to reach the disk.
UNSAFE_AND_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}


class PostgresRun:
    """The server of one test run, as seen by one of its processes."""

    def __init__(self, folder: Path, worker: str, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.worker = worker
        self._given_url = environ.get(URL_VARIABLE) or None
        self._numbers = itertools.count(1)

    @property
    def embedded(self) -> bool:
        return self._given_url is None

    @functools.cached_property
    def url(self) -> str:
        """URL of the server's maintenance database; starts the embedded server."""
        return self._given_url or server.start(self.folder / "pg", UNSAFE_AND_FAST)

    @functools.cached_property
    def template(self) -> str:
        """Name of the migrated template database, made by whoever comes first."""
        name = f"{self._prefix}_template"
        with self.lock("template"):
            done = self.folder / "template-made"
            if not done.exists():
                self._create(name)
                migrate_database(self.url_of(name))
                done.touch()
        return name

    def create(self, *, migrated: bool = True) -> str:
        """URL of a new database: a clone of the template, or an empty one."""
        name = f"{self._prefix}_{self.worker}_{next(self._numbers)}"
        self._create(name, template=self.template if migrated else None)
        return self.url_of(name)

    def drop(self, url: str) -> None:
        """Drop a database made by create(), even if something is still connected to it."""
        name = urlsplit(url).path.removeprefix("/")
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def url_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def finish(self) -> None:
        """Remove everything the run made; called once, by the controller."""
        if self.embedded:
            server.stop(self.folder / "pg")
        else:
            pattern = self._prefix.replace("_", r"\_") + r"\_%"
            with psycopg.connect(self.url, autocommit=True) as conn:
                query = "SELECT datname FROM pg_database WHERE datname LIKE %s"
                names = [row[0] for row in conn.execute(query, [pattern])]
            for name in names:
                self.drop(self.url_of(name))
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One process of the run at a time."""
        with open(self.folder / f"{name}.lock", "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @property
    def _prefix(self) -> str:
        return "exporter_test_" + self.folder.name.rpartition("-")[2].lower()

    def _create(self, name: str, template: str | None = None) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8' {}")
        in_memory = self.embedded and self.folder.parent == _MEMORY
        # Files are copied as they are, not by way of the log; on a disk that takes longer.
        strategy = sql.SQL("STRATEGY FILE_COPY" if in_memory else "")
        source = sql.Identifier(template or "template0")
        self._execute(statement.format(sql.Identifier(name), source, strategy))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(statement)


def describe(environ: Mapping[str, str]) -> str:
    """The server of the run, for its header; connects to one given by URL, starts none."""
    url = environ.get(URL_VARIABLE)
    if not url:
        return f"PostgreSQL {server.MAJOR}, embedded"
    with psycopg.connect(url, connect_timeout=10) as conn:
        row = conn.execute("SHOW server_version").fetchone()
    assert row
    return f"PostgreSQL {row[0]}, by {URL_VARIABLE}"


def new_folder() -> Path:
    """A short folder, which the server's account may pass through when we are root.

    It is marked with our process, so that remove_left_over() knows whose it was.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_ground()))
    folder.chmod(0o711)
    (folder / "owner").write_text(str(os.getpid()))
    return folder


def _ground() -> Path:
    """Where folders are made: in memory when there is room for a whole run."""
    with contextlib.suppress(OSError):
        if os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM:
            return _MEMORY
    return _DISK


def remove_left_over() -> None:
    """Stop the servers and remove the folders of test processes that were killed."""
    for mark in [mark for place in (_MEMORY, _DISK) for mark in place.glob(f"{_PREFIX}*/owner")]:
        try:
            os.kill(int(mark.read_text()), 0)
        except (ProcessLookupError, ValueError):
            with contextlib.suppress(OSError, ExporterError):
                for data in mark.parent.glob("*/postgres"):
                    server.stop(data.parent)
                shutil.rmtree(mark.parent)
        except OSError:
            continue


def migrate_database(url: str) -> None:
    from exporter.db import migrate

    migrate.upgrade(settings_for(url))


def settings_for(url: str, **variables: str) -> Settings:
    """Settings as the command line would make them, from nothing but the arguments."""
    return load(url, environ=variables)


def start_container(image: str) -> Any:
    """A started container of a PostgreSQL image; raises when Docker does not answer."""
    from testcontainers.community.postgres import PostgresContainer

    return PostgresContainer(image, driver=None).start()


def clean_environment() -> None:
    """Let no variable of the caller's steer a test; embedded defaults point nowhere.

    Compiled files are kept even if the caller wants none: without them each worker and each of the
    many processes that tests start would compile everything again.
    """
    for name in list(os.environ):
        ours = name.startswith("EXPORTER_") and not name.startswith("EXPORTER_TEST_")
        if ours or name.startswith("PG") or name in ("DATABASE_URL", "PYTHONDONTWRITEBYTECODE"):
            del os.environ[name]
    sys.dont_write_bytecode = False
