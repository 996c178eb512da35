"""Fixtures and options for all tests.

``conn``           a connection inside a transaction that is rolled back: the cheap default.
``database_url``   a migrated database of the test's own, for commits, workers and processes.
``settings``       Settings for that database.
``make_database``  as many more as a test or a module wants, migrated or empty.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.db import connect
from exporter.settings import Settings
from tests import postgres

RUN = pytest.StashKey[postgres.PostgresRun]()
CONTAINER = pytest.StashKey[Any]()
SERVER = pytest.StashKey[str]()

MakeDatabase = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres-image",
        metavar="IMAGE",
        help="run against a container of this image, such as postgres:16, instead of the"
        " embedded server (needs Docker)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell makes what it starts in the background ignore SIGINT, and our children would, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not _is_worker(config):
        _begin_run(config)
    folder = Path(os.environ[postgres.FOLDER_VARIABLE])
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    config.stash[RUN] = postgres.PostgresRun(folder, worker, os.environ)


def pytest_report_header(config: pytest.Config) -> str:
    # Workers have a header too, which nobody sees; only the main process knows the server.
    return "" if _is_worker(config) else f"server: {config.stash[SERVER]}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config) or RUN not in config.stash:
        return
    config.stash[RUN].finish()
    if CONTAINER in config.stash:
        config.stash[CONTAINER].stop()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _begin_run(config: pytest.Config) -> None:
    """Choose server and folder; the workers inherit both through the environment.

    A server given by URL that cannot be reached ends the run at once.
    """
    postgres.clean_environment()
    image = config.getoption("--postgres-image")
    if image:
        try:
            container = postgres.start_container(image)
        except Exception as error:
            raise pytest.UsageError(f"--postgres-image: Docker does not answer: {error}") from error
        config.stash[CONTAINER] = container
        os.environ[postgres.URL_VARIABLE] = container.get_connection_url()
    postgres.remove_left_over()
    try:
        config.stash[SERVER] = postgres.describe(os.environ)
    except psycopg.Error as error:
        pytest.exit(f"no test server: {error}", returncode=4)
    folder = postgres.new_folder()
    os.environ[postgres.FOLDER_VARIABLE] = str(folder)
    # Whatever forgets to name its database meets an empty home, never the real one.
    os.environ["EXPORTER_HOME"] = str(folder / "home")


@pytest.fixture(scope="session")
def postgres_run(pytestconfig: pytest.Config) -> postgres.PostgresRun:
    """The server of this run, for the few tests that need more than a database."""
    return pytestconfig.stash[RUN]


@pytest.fixture(scope="session")
def make_database(postgres_run: postgres.PostgresRun) -> MakeDatabase:
    """Make databases: ``make_database()`` is migrated, ``make_database(migrated=False)`` empty.

    Returns the URL. They go when the run removes everything it made.
    """
    return postgres_run.create


@pytest.fixture
def database_url(postgres_run: postgres.PostgresRun) -> Iterator[str]:
    """URL of a migrated database that only this test uses."""
    url = postgres_run.create()
    yield url
    postgres_run.drop(url)


@pytest.fixture
def empty_database_url(postgres_run: postgres.PostgresRun) -> Iterator[str]:
    """URL of an empty database that only this test uses."""
    url = postgres_run.create(migrated=False)
    yield url
    postgres_run.drop(url)


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Settings for ``database_url``."""
    return postgres.settings_for(database_url)


@pytest.fixture(scope="session")
def _shared_database_url(make_database: MakeDatabase) -> str:
    return make_database()


@pytest.fixture
def conn(_shared_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a migrated database, inside a transaction that is rolled back at the end.

    ``with conn.transaction()`` inside becomes a savepoint, so code that commits by that block can
    be tested with it; code that needs two connections cannot.
    """
    with (
        connect.session(postgres.settings_for(_shared_database_url)) as connection,
        connection.transaction(force_rollback=True),
    ):
        yield connection
