"""A picture of the daily usage report: cost per day, stacked by model."""

from __future__ import annotations

from datetime import date
from typing import IO, TYPE_CHECKING, Any, Final

from exporter.cli.render import one_line
from exporter.cli.usage_view import money

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
    costs: dict[str, dict[date, float]] = {}
    for found, day in days:
        for model in day["modelBreakdowns"]:
            costs.setdefault(model["modelName"], {})[found] = float(model["cost"])
    named = sorted(costs, key=lambda name: (-sum(costs[name].values()), name))
    named = [name for name in named if any(costs[name].values())]
    stacks = [
        (_short(name), costs[name], _COLOURS[i]) for i, name in enumerate(named[:_MOST_MODELS])
    ]
    others = named[_MOST_MODELS:]
    if others:
        rest = {found: sum(costs[name].get(found, 0.0) for name in others) for found, _ in days}
        stacks.append((f"{len(others)} more", rest, _OTHERS))
    tops, bottoms = dict.fromkeys(dict(days), 0.0), dict.fromkeys(dict(days), 0.0)
    for name, by_day, colour in stacks:
        heights = [by_day.get(found, 0.0) for found, _ in days]
        from_ = [
            (tops if height >= 0 else bottoms)[found]
            for height, (found, _) in zip(heights, days, strict=True)
        ]
        axes.bar(
            [found for found, _ in days],
            heights,
            0.85 if len(days) <= 100 else 1.0,
            from_,
            color=colour,
            label=name,
        )
        for height, (found, _) in zip(heights, days, strict=True):
            (tops if height >= 0 else bottoms)[found] += height


def _short(name: str) -> str:
    """A name that fits the legend; matplotlib reads $ as mathematics and hides a leading _."""
    name = one_line(name).replace("$", r"\$")
    name = name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
    return f" {name}" if name.startswith("_") else name


def _label(axes: Any, days: list[tuple[date, dict[str, Any]]], report: Report, zone: str) -> None:
    from matplotlib import dates
    from matplotlib.ticker import FuncFormatter

    span = f", {days[0][0]} to {days[-1][0]}" if days else ""
    axes.set_title(f"Cost per day{span} ({zone})", loc="left", fontweight="bold")
    total = money(report.totals["totalCost"]).replace("$", r"\$")
    sessions = f"{report.session_counts['total']:,} sessions"
    axes.set_title(f"{total}, {sessions}", loc="right", fontsize="medium", color="#555555")
    axes.set_ylabel("US dollars per day")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"\\${value:,.10g}"))
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not days:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "nothing was spent", transform=axes.transAxes, ha="center")
        return
    # Its calls are not typed.
    date_marks: Any = dates
    locator = date_marks.AutoDateLocator(minticks=2)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(date_marks.ConciseDateFormatter(locator))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
