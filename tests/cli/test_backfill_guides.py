"""The guides on adopting and backfilling: every snippet runs as it stands, in the order given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from exporter.db import connect, migrate
from tests.archives import sample_plans
from tests.migrations.test_adopt_plans import BEFORE_THE_SPLIT, Owner
from tests.postgres import settings_for

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
SNIPPETS = {
    page: re.findall(
        r"<!-- snippet: (\w+) -->\n```(\w+)\n(.*?)```\n", (GUIDES / page).read_text(), re.DOTALL
    )
    for page in ("adopting-planexe.md", "backfill.md")
}
BIN = Path(sys.executable).parent


def run(code: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    variables = {
        **os.environ,
        "EXPORTER_DATABASE_URL": url,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "-c", code], cwd=folder, env=variables, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def make_owners_table(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        names = {"schema": sql.Identifier("public"), "name": sql.Identifier("task_item")}
        conn.execute(sql.SQL(BEFORE_THE_SPLIT).format(**names))


def put_samples(url: str) -> None:
    with connect.session(settings_for(url)) as conn:
        sample_plans.store(conn)


def test_every_shell_snippet_runs_in_its_order(empty_database_url: str, tmp_path: Path) -> None:
    make_owners_table(empty_database_url)
    seen = []
    for page in SNIPPETS:
        if seen:
            # The second guide begins where the first one ended, with rows to do.
            put_samples(empty_database_url)
        for name, language, code in SNIPPETS[page]:
            if language != "sh":
                continue
            done = run(code, empty_database_url, tmp_path)
            # 3: something was found. The cutover refuses while samples are in quarantine.
            allowed = {1} if name == "cutover" else {0, 3}
            assert done.returncode in allowed, (name, done.stderr)
            fatal = [line for line in done.stderr.splitlines() if line.startswith("fatal:")]
            assert ["no cutover" in line for line in fatal] == [True] * (name == "cutover"), name
            seen.append(name)
    assert {"look", "upgrade", "nightly", "before", "run", "begin", "cutover"} <= set(seen)


def test_every_command_of_the_guides_is_in_a_snippet_or_has_a_placeholder() -> None:
    for page, snippets in SNIPPETS.items():
        text = (GUIDES / page).read_text()
        fences = re.findall(r"```(\w*)\n", text)
        assert fences.count("sh") + fences.count("sql") == len(snippets), page
        assert "text" not in fences


@pytest.fixture
def owned(empty_database_url: str) -> Any:
    """A database whose plan table belongs to a role that is not ours, as PlanExe's does."""
    make_owners_table(empty_database_url)
    database = conninfo_to_dict(empty_database_url)["dbname"]
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE planexe LOGIN")
        admin.execute("ALTER TABLE public.task_item OWNER TO planexe")
        # It made its table there, so it may.
        admin.execute("GRANT USAGE, CREATE ON SCHEMA public TO planexe")
        yield empty_database_url, admin, database
        for role in ("toolkit", "planexe"):
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone():
                admin.execute(f"DROP OWNED BY {role} CASCADE".encode())
                admin.execute(f"DROP ROLE {role}".encode())


def test_the_rights_of_the_guide_are_enough_and_needed(owned: Any, tmp_path: Path) -> None:
    url, admin, database = owned
    ((_, _, code),) = [found for found in SNIPPETS["adopting-planexe.md"] if found[0] == "rights"]
    create, *grants = [line for line in code.splitlines() if line]
    admin.execute(create.encode())
    as_toolkit = make_conninfo(url, user="toolkit")
    try:
        refused = run("exporter db upgrade", as_toolkit, tmp_path)
        assert refused.returncode == 1
        assert "permission denied" in refused.stderr or "lacks a right" in refused.stderr
        for grant in grants:
            named = grant.replace("DATABASE planexe", f'DATABASE "{database}"')
            admin.execute(named.encode())
        upgraded = run("exporter db upgrade && exporter backfill", as_toolkit, tmp_path)
        assert upgraded.returncode == 0, upgraded.stderr
        # The owner works on without a right on anything of ours.
        Owner(settings_for(make_conninfo(url, user="planexe")), "task_item").work()
    finally:
        migrate.downgrade(settings_for(url), "base")
