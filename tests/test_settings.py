"""Settings: which database, which schema, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.errors import BadInput
from exporter.settings import VARIABLES, Settings, given_path, load, scheme_of

URL = "postgresql://me@db.example/archive"


@pytest.mark.parametrize(
    ("option", "environ", "chosen"),
    [
        ("postgresql://o/a", {"EXPORTER_DATABASE_URL": URL}, "postgresql://o/a"),
        (None, {"EXPORTER_DATABASE_URL": URL, "DATABASE_URL": "postgresql://d/a"}, URL),
        (None, {"EXPORTER_DATABASE_URL": "", "DATABASE_URL": URL}, URL),
        (None, {"DATABASE_URL": URL}, URL),
        (None, {}, None),
    ],
    ids=["option first", "our variable", "empty is unset", "common variable", "embedded"],
)
def test_the_first_database_that_is_set_is_used(
    option: str | None, environ: dict[str, str], chosen: str | None
) -> None:
    assert load(option, environ).database_url == chosen


@pytest.mark.parametrize(
    "spelling",
    [
        "postgres://h/a",
        "postgresql+psycopg2://h/a",
        "postgresql+asyncpg://h/a",
        " postgresql://h/a",
    ],
)
def test_other_programs_spellings_of_a_url_are_accepted(spelling: str) -> None:
    assert load(spelling, {}).database_url == "postgresql://h/a"


def test_libpqs_key_value_text_is_accepted() -> None:
    assert load("host=h dbname=a", {}).database_url == "host=h dbname=a"


@pytest.mark.parametrize("url", ["sqlite:///x.db", "mysql://me:hunter2@h/a", "archive.db", "h/a"])
def test_what_is_no_postgresql_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(url, {})
    assert caught.value.name == "--database-url"
    assert "hunter2" not in str(caught.value)
    assert "postgresql://" in str(caught.value)


@pytest.mark.parametrize("name", ["exporter", "exporter_2", "_x", "a" * 63])
def test_a_plain_lower_case_schema_is_accepted(name: str) -> None:
    assert load(None, {"EXPORTER_SCHEMA": name}).schema == name


@pytest.mark.parametrize(
    "name",
    [
        "public",
        "pg_temp",
        "information_schema",
        "Exporter",
        "a b",
        'a"b',
        "a" * 64,
        "1",
        "é",
        "a\n",
    ],
)
def test_any_other_schema_is_refused(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(None, {"EXPORTER_SCHEMA": name})
    assert caught.value.name == "EXPORTER_SCHEMA"


@pytest.mark.parametrize(
    "value",
    ["-1", "1.5", "ten", "٣", "99999999999", "1e3", "nan", "inf", "2147483648", "1_0", "9" * 5_000],
    ids=lambda value: value[:12],
)
def test_a_number_that_cannot_be_meant_is_refused(value: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(None, {"EXPORTER_LOCK_TIMEOUT_MS": value})
    assert caught.value.accepted == "10000"


def test_home_is_made_absolute_and_knows_the_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    assert load(None, {"EXPORTER_HOME": "~/x"}).home == Path("/somebody/x")
    assert load(None, {"EXPORTER_HOME": "x"}).home == Path.cwd() / "x"


def test_the_largest_number_and_leading_zeros_are_accepted() -> None:
    limits = {"EXPORTER_LOCK_TIMEOUT_MS": "2147483647", "EXPORTER_CONNECT_TIMEOUT": "0" * 50 + "7"}
    found = load(None, limits)
    assert (found.lock_timeout_ms, found.connect_timeout_seconds) == (2_147_483_647, 7)


@pytest.mark.parametrize("url", ["", " ", "\t\n"])
def test_an_empty_option_is_refused_and_does_not_fall_back(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(url, {"EXPORTER_DATABASE_URL": URL})
    assert caught.value.name == "--database-url"


def test_what_stands_before_the_scheme_is_shown_only_where_it_is_a_scheme() -> None:
    assert scheme_of("mysql://h") == "mysql://"
    assert scheme_of("me:hunter2@h/a?x=://") == "this"


@pytest.mark.parametrize("home", ["~nosuchuser/x", "a\nb", "a\0b", "/x/\udcff"])
def test_a_home_that_can_be_no_path_is_refused(home: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(None, {"EXPORTER_HOME": home})
    assert caught.value.name == "EXPORTER_HOME"


@pytest.mark.parametrize("path", ["", "~nosuchuser", "a\0b"])
def test_a_path_that_cannot_be_meant_names_its_option(path: str) -> None:
    with pytest.raises(BadInput) as caught:
        given_path("--rows", path)
    assert caught.value.name == "--rows"


def test_without_a_home_the_platforms_own_folder_is_used() -> None:
    home = Settings().home
    assert home.is_absolute()
    assert "exporter" in home.name


def test_every_variable_that_the_program_names_is_in_the_list() -> None:
    package = Path(__file__).parents[1] / "exporter"
    named = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"\bEXPORTER_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert named - set(VARIABLES) == set()


def test_every_variable_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
    missing = [name for name in VARIABLES if f"`{name}`" not in page]
    assert missing == []
