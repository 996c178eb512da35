"""Arithmetic of pace: batches that fit a time, waits that keep a limit, reactions to errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.pace import BatchSize, Pace, Reaction, reaction, retry_delay


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("40001", Reaction.RETRY),
        ("40P01", Reaction.RETRY),
        ("55P03", Reaction.RETRY),
        ("08006", Reaction.RECONNECT),
        ("08007", Reaction.RECONNECT),
        ("40003", Reaction.RECONNECT),
        ("57P01", Reaction.RECONNECT),
        ("57P03", Reaction.RECONNECT),
        ("53300", Reaction.RECONNECT),
        (None, Reaction.RECONNECT),
        ("57014", Reaction.SHRINK),
        ("53100", Reaction.HOLD),
        ("53200", Reaction.HOLD),
        ("22P05", Reaction.QUARANTINE),
        ("23514", Reaction.QUARANTINE),
        ("54000", Reaction.QUARANTINE),
        ("28P01", Reaction.STOP),
        ("42501", Reaction.STOP),
        ("XX000", Reaction.STOP),
    ],
)
def test_the_code_of_an_error_decides(sqlstate: str | None, expected: Reaction) -> None:
    assert reaction(sqlstate) is expected


def test_a_batch_grows_slowly_until_it_lasts_its_time() -> None:
    batch = BatchSize(largest=1000, target_seconds=2.0)
    sizes = []
    for _ in range(40):
        sizes.append(batch.rows)
        batch.took(batch.rows, batch.rows * 0.1)
    assert sizes[:4] == [1, 2, 3, 4]
    assert sizes[-1] == 20
    assert sizes == sorted(sizes)


def test_a_batch_shrinks_at_once_when_rows_become_slow() -> None:
    batch = BatchSize(largest=1000)
    for _ in range(60):
        batch.took(batch.rows, batch.rows * 0.01)
    assert batch.rows == 200
    batch.took(200, 20.0)
    assert batch.rows < 50
    before = batch.rows
    batch.shrink()
    assert batch.rows == before // 2 or batch.rows == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5)), max_size=30))
def test_a_batch_stays_within_its_bounds(work: list[tuple[int, float]]) -> None:
    batch = BatchSize(largest=77)
    for rows, seconds in work:
        batch.took(rows, seconds)
        assert 1 <= batch.rows <= 77


@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(0.001, 0.5)), min_size=5, max_size=60),
    st.floats(1, 100),
)
def test_the_rate_over_a_whole_run_keeps_its_limit(
    work: list[tuple[int, float]], limit: float
) -> None:
    pace = Pace(rows_per_second=limit)
    rows, elapsed = 0, 0.0
    for count, seconds in work:
        rows += count
        elapsed += seconds + pace.after(count, 0, seconds).seconds
    # One second's worth of credit may have been saved up.
    assert rows <= limit * (elapsed + 1) + 1e-6


def test_half_of_each_second_is_half_of_the_time() -> None:
    wait = Pace(share=0.5).after(1, 0, 3.0)
    assert (wait.seconds, wait.reason) == (3.0, "its share of each second")


def test_the_tightest_limit_gives_the_reason() -> None:
    pace = Pace(rows_per_second=100, bytes_per_second=1000)
    assert pace.after(1, 5000, 0.1).reason == "the limit on bytes"
    assert Pace().after(10, 10, 1.0).seconds == 0


def test_delays_double_and_end_somewhere() -> None:
    assert [retry_delay(n, 1.0) for n in (1, 2, 3, 20, 2000)] == [0.05, 0.1, 0.2, 5.0, 5.0]
    assert retry_delay(1, 0.0) == 0.025
