"""``world``: an empty source archive and our empty database, with the export command behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.archives.pipeline import Pipeline


@pytest.fixture(scope="session")
def _pipeline(
    make_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    with Pipeline(make_database(), tmp_path_factory.mktemp("pipeline")) as pipeline:
        yield pipeline


@pytest.fixture
def world(_pipeline: Pipeline) -> Pipeline:
    """The road from a source to its export; nothing is on it yet."""
    _pipeline.begin_again()
    return _pipeline
