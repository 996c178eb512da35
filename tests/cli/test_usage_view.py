"""The daily usage report for people: on terminals of any width, and as a picture."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest

from exporter.cli import usage, usage_view
from exporter.cli.usage_view import drawn_bar, money, plain_table, terminal_table
from exporter.cli.zones import find_zone, system_zone
from exporter.core.times import validate_date, validate_instant
from exporter.core.window import Window, WindowError, resolve
from exporter.exports.usage_daily import TOKEN_FIELDS, Report, Request

TOKENS = dict(zip(TOKEN_FIELDS, (1_234_567, 890_123, 45_678, 9_876_543), strict=True))


def day(date: str, *costs: tuple[str, str]) -> dict[str, Any]:
    models: list[dict[str, Any]] = [
        {"modelName": name, **TOKENS, "cost": Decimal(cost)} for name, cost in costs
    ]
    return {
        "date": date,
        **TOKENS,
        "totalCost": sum((entry["cost"] for entry in models), Decimal(0)),
        "modelsUsed": [entry["modelName"] for entry in models],
        "modelBreakdowns": models,
        "projectBreakdowns": [],
        "agentBreakdowns": [],
    }


def report(*days: dict[str, Any]) -> Report:
    total = sum((found["totalCost"] for found in days), Decimal(0))
    counts = {"total": 3, "byProject": {}, "byAgent": {}}
    return Report({}, list(days), {**TOKENS, "totalCost": total}, counts)


TWO_DAYS = report(
    day("2026-03-04", ("orca-large-2-20260201", "12.5"), ("tern\x1b[31m", "0.001")),
    day("2026-03-05", ("grebe-local", "0"), ("refunded", "-3")),
)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("breakdown", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, breakdown: bool) -> None:
    page = terminal_table(TWO_DAYS, breakdown=breakdown, width=width, colours=False)
    assert max(map(len, page.splitlines())) <= width
    assert "\x1b" not in page
    assert ("refunded" in page) == (breakdown or width >= 100)
    assert "2026-03-04" in page and "TOTAL" in page


def test_colours_change_nothing_but_colours() -> None:
    plain = terminal_table(TWO_DAYS, breakdown=True, width=120, colours=False)
    coloured = terminal_table(TWO_DAYS, breakdown=True, width=120, colours=True)
    assert coloured != plain
    assert re.sub("\x1b\\[[0-9]*m", "", coloured) == plain


def test_nothing_at_all_has_a_total() -> None:
    for width in (30, 120):
        page = terminal_table(report(), breakdown=True, width=width, colours=False)
        assert page.splitlines()[-1].split()[:2] == ["TOTAL", "$0.00"]


def test_names_cannot_steer_a_terminal() -> None:
    assert "\x1b" not in plain_table(TWO_DAYS, breakdown=True)


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [
        ("0", "$0.00"),
        ("0.0049", "<$0.01"),
        ("0.005", "$0.01"),
        ("0.125", "$0.12"),
        ("0.375", "$0.38"),
        ("-0.42", "$-0.42"),
        ("1234.5", "$1234.50"),
    ],
)
def test_money_has_two_decimals(dollars: str, shown: str) -> None:
    assert money(Decimal(dollars)) == shown


def test_a_bar_is_as_long_as_its_share() -> None:
    assert drawn_bar(10, 10, 8) == "████████"
    assert drawn_bar(5, 10, 8) == "████"
    assert drawn_bar(0.001, 10, 8) == "▏"
    assert drawn_bar(0, 10, 8) == drawn_bar(-1, 10, 8) == drawn_bar(1, 0, 8) == ""


def test_the_picture_names_what_it_shows() -> None:
    pytest.importorskip("matplotlib")
    from exporter.cli import usage_chart

    pictures = []
    for _ in range(2):
        out = io.BytesIO()
        usage_chart.draw(TWO_DAYS, "Europe/Lisbon", out, "svg")
        pictures.append(out.getvalue())
    text = " ".join(ElementTree.fromstring(pictures[0]).itertext())
    assert "Cost per day" in text and "orca-large-2-20260201" in text and "Europe/Lisbon" in text
    assert pictures[0] == pictures[1]
    for odd in (report(), report(day("", ("$a_b$", "1"))), report(day("2026-03-04", ("a", "0")))):
        png = io.BytesIO()
        usage_chart.draw(odd, "UTC", png, "png")
        assert png.getvalue().startswith(b"\x89PNG")


def test_the_zone_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for named, zone in {
        "Asia/Tokyo": "Asia/Tokyo",
        ":Asia/Tokyo": "Asia/Tokyo",
        "/usr/share/zoneinfo/Asia/Tokyo": "Asia/Tokyo",
        "": "UTC",
        "nowhere": "UTC",
    }.items():
        monkeypatch.setenv("TZ", named)
        assert system_zone().key == zone
    monkeypatch.delenv("TZ")
    link = tmp_path / "localtime"
    link.symlink_to("/usr/share/zoneinfo/Europe/Lisbon")
    assert system_zone(link).key in ("Europe/Lisbon", "Portugal")
    assert system_zone(tmp_path / "missing").key == "UTC"


@pytest.mark.parametrize(
    "name", ["", "Mars/Base", "europe/berlin", "../UTC", "/etc/passwd", "Asia"]
)
def test_only_exact_names_are_zones(name: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        find_zone(name)


def test_the_titles_are_those_of_the_contract() -> None:
    assert usage_view.TITLES[0] == "DATE" and usage_view.TITLES[-1] == "MODELS"


class Terminal(io.StringIO):
    """Where a person reads along."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("window", "told"),
    [
        (Window("2026-03-01", "2026-03-31"), "2026-03-01 to 2026-03-31"),
        (Window("2026-03-01", None), "since 2026-03-01"),
        (Window(None, "2026-03-31"), "until 2026-03-31"),
        (Window(None, None), "all dates"),
    ],
)
def test_a_person_hears_which_dates_are_meant(
    monkeypatch: pytest.MonkeyPatch, window: Window, told: str
) -> None:
    for stream, expected in (
        (Terminal(), f"window: {told} (Europe/Lisbon)\n"),
        (io.StringIO(), ""),
    ):
        monkeypatch.setattr("sys.stderr", stream)
        usage._note_request(Request(window, "Europe/Lisbon"))
        assert stream.getvalue() == expected


