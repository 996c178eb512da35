"""The golden activity report comes out of its seed again in every form, byte for byte."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from zoneinfo import ZoneInfo

from exporter.cli.activity_view import print_report
from exporter.cli.reproduce import reproducer
from tests.contracts.golden import ROOT

FOLDER = ROOT / "golden/activity_report/v1"


def test_the_activity_report_makes_its_golden_output(make_database: Callable[..., str]) -> None:
    with reproducer(make_database(migrated=False)) as reproduce:
        made = reproduce(FOLDER)
    assert made == {file.name: file.read_bytes() for file in FOLDER.glob("expected.*")}
    assert set(made) == {"expected.json", "expected.ndjson", "expected.txt"}


def test_the_golden_text_says_what_the_golden_document_says() -> None:
    document = json.loads((FOLDER / "expected.json").read_bytes())
    page = io.StringIO()
    print_report(document, document["by_session"][:5], ZoneInfo("Europe/Lisbon"), page, None)
    assert page.getvalue().encode() == (FOLDER / "expected.txt").read_bytes()
