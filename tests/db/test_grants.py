"""Three roles, each logged in as itself: what it can do, and what the server refuses it."""

from __future__ import annotations

import io
import json
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from exporter.cli.main import run
from exporter.core.denylist import DENIED
from exporter.db import grants
from exporter.db.connect import connect
from exporter.db.grants import Facts, Purpose, Role, Table
from exporter.errors import MissingRights
from tests.archives.sample import sample_archive
from tests.conftest import MakeDatabase
from tests.core.test_runzip_builders import CLEAN, LOG_DATA, build, snapshot
from tests.interop.origin import Result
from tests.jobs.plans import Plans
from tests.postgres import settings_for

KINDS = ("reader", "operator", "admin")


def exporter(url: str, *args: str) -> Result:
    """One command, as the role of a URL."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*args, "--database-url", url])
    finally:
        signal.signal(signal.SIGTERM, before)
    said = []
    for stream in (out, err):
        stream.flush()
        said.append(stream.buffer.getvalue().decode(errors="replace"))
    return Result(code, *said)


def done(url: str, *args: str) -> str:
    """What a command printed that succeeded."""
    result = exporter(url, *args)
    assert result.exit == 0, result.stderr
    return result.stdout


class Roles:
    """Login roles for one database, dropped with all that they were granted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._urls: dict[str, str] = {}

    def make(self, name: str, options: str = "LOGIN") -> str:
        """A role with a name like the given one; returns its full name."""
        full = f"{name} {secrets.token_hex(4)}"
        password = secrets.token_hex(8)
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(
                    sql.Identifier(full), sql.SQL(options), sql.Literal(password)
                )
            )
        parts = urlsplit(self.url)
        place = parts.netloc.rpartition("@")[2]
        user = full.replace(" ", "%20").replace('"', "%22")
        self._urls[full] = urlunsplit(parts._replace(netloc=f"{user}:{password}@{place}"))
        return full

    def of(self, name: str) -> str:
        """The database's URL for a role."""
        return self._urls[name]

    def drop(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            for name in self._urls:
                role = sql.Identifier(name)
                conn.execute(sql.SQL("DROP OWNED BY {}").format(role))
                conn.execute(sql.SQL("DROP ROLE {}").format(role))


class World:
    """A database with an archive, a split and a legacy plan, and a role for each purpose."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.roles = Roles(url)
        self.names = {kind: self.roles.make(f'exporter test "{kind}"') for kind in KINDS}
        self.archive = folder / "sessions.db"
        sample_archive(self.archive)
        done(url, "import", "agentsview", str(self.archive))
        plans = Plans(settings_for(url))
        self.split = plans.add(snapshot())
        plans.run()
        # The backfill leaves it alone.
        self.legacy = plans.add(snapshot(), "processing")
        self.plans = plans
        done(url, "db", "grants", *self.options, "--apply")

    @property
    def options(self) -> list[str]:
        return [word for kind in KINDS for word in (f"--{kind}", self.names[kind])]

    def as_role(self, kind: str) -> str:
        return self.roles.of(self.names[kind])


@pytest.fixture(scope="module")
def world(make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(make_database(), tmp_path_factory.mktemp("grants"))
    yield made
    made.roles.drop()


@pytest.fixture
def roles(database_url: str) -> Iterator[Roles]:
    """Roles for a database of the test's own."""
    made = Roles(database_url)
    yield made
    made.drop()


def refused(url: str, statement: str) -> bool:
    """Whether the server refuses a statement for lack of a right."""
    with connect(settings_for(url)) as conn:
        try:
            conn.execute(statement.encode())
        except InsufficientPrivilege:
            return True
    return False


# --- The reader -----------------------------------------------------------------------------

_TIME = re.compile(r'"(generated_at|exported_at)":"[^"]*"')
SAMPLE_RANGE = ("--since", "2026-03-01", "--until", "2026-04-05")


@pytest.mark.parametrize(
    "command",
    [
        ("sessions", "--all", "--ndjson"),
        ("usage", "daily", "--json", "--timezone", "UTC", *SAMPLE_RANGE),
        ("activity", "report", "--json", "--preset", "month", "--date", "2026-03-10"),
        ("pricing", "show", "--json"),
        ("jobs", "status", "--json"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_the_reader_exports_what_the_owner_exports(world: World, command: tuple[str, ...]) -> None:
    def told(url: str) -> list[str]:
        return [_TIME.sub("", line) for line in done(url, *command).splitlines()]

    mine = told(world.as_role("reader"))
    assert mine == told(world.url)
    assert sum(map(len, mine)) > 100


def test_the_reader_sees_where_the_database_stands(world: World) -> None:
    facts = json.loads(done(world.as_role("reader"), "db", "status", "--json"))
    assert facts["state"] == "at head"
    assert facts["adopted_table"] == "exporter.task_item"
    assert "done" in facts["job_snapshots"]


def test_the_reader_has_the_overview_of_a_split_plan(world: World) -> None:
    shown = done(world.as_role("reader"), "artifacts", "overview", str(world.split), "--json")
    assert json.loads(shown)["total_cost"] == 0.5


def test_selecting_all_columns_is_refused_to_the_reader_a31(world: World) -> None:
    assert refused(world.as_role("reader"), "SELECT * FROM task_item")
    assert not refused(world.as_role("reader"), "SELECT id, state FROM task_item")


@pytest.mark.parametrize(
    "column", [*sorted(DENIED - {"body"}), "prompt", "generated_report_html", "user_id"]
)
def test_the_reader_has_no_select_on_denied_columns_and_content(world: World, column: str) -> None:
    assert refused(world.as_role("reader"), f"SELECT {column} FROM task_item")


@pytest.mark.parametrize("table", ["artifact_originals", "artifact_blobs", "artifact_reads"])
def test_what_is_kept_is_neither_the_readers_nor_the_operators(world: World, table: str) -> None:
    for kind in ("reader", "operator"):
        assert refused(world.as_role(kind), f"SELECT * FROM {table}")


def test_the_reader_sees_counts_of_the_quarantine_and_not_which_plans(world: World) -> None:
    assert refused(world.as_role("reader"), "SELECT item FROM job_items")
    assert exporter(world.as_role("reader"), "jobs", "quarantine").exit == 1


def test_the_reader_can_write_nothing_anywhere(world: World) -> None:
    query = """
        SELECT c.relname, p FROM pg_class AS c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE',
            'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
        WHERE c.relnamespace = 'exporter'::regnamespace AND c.relkind IN ('r', 'p')
          AND (has_table_privilege(c.oid, p) OR p IN ('INSERT', 'UPDATE', 'REFERENCES')
               AND has_any_column_privilege(c.oid, p))
    """
    with connect(settings_for(world.as_role("reader"))) as conn:
        assert conn.execute(query).fetchall() == []
        assert conn.execute("SELECT has_schema_privilege('exporter', 'CREATE')").fetchone() == (
            False,
        )
    for statement in (
        "UPDATE archive SET revision = 0",
        "DELETE FROM sessions",
        "UPDATE task_item SET state = 'failed'",
        "INSERT INTO models (name) VALUES ('x')",
    ):
        assert refused(world.as_role("reader"), statement)


# --- The operator ---------------------------------------------------------------------------


def test_the_operator_imports_and_backfills_and_looks_after_jobs(
    roles: Roles, tmp_path: Path
) -> None:
    reader, operator = roles.make("r"), roles.make("o")
    done(roles.url, "db", "grants", "--reader", reader, "--operator", operator, "--apply")
    url = roles.of(operator)
    sample_archive(tmp_path / "sessions.db")
    done(url, "import", "agentsview", str(tmp_path / "sessions.db"))
    assert json.loads(
        done(url, "import", "agentsview", str(tmp_path / "sessions.db"), "--full", "--json")
    )
    done(url, "db", "rebuild")
    assert len(done(roles.of(reader), "sessions", "--all", "--ndjson").splitlines()) > 10

    plans = Plans(settings_for(roles.url))
    plan, odd = plans.add(snapshot()), plans.add(b"hello")
    dry = exporter(url, "backfill", "--dry-run", "--json")
    assert dry.exit == 3, dry.stderr
    real = exporter(url, "backfill", "--json")
    assert real.exit == 3, real.stderr
    assert plans.row(plan)["run_track_activity_jsonl"].encode() == LOG_DATA
    assert plans.originals(plan) != []
    assert exporter(url, "jobs", "quarantine").exit == 3
    done(url, "jobs", "retry", "ZIP_NOT_ZIP")
    assert plans.item(odd)[0] == "pending"
    again = plans.add(snapshot(), run_track_activity_jsonl="kept from an earlier split")
    compact = plans.add(snapshot())
    assert exporter(url, "backfill", "snapshots", "--log-storage", "compact").exit == 3
    assert ("log", "", b"kept from an earlier split") in plans.originals(again)
    assert plans.row(compact)["run_track_activity_encoding"] == "external"
    done(url, "artifacts", "download", str(plan), "-o", str(tmp_path / "run.zip"))


def test_the_operator_fills_the_object_store_and_the_admin_reads_moves_and_collects(
    roles: Roles, tmp_path: Path
) -> None:
    operator, admin = roles.make("o"), roles.make("a")
    done(roles.url, "db", "grants", "--operator", operator, "--admin", admin, "--apply")
    plans = Plans(settings_for(roles.url))
    plan = plans.add(snapshot())
    place = ("--blob-url", str(tmp_path / "objects"), "--inline-max-bytes", "10")
    done(roles.of(operator), "backfill", "snapshots", *place, "--derive-overview", "--salvage")
    assert plans.row(plan)["run_track_activity_ref"]["store"] == "file"
    target = tmp_path / "log.jsonl"
    done(roles.of(admin), "artifacts", "log", str(plan), *place[:2], "-o", str(target))
    assert target.read_bytes() == LOG_DATA
    listed = json.loads(done(roles.of(admin), "artifacts", "originals", str(plan), "--json"))
    number = str(listed[0]["original"])
    done(roles.of(admin), "artifacts", "original", number, *place[:2], "-o", str(target))
    assert target.read_bytes() == snapshot()
    done(roles.of(admin), "artifacts", "move", "--to", "database", *place[:2])
    done(roles.of(admin), "artifacts", "collect", *place[:2], "--older-than", "0")
    done(roles.of(admin), "artifacts", "verify", "--all", *place[:2])


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT body FROM artifact_originals",
        "SELECT body FROM artifact_blobs",
        "SELECT cursor_secret FROM archive",
        "SELECT run_track_activity_ref FROM task_item",
        "SELECT run_track_activity_jsonl FROM task_item",
        "SELECT prompt FROM task_item",
        "SELECT * FROM task_item",
        "UPDATE task_item SET prompt = ''",
        "UPDATE task_item SET run_generation = 0",
        "UPDATE artifact_originals SET generation = 0",
        "DELETE FROM artifact_originals",
        "DELETE FROM task_item",
        "UPDATE archive SET database_id = ''",
        "TRUNCATE sessions",
    ],
)
def test_the_operator_is_refused(world: World, statement: str) -> None:
    assert refused(world.as_role("operator"), statement)


def test_the_functions_of_the_operator_show_nobody_a_log(world: World) -> None:
    """Reader and public may not call them; the operator has a number from them, and no text."""
    length = f"SELECT standing_log_bytes('{world.split}')"
    keep = f"SELECT keep_standing_log('{world.split}', 7)"
    for statement in (length, keep):
        assert refused(world.as_role("reader"), statement)
    with connect(settings_for(world.as_role("operator"))) as conn, conn.transaction() as held:
        row = conn.execute(length.encode()).fetchone()
        assert row == (len(LOG_DATA),)
        assert conn.execute(keep.encode()).fetchone() == ("",)
        raise psycopg.Rollback(held)


def test_the_functions_of_the_operator_run_nobodys_code(roles: Roles) -> None:
    """With the rights of their owner, a policy on a table of that name would be worth a lot."""
    operator = roles.make("o")
    done(roles.url, "db", "grants", "--operator", operator, "--apply")
    with psycopg.connect(roles.url, autocommit=True) as conn:
        conn.execute("ALTER TABLE exporter.task_item RENAME TO task_item_of_old")
        make = "CREATE SCHEMA trap AUTHORIZATION {role}"
        conn.execute(sql.SQL(make).format(role=sql.Identifier(operator)))
    with connect(settings_for(roles.of(operator))) as conn:
        conn.execute("""
            CREATE TABLE trap.plans
                (id uuid, run_zip_snapshot bytea, run_track_activity_jsonl text);
            INSERT INTO trap.plans (id) VALUES (gen_random_uuid());
            CREATE FUNCTION trap.springs() RETURNS boolean LANGUAGE plpgsql AS
                'BEGIN RAISE EXCEPTION ''sprung''; END';
            CREATE POLICY trap ON trap.plans USING (trap.springs());
            ALTER TABLE trap.plans ENABLE ROW LEVEL SECURITY;
            ALTER TABLE trap.plans FORCE ROW LEVEL SECURITY;
        """)
        for call in (
            "standing_log_bytes(gen_random_uuid())",
            "keep_standing_log(gen_random_uuid(), 1)",
        ):
            try:
                conn.execute(f"SELECT {call}".encode())
            except psycopg.Error as error:
                assert "sprung" not in str(error)
            conn.execute("ALTER TABLE trap.plans ALTER run_track_activity_jsonl TYPE varchar")
        conn.execute("DROP TABLE trap.plans")
        conn.execute(
            "CREATE VIEW trap.plans AS SELECT gen_random_uuid() AS id,"
            " ''::bytea AS run_zip_snapshot, trap.springs()::text AS run_track_activity_jsonl"
        )
        with pytest.raises(psycopg.errors.UndefinedTable, match="not one plan table"):
            conn.execute("SELECT standing_log_bytes(gen_random_uuid())")


def test_an_upgrade_names_functions_that_the_operator_may_not_call_yet(roles: Roles) -> None:
    operator, reader = roles.make("o"), roles.make("r")
    options = ("--operator", operator, "--reader", reader)
    done(roles.url, "db", "downgrade", "0008", "--yes")
    with psycopg.connect(roles.url) as conn:
        name = sql.Identifier(operator)
        conn.execute(sql.SQL("GRANT USAGE ON SCHEMA exporter TO {}").format(name))
        conn.execute(sql.SQL("GRANT INSERT ON exporter.job_items TO {}").format(name))
    upgraded = exporter(roles.url, "db", "upgrade")
    assert {"keep_standing_log(),", "standing_log_bytes(),"} <= set(upgraded.stderr.split())
    done(roles.url, "db", "grants", *options, "--apply")
    assert "keep_standing_log" not in exporter(roles.url, "db", "upgrade").stderr


# --- The admin ------------------------------------------------------------------------------


def test_the_admin_reads_the_raw_log_on_the_record(world: World, tmp_path: Path) -> None:
    target = tmp_path / "log.jsonl"
    args = ("artifacts", "log", str(world.split), "--purpose", "incident 7", "-o", str(target))
    done(world.as_role("admin"), *args)
    assert target.read_bytes() == LOG_DATA
    with connect(settings_for(world.url)) as conn:
        rows = conn.execute(
            "SELECT principal, plan_id, kind, bytes FROM artifact_reads"
            " WHERE purpose = 'incident 7'"
        )
        assert rows.fetchall() == [(world.names["admin"], world.split, "log", len(LOG_DATA))]


def test_the_admin_reads_a_kept_original_on_the_record(world: World, tmp_path: Path) -> None:
    admin = world.as_role("admin")
    listed = json.loads(done(admin, "artifacts", "originals", str(world.split), "--json"))
    assert [(one["kind"], one["bytes"]) for one in listed] == [("snapshot", len(snapshot()))]
    target = tmp_path / "before.zip"
    number = str(listed[0]["original"])
    done(admin, "artifacts", "original", number, "--purpose", "repair", "-o", str(target))
    assert target.read_bytes() == snapshot()
    with connect(settings_for(world.url)) as conn:
        rows = conn.execute("SELECT principal, kind FROM artifact_reads WHERE purpose = 'repair'")
        assert rows.fetchall() == [(world.names["admin"], "original snapshot")]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO artifact_reads (principal, plan_id, kind, bytes, purpose)"
        " VALUES ('somebody', gen_random_uuid(), 'log', 1, '')",
        "UPDATE artifact_reads SET purpose = ''",
        "DELETE FROM artifact_reads",
        "SELECT cursor_secret FROM archive",
        "ALTER TABLE task_item DROP COLUMN state",
    ],
)
def test_the_admin_cannot_bend_the_record(world: World, statement: str) -> None:
    assert refused(world.as_role("admin"), statement)


