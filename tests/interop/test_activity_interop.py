"""``activity report`` says what ``agentsview activity report`` says of the same archive.

The origin's clock cannot be set, so ranges lie in the past, but for one that has not ended. Run
without its server, the origin reads its archive only with ``--offline``, which lays the built-in
prices over the stored ones: here they are stored, so that both see the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from exporter.data import load_price_snapshot
from tests.archives.builder import SqliteArchive
from tests.interop.origin import Origin, Result
from tests.interop.ours import OursInside, Pair
from tests.interop.transcripts import write_home
from tests.interop.widen import price, widen

#: Numbers are sums of doubles in the origin and exact in ours.
TOLERANCE = 1e-9

#: Sessions whose place in time the origin reads off the text, byte by byte, and we off the instant
#: that the text means: offsets, a one-digit hour, text that is no time beside text that is one, and
#: an end within the second in which the range begins.
APART = (
    "me-mixed",
    "me-tie",
    "ti-centuries",
    "ti-early-zone-day",
    "ti-far-zone",
    "ti-instant",
    "ti-late-zone-day",
    "ti-offsets",
    "ti-one-digit-hour",
    "ti-too-far-zone",
)

MONTH = ("--preset", "month", "--date", "2026-03-04")
WEEK = ("--preset", "week", "--date", "2026-03-04")


def custom(start: str, end: str) -> tuple[str, ...]:
    return ("--preset", "custom", "--from", start, "--to", end)


COMPARED: tuple[tuple[str, ...], ...] = (
    *(("--date", f"2026-03-{day:02}") for day in range(1, 20)),
    ("--date", "1999-01-01"),
    ("--preset", "day", "--date", "2026-03-04"),
    WEEK,
    MONTH,
    ("--preset", "month", "--date", "2026-02-10"),
    *((*WEEK, "--bucket", size) for size in ("15m", "1h", "1d", "1w")),
    *((*MONTH, "--bucket", size) for size in ("1h", "1d", "1w")),
    *(
        (*preset, "--timezone", zone)
        for preset in (WEEK, MONTH, ("--date", "2026-03-08"), ("--date", "2026-03-29"))
        for zone in ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
    ),
    (*MONTH, "--bucket", "1d", "--timezone", "America/New_York"),
    (*MONTH, "--bucket", "1w", "--timezone", "Europe/Berlin"),
    (*MONTH, "--project", "tern"),
    (*MONTH, "--project", "tern,kelp"),
    (*MONTH, "--project", "nowhere"),
    (*MONTH, "--project", ""),
    (*MONTH, "--agent", "codex"),
    (*MONTH, "--agent", " claude , codex,"),
    (*MONTH, "--agent", " , "),
    (*MONTH, "--agent", "Claude"),
    (*MONTH, "--machine", "oak"),
    (*MONTH, "--machine", "elm, fir"),
    (*MONTH, "--machine", "oak", "--agent", "claude", "--project", "tern"),
    custom("2026-03-04T10:00:00Z", "2026-03-04T10:30:00Z"),
    custom("2026-03-04T10:00:00.5Z", "2026-03-04T10:07:30.250Z"),
    custom("2026-03-04T12:00:00+02:00", "2026-03-04T12:30:00+02:00"),
    (*custom("2026-03-04T10:01:00Z", "2026-03-04T10:11:00Z"), "--bucket", "5m"),
    (*custom("2026-03-01T10:01:00Z", "2026-03-14T10:11:13Z"), "--bucket", "1d"),
    (*custom("2026-03-01T10:01:00Z", "2026-03-24T10:11:13Z"), "--bucket", "1w"),
    (*custom("2025-12-01T00:00:00Z", "2026-11-01T00:00:00Z"), "--timezone", "Europe/Berlin"),
    custom("2026-03-07T12:00:00Z", "2026-03-07T12:00:01Z"),
)

REFUSED: tuple[tuple[str, ...], ...] = (
    ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"),
    ("--preset", "year"),
    ("--preset", "Day"),
    ("--preset", "year", "--date", "2026-1-1"),
    ("--date", "2026-02-30"),
    ("--preset", "custom", "--from", "2026-01-01T00:00:00Z"),
    custom("2026-01-01", "2026-01-02T00:00:00Z"),
    custom("2026-01-01T00:00:00Z", "2026-01-01t00:00:00z"),
    custom("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    custom("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
    custom("2025-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
    (*MONTH, "--bucket", "30m"),
    (*MONTH, "--bucket", "5m"),
    (*MONTH, "--timezone", "Mars/Base"),
    (*MONTH, "--timezone", "Mars/Base", "--bucket", "30m"),
)


#: Ranges that the sessions of APART lie on the edges of.
EDGES: tuple[tuple[str, ...], ...] = (
    *(("--date", f"2026-03-{day:02}") for day in (3, 4, 5, 8)),
    custom("2026-03-04T10:00:00Z", "2026-03-04T10:30:00Z"),
    custom("2026-03-04T10:00:00.5Z", "2026-03-04T10:07:30.250Z"),
)


@pytest.fixture(scope="module")
def priced(
    tmp_path_factory: pytest.TempPathFactory, make_database: Callable[[], str]
) -> Iterator[Pair]:
    """The widened archive without the sessions of APART, the built-in prices among its own."""
    home = tmp_path_factory.mktemp("priced")
    write_home(home)
    origin = Origin(home)
    try:
        origin.sync()
        with origin.build() as archive:
            widen(archive)
            price(archive)
            _store_built_in_prices(archive)
            for session_id in APART:
                archive.delete_session(session_id)
        ours = OursInside(make_database())
        ours.bring(origin.archive)
        yield Pair(origin, ours)
    finally:
        origin.stop()


def _store_built_in_prices(archive: SqliteArchive) -> None:
    for row in load_price_snapshot().rows:
        archive.execute("DELETE FROM model_pricing WHERE model_pattern = ?", [row.pattern])
        rates = (row.rates.input, row.rates.output, row.rates.cache_write, row.rates.cache_read)
        archive.add_price(row.pattern, *rates, updated_at="")


@pytest.mark.parametrize("flags", COMPARED, ids=" ".join)
def test_every_flag_selects_and_counts_the_same(priced: Pair, flags: tuple[str, ...]) -> None:
    """The same sessions, times, counts, costs and order."""
    assert_same(*_both(priced, *flags))


@pytest.mark.parametrize("flags", EDGES, ids=" ".join)
def test_only_sessions_with_odd_time_texts_are_elsewhere(
    widened: Pair, flags: tuple[str, ...]
) -> None:
    """Who is in the report differs by sessions that are known to, and only on the edges."""
    found, owed = (json.loads(x.stdout)["by_session"] for x in _both(widened, *flags))
    here, there = ({row["session_id"] for row in rows} for rows in (found, owed))
    assert here ^ there <= set(APART)


@pytest.mark.parametrize("flags", [WEEK, MONTH], ids=" ".join)
def test_built_in_prices_count_where_none_is_stored(unpriced: Pair, flags: tuple[str, ...]) -> None:
    assert_same(*_both(unpriced, *flags))


@pytest.mark.parametrize("flags", REFUSED, ids=" ".join)
def test_the_same_requests_are_refused_in_the_same_words(
    priced: Pair, flags: tuple[str, ...]
) -> None:
    """Ours begin with ``fatal:`` and may go on with what would have done."""
    ours, theirs = _both(priced, *flags)
    assert (ours.exit, ours.stdout) == (theirs.exit, theirs.stdout) == (1, "")
    said, owed = (x.stderr.partition(": ")[2].rstrip("\n") for x in (ours, theirs))
    assert said.partition("; ")[0] == owed.rstrip("\n")


def test_a_range_that_has_not_ended_is_partial_in_both(priced: Pair) -> None:
    """The present moves between the two runs: what follows from it may differ by a little."""
    flags = custom("2026-03-01T00:00:00Z", "2027-02-28T00:00:00Z")
    found, owed = (json.loads(x.stdout) for x in _both(priced, *flags))
    assert found["partial"] is owed["partial"] is True
    assert found["as_of"] == found["effective_end"]
    assert abs(found["elapsed_bucket_count"] - owed["elapsed_bucket_count"]) <= 1
    assert abs(found["totals"]["idle_minutes"] - owed["totals"]["idle_minutes"]) < 5
    for document in (found, owed):
        for name in ("as_of", "effective_end", "elapsed_bucket_count"):
            del document[name]
        del document["totals"]["idle_minutes"]
    assert list(_differences("$", found, owed)) == []


@pytest.mark.parametrize(
    "flags",
    [("--date", "2026-03-04"), MONTH, custom("2026-03-04T10:00:00Z", "2026-03-04T10:30:00Z")],
    ids=" ".join,
)
def test_people_read_the_same(priced: Pair, flags: tuple[str, ...]) -> None:
    """All but the list of sessions, whose titles we do not have."""
    ours = priced.ours.run("activity", "report", *flags)
    theirs = priced.origin.run("activity", "report", "--offline", "--no-sync", *flags)
    assert ours.exit == theirs.exit == 0
    shown, owed = (x.stdout.partition("Top sessions")[0] for x in (ours, theirs))
    assert shown == owed


def _both(pair: Pair, *flags: str) -> tuple[Result, Result]:
    ours = pair.ours.run("activity", "report", "--json", *flags)
    theirs = pair.origin.run("activity", "report", "--offline", "--no-sync", "--json", *flags)
    return ours, theirs


def assert_same(ours: Result, theirs: Result) -> None:
    assert (ours.exit, ours.stderr) == (0, "")
    assert theirs.exit == 0, theirs.stderr
    differences = list(_differences("$", json.loads(ours.stdout), json.loads(theirs.stdout)))
    assert not differences, "\n".join(differences[:20])


def _differences(path: str, ours: Any, theirs: Any) -> Iterator[str]:
    """Every difference with its path. Titles are content, which we do not store."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if list(ours) != list(theirs):
            yield f"{path}: ours has keys {list(ours)}, theirs {list(theirs)}"
            return
        for key in ours:
            if key != "title":
                yield from _differences(f"{path}.{key}", ours[key], theirs[key])
    elif isinstance(ours, list) and isinstance(theirs, list):
        if path == "$.by_session":
            theirs = sorted(theirs, key=_session_order)
        if len(ours) != len(theirs):
            yield f"{path}: ours has {len(ours)}, theirs {len(theirs)}"
        for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from _differences(f"{path}[{index}]", one, other)
    elif not _equal(ours, theirs):
        yield f"{path}: ours {json.dumps(ours)}, theirs {json.dumps(theirs)}"


def _session_order(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    """The origin leaves the order of equal times open where there are many."""
    return row["agent_minutes"] is None, -(row["agent_minutes"] or 0), row["session_id"]


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) or isinstance(theirs, float):
        numbers = isinstance(ours, int | float) and isinstance(theirs, int | float)
        return numbers and abs(ours - theirs) <= TOLERANCE
    return bool(ours == theirs and type(ours) is type(theirs))
