"""Intervals of shares and quantiles: equal to the plain ones where these exist, and not too sure where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.intervals import quantile_interval, returned_by, share


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 60))
def test_with_nobody_censored_the_estimate_is_the_plain_share_with_its_interval(gaps: list[int], within: int) -> None:
    found = returned_by(np.array(gaps), np.ones(len(gaps), bool), [within])[0]
    plain = share(sum(gap <= within for gap in gaps), len(gaps))
    assert {name: pytest.approx(value) for name, value in plain.items()} == found


def test_when_nobody_came_back_the_interval_is_not_nothing() -> None:
    found = returned_by(np.array([40, 40, 5]), np.zeros(3, bool), [30])[0]
    assert found == share(0, 2)  # two were watched for thirty days
    assert found["high"] is not None
    assert found["high"] > 0.5


def test_the_last_one_coming_back_does_not_make_everybody_certain() -> None:
    # Of three one was lost on day 10; the other two came back on days 5 and 20, when the second was the only one watched.
    waited, followed = np.array([5, 10, 20]), np.array([True, False, True])
    early, late = returned_by(waited, followed, [19, 20])
    assert early["value"] == pytest.approx(1 / 3)
    assert late == {"value": 1.0, "low": early["low"], "high": 1.0}


def test_the_interval_of_a_quantile_is_that_of_very_many_resamples() -> None:
    random = np.random.default_rng(7)
    values = np.sort(random.gamma(2, 20, 400))
    drawn = np.sort(random.choice(values, (20_000, 400)), axis=1)[:, round(0.9 * 399)]
    low, high = quantile_interval(values, 0.9)
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), rel=0.02)
