"""Tables, JSON and progress."""

from __future__ import annotations

import io
import re

import pytest

from exporter.cli import render
from exporter.progress import SILENT


def test_a_piped_table_is_plain_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table(
        ["session", "tokens", "cost"], [["a", 1200, 0.5], ["longer", None, None], ["c", 3, 12.25]]
    )
    assert capsys.readouterr().out == (
        "session  tokens   cost\n"
        "a         1,200    0.5\n"
        "longer        -      -\n"
        "c             3  12.25\n"
    )


def test_an_empty_table_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table(["one", "two"], [])
    assert capsys.readouterr().out == "one  two\n"


def test_facts_are_pairs_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_facts([("a", True), ("long name", None)])
    assert capsys.readouterr().out == "a          yes\nlong name  -\n"


def test_json_is_one_line_of_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_json({"name": "Zoë", "rows": [1, None]})
    assert capsys.readouterr().out == '{"name":"Zoë","rows":[1,null]}\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Zoë 日本", "plain Zoë 日本"),
        ("a\nb\tc", "a\\u000ab\\u0009c"),
        ("\x1b[2J", "\\u001b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
    ],
)
def test_text_from_outside_stays_on_one_line(text: str, shown: str) -> None:
    assert render.one_line(text) == shown


def test_progress_is_silent_without_a_terminal_or_when_asked() -> None:
    with render.progress() as drawn:
        assert drawn is SILENT
    with render.progress(quiet=True) as drawn:
        drawn.begin("x")
        drawn.advance()
        drawn.note("y")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    """A terminal for stdout and stderr; no fixture, since pytest sets both anew for each phase."""
    screen = _Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return screen


def test_progress_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with render.progress() as drawn:
        drawn.begin("reading [bold]sessions[/]", total=10, unit="sessions")
        drawn.advance(4)
        drawn.note("waiting for the server")
        drawn.begin("writing")
        drawn.advance(2)
    text = screen.getvalue()
    assert "reading [bold]sessions[/]" in text
    assert "4 sessions" in text
    assert "waiting for the server" in text


def test_a_table_on_a_terminal_shows_markup_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    render.print_table(["name"], [["[red]x[/red]"]])
    assert "[red]x[/red]" in screen.getvalue()


def test_no_color_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    render.print_table(["name"], [["x"]])
    with render.progress() as drawn:
        drawn.begin("x", total=1)
    assert re.search("\x1b\\[[0-9;]*3[0-9]", screen.getvalue()) is None