def test_the_admin_restores_resets_and_verifies(world: World) -> None:
    admin = world.as_role("admin")
    plan = world.plans.add(build(), "failed")
    done(admin, "artifacts", "reset", str(plan))
    done(admin, "artifacts", "verify", "--all")
    other = world.plans.add(snapshot())
    world.plans.run()
    done(admin, "jobs", "restore", str(other))
    assert world.plans.row(other)["run_zip_snapshot"] == snapshot()
    world.plans.set(other, "run_zip_snapshot", None)


def test_the_admin_stores_a_run_puts_a_snapshot_and_purges(world: World, tmp_path: Path) -> None:
    admin = world.as_role("admin")
    plan = world.plans.add(None, "processing")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "track_activity.jsonl").write_bytes(b"{}\n\xff")
    (folder / "a.txt").write_text("a")
    done(admin, "artifacts", "finalize", str(plan), str(folder))
    assert world.plans.row(plan)["run_track_activity_encoding"] == "utf8-lossy"
    world.plans.set(plan, "state", "completed")
    (tmp_path / "new.zip").write_bytes(build(*CLEAN))
    done(admin, "artifacts", "put", str(plan), str(tmp_path / "new.zip"))
    assert world.plans.row(plan)["run_zip_snapshot"] == build(*CLEAN)
    done(admin, "artifacts", "purge", "--keep", "10")


