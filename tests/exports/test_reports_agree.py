"""What both reports must say alike of the same usage."""

from __future__ import annotations

import io
import json
import signal
from contextlib import redirect_stderr, redirect_stdout
from decimal import Decimal
from typing import Any

from exporter.cli.main import run
from tests.archives.pipeline import Pipeline

DAY = "2026-03-04"
USAGE = ("usage", "daily", "--since", DAY, "--until", DAY)
ACTIVITY = ("activity", "report", "--date", DAY)


def document(world: Pipeline, *command: str) -> dict[str, Any]:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*command, "--timezone", "UTC", "--json", "--database-url", world.url])
    finally:
        signal.signal(signal.SIGTERM, before)
    out.flush()
    assert code == 0
    return dict(json.loads(out.buffer.getvalue(), parse_float=Decimal))


def costs(world: Pipeline, *flags: str) -> tuple[Any, Any]:
    """What the day cost according to either report."""
    usage, activity = (document(world, *command, *flags) for command in (USAGE, ACTIVITY))
    return usage["totals"]["totalCost"], activity["totals"]["cost"]


def test_reasoning_below_zero_lowers_no_cost(world: Pipeline) -> None:
    world.forget_prices()
    with world.source() as archive:
        archive.add_price("aurora-2", 3, 15, 3.75, 0.3)
        archive.add_event(
            archive.add_session(),
            model="aurora-2",
            input_tokens=1000,
            output_tokens=0,
            reasoning_tokens=-1000,
        )
    assert costs(world) == (Decimal("0.003"), Decimal("0.003"))


def test_built_in_prices_come_first_in_both_offline(world: Pipeline) -> None:
    world.forget_prices()
    with world.source() as archive:
        archive.add_price("claude-opus-4-6", 1, 1, 1, 1)
        session = archive.add_session()
        archive.add_event(session, model="claude-opus-4-6", input_tokens=1_000_000)
    assert costs(world) == (1, 1)
    assert costs(world, "--offline") == (5, 5)
    pricing = document(world, *ACTIVITY, "--offline")["pricing"]
    assert pricing == document(world, *USAGE, "--offline")["pricing"]
    assert pricing["fallback"]["models"] == ["claude-opus-4-6"]
