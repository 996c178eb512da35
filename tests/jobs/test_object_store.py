"""Logs and originals in an object store: put before the row, read through it, collected after."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from exporter.artifacts import collect, logs, move, originals, store
from exporter.artifacts.finalise import finalise
from exporter.artifacts.logs import Placement
from exporter.artifacts.objects import Objects
from exporter.db import migrate
from exporter.errors import ExporterError, ObjectStoreError, ObjectStoreUnavailable
from exporter.jobs import ledger, runner
from exporter.jobs.restore import restore
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import LOG_DATA, LOG_NAME, SNAPSHOT, Part, build, snapshot
from tests.jobs import stores
from tests.jobs.plans import Plans

CHECKOUT = Path(__file__).parents[2]


def compact(objects: Objects, **more: Any) -> SnapshotSplit:
    return SnapshotSplit("compact", objects=objects, **more)


def read_log(plans: Plans, plan: UUID, objects: Objects | None) -> bytes:
    with plans.opened() as conn:
        return b"".join(store.read_log(conn, plan, "test", objects))


def stored(plans: Plans, objects: Objects) -> list[str]:
    """Keys of what is in the store."""
    with plans.opened() as conn:
        row = conn.execute("SELECT database_id FROM archive").fetchone()
    assert row is not None
    return sorted(found.key for found in objects.list(row[0]))


def ask(plans: Plans, query: str) -> Any:
    with plans.opened() as conn:
        row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def sweep(plans: Plans, objects: Objects | None, **options: Any) -> tuple[int, int]:
    with plans.opened() as conn:
        found = collect.collect(conn, objects, **{"older_than": 0.0, **options})
    return found.objects, found.blobs


# --- Where it goes --------------------------------------------------------------------------


def test_a_log_beyond_the_inline_limit_is_an_object_a32(plans: Plans, objects: Objects) -> None:
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit(inline_max_bytes=len(LOG_DATA) - 1, objects=objects))
    row = plans.row(plan)
    ref = row["run_track_activity_ref"]
    assert (row["run_track_activity_jsonl"], row["run_track_activity_encoding"]) == (
        None, "external",
    )  # fmt: skip
    assert set(ref) == {"store", "key", "sha256", "bytes", "encoding", "created_at"}
    assert (ref["store"], ref["bytes"], ref["encoding"]) == (objects.kind, len(LOG_DATA), "gzip")
    packed = b"".join(objects.read(ref["key"]))
    assert hashlib.sha256(packed).hexdigest() == ref["sha256"]
    assert gzip.decompress(packed) == LOG_DATA
    assert read_log(plans, plan, objects) == LOG_DATA
    assert ask(plans, "SELECT count(*) FROM artifact_blobs") == 0


def test_a_log_and_its_original_within_the_limit_stay_where_they_were(
    plans: Plans, objects: Objects
) -> None:
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit(objects=objects))
    assert plans.row(plan)["run_track_activity_jsonl"].encode() == LOG_DATA
    assert plans.originals(plan) == [("snapshot", "", snapshot())]
    assert stored(plans, objects) == []


def test_equal_logs_are_one_object_whoever_puts_them(plans: Plans, objects: Objects) -> None:
    added = [plans.add(snapshot(Part(b"n", b"%d" % n))) for n in range(12)]
    summary = plans.run(compact(objects), workers=2, batch_size=2)
    assert dict(summary.tally.outcomes) == {"MIGRATED": 12}
    assert len(stored(plans, objects)) == 1
    for plan in added:
        assert read_log(plans, plan, objects) == LOG_DATA


def test_large_originals_are_objects_and_are_read_back(plans: Plans, objects: Objects) -> None:
    data = snapshot(Part(b"../up", b"u" * 600))
    plans.add(data)
    plans.run(SnapshotSplit(inline_max_bytes=500, objects=objects))
    with plans.opened() as conn:
        rows = conn.execute(
            "SELECT original_id, kind, body IS NULL, ref->>'encoding' FROM artifact_originals"
            " ORDER BY kind"
        ).fetchall()
        assert [row[1:] for row in rows] == [
            ("member", True, "identity"), ("snapshot", True, "identity"),
        ]  # fmt: skip
        member, whole = (originals.read(conn, row[0], "test", objects) for row in rows)
    assert (member, whole) == (b"u" * 600, data)
    assert len(stored(plans, objects)) == 2, "the log was small"


def test_when_the_database_is_full_everything_goes_to_the_store(
    plans: Plans, objects: Objects
) -> None:
    first, second = plans.add(snapshot()), plans.add(snapshot(Part(b"b", b"b")))
    plans.run(SnapshotSplit(objects=objects), limit=1)
    plans.run(SnapshotSplit(objects=objects, inline_total_max_bytes=1))
    assert plans.row(first)["run_track_activity_ref"] is None
    assert plans.row(second)["run_track_activity_jsonl"] is None
    assert len(stored(plans, objects)) == 2
    assert read_log(plans, second, objects) == LOG_DATA


def test_a_dry_run_puts_nothing(plans: Plans, objects: Objects) -> None:
    plans.add(snapshot())
    objects.check()
    plans.run(compact(objects), is_dry_run=True)
    assert stored(plans, objects) == []


def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "sub").mkdir(parents=True)
    (folder / "track_activity.jsonl").write_bytes(LOG_DATA)
    (folder / "sub" / "track_activity.jsonl").write_bytes(b"deep" * 99)
    (folder / "030-report.html").write_text("<html>")
    return folder


def test_a_run_that_ends_puts_its_large_parts_there_a32(
    plans: Plans, objects: Objects, tmp_path: Path
) -> None:
    plan = plans.add(None)
    finalise(plans.opener, plan, run_folder(tmp_path), placement=Placement(objects, 100))
    assert plans.row(plan)["run_track_activity_ref"]["store"] == objects.kind
    assert read_log(plans, plan, objects) == LOG_DATA
    assert len(stored(plans, objects)) == 2
    assert plans.originals(plan) == [("log", "sub/track_activity.jsonl", None)]


def test_a_resumed_run_goes_on_with_a_log_that_is_an_object_a26(
    plans: Plans, objects: Objects, tmp_path: Path
) -> None:
    plan = plans.add(None)
    placement = Placement(objects, 10)
    finalise(plans.opener, plan, run_folder(tmp_path), placement=placement)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "track_activity.jsonl").write_bytes(b"more\n")
    finalise(plans.opener, plan, tmp_path / "run", placement=placement)
    assert read_log(plans, plan, objects) == LOG_DATA + b"more\n"


def test_a_run_whose_store_is_away_keeps_its_folder_a09(
    plans: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.artifacts.finalise.time.sleep", lambda seconds: None)
    stores.set_credentials(monkeypatch, "http://127.0.0.1:9")
    plan = plans.add(None, "processing")
    folder = run_folder(tmp_path)
    with pytest.raises(ObjectStoreUnavailable, match="does not answer"):
        finalise(plans.opener, plan, folder, placement=Placement(Objects("s3://b0b/x"), 10))
    assert (folder / "track_activity.jsonl").read_bytes() == LOG_DATA
    assert plans.row(plan)["run_artifact_layout_version"] is None


# --- Reading it back ------------------------------------------------------------------------


def test_a_vanished_object_is_said_and_the_row_stays_a33(plans: Plans, objects: Objects) -> None:
    plan = plans.add(snapshot())
    plans.run(compact(objects))
    before = plans.row(plan)
    objects.delete(before["run_track_activity_ref"]["key"])
    with pytest.raises(ExporterError, match=f"log_unavailable: the log of plan {plan}.*is gone"):
        read_log(plans, plan, objects)
    assert plans.row(plan) == before
    assert ask(plans, "SELECT count(*) FROM artifact_reads") == 0, "nothing was read"
    with plans.opened() as conn:
        assert store.verify(conn, None, objects) == (
            1, [store.Offender(plan, "LOG_UNAVAILABLE", False)],
        )  # fmt: skip


def test_an_object_with_other_content_is_never_handed_out(plans: Plans, objects: Objects) -> None:
    import obstore

    plan = plans.add(snapshot())
    plans.run(compact(objects))
    key = plans.row(plan)["run_track_activity_ref"]["key"]
    obstore.put(objects._store, key, gzip.compress(b"somebody else's"), mode="overwrite")
    with plans.opened() as conn:
        with pytest.raises(ExporterError, match="does not hold what was stored"):
            store.read_log(conn, plan, "test", objects)
        assert store.verify(conn, None, objects)[1] == [store.Offender(plan, "LOG_DIFFERS", False)]


def test_without_the_store_a_log_is_not_read_and_the_store_is_asked_for(
    plans: Plans, tmp_path: Path
) -> None:
    plan = plans.add(snapshot())
    plans.run(compact(Objects(str(tmp_path / "one"))))
    for other in (None, Objects("s3://bucket/x")):
        with pytest.raises(ExporterError, match="kind file") as caught:
            read_log(plans, plan, other)
        assert "EXPORTER_BLOB_URL" in caught.value.hint


def test_whole_objects_pass_the_proof(plans: Plans, objects: Objects) -> None:
    plans.add(snapshot())
    plans.run(compact(objects))
    with plans.opened() as conn:
        assert store.verify(conn, None, objects) == (1, [])


def test_a_restored_plan_is_as_before_a58(plans: Plans, objects: Objects) -> None:
    plan = plans.add(snapshot())
    before = plans.row(plan)
    plans.run(compact(objects, inline_max_bytes=10))
    split = plans.row(plan)
    with plans.opened() as conn:
        with pytest.raises(ExporterError, match="no object store is configured"):
            restore(conn, plan)
        assert plans.row(plan) == split
        assert restore(conn, plan, objects).size == len(snapshot())
    assert plans.row(plan) == before


def test_a_plan_that_starts_over_drops_its_reference_only_a25(
    plans: Plans, objects: Objects
) -> None:
    plan = plans.add(snapshot(), "failed")
    plans.run(compact(objects))
    (key,) = stored(plans, objects)
    with plans.opened() as conn:
        store.reset(conn, plan)
    row = plans.row(plan)
    assert row.pop("run_generation") == 1
    assert set(row.values()) == {None}
    assert stored(plans, objects) == [key]
    assert sweep(plans, objects) == (1, 0)
    assert stored(plans, objects) == []


# --- When it fails --------------------------------------------------------------------------


def test_a_store_without_room_stops_the_run_and_changes_nothing(
    plans: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TRIES", 6)
    noise = os.urandom(300_000)
    plan = plans.add(build(SNAPSHOT[0], Part(LOG_NAME, noise), *SNAPSHOT[2:]))
    before = plans.row(plan)
    objects = Objects(str(tmp_path / "small"))
    with stores.without_room(tmp_path / "small"):
        with pytest.raises(ObjectStoreUnavailable, match="no room left"):
            plans.run(compact(objects))
        assert stored(plans, objects) == []
    assert plans.row(plan) == before
    assert "the object store: there is no room left" in plans.recorder.reasons
    assert plans.item(plan)[0] == "pending"
    assert plans.originals(plan) == []
    assert ask(plans, "SELECT state FROM job_runs") == "failed"
    assert dict(plans.run(compact(objects)).tally.outcomes) == {"MIGRATED": 1}
    assert read_log(plans, plan, objects) == noise


def test_a_store_that_is_away_is_waited_for(
    plans: Plans, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.add(snapshot())
    put = Objects.put
    left = 4

    def away(self: Objects, key: str, data: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ObjectStoreUnavailable(self.place, "it does not answer")
        put(self, key, data)

    monkeypatch.setattr(Objects, "put", away)
    assert dict(plans.run(compact(objects)).tally.outcomes) == {"MIGRATED": 1}
    assert "the object store: it does not answer" in plans.recorder.reasons
    assert plans.item(plan)[0] == "done"


def test_a_store_that_cannot_be_used_ends_the_run_before_it_begins(
    plans: Plans, bucket: str
) -> None:
    plan = plans.add(snapshot())
    with pytest.raises(ObjectStoreError, match="no such bucket"):
        plans.run(compact(Objects("s3://no-such-bucket/x")))
    assert plans.row(plan)["run_artifact_layout_version"] is None
    assert ask(plans, "SELECT count(*) FROM job_items") == 0


KILLED = """
import os, signal, sys
from exporter.artifacts import logs
from exporter.artifacts.objects import Objects
from exporter.jobs import ledger
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.jobs.plans import Plans
from tests.postgres import settings_for

