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
