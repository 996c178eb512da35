"""The facts of items are explained where jobs are described."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

from exporter.jobs.snapshot_split import SnapshotSplit
from tests.core.test_runzip_builders import snapshot
from tests.jobs.plans import Plans
from tests.jobs.test_standing_logs import EARLIER, plan  # noqa: F401

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "jobs.md"


def facts(plans: Plans) -> list[dict[str, Any]]:
    with plans.opened() as conn:
        rows = conn.execute("SELECT facts FROM job_items ORDER BY item DESC").fetchall()
    return [row[0] for row in rows]


def test_each_fact_of_a_plan_is_explained(
    plans: Plans, plan: UUID  # noqa: F811
) -> None:  # fmt: skip
    plans.add(snapshot()[:-30])
    plans.run(SnapshotSplit(salvages=True))
    cut, split = facts(plans)
    assert split["log_stood"] == len(EARLIER) and "salvaged" in cut
    told = PAGE.read_text("utf-8").partition("### Facts of an item")[2].partition("\n## ")[0]
    names = set(re.findall(r"`([a-z_]+)`", told))
    assert set(split) | {"salvaged", "sqlstate", "error", "table", "project", "machine"} <= names
