"""Every code that the ledger may hold is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.core.runzip import NoteKind, Outcome, Reason
from exporter.jobs.remote_scrub import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "reason-codes.md").read_text("utf-8")
NEVER_A_REASON = {Reason.NO_SOURCE, Reason.MEMBER_CORRUPT, Reason.MEMBER_ENCRYPTED}


@pytest.mark.parametrize(
    "code",
    [
        *Outcome,
        *NoteKind,
        *sorted(set(Reason) - NEVER_A_REASON),
        *REASONS.values(),
        "INTERNAL",
        "RESTORED",
    ],
)
def test_a_code_is_on_its_page(code: str) -> None:
    assert f"`{code}" in PAGE