# --- The table of the guide ---------------------------------------------------------------

EVERYBODY, WRITERS = KINDS, KINDS[1:]
COMMANDS = [
    ("sessions --limit 1", KINDS[:1]),
    ("usage daily --json", EVERYBODY),
    ("usage statusline --json", EVERYBODY),
    ("activity report --json --date 2026-03-10", EVERYBODY),
    ("pricing show --json", EVERYBODY),
    ("identity show tidepool --json", EVERYBODY),
    ("db status", EVERYBODY),
    ("jobs status", EVERYBODY),
    ("artifacts overview SPLIT", EVERYBODY),
    ("artifacts overview LEGACY", WRITERS),
    ("artifacts show SPLIT", EVERYBODY),
    ("db rebuild", WRITERS),
    ("jobs quarantine", WRITERS),
    ("jobs retry ZIP_BOMB", WRITERS),
    ("backfill --dry-run", WRITERS),
    ("artifacts cutover", WRITERS),
    ("artifacts download SPLIT", WRITERS),
    ("artifacts download SPLIT --file 030-report.html", KINDS[2:]),
    ("artifacts download SPLIT --user ana", KINDS[2:]),
    ("artifacts log SPLIT", KINDS[2:]),
    ("artifacts originals SPLIT", KINDS[2:]),
    ("artifacts original 1", KINDS[2:]),
    ("artifacts verify", KINDS[2:]),
    ("artifacts purge --dry-run", KINDS[2:]),
    ("artifacts collect --dry-run", KINDS[2:]),
    ("db upgrade", ()),
    ("db grants --reader somebody --apply", ()),
]


