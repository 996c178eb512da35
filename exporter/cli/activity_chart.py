"""A picture of the activity report: how many agents were at work at once, over the range."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from exporter.errors import ExporterError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: Suffixes of the file, in the order in which they are named to people.
FORMATS: Final = ("svg", "png")
_INTERACTIVE: Final = "#1f6f8b"
_AUTOMATED: Final = "#e09f3e"


def chart_format(path: str) -> str:
    """The format that the name of a file asks for; ExporterError for any other."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ExporterError(f"--chart: {path} must end in .svg or .png")
    return suffix


def refuse_same_file(chart: str, output: str | None) -> None:
    """Raise ExporterError where the picture would take the place of the report."""
    if output and Path(output).resolve() == Path(chart).resolve():
        raise ExporterError(f"--chart and --output both name {chart}", hint="give two files")


def require_library() -> None:
    """Refuse in a sentence when the drawing library is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ExporterError(
            "--chart needs matplotlib", hint="install it with: pip install 'exporter[chart]'"
        ) from None


def draw(head: Mapping[str, Any], zone: ZoneInfo, out: IO[bytes], file_format: str) -> None:
    """Draw the greatest number of agents of each bucket as steps, automated ones above the others.

    ``head`` is the document, of which the two long arrays are not looked at.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Equal input gives equal bytes, and text stays text.
    with rc_context({"svg.hashsalt": "exporter", "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        axes = figure.add_subplot()
        _draw_steps(axes, head, zone)
        _draw_marks(axes, head, zone)
        _label(axes, head, zone)
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(out, format=file_format, dpi=150, metadata=metadata)


def _draw_steps(axes: Any, head: Mapping[str, Any], zone: ZoneInfo) -> None:
    buckets = head["buckets"][: max(1, head["elapsed_bucket_count"])]
    edges = [_moment(bucket["start"], zone) for bucket in buckets]
    edges.append(_moment(buckets[-1]["end"], zone))
    people = [bucket["interactive_at_peak"] for bucket in buckets]
    both = [bucket["max_agents"] for bucket in buckets]
    axes.stairs(people, edges, fill=True, color=_INTERACTIVE, label="interactive")
    axes.stairs(both, edges, baseline=people, fill=True, color=_AUTOMATED, label="automated")


def _draw_marks(axes: Any, head: Mapping[str, Any], zone: ZoneInfo) -> None:
    """The peak, and where the data ends in a range that has not."""
    peak = head["peak"]
    axes.set_ylim(0, max(1, peak["agents"]) * 1.25)
    if peak["at"] is not None:
        at = _moment(peak["at"], zone)
        start, end = (_moment(head[name], zone) for name in ("range_start", "range_end"))
        place = (at - start) / (end - start)
        axes.annotate(
            f"peak: {peak['agents']} at {at:%d %b %H:%M}",
            (at, peak["agents"]),
            xytext=(0, 9),
            textcoords="offset points",
            # Text about a peak near an edge stays inside.
            ha="left" if place < 0.1 else "right" if place > 0.9 else "center",
            arrowprops={"arrowstyle": "-|>", "color": "#333333"},
        )
    if head["partial"]:
        axes.axvline(
            _moment(head["as_of"], zone), color="#888888", linestyle=":", label="data ends"
        )


def _label(axes: Any, head: Mapping[str, Any], zone: ZoneInfo) -> None:
    from matplotlib import dates, ticker

    # Half of the library is without types.
    in_time: Any = dates
    in_numbers: Any = ticker
    start, end = (_moment(head[name], zone) for name in ("range_start", "range_end"))
    totals = head["totals"]
    axes.set_title(
        f"Agents at work, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} ({head['timezone']})",
        loc="left",
        fontweight="bold",
    )
    axes.set_title(
        f"{totals['agent_minutes'] / 60:.1f} agent hours, {totals['sessions']} sessions",
        loc="right",
        fontsize="medium",
        color="#555555",
    )
    axes.set_xlim(start, end)
    locator = in_time.AutoDateLocator(tz=zone)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        in_time.ConciseDateFormatter(locator, tz=zone, show_offset=False)
    )
    axes.yaxis.set_major_locator(in_numbers.MaxNLocator(integer=True))
    axes.set_ylabel(f"most agents at once, per {_bucket_name(head)}")
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, ncols=3)


def _bucket_name(head: Mapping[str, Any]) -> str:
    if head["bucket_unit"] == "minute":
        return f"{head['bucket_seconds'] // 60} minutes"
    return str(head["bucket_unit"])


def _moment(text: str, zone: ZoneInfo) -> datetime:
    return datetime.fromisoformat(text).astimezone(zone)
