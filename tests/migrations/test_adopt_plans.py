"""The plan table of another program, adopted where it is, while its owner goes on using it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from exporter import errors
from exporter.db import connect, migrate
from exporter.settings import Settings
from tests.postgres import settings_for

SPLIT_COLUMNS = {
    "run_activity_overview_json": "jsonb",
    "run_artifact_layout_version": "integer",
    "run_generation": "bigint",
    "run_track_activity_bytes": "bigint",
    "run_track_activity_encoding": "text",
    "run_track_activity_jsonl": "text",
    "run_track_activity_ref": "jsonb",
}

BEFORE_THE_SPLIT = """
CREATE TYPE {schema}.taskstate AS ENUM ('pending', 'processing', 'completed', 'failed');
CREATE TABLE {schema}.{name} (
    id uuid PRIMARY KEY, timestamp_created timestamp, state {schema}.taskstate, prompt text,
    progress_percentage numeric(5, 2), progress_message varchar(128),
    last_seen_timestamp timestamp, stop_requested boolean, stop_requested_timestamp timestamp,
    user_id varchar(256), parameters json, generated_report_html text, run_zip_snapshot bytea
)
"""
AFTER_THE_SPLIT = """
ALTER TABLE {schema}.{name} ADD run_track_activity_jsonl text,
    ADD run_track_activity_bytes integer, ADD run_activity_overview_json json,
    ADD run_artifact_layout_version integer, ADD api_key_id varchar(36)
"""

#: The owner's own statements, as its program sends them.
INSERT = """
INSERT INTO {table} (id, timestamp_created, state, prompt, progress_percentage, progress_message,
    last_seen_timestamp, stop_requested, stop_requested_timestamp, user_id, parameters,
    generated_report_html, run_zip_snapshot)
VALUES (%(id)s, now(), 'pending', 'p', 0, '', now(), false, NULL, 'u', 'null', NULL, NULL)
"""
CLAIM = """
SELECT id FROM {table} WHERE state = 'pending' AND coalesce(stop_requested, false) = false
ORDER BY timestamp_created LIMIT 1 FOR UPDATE SKIP LOCKED
"""
FINALISE = """
UPDATE {table} SET state = 'completed', generated_report_html = '<html>',
    run_zip_snapshot = %(zip)s, progress_percentage = 100 WHERE id = %(id)s
"""
RETRY = """
UPDATE {table} SET state = 'pending', timestamp_created = now(), generated_report_html = NULL,
    run_zip_snapshot = NULL, progress_percentage = 0 WHERE id = %(id)s
