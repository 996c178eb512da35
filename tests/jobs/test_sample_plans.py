"""The sample plans of the demo are what they say they are."""

from __future__ import annotations

from exporter.artifacts import store
from exporter.core import runzip
from tests.archives import sample_plans
from tests.jobs.plans import Plans


def test_each_sample_becomes_what_it_was_made_for(plans: Plans) -> None:
    for _ in range(2):
        with plans.opened() as conn:
            ids = sample_plans.store(conn)
        summary = plans.run()
        assert summary.tally.rows == len(ids)
        for plan, sample in zip(ids, sample_plans.samples(), strict=True):
            _, outcome, reason, _ = plans.item(plan)
            assert (reason or outcome) == sample.expected, sample.name
        with plans.opened() as conn:
            assert store.verify(conn)[1] == []


def test_samples_are_the_same_each_time() -> None:
    assert list(sample_plans.samples()) == list(sample_plans.samples())


def test_the_log_of_a_sample_adds_up_to_its_overview() -> None:
    usage = runzip.LogUsage()
    usage.feed(sample_plans.log_of(4))
    found = usage.finish()
    assert found is not None
    written = runzip.parse_overview(sample_plans.overview_of(4))
    assert written is not None
    assert found["total_cost"] == written["total_cost"]
    assert found["total_output_tokens"] == written["total_output_tokens"]
