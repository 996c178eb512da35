"""What may be handed out of a plan, and what checks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from exporter.artifacts import store
from exporter.core import runzip
from exporter.errors import ExporterError
from exporter.jobs.restore import restore
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_DATA,
    LOG_NAME,
    OVERVIEW_NAME,
    Part,
    build,
    snapshot,
)  # fmt: skip
from tests.jobs.plans import Plans


def download(plans: Plans, plan: UUID) -> bytes:
    with plans.opened() as conn:
        return b"".join(map(bytes, store.download(conn, plan)))


def overview(plans: Plans, plan: UUID) -> dict[str, Any]:
    with plans.opened() as conn:
        return store.overview(conn, plan)


# --- Download -------------------------------------------------------------------------------


def test_a_split_plan_is_handed_out_as_stored_without_a_look_a10(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans.add(snapshot())
    plans.run()
    monkeypatch.setattr(runzip, "sanitise", None)
    monkeypatch.setattr(runzip, "inspect", None)
    assert download(plans, plan) == plans.row(plan)["run_zip_snapshot"]


def test_a_legacy_plan_loses_the_log_on_the_way_a11(plans: Plans) -> None:
    plan = plans.add(snapshot())
    archive = runzip.inspect(download(plans, plan))
    assert [member.entry.name for member in archive.members] == [part.name for part in CLEAN]
    assert plans.row(plan)["run_zip_snapshot"] == snapshot()


def test_a_legacy_plan_without_a_log_is_unchanged_a12(plans: Plans) -> None:
    assert download(plans, plans.add(build(*CLEAN))) == build(*CLEAN)


def exchanged_for(plans: Plans, *parts: Part) -> tuple[UUID, bytes]:
    """A split plan over whose snapshot somebody wrote another of the very same length."""
    plan = plans.add(snapshot(Part(b"large", bytes(9_000), method=0)))
    plans.run()
    size = len(plans.row(plan)["run_zip_snapshot"])
    room = size - len(build(*parts, Part(b"pad", method=0)))
    other = build(*parts, Part(b"pad", bytes(room), method=0))
    assert len(other) == size
    plans.set(plan, "run_zip_snapshot", other)
    return plan, other


def test_a_log_in_a_snapshot_of_the_same_length_as_the_split_one_is_not_handed_out(
    plans: Plans,
) -> None:
    plan, _ = exchanged_for(plans, Part(LOG_NAME, LOG_DATA), *CLEAN)
    found = download(plans, plan)
    assert [one.entry.name for one in runzip.inspect(found).members] == [
        *(part.name for part in CLEAN), b"pad",
    ]  # fmt: skip
    assert LOG_NAME not in found


def test_a_clean_snapshot_of_the_same_length_as_the_split_one_is_handed_out_as_stored(
    plans: Plans,
) -> None:
    plan, other = exchanged_for(plans, *CLEAN)
    assert download(plans, plan) == other


def test_nothing_is_told_of_what_is_absent(plans: Plans) -> None:
    for plan in (plans.add(None), UUID(int=99)):
        with pytest.raises(ExporterError, match="has no snapshot"):
            download(plans, plan)


# --- Overview -------------------------------------------------------------------------------


def test_the_column_comes_first_and_the_archive_only_for_legacy_rows_a19(plans: Plans) -> None:
    data = build(Part(b"n/" + OVERVIEW_NAME, b'{"total_cost": 1.25}'))
    legacy, split = plans.add(data), plans.add(data)
    plans.set(split, "run_artifact_layout_version", 2)
    assert (overview(plans, legacy)["total_cost"], overview(plans, legacy)["source"]) == (
        1.25, "snapshot",
    )  # fmt: skip
    found = overview(plans, split)
    assert (found["source"], found["total_cost"], found["has_data"]) == (None, None, False)


def test_a_null_in_json_counts_as_missing_a21(plans: Plans) -> None:
    plan = plans.add(build(Part(OVERVIEW_NAME, b'{"total_cost": 2}')))
    plans.set(plan, "run_activity_overview_json", "null")
    assert overview(plans, plan)["total_cost"] == 2


def test_an_unknown_cost_is_null_and_not_zero_a24(plans: Plans) -> None:
    value = {
        "total_cost": 0.0,
        "models": {"P:m": {"calls": 4, "total_cost": 0.0, "input_tokens": 7}},
    }
    plan = plans.add(None)
    plans.set(plan, "run_activity_overview_json", json.dumps(value))
    found = overview(plans, plan)
    assert (found["total_cost"], found["cost_status"], found["calls"]) == (None, "unknown", 4)
    assert found["models"][0]["cost"] is None
    assert found["models"][0]["input_tokens"] == 7


# --- The log --------------------------------------------------------------------------------


def test_each_read_of_a_log_is_recorded(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "incident 7")) == LOG_DATA
        rows = conn.execute("SELECT plan_id, kind, bytes, purpose FROM artifact_reads")
        assert rows.fetchall() == [(plan, "log", len(LOG_DATA), "incident 7")]


def finalised_by_its_owner(plans: Plans, plan: UUID, log: bytes | None) -> None:
    """As the owner's program does, which knows of these two columns and of no other of ours."""
    text = None if log is None else log.decode(errors="replace").replace("\0", "")
    plans.set(plan, "run_track_activity_jsonl", text)
    plans.set(plan, "run_track_activity_bytes", None if log is None else len(log))


