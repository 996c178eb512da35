"""``exporter jobs retry``: what it lets the next run try again, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from exporter.cli.main import run
from exporter.core.runzip import Reason
from exporter.jobs import ledger, reasons
from exporter.jobs.remote_scrub import RemoteScrub
from tests.jobs.plans import Plans
from tests.jobs.test_remote_scrub import HOST, OBSERVATIONS, add

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "reason-codes.md"


def retry(plans: Plans, reason: str, *options: str) -> int:
    url = plans.settings.database_url or ""
    return run(["jobs", "retry", reason, "--database-url", url, *options])


def statuses(plans: Plans) -> list[tuple[Any, ...]]:
    """Of each entry of the ledger: its job, state and reason."""
    with plans.opened() as conn:
        return conn.execute("SELECT job, status, reason FROM job_items ORDER BY item").fetchall()


@pytest.mark.parametrize("reason", ["UNKNOWN", "REMOTE_NOWHERE", "zip_not_zip", "LOG_METHOD", ""])
def test_a_reason_that_there_is_not_is_bad_input_and_changes_nothing(
    plans: Plans, capfd: pytest.CaptureFixture[str], reason: str
) -> None:
    plans.add(b"no zip")
    plans.run()
    before = statuses(plans)
    assert retry(plans, reason, "--json") == 2
    told = capfd.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 1
    assert f"REASON: {reason!r} is no reason code" in told.err
    assert "exporter jobs quarantine" in told.err
    assert statuses(plans) == before


@pytest.mark.parametrize("reason", ["ZIP_BOMB", "REMOTE_TOKEN", "LOG_METHOD_99", "RESTORED"])
def test_a_known_reason_that_nothing_is_in_quarantine_for_requeues_nothing(
    plans: Plans, capfd: pytest.CaptureFixture[str], reason: str
) -> None:
    assert retry(plans, reason, "--json") == 0
    assert json.loads(capfd.readouterr().out) == {"reason": reason, "requeued": 0}


def test_a_reason_of_another_version_is_retried_where_it_is_in_quarantine(plans: Plans) -> None:
    plans.add(b"no zip")
    plans.run()
    with plans.opened() as conn:
        conn.execute("UPDATE job_items SET reason = 'OF_LATER'")
    assert retry(plans, "OF_LATER") == 0
    assert statuses(plans) == [("snapshots", "pending", None)]


@pytest.fixture
def suspect(plans: Plans) -> Plans:
    """A remote that is in quarantine for its path."""
    with plans.opened() as conn:
        for statement in filter(str.strip, OBSERVATIONS.split(";")):
            conn.execute(statement.encode())
    add(plans, f"https://{HOST};")
    plans.run(RemoteScrub())
    assert statuses(plans) == [("remotes", "quarantined", "REMOTE_URL_PATH")]
    return plans


def test_remotes_are_retried_and_found_again_by_the_next_run(
    suspect: Plans, capfd: pytest.CaptureFixture[str]
) -> None:
    assert retry(suspect, "REMOTE_URL_PATH", "--json") == 0
    assert json.loads(capfd.readouterr().out)["requeued"] == 1
    assert statuses(suspect) == [("remotes", "pending", None)]
    summary = suspect.run(RemoteScrub())
    assert summary.is_finished and summary.tally.outcomes == {"QUARANTINED": 1}
    assert statuses(suspect) == [("remotes", "quarantined", "REMOTE_URL_PATH")]


def test_a_remote_that_was_mended_is_gone_after_a_retry_and_a_run(suspect: Plans) -> None:
    assert retry(suspect, "REMOTE_URL_PATH") == 0
    with suspect.opened() as conn:
        conn.execute("UPDATE theirs.project_identity_observations SET git_remote = 'x'")
    assert suspect.run(RemoteScrub()).is_finished
    assert statuses(suspect) == []
    with suspect.opened() as conn:
        assert ledger.requeue(conn, "REMOTE_URL_PATH") == 0


def test_known_reasons_are_those_that_the_reference_tells() -> None:
    told = PAGE.read_text("utf-8").partition("## Reasons")[2].partition("## Notes")[0]
    codes = re.findall(r"`([A-Z]+_?[A-Z_]*[A-Z](?:_n)?)`", told.replace("`facts`", ""))
    codes = [code.replace("_n", "_12") for code in codes if code != "SQLSTATE"]
    assert len(codes) > 20
    assert [code for code in codes if not reasons.is_known(code)] == []
    families = (Reason.LOG_METHOD, Reason.MEMBER_METHOD)
    assert all(reasons.is_known(reason) is (reason not in families) for reason in Reason)
