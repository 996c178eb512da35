"""``plans``: an empty plan table in a database of the test's own; ``objects``: both kinds of store.

``bucket`` is the address of an empty bucket on moto's server, which one process of tests shares.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.artifacts.objects import Objects
from exporter.settings import Settings
from tests.jobs import stores
from tests.jobs.plans import Plans

_NUMBERS = itertools.count(1)


@pytest.fixture
def plans(settings: Settings) -> Plans:
    """The plan table that the migrations made."""
    return Plans(settings)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of moto's S3, in a process of its own."""
    with stores.moto() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, with the environment that reaches it."""
    name = f"bucket-{next(_NUMBERS)}"
    stores.make_bucket(s3_endpoint, name)
    stores.set_credentials(monkeypatch, s3_endpoint)
    return f"s3://{name}/some/prefix"


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty object store of each kind."""
    if request.param == "file":
        return Objects(str(tmp_path / "objects"))
    return Objects(request.getfixturevalue("bucket"))
