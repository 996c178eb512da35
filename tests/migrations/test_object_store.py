"""Revision 0006: originals and logs may be objects, and do not get lost on the way back."""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg
import pytest

from exporter import errors
from exporter.db import migrate
from exporter.settings import Settings
from tests.postgres import settings_for

REF = {"store": "file", "key": "k", "sha256": "00", "bytes": 3, "encoding": "gzip"}


@pytest.fixture
def before(empty_database_url: str) -> Settings:
    """A database at the revision before, with one kept original."""
    settings = settings_for(empty_database_url)
    migrate.upgrade(settings, "0005")
    run(settings, KEEP, plan=uuid.UUID(int=1), body=b"old", ref=None)
    return settings


KEEP = """
INSERT INTO artifact_originals (plan_id, generation, kind, sha256, byte_length, body)
VALUES (%(plan)s, 0, 'snapshot', sha256('old'), 3, %(body)s)
"""
KEEP_OUTSIDE = """
INSERT INTO artifact_originals (plan_id, generation, kind, sha256, byte_length, body, ref)
VALUES (%(plan)s, 0, 'snapshot', sha256('old'), 3, %(body)s, %(ref)s)
"""
ADD_PLAN = """
INSERT INTO task_item (id, state, run_artifact_layout_version, run_track_activity_ref)
VALUES (%(plan)s, 'completed', 2, %(ref)s)
"""


def run(settings: Settings, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        conn.execute("SET search_path = exporter, public")
        cursor = conn.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def test_there_and_back_twice_leaves_originals_as_they_were(before: Settings) -> None:
    query = "SELECT plan_id, body FROM artifact_originals"
    kept = run(before, query)
    for _ in range(2):
        migrate.upgrade(before, "0006")
        assert run(before, query) == kept
        migrate.downgrade(before, "0005")
        assert run(before, query) == kept
    with pytest.raises(psycopg.errors.NotNullViolation):
        run(before, KEEP, plan=uuid.UUID(int=2), body=None)


@pytest.mark.parametrize("is_both", [True, False], ids=["both", "neither"])
def test_an_original_is_in_one_place(before: Settings, is_both: bool) -> None:
    migrate.upgrade(before, "0006")
    values = {"body": b"x", "ref": json.dumps(REF)} if is_both else {"body": None, "ref": None}
    with pytest.raises(psycopg.errors.CheckViolation):
        run(before, KEEP_OUTSIDE, plan=uuid.UUID(int=2), **values)
    found = run(
        before,
        "SELECT convalidated FROM pg_constraint WHERE conname = 'artifact_originals_one_place'",
    )
    assert found == [(True,)]


def test_a_worker_of_the_release_before_goes_on_writing(before: Settings) -> None:
    migrate.upgrade(before, "0006")
    run(before, KEEP, plan=uuid.UUID(int=2), body=b"old")
    assert run(before, "SELECT count(*) FROM artifact_originals") == [(2,)]


@pytest.mark.parametrize("table", ["task_item", "plans"])
def test_the_way_back_refuses_to_lose_objects_and_says_how_many(
    before: Settings, table: str
) -> None:
    migrate.upgrade(before, "0006")
    inside = json.dumps({**REF, "store": "table"})
    run(before, ADD_PLAN, plan=uuid.UUID(int=1), ref=inside)
    for number in (2, 3):
        run(before, ADD_PLAN, plan=uuid.UUID(int=number), ref=json.dumps(REF))
    run(before, KEEP_OUTSIDE, plan=uuid.UUID(int=4), body=None, ref=json.dumps(REF))
    if table == "plans":
        run(before, "ALTER TABLE task_item RENAME TO plans")
    for revision in ("0005", "0004"):
        with pytest.raises(errors.DatabaseError, match="2 logs and 1 originals are in the object"):
            migrate.downgrade(before, revision)
    assert migrate.status(before).revision == "0006"
    run(before, f"UPDATE {table} SET run_track_activity_ref = NULL WHERE id > %(plan)s",
        plan=uuid.UUID(int=1))  # fmt: skip
    run(before, "DELETE FROM artifact_originals WHERE body IS NULL")
    migrate.downgrade(before, "0005")


def test_it_gives_back_a_lock_that_does_not_come(
    before: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(migrate, "PATIENCE_SECONDS", 0.1)
    assert before.database_url
    with psycopg.connect(before.database_url) as other:
        other.execute("LOCK TABLE exporter.artifact_originals IN ROW EXCLUSIVE MODE")
        with pytest.raises(errors.DatabaseBusy):
            migrate.upgrade(before)
        other.rollback()
    assert migrate.upgrade(before).state == "at head"