@pytest.mark.parametrize(("command", "allowed"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_a_command_works_for_the_roles_of_the_guide_and_for_no_other(
    world: World, command: str, allowed: tuple[str, ...]
) -> None:
    plans = {"SPLIT": str(world.split), "LEGACY": str(world.legacy)}
    for kind in KINDS:
        words = [plans.get(word, word) for word in command.split()]
        words = [world.names["reader"] if word == "somebody" else word for word in words]
        result = exporter(world.as_role(kind), *words)
        lacks = "lacks a right" in result.stderr
        assert lacks is (kind not in allowed), (kind, result)
        assert result.exit == 1 if lacks else result.exit in (0, 1, 3)


# --- What is said ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "args", "right"),
    [
        (
            "reader",
            ("artifacts", "download", "ID"),
            "SELECT on exporter.task_item.run_zip_snapshot",
        ),
        ("reader", ("artifacts", "log", "ID"), "SELECT on exporter.task_item.run_track_activity"),
        ("operator", ("artifacts", "log", "ID"), "SELECT on exporter.task_item.run_track_activity"),
        ("operator", ("artifacts", "purge"), ""),
        ("operator", ("artifacts", "reset", "ID"), "permission denied for table task_item"),
        ("operator", ("sessions",), "permission denied for table archive"),
        ("reader", ("jobs", "retry", "X"), "permission denied for table job_items"),
        ("reader", ("artifacts", "show", "ID", "--field", "prompt"), "task_item.prompt"),
    ],
)
def test_a_missing_right_is_one_sentence_that_names_it_and_the_way_out(
    world: World, kind: str, args: tuple[str, ...], right: str
) -> None:
    words = [str(world.split) if word == "ID" else word for word in args]
    result = exporter(world.as_role(kind), *words)
    assert (result.exit, result.stdout) == (1, "")
    assert right in result.stderr
    assert "exporter db grants" in result.stderr
    assert result.stderr.count("\n") == 1


def test_show_leaves_out_what_the_role_may_not_read_and_says_so(world: World) -> None:
    result = exporter(world.as_role("reader"), "artifacts", "show", str(world.split), "--json")
    assert result.exit == 0, result.stderr
    assert json.loads(result.stdout)["run_artifact_layout_version"] == 2
    assert "prompt" not in json.loads(result.stdout)
    assert "has_run_zip_snapshot" in result.stderr


# --- The command ----------------------------------------------------------------------------


def test_printed_grants_change_nothing_and_psql_can_run_them(
    roles: Roles, postgres_run: Any, tmp_path: Path
) -> None:
    names = {kind: roles.make(f'we"ird {kind}') for kind in KINDS}
    options = [word for kind in KINDS for word in (f"--{kind}", names[kind])]
    script = done(roles.url, "db", "grants", *options)
    assert refused(roles.of(names["reader"]), "SELECT id FROM exporter.sessions")
    psql = _psql()
    if psql is None:
        script = script.replace("\\set ON_ERROR_STOP on\n", "")
        with psycopg.connect(roles.url, autocommit=True) as conn:
            conn.execute(script.encode())
    else:
        subprocess.run([psql, "-X", "-q", roles.url], input=script.encode(), check=True, timeout=60)
    assert not refused(roles.of(names["reader"]), "SELECT id FROM exporter.sessions")
    assert done(roles.url, "db", "grants", *options) == script or psql is None


def _psql() -> str | None:
    from exporter.db import account, programs

    found = programs.programs_for(account.server_account(Path("/nonexistent"))) / "psql"
    return str(found) if found.exists() else None


def _rights(url: str) -> list[Any]:
    query = """
        SELECT c.relname, a.attname, c.relacl::text, a.attacl::text FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'exporter'::regnamespace AND c.relkind IN ('r', 'p')
        ORDER BY 1, 2
    """
    with psycopg.connect(url) as conn:
        return conn.execute(query).fetchall()


def test_applying_twice_is_as_once_and_what_was_granted_by_hand_is_taken_back(
    roles: Roles,
) -> None:
    reader = roles.make("r")
    done(roles.url, "db", "grants", "--reader", reader, "--apply")
    before = _rights(roles.url)
    with psycopg.connect(roles.url, autocommit=True) as conn:
        for right in ("ALL ON exporter.artifact_originals", "ALL ON exporter.task_item"):
            conn.execute(f'GRANT {right} TO "{reader}"'.encode())
    done(roles.url, "db", "grants", "--reader", reader, "--apply")
    assert [row[3] for row in _rights(roles.url)] == [row[3] for row in before]
    assert refused(roles.of(reader), "SELECT body FROM artifact_originals")
    assert refused(roles.of(reader), "SELECT prompt FROM task_item")


def test_an_unknown_role_is_told_with_the_statement_that_makes_it(database_url: str) -> None:
    result = exporter(database_url, "db", "grants", "--operator", 'no"body', "--apply")
    assert result.exit == 2
    assert 'CREATE ROLE "no""body" LOGIN' in result.stderr
    assert exporter(database_url, "db", "grants").exit == 2


def test_a_right_by_another_road_is_found_and_nothing_is_changed(roles: Roles) -> None:
    reader = roles.make("r")
    with psycopg.connect(roles.url, autocommit=True) as conn:
        conn.execute("GRANT SELECT (run_zip_snapshot) ON exporter.task_item TO PUBLIC")
    result = exporter(roles.url, "db", "grants", "--reader", reader, "--apply")
    assert result.exit == 1
    assert "SELECT exporter.task_item.run_zip_snapshot" in result.stderr
    assert "PUBLIC" in result.stderr
    assert refused(roles.of(reader), "SELECT id FROM exporter.sessions")


@pytest.mark.parametrize("way", ["superuser", "owner", "member"])
def test_a_role_that_no_grant_binds_is_refused(roles: Roles, way: str) -> None:
    reader = roles.make("r", "LOGIN SUPERUSER" if way == "superuser" else "LOGIN")
    with psycopg.connect(roles.url, autocommit=True) as conn:
        if way == "owner":
            conn.execute(f'ALTER TABLE exporter.task_item OWNER TO "{reader}"'.encode())
        if way == "member":
            conn.execute(f'GRANT pg_read_all_data TO "{reader}"'.encode())
    result = exporter(roles.url, "db", "grants", "--reader", reader, "--apply")
    assert result.exit == 1
    assert {"superuser": "is a superuser", "owner": "owns exporter.task_item"}.get(
        way, "may also SELECT"
    ) in result.stderr
    if way == "owner":
        with psycopg.connect(roles.url, autocommit=True) as conn:
            conn.execute("ALTER TABLE exporter.task_item OWNER TO CURRENT_USER")


def test_only_the_owner_grants(roles: Roles) -> None:
    admin, reader = roles.make("a"), roles.make("r")
    done(roles.url, "db", "grants", "--admin", admin, "--apply")
    result = exporter(roles.of(admin), "db", "grants", "--reader", reader, "--apply")
    assert result.exit == 1
    assert "which its owner" in result.stderr


def test_one_role_for_two_purposes_has_the_rights_of_both(roles: Roles) -> None:
    both = roles.make("both")
    done(roles.url, "db", "grants", "--reader", both, "--operator", both, "--apply")
    assert not refused(roles.of(both), "SELECT cursor_secret FROM archive")
    assert not refused(roles.of(both), "DELETE FROM sessions")
    assert refused(roles.of(both), "SELECT body FROM artifact_originals")


def test_a_table_that_came_later_is_told_until_it_is_granted(roles: Roles) -> None:
    reader = roles.make("r")
    assert "no role was granted" not in exporter(roles.url, "db", "upgrade").stderr
    done(roles.url, "db", "grants", "--reader", reader, "--apply")
    assert "no role was granted" not in exporter(roles.url, "db", "upgrade").stderr
    with psycopg.connect(roles.url, autocommit=True) as conn:
        conn.execute("CREATE TABLE exporter.later (only_row integer)")
    assert "granted anything on later" in exporter(roles.url, "db", "upgrade").stderr
    facts = json.loads(done(roles.url, "db", "status", "--json"))
    assert facts["without_grants"] == "later"
    result = exporter(roles.url, "db", "grants", "--reader", reader, "--apply")
    assert "later has no rule" in result.stderr
    assert refused(roles.of(reader), "SELECT FROM later")
    assert "no role was granted" not in exporter(roles.url, "db", "upgrade").stderr


def test_the_plan_table_is_found_wherever_it_is_and_whatever_it_is_called(roles: Roles) -> None:
    reader = roles.make("r")
    with psycopg.connect(roles.url, autocommit=True) as conn:
        conn.execute('CREATE SCHEMA "My Plans"')
        conn.execute('ALTER TABLE exporter.task_item SET SCHEMA "My Plans"')
        conn.execute('ALTER TABLE "My Plans".task_item RENAME TO plans')
        conn.execute('ALTER TABLE "My Plans".plans DROP COLUMN timestamp_created')
    done(roles.url, "db", "grants", "--reader", reader, "--apply")
    assert refused(roles.of(reader), 'SELECT * FROM "My Plans".plans')
    assert not refused(roles.of(reader), 'SELECT id, state FROM "My Plans".plans')


def test_tables_with_remotes_to_scrub_are_the_operators_and_nobody_is_put_out_of_them(
    roles: Roles,
) -> None:
    operator, reader = roles.make("o"), roles.make("r")
    with psycopg.connect(roles.url, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA other")
        conn.execute("CREATE TABLE other.project_identity_observations (id int, git_remote text)")
        conn.execute(f'GRANT SELECT ON other.project_identity_observations TO "{reader}"'.encode())
        conn.execute(f'GRANT USAGE ON SCHEMA other TO "{reader}"'.encode())
    done(roles.url, "db", "grants", "--operator", operator, "--reader", reader, "--apply")
    for role in (operator, reader):
        assert not refused(roles.of(role), "SELECT FROM other.project_identity_observations")
    assert not refused(roles.of(operator), "DELETE FROM other.project_identity_observations")


def test_a_table_of_another_program_that_is_not_ours_to_grant_is_passed_over(
    roles: Roles,
) -> None:
    operator = roles.make("o")
    remote = Table("not", "there", "somebody", ("id",), "remotes", is_ours_to_grant=False)
    with connect(settings_for(roles.url)) as conn:
        found = grants.read_facts(conn, "exporter", None, {Purpose.OPERATOR: operator})
        found = replace(found, tables=(*found.tables, remote))
        assert found.left_out == [remote]
        grants.apply(conn, found)
        ours = replace(found.tables[0], is_ours_to_grant=False)
        with pytest.raises(MissingRights, match="which its owner"):
            grants.apply(conn, replace(found, tables=(ours,)))


def test_json_holds_the_script(roles: Roles) -> None:
    reader = roles.make("r")
    found = json.loads(done(roles.url, "db", "grants", "--reader", reader, "--json"))
    assert found["applied"] is False
    assert found["roles"] == {"reader": reader, "operator": None, "admin": None}
    assert found["script"][1] == "BEGIN;"


# --- The statements, without a server -------------------------------------------------------


def facts(version: int = 180000, **over: Any) -> Facts:
    table = Table("exporter", "sessions", "owner", ("id", "project"))
    role = Role("o", frozenset({Purpose.OPERATOR}))
    return Facts(
        "db", "exporter", version, over.get("roles", (role,)), over.get("tables", (table,))
    )


def text(found: Facts) -> str:
    return grants.script(found)


@pytest.mark.parametrize(("version", "given"), [(140000, False), (160009, False), (170000, True)])
def test_analyze_is_granted_where_the_server_can(version: int, given: bool) -> None:
    assert ("MAINTAIN" in text(facts(version))) is given


def test_only_columns_that_exist_are_named_and_each_is_quoted() -> None:
    table = Table("pub lic", 'Pl"ans', "owner", ("id", "state", "other"), "plans")
    script = text(facts(tables=(table,), roles=(Role("r", frozenset({Purpose.READER})),)))
    assert 'GRANT SELECT ("id", "state") ON TABLE "pub lic"."Pl""ans" TO "r";' in script
    assert 'GRANT USAGE ON SCHEMA "pub lic" TO "r";' in script


def test_a_schema_that_is_open_to_the_role_is_not_granted_again() -> None:
    """Its owner may be another role, who alone could."""
    table = Table("public", "plans", "owner", ("id",), "plans")
    role = Role("r", frozenset({Purpose.READER}), schemas=frozenset({"public"}))
    assert 'SCHEMA "public"' not in text(facts(tables=(table,), roles=(role,)))


def test_a_database_that_was_closed_to_public_is_opened_for_the_roles() -> None:
    reader = Role("r", frozenset({Purpose.READER}), lacks=("CONNECT", "TEMPORARY"))
    operator = Role("o", frozenset({Purpose.OPERATOR}), lacks=("CONNECT", "TEMPORARY"))
    script = text(facts(roles=(reader, operator)))
    assert 'GRANT CONNECT ON DATABASE "db" TO "r";' in script
    assert 'GRANT TEMPORARY ON DATABASE "db" TO "r";' not in script
    assert 'GRANT TEMPORARY ON DATABASE "db" TO "o";' in script


def test_a_table_without_a_rule_is_the_admins_alone() -> None:
    table = Table("exporter", "new_secrets", "owner", ("id",))
    roles = tuple(Role(purpose.value, frozenset({purpose})) for purpose in Purpose)
    lines = text(facts(tables=(table,), roles=roles)).splitlines()
    given = [line for line in lines if line.startswith("GRANT") and "new_secrets" in line]
    assert given == [
        'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE "exporter"."new_secrets" TO "admin";'
    ]


def test_an_admin_that_owns_the_tables_keeps_what_an_owner_has() -> None:
    script = text(facts(roles=(Role("owner", frozenset({Purpose.ADMIN})),)))
    assert "ON TABLE" not in script


def test_every_table_of_ours_has_a_rule(database_url: str) -> None:
    with connect(settings_for(database_url)) as conn:
        found = conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'exporter'::regnamespace"
            " AND relkind IN ('r', 'p') AND relname <> 'task_item'"
        ).fetchall()
    assert {name for (name,) in found} == set(grants.RULES)


def test_an_unknown_plan_is_no_right(world: World) -> None:
    result = exporter(world.as_role("admin"), "artifacts", "show", str(UUID(int=999)))
    assert (result.exit, result.stdout) == (1, "")
    assert "there is no plan" in result.stderr
