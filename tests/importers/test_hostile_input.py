"""Odd numbers, secrets in odd places, sources that are no files: by rule, and told in a line."""

from __future__ import annotations

import gc
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from exporter.cli.custom_prices import read_custom_rates
from exporter.cli.main import run
from exporter.core.intake import Repairs, SourceSession, public_session
from exporter.errors import BadInput, SourceUnreadable
from exporter.importers.agentsview_postgres import PostgresSource
from exporter.importers.agentsview_sqlite import SqliteSource
from tests.archives.builder import PgArchive, SqliteArchive
from tests.archives.pipeline import Pipeline
from tests.importers.test_hostile_layouts import EVERYTHING, told, url_of
from tests.importers.test_hostile_layouts import pushed as pushed
from tests.importers.test_hostile_layouts import shared as shared
from tests.importers.test_hostile_values import MODEL, NOISE, USAGE, bring, loosen
from tests.importers.test_import import everything


def prepare(world: Pipeline, *, loose: bool = False) -> SqliteArchive:
    archive = SqliteArchive(world.path)
    archive.add_price(MODEL, 3, 15, 3.75, 0.3)
    archive.add_session("a")
    for _ in range(4):
        archive.add_message("a", model=MODEL, token_usage=USAGE)
    if loose:
        loosen(archive)
    return archive


# -- ordinals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored", "repaired"),
    [
        (None, [0, 2, 3, 4], 1),
        (1.5, [0, 2, 3, 4], 1),
        ("seven", [0, 2, 3, 4], 1),
        (b"1", [0, 2, 3, 4], 1),
        (3, [0, 2, 3, 4], 1),
        (1 << 40, [0, 2, 3, 4], 1),
        (-(1 << 40), [0, 2, 3, 4], 1),
        (-7, [-7, 0, 2, 3], 0),
        ((1 << 31) - 1, [0, 2, 3, (1 << 31) - 1], 0),
    ],
    ids=str,
)
def test_a_message_without_an_ordinal_of_its_own_follows_behind_the_others(
    world: Pipeline, value: object, stored: list[int], repaired: int
) -> None:
    with closing(prepare(world, loose=True)) as archive:
        archive.execute("UPDATE messages SET ordinal = ? WHERE ordinal = 1", [value])
    summary = bring(world)
    rows = world.conn.execute("SELECT ordinal FROM activity_points ORDER BY 1").fetchall()
    assert [row[0] for row in rows] == stored
    assert summary.repairs.get("ordinal", 0) == repaired
    assert summary.refused == 0
    assert world.rows(*EVERYTHING)["a"]["model_usage"]["input_tokens"] == 4 * 1200


def test_many_odd_ordinals_find_room_beside_the_largest(world: Pipeline) -> None:
    with closing(prepare(world, loose=True)) as archive:
        archive.execute("UPDATE messages SET ordinal = NULL WHERE ordinal < 3")
        archive.execute("UPDATE messages SET ordinal = ? WHERE ordinal = 3", [(1 << 31) - 1])
    assert bring(world).repairs["ordinal"] == 3
    rows = world.conn.execute("SELECT ordinal FROM activity_points ORDER BY 1").fetchall()
    assert [row[0] for row in rows] == [0, 1, 2, (1 << 31) - 1]


# -- what is too long ---------------------------------------------------------------------------


def test_what_does_not_fit_an_index_is_left_out_and_counted(world: Pipeline) -> None:
    with closing(prepare(world)) as archive:
        archive.add_price(NOISE[:3000])
        archive.add_price("\0" * 500)
        archive.add_cursor_usage(model=NOISE[:3000])
        archive.add_cursor_usage(model="\0" * 500)
        archive.add_session("long-model")
        archive.add_message("long-model", model=NOISE[:3000], token_usage=USAGE)
        archive.add_session("long-path", cwd="/" + NOISE)
        archive.add_session("long-time", ended_at="")
        archive.add_message("long-time", timestamp=NOISE)
        archive.add_observation("kite", root_path="/" + NOISE)
        archive.add_observation(NOISE[:3000])
        archive.add_mapping("/" + NOISE)
    summary = bring(world)
    assert summary.repairs["model_length"] == 4
    assert summary.repairs["observation"] == 2
    assert summary.repairs["mapping"] == 1
    assert summary.refusals == {"model_length": 1, "text_length": 2}
    assert list(world.rows(*EVERYTHING)) == ["a"]


