"""A picture of the daily usage report: cost per day, stacked by model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import IO, TYPE_CHECKING, Any, Final

from exporter.cli.render import one_line
from exporter.core.numbers import exact_sum

if TYPE_CHECKING:
    from exporter.exports.usage_daily import Report

#: Models shown by name; the others share a colour.
_MOST_MODELS: Final = 8
#: Told apart by people who do not see red and green as different, and in print.
_COLOURS: Final = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7"),
    *("#56b4e9", "#d55e00", "#f0e442", "#7f5fa8"),
)
_OTHERS: Final = "#b8b8b8"
_NAME_LENGTH: Final = 32
#: Spans of so many days have dates of their own below the bars, longer ones have months or years.
_MOST_DAYS_BY_DATE: Final = 100
_MOST_DATES: Final = 13


def draw(report: Report, zone: str, out: IO[bytes], file_format: str) -> None:
    """Draw a bar per day as an ``svg`` or ``png``. Dates that are none are left out.

    Equal reports give equal files.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "exporter", "svg.fonttype": "none", "text.usetex": False}):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        axes = figure.add_subplot()
        days = [(found, day) for day in report.daily if (found := _date(day["date"]))]
        _draw_bars(axes, days)
        _label(axes, days, report, zone)
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(out, format=file_format, dpi=150, metadata=metadata)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _draw_bars(axes: Any, days: list[tuple[date, dict[str, Any]]]) -> None:
    """The dearest model at the bottom; what was refunded hangs below the line."""
    dates = [found for found, _ in days]
    is_long = bool(days) and (dates[-1] - dates[0]).days >= _MOST_DAYS_BY_DATE
    # A day of a long span would be thinner than what is seen.
    shape = {"width": 1.0, "linewidth": 0.8} if is_long else {"width": 0.85, "linewidth": 0.0}
    tops, bottoms = [0.0] * len(days), [0.0] * len(days)
    for name, heights, colour in _stacks(days):
        seen = [(at, height) for at, height in enumerate(heights) if height]
        axes.bar(
            [dates[at] for at, _ in seen],
            [height for _, height in seen],
            bottom=[(tops if height > 0 else bottoms)[at] for at, height in seen],
            color=colour,
            edgecolor=colour,
            label=f"{name}  {_dollars(sum(heights), 2)}",
            **shape,
        )
        for at, height in seen:
            (tops if height > 0 else bottoms)[at] += height


def _stacks(days: list[tuple[date, dict[str, Any]]]) -> Iterator[tuple[str, list[float], str]]:
    """Name, cost on each day and colour of what is drawn, the dearest first."""
    costs: dict[str, list[float]] = {}
    for at, (_, day) in enumerate(days):
        for model in day["modelBreakdowns"]:
            costs.setdefault(model["modelName"], [0.0] * len(days))[at] = float(model["cost"])
    named = sorted(costs, key=lambda name: (-sum(costs[name]), name))
    named = [name for name in named if any(costs[name])]
    for name, colour in zip(named, _COLOURS, strict=False):
        yield _short(name), costs[name], colour
    if others := named[_MOST_MODELS:]:
        rest = [sum(column) for column in zip(*(costs[name] for name in others), strict=True)]
        yield f"{len(others)} more model{'s' * (len(others) > 1)}", rest, _OTHERS


def _short(name: str) -> str:
    """A name that fits the legend; matplotlib reads $ as mathematics and hides a leading _."""
    name = one_line(name).replace("$", r"\$")
    name = name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
    return f" {name}" if name.startswith("_") else name


def _label(axes: Any, days: list[tuple[date, dict[str, Any]]], report: Report, zone: str) -> None:
    first, last = (days[0][0], days[-1][0]) if days else (None, None)
    span = f", {first} to {last}" if first != last else f", {first}" if first else ""
    axes.set_title(f"Cost per day{span} ({zone})", loc="left", fontweight="bold", pad=24)
    axes.text(0, 1.025, _sums(days, report), transform=axes.transAxes, color="#555555")
    axes.set_ylabel("US dollars per day")
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing was spent", transform=axes.transAxes, ha="center")
        return
    _mark_dollars(axes)
    _mark_dates(axes, [found for found, _ in days])
    # From the top down, as the bars are stacked.
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
    axes.legend(handles[::-1], names[::-1], fontsize="small", **beside)


def _dollars(value: float, decimals: int) -> str:
    """An amount with grouped digits; the dollar sign does not begin mathematics."""
    if 0 < value < 0.005 and decimals == 2:
        return r"<\$0.01"
    return f"{'-' if value < 0 else ''}\\${abs(value):,.{decimals}f}"


def _sums(days: list[tuple[date, dict[str, Any]]], report: Report) -> str:
    """What was spent, and what of it the bars do not show."""
    sessions = report.session_counts["total"]
    parts = [_dollars(float(report.totals["totalCost"]), 2)]
    if undated := report.totals["totalCost"] - exact_sum(day["totalCost"] for _, day in days):
        parts[0] += f" ({_dollars(float(undated), 2)} of it without a date)"
    parts.append(f"{sessions:,} session{'s' * (sessions != 1)}")
    costs = [model for _, day in days for model in day["modelBreakdowns"]]
    free = {m["modelName"] for m in costs} - {m["modelName"] for m in costs if m["cost"]}
    if free:
        parts.append(f"{len(free)} model{'s' * (len(free) > 1)} without cost")
    return ", ".join(parts)


def _mark_dollars(axes: Any) -> None:
    """Grid lines with as many decimals as the closest two need, the same for all."""
    from matplotlib.ticker import FuncFormatter

    marks = axes.get_yticks()
    step = marks[1] - marks[0]
    decimals = next((n for n in range(9) if abs(round(step, n) - step) < step / 100), 9)
    decimals = 2 if decimals == 1 else decimals
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _dollars(value, decimals)))
    if axes.get_ylim()[0] < 0:
        axes.axhline(0, color="#333333", linewidth=0.8)


def _mark_dates(axes: Any, found: list[date]) -> None:
    """Dates below their bars, counted from the first, or months and years in a long span."""
    from matplotlib import dates

    # Its calls are not typed.
    in_time: Any = dates
    span = (found[-1] - found[0]).days + 1
    axes.set_xlim(in_time.date2num(found[0]) - 0.7, in_time.date2num(found[-1]) + 0.7)
    if span <= _MOST_DAYS_BY_DATE:
        step = next(n for n in (1, 2, 7, 14) if span <= n * _MOST_DATES)
        shown = [found[0] + timedelta(days=n) for n in range(0, span, step)]
        axes.set_xticks(shown, [_named(day, before) for day, before in _pairs(shown)])
        return
    locator = in_time.AutoDateLocator(minticks=3)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(in_time.ConciseDateFormatter(locator, show_offset=False))


def _pairs(shown: list[date]) -> Iterator[tuple[date, date | None]]:
    """Each date and the one before it."""
    return zip(shown, (None, *shown), strict=False)


def _named(day: date, before: date | None) -> str:
    """Day and month, and the year where one begins."""
    year = "" if before is not None and before.year == day.year else f"\n{day.year}"
    return f"{day.day} {day:%b}{year}"
