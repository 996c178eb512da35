"""The check of a document on its way out: what it lets pass, and what it tells."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from exporter.contracts.check import OutputValidator
from exporter.errors import BadInput, ContractViolation
from tests.contracts import golden

#: Stands where an archive has a name that nobody else should see.
PRIVATE = "acme-takeover-plan"


def test_what_the_program_writes_passes() -> None:
    validator = OutputValidator("sessions")
    meta, *rows = golden.LINES.splitlines(keepends=True)
    validator.meta(meta)
    for row in rows:
        validator.row(row)
    validator.head(golden.TEXT)
    validator.head(golden.encoded({**golden.document(), "sessions": []}))
    OutputValidator("cursor_reset").head((golden.RESET / "expected.json").read_bytes())


def test_a_row_is_refused_by_its_number_place_and_rule() -> None:
    validator = OutputValidator("sessions")
    row = golden.lines()[1]
    validator.row(golden.encoded(row))
    with pytest.raises(ContractViolation) as caught:
        validator.row(golden.encoded({**row, "message_count": None}))
    assert caught.value.surface == "sessions v1"
    assert "row 2 breaks type at /message_count" in str(caught.value)


def test_unknown_keys_are_refused() -> None:
    validator = OutputValidator("sessions")
    with pytest.raises(ContractViolation, match=r"breaks additionalProperties at /\*"):
        validator.row(golden.encoded({**golden.lines()[1], "extra": 1}))


def private_row(**over: Any) -> bytes:
    row = golden.lines()[1]
    usage = row["model_usage"]
    usage["by_model"][PRIVATE] = {"model": PRIVATE}
    return golden.encoded({**row, "id": PRIVATE, "project": PRIVATE, "cwd": PRIVATE, **over})


@pytest.mark.parametrize("over", [{}, {PRIVATE: 1}, {"agent": None}, {"worktree": {PRIVATE: 1}}])
def test_a_refusal_shows_no_value_and_no_name_of_a_map(over: dict[str, Any]) -> None:
    with pytest.raises(ContractViolation) as caught:
        OutputValidator("sessions").row(private_row(**over))
    assert PRIVATE not in str(caught.value)


def test_a_project_label_shows_as_a_star() -> None:
    meta = golden.lines()[0]
    meta["projects"] = {PRIVATE: {"resolution": "lost", "identity": None}}
    with pytest.raises(
        ContractViolation, match=r"meta line breaks enum at /projects/\*/resolution"
    ):
        OutputValidator("sessions").meta(golden.encoded(meta))


@pytest.mark.parametrize("text", [b"", b"{", b'{"id":NaN}', b"\xff", b"[" * 5000])
def test_text_that_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(ContractViolation, match="row 1 is not JSON"):
        OutputValidator("sessions").row(text)
    with pytest.raises(ContractViolation, match="the document is not JSON"):
        OutputValidator("sessions").head(text)


def test_unknown_surfaces_and_versions_are_refused() -> None:
    with pytest.raises(BadInput, match="'nothing' is none"):
        OutputValidator("nothing")
    with pytest.raises(BadInput, match="has no version 2"):
        OutputValidator("sessions", 2)


def test_a_surface_without_rows_has_no_rows_to_check() -> None:
    validator = OutputValidator("cursor_reset")
    with pytest.raises(ValueError, match="has no rows"):
        validator.row(b"{}")
    with pytest.raises(ValueError, match="has no meta line"):
        validator.meta(b"{}")


def test_rows_are_checked_at_the_speed_of_parsing() -> None:
    validator = OutputValidator("sessions")
    row = golden.LINES.splitlines()[1]
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(5_000):
            validator.row(row)
        best = min(best, time.process_time() - start)
    # 100,000 rows in well under a second when nothing else runs; twice that when much does.
    assert best * 20 < 2.0


def test_the_violation_is_an_error_of_the_program(tmp_path: Any) -> None:
    with pytest.raises(ContractViolation) as caught:
        OutputValidator("sessions").row(json.dumps({}).encode())
    assert (caught.value.code, int(caught.value.exit_code)) == ("contract_violation", 1)