@pytest.mark.parametrize(
    "value",
    [b"\xff\xfe", b"a\0b", NOISE.encode(), b"", b"two\nlines", 5, None],
    ids=lambda v: repr(v)[:20],
)
def test_an_archive_id_that_cannot_be_kept_is_as_if_it_were_not_there(
    world: Pipeline, value: object
) -> None:
    with closing(prepare(world, loose=True)) as archive:
        is_text = isinstance(value, bytes)
        archive.execute(
            f"UPDATE archive_metadata SET value = {'CAST(? AS TEXT)' if is_text else '?'}", [value]
        )
    code, said = told(world, str(world.path), "--quiet")
    assert (code, said) == (0, "")
    row = world.conn.execute("SELECT archive_id FROM sources").fetchone()
    assert row is not None
    assert row[0].startswith("path:") or str(value).startswith(row[0][:3])


# -- money --------------------------------------------------------------------------------------

ABSURD = (1e308, 5e-324, -1.7e308, float("inf"), float("-inf"), 1e201, 1e-201)


@pytest.mark.parametrize("amount", ABSURD, ids=str)
def test_no_sum_meets_an_amount_that_it_could_not_hold(world: Pipeline, amount: float) -> None:
    config = world.path.parent / "config.toml"
    config.write_text(f'[custom_model_pricing."tern-mini"]\ninput = {amount}\n')
    try:
        with closing(prepare(world)) as archive:
            archive.add_price("grebe-nano", output=amount)
            archive.add_cursor_usage(charged_cents=amount)
            for model in ("grebe-nano", "tern-mini", MODEL):
                archive.add_event("a", model=model, output_tokens=1 << 60, cost_usd=amount)
                archive.add_event("a", model=model, source="session", output_tokens=1 << 62)
        summary = bring(world)
    finally:
        config.unlink()
    assert summary.repairs["rate"] == 2
    assert summary.repairs["cost"] == 4
    assert list(world.rows(*EVERYTHING)) == ["a"]


def test_no_sum_meets_such_an_amount_from_postgresql(world: Pipeline, pushed: PgArchive) -> None:
    early = pushed.era == "0.37.1"
    column = "cost_usd" if early else "cost_microdollars"
    worst = (float("nan"), float("inf"), 1e308, 5e-324) if early else ((1 << 63) - 1, -(1 << 63))
    for number, amount in enumerate(worst):
        row = {"session_id": "first", "source": "x", "model": MODEL, column: amount}
        pushed._insert("usage_events", row)
        rate = "input_per_mtok" if early else "input_microdollars_per_mtok"
        pushed._insert("model_pricing", {"model_pattern": f"m{number}", rate: amount})
        charged = "charged_cents" if early else "charged_microdollars"
        row = {"occurred_at": "2026-03-04T10:00:00Z", "model": MODEL, charged: amount}
        pushed._insert("cursor_usage_events", {**row, "dedup_key": f"k{number}"})
    code, said = told(world, url_of(pushed.conn), "--quiet")
    assert (code, said) == (0, "")
    assert set(world.rows(*EVERYTHING)) == {"sound", "first", "second"}


def test_negative_rates_and_costs_come_over_as_they_are(world: Pipeline) -> None:
    with closing(prepare(world)) as archive:
        archive.add_price("tern-mini", output=-2)
        archive.add_event("a", model="tern-mini", output_tokens=1_000_000)
        archive.add_event("a", model="grebe-nano", cost_usd=-0.5)
    assert "rate" not in bring(world).repairs
    models = world.rows(*EVERYTHING)["a"]["model_usage"]["by_model"]
    assert models["tern-mini"]["cost_usd"] == -2
    assert models["grebe-nano"]["cost_usd"] == -0.5