@pytest.mark.parametrize("storage", ["text", "compact"])
@pytest.mark.parametrize("before", [LOG_DATA, b"one\0two\n"])
def test_the_log_of_an_earlier_run_is_not_handed_out(
    plans: Plans, storage: Any, before: bytes
) -> None:
    plan = plans.add(build(Part(LOG_NAME, before), *CLEAN))
    plans.run(SnapshotSplit(storage))
    same_size = b"n" * len(before)
    with plans.opened() as conn:
        for new in (b"new\n", same_size):
            finalised_by_its_owner(plans, plan, new)
            assert b"".join(store.read_log(conn, plan, "")) == new
            assert store.verify(conn) == (1, [])
        finalised_by_its_owner(plans, plan, None)
        with pytest.raises(ExporterError, match="has no log"):
            store.read_log(conn, plan, "")


def test_a_log_of_which_only_a_likeness_is_stored_is_not_taken_for_exact(plans: Plans) -> None:
    plan = plans.add(build(Part(LOG_NAME, b"one\0two\n"), *CLEAN))
    plans.run()
    finalised_by_its_owner(plans, plan, b"two\0one\n")
    with plans.opened() as conn, pytest.raises(ExporterError, match="log_unavailable"):
        store.read_log(conn, plan, "")


def test_a_plan_without_a_log_says_so(plans: Plans) -> None:
    plan = plans.add(build(*CLEAN))
    plans.run()
    with plans.opened() as conn, pytest.raises(ExporterError, match="has no log"):
        store.read_log(conn, plan, "")


# --- Verify, reset, cutover -----------------------------------------------------------------


@pytest.mark.parametrize("sample", [None, 5])
def test_a_dirty_split_row_is_found_named_and_demoted_a60(plans: Plans, sample: int | None) -> None:
    plans.add(snapshot())
    planted = plans.add(snapshot())
    plans.run()
    plans.set(planted, "run_zip_snapshot", snapshot())
    with plans.opened() as conn:
        seen, offenders = store.verify(conn, sample)
        assert seen == 2
        assert [(o.plan, o.reason, o.is_demoted) for o in offenders] == [
            (planted, "LOG_PRESENT", True)
        ]
        assert store.verify(conn, sample) == (1, [])
    runzip.verify(download(plans, planted))
    assert dict(plans.run().tally.outcomes) == {"MIGRATED": 1}


def test_a_snapshot_that_was_exchanged_is_reported(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    plans.set(plan, "run_zip_snapshot", build(*CLEAN, Part(b"new", b"")))
    with plans.opened() as conn:
        assert store.verify(conn) == (1, [store.Offender(plan, "HASH_DIFFERS", False)])
        assert store.verify(conn) == (1, []), "once: it is clean"
        with pytest.raises(ExporterError, match="no split of plan"):
            restore(conn, plan)


def test_a_snapshot_that_was_exchanged_for_a_damaged_one_is_reported_every_time(
    plans: Plans,
) -> None:
    plan = plans.add(snapshot())
    plans.run()
    plans.set(plan, "run_zip_snapshot", build(*CLEAN, Part(b"new", b"new", crc=1)))
    with plans.opened() as conn:
        for _ in range(2):
            assert store.verify(conn) == (1, [store.Offender(plan, "HASH_DIFFERS", False)])


def test_a_retry_clears_everything_and_counts_on_a25(plans: Plans) -> None:
    plan = plans.add(snapshot())
    plans.run()
    with plans.opened() as conn:
        with pytest.raises(ExporterError, match="neither failed nor stopped"):
            store.reset(conn, plan)
        plans.set(plan, "state", "failed")
        assert store.reset(conn, plan) == 1
    row = plans.row(plan)
    assert row.pop("run_generation") == 1
    assert set(row.values()) == {None}


@pytest.mark.parametrize("change", ["reset", "retried", "deleted", "emptied", "mended"])
def test_the_cutover_does_not_wait_for_what_was_put_aside_of_a_plan_that_is_no_more(
    plans: Plans, change: str
) -> None:
    odd = plans.add(b"hello", state="failed")
    plans.run()
    with plans.opened() as conn:
        assert store.cut_over(conn) == (1, 1)
        if change == "reset":
            store.reset(conn, odd)
        elif change == "retried":
            store.reset(conn, odd)
            plans.set(odd, "run_zip_snapshot", build(*CLEAN))
            plans.set(odd, "state", "completed")
            assert store.cut_over(conn) == (1, 0), "what is new is legacy, and not put aside"
            plans.run()
        elif change == "deleted":
            conn.execute("DELETE FROM task_item")
        elif change == "emptied":
            plans.set(odd, "run_zip_snapshot", b"")
        else:
            plans.set(odd, "run_artifact_layout_version", 2)
        assert conn.execute(
            "SELECT count(*) FROM job_items WHERE status = 'quarantined'"
        ).fetchone() == (1,)
        assert store.cut_over(conn) == (0, 0)
        assert store.is_cut_over(conn)


def test_the_cutover_waits_for_the_last_row_and_ends_legacy_service_a59(plans: Plans) -> None:
    plan, odd = plans.add(snapshot()), plans.add(b"hello")
    with plans.opened() as conn:
        assert store.cut_over(conn) == (2, 0)
        plans.run()
        assert store.cut_over(conn) == (1, 1)
        assert not store.is_cut_over(conn)
        plans.set(odd, "run_zip_snapshot", None)
        assert store.cut_over(conn) == (0, 0)
        assert store.is_cut_over(conn)
    assert runzip.inspect(download(plans, plan)).log is None
    with pytest.raises(ExporterError, match="content_unavailable"):
        download(plans, plans.add(snapshot()))


# --- The commands ---------------------------------------------------------------------------


def exporter(plans: Plans, *args: str) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "EXPORTER_DATABASE_URL": plans.settings.database_url or ""}
    return subprocess.run(
        [sys.executable, "-m", "exporter", *args], env=environ, capture_output=True, timeout=60
    )


