"""The plan table of another program, adopted where it is, while its owner goes on using it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import sql

from exporter import errors
from exporter.artifacts import store
from exporter.core import runzip
from exporter.db import connect, migrate
from exporter.jobs import runner
from exporter.jobs.restore import restore
from exporter.jobs.snapshot_split import SnapshotSplit
from exporter.paths import known_revisions
from exporter.settings import Settings
from tests.core.test_runzip_builders import CLEAN, Part, build, snapshot
from tests.jobs.plans import Recorder
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
PROGRESS = """
UPDATE {table} SET state = 'processing', progress_percentage = 40, progress_message = 'drafting',
    last_seen_timestamp = now() WHERE id = %(id)s
"""
FINALISE = """
UPDATE {table} SET state = 'completed', generated_report_html = '<html>',
    run_zip_snapshot = %(zip)s, progress_percentage = 100 WHERE id = %(id)s
"""
STOP = """
UPDATE {table} SET stop_requested = true, stop_requested_timestamp = now() WHERE id = %(id)s
"""
RETRY = """
UPDATE {table} SET state = 'pending', timestamp_created = now(), generated_report_html = NULL,
    run_zip_snapshot = NULL, progress_percentage = 0, stop_requested = false WHERE id = %(id)s
"""
LIST = "SELECT id, state, generated_report_html, run_zip_snapshot FROM {table} ORDER BY id"

#: The same of the program that splits what it finalises, and what it does when it starts.
START = """
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS run_track_activity_jsonl TEXT;
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS run_track_activity_bytes INTEGER;
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS run_activity_overview_json JSON;
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS run_artifact_layout_version INTEGER;
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS api_key_id VARCHAR(36)
"""
FINALISE_SPLIT = """
UPDATE {table} SET state = 'completed', generated_report_html = '<html>',
    run_zip_snapshot = %(zip)s, progress_percentage = 100, run_track_activity_jsonl = 'log',
    run_track_activity_bytes = 3, run_activity_overview_json = CAST(%(overview)s AS JSON),
    run_artifact_layout_version = 2 WHERE id = %(id)s
"""
RETRY_SPLIT = """
UPDATE {table} SET state = 'pending', timestamp_created = now(), generated_report_html = NULL,
    run_zip_snapshot = NULL, progress_percentage = 0, stop_requested = false,
    run_track_activity_jsonl = NULL, run_track_activity_bytes = NULL,
    run_activity_overview_json = CAST('null' AS JSON), run_artifact_layout_version = NULL
WHERE id = %(id)s
"""
LIST_SPLIT = """
SELECT id, state, generated_report_html, run_zip_snapshot, run_track_activity_jsonl,
    run_track_activity_bytes, run_activity_overview_json::text, run_artifact_layout_version
