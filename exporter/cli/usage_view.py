"""The daily usage report for people: the plain table, and a wider one for terminals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.cli.render import cells, one_line, shortened, to_left

if TYPE_CHECKING:
    from exporter.exports.usage_daily import Report

TITLES: Final = ("DATE", "INPUT", "OUTPUT", "CACHE_CR", "CACHE_RD", "COST", "MODELS")
_FIELDS: Final = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
_WIDE_TITLES: Final = ("DATE", "COST", "INPUT", "OUTPUT", "CACHE CR", "CACHE RD")
_LONGEST_BAR: Final = 40
#: Cells that a bar or a list of models needs to say something.
_USEFUL: Final = 10
#: Terminal codes of a model's line and of the total.
_STYLES: Final = ("2", "1")
#: Eighths of a character cell, from none to seven.
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def money(dollars: Decimal) -> str:
    """Two decimals of the nearest double; what would round to nothing says so."""
    value = float(dollars)
    return "<$0.01" if 0 < value < 0.005 else f"${value:.2f}"


def plain_table(report: Report, *, breakdown: bool) -> str:
    """The table of the contract: every cell to the left, columns two blanks apart.

    Its columns are counted in characters, for programs; `terminal_table` counts what a person sees.
    """
    rules = tuple("-" * len(title) for title in TITLES)
    rows = [TITLES, rules, *(_cells(*entry) for entry in _entries(report, breakdown)), rules]
    rows.append(_cells("TOTAL", report.totals, ""))
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    return "".join(
        "".join(cell.ljust(width + 2) for cell, width in zip(row, widths, strict=False))
        + f"{row[-1]}\n"
        for row in rows
    )


def _cells(name: str, sums: Mapping[str, Any], models: str) -> tuple[str, ...]:
    cost = sums["cost"] if "cost" in sums else sums["totalCost"]
    return (name, *(str(sums[field]) for field in _FIELDS), money(cost), models)


# -- on a terminal ------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """Which columns a terminal has room for, in character cells."""

    #: Widths of the columns that are shown, from DATE on.
    sizes: list[int]
    bar: int
    #: What is left for the models; 0 where they are not shown.
    models: int


def terminal_table(report: Report, *, breakdown: bool, width: int, colours: bool) -> str:
    """The same with grouped numbers to the right, and a bar for the cost of each day.

    It keeps within ``width`` cells: models, then counters give way to what was spent.
    """
    entries = [*_entries(report, breakdown), ("TOTAL", report.totals, "")]
    rows = [_wide_cells(name, sums) for name, sums, _ in entries]
    layout = _layout([_WIDE_TITLES, *rows], width)
    most = max((float(day["totalCost"]) for day in report.daily), default=0.0)
    titles = _aligned(_WIDE_TITLES, layout) + " " * (layout.bar + 4)
    lines = [_painted((titles + "MODELS" * bool(layout.models)).rstrip(), "1", colours)]
    for row, (_, sums, models) in zip(rows, entries, strict=True):
        is_day = "modelsUsed" in sums
        bar = drawn_bar(float(sums["totalCost"]), most, layout.bar) if is_day else ""
        told = shortened(models, layout.models) if layout.models else ""
        bar = _painted(bar, "36", colours) + " " * (layout.bar - len(bar) if told else 0)
        numbers = _painted(
            _aligned(row, layout), "" if is_day else _STYLES[row[0] == "TOTAL"], colours
        )
        # A day without a bar keeps the place of one, so that its models stay in their column.
        lines.append("  ".join((numbers, bar, told)).rstrip())
    return "".join(f"{line}\n" for line in lines)


def _wide_cells(name: str, sums: Mapping[str, Any]) -> list[str]:
    cost = sums["cost"] if "cost" in sums else sums["totalCost"]
    return [name, money(cost), *(f"{sums[field]:,}" for field in _FIELDS)]


def _layout(rows: Sequence[Sequence[str]], width: int) -> _Layout:
    sizes = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    # Counters go in pairs: tokens of the caches, then all.
    shown = next((n for n in (6, 4) if _span(sizes[:n]) + 2 + _USEFUL <= width), 2)
    room = max(0, width - _span(sizes[:shown]) - 2)
    if shown == len(sizes) and room >= 3 * _USEFUL:
        bar = min(_LONGEST_BAR, room // 3)
        return _Layout(sizes, bar, room - bar - 2)
    return _Layout(sizes[:shown], min(_LONGEST_BAR, room), 0)


def _span(sizes: Sequence[int]) -> int:
    return sum(sizes) + 2 * (len(sizes) - 1)


def _aligned(row: Sequence[str], layout: _Layout) -> str:
    """The first cell to the left, numbers to the right."""
    first, *numbers = zip(row, layout.sizes, strict=False)
    return "  ".join([to_left(*first), *(cell.rjust(size) for cell, size in numbers)])


def _painted(text: str, style: str, colours: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if colours and style and text else text


def drawn_bar(value: float, most: float, width: int) -> str:
    """A bar of at most ``width`` cells, in eighths of one; anything above nothing is seen."""
    if value <= 0 or most <= 0 or width <= 0:
        return ""
    eighths = max(1, round(value / most * width * 8))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _entries(report: Report, breakdown: bool) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Name, sums and models of every line between the titles and the total."""
    for day in report.daily:
        yield day["date"], day, ", ".join(one_line(name) for name in day["modelsUsed"])
        for model in day["modelBreakdowns"] if breakdown else ():
            yield "  " + one_line(model["modelName"]), model, ""
