"""Errors: one sentence each, and no secret in any."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import errors
from exporter.errors import ExitCode, ExporterError, place_of

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, ExporterError)
]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in CLASSES]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_is_documented(error: type[ExporterError]) -> None:
    page = Path(__file__).parents[1] / "docs" / "errors.md"
    assert f"`{error.code}`" in page.read_text(encoding="utf-8")


def test_exit_codes_are_the_published_ones() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "FINDINGS": 3,
        "CURSOR_RESET": 4,
        "LEASE_HELD": 5,
        "SIGINT": 130,
        "SIGTERM": 143,
    }


def test_an_error_reads_as_what_happened_then_what_to_do() -> None:
    error = errors.NotAtHead(None, "0002")
    assert str(error) == "the database has no exporter tables yet; run 'exporter db upgrade'"
    assert (error.found, error.head, error.retryable) == (None, "0002", False)


def test_a_cursor_reset_is_the_contracts_object_in_its_key_order() -> None:
    assert list(errors.CursorReset("id").as_json().items()) == [
        ("error", "cursor_reset"),
        ("message", "session export cursor is no longer valid; restart the export"),
        ("database_id", "id"),
    ]
    assert errors.CursorReset("id").exit_code == 4


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interruption_exits_as_its_signal(name: str, code: int) -> None:
    assert errors.Interrupted(name).exit_code == code


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@db.example:5433/archive", "postgresql://me@db.example:5433/archive"),
        ("postgresql://db.example/archive", "postgresql://db.example/archive"),
        ("postgresql://me@/a?host=%2Frun&password=pw", "postgresql://me@/a?host=%2Frun"),
        ("postgresql://h/a?sslmode=require&sslkey=pw", "postgresql://h/a?sslmode=require"),
        ("postgresql://me:p@w@h/a", "postgresql://me@h/a"),
        ("postgresql://me:p/w@h/a", "postgresql://me@h/a"),
        ("postgresql://me:p?w@h/a", "the given database"),
        ("postgresql://me:p#w@h/a", "postgresql://me@h/a"),
        ("postgresql://h/a?password=p@w", "the given database"),
        ("postgresql://[::1]:5432/a", "postgresql://[::1]:5432/a"),
        ("host=h user=me password=pw dbname=a", "host=h user=me dbname=a"),
        ("host=h password='p w' dbname=a", "host=h dbname=a"),
        ("host=h password='p w", "the given database"),
        ("nonsense", "the given database"),
    ],
)
def test_a_database_is_named_without_its_secrets(url: str, shown: str) -> None:
    assert place_of(url) == shown


@given(before=st.text(max_size=6), after=st.text(max_size=6))
def test_no_password_in_a_url_ever_shows(before: str, after: str) -> None:
    password = f"{before}hunter2{after}"
    assert "hunter2" not in place_of(f"postgresql://me:{password}@db.example/archive")
