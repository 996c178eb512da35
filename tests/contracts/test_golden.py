"""Golden documents come out of their seeds again, byte for byte, on a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from exporter.cli.reproduce import reproducer
from exporter.errors import ExporterError
from tests.contracts import golden


@pytest.fixture(scope="module")
def server_url(make_database: Callable[..., str]) -> str:
    """A database in which nothing of ours is."""
    return make_database(migrated=False)


def schemas_in(url: str) -> set[str]:
    query = "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'"
    with psycopg.connect(url) as conn:
        return {row[0] for row in conn.execute(query)}


def test_the_session_export_makes_its_golden_documents(server_url: str) -> None:
    before = schemas_in(server_url)
    with reproducer(server_url) as reproduce:
        made = reproduce(golden.SESSIONS)
    assert made == {"expected.json": golden.TEXT, "expected.ndjson": golden.LINES}
    assert schemas_in(server_url) == before


def test_a_failed_command_leaves_nothing_behind(server_url: str, tmp_path: Path) -> None:
    for file in golden.SESSIONS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "prices.toml").write_text("no toml")
    before = schemas_in(server_url)
    with reproducer(server_url) as reproduce, pytest.raises(ExporterError, match="golden data"):
        reproduce(tmp_path)
    assert schemas_in(server_url) == before


def test_both_framings_say_the_same() -> None:
    head, *rows = golden.lines()
    assert {**golden.document(), "type": "meta"} == {**head, "sessions": rows}
    assert [json.loads(row) for row in golden.LINES.splitlines()[1:]] == rows


def test_the_golden_archive_holds_nothing_private() -> None:
    """Nothing in it is longer, or looks more random, than a name that somebody made up."""
    text = (golden.SESSIONS / "input.sql").read_text()
    assert "content TEXT NOT NULL DEFAULT ''" in text
    inserted = text[text.index("INSERT INTO messages") :]
    assert ", content" not in inserted