"""
LIST = "SELECT id, state, generated_report_html, run_zip_snapshot FROM {table} ORDER BY id"


@pytest.fixture
def empty(empty_database_url: str) -> Settings:
    return settings_for(empty_database_url)


@contextmanager
def opened(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        yield conn


def make(
    settings: Settings, name: str = "task_item", schema: str = "public", *, split: bool = False
) -> None:
    with opened(settings) as conn:
        if schema != "public":
            conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        for text in (BEFORE_THE_SPLIT, AFTER_THE_SPLIT if split else "SELECT 1"):
            names = {"schema": sql.Identifier(schema), "name": sql.Identifier(name)}
            conn.execute(sql.SQL(text).format(**names))


def columns(settings: Settings, name: str, schema: str = "public") -> dict[str, str]:
    query = (
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = to_regclass(quote_ident(%s) || '.' || quote_ident(%s))"
        " AND attnum > 0 AND NOT attisdropped"
    )
    with opened(settings) as conn:
        return dict(conn.execute(query, [schema, name]).fetchall())


def has_index(settings: Settings) -> bool:
    with opened(settings) as conn:
        found = conn.execute(
            "SELECT FROM pg_indexes WHERE indexname = 'exporter_pending_snapshots'"
        ).fetchone()
    return found is not None


# --- Where it is ----------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["public", "Plan Exe"])
@pytest.mark.parametrize("name", ["task_item", "plans"])
def test_the_table_is_adopted_where_it_is(empty: Settings, name: str, schema: str) -> None:
    make(empty, name, schema)
    before = columns(empty, name, schema)
    migrate.upgrade(empty)
    assert columns(empty, name, schema) == before | SPLIT_COLUMNS
    assert has_index(empty)
    migrate.downgrade(empty, "0004")
    assert columns(empty, name, schema) == before
    assert not has_index(empty)
    migrate.upgrade(empty)
    assert columns(empty, name, schema) == before | SPLIT_COLUMNS


def test_columns_that_the_owner_made_stay_as_they_are(empty: Settings) -> None:
    make(empty, "plans", split=True)
    before = columns(empty, "plans")
    migrate.upgrade(empty)
    after = columns(empty, "plans")
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        "run_generation", "run_track_activity_encoding", "run_track_activity_ref",
    }  # fmt: skip
    migrate.downgrade(empty, "0004")
    assert columns(empty, "plans") == before


def test_without_a_plan_table_one_is_made_as_it_was_before_the_split(empty: Settings) -> None:
    migrate.upgrade(empty)
    made = columns(empty, "task_item", "exporter")
    assert set(SPLIT_COLUMNS) < set(made)
    assert {"id", "state", "run_zip_snapshot", "generated_report_html"} < set(made)
    migrate.downgrade(empty, "0004")
    assert columns(empty, "task_item", "exporter") == {}


def test_a_table_made_here_outlives_the_way_back_once_it_has_rows(empty: Settings) -> None:
    migrate.upgrade(empty)
    with opened(empty) as conn:
        conn.execute("INSERT INTO exporter.task_item (id) VALUES (gen_random_uuid())")
    migrate.downgrade(empty, "0004")
    assert not set(SPLIT_COLUMNS) & set(columns(empty, "task_item", "exporter"))
    migrate.upgrade(empty)
    with opened(empty) as conn:
        assert conn.execute("SELECT count(*) FROM exporter.task_item").fetchone() == (1,)


def test_tables_of_the_same_name_that_are_no_plan_tables_are_passed_over(empty: Settings) -> None:
    with opened(empty) as conn:
        conn.execute("CREATE TABLE public.plans (id integer, price numeric)")
        conn.execute("CREATE SCHEMA other CREATE VIEW task_item AS SELECT 1 AS run_zip_snapshot")
    migrate.upgrade(empty)
    assert columns(empty, "plans") == {"id": "integer", "price": "numeric"}
    assert columns(empty, "task_item", "exporter")


# --- What is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("other", [("plans", "public"), ("task_item", "old")])
def test_of_two_candidates_none_is_taken(empty: Settings, other: tuple[str, str]) -> None:
    make(empty)
    if other[1] == "public":
        with opened(empty) as conn:
            conn.execute("CREATE TABLE public.plans (LIKE public.task_item INCLUDING ALL)")
    else:
        make(empty, *other)
    before = [columns(empty, "task_item"), columns(empty, *other)]
    with pytest.raises(errors.DatabaseError) as caught:
        migrate.upgrade(empty)
    assert "public.task_item" in str(caught.value)
    assert f"{other[1]}.{other[0]}" in str(caught.value)
    assert [columns(empty, "task_item"), columns(empty, *other)] == before
    assert migrate.status(empty).state == "absent"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("ADD run_track_activity_jsonl bytea", "run_track_activity_jsonl is bytea"),
        ("ADD run_track_activity_jsonl varchar(99)", "run_track_activity_jsonl is limited varchar"),
        ("ADD run_activity_overview_json text", "run_activity_overview_json is text"),
        ("ADD run_artifact_layout_version text", "run_artifact_layout_version is text"),
        ("DROP state", "state is absent"),
    ],
)
def test_another_type_stops_with_the_difference(
    empty: Settings, change: str, complaint: str
) -> None:
    make(empty)
    with opened(empty) as conn:
        conn.execute(f"ALTER TABLE public.task_item {change}".encode())
    before = columns(empty, "task_item")
    with pytest.raises(errors.DatabaseError, match=complaint):
        migrate.upgrade(empty)
    assert columns(empty, "task_item") == before


def test_a_lock_that_does_not_come_is_given_back(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(empty)
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr(migrate, "PATIENCE_SECONDS", 0.1)
    assert empty.database_url
    with psycopg.connect(empty.database_url) as other:
        other.execute("LOCK TABLE public.task_item IN ACCESS SHARE MODE")
        with pytest.raises(errors.DatabaseBusy):
            migrate.upgrade(empty)
        other.rollback()
    assert migrate.upgrade(empty).state == "at head"


# --- The way back ---------------------------------------------------------------------------


def split_row(settings: Settings, *, with_original: bool) -> uuid.UUID:
    """A plan as the backfill leaves it: split, with or without what it was before."""
    plan = uuid.uuid4()
    with opened(settings) as conn:
        conn.execute("SET search_path = exporter, public")
        conn.execute(
            "INSERT INTO task_item (id, state, run_zip_snapshot, run_track_activity_jsonl,"
            " run_track_activity_bytes, run_artifact_layout_version)"
            " VALUES (%s, 'completed', 'new', 'log', 3, 2)",
            [plan],
        )
        if with_original:
            conn.execute(
                "INSERT INTO artifact_originals"
                " (plan_id, generation, kind, sha256, byte_length, body)"
                " VALUES (%s, 0, 'snapshot', sha256('old'), 3, 'old')",
                [plan],
            )
            conn.execute(
                "INSERT INTO job_items (job, item, status, outcome, source_bytes, source_sha256,"
                " result_bytes, result_sha256)"
                " VALUES ('snapshots', %s, 'done', 'MIGRATED', 3, sha256('old'), 3, sha256('new'))",
                [str(plan)],
            )
    return plan


def test_the_way_back_restores_what_was_kept(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    split_row(empty, with_original=True)
    migrate.downgrade(empty, "0003")
    with opened(empty) as conn:
        found = conn.execute("SELECT run_zip_snapshot FROM public.task_item").fetchall()
    assert found == [(b"old",)]


def test_the_way_back_refuses_to_lose_a_log_and_says_how_many(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    split_row(empty, with_original=False)
    split_row(empty, with_original=True)
    before = columns(empty, "task_item")
    with pytest.raises(errors.DatabaseError, match=r"1 rows of public\.task_item hold a log"):
        migrate.downgrade(empty, "0004")
    assert columns(empty, "task_item") == before
    with opened(empty) as conn:
        layouts = conn.execute("SELECT run_artifact_layout_version FROM public.task_item")
        assert layouts.fetchall() == [(2,), (2,)]


# --- The owner goes on ----------------------------------------------------------------------


def work_as_the_owner(settings: Settings, table: str) -> None:
    """One plan through its life, by the owner's statements."""
    name = sql.Identifier("public", table)

    def run(text: str, **values: Any) -> Any:
        return conn.execute(sql.SQL(text).format(table=name), values)

    with opened(settings) as conn:
        conn.execute(sql.SQL("TRUNCATE {}").format(name))
        plan = uuid.uuid4()
        run(INSERT, id=plan)
        assert run(CLAIM).fetchone() == (plan,)
        run(FINALISE, id=plan, zip=b"zip")
        assert run(LIST).fetchall() == [(plan, "completed", "<html>", b"zip")]
        run(RETRY, id=plan)
        assert run(LIST).fetchall() == [(plan, "pending", None, None)]


@pytest.mark.parametrize("table", ["task_item", "plans"])
def test_the_owner_works_between_every_two_revisions(empty: Settings, table: str) -> None:
    make(empty, table)
    for revision in ("0003", "0004", "0005", "0004", "0005"):
        found = migrate.status(empty).revision or ""
        (migrate.upgrade if revision > found else migrate.downgrade)(empty, revision)
        work_as_the_owner(empty, table)


def test_the_owner_may_rename_the_table_afterwards(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    with opened(empty) as conn:
        conn.execute("ALTER TABLE public.task_item RENAME TO plans")
    work_as_the_owner(empty, "plans")
    migrate.downgrade(empty, "0004")
    assert not set(SPLIT_COLUMNS) & set(columns(empty, "plans"))


def test_the_migrated_database_is_at_head_for_commands(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    with connect.session(empty) as conn:
        row = conn.execute("SELECT schema_name, table_name, is_created FROM adopted_tables")
        assert row.fetchone() == ("public", "task_item", False)
