"""The snapshots backfill, case by case (numbers in the names are those of the acceptance list)."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
import zlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from exporter.artifacts import logs, store
from exporter.core import runzip
from exporter.errors import ExporterError
from exporter.jobs import ledger, snapshot_split
from exporter.jobs.restore import restore
from exporter.jobs.snapshot_split import SnapshotSplit, Split, split
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_DATA,
    LOG_NAME,
    OVERVIEW_NAME,
    SNAPSHOT,
    SYMLINK,
    Part,
    build,
    pack,
    snapshot,
)  # fmt: skip
from tests.jobs.plans import Plans


def names(data: bytes) -> list[bytes]:
    return [member.entry.name for member in runzip.inspect(data).members]


def log_part(data: bytes, **odd: Any) -> tuple[Part, ...]:
    return (SNAPSHOT[0], Part(LOG_NAME, data, **odd), *SNAPSHOT[2:])


# --- What becomes of a row ------------------------------------------------------------------


def test_a_snapshot_with_a_log_is_split(plans: Plans) -> None:
    data = snapshot()
    plan = plans.add(data)
    summary = plans.run()
    row = plans.row(plan)
    assert dict(summary.tally.outcomes) == {"MIGRATED": 1}
    assert (summary.remaining, summary.is_finished) == (0, True)
    assert names(row["run_zip_snapshot"]) == [part.name for part in CLEAN]
    assert row["run_track_activity_jsonl"].encode() == LOG_DATA
    assert row["run_track_activity_bytes"] == len(LOG_DATA)
    assert row["run_track_activity_encoding"] == "utf8"
    assert row["run_track_activity_ref"] is None
    assert row["run_activity_overview_json"] == {"models": {}, "total_cost": 0.5}
    assert (row["run_artifact_layout_version"], row["run_generation"]) == (2, 0)
    assert plans.originals(plan) == [("snapshot", "", data)]
    runzip.verify(row["run_zip_snapshot"])


def test_a_snapshot_without_a_log_keeps_its_bytes(plans: Plans) -> None:
    data = build(*CLEAN)
    plan = plans.add(data)
    assert dict(plans.run().tally.outcomes) == {"CLEAN": 1}
    row = plans.row(plan)
    assert row["run_zip_snapshot"] == data
    assert row["run_activity_overview_json"] == {"models": {}, "total_cost": 0.5}
    assert (row["run_track_activity_bytes"], row["run_artifact_layout_version"]) == (None, 2)
    assert plans.originals(plan) == []


def test_compact_storage_refers_to_the_packed_bytes_in_the_kept_snapshot(plans: Plans) -> None:
    one, other = plans.add(snapshot()), plans.add(snapshot(Part(b"b", b"b")))
    plans.run(SnapshotSplit("compact"))
    row = plans.row(one)
    assert (row["run_track_activity_jsonl"], row["run_track_activity_encoding"]) == (
        None, "external",
    )  # fmt: skip
    assert row["run_track_activity_bytes"] == len(LOG_DATA)
    with plans.opened() as conn:
        blobs = conn.execute("SELECT sha256, body, original_id FROM artifact_blobs").fetchall()
        assert len(blobs) == 1, "equal logs are stored once"
        digest, own, original = blobs[0]
        assert own is None, "and not beside the snapshot that holds them"
        kept = conn.execute(
            "SELECT kind FROM artifact_originals WHERE original_id = %s", [original]
        )
        assert kept.fetchone() == ("snapshot",)
        body = logs.packed_bytes(conn, digest)
        assert body is not None
        assert hashlib.sha256(body).digest() == digest
        assert gzip.decompress(body) == LOG_DATA
        assert pack(LOG_DATA, 8) in body
        for plan in (one, other):
            assert b"".join(store.read_log(conn, plan, "test")) == LOG_DATA
            assert plans.row(plan)["run_track_activity_ref"]["key"] == digest.hex()


def test_an_original_that_holds_a_log_cannot_be_removed_by_mistake(plans: Plans) -> None:
    plans.add(snapshot())
    plans.run(SnapshotSplit("compact"))
    with plans.opened() as conn, pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute("DELETE FROM artifact_originals")


@pytest.mark.parametrize("method", [0, 8, 12, 14])
def test_every_method_reads_back_exactly_from_compact_storage(plans: Plans, method: int) -> None:
    plan = plans.add(build(*log_part(LOG_DATA, method=method)))
    plans.run(SnapshotSplit("compact"))
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "test")) == LOG_DATA


def test_a_log_beyond_the_inline_limit_is_never_text_a32(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit(inline_max_bytes=len(LOG_DATA) - 1))
    row = plans.row(plan)
    assert row["run_track_activity_jsonl"] is None
    assert row["run_track_activity_ref"]["bytes"] == len(LOG_DATA)


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"one\0two\n", "onetwo\n"), (b"\xff\xfe\x41", "\ufffd\ufffdA"), (b"", "")],
    ids=["a04", "a05", "empty"],
)
@pytest.mark.parametrize("storage", ["text", "compact"])
def test_a_log_that_is_no_text_reads_back_exactly(
    plans: Plans, data: bytes, text: str, storage: Any
) -> None:
    plan = plans.add(build(*log_part(data)))
    plans.run(SnapshotSplit(storage))
    row = plans.row(plan)
    assert row["run_track_activity_bytes"] == len(data)
    if storage == "text":
        assert row["run_track_activity_jsonl"] == text
        assert row["run_track_activity_encoding"] == ("utf8-lossy" if data else "utf8")
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "test")) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "ZIP_NOT_ZIP"),
        (snapshot()[:-30], "ZIP_TRUNCATED"),
        (build(*log_part(LOG_DATA, crc=1)), "LOG_CORRUPT"),
        (build(*log_part(LOG_DATA, flags=1)), "LOG_ENCRYPTED"),
        (build(*log_part(LOG_DATA, method=99)), "LOG_METHOD_99"),
        (build(*CLEAN, Part(b"harmless.json", b"x", local_name=LOG_NAME)), "ZIP_HEADER_MISMATCH"),
        (build(*CLEAN, Part(LOG_NAME, b"x", listed=False)), "ZIP_HIDDEN_ENTRY"),
        (build(*CLEAN, replace(CLEAN[0], shares=0)), "ZIP_OVERLAP"),
        (build(Part(b"inner.zip", snapshot())), "NESTED_ARCHIVE"),
        (build(Part(LOG_NAME, bytes(50_000_000))), "ZIP_BOMB"),
    ],
    ids=["a13", "a40", "a41", "a14", "a55", "a52", "a53", "a54", "a56", "a44"],
)
def test_an_odd_archive_is_put_aside_untouched(plans: Plans, data: bytes, reason: str) -> None:
    plan = plans.add(data)
    before = plans.row(plan)
    summary = plans.run()
    assert dict(summary.tally.outcomes) == {"QUARANTINED": 1}
    assert plans.item(plan)[:3] == ("quarantined", "QUARANTINED", reason)
    assert plans.row(plan) == before
    assert plans.originals(plan) == []
    with plans.opened() as conn, pytest.raises(ExporterError, match="content_unavailable"):
        store.download(conn, plan)


@pytest.mark.parametrize(
    ("data", "note", "kept"),
    [
        (snapshot(Part(b"a.txt", b"a", crc=1)), "MEMBER_CORRUPT:a.txt", []),
        (snapshot(Part(LOG_NAME, b"BB")), "DUPLICATE_NAME", [("log", LOG_DATA)]),
        (snapshot(Part(b"../../x", b"up")), "UNSAFE_NAME", [("member", b"up")]),
        (snapshot(Part(b"link", b"to", external=SYMLINK)), "SYMLINK", [("member", b"to")]),
        (snapshot(Part(b"sub/" + LOG_NAME, b"deep")), "MULTI_LOG", [("log", b"deep")]),
        (snapshot(prefix=b"#!/bin/sh\n" * 5), "PREFIX_BYTES", []),
        (snapshot(trailing=b"k" * 700), "TRAILING_BYTES", []),
        (snapshot(Part(b"b.bin", b"b", method=99)), "MEMBER_METHOD_99", []),
        (build(Part(OVERVIEW_NAME, b"[]")), "OVERVIEW_INVALID", [("overview", b"[]")]),
    ],
    ids=["a42", "a43", "a47", "symlink", "a02", "a50", "a51", "a55", "a06"],
)  # fmt: skip
def test_an_odd_archive_is_split_with_a_note(
    plans: Plans, data: bytes, note: str, kept: list[tuple[str, bytes]]
) -> None:
    plan = plans.add(data)
    plans.run()
    status, outcome, _, notes = plans.item(plan)
    assert (status, outcome) == ("done", "MIGRATED")
    assert note in notes
    found = [(kind, body) for kind, _, body in plans.originals(plan) if kind != "snapshot"]
    assert found == kept
    assert ("snapshot", "", data) in plans.originals(plan)
    runzip.verify(plans.row(plan)["run_zip_snapshot"])


def test_an_empty_archive_is_clean_a57(plans: Plans) -> None:
    plan = plans.add(build())
    assert dict(plans.run().tally.outcomes) == {"CLEAN": 1}
    assert plans.item(plan)[3] == ["EMPTY"]
    assert plans.row(plan)["run_artifact_layout_version"] == 2


def test_rows_in_use_and_rows_without_bytes_are_left_for_later_a39(plans: Plans) -> None:
    busy = plans.add(snapshot(), "processing")
    plans.add(b"")
    plans.add(None)
    summary = plans.run()
    assert dict(summary.tally.outcomes) == {"SKIPPED_BUSY": 1, "SKIPPED_NO_SOURCE": 1}
    assert plans.row(busy)["run_artifact_layout_version"] is None
    assert not summary.is_finished
    plans.set(busy, "state", "completed")
    assert plans.run().tally.outcomes["MIGRATED"] == 1


def test_a_purged_log_does_not_come_back_a29(plans: Plans) -> None:
    plan = plans.add(build(*CLEAN, comment=b"x"))
    plans.run()
    assert plans.item(plan)[3] == ["COMMENT_DROPPED"]
    row = plans.row(plan)
    assert (row["run_track_activity_jsonl"], row["run_track_activity_bytes"]) == (None, None)


def test_null_in_json_becomes_null(plans: Plans) -> None:
    plan = plans.add(build(SNAPSHOT[1]))
    plans.set(plan, "run_activity_overview_json", "null")
    plans.run()
    with plans.opened() as conn:
        row = conn.execute("SELECT run_activity_overview_json IS NULL FROM task_item").fetchone()
    assert row == (True,)


# --- Runs -----------------------------------------------------------------------------------


def fifty(plans: Plans) -> list[UUID]:
    kinds = [snapshot(), build(*CLEAN), b"hello", snapshot(Part(b"../x", b"y")), b""]
    return [plans.add(kinds[n % 5]) for n in range(50)]


def test_a_dry_run_counts_as_the_real_run_will_and_writes_nothing_a34(plans: Plans) -> None:
    fifty(plans)
    before = plans.all()
    dry = plans.run(is_dry_run=True)
    assert plans.all() == before
    with plans.opened() as conn:
        assert conn.execute("SELECT count(*) FROM job_items").fetchone() == (0,)
    assert plans.run().tally.outcomes == dry.tally.outcomes


def test_a_second_run_changes_nothing_a35(plans: Plans) -> None:
    fifty(plans)
    plans.run()
    before = plans.all()
    again = plans.run()
    assert dict(again.tally.outcomes) == {}
    assert (again.remaining, again.is_finished) == (0, True)
    assert plans.all() == before


def test_a_limit_stops_and_the_next_run_goes_on(plans: Plans) -> None:
    fifty(plans)
    assert plans.run(limit=7).tally.rows == 7
    with plans.opened() as conn:
        open_items = conn.execute("SELECT count(*) FROM job_items WHERE status = 'leased'")
        assert open_items.fetchone() == (0,)
    assert plans.run().tally.rows == 43
    assert plans.run().is_finished


def test_a_retried_reason_is_tried_again(plans: Plans) -> None:
    plan = plans.add(b"hello")
    plans.run()
    assert plans.run().tally.rows == 0
    with plans.opened() as conn:
        assert ledger.requeue(conn, "ZIP_NOT_ZIP") == 1
        assert ledger.status(conn)[0]["items"] == {"pending": 1}
    assert plans.run().tally.rows == 1
    plans.set(plan, "run_zip_snapshot", snapshot())
    assert dict(plans.run().tally.outcomes) == {"MIGRATED": 1}, "other bytes are looked at again"


def test_a_restored_plan_is_as_before_and_stays_so_a58(plans: Plans) -> None:
    data = snapshot()
    plan = plans.add(data)
    before = plans.row(plan)
    plans.run()
    with plans.opened() as conn:
        assert restore(conn, plan).size == len(data)
    assert plans.row(plan) == before
    assert plans.run().tally.rows == 0
    with plans.opened() as conn:
        assert ledger.requeue(conn, "RESTORED") == 1
    assert dict(plans.run().tally.outcomes) == {"MIGRATED": 1}


def test_a_plan_that_changed_since_is_not_restored(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    plans.set(plan, "run_zip_snapshot", build(*CLEAN, Part(b"new", b"new")))
    with plans.opened() as conn, pytest.raises(ExporterError, match="changed after its split"):
        restore(conn, plan)


def test_a_plan_that_became_legacy_again_is_split_again(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    plans.set(plan, "run_zip_snapshot", snapshot(Part(b"b", b"b")))
    plans.set(plan, "run_artifact_layout_version", None)
    assert dict(plans.run().tally.outcomes) == {"MIGRATED": 1}
    assert len([kind for kind, _, _ in plans.originals(plan) if kind == "snapshot"]) == 2


def test_pending_rows_are_found_by_index(plans: Plans) -> None:
    fifty(plans)
    plans.run()
    with plans.opened() as conn:
        conn.execute("SET enable_seqscan = off")
        plan = conn.execute(
            "EXPLAIN SELECT id FROM task_item WHERE run_zip_snapshot IS NOT NULL AND"
            " (run_artifact_layout_version IS NULL OR run_artifact_layout_version < 2)"
            " ORDER BY id LIMIT 10"
        ).fetchall()
    assert any("exporter_pending_snapshots" in line[0] for line in plan)


def test_the_index_is_built_beside_writers_when_it_is_absent(plans: Plans) -> None:
    with plans.opened() as conn:
        conn.execute("DROP INDEX exporter_pending_snapshots")
    plans.add(snapshot())
    plans.run()
    with plans.opened() as conn:
        assert SnapshotSplit().table(conn).is_indexed


# --- Memory ---------------------------------------------------------------------------------

MIB = 1024 * 1024


def peak(data: bytes, **options: Any) -> tuple[int, Split]:
    """The most bytes that a split had allocated at once beside its source, and what it found."""
    tracemalloc.start()
    try:
        found = split(data, **options)
        return tracemalloc.get_traced_memory()[1], found
    finally:
        tracemalloc.stop()


def noise(size: int) -> bytes:
    """Text that hardly shrinks, the same every time."""
    made = hashlib.shake_256(b"noise").digest(size // 2)
    return made.hex().encode()


def test_splitting_holds_no_more_than_source_result_and_log() -> None:
    text = noise(8 * MIB)
    data = build(*log_part(text), Part(b"kept.bin", noise(4 * MIB)))
    most, found = peak(data)
    assert found.text is not None and bytes(found.text) == text
    # A growing text has an eighth of its size in reserve.
    assert most < found.size + len(text) * 9 / 8 + 2 * MIB


def test_a_log_that_is_no_text_is_kept_whole() -> None:
    raw = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(2000))
    found = split(build(*log_part(raw)))
    assert found.text is not None and found.snapshot is not None
    assert zlib.crc32(b"".join(kept.body or b"" for kept in found.originals)) == zlib.crc32(raw)


def test_members_that_leave_the_archive_do_not_fill_the_memory() -> None:
    parts = [Part(b"../x%d" % n, bytes(32 * MIB)) for n in range(10)]
    data = build(*CLEAN, *parts)
    assert len(data) < MIB
    most, found = peak(data)
    assert most < 256 * MIB
    assert [kept.path for kept in found.originals] == ["../x0", "../x1"]


def test_members_and_a_log_that_is_no_text_do_not_fill_the_memory_together() -> None:
    """The log is kept twice, as text and as it is, and with it what leaves the archive."""
    log = b"\xff" + b"x" * (31 * MIB)
    most, found = peak(
        build(*log_part(log), *(Part(b"../%d" % n, bytes(32 * MIB)) for n in range(3)))
    )
    assert most < 170 * MIB, "leaves room for the process and for sending"
    assert [kept.kind for kept in found.originals] == ["log", "member", "member"]


def test_what_is_beyond_the_total_is_kept_in_the_snapshot_only(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_split, "ORIGINALS_BYTES", 10)
    data = snapshot(Part(b"../a", b"123456"), Part(b"../b", b"12345"), Part(b"../c", b"1234"))
    plan = plans.add(data)
    plans.run()
    found = plans.originals(plan)
    assert [path for _, path, _ in found] == ["../a", "../c", ""]
    assert found[-1] == ("snapshot", "", data)


def test_the_exact_log_is_kept_whatever_its_size(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_split, "MEMBER_MAX_BYTES", 3)
    monkeypatch.setattr(snapshot_split, "ORIGINALS_BYTES", 3)
    plan = plans.add(build(*log_part(b"one\0two\n")))
    plans.run()
    assert plans.row(plan)["run_track_activity_encoding"] == "utf8-lossy"
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "test")) == b"one\0two\n"


# --- A log that stands in the row -----------------------------------------------------------


def test_a_log_in_the_row_is_kept_before_another_takes_its_place(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.set(plan, "run_track_activity_jsonl", "earlier \u00e9\n")
    plans.run()
    assert plans.row(plan)["run_track_activity_jsonl"].encode() == LOG_DATA
    assert plans.originals(plan)[0] == ("log", "", "earlier \u00e9\n".encode())


def test_a_reference_stays_beside_a_text_that_is_split_later(plans: Plans) -> None:
    plan = plans.add(build(*log_part(b"first\n")))
    plans.run(SnapshotSplit("compact"))
    reference = plans.row(plan)["run_track_activity_ref"]
    plans.set(plan, "run_zip_snapshot", snapshot())
    plans.set(plan, "run_artifact_layout_version", None)
    plans.run()
    assert plans.row(plan)["run_track_activity_ref"] == reference
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "test")) == LOG_DATA
        assert store.verify(conn) == (1, [])


@pytest.mark.parametrize("is_dry", [False, True])
def test_a_packed_log_does_not_take_the_place_of_another(plans: Plans, is_dry: bool) -> None:
    """Nothing would refer to the first one any more, and it would be collected."""
    plan = plans.add(build(*log_part(b"first\n")))
    plans.run(SnapshotSplit("compact"))
    plans.set(plan, "run_zip_snapshot", snapshot())
    plans.set(plan, "run_artifact_layout_version", None)
    before = plans.row(plan)
    summary = plans.run(SnapshotSplit("compact"), is_dry_run=is_dry)
    assert dict(summary.tally.outcomes) == {"QUARANTINED": 1}
    assert plans.row(plan) == before
    if not is_dry:
        assert plans.item(plan)[2] == "LOG_STANDS"
        with plans.opened() as conn:
            ledger.requeue(conn, "LOG_STANDS")
        plans.run(SnapshotSplit("text"))
        assert plans.row(plan)["run_track_activity_jsonl"].encode() == LOG_DATA


def test_members_with_names_too_long_for_an_index_are_kept_all_the_same(plans: Plans) -> None:
    long = "../" + "\u00e9" * 2000
    parts = [Part((long + end).encode(), end.encode()) for end in ("one", "two")]
    plan = plans.add(build(*SNAPSHOT, *parts))
    plans.run()
    assert plans.item(plan)[1] == "MIGRATED"
    kept = [(path[:3], body) for kind, path, body in plans.originals(plan) if kind == "member"]
    assert sorted(kept) == [("../", b"one"), ("../", b"two")]


def test_a_restored_plan_keeps_a_log_that_was_not_in_its_snapshot(plans: Plans) -> None:
    data = build(*CLEAN, comment=b"x")
    plan = plans.add(data)
    plans.set(plan, "run_track_activity_jsonl", "mine")
    plans.set(plan, "run_track_activity_bytes", 4)
    plans.run()
    assert plans.item(plan)[1] == "MIGRATED"
    with plans.opened() as conn:
        restore(conn, plan)
    row = plans.row(plan)
    assert (row["run_zip_snapshot"], row["run_track_activity_jsonl"]) == (data, "mine")
    assert row["run_track_activity_bytes"] == 4
