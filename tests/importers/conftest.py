"""The source archive and our database behind it, emptied between tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.archives.pipeline import Pipeline


@pytest.fixture(scope="module")
def _pipeline(
    make_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    with Pipeline(make_database(), tmp_path_factory.mktemp("source")) as pipeline:
        yield pipeline


@pytest.fixture
def world(_pipeline: Pipeline) -> Pipeline:
    """An empty source and an empty archive of ours."""
    _pipeline.begin_again()
    return _pipeline