ledger.LEASE_SECONDS, ledger.HEARTBEAT_SECONDS = 0.6, 0.15
put = logs.put

def killed(*args, **kwargs):
    put(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

logs.put = killed
Plans(settings_for(sys.argv[1])).run(SnapshotSplit("compact", objects=Objects(sys.argv[2])))
"""


@pytest.mark.parametrize("is_swept", [False, True])
def test_killed_after_the_object_and_before_the_row(
    plans: Plans, objects: Objects, is_swept: bool
) -> None:
    plan = plans.add(snapshot())
    before = plans.row(plan)
    assert plans.settings.database_url
    command = [sys.executable, "-c", KILLED, plans.settings.database_url, objects.url]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr[-400:]
    assert plans.row(plan) == before
    assert len(stored(plans, objects)) == 1, "an orphan"
    assert sweep(plans, objects, older_than=24.0) == (0, 0), "too young"
    if is_swept:
        assert sweep(plans, objects) == (1, 0)
    assert dict(plans.run(compact(objects)).tally.outcomes) == {"MIGRATED": 1}
    assert len(stored(plans, objects)) == 1
    assert read_log(plans, plan, objects) == LOG_DATA
    assert sweep(plans, objects) == (0, 0)


# --- The collector --------------------------------------------------------------------------


def test_what_is_referred_to_stays_however_old(plans: Plans, objects: Objects) -> None:
    plans.add(snapshot())
    plans.run(compact(objects, inline_max_bytes=10))
    keys = stored(plans, objects)
    assert len(keys) == 2
    assert sweep(plans, objects) == (0, 0)
    with plans.opened() as conn:
        conn.execute("UPDATE task_item SET run_track_activity_ref = NULL")
        conn.execute("DELETE FROM artifact_originals")
    assert sweep(plans, objects, is_dry_run=True) == (2, 0)
    assert stored(plans, objects) == keys
    assert sweep(plans, None) == (0, 0), "no store, no objects"
    assert sweep(plans, objects, older_than=1.0) == (0, 0)
    assert sweep(plans, objects) == (2, 0)
    assert stored(plans, objects) == []
    assert ask(plans, "SELECT count(*) FROM artifact_objects") == 0


def test_packed_logs_of_the_table_go_the_same_way(plans: Plans) -> None:
    used, unused = plans.add(snapshot()), plans.add(snapshot(), "failed")
    plans.run(SnapshotSplit("compact"))
    with plans.opened() as conn:
        store.reset(conn, unused)
    assert sweep(plans, None) == (0, 0), "the other plan has the same log"
    assert read_log(plans, used, None) == LOG_DATA
    plans.set(used, "run_track_activity_ref", None)
    assert sweep(plans, None, older_than=24.0) == (0, 0)
    assert sweep(plans, None, is_dry_run=True) == (0, 1)
    assert sweep(plans, None) == (0, 1)


def test_an_unlisted_object_of_this_database_is_found_and_no_other(
    plans: Plans, objects: Objects
) -> None:
    import obstore

    plan = plans.add(snapshot(), "failed")
    plans.run(compact(objects))
    (key,) = stored(plans, objects)
    with plans.opened() as conn:
        store.reset(conn, plan)
        conn.execute("DELETE FROM artifact_objects")
    obstore.put(objects._store, f"{key[:36]}/notes.txt", b"by hand")
    assert sweep(plans, objects, older_than=1.0) == (0, 0)
    assert sweep(plans, objects, is_dry_run=True) == (1, 0)
    assert ask(plans, "SELECT count(*) FROM artifact_objects") == 0
    assert sweep(plans, objects) == (1, 0)
    assert stored(plans, objects) == [f"{key[:36]}/notes.txt"]


def test_a_file_that_a_killed_process_had_begun_goes_with_the_rest(
    plans: Plans, tmp_path: Path
) -> None:
    objects = Objects(str(tmp_path))
    ref = packed_reference(plans, objects)
    begun = tmp_path / (ref["key"] + "#1")
    begun.write_bytes(b"half")
    make_old(plans)
    sweep(plans, objects, older_than=24.0)
    assert begun.exists(), "somebody may be writing it"
    sweep(plans, objects)
    assert not begun.exists()


def packed_reference(plans: Plans, objects: Objects) -> logs.Reference:
    with plans.opened() as conn:
        return logs.put(conn, objects, b"packed", encoding="gzip", plain_bytes=9)


def make_old(plans: Plans) -> None:
    with plans.opened() as conn:
        conn.execute("UPDATE artifact_objects SET used_at = now() - interval '2 days'")
        conn.execute("UPDATE artifact_blobs SET created_at = now() - interval '2 days'")


def test_an_old_object_that_is_put_again_is_young(plans: Plans, objects: Objects) -> None:
    ref = packed_reference(plans, objects)
    make_old(plans)
    assert packed_reference(plans, objects) == ref
    assert sweep(plans, objects, older_than=24.0) == (0, 0)
    assert stored(plans, objects) == [ref["key"]]


def test_an_object_that_a_transaction_is_about_to_refer_to_is_passed_over(
    plans: Plans, objects: Objects
) -> None:
    plan = plans.add(None)
    ref = packed_reference(plans, objects)
    make_old(plans)
    with plans.opened() as conn:
        with conn.transaction():
            logs.hold(conn, ref)
            assert sweep(plans, objects) == (0, 0)
            statement = "UPDATE task_item SET run_track_activity_ref = %s WHERE id = %s"
            conn.execute(statement, [json.dumps(ref), plan])
        assert sweep(plans, objects) == (0, 0)
    assert stored(plans, objects) == [ref["key"]]


def between_lock_and_question(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen after the collector has locked, before it asks again and removes."""
    delete = Objects.delete

    def disturbed(self: Objects, key: str) -> None:
        act()
        delete(self, key)

    monkeypatch.setattr(Objects, "delete", disturbed)


def test_an_object_put_while_it_is_removed_is_put_again(
    plans: Plans, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = packed_reference(plans, objects)
    make_old(plans)
    results: list[logs.Reference] = []
    thread = threading.Thread(target=lambda: results.append(packed_reference(plans, objects)))

    def come() -> None:
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "who puts waits for the collector"

    between_lock_and_question(monkeypatch, come)
    assert sweep(plans, objects, older_than=24.0) == (1, 0)
    thread.join(timeout=30)
    (again,) = results
    assert again["key"] == ref["key"] and again["created_at"] != ref["created_at"]
    objects.verify(again["key"])
    with plans.opened() as conn, conn.transaction():
        logs.hold(conn, again)
        with pytest.raises(ObjectStoreUnavailable, match="collected"):
            logs.hold(conn, ref)


def test_an_object_collected_between_put_and_commit_is_put_again(
    plans: Plans, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.add(snapshot())
    hold = logs.hold
    swept: list[tuple[int, int]] = []

    def too_late(conn: Any, ref: logs.Reference) -> None:
        if not swept:
            swept.append(sweep(plans, objects))
        hold(conn, ref)

    monkeypatch.setattr(logs, "hold", too_late)
    assert dict(plans.run(compact(objects)).tally.outcomes) == {"MIGRATED": 1}
    assert swept == [(1, 0)]
    assert read_log(plans, plan, objects) == LOG_DATA


def test_a_reference_that_is_committed_while_the_collector_looks_counts(
    plans: Plans, objects: Objects
) -> None:
    """Its first question saw none; the one after the lock sees it."""
    plan = plans.add(None)
    ref = packed_reference(plans, objects)
    make_old(plans)
    execute = psycopg.Connection.execute

    class Late(psycopg.Connection[Any]):
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            found = execute(self, query, *args, **kwargs)
            text = query.as_string(self) if hasattr(query, "as_string") else str(query)
            if "SKIP LOCKED" in text and "artifact_objects" in text:
                plans.set(plan, "run_track_activity_ref", json.dumps(ref))
            return found

    with plans.opened() as conn:
        conn.__class__ = Late
        found = collect.collect(conn, objects, older_than=24.0)
    assert found.objects == 0
    objects.verify(ref["key"])


PACKED = logs.Packed.of(b"packed")


def test_a_packed_log_that_comes_again_waits_and_is_there(plans: Plans) -> None:
    with plans.opened() as conn, plans.opened() as other:
        logs.keep_packed(conn, PACKED)
        make_old(plans)
        with conn.transaction():
            logs.keep_packed(conn, PACKED)
            assert sweep(plans, None) == (0, 0)
        make_old(plans)
        with other.transaction():
            other.execute("DELETE FROM artifact_blobs")
            thread = threading.Thread(target=logs.keep_packed, args=(conn, PACKED))
            thread.start()
            thread.join(timeout=0.3)
            assert thread.is_alive()
        thread.join(timeout=30)
    assert ask(plans, "SELECT count(*) FROM artifact_blobs") == 1


def test_two_collectors_do_not_meet(plans: Plans, objects: Objects) -> None:
    refs = []
    for n in range(collect.BATCH + 5):
        with plans.opened() as conn:
            refs.append(logs.put(conn, objects, b"%d" % n, encoding="gzip", plain_bytes=1))
    found: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(sweep(plans, objects))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert stored(plans, objects) == []
    assert sum(count for count, _ in found) == len(refs)


def test_what_another_collector_removed_meanwhile_is_not_found_again(
    plans: Plans, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plans.opened() as conn:
        logs.put(conn, objects, b"unused", encoding="gzip", plain_bytes=6)
    others: list[tuple[int, int]] = []
    listed = Objects.list

    def seen_and_then_removed(self: Objects, archive: str) -> Any:
        seen = list(listed(self, archive))
        monkeypatch.setattr(Objects, "list", listed)
        others.append(sweep(plans, objects))
        return iter(seen)

    monkeypatch.setattr(Objects, "list", seen_and_then_removed)
    assert sweep(plans, objects) == (0, 0)
    assert others == [(1, 0)]
    assert ask(plans, "SELECT count(*) FROM artifact_objects") == 0


# --- Moves ----------------------------------------------------------------------------------


def carry(plans: Plans, target: Any, objects: Objects, limit: int = 10) -> move.Moved:
    with plans.opened() as conn:
        return move.move(conn, target, objects, limit)


def test_everything_moves_out_and_back_and_nothing_moves_twice(
    plans: Plans, objects: Objects
) -> None:
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit("compact"))
    before = plans.originals(plan)
    out = carry(plans, "store", objects)
    assert (out.logs, out.originals, out.unavailable) == (1, 1, 0)
    assert carry(plans, "store", objects) == move.Moved()
    assert read_log(plans, plan, objects) == LOG_DATA
    assert plans.originals(plan) == [("snapshot", "", None)]
    assert ask(plans, "SELECT count(*) FROM artifact_blobs") == 0, "it was a part of the original"

    back = carry(plans, "database", objects)
    assert (back.logs, back.originals) == (1, 1)
    assert plans.originals(plan) == before
    assert read_log(plans, plan, None) == LOG_DATA
    assert sweep(plans, objects) == (2, 0)
    assert stored(plans, objects) == []


def test_a_log_stays_when_the_snapshot_that_holds_it_moves(plans: Plans, objects: Objects) -> None:
    """Packed logs stay in the database here, and their bytes with them."""
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit("compact"))
    before = plans.row(plan)
    with plans.opened() as conn:
        (number,) = conn.execute("SELECT original_id FROM artifact_originals").fetchall()[0]
        move._move_original(conn, "store", objects, number, plan)
    assert plans.row(plan) == before
    assert ask(plans, "SELECT octet_length(body) = byte_length FROM artifact_blobs")
    assert read_log(plans, plan, None) == LOG_DATA
    assert carry(plans, "store", objects).logs == 1
    assert read_log(plans, plan, objects) == LOG_DATA


def test_a_log_is_stored_whole_when_the_snapshot_that_held_it_is_elsewhere(
    plans: Plans, objects: Objects
) -> None:
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit("compact"))
    with plans.opened() as conn:
        restore(conn, plan)
        ledger.requeue(conn, "RESTORED")
    assert carry(plans, "store", objects).originals == 1
    plans.run(SnapshotSplit("compact"))
    assert ask(plans, "SELECT octet_length(body) = byte_length FROM artifact_blobs")
    assert read_log(plans, plan, None) == LOG_DATA


def test_no_row_refers_to_a_log_in_a_snapshot_that_has_moved_away(
    plans: Plans, objects: Objects
) -> None:
    """As it is for a moment when a move and a split meet: the row stays as it was."""
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit("compact"))
    with plans.opened() as conn:
        restore(conn, plan)
        ledger.requeue(conn, "RESTORED")
        ref = logs.put(conn, objects, snapshot(), encoding="identity", plain_bytes=None)
        conn.execute("UPDATE artifact_originals SET body = NULL, ref = %s", [json.dumps(ref)])
    before = plans.row(plan)
    summary = plans.run(SnapshotSplit("compact"))
    assert dict(summary.tally.outcomes) == {"SKIPPED_CHANGED": 1}
    assert plans.row(plan) == before


