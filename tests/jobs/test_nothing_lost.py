"""Bytes that used to be lost, or unreadable, at the edges of what is stored."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path

import psycopg
import pytest

from exporter.artifacts import finalise as module
from exporter.artifacts import store
from exporter.artifacts.finalise import finalise
from exporter.artifacts.upload import put
from exporter.core import runzip
from exporter.errors import ExporterError
from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import Part, build, snapshot
from tests.jobs.plans import Plans

#: A stream whose code for distances is incomplete: the decoder that archives are read with takes
#: it, zlib does not.
ODD_STREAM = bytes.fromhex(
    "05c1c10100200802c07fd3a84d8480b6ff04d93d12d015e9d1c9144b6bcc92ee7144226bda1f"
)
ODD_DATA = b"3\nddaab201efd\n11dc2dgeafgccebfe001a12fbe"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "run"
    place.mkdir()
    (place / "track_activity.jsonl").write_bytes(b'{"n": 2}\n')
    (place / "plan.txt").write_text("a plan")
    return place


def with_a_run_inside(folder: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("track_activity.jsonl", b"{}\n")
    (folder / "inner.zip").write_bytes(inner.getvalue())


def test_a_folder_without_a_snapshot_that_may_be_served_stays(plans: Plans, folder: Path) -> None:
    """Its files are nowhere else. Stored again, once mended, the log is not there twice."""
    with_a_run_inside(folder)
    plan = plans.add(None)
    assert finalise(plans.opener, plan, folder).snapshot is None
    assert (folder / "plan.txt").read_text() == "a plan"
    (folder / "inner.zip").unlink()
    assert finalise(plans.opener, plan, folder).snapshot is not None
    assert plans.row(plan)["run_track_activity_jsonl"] == '{"n": 2}\n'
    assert not folder.exists()


def test_a_snapshot_that_no_new_one_follows_is_kept(plans: Plans, folder: Path) -> None:
    before = build(Part(b"plan.txt", b"the first"))
    plan = plans.add(before, run_artifact_layout_version=2)
    with_a_run_inside(folder)
    finalise(plans.opener, plan, folder)
    assert plans.originals(plan) == [("snapshot", "", before)]


def test_a_legacy_snapshot_with_an_earlier_log_is_kept(plans: Plans, folder: Path) -> None:
    before = snapshot()
    plan = plans.add(before)
    finalise(plans.opener, plan, folder)
    assert plans.originals(plan) == [("snapshot", "", before)]


def test_a_split_snapshot_is_replaced_without_a_copy(plans: Plans, folder: Path) -> None:
    plan = plans.add(build(Part(b"plan.txt", b"the first")), run_artifact_layout_version=2)
    finalise(plans.opener, plan, folder)
    assert plans.originals(plan) == []


@pytest.mark.parametrize("year", [1969, 2150])
def test_a_time_that_no_zip_can_say_is_the_nearest(
    plans: Plans, folder: Path, year: int
) -> None:  # fmt: skip
    seconds = (year - 1970) * 31_556_952
    os.utime(folder / "plan.txt", (seconds, seconds))
    run = finalise(plans.opener, plans.add(None), folder)
    assert run.snapshot is not None
    with zipfile.ZipFile(io.BytesIO(run.snapshot)) as archive:
        assert archive.infolist()[0].date_time[0] == (1980 if year < 1980 else 2107)


def test_a_folder_that_cannot_be_removed_is_told_in_a_sentence(
    plans: Plans, folder: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    plan = plans.add(None)
    with pytest.raises(ExporterError, match=r"finalised, but .* could not be removed"):
        finalise(plans.opener, plan, link)
    assert plans.row(plan)["run_track_activity_jsonl"] == '{"n": 2}\n'


def test_a_packed_log_that_zlib_refuses_is_given_back(plans: Plans) -> None:
    """Whatever was accepted is read back by the same decoder."""
    with pytest.raises(zlib.error):
        zlib.decompressobj(-15).decompress(ODD_STREAM)
    log = Part(b"track_activity.jsonl", ODD_DATA, packed=ODD_STREAM)
    plan = plans.add(build(Part(b"plan.txt", b"x"), log))
    plans.run(SnapshotSplit("compact"))
    assert plans.item(plan)[0] == "done"
    with plans.opened() as conn:
        assert b"".join(store.read_log(conn, plan, "")) == ODD_DATA


@pytest.mark.parametrize("size", [1, 7, 65_536, 10**7])
def test_gunzip_gives_what_zlib_gives_in_bounded_chunks(size: int) -> None:
    data = bytes(3_000_000) + os.urandom(300_000)
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    packed = packer.compress(data) + packer.flush()
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    chunks = list(runzip.gunzip(pieces))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 256 * 1024
    with pytest.raises(runzip.BrokenStream):
        list(runzip.gunzip([packed[:-9]]))


@pytest.mark.parametrize("way", ["put", "finalize"])
def test_an_old_program_cannot_pass_a_log_off_as_what_was_proven(
    plans: Plans, folder: Path, way: str
) -> None:
    """It runs a plan again and leaves the layout at 2, as for plans that the backfill split."""
    plan = plans.add(None)
    clean = build(Part(b"plan.txt", b"x"))
    with plans.opened() as conn:
        if way == "put":
            put(conn, plan, clean)
        else:
            finalise(plans.opener, plan, folder)
        served = b"".join(store.download(conn, plan))
        assert served == plans.row(plan)["run_zip_snapshot"]
        plans.set(plan, "run_zip_snapshot", snapshot())
        names = [m.entry.name for m in runzip.inspect(b"".join(store.download(conn, plan))).members]
        assert names and b"track_activity.jsonl" not in names
        _, offenders = store.verify(conn)
        assert [(one.plan, one.is_demoted) for one in offenders] == [(plan, True)]
    plans.run()
    assert plans.item(plan)[:2] == ("done", "MIGRATED")


def test_a_role_without_rights_is_told_so_and_the_plan_did_not_fail(
    plans: Plans, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object) -> None:
        raise psycopg.errors.InsufficientPrivilege("permission denied for table task_item")

    monkeypatch.setattr(module, "_store", refused)
    plan = plans.add(None, "processing")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        finalise(plans.opener, plan, folder)
    with plans.opened() as conn:
        states = conn.execute("SELECT state::text FROM task_item").fetchall()
    assert states == [("processing",)]
    assert folder.exists()
