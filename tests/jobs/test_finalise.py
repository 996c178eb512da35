"""The end of a run: its folder becomes a plan's artifacts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.artifacts import finalise as module
from exporter.artifacts import logs, store
from exporter.artifacts.finalise import finalise
from exporter.core import runzip
from exporter.errors import ExporterError
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import snapshot
from tests.jobs.plans import Plans

LOG = b'{"event_type": "LLMChatEndEvent"}\n' * 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "run"
    (place / "sub").mkdir(parents=True)
    (place / "track_activity.jsonl").write_bytes(LOG)
    (place / "activity_overview.json").write_text('{"total_cost": 0.5, "models": {}}')
    (place / "log.txt").write_text("debug")
    (place / "030-report.html").write_text("<html>")
    (place / "sub" / "notes.md").write_text("# notes")
    return place


def names(plans: Plans, plan: Any) -> list[bytes]:
    data = plans.row(plan)["run_zip_snapshot"]
    return [member.entry.name for member in runzip.inspect(data).members]


def test_a_folder_becomes_artifacts_and_goes_a01(plans: Plans, folder: Path) -> None:
    plan = plans.add(None, "processing")
    run = finalise(plans.opener, plan, folder)
    row = plans.row(plan)
    assert names(plans, plan) == [b"030-report.html", b"activity_overview.json", b"sub/notes.md"]
    assert row["run_track_activity_jsonl"].encode() == LOG
    assert (row["run_track_activity_bytes"], row["run_artifact_layout_version"]) == (len(LOG), 2)
    assert row["run_activity_overview_json"] == {"total_cost": 0.5, "models": {}}
    assert (run.notes, folder.exists()) == ([], False)


def test_a_second_log_and_links_stay_out_a02_a03(plans: Plans, folder: Path) -> None:
    (folder / "sub" / "track_activity.jsonl").write_bytes(b"deep")
    (folder / "copy.txt").symlink_to(folder / "track_activity.jsonl")
    os.mkfifo(folder / "pipe")
    plan = plans.add(None)
    assert finalise(plans.opener, plan, folder).notes == ["MULTI_LOG"]
    assert b"sub/notes.md" in names(plans, plan)
    assert len(names(plans, plan)) == 3
    assert plans.originals(plan) == [("log", "sub/track_activity.jsonl", b"deep")]


@pytest.mark.parametrize("data", [b"one\n\0two\n", b"\xff\xfe\x41", b""])
def test_any_log_commits_and_reads_back_exactly_a04_a05(
    plans: Plans, folder: Path, data: bytes
) -> None:
    (folder / "track_activity.jsonl").write_bytes(data)
    plan = plans.add(None)
    finalise(plans.opener, plan, folder)
    assert plans.row(plan)["run_track_activity_bytes"] == len(data)
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "")) == data


def test_no_log_is_null_and_not_empty(plans: Plans, folder: Path) -> None:
    (folder / "track_activity.jsonl").unlink()
    plan = plans.add(None)
    finalise(plans.opener, plan, folder)
    row = plans.row(plan)
    assert (row["run_track_activity_jsonl"], row["run_track_activity_bytes"]) == (None, None)
    assert row["run_artifact_layout_version"] == 2


@pytest.mark.parametrize(
    ("text", "stored"),
    [("[1,2]", None), ('{"total_cost": NaN, "total_tokens": 9}', 9)],
    ids=["a06", "a07"],
)
def test_only_an_object_is_an_overview(
    plans: Plans, folder: Path, text: str, stored: int | None
) -> None:
    (folder / "activity_overview.json").write_text(text)
    plan = plans.add(None)
    run = finalise(plans.opener, plan, folder)
    found = plans.row(plan)["run_activity_overview_json"]
    if stored is None:
        assert (found, run.notes) == (None, ["OVERVIEW_INVALID"])
        assert plans.originals(plan) == [("overview", "activity_overview.json", text.encode())]
    else:
        assert (found["total_cost"], found["total_tokens"]) == (None, stored)


def refusing(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    real = module._store
    left = times

    def refuse(*args: Any) -> None:
        nonlocal left
        if left:
            left -= 1
            raise psycopg.OperationalError("not now")
        real(*args)

    monkeypatch.setattr(module, "_store", refuse)


def test_the_third_try_counts_a08(
    plans: Plans, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, 2)
    plan = plans.add(None)
    finalise(plans.opener, plan, folder)
    assert plans.row(plan)["run_artifact_layout_version"] == 2
    assert not folder.exists()


def test_after_three_refusals_the_folder_stays_a09(
    plans: Plans, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, 3)
    plan = plans.add(None, "processing")
    with pytest.raises(ExporterError, match="refused 3 times"):
        finalise(plans.opener, plan, folder)
    with plans.opened() as conn:
        row = conn.execute("SELECT state::text, progress_message FROM task_item").fetchone()
    assert row is not None and row[0] == "failed" and "could not be stored" in row[1]
    assert (folder / "track_activity.jsonl").read_bytes() == LOG


def test_a_resumed_run_continues_its_log_a26(plans: Plans, folder: Path) -> None:
    plan = plans.add(None)
    plans.set(plan, "run_track_activity_jsonl", "earlier\n")
    plans.set(plan, "run_track_activity_encoding", "utf8")
    for _ in range(2):  # done again, as after a commit without an answer
        finalise(plans.opener, plan, folder, keep_folder=True)
        row = plans.row(plan)
        assert row["run_track_activity_jsonl"].encode() == b"earlier\n" + LOG
        assert row["run_track_activity_bytes"] == 8 + len(LOG)


def test_a_resumed_run_that_repeats_the_end_of_the_log_is_stored_too(
    plans: Plans, folder: Path
) -> None:
    plan = plans.add(None)
    plans.set(plan, "run_track_activity_jsonl", LOG.decode())
    for _ in range(2):
        finalise(plans.opener, plan, folder, keep_folder=True)
        assert plans.row(plan)["run_track_activity_jsonl"].encode() == LOG * 2
    # Another run, whose folder is another one.
    other = folder.with_name("other")
    other.mkdir()
    (other / "track_activity.jsonl").write_bytes(LOG)
    finalise(plans.opener, plan, other)
    assert plans.row(plan)["run_track_activity_jsonl"].encode() == LOG * 3
    assert b".exporter-finalize.json" not in names(plans, plan)


def test_a_lost_answer_does_not_store_the_part_twice(
    plans: Plans, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    plan = plans.add(None)
    plans.set(plan, "run_track_activity_jsonl", LOG.decode())
    real, calls = module._store, []

    def lose(*args: Any) -> None:
        real(*args)
        calls.append(1)
        if len(calls) == 1:
            raise psycopg.OperationalError("no answer")

    monkeypatch.setattr(module, "_store", lose)
    finalise(plans.opener, plan, folder)
    assert (len(calls), plans.row(plan)["run_track_activity_jsonl"].encode()) == (2, LOG * 2)


def test_a_link_in_the_place_of_the_mark_is_not_written_through(
    plans: Plans, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (folder / module.MARK_NAME).symlink_to(target)
    finalise(plans.opener, plans.add(None), folder, keep_folder=True)
    assert target.read_text() == "mine"


def test_a_stale_reference_is_not_put_before_a_run(plans: Plans, folder: Path) -> None:
    plan = plans.add(snapshot())
    plans.run(SnapshotSplit("compact"))
    plans.set(plan, "run_track_activity_jsonl", "new\n")
    plans.set(plan, "run_track_activity_bytes", 4)
    finalise(plans.opener, plan, folder)
    assert plans.row(plan)["run_track_activity_jsonl"].encode() == b"new\n" + LOG


def test_a_superseded_run_stores_nothing_a27(plans: Plans, folder: Path) -> None:
    plan = plans.add(None, "failed")
    with plans.opened() as conn:
        store.reset(conn, plan)
    before = plans.row(plan)
    with pytest.raises(ExporterError, match="STALE_RUN"):
        finalise(plans.opener, plan, folder, 0)
    assert plans.row(plan) == before
    assert folder.exists()


def test_a_large_log_is_packed_a32(
    plans: Plans, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "INLINE_MAX_BYTES", 10)
    plan = plans.add(None)
    finalise(plans.opener, plan, folder)
    row = plans.row(plan)
    assert (row["run_track_activity_jsonl"], row["run_track_activity_encoding"]) == (
        None, "external",
    )  # fmt: skip
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "")) == LOG


def test_what_could_not_be_proven_clean_is_not_stored(plans: Plans, folder: Path) -> None:
    import io
    import zipfile

    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("track_activity.jsonl", LOG)
    (folder / "inner.zip").write_bytes(inner.getvalue())
    plan = plans.add(None)
    assert finalise(plans.opener, plan, folder).notes == ["NESTED_ARCHIVE"]
    row = plans.row(plan)
    assert (row["run_zip_snapshot"], row["run_artifact_layout_version"]) == (None, 2)
    assert row["run_track_activity_jsonl"].encode() == LOG