def test_a_person_hears_of_blanks_in_names(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    usage._note_request(Request(Window(None, None), "UTC", agents=("claude", " codex")))
    assert terminal.getvalue().splitlines()[1].endswith('part of it: " codex"')


def test_models_keep_their_column_on_days_without_a_bar() -> None:
    page = terminal_table(TWO_DAYS, breakdown=False, width=120, colours=False).splitlines()
    assert page[0].index("MODELS") == page[1].index("orca") == page[2].index("grebe")
    assert all(line == line.rstrip() for line in page)


def test_the_picture_says_what_has_no_date() -> None:
    pytest.importorskip("matplotlib")
    from exporter.cli import usage_chart

    out = io.BytesIO()
    found = report(day("", ("orca", "1.25")), day("2026-03-04", ("orca", "2")))
    usage_chart.draw(found, "UTC", out, "svg")
    text = " ".join(ElementTree.fromstring(out.getvalue()).itertext())
    assert "$1.25 of it without a date" in text and "$3.25" in text


@pytest.mark.parametrize(("since", "flag"), [("", "--until"), ("1d", "--since")])
def test_a_bound_beyond_the_calendar_is_named(since: str, flag: str) -> None:
    zone, now = find_zone("Asia/Tokyo"), datetime(2026, 5, 20, tzinfo=UTC)
    with pytest.raises(WindowError, match=f"invalid {flag}: '.+' reaches beyond the calendar"):
        resolve(since, "0001-01-01", everything=False, zone=zone, now=now)


@pytest.mark.parametrize("flag", ["--since", "--until"])
@pytest.mark.parametrize("text", ["900000d", "106752d", "2562048h", "99999999d", "9" * 5000 + "h"])
def test_what_counts_back_too_far_is_told_the_most(flag: str, text: str) -> None:
    bounds = (text, "") if flag == "--since" else ("", text)
    with pytest.raises(WindowError) as refused:
        resolve(*bounds, everything=False, zone=find_zone("UTC"), now=datetime.now(UTC))
    told = f"invalid {flag}: '{text}' is further back than the most, 106751d or 2562047h"
    assert str(refused.value) == told


def test_the_most_that_counts_back_is_accepted() -> None:
    now = datetime(2026, 5, 20, tzinfo=UTC)
    for text in ("106751d", "2562047h", "+000106751d"):
        found = resolve(text, "", everything=False, zone=find_zone("UTC"), now=now)
        assert (found.first or "")[:5] == "1734-", text


@pytest.mark.parametrize("text", ["0000-01-01", "10000-01-01", "99999-12-31"])
def test_a_date_of_no_year_that_there_is_is_told_the_years(text: str) -> None:
    for flag, bounds in (("--since", (text, "")), ("--until", ("", text))):
        with pytest.raises(WindowError, match=f"invalid {flag}: .* in the years 0001 to 9999"):
            resolve(*bounds, everything=False, zone=find_zone("UTC"), now=datetime.now(UTC))
    with pytest.raises(ValueError, match="in the years 0001 to 9999"):
        validate_date(text)
    if text != "0000-01-01":
        with pytest.raises(ValueError, match="in the years 0000 to 9999"):
            validate_instant(text)
