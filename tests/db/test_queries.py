"""Annotated .sql files."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from exporter.db import queries

TEXT = """-- What this file is for.

-- Rows that count.
-- name: eligible
deleted_at IS NULL -- kept
  AND NOT hidden

-- One page.
-- name: page
SELECT 1 WHERE {eligible};

-- The end.
"""


def write(folder: Path, text: str) -> Path:
    (folder / "rows.sql").write_text(text, encoding="utf-8")
    return folder / "rows.py"


def test_statements_are_found_by_name_without_their_comments(tmp_path: Path) -> None:
    found = queries.load(write(tmp_path, TEXT))
    assert list(found) == ["eligible", "page"]
    assert found["eligible"].as_string() == "deleted_at IS NULL -- kept\n  AND NOT hidden"


def test_a_template_is_filled_with_a_fragment(tmp_path: Path) -> None:
    found = queries.load(write(tmp_path, TEXT))
    filled = found["page"].format(eligible=sql.SQL("true"))
    assert filled.as_string() == "SELECT 1 WHERE true"


@pytest.mark.parametrize(
    "text", ["-- name: a\n-- nothing\n", "-- name: a\nSELECT 1\n-- name: a\nSELECT 2\n"]
)
def test_an_empty_or_repeated_statement_is_a_defect(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="defined twice or empty"):
        queries.load(write(tmp_path, text))
