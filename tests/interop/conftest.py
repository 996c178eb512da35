"""The two programs, each with its data, for tests that hold them side by side.

``origin``        agentsview in an empty home of the test's own
``ours``          our command line on an empty database of the test's own, within this process
``widened``       both with the same rich archive, made once per module
``unpriced``      the same without price rows, so that the built-in prices count

Every test of this folder is marked ``interop``, and skipped where agentsview is not installed
(``pip install 'exporter[interop]'``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.origin import Origin, program
from tests.interop.ours import Ours, OursInside, Pair
from tests.interop.transcripts import write_home
from tests.interop.widen import price, widen

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(
        reason="agentsview is not installed: pip install 'exporter[interop]'"
    )
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)
            if program() is None:
                item.add_marker(missing)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    """agentsview without any data."""
    made = Origin(tmp_path / "home")
    yield made
    made.stop()


@pytest.fixture
def ours(database_url: str) -> Ours:
    """Our command line on a database without any data."""
    return OursInside(database_url)


@pytest.fixture(scope="module")
def widened(
    tmp_path_factory: pytest.TempPathFactory, make_database: Callable[[], str]
) -> Iterator[Pair]:
    """Parsed transcripts, every odd row there is, and prices."""
    yield from _pair(tmp_path_factory.mktemp("widened"), make_database, prices=True)


@pytest.fixture(scope="module")
def unpriced(
    tmp_path_factory: pytest.TempPathFactory, make_database: Callable[[], str]
) -> Iterator[Pair]:
    """Parsed transcripts, every odd row there is, and an empty price table."""
    yield from _pair(tmp_path_factory.mktemp("unpriced"), make_database, prices=False)


def _pair(home: Path, make_database: Callable[[], str], prices: bool) -> Iterator[Pair]:
    write_home(home)
    origin = Origin(home)
    try:
        origin.sync()
        with origin.build() as archive:
            widen(archive)
            if prices:
                price(archive)
        ours = OursInside(make_database())
        ours.bring(origin.archive)
        yield Pair(origin, ours)
    finally:
        origin.stop()
