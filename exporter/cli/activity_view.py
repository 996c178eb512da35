"""The activity report for people: a summary in text, and a heat strip where a terminal shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from exporter.cli.render import cells, console, shortened, to_left

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

Row = Mapping[str, Any]

#: How many entries each list has.
MOST_ENTRIES: Final = 5
#: What could steer a terminal: controls, line separators, bidirectional overrides, surrogates.
_STEERING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LEVELS: Final = "▁▂▃▄▅▆▇█"
#: 256-colour numbers from few agents to many.
_HEAT: Final = (24, 31, 37, 71, 143, 179, 208, 196)
_NONE: Final = "—"
#: Cells that a name keeps, however narrow the terminal.
_NARROWEST: Final = 6


def money(value: float) -> str:
    """Dollars with two decimals; what would round to nothing says so."""
    return "<$0.01" if 0 < value < 0.005 else f"${value:.2f}"


def print_report(
    head: Row, sessions: Sequence[Row], zone: ZoneInfo, out: TextIO, width: int | None
) -> None:
    """Write the report as text; with a ``width``, which a terminal has, also the heat strip.

    ``head`` is the document, of which the two long arrays are not looked at, and ``sessions`` its
    first rows. Names that would not fit into the ``width`` are cut.
    """
    out.write("".join(f"{line}\n" for line in _opening(head, zone)))
    if width is not None:
        _print_strip(head, zone, out, width)
    out.write("".join(f"{line}\n" for line in _rest(head, sessions, zone, width)))


def _opening(head: Row, zone: ZoneInfo) -> Iterator[str]:
    start, end = (_bound(head[name], zone) for name in ("range_start", "range_end"))
    yield f"Activity {start} to {end} ({head['timezone']}, {head['bucket_unit']} buckets)"
    if head["partial"]:
        yield f"Partial range, data as of {_local(head['as_of'], zone)}"
    yield ""


def _rest(head: Row, sessions: Sequence[Row], zone: ZoneInfo, width: int | None) -> Iterator[str]:
    yield from _totals(head["totals"])
    peak = head["peak"]
    at = _NONE if peak["at"] is None else _local(peak["at"], zone)
    yield from ("", f"Peak concurrency: {peak['agents']} agents at {at}")
    for name in ("project", "model", "agent"):
        yield from ("", f"By {name} (top {MOST_ENTRIES}):")
        shares = head[f"by_{name}"][:MOST_ENTRIES]
        rows = [(shown(x["key"]), f"{x['agent_minutes']:.1f} min") for x in shares]
        yield from _columns(rows, 1, width)
    yield from ("", f"Top sessions (top {MOST_ENTRIES}):")
    titles = ("TITLE", "PROJECT", "AGENT", "MINUTES", "COST")
    listed = [_session(row) for row in sessions]
    yield from _columns([titles, *listed] if listed else [], 3, width)


def _totals(totals: Row) -> Iterator[str]:
    facts = {
        "Active minutes": f"{totals['active_minutes']:.1f}",
        "Idle minutes": f"{totals['idle_minutes']:.1f}",
        "Agent minutes": f"{totals['agent_minutes']:.1f}",
        "Sessions": f"{totals['sessions']} ({totals['untimed_sessions']} untimed)",
        "Distinct projects": totals["distinct_projects"],
        "Distinct models": totals["distinct_models"],
        "Output tokens": totals["output_tokens"],
        "Cost": money(float(totals["cost"])),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        yield f"{name:<{width}}  {value}"


def _session(row: Row) -> tuple[str, ...]:
    active = row["agent_minutes"]
    return (
        shown(row["title"]),
        shown(row["project"]),
        shown(row["agent"]),
        _NONE if active is None else f"{active:.1f}",
        money(float(row["cost"])),
    )


def _columns(rows: Sequence[Sequence[str]], names: int, width: int | None) -> Iterator[str]:
    """Rows indented by two, every cell but the last padded to its column.

    The first ``names`` columns give way where ``width`` is too little, the widest first.
    """
    if not rows:
        yield "  (none)"
        return
    sizes = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    while width is not None and sum(sizes) + 2 * len(sizes) > width:
        widest = max(range(names), key=sizes.__getitem__)
        if sizes[widest] <= _NARROWEST:
            break
        sizes[widest] -= 1
    for row in rows:
        # Only names were cut.
        fitting = [shortened(cell, size) for cell, size in zip(row, sizes, strict=True)]
        padded = [to_left(cell, size) for cell, size in zip(fitting[:-1], sizes, strict=False)]
        yield "  " + "  ".join([*padded, fitting[-1]])


def shown(text: str) -> str:
    """Text of an archive without the characters that could steer a terminal."""
    return _STEERING.sub("", text)


def _moment(text: str, zone: ZoneInfo) -> datetime:
    return datetime.fromisoformat(text).astimezone(zone)


def _local(text: str, zone: ZoneInfo) -> str:
    return f"{_moment(text, zone):%Y-%m-%d %H:%M}"


def _bound(text: str, zone: ZoneInfo) -> str:
    moment = _moment(text, zone)
    at_midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return f"{moment:%Y-%m-%d}" if at_midnight else f"{moment:%Y-%m-%d %H:%M}"


# -- the heat strip -----------------------------------------------------------------------------


def heat_strip(agents: Sequence[int], elapsed: int, width: int) -> list[tuple[str, int | None]]:
    """At most ``width`` cells from left to right: a character, and its level from 0 or None.

    A cell shows the most agents of its buckets against the most of all; ``elapsed`` buckets have
    begun, the others are left blank.
    """
    most = max(agents, default=0)
    count = min(width, len(agents))
    cells: list[tuple[str, int | None]] = []
    for cell in range(count):
        first, last = cell * len(agents) // count, (cell + 1) * len(agents) // count
        here = max(agents[first:last])
        if first >= elapsed:
            cells.append((" ", None))
        elif here == 0:
            cells.append(("·", None))
        else:
            level = (here * len(_LEVELS) - 1) // most
            cells.append((_LEVELS[level], level))
    return cells


def _print_strip(head: Row, zone: ZoneInfo, out: TextIO, width: int) -> None:
    from rich.text import Text

    agents = [bucket["max_agents"] for bucket in head["buckets"]]
    strip = Text()
    for character, level in heat_strip(agents, head["elapsed_bucket_count"], width):
        strip.append(character, style=None if level is None else f"color({_HEAT[level]})")
    # Only a terminal has a width.
    screen = console(file=out, width=width, highlight=False, force_terminal=True)
    screen.print(strip, no_wrap=True, overflow="crop")
    screen.print(Text(_axis(head, zone, len(strip)), style="dim"), no_wrap=True, overflow="crop")
    out.write("\n")


def _axis(head: Row, zone: ZoneInfo, width: int) -> str:
    """The ends of the strip, and what its height means where there is room."""
    start, end = (_bound(head[name], zone) for name in ("range_start", "range_end"))
    middle = f"agents at once, at most {head['peak']['agents']}"
    room = width - len(start) - len(end)
    if room < 2:
        return start[:width]
    return start + (middle if len(middle) + 4 <= room else "").center(room) + end
