"""Packed logs inside kept snapshots, and the way back from there."""

from __future__ import annotations

from exporter.artifacts import store
from exporter.db import migrate
from exporter.jobs.restore import restore
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import LOG_DATA, LOG_NAME, Part, build, snapshot
from tests.jobs.plans import Plans

BLOBS = "SELECT sha256(body) = sha256, octet_length(body) = byte_length FROM artifact_blobs"


def test_the_way_back_writes_every_packed_log_out_whole(plans: Plans) -> None:
    held = plans.add(snapshot())
    whole = plans.add(build(Part(LOG_NAME, b"stored", method=0)))
    plans.run(SnapshotSplit("compact"))
    migrate.downgrade(plans.settings, "0007")
    with plans.opened() as conn:
        assert conn.execute(BLOBS).fetchall() == [(True, True), (True, True)]
    migrate.upgrade(plans.settings)
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, held, "test")) == LOG_DATA
        assert b"".join(store.read_log(conn, whole, "test")) == b"stored"


def test_the_way_back_writes_no_log_out_that_is_back_in_its_plan(plans: Plans) -> None:
    back = plans.add(snapshot())
    held = plans.add(build(Part(LOG_NAME, b"held")))
    plans.run(SnapshotSplit("compact"))
    with plans.opened() as conn:
        restore(conn, back)
    migrate.downgrade(plans.settings, "0007")
    with plans.opened() as conn:
        assert conn.execute(BLOBS).fetchall() == [(True, True)]
    migrate.upgrade(plans.settings)
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, held, "test")) == b"held"
