"""What agentsview pushed to a shared PostgreSQL is exported as from its own archive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.compare import compare, document
from tests.interop.flags import FEW, Case
from tests.interop.origin import Origin
from tests.interop.ours import OursInside, Pair
from tests.interop.transcripts import write_home
from tests.interop.widen import widen

#: A push names the pusher's machine where the archive says ``local``, but not in observations,
#: so that worktrees, which are looked up by machine, can be told apart no longer.
LOST_IN_A_PUSH = ("machine", "worktree")

#: Groups of widened sessions whose usage does not depend on an odd time.
USAGE_GROUPS = ("to-", "us-", "du-", "ev-")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, make_database: Callable[..., str]) -> Pair:
    """Parsed transcripts and prices, pushed by the origin and imported from PostgreSQL."""
    origin = Origin(tmp_path_factory.mktemp("pushed"))
    write_home(origin.home)
    origin.sync()
    with origin.build() as archive:
        archive.add_price("claude-opus-4-6", 5, 25, 6.25, 0.5)
        archive.add_price("gpt-5.2-codex", 1.75, 14, 0, 0.175, updated_at="2026-02-11T00:00:00Z")
    return _imported(origin, make_database)


@pytest.fixture(scope="module")
def pushed_widened(
    tmp_path_factory: pytest.TempPathFactory, make_database: Callable[..., str]
) -> Pair:
    """Every odd row there is, pushed by the origin and imported from PostgreSQL."""
    origin = Origin(tmp_path_factory.mktemp("pushed-widened"))
    with origin.build() as archive:
        widen(archive)
    return _imported(origin, make_database)


def _imported(origin: Origin, make_database: Callable[..., str]) -> Pair:
    shared = make_database(migrated=False)
    done = origin.run("pg", "push", AGENTSVIEW_PG_URL=shared, AGENTSVIEW_PG_MACHINE="workshop")
    if "fatal: " in done.stderr and "TLS" in done.stderr:
        pytest.skip("agentsview pushes to a server elsewhere by TLS only")
    assert done.exit == 0, done.stderr
    ours = OursInside(make_database())
    ours.bring(shared)
    return Pair(origin, ours)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_a_pushed_archive_exports_the_same(pushed: Pair, case: Case) -> None:
    """Everything but what a push cannot carry."""
    ours = pushed.ours.export_sessions(*case.flags)
    theirs = pushed.origin.export_sessions(*case.flags)
    assert (ours.exit, ours.stderr) == (theirs.exit, theirs.stderr) == (0, "")
    ours_told, theirs_told = document(ours.stdout), document(theirs.stdout)
    assert theirs_told["sessions"]
    differences = compare(ours_told, theirs_told, LOST_IN_A_PUSH)
    assert not differences, "\n".join(differences[:20])


def test_usage_survives_a_push(pushed_widened: Pair) -> None:
    """Odd usage texts, duplicates and events count as they do in the archive."""
    flags = ("--include-one-shot", "--include-automated", "--all")
    ours = _usage(pushed_widened.ours.export_sessions(*flags).stdout)
    theirs = _usage(pushed_widened.origin.export_sessions(*flags).stdout)
    assert len(theirs) > 60
    differences = compare(ours, theirs)
    assert not differences, "\n".join(differences[:20])


def _usage(text: str) -> dict[str, Any]:
    return {
        row["id"]: row["model_usage"]
        for row in document(text)["sessions"]
        if row["id"].startswith(USAGE_GROUPS)
    }
