"""What an administrator's upload replaces is kept by the rule of the backfill."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from exporter.artifacts import logs, originals, upload
from exporter.artifacts.logs import Placement
from exporter.artifacts.objects import Objects
from exporter.cli.main import run
from exporter.errors import ExporterError, ObjectStoreUnavailable
from tests.core.test_runzip_builders import CLEAN, SYMLINK, Part, build, snapshot
from tests.jobs.plans import Plans

NEW = build(*CLEAN, Part(b"new.txt", b"new"))


@pytest.fixture
def split(plans: Plans) -> UUID:
    """A split plan; what the split itself kept is out of the way."""
    plan = plans.add(snapshot())
    plans.run()
    with plans.opened() as conn:
        conn.execute("DELETE FROM artifact_originals")
    return plan


def kept(plans: Plans) -> list[tuple[Any, ...]]:
    """Of each original: generation, kind, and whether it is outside the database."""
    with plans.opened() as conn:
        query = "SELECT generation, kind, body IS NULL FROM artifact_originals ORDER BY 1"
        return conn.execute(query).fetchall()


def listed(plans: Plans) -> int:
    with plans.opened() as conn:
        row = conn.execute("SELECT count(*) FROM artifact_objects").fetchone()
    assert row is not None
    return int(row[0])


def test_a_large_replaced_snapshot_is_kept_in_the_object_store_and_read_back(
    plans: Plans, split: UUID, objects: Objects
) -> None:
    before = plans.row(split)["run_zip_snapshot"]
    with plans.opened() as conn:
        assert upload.put(conn, split, NEW, Placement(objects, len(before) - 1)) == 1
        row = conn.execute("SELECT original_id FROM artifact_originals").fetchone()
        assert row is not None
        assert originals.read(conn, row[0], "test", objects) == before
    assert kept(plans) == [(0, "snapshot", True)]
    assert plans.row(split)["run_zip_snapshot"] == NEW


def test_a_replaced_snapshot_within_the_limit_is_kept_in_the_database(
    plans: Plans, split: UUID, objects: Objects
) -> None:
    before = plans.row(split)["run_zip_snapshot"]
    with plans.opened() as conn:
        upload.put(conn, split, NEW, Placement(objects, len(before)))
    assert plans.originals(split) == [("snapshot", "", before)]
    assert listed(plans) == 0


def test_once_the_database_is_full_even_a_small_replaced_snapshot_leaves_it(
    plans: Plans, split: UUID, objects: Objects
) -> None:
    with plans.opened() as conn:
        upload.put(conn, split, NEW, Placement(objects, inline_total_max_bytes=0))
    assert kept(plans) == [(0, "snapshot", True)]


def test_an_upload_of_what_is_there_keeps_no_second_copy_of_it(
    plans: Plans, split: UUID, objects: Objects
) -> None:
    before = plans.row(split)["run_zip_snapshot"]
    with plans.opened() as conn:
        assert upload.put(conn, split, before, Placement(objects, 0)) == 1
    assert (kept(plans), listed(plans)) == ([], 0)


def test_a_plan_without_a_snapshot_has_nothing_to_be_kept(plans: Plans, objects: Objects) -> None:
    for number, data in enumerate((None, b"")):
        plan = plans.add(data)
        with plans.opened() as conn:
            assert upload.put(conn, plan, NEW, Placement(objects, inline_total_max_bytes=0)) == 1
        assert plans.row(plan)["run_zip_snapshot"] == NEW, number
    assert (kept(plans), listed(plans)) == ([], 0)


def test_a_snapshot_that_changes_while_it_is_put_outside_is_not_replaced(
    plans: Plans, split: UUID, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build(*CLEAN, Part(b"other", b"of somebody else"))
    put_object = logs.put

    def slowly(*args: Any, **named: Any) -> logs.Reference:
        plans.set(split, "run_zip_snapshot", other)
        return put_object(*args, **named)

    monkeypatch.setattr(logs, "put", slowly)
    with plans.opened() as conn, pytest.raises(ExporterError, match="replaced by somebody else"):
        upload.put(conn, split, NEW, Placement(objects, 0))
    row = plans.row(split)
    assert (row["run_zip_snapshot"], row["run_generation"]) == (other, 0)
    assert kept(plans) == []


def test_a_store_that_fails_leaves_the_plan_as_it_was(
    plans: Plans, split: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plans.row(split)

    def fail(*args: Any) -> None:
        raise ObjectStoreUnavailable("/objects", "there is no room left")

    monkeypatch.setattr(Objects, "put", fail)
    with plans.opened() as conn, pytest.raises(ObjectStoreUnavailable):
        upload.put(conn, split, NEW, Placement(Objects(str(tmp_path)), 0))
    assert plans.row(split) == before
    assert kept(plans) == []


def test_nothing_is_put_outside_for_a_plan_that_a_run_is_at_work_on(
    plans: Plans, objects: Objects
) -> None:
    plan = plans.add(snapshot(), "processing")
    with plans.opened() as conn, pytest.raises(ExporterError, match="a run is at work"):
        upload.put(conn, plan, NEW, Placement(objects, 0))
    assert listed(plans) == 0


def test_the_command_takes_the_store_and_the_limit(
    plans: Plans, split: UUID, tmp_path: Path
) -> None:
    (tmp_path / "new.zip").write_bytes(NEW)
    words = ["artifacts", "put", str(split), str(tmp_path / "new.zip"), "--inline-max-bytes", "10"]
    url = plans.settings.database_url or ""
    assert run([*words, "--blob-url", str(tmp_path / "objects"), "--database-url", url]) == 0
    assert kept(plans) == [(0, "snapshot", True)]


LINK = Part(b"report.html", b"elsewhere.html", external=SYMLINK)


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (Part(b"/abs/new.txt", b"new"), "UNSAFE_NAME"),
        (Part(b"../new.txt", b"new"), "UNSAFE_NAME"),
        (Part(b"a/../../new.txt", b"new"), "UNSAFE_NAME"),
        (Part(b"a\\..\\..\\new.txt", b"new"), "UNSAFE_NAME"),
        (Part(b"C:\\new.txt", b"new"), "UNSAFE_NAME"),
        (Part(b"c:new.txt", b"new"), "UNSAFE_NAME"),
        (LINK, "SYMLINK"),
    ],
    ids=lambda value: value.name.decode() if isinstance(value, Part) else value,
)
def test_an_upload_that_could_leave_its_folder_is_refused_and_nothing_is_stored(
    plans: Plans, split: UUID, part: Part, code: str
) -> None:
    before = plans.row(split)
    with (
        plans.opened() as conn,
        pytest.raises(ExporterError, match=rf"refused \({code}\)") as found,
    ):
        upload.put(conn, split, build(*CLEAN, part))
    assert "nothing was stored" in found.value.hint
    assert plans.row(split) == before
    assert kept(plans) == []


def test_an_upload_with_dots_in_plain_names_is_accepted(plans: Plans, split: UUID) -> None:
    data = build(*CLEAN, Part(b"a..b/..c.txt", b"new"), Part(b"folder/"), Part(b"...", b"x"))
    with plans.opened() as conn:
        assert upload.put(conn, split, data) == 1
    assert plans.row(split)["run_zip_snapshot"] == data
