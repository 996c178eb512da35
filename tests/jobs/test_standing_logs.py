"""A packed log that stood in a row before a split is lost by nothing that comes afterwards."""

from __future__ import annotations

import gzip
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from exporter.artifacts import collect, logs, store
from exporter.db import migrate
from exporter.errors import ExporterError
from exporter.jobs import ledger
from exporter.jobs.restore import restore
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import CLEAN, LOG_NAME, Part, build, snapshot
from tests.jobs.plans import Plans

EARLIER = b"earlier\n"
PACKED = logs.Packed.of(gzip.compress(EARLIER, mtime=0))


def legacy(plans: Plans, plan: UUID, data: bytes, state: str = "completed") -> None:
    """Somebody who knows nothing of the split writes a snapshot, and the proof demotes the row."""
    plans.set(plan, "run_zip_snapshot", data)
    plans.set(plan, "run_artifact_layout_version", None)
    plans.set(plan, "state", state)


@pytest.fixture
def plan(plans: Plans) -> UUID:
    """A plan whose run left a packed log in our table and nowhere else."""
    found = plans.add(build(*CLEAN))
    with plans.opened() as conn:
        logs.keep_packed(conn, PACKED)
    plans.set(found, "run_track_activity_ref", Jsonb(logs.reference(PACKED, len(EARLIER))))
    plans.set(found, "run_track_activity_bytes", len(EARLIER))
    plans.set(found, "run_track_activity_encoding", "external")
    legacy(plans, found, snapshot())
    return found


def log_of(plans: Plans, plan: UUID) -> bytes:
    with plans.opened() as conn:
        collect.collect(conn, older_than=0.0)
        return b"".join(store.read_log(conn, plan, "test"))


def test_a_plan_that_is_restored_has_its_packed_log_again(plans: Plans, plan: UUID) -> None:
    before = plans.row(plan)
    plans.run()
    with plans.opened() as conn:
        restore(conn, plan)
    assert plans.row(plan) == before
    assert log_of(plans, plan) == EARLIER


def test_the_way_back_is_refused_rather_than_drop_it(plans: Plans, plan: UUID) -> None:
    before = plans.row(plan)["run_track_activity_ref"]
    plans.run()
    with pytest.raises(ExporterError, match=r"1 rows .* hold a log that has no original"):
        migrate.downgrade(plans.settings, "0004")
    assert plans.row(plan)["run_track_activity_ref"] == before


def test_the_packed_log_of_a_split_goes_with_the_split(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit("compact"))
    with plans.opened() as conn:
        restore(conn, plan)
    row = plans.row(plan)
    assert row["run_track_activity_ref"] is row["run_track_activity_encoding"] is None


@pytest.mark.parametrize("between", [None, "processing", "odd"])
def test_a_packed_log_beside_a_text_is_not_replaced_by_another(
    plans: Plans, plan: UUID, between: Any
) -> None:
    plans.run()
    if between == "processing":
        legacy(plans, plan, snapshot(), state="processing")
        plans.run()
        assert plans.item(plan)[1] == "SKIPPED_BUSY"
    if between == "odd":
        legacy(plans, plan, b"no archive")
        plans.run()
        assert plans.item(plan)[2] == "ZIP_NOT_ZIP"
    legacy(plans, plan, build(Part(LOG_NAME, b"third\n"), *CLEAN))
    plans.run(SnapshotSplit("compact"))
    assert plans.item(plan)[2] == "LOG_STANDS"
    with plans.opened() as conn:
        ledger.requeue(conn, "LOG_STANDS")
    plans.run(SnapshotSplit("text"))
    with plans.opened() as conn:
        restore(conn, plan)
    assert log_of(plans, plan) == EARLIER
