"""Every acceptance case of the session export has a test that bears its number."""

from __future__ import annotations

import re
from pathlib import Path

#: Which cases are where, by the subject that the file is named for.
SUBJECTS = {
    "command": range(1, 15),
    "rows": range(15, 29),
    "eligibility": range(29, 47),
    "pages": range(47, 66),
    "usage": range(66, 85),
}


def test_all_84_cases_are_there() -> None:
    """None is missing, none strayed into another file, and they stand in order."""
    for subject, cases in SUBJECTS.items():
        text = (Path(__file__).parent / f"test_sessions_{subject}.py").read_text(encoding="utf-8")
        numbers = [int(number) for number in re.findall(r"^def test_case_(\d\d)_", text, re.M)]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(cases)
    assert sum(map(len, SUBJECTS.values())) == 84
