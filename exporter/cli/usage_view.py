"""The daily usage report for people: the plain table, and a wider one for terminals."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from exporter.cli.render import one_line

if TYPE_CHECKING:
    from exporter.exports.usage_daily import Report

TITLES: Final = ("DATE", "INPUT", "OUTPUT", "CACHE_CR", "CACHE_RD", "COST", "MODELS")
_FIELDS: Final = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
_LONGEST_BAR: Final = 40
_SHORTEST_BAR: Final = 4
#: Eighths of a character cell, from none to seven.
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def money(dollars: Decimal) -> str:
    """Two decimals of the nearest double; what would round to nothing says so."""
    value = float(dollars)
    return "<$0.01" if 0 < value < 0.005 else f"${value:.2f}"


def plain_table(report: Report, *, breakdown: bool) -> str:
    """The table of the contract: every cell to the left, columns two blanks apart."""
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


def terminal_table(report: Report, *, breakdown: bool, width: int | None = None) -> str:
    """The same with grouped numbers to the right, and a bar for the cost of each day.

    It keeps within ``width`` columns, by default those of the terminal: bar, models and counters
    give way in this order. NO_COLOR leaves the colours out.
    """
    import io

    from rich.console import Console

    width = width or shutil.get_terminal_size().columns
    page = io.StringIO()
    Console(file=page, width=width, force_terminal=True).print(_table(report, breakdown, width))
    return page.getvalue()


def _table(report: Report, breakdown: bool, width: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    counters = 4 if width >= 100 else 2 if width >= 64 else 0
    models = width >= 120
    bar = max(0, min(_LONGEST_BAR, width - 28 - 14 * counters - (36 if models else 0)))
    most = max((float(day["totalCost"]) for day in report.daily), default=0.0)
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    table.add_column("DATE", "TOTAL", no_wrap=True)
    table.add_column("COST", money(report.totals["totalCost"]), justify="right", no_wrap=True)
    if bar >= _SHORTEST_BAR:
        table.add_column("", "", no_wrap=True, width=bar, style="cyan")
    for title, field in list(zip(TITLES[1:5], _FIELDS, strict=True))[:counters]:
        total = f"{report.totals[field]:,}"
        table.add_column(title.replace("_", " "), total, justify="right", no_wrap=True)
    if models:
        table.add_column("MODELS", "", no_wrap=True, overflow="ellipsis")
    for name, sums, names in _entries(report, breakdown):
        cells = [Text(name), Text(money(sums.get("totalCost", sums.get("cost"))))]
        if bar >= _SHORTEST_BAR:
            cells.append(Text(drawn_bar(float(sums.get("totalCost", 0)), most, bar)))
        cells += [Text(f"{sums[field]:,}") for field in _FIELDS[:counters]]
        style = None if "totalCost" in sums else "dim"
        table.add_row(*cells, *([Text(names)] if models else []), style=style)
    return table


def _entries(report: Report, breakdown: bool) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Name, sums and models of every line between the titles and the total."""
    for day in report.daily:
        yield day["date"], day, ", ".join(one_line(name) for name in day["modelsUsed"])
        for model in day["modelBreakdowns"] if breakdown else ():
            yield "  " + one_line(model["modelName"]), model, ""


def drawn_bar(value: float, most: float, width: int) -> str:
    """A bar of at most ``width`` cells, in eighths of one; anything above nothing is seen."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, round(value / most * width * 8))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
