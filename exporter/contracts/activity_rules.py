"""What a schema cannot say of an activity report, version 1.

The range and its buckets, concurrency, and totals that add up over buckets, sessions and intervals.
Times are shown in whole seconds but count with their fractions, so what is worked out from them
has a second to give. Only parts that fit their schema are looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import pairwise
from typing import ClassVar, Final

from exporter.contracts.head_rules import (
    MAX_NAMES,
    TOLERANCE,
    Fault,
    HeadRules,
    Object,
    Sum,
    differing,
    same_amount,
)
from exporter.core.calendar import LONGEST_NS, NS, UNITS
from exporter.core.times import parse_strict_ns

#: The rules of this module, in words; what surfaces share is in `head_rules`.
RULES: Final = {
    "range": "the range is at most a year, and partial, as_of and effective_end agree with it",
    "buckets": "buckets fill the range without a gap, all but the ends as long as stated",
    "elapsed": "elapsed_bucket_count counts the buckets that had begun; those after it are empty",
    "bucket_split": "automated and interactive agents at the peak of a bucket are all of them",
    "concurrency": "agents at once agree with minutes and with the intervals",
    "peak": "the peak is that of the first bucket with the most agents, and lies in it",
    "idle": "active and idle minutes are the time up to effective_end",
    "timing": "a session is timed exactly when it has minutes, a first and a last activity",
    "within": "activity lies in the range, up to effective_end, and ends no earlier than it begins",
    "primary_model": "primary_model is one of models, which name no unknown one; else empty",
    "share": "by_project and by_agent are the sums over sessions, by_model those over models",
    "interval": "an interval is no longer than five minutes",
    "intervals": "the intervals of a session make its times and minutes, to the second",
}

_LONGEST_SECONDS: Final = LONGEST_NS // NS
_LONGEST_INTERVAL: Final = 300
#: By how much clocks may make a local day or week longer or shorter; a date may come twice.
_DAY_SECONDS: Final = 86_400
#: Up to so many sessions their order is certain where minutes are equal: longer lists of the
#: program that made the contract are in no order then.
_MOST_ORDERED: Final = 12
#: Up to here equal minutes mean equal nanoseconds.
_MOST_EXACT_MINUTES: Final = 30_000
#: Sessions that are remembered to be compared with their intervals.
MAX_SESSIONS: Final = 1 << 16
_UNKNOWN: Final = "unknown"
_SPLITS: Final = {
    "agent_minutes": ("automated_agent_minutes", "interactive_agent_minutes"),
    "cost": ("automated_cost", "interactive_cost"),
}


class _Share:
    """Minutes and cost of sessions that share a name: of automated ones, and of all."""

    __slots__ = ("sums",)

    def __init__(self) -> None:
        self.sums = {name: Sum() for whole, parts in _SPLITS.items() for name in (whole, *parts)}

    def add(self, session: Object) -> None:
        for whole, (automated, interactive) in _SPLITS.items():
            value = session[whole] or 0.0
            self.sums[whole].add(value)
            self.sums[automated if session["is_automated"] else interactive].add(value)

    @property
    def says_something(self) -> bool:
        """Whether time or cost is there beyond what rounding may leave."""
        cost = self.sums["cost"]
        return self.sums["agent_minutes"].total > 0 or abs(cost.total) > cost.slack


class _Span:
    """The intervals of one session, in seconds as they are shown."""

    __slots__ = ("count", "first", "last", "seconds")

    def __init__(self, first: str, last: str) -> None:
        self.count = self.seconds = 0
        self.first = first
        self.last = last


class _Concurrency:
    """The least and the most that may have been open at once, of intervals by their start."""

    def __init__(self) -> None:
        self.least = self.most = 0
        self._ends: tuple[list[int], list[int]] = ([], [])

    def add(self, start: int, end: int) -> bool:
        """Take one more; False where they are too many to go on."""
        surely, perhaps = self._ends
        # It was open from within its first second to within its last one.
        if end > start + 1:
            self.least = max(self.least, _live(surely, start + 1, end))
        self.most = max(self.most, _live(perhaps, start, end + 1))
        return len(perhaps) <= MAX_NAMES


class ActivityRules(HeadRules):
    """Looks at the sessions of one report in their order, its intervals, and its head."""

    EARLY: ClassVar = frozenset({"range_start", "effective_end", "totals", "pricing"})

    def __init__(self) -> None:
        super().__init__()
        self._early: Object = {}
        self._last: tuple[float, str] | None = None
        self._all = _Share()
        self._tokens = self._untimed = self._automated = 0
        self._labels: set[str] = set()
        self._models: set[str] = set()
        self._shares: dict[str, dict[str, _Share]] = {"project": {}, "agent": {}}
        self._has_names = True
        #: Index, first, last and minutes of timed sessions, to be compared with the intervals.
        self._timed: dict[str, tuple[int, str, str, float]] | None = {}
        self._spans: dict[str, _Span] | None = {}
        self._concurrency: _Concurrency | None = _Concurrency()
        self._intervals = self._seconds = 0
        self._last_start = ""
        self._intervals_are_whole = True

    def begin(self, early: Object, *, has_arrays: bool) -> None:
        self._early = early
        if not has_arrays:
            # The lines of a stream have no intervals to be compared with.
            self._timed = None

    def skip_further_row(self) -> None:
        self._intervals_are_whole = False

    # -- a session ------------------------------------------------------------------------------

    def row(self, row: Object) -> Iterator[Fault]:
        index = self.rows
        self.rows += 1
        yield from self._place(row)
        yield from self._models_of(row)
        times = (row["agent_minutes"], row["first_active"], row["last_active"])
        is_timed = row["timing_quality"] == "timed"
        if any((value is not None) != is_timed for value in times):
            yield ("timing_quality",), "timing"
            self.complete = False
        elif is_timed:
            yield from self._within(row, "first_active", "last_active")
            self._keep_time(row, index)
        self._all.add(row)
        self._tokens += row["output_tokens"]
        self._untimed += not is_timed
        self._automated += row["is_automated"]
        yield from self._remember(row)

    def _place(self, row: Object) -> Iterator[Fault]:
        minutes, session_id = row["agent_minutes"], row["session_id"]
        place = (-minutes if minutes is not None else 1.0, session_id)
        last, self._last = self._last, place
        if last is None or last < place:
            return
        totals = self._early.get("totals")
        is_short = totals is not None and totals["sessions"] <= _MOST_ORDERED
        is_tie = last[0] == place[0] and last[1] != session_id
        if not is_tie or (is_short and place[0] > -_MOST_EXACT_MINUTES):
            yield (), "order"

    def _models_of(self, row: Object) -> Iterator[Fault]:
        models, primary = row["models"] or [], row["primary_model"]
        if any(a >= b for a, b in pairwise(models)):
            yield ("models",), "order"
        if primary not in (models or [""]) or _UNKNOWN in models:
            yield ("primary_model",), "primary_model"
        pricing = self._early.get("pricing")
        # One that was never at work lists the models that it used.
        if pricing is not None and row["timing_quality"] == "untimed":
            for at, model in enumerate(models):
                if model not in pricing["models"]:
                    yield ("models", at), "model_price"

    def _within(self, row: Object, first: str, last: str) -> Iterator[Fault]:
        # Times of one form are in the order of their texts.
        start, end = self._early.get("range_start", ""), self._early.get("effective_end", "~")
        if not start <= row[first] <= end:
            yield (first,), "within"
        elif not row[first] <= row[last] <= end:
            yield (last,), "within"

    def _keep_time(self, row: Object, index: int) -> None:
        if self._timed is None:
            return
        times = (index, row["first_active"], row["last_active"], row["agent_minutes"])
        self._timed[row["session_id"]] = times
        if len(self._timed) > MAX_SESSIONS:
            self._timed = None

    def _remember(self, row: Object) -> Iterator[Fault]:
        if not self._has_names:
            return
        self._labels.add(row["project"])
        self._models.update(row["models"] or ())
        for field, shares in self._shares.items():
            if row[field] not in shares:
                shares[row[field]] = _Share()
            shares[row[field]].add(row)
        if max(map(len, (self._labels, self._models, self._shares["agent"]))) > MAX_NAMES:
            self._has_names = False
            self._labels, self._models = set(), set()
            self._shares = {field: {} for field in self._shares}
            yield (), "too_many_names"

    # -- an interval ----------------------------------------------------------------------------

    def further_row(self, row: Object) -> Iterator[Fault]:
        self._intervals += 1
        if row["start"] < self._last_start:
            yield ("start",), "order"
            self._concurrency = None
        self._last_start = row["start"]
        yield from self._within(row, "start", "end")
        start, end = _seconds(row["start"]), _seconds(row["end"])
        if start is None or end is None:
            self._intervals_are_whole = False
            return
        if end - start > _LONGEST_INTERVAL:
            yield ("end",), "interval"
        self._seconds += end - start
        if self._concurrency and not self._concurrency.add(start, end):
            self._concurrency = None
        self._add_to_span(row, end - start)

    def _add_to_span(self, row: Object, seconds: int) -> None:
        if self._spans is None:
            return
        span = self._spans.get(row["session_id"])
        if span is None:
            span = self._spans[row["session_id"]] = _Span(row["start"], row["end"])
        span.count += 1
        span.seconds += seconds
        span.first = min(span.first, row["start"])
        span.last = max(span.last, row["end"])
        if len(self._spans) > MAX_SESSIONS:
            self._spans = None

    # -- the head -------------------------------------------------------------------------------

    def head(self, head: Object) -> Iterator[Fault]:
        yield from super().head(head)
        yield from _range(head)
        yield from _bucket_bounds(head)
        yield from _elapsed(head)
        yield from _bucket_contents(head)
        yield from _peak(head)
        yield from _times(head)
        yield from self._totals(head)
        for field in ("by_project", "by_model", "by_agent"):
            for path, rule in _shares(head[field]):
                yield (field, *path), rule
        yield from self._by_model(head)
        if self.complete and self._has_names:
            for label in differing(head["projects"], self._labels):
                yield ("projects", label), "project_entry"
            for field, shares in self._shares.items():
                for path, rule in _shares_at_odds(head[f"by_{field}"], shares):
                    yield (f"by_{field}", *path), rule
        if "intervals" in head and self._intervals_are_whole and self.complete:
            yield from self._against_intervals(head)

    def _totals(self, head: Object) -> Iterator[Fault]:
        totals, buckets = head["totals"], head["buckets"]
        yield from ((("totals", name), "sum") for name in _unequal_splits(totals))
        sessions = {"sessions": totals["automated_sessions"] + totals["interactive_sessions"]}
        tokens = {"output_tokens": sum(bucket["output_tokens"] for bucket in buckets)}
        wrong = [name for name, value in (sessions | tokens).items() if totals[name] != value]
        wrong += [
            name
            for name in ("agent_minutes", "cost")
            if not _total(bucket[name] for bucket in buckets).meets(totals[name])
        ]
        if totals["distinct_projects"] != len(head["projects"]):
            wrong.append("distinct_projects")
        if self.complete:
            counts = {
                "sessions": self.rows,
                "untimed_sessions": self._untimed,
                "automated_sessions": self._automated,
                "output_tokens": self._tokens,
            }
            if self._has_names:
                counts["distinct_models"] = len(self._models)
            wrong += [name for name, count in counts.items() if totals[name] != count]
            wrong += [n for n, amount in self._all.sums.items() if not amount.meets(totals[n])]
        for name in dict.fromkeys(wrong):
            yield ("totals", name), "sum"

    def _by_model(self, head: Object) -> Iterator[Fault]:
        """Time without a known model is left out, and so is the cost of one named ``unknown``."""
        rows, totals, priced = head["by_model"], head["totals"], head["pricing"]["models"]
        minutes, cost = (_total(row[name] for row in rows) for name in ("agent_minutes", "cost"))
        has_too_much = not minutes.total <= totals["agent_minutes"] + minutes.slack
        if has_too_much or (_UNKNOWN not in priced and not cost.meets(totals["cost"])):
            yield ("by_model",), "share"
        knows_models = self.complete and self._has_names
        for index, row in enumerate(rows):
            if row["cost"] and row["key"] not in priced:
                yield ("by_model", index, "key"), "model_price"
            was_active = row["agent_minutes"] and knows_models
            if row["key"] == _UNKNOWN or (was_active and row["key"] not in self._models):
                yield ("by_model", index, "key"), "share"

    def _against_intervals(self, head: Object) -> Iterator[Fault]:
        if not _is_near(head["totals"]["agent_minutes"], self._seconds, self._intervals):
            yield ("totals", "agent_minutes"), "intervals"
        open_at_once = self._concurrency
        if open_at_once:
            least = max(open_at_once.least, self._intervals > 0)
            if not least <= head["peak"]["agents"] <= open_at_once.most:
                yield ("peak", "agents"), "concurrency"
        if self._timed is None or self._spans is None:
            return
        if self._spans.keys() - self._timed.keys():
            yield ("intervals",), "intervals"
        for session_id, (index, first, last, minutes) in self._timed.items():
            span = self._spans.get(session_id)
            told = {
                "timing_quality": span is not None,
                "first_active": span is None or span.first == first,
                "last_active": span is None or span.last == last,
                "agent_minutes": span is None or _is_near(minutes, span.seconds, span.count),
            }
            yield from ((("by_session", index, n), "intervals") for n, ok in told.items() if not ok)


# -- the range ----------------------------------------------------------------------------------


def _seconds(text: str) -> int | None:
    """A time as whole seconds; None where the calendar has no such time."""
    ns = parse_strict_ns(text)
    return None if ns is None else ns // NS


def _range(head: Object) -> Iterator[Fault]:
    start, end, effective_end = (
        _seconds(head[name]) for name in ("range_start", "range_end", "effective_end")
    )
    if start is None or end is None or not 0 <= end - start <= _LONGEST_SECONDS:
        yield ("range_end",), "range"
    elif effective_end is None or not start <= effective_end <= end:
        yield ("effective_end",), "range"
    if not head["partial"] and head["effective_end"] != head["range_end"]:
        yield ("effective_end",), "range"
    if head["as_of"] != (head["effective_end"] if head["partial"] else None):
        yield ("as_of",), "range"


def _bucket_bounds(head: Object) -> Iterator[Fault]:
    buckets, seconds = head["buckets"], head["bucket_seconds"]
    if (head["bucket_unit"], seconds) not in UNITS.values():
        yield ("bucket_seconds",), "buckets"
    if head["bucket_count"] != len(buckets):
        yield ("bucket_count",), "buckets"
    place = head["range_start"]
    for index, bucket in enumerate(buckets):
        if bucket["start"] != place:
            yield ("buckets", index, "start"), "buckets"
        elif not _is_good_length(head, index):
            yield ("buckets", index, "end"), "buckets"
        place = bucket["end"]
    if place != head["range_end"]:
        yield ("buckets",), "buckets"


def _is_good_length(head: Object, index: int) -> bool:
    """The range cuts the last bucket, and the first where they follow the local calendar."""
    start, end = (_seconds(head["buckets"][index][name]) for name in ("start", "end"))
    if start is None or end is None:
        return False
    unit, seconds = head["bucket_unit"], head["bucket_seconds"]
    is_local = unit in ("day", "week")
    # The clocks of most zones make some days longer or shorter, and which ones is not told.
    spare = _DAY_SECONDS if is_local and head["timezone"] != "UTC" else 0
    is_cut = index == len(head["buckets"]) - 1 or (is_local and index == 0)
    least = 0 if is_cut else max(1, seconds - spare)
    return bool(least <= end - start <= seconds + spare)


def _elapsed(head: Object) -> Iterator[Fault]:
    """Where a bucket starts in the last second of the data, either may be true."""
    buckets, elapsed, end = head["buckets"], head["elapsed_bucket_count"], head["effective_end"]
    least = sum(bucket["start"] < end for bucket in buckets)
    most = sum(bucket["start"] <= end for bucket in buckets)
    if not least <= elapsed <= most or not (head["partial"] or elapsed == len(buckets)):
        yield ("elapsed_bucket_count",), "elapsed"
        return
    for index in range(elapsed, len(buckets)):
        if any(buckets[index][n] for n in ("max_agents", "agent_minutes", "output_tokens", "cost")):
            yield ("buckets", index), "elapsed"


def _bucket_contents(head: Object) -> Iterator[Fault]:
    for index, bucket in enumerate(head["buckets"]):
        agents, minutes = bucket["max_agents"], bucket["agent_minutes"]
        if agents != bucket["automated_at_peak"] + bucket["interactive_at_peak"]:
            yield ("buckets", index, "max_agents"), "bucket_split"
        start, end = _seconds(bucket["start"]), _seconds(bucket["end"])
        if start is None or end is None:
            continue
        if (minutes > 0) != (agents > 0) or minutes * 60 > agents * (end - start + 1):
            yield ("buckets", index, "agent_minutes"), "concurrency"


def _peak(head: Object) -> Iterator[Fault]:
    peak, buckets = head["peak"], head["buckets"]
    top = max(buckets, key=lambda bucket: bucket["max_agents"], default=None)
    if peak["agents"] != (top["max_agents"] if top else 0):
        yield ("peak", "agents"), "peak"
    elif not peak["agents"]:
        if peak["at"] is not None:
            yield ("peak", "at"), "peak"
    elif top and (peak["at"] is None or not top["start"] <= peak["at"] <= top["end"]):
        yield ("peak", "at"), "peak"


def _times(head: Object) -> Iterator[Fault]:
    totals = head["totals"]
    active, idle, agents = (
        totals[name] for name in ("active_minutes", "idle_minutes", "agent_minutes")
    )
    start, end = _seconds(head["range_start"]), _seconds(head["effective_end"])
    if start is not None and end is not None and not _is_near(active + idle, end - start, 1):
        yield ("totals", "idle_minutes"), "idle"
    slack = TOLERANCE * max(1.0, agents)
    if not active <= agents + slack or not agents <= head["peak"]["agents"] * active + slack:
        yield ("totals", "active_minutes"), "concurrency"


# -- breakdowns ---------------------------------------------------------------------------------


def _shares(rows: list[Object]) -> Iterator[Fault]:
    """Of one breakdown by itself: order, names, and that every row says something."""
    for index, (one, following) in enumerate(pairwise(rows), 1):
        places = [(-row["agent_minutes"], row["key"]) for row in (one, following)]
        is_exact = one["agent_minutes"] <= _MOST_EXACT_MINUTES
        if places[0] >= places[1] and (is_exact or places[0][0] > places[1][0]):
            yield (index,), "order"
    if len({row["key"] for row in rows}) < len(rows):
        yield (), "share"
    for index, row in enumerate(rows):
        if not row["agent_minutes"] and not row["cost"]:
            yield (index,), "share"
        yield from (((index, name), "sum") for name in _unequal_splits(row))


def _shares_at_odds(rows: list[Object], shares: Mapping[str, _Share]) -> Iterator[Fault]:
    """Against the sessions: the names, and each of the amounts."""
    named = {row["key"] for row in rows}
    if any(share.says_something for key, share in shares.items() if key and key not in named):
        yield (), "share"
    for index, row in enumerate(rows):
        share = shares.get(row["key"])
        if share is None:
            yield (index, "key"), "share"
            continue
        wrong = [name for name, amount in share.sums.items() if not amount.meets(row[name])]
        yield from (((index, name), "share") for name in wrong)


def _unequal_splits(row: Object) -> list[str]:
    """The totals that are not what automated and interactive sessions make."""
    return [
        whole
        for whole, (automated, interactive) in _SPLITS.items()
        if not _total((row[automated], row[interactive])).meets(row[whole])
    ]


# -- numbers ------------------------------------------------------------------------------------


def _total(values: Iterable[float]) -> Sum:
    whole = Sum()
    for value in values:
        whole.add(value)
    return whole


def _is_near(minutes: float, seconds: int, count: int) -> bool:
    """Whether minutes may be the length of so many stretches whose ends lost their fractions."""
    return abs(minutes * 60 - seconds) <= count or same_amount(minutes, seconds / 60)


def _live(ends: list[int], start: int, end: int) -> int:
    """How many are open once one more begins; ``ends`` is a heap of those that were."""
    while ends and ends[0] <= start:
        heappop(ends)
    heappush(ends, end)
    return len(ends)