def test_the_commands_work_together(plans: Plans, tmp_path: Path) -> None:
    plan, odd = plans.add(snapshot()), plans.add(b"hello")
    first = exporter(plans, "backfill", "--json")
    assert first.returncode == 3, first.stderr
    lines = [json.loads(line) for line in first.stdout.splitlines()]
    assert [(line["event"], line["job"]) for line in lines] == [
        ("summary", "snapshots"), ("summary", "remotes"),
    ]  # fmt: skip
    assert lines[0]["outcomes"] == {"MIGRATED": 1, "QUARANTINED": 1}
    assert exporter(plans, "backfill").returncode == 0

    listed = exporter(plans, "jobs", "quarantine", "--json")
    assert (listed.returncode, json.loads(listed.stdout)[0]["item"]) == (3, str(odd))
    status = json.loads(exporter(plans, "jobs", "status", "--json").stdout)
    assert status[1]["quarantine"] == {"ZIP_NOT_ZIP": 1}

    target = tmp_path / "run.zip"
    done = exporter(plans, "artifacts", "download", str(plan), "-o", str(target))
    assert (done.returncode, done.stdout) == (0, b"")
    assert target.read_bytes() == plans.row(plan)["run_zip_snapshot"]
    refused = exporter(plans, "artifacts", "download", str(odd), "-o", str(tmp_path / "odd"))
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"content_unavailable" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.zip"]

    assert exporter(plans, "artifacts", "log", str(plan)).stdout == LOG_DATA
    shown = exporter(plans, "artifacts", "overview", str(plan), "--json")
    assert json.loads(shown.stdout)["total_cost"] == 0.5
    assert exporter(plans, "artifacts", "verify", "--all").returncode == 0
    assert exporter(plans, "jobs", "restore", str(plan)).returncode == 0
    assert exporter(plans, "artifacts", "cutover").returncode == 1
    assert exporter(plans, "jobs", "retry", "RESTORED").returncode == 0


def test_all_plans_go_back_one_by_one(plans: Plans) -> None:
    first, second, changed = (plans.add(snapshot(Part(b"n", bytes([n])))) for n in range(3))
    plans.run()
    # Of the same size, so that only its hash tells.
    split = plans.row(changed)["run_zip_snapshot"]
    plans.set(changed, "run_zip_snapshot", split[:-1] + bytes([split[-1] ^ 1]))
    done = exporter(plans, "jobs", "restore", "--all", "--json")
    sizes = sum(len(snapshot(Part(b"n", bytes([n])))) for n in range(2))
    assert json.loads(done.stdout) == {"restored": 2, "left": 1, "snapshot_bytes": sizes}
    assert done.returncode == 3
    assert f"plan {changed} was changed after its split" in done.stderr.decode()
    for number, plan in enumerate((first, second)):
        assert plans.row(plan)["run_zip_snapshot"] == snapshot(Part(b"n", bytes([number])))
        assert plans.item(plan)[2] == "RESTORED"
    again = json.loads(exporter(plans, "jobs", "restore", "--all", "--json").stdout)
    assert again == {"restored": 0, "left": 1, "snapshot_bytes": 0}
    for wrong in ((), (str(first), "--all")):
        assert exporter(plans, "jobs", "restore", *wrong).returncode == 2