def test_the_way_back_is_open_after_everything_came_back(plans: Plans, objects: Objects) -> None:
    plan = plans.add(snapshot())
    plans.run(compact(objects, inline_max_bytes=10))
    with pytest.raises(ExporterError, match="1 logs and 1 originals are in the object store only"):
        migrate.downgrade(plans.settings, "0004")
    assert read_log(plans, plan, objects) == LOG_DATA
    carry(plans, "database", objects)
    migrate.downgrade(plans.settings, "0004")
    with plans.opened() as conn:
        row = conn.execute("SELECT run_zip_snapshot FROM task_item").fetchone()
    assert row == (snapshot(),)


def test_what_cannot_be_read_does_not_move_and_is_counted(plans: Plans, objects: Objects) -> None:
    plan, other = plans.add(snapshot()), plans.add(snapshot(Part(LOG_NAME, b"another")))
    plans.run(compact(objects))
    before = plans.row(plan)
    objects.delete(before["run_track_activity_ref"]["key"])
    found = carry(plans, "database", objects)
    assert (found.logs, found.unavailable) == (1, 1)
    assert plans.row(plan) == before
    assert read_log(plans, other, None) == b"another"


def test_a_plan_that_starts_over_meanwhile_is_not_given_its_old_log(
    plans: Plans, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.add(snapshot(), "failed")
    plans.run(SnapshotSplit("compact"))
    put = logs.put

    def reset_then_put(*args: Any, **kwargs: Any) -> logs.Reference:
        with plans.opened() as conn:
            store.reset(conn, plan)
        return put(*args, **kwargs)

    monkeypatch.setattr(logs, "put", reset_then_put)
    with plans.opened() as conn:
        assert move.move(conn, "store", objects, 1 << 30).logs == 0
    assert plans.row(plan)["run_track_activity_ref"] is None


# --- The commands ---------------------------------------------------------------------------


def exporter(plans: Plans, *args: str) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "EXPORTER_DATABASE_URL": plans.settings.database_url or ""}
    return subprocess.run(
        [sys.executable, "-m", "exporter", *args], env=environ, capture_output=True, timeout=60
    )