@pytest.mark.parametrize(
    "content",
    [
        "[custom_model_pricing.m]\ninput = 1e308\n",
        "[custom_model_pricing.m]\ninput = 5e-324\n",
        "[custom_model_pricing.m]\ninput = nan\n",
        "[custom_model_pricing.m]\ninput = -inf\n",
        "[custom_model_pricing.m]\ninput = true\n",
        "[custom_model_pricing.m]\ninput = " + "9" * 400 + "\n",
        "[custom_model_pricing.m]\ninput = " + "9" * 5000 + "\n",
        "a = " + "[" * 100_000,
        "a = " + "[\n" * 50_000,
        "a" + ".a" * 50_000 + " = 1\n",
        '[custom_model_pricing."a\\u0000b"]\ninput = 1\n',
        "[custom_model_pricing.m",
        "custom_model_pricing = 1",
    ],
    ids=lambda text: text[:40],
)
def test_custom_prices_that_cannot_be_meant_are_told_in_a_sentence(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(BadInput, match="--custom-prices") as told:
        read_custom_rates(path, "--custom-prices")
    assert len(str(told.value)) < 500
    assert "\n" not in str(told.value)


def test_custom_prices_may_be_negative(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[custom_model_pricing.m]\ninput = -1.5\n")
    assert read_custom_rates(path, "--custom-prices")["m"].input == -1.5


def test_the_text_of_a_file_that_is_no_toml_is_not_repeated(tmp_path: Path) -> None:
    word = "".join(("hun", "ter", "2"))
    path = tmp_path / "mine.toml"
    path.write_text(f'"{word}" = 1\n"{word}" = 2\n')
    with pytest.raises(BadInput, match="no TOML") as told:
        read_custom_rates(path, "--custom-prices")
    assert word not in str(told.value)


@pytest.mark.parametrize("value", ["", "/nowhere/x.toml", "/dev/zero", "/", "~nobody-here/x"])
def test_a_file_of_custom_prices_that_is_none_is_told(
    world: Pipeline, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--database-url", world.url, "--custom-prices", value]
    assert run(["sessions", *flags]) in (1, 2)
    said = capsys.readouterr().err
    assert "--custom-prices" in said
    assert "Traceback" not in said


# -- secrets ------------------------------------------------------------------------------------

TOKENS = {
    "github": "_".join(("ghp", "A1b2C3d4E5f6" * 3)),
    "anthropic": "-".join(("sk", "ant", "api03", "A1b2C3d4E5f6" * 8)),
    "openai": "-".join(("sk", "proj", "A1b2C3d4E5f6" * 8)),
    "plain": "-".join(("sk", "a1b2c3d4" * 4)),
    "google": "".join(("AI", "za", "A1b2C3d4E5f6" * 3)),
    "stripe": "_".join(("sk", "live", "A1b2C3d4E5f6" * 2)),
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize(
    "form", ["{}", "https://user:{}@h.example/x", "/home/kit/{}/x", "https://{}@h.example/x?t={}"]
)
def test_a_token_reaches_no_table_whatever_column_it_stood_in(
    world: Pipeline, token: str, form: str
) -> None:
    text = form.format(token, token)
    with closing(prepare(world)) as archive:
        plant(archive, text)
    summary = bring(world)
    assert summary.repairs["credential"] > 5
    assert summary.refusals == {"id_credential": 1}
    assert token not in everything(world)
    assert token not in world.sessions(*EVERYTHING).stdout


def plant(archive: SqliteArchive | PgArchive, text: str) -> None:
    """Put a text into every column that may be stored, but for ids, which others refer to."""
    columns = ("project", "machine", "agent", "cwd", "git_branch", "file_path", "outcome")
    later = ("health_grade", "termination_status", "relationship_type")
    for name in (*columns, *later, "started_at", "ended_at", "created_at"):
        with suppress(TypeError):
            archive.add_session(f"in-{name}", **{name: text})
    archive.add_session(text)
    archive.add_session("child", parent_session_id=text)
    archive.add_session("late", ended_at="", started_at="", created_at="")
    archive.add_message("late", timestamp=text, role=text)
    archive.add_message("late", model=text, token_usage=USAGE)
    archive.add_event("late", source=text, model=MODEL, dedup_key=text, occurred_at=text)
    archive.add_event("late", model=text, output_tokens=3)
    for name in ("project", "machine", "root_path", "git_remote", "git_remote_name"):
        # Its own root: a URL that begins within a path keeps its query.
        archive.add_observation(**{"machine": f"m-{name}", "root_path": "/srv/x", name: text})
    for name in ("worktree_name", "worktree_root_path"):
        archive.add_observation(**{"machine": f"m-{name}", name: text})
    if isinstance(archive, SqliteArchive):
        archive.add_observation(machine="m-observed", observed_at=text)
        archive.add_mapping("/srv/x", machine=text)
        archive.set_metadata("archive_id", text)
    archive.add_price(text)
    archive.add_price("m-updated", updated_at=text)
    archive.add_cursor_usage(model=text)
    with suppress(LookupError):
        archive.add_mapping(text)
        archive.add_mapping("/srv/y", project=text)
        archive.add_mapping("/srv/z", layout=text)


def test_a_token_from_postgresql_reaches_no_table(world: Pipeline, pushed: PgArchive) -> None:
    token = TOKENS["anthropic"]
    plant(pushed, f"/home/kit/{token}/x")
    url = f"https://user:{token}@h.example/x"
    pushed.add_session("url", project=url, cwd=url, git_branch=url)
    code, said = told(world, url_of(pushed.conn), "--quiet")
    assert (code, said) == (3, ""), "the session whose id it is was refused"
    assert token not in everything(world)


#: Texts that hold a secret of no known shape, by where it stands in a URL.
HIDING_PLACES = {
    "query": "https://h.example/r?private_token={}",
    "fragment": "https://h.example/r#{}",
    "user": "https://user:{}@h.example/x",
    "slashed": "https://user:12/{}@h.example/x",
    "no-host": "https://user/{}@h.example/x",
}


@pytest.mark.parametrize("form", HIDING_PLACES.values(), ids=HIDING_PLACES)
def test_a_secret_of_no_known_shape_in_a_url_reaches_no_table(world: Pipeline, form: str) -> None:
    secret = "".join(("hun", "ter", "2abc"))
    text = form.format(secret)
    with closing(prepare(world)) as archive:
        plant(archive, text)
    summary = bring(world)
    assert summary.repairs["credential"] > 5
    assert summary.refusals == {"id_credential": 1}
    assert secret not in everything(world)
    assert secret not in world.sessions(*EVERYTHING).stdout


def test_a_url_is_looked_at_wherever_it_stands_among_the_texts_of_a_session() -> None:
    secret = "".join(("hun", "ter", "2abc"))
    for name in SourceSession._fields:
        if name == "id" or not isinstance(getattr(PLAIN, name), str):
            continue
        for form in HIDING_PLACES.values():
            repairs = Repairs()
            hidden = public_session(with_text(name, form.format(secret)), repairs)
            assert secret not in repr(hidden), name
            assert repairs.counts == {"credential": 1}


PLAIN = SourceSession._make(
    (
        *("plain", "tern", "oak", "claude", "/home/kit/tern", "main", "/home/kit/x.jsonl"),
        *("2026-03-04T10:00:00Z", "2026-03-04T11:00:00Z", "2026-03-04T10:00:00Z", ""),
        *(2, 1, "parent", "subagent", False, 10, 20, True, True, "completed", "A", 0, 0, "clean"),
    )
)


def with_text(name: str, text: str) -> SourceSession:
    return SourceSession._make({**PLAIN._asdict(), name: text}.values())


def test_a_session_without_a_url_stays_as_it_is() -> None:
    repairs = Repairs()
    assert public_session(PLAIN, repairs) is PLAIN
    assert public_session(PLAIN._replace(cwd="C:/Users/kit"), repairs).cwd == "C:/Users/kit"
    assert not repairs.counts


def test_ordinary_labels_come_over_as_they_are(world: Pipeline) -> None:
    labels = {
        "project": "https-tools",
        "git_branch": "sk-proj-rename-modules-2026-again",
        "cwd": "/home/kit/node_modules/@scope/sk-learn/a@b",
        "machine": "kit@oak",
    }
    with closing(prepare(world)) as archive:
        archive.add_session("plain", **labels)
    assert "credential" not in bring(world).repairs
    columns = ", ".join(labels)
    row = world.conn.execute(f"SELECT {columns} FROM sessions WHERE id = 'plain'".encode())
    assert row.fetchone() == tuple(labels.values())


# -- a run that ends half way -------------------------------------------------------------------


@pytest.mark.parametrize("part", ["listing", "prices", "observations", "mappings", "billing"])
def test_a_reading_that_is_left_half_way_ends_in_silence(
    world: Pipeline, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(prepare(world)) as archive:
        archive.add_observation()
        archive.add_mapping("/srv/x")
        archive.add_cursor_usage()
    half_way(SqliteSource(world.path), part, monkeypatch)


@pytest.mark.parametrize("part", ["listing", "prices", "observations", "billing"])
def test_a_reading_of_postgresql_that_is_left_half_way_ends_in_silence(
    pushed: PgArchive, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_way(PostgresSource(url_of(pushed.conn), "agentsview"), part, monkeypatch)


def half_way(source: Any, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one row, close the source as the command does after a signal, and let the rest go."""
    complaints: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    rows = getattr(source, part)()
    next(rows)
    source.close()
    del rows
    gc.collect()
    assert complaints == []


# -- a server that is not there -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("postgresql://reader@127.0.0.1:1/team", 1),
        ("postgresql+asyncpg://reader@127.0.0.1:1/team", 1),
        ("postgres+driver-2://reader@127.0.0.1:1/team", 1),
        ("PostgreSQL://reader@127.0.0.1:1/team", 1),
        ("host=127.0.0.1 port=1 dbname=team", 1),
        ("postgresql://reader@127.0.0.1:port/team", 2),
        ("postgresql://[::1/team", 2),
    ],
)
def test_a_source_server_is_named_as_source(world: Pipeline, source: str, code: int) -> None:
    found, said = told(world, source)
    assert found == code, said
    assert "SOURCE" in said
    assert "--database-url" not in said
    assert "EXPORTER_DATABASE_URL" not in said


def test_a_missing_source_database_and_a_wrong_user_are_named_as_sources(
    world: Pipeline, pushed: PgArchive
) -> None:
    info = pushed.conn.info
    for user, name in ((info.user, "no-such-database"), ("no_such_role", info.dbname)):
        url = f"postgresql://{user}@/{name}?host={info.host}&port={info.port}"
        code, said = told(world, url)
        assert code == 1
        assert "SOURCE" in said, said


# -- paths --------------------------------------------------------------------------------------


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "sessions.db")
    return folder / "sessions.db"


def fifo_inside(folder: Path) -> Path:
    return fifo(folder).parent


def fifo_beside(folder: Path) -> Path:
    SqliteArchive(folder / "sessions.db").close()
    os.mkfifo(folder / "sessions.db-journal")
    return folder


def bound(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(folder / "s"))
    return folder / "s"


def loop(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "a pipe"),
        (fifo_inside, "a pipe"),
        (fifo_beside, "beside a -journal that is a pipe"),
        (bound, "a socket"),
        (loop, "Too many levels of symbolic links"),
        (lambda folder: "/dev/zero", "a device"),
        (lambda folder: "/dev/null", "a device"),
        (lambda folder: folder / ("x" * 5000), "File name too long"),
        (lambda folder: folder / os.fsdecode(b"caf\xe9"), "does not exist"),
        (lambda folder: "~no-such-user-here/x", "no user with a home here"),
        (lambda folder: "", "it is empty"),
        (lambda folder: "a\0b", "NUL"),
    ],
)
def test_a_path_that_is_no_archive_is_told_without_waiting(
    world: Pipeline, tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    code, text = told(world, str(make(tmp_path)))
    assert code in (1, 2)
    assert said in text
    assert len(text) < 1000


def test_a_folder_that_may_not_be_entered_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(SourceUnreadable, match="Permission denied"):
        SqliteSource(tmp_path / "private" / "sessions.db")


def test_a_path_that_is_not_utf8_is_imported(world: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 %20?#")
    folder.mkdir()
    with closing(prepare(world)) as archive:
        archive.execute("DELETE FROM archive_metadata")
    os.rename(world.path, folder / "sessions.db")
    code, said = told(world, str(folder), "--quiet")
    assert (code, said) == (0, "")
    assert list(world.rows(*EVERYTHING)) == ["a"]
    code, said = told(world, str(folder), "--quiet")
    assert (code, said.partition(" ")[0]) == (0, "unchanged")


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink("/dev/zero", path),
        lambda path: path.write_text("a" + ".a" * 100_000 + " = 1"),
        lambda path: path.write_text("a = " + "[\n" * 50_000),
        lambda path: path.write_text("a = " + "9" * 5_000),
        lambda path: path.write_text("\n" * 300_000),
    ],
)
def test_a_configuration_that_is_none_is_passed_by(
    world: Pipeline, make: Callable[[Path], None]
) -> None:
    config = world.path.parent / "config.toml"
    prepare(world).close()
    make(config)
    try:
        assert bring(world).repairs["config"] == 1
    finally:
        (os.rmdir if config.is_dir() else os.unlink)(config)


# -- tables of another making -------------------------------------------------------------------


def test_an_index_of_the_owners_name_on_something_else_does_no_harm(world: Pipeline) -> None:
    with closing(prepare(world)) as archive:
        archive.execute("DROP INDEX idx_messages_usage_covering")
        archive.execute("CREATE INDEX idx_messages_usage_covering ON sessions (agent)")
    assert bring(world).new == 1


def test_rows_with_one_id_are_one_session(world: Pipeline) -> None:
    with closing(prepare(world, loose=True)) as archive:
        archive.execute("INSERT INTO sessions SELECT * FROM sessions")
        archive.execute("INSERT INTO messages SELECT * FROM messages")
    summary = bring(world)
    assert (summary.new, summary.refusals) == (1, {"id": 1})
    assert summary.repairs["ordinal"] == 4


def test_an_archive_in_utf16_is_named(world: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "wide.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA encoding = 'UTF-16'")
        db.execute("CREATE TABLE sessions (id)")
        db.execute("CREATE TABLE messages (session_id, ordinal, role, timestamp)")
        db.execute("CREATE TABLE usage_events (session_id, id, model, cost_usd)")
    code, said = told(world, str(path))
    assert code == 1
    assert "in UTF-16" in said


def test_times_of_prices_and_sightings_that_postgresql_cannot_read_do_no_harm(
    world: Pipeline,
) -> None:
    odd = ("9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00Z", "2026-01-01T00:00:00+24:60")
    with closing(prepare(world)) as archive:
        for number, at in enumerate((*odd, "2026-01-01T1:00:00,5Z", "soon")):
            archive.add_price(f"m{number}", updated_at=at)
            archive.add_observation(root_path=f"/srv/{number}", observed_at=at)
    bring(world)
    assert world.export(*EVERYTHING)["pricing"]
    kept = "SELECT count(updated_at) FROM source_prices WHERE model_pattern LIKE 'm%'"
    assert world.conn.execute(kept).fetchone() == (2,)
