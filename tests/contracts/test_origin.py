"""What the program that made the contract writes keeps to it as we read it, and so does ours.

Run on the archive of every odd row there is; needs agentsview, as the tests of ``interop`` do.
"""

from __future__ import annotations

import pytest

from tests.contracts.golden import look
from tests.interop.conftest import unpriced, widened
from tests.interop.flags import FEW, Case
from tests.interop.origin import program
from tests.interop.ours import Pair
from tests.interop.test_activity_interop import COMPARED

__all__ = ["unpriced", "widened"]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        program() is None, reason="agentsview is not installed: pip install 'exporter[interop]'"
    ),
]


@pytest.mark.parametrize("prices", ["widened", "unpriced"])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_no_rule_is_one_that_the_origin_breaks(
    case: Case, prices: str, request: pytest.FixtureRequest
) -> None:
    pair: Pair = request.getfixturevalue(prices)
    for side in (pair.origin, pair.ours):
        written = side.export_sessions(*case.flags)
        assert (written.exit, written.stderr) == (0, "")
        validation, findings = look(written.stdout.encode())
        assert findings == []
        assert validation.surface and validation.surface.label == "sessions v1"


#: Days with and without breakdowns, and windows that leave rows out.
DAYS = (
    ("--all", "--breakdown"),
    ("--all", "--breakdown", "--timezone", "America/New_York"),
    ("--all", "--breakdown", "--timezone", "Australia/Lord_Howe"),
    ("--all",),
    ("--since", "2026-03-02", "--until", "2026-03-06", "--breakdown"),
    ("--until", "2026-03-04", "--breakdown"),
    ("--all", "--breakdown", "--agent", "claude, cursor"),
    ("--all", "--breakdown", "--agent", "copilot,codex"),
    ("--since", "2027-01-01"),
)
#: One range of each kind: days, weeks, months with every bucket, zones, filters, odd bounds.
RANGES = (*COMPARED[3:8], *COMPARED[20:31], *COMPARED[31:47:3], *COMPARED[47:])


@pytest.mark.parametrize("prices", ["widened", "unpriced"])
@pytest.mark.parametrize("flags", DAYS, ids=" ".join)
def test_no_rule_of_days_is_one_that_the_origin_breaks(
    flags: tuple[str, ...], prices: str, request: pytest.FixtureRequest
) -> None:
    assert_no_findings(
        request.getfixturevalue(prices),
        ("usage", "daily", "--json", "--offline", *flags),
        "usage_daily v1",
    )


@pytest.mark.parametrize("flags", RANGES, ids=" ".join)
def test_no_rule_of_activity_is_one_that_the_origin_breaks(
    flags: tuple[str, ...], widened: Pair
) -> None:
    asked = ("activity", "report", "--json", "--offline", "--no-sync", *flags)
    assert_no_findings(widened, asked, "activity_report v1")


def assert_no_findings(pair: Pair, asked: tuple[str, ...], label: str) -> None:
    for side in (pair.origin, pair.ours):
        written = side.run(*asked)
        assert written.exit == 0, written.stderr
        validation, findings = look(written.stdout.encode())
        assert findings == []
        assert validation.surface and validation.surface.label == label
