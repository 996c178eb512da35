"""What people and programs see: tables, JSON, progress.

Data goes to stdout, everything else to stderr. Rich is imported only where a terminal is on the
other side, or where a text has characters of another width than one; into a pipe go plain aligned
columns that ``awk`` can read.

Whatever is rendered here, no denied field is (`core.denylist`): one that gets here is an error, and
then nothing is written.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from exporter.cli.streams import tell
from exporter.core.denylist import refuse_denied
from exporter.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichBar
    from rich.progress import TaskID

Cell = str | int | float | bool | None

#: Control characters, bidirectional overrides and lone surrogates: what could move a cursor or
#: break a line when a name from somebody's archive is shown.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: One cell each: Latin letters, dashes, quotation marks, the ellipsis. Most texts have no others,
#: and so need no table of all characters.
_NARROW = re.compile("[ -\u02ff\u2010-\u2027]*")


def one_line(text: str) -> str:
    """The text as one printable line; whatever could steer a terminal is shown escaped."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def cells(text: str) -> int:
    """How many character cells a terminal shows the text in: two for a wide character, such as a
    Chinese one, none for a combining mark.
    """
    if text.isascii() or _NARROW.fullmatch(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def to_left(text: str, width: int) -> str:
    """The text with blanks behind it that fill ``width`` cells."""
    return text + " " * (width - cells(text))


def to_right(text: str, width: int) -> str:
    """The text with blanks before it that fill ``width`` cells."""
    return " " * (width - cells(text)) + text


def shortened(text: str, width: int) -> str:
    """The text in at most ``width`` cells, at least one: what is too long ends in an ellipsis."""
    if cells(text) <= width:
        return text
    if text.isascii():
        return f"{text[: width - 1]}…"
    from rich.cells import chop_cells

    return f"{chop_cells(text, width - 1)[0] if width > 1 else ''}…"


def colours() -> bool:
    """Whether terminals get colours and other styles, which NO_COLOR with any value forbids."""
    return not os.environ.get("NO_COLOR")


def console(**options: Any) -> Console:
    """Rich's console with these options. Of its own it keeps bold and dim under NO_COLOR."""
    from rich.console import Console

    return Console(color_system="auto" if colours() else None, **options)


def print_json(value: Any, out: TextIO | None = None) -> None:
    """One JSON value on one line."""
    _refuse_denied_keys(value)
    (out or sys.stdout).write(_compact(value) + "\n")


def print_row(fields: Mapping[str, Any]) -> None:
    """A row of a table as one line of JSON. Raises BadInput for a denied field.

    What is inside a JSON column is data, whatever its keys are called.
    """
    refuse_denied(fields)
    sys.stdout.write(_compact(dict(fields)) + "\n")


def column_text(value: Any) -> str:
    """The value of one column as text: JSON columns as JSON, and numbers as they are stored."""
    return value if isinstance(value, str) else _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A table on stdout: numbers to the right, None as "-"."""
    refuse_denied(columns)
    texts = [[_cell(value) for value in row] for row in rows]
    right = [
        bool(rows) and all(_is_number(row[i]) or row[i] is None for row in rows)
        for i in range(len(columns))
    ]
    if sys.stdout.isatty():
        _rich_table(columns, texts, right)
    else:
        sys.stdout.write(plain_table(columns, texts, right))


def print_facts(facts: Sequence[tuple[str, Cell]]) -> None:
    """Names and values on stdout, one pair a line."""
    refuse_denied(name for name, _ in facts)
    width = max((cells(name) for name, _ in facts), default=0)
    for name, value in facts:
        sys.stdout.write(f"{to_left(name, width)}  {_cell(value)}\n")


def plain_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool]
) -> str:
    """Columns aligned with spaces, two between them, no line ends with one."""
    lines = [list(columns), *texts]
    widths = [max(cells(line[i]) for line in lines) for i in range(len(columns))]
    return "".join(
        "  ".join(
            (to_right if is_right else to_left)(text, width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def note(text: str) -> None:
    """One line for people on stderr."""
    tell(one_line(text) + "\n")


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """A receiver that draws on stderr while the block runs, or a silent one.

    Silent when asked, and when stderr is no terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield SILENT
        return
    with _bar() as bar:
        yield _TerminalProgress(bar)


class _TerminalProgress:
    """Draws the current task as a bar, or as a running count when its total is not known."""

    def __init__(self, bar: RichBar) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def begin(self, task: str, total: int | None = None, unit: str = "rows") -> None:
        if self._task is not None:
            self._bar.stop_task(self._task)
        self._task = self._bar.add_task(one_line(task), total=total, unit=unit)

    def advance(self, count: int = 1) -> None:
        if self._task is not None:
            self._bar.advance(self._task, count)

    def note(self, text: str) -> None:
        self._bar.console.print(one_line(text), markup=False, highlight=False)


def _bar() -> RichBar:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f} {task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        console=console(stderr=True),
    )


def _rich_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool]
) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, is_right in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if is_right else "left", overflow="fold")
    for line in texts:
        table.add_row(*(Text(text) for text in line))
    console().print(table)


def _refuse_denied_keys(value: Any) -> None:
    """Raise for a denied key anywhere in a value that is to become JSON."""
    if isinstance(value, dict):
        refuse_denied(str(key) for key in value)
        for inner in value.values():
            _refuse_denied_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_denied_keys(inner)


def _is_number(value: Cell) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return one_line(str(value))
