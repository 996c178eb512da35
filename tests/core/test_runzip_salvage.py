"""Cut archives give up their whole members, and logs the sum of their calls."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from exporter.core import runzip
from exporter.core.runzip import LIMITS, LogUsage, Refusal, parse_overview, salvage
from exporter.core.runzip.codes import Limits
from tests.core.test_runzip_builders import (
    CLEAN,
    LOG_DATA,
    LOG_NAME,
    SNAPSHOT,
    Part,
    build,
    snapshot,
)


def salvaged(data: bytes, **options: Any) -> list[tuple[str, bool, bytes]]:
    return [(found.path, found.is_log, found.body) for found in salvage(data, **options)]


def as_found(parts: tuple[Part, ...]) -> list[tuple[str, bool, bytes]]:
    return [(part.name.decode(), part.name == LOG_NAME, part.data) for part in parts]


# --- Salvage --------------------------------------------------------------------------------


def test_everything_comes_out_when_only_the_directory_is_gone() -> None:
    whole = snapshot()
    for cut in (30, 22, 1):
        assert salvaged(whole[:-cut]) == as_found(SNAPSHOT)


@pytest.mark.parametrize("method", [0, 8, 12, 14])
def test_every_known_method_is_salvaged(method: int) -> None:
    parts = (Part(b"a.txt", b"alpha" * 99, method=method), Part(LOG_NAME, LOG_DATA, method=method))
    assert salvaged(build(*parts)[:-30]) == as_found(parts)


def test_wherever_the_cut_is_only_whole_members_come_out() -> None:
    noise = random.Random(5).randbytes(400)
    parts = (Part(b"a.bin", noise), Part(LOG_NAME, LOG_DATA), Part(b"z.bin", noise[::-1]))
    whole = build(*parts)
    expected = as_found(parts)
    found = [salvaged(whole[:size]) for size in range(len(whole))]
    for some in found:
        assert some == expected[: len(some)]
    assert [len(some) for some in found] == sorted(len(some) for some in found)
    assert {len(some) for some in found} == {0, 1, 2, 3}


@pytest.mark.parametrize("layout", ["<4sIII", "<III", "<4sIQQ", "<IQQ"])
def test_members_of_a_streaming_writer_are_measured(layout: str) -> None:
    parts = (Part(LOG_NAME, LOG_DATA, descriptor=layout), Part(b"b", b"B", descriptor=layout))
    assert salvaged(build(*parts)[:-30]) == as_found(parts)


def test_a_member_that_does_not_fit_its_checksum_stays_out() -> None:
    parts = (Part(b"bad", b"bad" * 50, crc=1, local_crc=1), Part(b"good", b"good"))
    assert salvaged(build(*parts)[:-30]) == as_found(parts[1:])


def test_what_cannot_be_read_is_passed_over() -> None:
    parts = (
        Part(b"locked", b"x", flags=1), Part(b"odd", b"x", method=99), Part(b"dir/"),
        Part(b"ok", b"ok"),
    )  # fmt: skip
    assert salvaged(build(*parts)[:-30]) == as_found(parts[3:])


def test_large_members_and_bombs_are_not_unpacked() -> None:
    parts = (Part(b"big", bytes(300_000)), Part(b"small", b"s"))
    assert salvaged(build(*parts)[:-30], most=100_000) == as_found(parts[1:])
    streamed = (Part(b"big", bytes(300_000), descriptor="<4sIII"), parts[1])
    seen: list[int] = []
    assert salvaged(build(*streamed)[:-30], most=100_000, tick=seen.append) == as_found(parts[1:])
    assert sum(seen) < 800_000


def test_the_limits_end_it_early_without_an_error() -> None:
    parts = tuple(Part(b"%d" % number, b"x" * 100) for number in range(9))
    cut = build(*parts)[:-30]
    assert len(salvaged(cut, limits=Limits(members=4))) == 4
    assert len(salvaged(cut, limits=Limits(total_bytes=350))) == 3


def test_what_the_tick_raises_comes_out() -> None:
    def stop(size: int) -> None:
        raise Refusal(runzip.Reason.ZIP_BOMB, {"cpu_seconds": 120})

    with pytest.raises(Refusal):
        salvaged(snapshot()[:-30], tick=stop)


def test_any_bytes_are_survived() -> None:
    chance = random.Random(9)
    whole = snapshot()
    for _ in range(300):
        data = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(chance.randrange(6)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        salvaged(bytes(data))
    assert salvaged(b"") == salvaged(b"PK\3\4") == salvaged(b"PK\3\4" * 2000) == []


def test_the_names_of_the_log_are_known_wherever_they_are() -> None:
    parts = (Part(b"a/track_activity.jsonl", b"1"), Part(b"track_activity_w7_fallback.jsonl", b"2"))
    assert [is_log for _, is_log, _ in salvaged(build(*parts, *CLEAN)[:-30])][:2] == [True, True]


# --- Usage ----------------------------------------------------------------------------------


def event(
    kind: str = "LLMChatEndEvent", model: str | None = "m-1", provider: str | None = "Acme",
    **usage: Any,
) -> bytes:  # fmt: skip
    raw = {"model": model, "provider": provider}
    data = {"id_": "x", "response": {"raw": raw}}
    found = {"event_type": kind, "event_data": data, "token_usage": usage or None}
    return json.dumps(found).encode() + b"\n"


def derived(log: bytes, size: int = 1 << 20) -> Any:
    usage = LogUsage()
    for at in range(0, len(log), size):
        usage.feed(log[at : at + size])
    return usage.finish()


CALLS = (
    event(input_tokens=10, output_tokens=5, total_tokens=15, raw_usage_data={"cost": 0.1})
    + event("LLMChatStartEvent")
    + event("LLMStructuredPredictEndEvent", input_tokens=10, output_tokens=5)
    + event(input_tokens=7, output_tokens=None, raw_usage_data={"cost": 0.2})
    + event("LLMCompletionEndEvent", model="m-2", provider=None, input_tokens=1, output_tokens=1)
)


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_calls_are_added_up_by_model_however_the_log_arrives(size: int) -> None:
    found = derived(CALLS, size)
    assert found == {
        "derived": True,
        "total_cost": 0.3,
        "total_input_tokens": 18,
        "total_output_tokens": 6,
        "total_thinking_tokens": None,
        "total_tokens": 15,
        "models": {
            "Acme:m-1": {
                "calls": 2, "total_cost": 0.3, "input_tokens": 17, "output_tokens": 5,
                "thinking_tokens": None, "total_tokens": 15,
            },
            "m-2": {
                "calls": 1, "total_cost": None, "input_tokens": 1, "output_tokens": 1,
                "thinking_tokens": None, "total_tokens": None,
            },
        },
    }  # fmt: skip
    assert parse_overview(json.dumps(found).encode()) == found, "it is an overview like any other"


def test_a_log_without_calls_gives_no_overview() -> None:
    assert derived(b"") is None
    assert derived(LOG_DATA) is None
    assert derived(b"no json\n" + event("LLMChatStartEvent", input_tokens=1)) is None


def test_odd_lines_are_passed_over_and_odd_figures_are_unknown() -> None:
    log = (
        b'{"event_type": "LLMChatEndEvent", "torn\n[1, 2]\n"LLMChatEndEvent"\n\xff\xfe EndEvent\n'
        + event(input_tokens="12", output_tokens=-1, total_tokens=True)
        + event(input_tokens=10**400, output_tokens=3.0)
        + event(model=None, input_tokens=1)
        + event(model="a\ud800\0b", input_tokens=1).rstrip()
    )
    found = derived(log)
    assert found["models"]["Acme:m-1"]["input_tokens"] == 12
    assert found["models"]["Acme:m-1"]["output_tokens"] == 3
    assert found["models"]["Acme:m-1"]["total_tokens"] is None
    assert set(found["models"]) == {"Acme:m-1", "unknown", "Acme:ab"}
    assert found["total_cost"] is None


def test_a_line_too_long_to_keep_is_passed_over() -> None:
    usage = LogUsage()
    for _ in range(40):
        usage.feed(b"x" * (1 << 19))
    usage.feed(b"EndEvent\n" + event(input_tokens=3))
    found = usage.finish()
    assert found is not None and found["total_input_tokens"] == 3


def test_too_many_models_are_no_overview() -> None:
    log = b"".join(
        event(model=f"m{number}", input_tokens=1) for number in range(LIMITS.overview_models + 1)
    )
    assert derived(log) is None


@pytest.mark.parametrize("digits", [309, 400, 4_000])
def test_a_number_beyond_all_bounds_in_an_overview_is_unknown(digits: int) -> None:
    found = parse_overview(b'{"total_cost": 1' + b"0" * digits + b', "models": {}}')
    assert found == {"total_cost": None, "models": {}}
