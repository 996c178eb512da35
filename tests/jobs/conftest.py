"""``plans``: an empty plan table in a database of the test's own."""

from __future__ import annotations

import pytest

from exporter.settings import Settings
from tests.jobs.plans import Plans


@pytest.fixture
def plans(settings: Settings) -> Plans:
    """The plan table that the migrations made."""
    return Plans(settings)
