"""What people and programs see of a running backfill.

On a terminal a bar, drawn on stderr; elsewhere a line on stderr every ten seconds and one at the
end; with ``--json`` one object on stdout at the same times. A clock of its own writes them, so
that a run that waits, or is busy with one huge row, still says so.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from exporter.cli import render
from exporter.progress import Meter

if TYPE_CHECKING:
    from exporter.jobs.job import Tally

#: Seconds between two lines where nobody watches a bar, and between two looks at the bar.
INTERVAL_SECONDS = 10.0
REFRESH_SECONDS = 0.2
_MB = 1_000_000

#: Brings facts before somebody's eyes.
Show: TypeAlias = Callable[[dict[str, Any]], None]


class View:
    """A receiver of the runner. Its state is safe to read from the thread that draws."""

    def __init__(self, show: Show) -> None:
        self.job = ""
        self.meter = Meter(0, time.monotonic())
        self._show = show
        self._lock = threading.Lock()
        #: The last wait since the last line: a short one would never be seen otherwise.
        self._waited = ""

    def begin(self, job: str, total: int) -> None:
        with self._lock:
            self.job = job
            self.meter = Meter(total, time.monotonic())

    def done(self, tally: Tally) -> None:
        with self._lock:
            self.meter.done(tally.outcomes, tally.bytes_in, tally.bytes_out)

    def waiting(self, reason: str) -> None:
        with self._lock:
            self.meter.reason = self._waited = reason

    def facts(self, event: str) -> dict[str, Any]:
        """The state now, under the names of the JSON objects; rates are means since the start."""
        with self._lock:
            now, meter = time.monotonic(), self.meter
            eta = meter.eta_seconds(now)
            reason, self._waited = meter.reason or self._waited, ""
            return {
                "event": event,
                "job": self.job,
                "rows": meter.rows,
                "total": meter.total,
                "rows_per_second": round(meter.rows_per_second(now), 2),
                "mb_per_second": round(meter.bytes_per_second(now) / _MB, 2),
                "eta_seconds": None if eta is None else round(eta),
                "quarantined": meter.outcomes.get("QUARANTINED", 0),
                "outcomes": dict(sorted(meter.outcomes.items())),
                "bytes_in": meter.bytes_in,
                "bytes_out": meter.bytes_out,
                "seconds": round(now - meter.started, 1),
                "waiting": reason or None,
            }

    def show(self, event: str = "progress") -> None:
        # Before the job began there is nothing to tell.
        if self.job:
            self._show(self.facts(event))


@contextmanager
def watched(*, as_json: bool, quiet: bool) -> Iterator[View]:
    """A receiver that shows itself while the block runs, and once more when it ends.

    Of a run that did not end well the last word is an event ``stopped``; of one that did, none:
    the caller has a summary to print.
    """
    if as_json:
        yield from _ticking(View(_print_object), INTERVAL_SECONDS)
    elif quiet:
        yield View(_print_nothing)
    elif sys.stderr.isatty():
        bar = _Bar()
        with bar.live:
            yield from _ticking(View(bar), REFRESH_SECONDS)
    else:
        yield from _ticking(View(_print_line), INTERVAL_SECONDS)


def _ticking(view: View, seconds: float) -> Iterator[View]:
    stop = threading.Event()

    def tick() -> None:
        # Whoever read us may be gone; the last line, in the caller's thread, finds that out.
        with suppress(OSError):
            while not stop.wait(seconds):
                view.show()

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield view
    except BaseException:
        stop.set()
        ticker.join()
        with suppress(OSError):
            view.show("stopped")
        raise
    stop.set()
    ticker.join()
    view.show("ended")


# --- Programs -------------------------------------------------------------------------------


def _print_object(facts: dict[str, Any]) -> None:
    # The summary says the same with what is left to do.
    if facts["event"] != "ended":
        render.print_json(facts)
        sys.stdout.flush()


def _print_line(facts: dict[str, Any]) -> None:
    shown = {key: value for key, value in facts.items() if key != "outcomes" and value is not None}
    render.note(line(shown))


def _print_nothing(facts: dict[str, Any]) -> None: ...


def line(facts: dict[str, Any]) -> str:
    """Facts as ``name=value`` on one line: spaces only in quotes, no separators of digits."""
    return " ".join(f"{name}={_value(value)}" for name, value in facts.items())


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return f'"{text}"' if " " in text else text


# --- People ---------------------------------------------------------------------------------


class _Bar:
    """A bar of one line, and below it the reason while the run waits."""

    def __init__(self) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=14),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows", markup=False),
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn("{task.fields[problem]}", markup=False, style="red"),
        )
        self._task = self._bar.add_task("", total=0, speed="", problem="", visible=False)
        # Refreshed by hand, once per look at the facts.
        self.live = Live(console=render.console(stderr=True), auto_refresh=False)

    def __call__(self, facts: dict[str, Any]) -> None:
        from rich.console import Group
        from rich.text import Text

        quarantined = facts["quarantined"]
        self._bar.update(
            self._task,
            visible=True,
            description=render.one_line(facts["job"]),
            # Rows may come in while the run lasts; the bar does not go beyond its end.
            total=max(facts["total"], facts["rows"]),
            completed=facts["rows"],
            speed=f"{facts['mb_per_second']:,.1f} MB/s  ETA {clock(facts['eta_seconds'])}",
            problem=f"{quarantined:,} quarantined" if quarantined else "",
        )
        shown: list[Any] = [self._bar.get_renderable()]
        if facts["waiting"] and facts["event"] == "progress":
            shown.append(Text(f"waiting: {render.one_line(facts['waiting'])}", overflow="ellipsis"))
        self.live.update(Group(*shown), refresh=True)


def clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss; "-" when they are not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
