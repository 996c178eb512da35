"""What a backfill does only when asked: salvage cut archives, derive overviews that are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from exporter.artifacts import store
from exporter.errors import ExporterError
from exporter.jobs import ledger
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.archives.sample_plans import archive, log_of, overview_of
from tests.core.test_runzip_builders import LOG_DATA, SNAPSHOT, Part, build, snapshot
from tests.jobs.plans import Plans

# --- Salvage --------------------------------------------------------------------------------


def test_a_cut_archive_gives_its_whole_members_to_the_originals_and_stays_refused(
    plans: Plans,
) -> None:
    plan = plans.add(snapshot()[:-30])
    before = plans.row(plan)
    summary = plans.run(SnapshotSplit(salvages=True))
    assert dict(summary.tally.outcomes) == {"QUARANTINED": 1}
    assert plans.item(plan)[:3] == ("quarantined", "QUARANTINED", "ZIP_TRUNCATED")
    assert plans.row(plan) == before
    found = {path: (kind, body) for kind, path, body in plans.originals(plan)}
    assert found == {
        part.name.decode(): ("log" if part.data == LOG_DATA else "member", part.data)
        for part in SNAPSHOT
    }
    with plans.opened() as conn:
        assert ledger.quarantined(conn)[0]["facts"]["salvaged"] == len(SNAPSHOT)
        with pytest.raises(ExporterError, match="content_unavailable"):
            store.download(conn, plan)
        with pytest.raises(ExporterError, match="has no log"):
            store.read_log(conn, plan, "")


def test_without_being_asked_nothing_is_salvaged(plans: Plans) -> None:
    plan = plans.add(snapshot()[:-30])
    plans.run()
    assert plans.originals(plan) == []
    with plans.opened() as conn:
        assert ledger.requeue(conn, "ZIP_TRUNCATED") == 1
    for _ in range(2):
        plans.run(SnapshotSplit(salvages=True))
        with plans.opened() as conn:
            ledger.requeue(conn, "ZIP_TRUNCATED")
    assert len(plans.originals(plan)) == len(SNAPSHOT), "each once, however often it is tried"


def test_only_a_cut_archive_is_salvaged(plans: Plans) -> None:
    broken = build(*SNAPSHOT[:1], Part(SNAPSHOT[1].name, LOG_DATA, crc=1), *SNAPSHOT[2:])
    plan = plans.add(broken)
    plans.run(SnapshotSplit(salvages=True))
    assert plans.item(plan)[2] == "LOG_CORRUPT"
    assert plans.originals(plan) == []


def test_a_dry_run_salvages_nothing(plans: Plans) -> None:
    plan = plans.add(snapshot()[:-30])
    plans.run(SnapshotSplit(salvages=True), is_dry_run=True)
    assert plans.originals(plan) == []


# --- Overview -------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["text", "compact"])
def test_a_missing_overview_is_derived_from_the_log_and_says_so(plans: Plans, storage: Any) -> None:
    plan = plans.add(archive(overview=None, calls=4))
    plans.run(SnapshotSplit(storage, derives_overview=True))
    found = plans.row(plan)["run_activity_overview_json"]
    assert found["derived"] is True
    assert found["total_cost"] == 0.01
    assert found["models"]["Heron:heron-2-large"]["calls"] == 4
    with plans.opened() as conn:
        shown = store.overview(conn, plan)
    assert (shown["total_cost"], shown["calls"], shown["source"]) == (0.01, 4, "column")


def test_without_being_asked_a_missing_overview_stays_missing(plans: Plans) -> None:
    plan = plans.add(archive(overview=None))
    plans.run()
    assert plans.row(plan)["run_activity_overview_json"] is None


def test_an_overview_that_is_there_is_never_replaced_by_a_derived_one(plans: Plans) -> None:
    member = plans.add(archive(calls=2, log=log_of(9)))
    column = plans.add(archive(overview=None, log=log_of(9)))
    plans.set(column, "run_activity_overview_json", '{"total_cost": 7}')
    null = plans.add(archive(overview=None, log=log_of(9)))
    plans.set(null, "run_activity_overview_json", "null")
    plans.run(SnapshotSplit(derives_overview=True))
    assert plans.row(member)["run_activity_overview_json"] == json.loads(overview_of(2))
    assert plans.row(column)["run_activity_overview_json"] == {"total_cost": 7}
    assert plans.row(null)["run_activity_overview_json"]["models"]["Heron:heron-2-large"][
        "calls"
    ] == 9  # fmt: skip


def test_a_log_without_a_call_gives_no_overview(plans: Plans) -> None:
    plan = plans.add(archive(overview=None, log=b"no call\n"))
    plans.run(SnapshotSplit(derives_overview=True))
    assert plans.row(plan)["run_activity_overview_json"] is None


# --- The command ----------------------------------------------------------------------------


def test_both_are_options_of_the_command(plans: Plans) -> None:
    cut, bare = plans.add(snapshot()[:-30]), plans.add(archive(overview=None))
    environ = {**os.environ, "EXPORTER_DATABASE_URL": plans.settings.database_url or ""}
    command = [sys.executable, "-m", "exporter", "backfill", "snapshots"]
    done = subprocess.run(
        [*command, "--salvage", "--derive-overview"], env=environ, capture_output=True, timeout=60
    )
    assert done.returncode == 3, done.stderr
    assert len(plans.originals(cut)) == len(SNAPSHOT)
    assert plans.row(bare)["run_activity_overview_json"]["derived"] is True
