"""Commands that run within the process of the tests say what a process of their own says."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.interop.compare import compare, document
from tests.interop.ours import Ours, OursInside, Pair

DAY = ("--date", "2026-03-04", "--timezone", "UTC")
ASKED = [
    ("sessions",),
    ("sessions", "--limit", "2"),
    ("sessions", "--format", "ndjson", "--include-one-shot"),
    ("sessions", "--cursor", "nonsense"),
    ("sessions", "--limit", "many"),
    ("usage", "daily", "--all", "--json", "--breakdown", "--timezone", "Asia/Tokyo"),
    ("usage", "daily", "--all"),
    ("usage", "statusline"),
    ("activity", "report", "--json", *DAY),
    ("activity", "report", *DAY),
    ("activity", "report", "--date", "yesterday or so"),
    ("--help",),
    ("nonsense",),
]


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
def test_both_ways_say_the_same(widened: Pair, asked: tuple[str, ...]) -> None:
    """Exit code, standard output and standard error, byte for byte."""
    said = widened.ours.run(*asked)
    assert said == Ours(widened.ours.database_url).run(*asked)
    assert said.stdout or said.stderr


def test_both_ways_bring_the_same(widened: Pair, make_database: Callable[[], str]) -> None:
    """What a process of its own imports is exported like what was imported here."""
    outside = Ours(make_database())
    outside.bring(widened.origin.archive)
    flags = ("--include-one-shot", "--include-automated")
    told, owed = (side.run("sessions", *flags) for side in (outside, widened.ours))
    assert (told.exit, owed.exit) == (0, 0)
    assert len(document(owed.stdout)["sessions"]) > 5
    assert compare(document(told.stdout), document(owed.stdout)) == []


def test_nothing_of_the_surroundings_stays_changed(widened: Pair) -> None:
    """The environment and the handlers of signals are what they were."""

    def now() -> tuple[object, ...]:
        return dict(os.environ), os.getcwd(), *map(signal.getsignal, (2, 15))

    before = now()
    assert isinstance(widened.ours, OursInside)
    widened.ours.run("sessions")
    assert now() == before