FROM {table} ORDER BY id
"""


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


@pytest.mark.parametrize("change", ["SET SCHEMA app", "RENAME TO plans", "both"])
def test_the_way_back_finds_a_table_that_was_moved(empty: Settings, change: str) -> None:
    make(empty)
    before = columns(empty, "task_item")
    migrate.upgrade(empty)
    split_row(empty, with_original=True)
    schema, name = "public", "task_item"
    with opened(empty) as conn:
        conn.execute("CREATE SCHEMA app")
        if change != "RENAME TO plans":
            conn.execute("ALTER TABLE public.task_item SET SCHEMA app")
            schema = "app"
        if change != "SET SCHEMA app":
            conn.execute(f"ALTER TABLE {schema}.task_item RENAME TO plans".encode())
            name = "plans"
    migrate.downgrade(empty, "0003")
    assert columns(empty, name, schema) == before
    assert not has_index(empty)
    with opened(empty) as conn:
        found = conn.execute(f"SELECT run_zip_snapshot FROM {schema}.{name}".encode()).fetchall()
    assert found == [(b"old",)]


def refuses(settings: Settings, complaint: str, revision: str = "0003") -> None:
    """Nothing at all is changed by a way back that is refused."""
    with opened(settings) as conn:
        before = conn.execute(ALL_KEPT).fetchall()
    with pytest.raises(errors.DatabaseError, match=complaint):
        migrate.downgrade(settings, revision)
    assert migrate.status(settings).state == "at head"
    with opened(settings) as conn:
        assert conn.execute(ALL_KEPT).fetchall() == before


ALL_KEPT = """
SELECT kind, body FROM exporter.artifact_originals
UNION ALL SELECT 'blob', body FROM exporter.artifact_blobs ORDER BY 1, 2
"""


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM public.task_item",
        "DROP TABLE public.task_item",
        "ALTER TABLE public.task_item RENAME TO items_of_last_year",
    ],
)
def test_the_way_back_drops_no_snapshot_that_it_could_not_put_back(
    empty: Settings, change: str
) -> None:
    make(empty)
    migrate.upgrade(empty)
    split_row(empty, with_original=True)
    with opened(empty) as conn:
        conn.execute(change.encode())
    refuses(empty, "1 originals and 0 packed logs are in no other place")
    migrate.downgrade(empty, "0004")
    with pytest.raises(errors.DatabaseError, match="1 originals"):
        migrate.downgrade(empty, "0003")


def test_the_way_back_drops_no_log_that_has_only_an_exact_original(empty: Settings) -> None:
    make(empty, split=True)
    owner = Owner(empty, "task_item", splits=True)
    plan = owner.work()
    migrate.upgrade(empty)
    with opened(empty) as conn:
        conn.execute("UPDATE public.task_item SET run_track_activity_encoding = 'utf8-lossy'")
        conn.execute(
            "INSERT INTO exporter.artifact_originals"
            " (plan_id, generation, kind, sha256, byte_length, body)"
            " VALUES (%s, 0, 'log', sha256('l\\377g'), 3, 'l\\377g')",
            [plan],
        )
    refuses(empty, "1 originals and 0 packed logs are in no other place")


def test_what_was_kept_with_a_snapshot_goes_when_that_is_back(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    plan = split_row(empty, with_original=True)
    with opened(empty) as conn:
        keep = (
            "INSERT INTO exporter.artifact_originals"
            " (plan_id, generation, kind, member_path, sha256, byte_length, body, created_at)"
            " SELECT plan_id, generation, 'log', %s, sha256('log'), 3, 'log', created_at + %s"
            " FROM exporter.artifact_originals WHERE plan_id = %s AND kind = 'snapshot'"
        )
        conn.execute(keep, ["", timedelta(0), plan])
        conn.execute(keep, ["of another time", timedelta(hours=-1), plan])
    refuses(empty, "1 originals and 0 packed logs")
    with opened(empty) as conn:
        conn.execute("DELETE FROM exporter.artifact_originals WHERE member_path <> ''")
    migrate.downgrade(empty, "0003")
    with opened(empty) as conn:
        assert conn.execute("SELECT run_zip_snapshot FROM public.task_item").fetchone() == (b"old",)


def test_the_way_back_drops_no_packed_log_that_a_row_refers_to(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    with opened(empty) as conn:
        conn.execute(
            "INSERT INTO exporter.artifact_blobs VALUES (sha256('x'), 'gzip', 1, 'x', now())"
        )
        conn.execute(
            "INSERT INTO public.task_item (id, run_artifact_layout_version, run_track_activity_ref)"
            """ VALUES (gen_random_uuid(), 2, '{"store": "table"}')"""
        )
        conn.execute("ALTER TABLE public.task_item RENAME TO items_of_last_year")
    refuses(empty, "0 originals and 1 packed logs")
    with opened(empty) as conn:
        conn.execute("DELETE FROM public.items_of_last_year")
    migrate.downgrade(empty, "0003")


def test_of_two_adopted_tables_none_is_left(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    with opened(empty) as conn:
        conn.execute("CREATE TABLE public.plans (LIKE public.task_item INCLUDING ALL)")
    refuses(empty, r"none was changed: public\.plans, public\.task_item", "0004")


def test_the_way_back_puts_no_more_back_at_once_than_it_should(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    split_row(empty, with_original=True)
    with opened(empty) as conn:
        conn.execute("CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS id, 0::bigint AS g"
                     " FROM generate_series(1, 1000)")  # fmt: skip
        conn.execute(
            "INSERT INTO public.task_item (id, state, run_zip_snapshot,"
            " run_artifact_layout_version) SELECT id, 'completed', 'new', 2 FROM made"
        )
        conn.execute(
            "INSERT INTO exporter.artifact_originals"
            " (plan_id, generation, kind, sha256, byte_length, body)"
            " SELECT id, g, 'snapshot', sha256('old'), 3, 'old' FROM made"
        )
        conn.execute(
            "INSERT INTO exporter.job_items (job, item, status, outcome, source_bytes,"
            " source_sha256, result_bytes, result_sha256) SELECT 'snapshots', id::text, 'done',"
            " 'MIGRATED', 3, sha256('old'), 3, sha256('new') FROM made"
        )
    refuses(empty, "1001 plans of public.task_item are to be put back, 3003 bytes")


# --- The owner goes on ----------------------------------------------------------------------


class Owner:
    """The owner's program: it knows nothing of us, and remembers what it stored."""

    def __init__(self, settings: Settings, table: str, *, splits: bool = False) -> None:
        self.settings = settings
        self.table = sql.Identifier("public", table)
        self.splits = splits
        self.stored: dict[uuid.UUID, tuple[Any, ...]] = {}

    def run(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        with opened(self.settings) as conn:
            statement = sql.SQL(text).format(table=self.table)
            cursor = conn.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def listed(self) -> dict[uuid.UUID, tuple[Any, ...]]:
        rows = self.run(LIST_SPLIT if self.splits else LIST)
        return {row[0]: row[1:] for row in rows}

    def finalise(self, plan: uuid.UUID, data: bytes) -> None:
        self.run(
            FINALISE_SPLIT if self.splits else FINALISE, id=plan, zip=data,
            **({"overview": '{"total_cost": 0.5}'} if self.splits else {}),
        )  # fmt: skip
        rest = ("log", 3, '{"total_cost": 0.5}', 2) if self.splits else ()
        self.stored[plan] = ("completed", "<html>", data, *rest)
        assert self.listed() == self.stored

    def retry(self, plan: uuid.UUID) -> None:
        self.run(STOP, id=plan)
        self.run(RETRY_SPLIT if self.splits else RETRY, id=plan)
        rest = (None, None, "null", None) if self.splits else ()
        self.stored[plan] = ("pending", None, None, *rest)
        assert self.listed() == self.stored

    def work(self) -> uuid.UUID:
        """One plan through its life: made, claimed, finalised, retried, finalised; all listed."""
        if self.splits:
            self.run(START)
        plan = uuid.uuid4()
        self.run(INSERT, id=plan)
        assert self.run(CLAIM) == [(plan,)]
        self.run(PROGRESS, id=plan)
        assert self.run(CLAIM) == []
        self.finalise(plan, b"first")
        self.retry(plan)
        assert self.run(CLAIM) == [(plan,)]
        self.finalise(plan, plan.bytes)
        return plan


def ways_between_revisions() -> list[str]:
    """Up one by one, back down one by one, and up again."""
    known = known_revisions()
    return [*known, *reversed(known[:-1]), "base", *known]


@pytest.mark.parametrize("splits", [False, True], ids=["before-its-split", "splitting"])
@pytest.mark.parametrize("table", ["task_item", "plans"])
def test_the_owner_works_between_every_two_revisions(
    empty: Settings, table: str, splits: bool
) -> None:
    make(empty, table, split=splits)
    owner = Owner(empty, table, splits=splits)
    owner.work()
    here = ""
    for revision in ways_between_revisions():
        goes_up = revision != "base" and revision > here
        (migrate.upgrade if goes_up else migrate.downgrade)(empty, revision)
        here = "" if revision == "base" else revision
        assert (migrate.status(empty).revision or "") == here
        owner.work()
    assert len(owner.stored) == len(ways_between_revisions()) + 1


@pytest.mark.parametrize("splits", [False, True], ids=["before-its-split", "splitting"])
def test_the_owner_works_beside_each_step_and_not_only_after_it(
    empty: Settings, splits: bool
) -> None:
    make(empty, split=splits)
    owner = Owner(empty, "task_item", splits=splits)
    owner.work()
    failures: list[BaseException] = []
    stop = threading.Event()

    def go_on() -> None:
        try:
            while not stop.is_set():
                owner.work()
        except BaseException as error:
            failures.append(error)

    at_work = threading.Thread(target=go_on)
    at_work.start()
    try:
        for revision in known_revisions():
            done = len(owner.stored)
            migrate.upgrade(empty, revision)
            # Each step has work that began beside it or before, and work that ended after it.
            while at_work.is_alive() and len(owner.stored) <= done:
                at_work.join(0.01)
    finally:
        stop.set()
        at_work.join()
    assert failures == []
    assert len(owner.stored) > len(known_revisions())


def test_the_owner_may_begin_to_split_after_the_adoption(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    Owner(empty, "task_item").work()
    later = Owner(empty, "task_item", splits=True)
    later.run(START)
    later.stored = later.listed()
    later.work()
    assert columns(empty, "task_item")["run_activity_overview_json"] == "jsonb", "ours stays"
    with pytest.raises(errors.DatabaseError, match="hold a log"):
        migrate.downgrade(empty, "0004")


def backfill(settings: Settings) -> dict[str, int]:
    """One run of the backfill in the database as it is."""
    opener = partial(connect.connect, settings)
    summary = runner.run(SnapshotSplit(), opener, runner.Options(), Recorder())
    return dict(summary.tally.outcomes)


def test_the_owner_works_on_plans_that_the_backfill_split(empty: Settings) -> None:
    make(empty, split=True)
    owner = Owner(empty, "task_item", splits=True)
    plan, kept = owner.work(), owner.work()
    owner.run("UPDATE {table} SET run_artifact_layout_version = NULL, run_zip_snapshot = %(zip)s",
              zip=snapshot())  # fmt: skip
    migrate.upgrade(empty)
    assert backfill(empty) == {"MIGRATED": 2}
    owner.stored = owner.listed()
    owner.retry(plan)
    owner.finalise(plan, build(*CLEAN, Part(b"new", b"new")))
    owner.work()
    assert backfill(empty) == {}, "what the owner split is left alone"
    migrate.downgrade(empty, "0004")
    after = owner.listed()
    assert after[kept][2] == snapshot()
    assert after[plan] == owner.stored[plan], "what is newer than the backfill stays"


def test_a_run_of_the_old_kind_over_a_split_plan_is_cleaned_found_and_demoted(
    empty: Settings,
) -> None:
    make(empty)
    owner = Owner(empty, "task_item")
    plan = owner.work()
    owner.finalise(plan, snapshot())
    migrate.upgrade(empty)
    assert backfill(empty) == {"MIGRATED": 1}
    owner.stored = owner.listed()
    owner.retry(plan)
    owner.finalise(plan, snapshot(Part(b"b", b"b")))
    with connect.session(empty) as conn:
        # Its layout says 2, and still no log leaves.
        served = b"".join(map(bytes, store.download(conn, plan)))
        assert runzip.inspect(served).log is None
        _, offenders = store.verify(conn)
        assert [(o.plan, o.reason, o.is_demoted) for o in offenders] == [
            (plan, "LOG_PRESENT", True)
        ]
    assert backfill(empty) == {"MIGRATED": 1}
    assert runzip.inspect(owner.listed()[plan][2]).log is None


def test_a_plan_that_the_owner_split_anew_is_served_as_stored_and_stays_so(
    empty: Settings,
) -> None:
    make(empty, split=True)
    owner = Owner(empty, "task_item", splits=True)
    plan = owner.work()
    owner.run("UPDATE {table} SET run_artifact_layout_version = NULL, run_zip_snapshot = %(zip)s",
              zip=snapshot())  # fmt: skip
    migrate.upgrade(empty)
    assert backfill(empty) == {"MIGRATED": 1}
    owner.stored = owner.listed()
    owner.retry(plan)
    new = build(*CLEAN, Part(b"new", b"new"))
    owner.finalise(plan, new)
    with connect.session(empty) as conn:
        assert b"".join(map(bytes, store.download(conn, plan))) == new
        assert store.cut_over(conn) == (0, 0)
        assert b"".join(map(bytes, store.download(conn, plan))) == new
        assert store.verify(conn) == (1, [store.Offender(plan, "HASH_DIFFERS", False)])
        assert store.verify(conn) == (1, []), "told once"
        assert b"".join(map(bytes, store.download(conn, plan))) == new
        with pytest.raises(errors.ExporterError, match="no split of plan"):
            restore(conn, plan)
    owner.finalise(plan, snapshot())
    with connect.session(empty) as conn, pytest.raises(errors.ExporterError, match="not split"):
        store.download(conn, plan)


def test_the_owner_may_rename_the_table_afterwards(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    with opened(empty) as conn:
        conn.execute("ALTER TABLE public.task_item RENAME TO plans")
    Owner(empty, "plans").work()
    migrate.downgrade(empty, "0004")
    assert not set(SPLIT_COLUMNS) & set(columns(empty, "plans"))


def test_the_migrated_database_is_at_head_for_commands(empty: Settings) -> None:
    make(empty)
    migrate.upgrade(empty)
    with connect.session(empty) as conn:
        row = conn.execute("SELECT schema_name, table_name, is_created FROM adopted_tables")
        assert row.fetchone() == ("public", "task_item", False)
