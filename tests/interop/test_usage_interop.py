"""``usage daily`` says what ``agentsview usage daily`` says of the same archive.

Both run with ``--offline``: without it the origin needs a server, and asks the network for prices.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.archives.builder import SqliteArchive
from tests.interop.compare import COST_TOLERANCE
from tests.interop.origin import Origin, Result
from tests.interop.ours import Ours, Pair

#: Running sums of doubles in the origin, exact decimals here.
AMOUNTS = ("totalCost", "cost", "cacheSavings", "copilotAICredits")
ZONES = (
    *("UTC", "Asia/Tokyo", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"),
    *("Pacific/Kiritimati", "Pacific/Pago_Pago", "Australia/Lord_Howe", "CET", "Etc/GMT+5"),
)
WINDOWS = (
    ("--all",),
    ("--since", "2026-03-04"),
    ("--since", "2026-03-04", "--until", "2026-03-04"),
    ("--since", "2026-03-02", "--until", "2026-03-06"),
    ("--until", "2026-03-06", "--since", "2d"),
    ("--until", "2026-03-05", "--since", "30h"),
    ("--all", "--since", "2026-03-05"),
    ("--since", "1700-01-01"),
    ("--since", "2026-03-05", "--until", "2026-03-05", "--all"),
    ("--since", "+09000d"),
    ("--since=2026-03-04", "--all=false"),
    (),
)
AGENTS = (
    *("claude", "codex", "cursor", "claude,codex", "claude, codex", "claude,cursor"),
    *("claude , cursor ", ",", " ", "nobody", "Claude", ""),
)
REFUSED = (
    *(("--since", text) for text in ("7x", "0d", "-1d", "1D", " 1d", "2026-02-30", "2026-3-4")),
    *(("--until", text) for text in ("soon", "0h", "1.5d", "20260304")),
    ("--since", "2026-06-10", "--until", "2026-06-09"),
    ("--until", "2d", "--since", "2030-01-01"),
    *(("--timezone", name) for name in ("Mars/Base", "europe/berlin", "EST7", "../UTC", "+02:00")),
    ("--format", "xml"),
    ("--format", "JSON"),
    ("positional",),
    ("--no-such-flag",),
    ("--all=maybe",),
)


def compare(ours: Any, theirs: Any, path: str = "$") -> Iterator[str]:
    """Every difference, with its path; the order of keys and of entries counts."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(ours) != list(theirs):
            yield f"{path}: ours has {list(ours)}, theirs {list(theirs)}"
        for key in ours.keys() & theirs.keys():
            yield from compare(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from compare(one, other, f"{path}[{index}]")
    elif path.rpartition(".")[2] in AMOUNTS:
        if abs(ours - theirs) > COST_TOLERANCE:
            yield f"{path}: ours {ours}, theirs {theirs}"
    elif ours != theirs:
        yield f"{path}: ours {json.dumps(ours)[:300]}, theirs {json.dumps(theirs)[:300]}"


def daily(pair: Pair, *flags: str) -> tuple[Result, Result]:
    """Both programs' answers to the same flags."""
    asked = ("usage", "daily", "--offline", *flags)
    return pair.ours.run(*asked), pair.origin.run(*asked)


def assert_same(pair: Pair, *flags: str) -> None:
    """Both succeeded, without a word on standard error, and say the same in JSON."""
    ours, theirs = daily(pair, "--json", *flags)
    assert (ours.exit, ours.stderr) == (theirs.exit, theirs.stderr) == (0, "")
    differences = list(compare(json.loads(ours.stdout), json.loads(theirs.stdout)))
    assert not differences, "\n".join(differences[:20])


@pytest.mark.parametrize("zone", ZONES)
def test_every_zone_cuts_the_same_dates(widened: Pair, zone: str) -> None:
    """The same sums on the same dates, by model, project and agent."""
    assert_same(widened, "--all", "--breakdown", "--timezone", zone)


@pytest.mark.parametrize("window", WINDOWS, ids=" ".join)
def test_every_window_is_the_same(widened: Pair, window: tuple[str, ...]) -> None:
    """The same dates are in, and duplicates are looked for among them alone."""
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        assert_same(widened, *window, "--breakdown", "--timezone", zone)


@pytest.mark.parametrize("agents", AGENTS)
def test_agents_select_the_same(widened: Pair, agents: str) -> None:
    """Names as they stand, but for billing lines."""
    assert_same(widened, "--all", "--breakdown", "--agent", agents)


def test_a_row_without_a_date_is_outside_of_any_bound(widened: Pair) -> None:
    """The origin lets an event with an empty time pass a lone upper bound; we do not."""
    ours, theirs = (
        json.loads(shown.stdout)
        for shown in daily(widened, "--json", "--until", "2026-03-04", "--timezone", "UTC")
    )
    assert theirs["daily"][0]["date"] == ""
    assert not list(compare(ours["daily"], theirs["daily"][1:]))


def test_without_breakdown_the_same_lists_are_empty(widened: Pair) -> None:
    """All else is as it was."""
    assert_same(widened, "--all")


def test_built_in_prices_count_where_none_is_stored(unpriced: Pair) -> None:
    """An archive whose price table is empty is priced by the built-in table."""
    assert_same(unpriced, "--all", "--breakdown", "--timezone", "Europe/Berlin")


@pytest.mark.parametrize("flags", [(), ("--breakdown",), ("--agent", "codex", "--format", "human")])
def test_people_see_the_same_table(widened: Pair, flags: tuple[str, ...]) -> None:
    """Byte for byte."""
    ours, theirs = daily(widened, "--all", *flags)
    assert (ours.exit, ours.stderr) == (theirs.exit, theirs.stderr) == (0, "")
    assert ours.stdout == theirs.stdout


@pytest.mark.parametrize("flags", REFUSED, ids=" ".join)
def test_what_cannot_be_meant_is_refused(widened: Pair, flags: tuple[str, ...]) -> None:
    """Exit code 1, nothing on standard output, a sentence on standard error."""
    for shown in daily(widened, "--json", *flags):
        assert (shown.exit, shown.stdout) == (1, "")
        assert shown.stderr.strip()


def test_the_statusline_is_the_same(widened: Pair) -> None:
    """Today nothing was spent in an archive of the past."""
    for flags in ((), ("--agent", "claude"), ("--agent", " a , b ")):
        asked = ("usage", "statusline", "--offline", *flags)
        assert widened.ours.run(*asked) == widened.origin.run(*asked)


# -- random archives ----------------------------------------------------------------------------

FIRST = datetime(2026, 3, 27, tzinfo=UTC)
MODELS = ("orca-large-2", "tern-mini", "grebe-nano", "claude-opus-4-6", "a<b")


def fill(archive: SqliteArchive, chance: random.Random) -> None:
    """Sessions whose responses are copied freely, around two changes of the clocks."""
    archive.add_price("orca-large-2", 3, 15, 3.75, 0.3)
    archive.add_price("tern-mini", 0.25, 1.25, 0.3, 0.025)
    for number in range(40):
        name = archive.add_session(
            f"s-{chance.randrange(1 << 30):08x}-{number}",
            project=chance.choice(("tern", "kelp", "")),
            agent=chance.choice(("claude", "codex", "copilot", "cursor")),
            # The origin counts a copy without an instant first, we last: here all have one.
            started_at=moment(chance),
            message_count=chance.choice((0, 3)),
            deleted_at=chance.choice((None,) * 9 + (moment(chance),)),
        )
        for _ in range(chance.randrange(9)):
            add_response(archive, chance, name)
        for key in range(chance.randrange(3)):
            archive.add_event(
                name,
                model=chance.choice(MODELS),
                source=chance.choice(("session", "shutdown")),
                input_tokens=chance.randrange(-5, 5_000_000),
                output_tokens=chance.choice((0, 7)),
                occurred_at=chance.choice((None, moment(chance))),
                cost_usd=chance.choice((None, 0.0, 0.1, 1.0 / 3)),
                dedup_key=chance.choice(("", str(key))),
            )
    for _ in range(9):
        archive.add_cursor_usage(
            occurred_at=moment(chance), charged_cents=chance.random() * 9, model="drift-max"
        )


def add_response(archive: SqliteArchive, chance: random.Random, session: str) -> None:
    pair = chance.choice((("", ""), ("m", ""), (f"m{chance.randrange(9)}", "r")))
    archive.add_message(
        session,
        role=chance.choice(("assistant", "user")),
        model=chance.choice(MODELS),
        timestamp=chance.choice((None, *(moment(chance) for _ in range(9)))),
        token_usage={
            "input_tokens": chance.randrange(9000),
            "output_tokens": chance.choice((0, 0, chance.randrange(900))),
            "reasoning_tokens": chance.choice((0, 70)),
            "cache_creation_input_tokens": chance.choice((0, 1234)),
            "cache_read_input_tokens": chance.randrange(99_999),
        },
        claude_message_id=pair[0],
        claude_request_id=pair[1],
        source_uuid=chance.choice(("", f"u{chance.randrange(9)}")),
    )


def moment(chance: random.Random) -> str:
    """A time of five days, most of them on a quarter of an hour; whole seconds, so that the order
    of texts, which the origin goes by, is that of instants."""
    found = FIRST + timedelta(minutes=15 * chance.randrange(5 * 96))
    found += timedelta(seconds=chance.choice((0, 0, -1, 1, 443)))
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("seed", range(3))
def test_random_archives_add_up_alike(origin: Origin, ours: Ours, seed: int) -> None:
    """Whatever is copied, filtered or cut, what counts is the same."""
    with origin.build() as archive:
        fill(archive, random.Random(seed))
    ours.bring(origin.archive)
    pair = Pair(origin, ours)
    for zone in ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"):
        for window in (("--all",), ("--since", "2026-03-28", "--until", "2026-03-30")):
            assert_same(pair, *window, "--breakdown", "--timezone", zone)
    assert_same(pair, "--since", "2026-03-28", "--agent", "claude,cursor", "--breakdown")