def test_the_commands_work_together(
    plans: Plans, objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan, gone = plans.add(snapshot()), plans.add(snapshot(Part(LOG_NAME, b"gone")))
    given = ("--blob-url", objects.url)
    done = exporter(plans, "backfill", "snapshots", "--log-storage", "compact", *given,
                    "--inline-max-bytes", "100")  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked = exporter(plans, "artifacts", "log", str(plan))
    assert (asked.returncode, asked.stdout) == (1, b"")
    assert b"EXPORTER_BLOB_URL" in asked.stderr

    monkeypatch.setenv("EXPORTER_BLOB_URL", objects.url)
    assert exporter(plans, "artifacts", "log", str(plan)).stdout == LOG_DATA
    assert exporter(plans, "artifacts", "verify", "--all").returncode == 0
    objects.delete(plans.row(gone)["run_track_activity_ref"]["key"])
    target = tmp_path / "log"
    lost = exporter(plans, "artifacts", "log", str(gone), "-o", str(target))
    assert (lost.returncode, lost.stdout, target.exists()) == (1, b"", False)
    assert b"log_unavailable" in lost.stderr and lost.stderr.count(b"\n") == 1
    assert exporter(plans, "artifacts", "verify", "--all").returncode == 3

    restored = exporter(plans, "jobs", "restore", str(plan))
    assert restored.returncode == 0, restored.stderr
    assert plans.row(plan)["run_zip_snapshot"] == snapshot()
    dry = exporter(plans, "artifacts", "collect", "--older-than", "0", "--dry-run", "--json")
    assert json.loads(dry.stdout)["objects"] == 1
    swept = exporter(plans, "artifacts", "collect", "--older-than", "0", "--json")
    assert json.loads(swept.stdout)["objects"] == 1
    moved = exporter(plans, "artifacts", "move", "--to", "database", "--json")
    assert moved.returncode == 3
    assert json.loads(moved.stdout)["unavailable"] == 1
    for result in (done, asked, lost, restored, dry, swept, moved):
        assert stores.SECRET_KEY.encode() not in result.stdout + result.stderr


def test_a_failing_store_is_one_sentence_without_a_secret(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans.add(snapshot())
    stores.set_credentials(monkeypatch, "http://127.0.0.1:9")
    done = exporter(plans, "backfill", "snapshots", "--log-storage", "compact", "--blob-url",
                    "s3://some-bucket/x")  # fmt: skip
    assert done.returncode == 1
    assert b"s3://some-bucket/x cannot be used (it does not answer)" in done.stderr
    assert b"Traceback" not in done.stderr
    assert stores.SECRET_KEY.encode() not in done.stderr
    assert stores.ACCESS_KEY.encode() not in done.stderr


def test_ages_are_hours(plans: Plans, objects: Objects) -> None:
    packed_reference(plans, objects)
    with plans.opened() as conn:
        age = timedelta(hours=1, minutes=30)
        conn.execute("UPDATE artifact_objects SET used_at = now() - %s::interval", [age])
    assert sweep(plans, objects, older_than=2.0) == (0, 0)
    assert sweep(plans, objects, older_than=1.0) == (1, 0)
