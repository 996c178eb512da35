"""What an import of an agentsview archive promises: what it keeps, leaves behind and counts."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exporter.core.intake import Repairs
from exporter.db.connect import connect
from exporter.importers import agentsview, readers
from exporter.importers.agentsview import Summary, import_archive
from exporter.importers.agentsview_sqlite import SqliteSource
from exporter.importers.prepare import Prepared
from exporter.importers.rebuild import rebuild
from exporter.importers.source import SourceReplaced
from exporter.progress import SILENT
from tests.archives.builder import SqliteArchive
from tests.archives.pipeline import IMPORTED, Pipeline

MODEL = "orca-large-2"
USAGE = {"input_tokens": 1200, "output_tokens": 300}

#: Columns of the archive that hold text, and why each is no content. A new text column fails the
#: test below until somebody has thought about it.
TEXT_COLUMNS = {
    "archive": {"database_id"},
    "sources": {"kind", "archive_id", "database_id", "location", "era", "watermark"},
    "models": {"name"},
    "source_prices": {"model_pattern", "updated_at_text"},
    "model_rates": {"matched_pattern"},
    "sessions": {
        *("id", "project", "machine", "agent", "cwd", "git_branch", "file_directory"),
        *("started_at_text", "ended_at_text", "created_at_text", "deleted_at_text"),
        *("last_activity_text", "start_day", "parent_session_id", "relationship_type"),
        *("outcome", "health_grade", "termination_status", "worktree_name", "worktree_root"),
        *("path_key", "path_root", "presence"),
    },
    "session_changes": {
        *("project", "machine", "agent", "git_branch", "last_activity_text", "start_day"),
        *("parent_session_id", "relationship_type", "outcome", "health_grade"),
    },
    "usage_rows": {"event_source", "day_text"},
    "billing_rows": {"day_text"},
    # Made of the columns above and nothing else.
    "usage_slots": {"day_text"},
    "repeated_usage": {"event_source", "day_text"},
    "session_lines": {"head", "usage", "tail"},
    "project_observations": {
        *("project", "machine", "root_path", "git_remote", "git_remote_name", "worktree_name"),
        *("worktree_root_path", "observed_at_text", "key", "key_source", "normalized_remote"),
        "normalized_root",
    },
    "worktree_mappings": {"machine", "path_prefix", "layout", "project"},
}


def test_no_column_of_the_archive_can_hold_content(world: Pipeline) -> None:
    rows = world.conn.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'exporter' AND table_name = ANY(%s)"
        " AND data_type IN ('text', 'character varying', 'json', 'jsonb', 'bytea', 'xml', 'ARRAY')",
        ([*IMPORTED, "archive"],),
    ).fetchall()
    found: dict[str, set[str]] = {}
    for table, column in rows:
        found.setdefault(table, set()).add(column)
    assert found.pop("import_runs") == {"counts"}, "counts only"
    found["archive"].discard("cursor_secret")
    assert found == TEXT_COLUMNS


def test_content_does_not_cross(world: Pipeline) -> None:
    word = "".join(("qu", "okka", "-", "sentence"))
    with world.source() as archive:
        archive.add_session("a", first_message=word, display_name=word, session_name=word)
        archive.add_message("a", content=word, thinking_text=word, model=MODEL, token_usage=USAGE)
    assert world.ids() == ["a"]
    assert word not in everything(world)


def everything(world: Pipeline) -> str:
    """All that our tables hold, as text."""
    parts = []
    for table in (*IMPORTED, "revisions"):
        rows = world.conn.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1".encode())
        parts += [f"{table} {row[0]}" for row in rows]
    return "\n".join(parts)


def stored(world: Pipeline) -> dict[str, list[tuple[Any, ...]]]:
    """What the archive says, without the numbers it gave and the times it was told at."""
    # A digest covers the numbers of models, which differ from archive to archive.
    given = "{session_key,source_id,inserted_revision,changed_revision,digest}"
    queries = {
        "sessions": f"SELECT id, to_jsonb(s) - '{given}'::text[] FROM sessions AS s"
        " ORDER BY id, source_id",
        "usage": "SELECT s.id, u.position, m.name,"
        " to_jsonb(u) - '{session_key,model_id}'::text[]"
        " FROM usage_rows AS u JOIN sessions AS s USING (session_key)"
        " JOIN models AS m USING (model_id) ORDER BY 1, 2",
        "points": "SELECT s.id, p.ordinal, m.name, a.name,"
        " to_jsonb(p) - '{session_key,model_id,active_model_id}'::text[]"
        " FROM activity_points AS p JOIN sessions AS s USING (session_key)"
        " LEFT JOIN models AS m USING (model_id)"
        " LEFT JOIN models AS a ON a.model_id = p.active_model_id ORDER BY 1, 2",
        "lines": "SELECT head, usage, tail FROM session_lines ORDER BY head",
        "sums": "SELECT s.id, m.name, x.input_tokens, x.reported_cost, x.computed_rows"
        " FROM session_models AS x JOIN sessions AS s USING (session_key)"
        " JOIN models AS m USING (model_id) ORDER BY 1, 2",
    }
    return {name: world.conn.execute(query.encode()).fetchall() for name, query in queries.items()}


def revision(world: Pipeline) -> int:
    row = world.conn.execute("SELECT revision FROM archive").fetchone()
    assert row is not None
    return int(row[0])


def fill(archive: SqliteArchive, sessions: int = 3) -> None:
    archive.add_price(MODEL, 3, 15, 3.75, 0.3)
    for number in range(sessions):
        name = f"s{number}"
        archive.add_session(name, cwd=f"/home/kit/tern/{number}")
        archive.add_message(name)
        archive.add_message(name, model=MODEL, token_usage=USAGE)


# -- what is new, what changed, what is gone ----------------------------------------------------


def test_an_unchanged_source_is_not_written_and_says_so(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    before, at = everything(world), revision(world)
    summary = world.bring()
    assert (summary.unchanged, summary.same) == (True, 3)
    assert (everything(world), revision(world)) == (before, at)


def test_a_touched_source_that_says_the_same_is_read_and_not_written(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    before = stored(world)
    at = revision(world)
    with SqliteArchive(world.path) as archive:
        archive.execute("UPDATE sessions SET file_mtime = 7 WHERE id = 's1'")
    summary = world.bring()
    assert (summary.unchanged, summary.new, summary.changed, summary.same) == (True, 0, 0, 3)
    after = stored(world)
    assert after.pop("sessions") != before.pop("sessions"), "the new fingerprint is remembered"
    assert (after, revision(world)) == (before, at)


def test_reading_everything_again_writes_nothing_where_nothing_changed(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    before, at = stored(world), revision(world)
    summary = bring(world, world.path, full=True)
    assert (summary.messages, summary.same, summary.unchanged) == (6, 3, True)
    assert (stored(world), revision(world)) == (before, at)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE messages SET token_usage = '{}' WHERE session_id = 's1' AND ordinal = 1",
        "UPDATE messages SET model = 'tern-mini' WHERE session_id = 's1' AND ordinal = 1",
        "UPDATE messages SET timestamp = '2026-03-04T11:00:00Z' WHERE session_id = 's1'"
        " AND ordinal = 1",
        "UPDATE messages SET role = 'system' WHERE session_id = 's1' AND ordinal = 0",
        "DELETE FROM messages WHERE session_id = 's1' AND ordinal = 0",
        "UPDATE sessions SET outcome = 'errored' WHERE id = 's1'",
    ],
)
def test_an_edit_in_place_is_seen_without_a_full_read(world: Pipeline, statement: str) -> None:
    with world.source() as archive:
        fill(archive)
    before = stored(world)
    with SqliteArchive(world.path) as archive:
        archive.execute(statement)
    summary = world.bring()
    assert (summary.new, summary.changed, summary.same) == (0, 1, 2)
    assert stored(world) != before


def test_an_edited_event_is_seen(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
        archive.add_event("s1", model=MODEL, output_tokens=5, cost_usd=0.5)
    with SqliteArchive(world.path) as archive:
        archive.execute("UPDATE usage_events SET cost_usd = 0.75")
    assert world.bring().changed == 1
    assert world.rows()["s1"]["model_usage"]["cost_usd"] == pytest.approx(0.75 + 0.0081, abs=1e-9)


def test_a_session_that_grows_replaces_its_rows(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    with SqliteArchive(world.path) as archive:
        archive.add_message("s1", role="assistant", model=MODEL, token_usage=USAGE)
        archive.execute("UPDATE sessions SET message_count = 4 WHERE id = 's1'")
    summary = world.bring()
    assert (summary.changed, summary.usage_rows, summary.activity_points) == (1, 2, 3)
    assert world.rows()["s1"]["model_usage"]["input_tokens"] == 2400


def test_a_session_that_vanishes_leaves_the_export_and_comes_back(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    shutil.copyfile(world.path, world.path.with_suffix(".kept"))
    with SqliteArchive(world.path) as archive:
        archive.delete_session("s1")
    assert world.bring().removed == 1
    assert world.ids() == ["s0", "s2"]
    rows = world.conn.execute("SELECT presence FROM sessions WHERE id = 's1'").fetchall()
    assert rows == [("vanished",)], "its row stays"
    shutil.copyfile(world.path.with_suffix(".kept"), world.path)
    assert world.bring().changed == 1
    assert world.ids() == ["s0", "s1", "s2"]


def test_an_excluded_session_never_comes_back(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
    with SqliteArchive(world.path) as archive:
        archive.delete_session("s1")
        archive.exclude("s1")
    assert world.bring().removed == 1
    with SqliteArchive(world.path) as archive:
        archive.add_session("s1")
    world.bring()
    assert world.ids() == ["s0", "s2"]
    rows = world.conn.execute("SELECT presence FROM sessions WHERE id = 's1'").fetchall()
    assert rows == [("excluded",)]


def test_what_a_source_never_listed_is_not_counted_as_gone(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive)
        archive.exclude("never-seen")
    assert world.bring().removed == 0


# -- several sources ----------------------------------------------------------------------------


def bring(world: Pipeline, path: Path, *, full: bool = False) -> Summary:
    source = SqliteSource(path)
    with closing(source):
        return import_archive(
            world.conn, lambda: nullcontext(world._writer), source, SILENT, full=full
        )


@pytest.fixture
def second(world: Pipeline, tmp_path: Path) -> Path:
    """The path of another archive, which is not there yet."""
    return tmp_path / "second.db"


def other_archive(path: Path) -> SqliteArchive:
    archive = SqliteArchive(path)
    archive.set_metadata("database_id", "0b1b6a0e-2f55-4c39-9d86-6f1b6f1d2c3a")
    return archive


def test_two_sources_live_side_by_side(world: Pipeline, second: Path) -> None:
    with world.source() as archive:
        fill(archive, 2)
    with other_archive(second) as archive:
        archive.add_session("t0")
    bring(world, second)
    assert world.ids() == ["s0", "s1", "t0"]
    with SqliteArchive(second) as archive:
        archive.delete_session("t0")
        archive.add_session("t1")
    summary = bring(world, second)
    assert (summary.new, summary.removed) == (1, 1)
    assert world.ids() == ["s0", "s1", "t1"]


def test_of_two_copies_of_a_session_the_better_one_is_exported(
    world: Pipeline, second: Path
) -> None:
    with world.source() as archive:
        archive.add_session("twin", machine="oak", message_count=3)
    with other_archive(second) as archive:
        archive.add_session("twin", machine="elm", message_count=9)
    bring(world, second)
    assert [row["machine"] for row in world.rows().values()] == ["elm"]
    with SqliteArchive(second) as archive:
        archive.update_session("twin", deleted_at="2026-03-09T00:00:00Z")
    bring(world, second)
    assert [row["machine"] for row in world.rows().values()] == ["oak"]
    with SqliteArchive(world.path) as archive:
        archive.delete_session("twin")
    world.bring()
    assert world.ids() == []
    rows = world.conn.execute("SELECT machine FROM sessions ORDER BY machine").fetchall()
    assert rows == [("elm",), ("oak",)], "neither row was overwritten"


def test_a_change_of_copies_between_pages_resets_the_cursor(world: Pipeline, second: Path) -> None:
    with world.source() as archive:
        fill(archive, 3)
    following = world.cursor("--limit", "1")
    with other_archive(second) as archive:
        archive.add_session("s2", ended_at="2026-03-04T10:20:00Z", message_count=50)
    bring(world, second)
    assert world.sessions("--cursor", following).exit == 0, "a worse copy changes nothing"
    with SqliteArchive(second) as archive:
        archive.update_session("s2", ended_at="2026-03-04T10:30:00.000Z")
    bring(world, second)
    assert world.sessions("--cursor", following).exit == 4


def test_the_newest_of_several_prices_counts_and_custom_ones_before_all(
    world: Pipeline, second: Path
) -> None:
    with world.source() as archive:
        fill(archive, 1)
        archive.execute("UPDATE model_pricing SET updated_at = '2026-02-01T00:00:00.000Z'")
    with other_archive(second) as archive:
        archive.add_price(MODEL, 6, 30, 7.5, 0.6, updated_at="2026-01-31T23:00:00.000Z")
    bring(world, second)
    assert cost(world) == pytest.approx(0.0081, abs=1e-12)
    with SqliteArchive(second) as archive:
        archive.execute("UPDATE model_pricing SET updated_at = '2026-02-01T02:00:00+01:30'")
    bring(world, second)
    assert cost(world) == pytest.approx(0.0162, abs=1e-12), "30 minutes newer"
    config = world.path.parent / "config.toml"
    config.write_text('[custom_model_pricing."orca-large-2"]\ninput = 1\n')
    try:
        world.bring()
        assert cost(world) == pytest.approx(0.0012, abs=1e-12)
    finally:
        config.unlink()


def cost(world: Pipeline) -> float:
    return float(world.rows()["s0"]["model_usage"]["cost_usd"])


# -- evidence of places -------------------------------------------------------------------------


def test_a_worktree_that_is_observed_later_reaches_sessions_that_did_not_change(
    world: Pipeline,
) -> None:
    with world.source() as archive:
        fill(archive, 2)
    assert world.rows()["s1"]["worktree"] is None
    with SqliteArchive(world.path) as archive:
        archive.add_observation(
            "tern",
            machine="oak",
            root_path="/home/kit/tern/1",
            worktree_name="one",
            worktree_root_path="/home/kit/tern/1",
        )
    summary = world.bring()
    assert (summary.changed, summary.place_rows_changed) == (0, 1)
    rows = world.rows()
    assert rows["s1"]["worktree"] == {"name": "one", "root_path": "/home/kit/tern/1"}
    assert rows["s0"]["worktree"] is None


def test_a_mapping_that_is_made_later_changes_the_project_of_old_sessions(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive, 2)
    assert world.export()["projects"]["tern"]["resolution"] == "ambiguous"
    with SqliteArchive(world.path) as archive:
        archive.add_mapping("/home/kit/tern", "tern", machine="oak")
    world.bring()
    assert world.export()["projects"]["tern"]["identity"]["root_path"] == "/home/kit/tern"


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://ci:{}@git.brook.example/kite/loom.git", "git.brook.example/kite/loom"),
        ("https://git.brook.example/kite/loom.git?private_token={}", "git.brook.example/kite/loom"),
        ("https://git.brook.example/x-access-token:{}/kite/loom", None),
        ("git@git.brook.example:kite/loom.git?private_token={}", None),
        ("https://git.brook.example/kite/{}", None),
        ("git@q:/kite/loom?token={}", None),
        ("https://{}/@git.brook.example/kite/loom", None),
        ("https://kite/{}?x@git.brook.example/kite/loom", None),
        ("https://git.brook.example/@kite/loom", "git.brook.example/@kite/loom"),
    ],
)
def test_a_credential_in_a_remote_reaches_no_table_and_no_export(
    world: Pipeline, remote: str, shown: str | None
) -> None:
    secret = "_".join(("ghp", "A1b2C3d4E5f6" * 3))
    with world.source() as archive:
        fill(archive, 1)
        archive.add_observation("tern", machine="oak", git_remote=remote.format(secret))
    exported = world.sessions().stdout
    assert secret not in exported
    assert secret not in everything(world)
    identity = world.export()["projects"]["tern"]["identity"]
    assert identity["key_source"] == "git_remote"
    assert identity.get("normalized_remote") == shown, "withheld where the text may be a secret"


# -- hostile values -----------------------------------------------------------------------------


def test_hostile_values_are_bent_by_rule_and_counted(world: Pipeline) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 1)
        archive.add_session("nul", project="a\0b", cwd="/x\0y")
        archive.add_session("bytes", outcome=b"comp\xffleted")
        archive.add_session(
            "years", started_at="0001-01-01T00:00:00Z", ended_at="9999-12-31T23:59:59Z"
        )
        archive.add_session("typed", message_count="seven", user_message_count="12")
        archive.add_message("years", timestamp="0000-01-01T00:00:00Z")
        archive.add_message("years", model=MODEL, token_usage='{"input_tokens":3000000}')
        archive.add_message("years", model=MODEL, token_usage='{"input_tokens":5,"outp')
        archive.add_message("years", model=MODEL, token_usage=b'{"input_tokens":7,"x":"\xff"}')
        archive.add_message("years", model="m\0n", token_usage=USAGE, timestamp="soon\0")
        archive.execute("UPDATE messages SET timestamp = CAST(x'32ff' AS TEXT) WHERE ordinal = 4")
    summary = world.bring()
    assert summary.refused == 0
    assert summary.repairs["text"] >= 3
    assert summary.repairs["number_type"] >= 1
    assert summary.repairs["tokens_clamped"] == 1
    assert summary.repairs["usage_text"] == 1
    assert summary.repairs["time"] >= 2
    rows = world.rows("--include-one-shot")
    assert rows["nul"]["project"] == "a\ufffdb"
    assert rows["years"]["model_usage"]["input_tokens"] == 2_000_000 + 5 + 7 + 1200
    assert "m\ufffdn" in rows["years"]["model_usage"]["models"]
    assert "typed" not in rows, "a count that is no number is 0"


def test_an_id_that_cannot_be_kept_is_refused_and_the_rest_goes_on(world: Pipeline) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 2)
        archive.add_session("x" * 600)
        archive.add_session("label", project="p" * 2000)
        archive.execute("UPDATE sessions SET id = CAST(x'61ff' AS TEXT) WHERE id = 's0'")
    summary = world.bring()
    assert summary.refusals == {"id": 2, "label_length": 1}
    assert summary.refused == 3
    assert world.ids() == ["s1"]


def test_a_number_is_read_whatever_type_it_has() -> None:
    repairs = Repairs()
    assert [repairs.whole(v) for v in (7, None, "12", 3.9, b"4", "x", 1 << 70)] == [
        *(7, 0, 12, 3, 4, 0, (1 << 63) - 1)
    ]
    assert repairs.counts == {"number_type": 4, "number_range": 1}


# -- living beside the owner --------------------------------------------------------------------


def test_a_writer_at_work_is_neither_waited_for_nor_seen_half_way(world: Pipeline) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 1)
        archive.execute("PRAGMA journal_mode = WAL")
    with closing(sqlite3.connect(world.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE sessions SET project = 'half' WHERE id = 's0'")
        world.bring()
        assert world.rows()["s0"]["project"] == "tern"
        writer.execute("COMMIT")
        world.bring()
        assert world.rows()["s0"]["project"] == "half"


def test_a_source_that_is_replaced_meanwhile_is_started_over(
    world: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 6)
    rebuilt = tmp_path / "rebuilt.db"
    with SqliteArchive(rebuilt) as archive:
        fill(archive, 4)
        archive.update_session("s3", project="rebuilt")
    monkeypatch.setattr(agentsview, "BATCH_SESSIONS", 2)
    source = SqliteSource(world.path)
    read = source.sessions

    def replace_once(ids: Any) -> Any:
        if rebuilt.exists():
            rebuilt.rename(world.path)
        return read(ids)

    monkeypatch.setattr(source, "sessions", replace_once)
    with closing(source):
        import_archive(world.conn, lambda: nullcontext(world._writer), source, SILENT)
    assert world.ids() == ["s0", "s1", "s2", "s3"]
    assert world.rows()["s3"]["project"] == "rebuilt"


def test_a_source_that_a_reader_finds_replaced_is_started_over(
    world: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 6)
    rebuilt = tmp_path / "rebuilt.db"
    with SqliteArchive(rebuilt) as archive:
        fill(archive, 4)
        archive.update_session("s3", project="rebuilt")

    exchange = readers._exchange

    def told_once(*arguments: Any) -> Iterator[Prepared]:
        if rebuilt.exists():
            rebuilt.rename(world.path)
            raise SourceReplaced
        return exchange(*arguments)

    monkeypatch.setattr(agentsview, "APART_MESSAGES", 0)
    monkeypatch.setattr(agentsview, "_cores", lambda: 2)
    monkeypatch.setattr(readers, "_exchange", told_once)
    source = SqliteSource(world.path)
    with closing(source):
        import_archive(
            world.conn,
            partial(connect, world.settings),
            source,
            SILENT,
            open_source=partial(SqliteSource, world.path),
        )
    assert world.ids() == ["s0", "s1", "s2", "s3"]
    assert world.rows()["s3"]["project"] == "rebuilt"


# -- derived rows -------------------------------------------------------------------------------


def test_everything_derived_can_be_made_again(world: Pipeline) -> None:
    with world.source() as archive:
        fill(archive, 3)
        archive.add_mapping("/home/kit/tern", "tern", machine="oak")
    before = stored(world)
    assert set(rebuild(world.conn, SILENT).values()) == {0}
    world.conn.execute("UPDATE session_models SET input_tokens = 5")
    world.conn.execute("DELETE FROM session_models WHERE session_key % 2 = 0")
    world.conn.execute("UPDATE session_lines SET usage = 'x', head = ''")
    world.conn.execute("UPDATE model_rates SET input_rate = 99, matched_pattern = NULL")
    world.conn.execute("UPDATE sessions SET shadowed = true, path_key = 'x', has_worktree = true")
    rebuild(world.conn, SILENT)
    assert stored(world) == before
    assert set(rebuild(world.conn, SILENT).values()) == {0}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET id = CAST(x'610062' AS TEXT) WHERE id = 's0'",
        "UPDATE sessions SET id = hex(randomblob(3000)) WHERE id = 's0'",
        "UPDATE sessions SET id = CAST('s1' AS BLOB) WHERE id = 's0'",
        "INSERT INTO excluded_sessions (id) VALUES (CAST(x'610062' AS TEXT)), (x'ff00')",
        "UPDATE messages SET id = 9223372036854775000 + ordinal WHERE session_id = 's0'",
    ],
)
def test_one_bad_row_does_not_stop_the_others(world: Pipeline, statement: str) -> None:
    with SqliteArchive(world.path) as archive:
        fill(archive, 3)
        archive.execute("PRAGMA foreign_keys = OFF")
        archive.execute(statement)
    world.bring()
    assert {"s1", "s2"} <= set(world.ids())


@pytest.mark.parametrize(
    "source",
    ["host=db.example user=me password={} dbname=x", "postgresql:/me:{}@db/x"],
)
def test_a_password_in_a_source_is_not_repeated(
    world: Pipeline, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from exporter.cli.main import run

    secret = "".join(("hun", "ter", "2"))
    assert run(["import", "agentsview", source.format(secret), "--database-url", world.url]) != 0
    assert secret not in capsys.readouterr().err
