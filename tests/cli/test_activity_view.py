"""The activity report for people: text, the heat strip, and the picture."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli import activity, activity_chart
from exporter.cli.activity_view import heat_strip, money, print_report, shown
from exporter.cli.zones import system_zone
from exporter.errors import ExporterError

ROOT = Path(__file__).parents[2]
LISBON = ZoneInfo("Europe/Lisbon")


@pytest.fixture
def document() -> dict[str, Any]:
    text = (ROOT / "golden/activity_report/v1/expected.json").read_bytes()
    return dict(json.loads(text))


def page(document: dict[str, Any], width: int | None = None) -> str:
    out = io.StringIO()
    print_report(document, document["by_session"][:5], LISBON, out, width)
    return out.getvalue()


def test_the_page_says_what_the_document_says(document: dict[str, Any]) -> None:
    assert page(document) == (
        "Activity 2026-02-14 08:00 to 2026-02-14 09:00 (Europe/Lisbon, minute buckets)\n"
        "\n"
        "Active minutes     17.5\n"
        "Idle minutes       42.5\n"
        "Agent minutes      26.0\n"
        "Sessions           4 (2 untimed)\n"
        "Distinct projects  2\n"
        "Distinct models    3\n"
        "Output tokens      2280\n"
        "Cost               $0.09\n"
        "\n"
        "Peak concurrency: 2 agents at 2026-02-14 08:02\n"
        "\n"
        "By project (top 5):\n"
        "  tidepool  13.5 min\n"
        "  orchard   12.5 min\n"
        "\n"
        "By model (top 5):\n"
        "  ember-mini  18.5 min\n"
        "  aurora-2    7.5 min\n"
        "  quartz-pro  0.0 min\n"
        "\n"
        "By agent (top 5):\n"
        "  codex   13.5 min\n"
        "  claude  12.5 min\n"
        "\n"
        "Top sessions (top 5):\n"
        "  TITLE     PROJECT   AGENT   MINUTES  COST\n"
        "  tidepool  tidepool  codex   13.5     <$0.01\n"
        "  orchard   orchard   claude  12.5     $0.02\n"
        "  orchard   orchard   claude  —        $0.06\n"
        "  tidepool  tidepool  codex   —        $0.00\n"
    )


def test_a_partial_range_and_an_empty_one_say_so(document: dict[str, Any]) -> None:
    document.update(partial=True, as_of="2026-02-14T08:10:00Z", peak={"agents": 0, "at": None})
    document.update(by_project=[], by_session=[])
    text = page(document)
    assert "\nPartial range, data as of 2026-02-14 08:10\n" in text
    assert "Peak concurrency: 0 agents at —\n" in text
    assert "By project (top 5):\n  (none)\n" in text
    assert text.endswith("Top sessions (top 5):\n  (none)\n")


def test_local_midnight_is_shown_as_a_date(document: dict[str, Any]) -> None:
    document.update(range_start="2026-07-01T23:00:00Z", range_end="2026-07-02T23:00:00Z")
    assert page(document).startswith("Activity 2026-07-02 to 2026-07-03 (")


def test_names_cannot_steer_a_terminal() -> None:
    assert shown("a\x1b[31mb\nc\u202ed\ud800") == "a[31mbcd"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "$0.00"), (0.004, "<$0.01"), (0.005, "$0.01"), (0.125, "$0.12"), (-0.42, "$-0.42")],
)
def test_money(value: float, text: str) -> None:
    assert money(value) == text


@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(1, 200))
def test_a_strip_fits_and_shows_the_most(agents: list[int], width: int) -> None:
    cells = heat_strip(agents, len(agents), width)
    assert len(cells) == min(width, len(agents))
    levels = [level for _, level in cells if level is not None]
    assert all(0 <= level < 8 for level in levels)
    assert (max(levels) == 7) if max(agents) else not levels


def test_what_has_not_begun_is_blank() -> None:
    assert "".join(x for x, _ in heat_strip([0, 1, 2, 0], 3, 80)) == "·▄█ "


@pytest.mark.parametrize("width", [10, 40, 120])
def test_a_terminal_also_shows_a_strip_in_its_width(document: dict[str, Any], width: int) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", page(document, width))
    strip = text.split("\n")[2:4]
    assert strip[0] == "█·▄·"
    assert all(len(line) <= width for line in strip)


def test_long_names_give_way_to_the_width(document: dict[str, Any]) -> None:
    name = "a-project-with-a-name-that-no-narrow-terminal-has-room-for"
    document["by_session"][0].update(title=name, project=name)
    document["by_project"][0]["key"] = name
    lists = page(document, 48).partition("By project")[2].splitlines()
    assert all(len(line) <= 48 for line in lists)
    assert sum("a-projec" in line for line in lists) == 2
    minutes = f"{document['by_project'][0]['agent_minutes']:.1f} min"
    assert any("…" in line and minutes in line for line in lists)
    assert name in page(document)


def test_no_color_is_honoured(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    colour = re.compile(r"\x1b\[[39][0-9]")
    assert colour.search(page(document, 40))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(page(document, 40))


# -- the picture --------------------------------------------------------------------------------


def test_only_pictures_that_can_be_drawn_are_asked_for() -> None:
    assert activity_chart.chart_format("a/b.SVG") == "svg"
    assert activity_chart.chart_format("b.png") == "png"
    with pytest.raises(ExporterError, match=r"must end in \.svg or \.png"):
        activity_chart.chart_format("b.gif")


def test_a_picture_does_not_take_the_place_of_the_report(tmp_path: Path) -> None:
    chart = str(tmp_path / "a.svg")
    activity_chart.refuse_same_file(chart, None)
    activity_chart.refuse_same_file(chart, str(tmp_path / "b.svg"))
    with pytest.raises(ExporterError, match="--chart and --output both name"):
        activity_chart.refuse_same_file(chart, str(tmp_path / "x" / ".." / "a.svg"))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("name", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_equal_reports_are_equal_pictures(
    document: dict[str, Any], name: str, begins: bytes
) -> None:
    pytest.importorskip("matplotlib")
    document.update(partial=True, as_of="2026-02-14T08:50:00Z")
    drawn = []
    for _ in range(2):
        out = io.BytesIO()
        activity_chart.draw(document, LISBON, out, name)
        drawn.append(out.getvalue())
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith(begins)
    if name == "svg":
        for text in (b"Agents at work", b"peak: 2", b"interactive", b"automated", b"data ends"):
            assert text in drawn[0]


def test_without_the_library_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ExporterError, match="--chart needs matplotlib"):
        activity_chart.require_library()


# -- the system's zone --------------------------------------------------------------------------


def test_the_zone_of_the_system_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "localtime"
    for target, name in (
        ("/usr/share/zoneinfo/Europe/Lisbon", "Europe/Lisbon"),
        ("/usr/share/zoneinfo/posix/Asia/Tokyo", "Asia/Tokyo"),
        ("/somewhere/else", "UTC"),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        monkeypatch.delenv("TZ", raising=False)
        assert system_zone(link).key == name
    for value, name in (("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo"), ("", "UTC")):
        monkeypatch.setenv("TZ", value)
        assert system_zone(link).key == name


@pytest.mark.parametrize(("named", "json"), [("human", False), ("json", False), (None, True)])
def test_two_formats_at_once_are_refused(named: str | None, json: bool) -> None:
    given = {"output_format": named, "json": json, "ndjson": True, "validate": False}
    with pytest.raises(ExporterError, match="--ndjson cannot be combined with another format"):
        activity._framing(given)
