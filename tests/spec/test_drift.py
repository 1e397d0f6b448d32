"""Drift: the population stability index on shares that can be checked in the head, and the table made of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.blend import Blend, Logistic
from training.bundle import Bundle
from training.drift import Moved, measure_drift
from training.examples import Examples
from training.pack import reference_distribution
from training.psi import distribution, psi, shares

NAMES = ("amount", "visits", "constant", "seldom")
FOUND = st.lists(st.one_of(st.floats(-1e6, 1e6), st.integers(0, 3).map(float), st.just(float("nan"))), min_size=1, max_size=60).map(np.array)


def rows(seed: int, count: int = 2000) -> Examples:
    random = np.random.default_rng(seed)
    X = np.column_stack(
        [
            random.gamma(2, 20, count),
            np.where(random.random(count) < 0.6, 0, random.poisson(3, count)),
            np.full(count, 5.0),
            np.where(random.random(count) < 0.3, np.nan, random.normal(size=count)),
        ]
    )
    return Examples(X, NAMES, np.zeros(count, np.int8), np.arange(count).astype(str).astype(object), np.full(count, date(2024, 1, 1), dtype=object))


@pytest.fixture(scope="module")
def champion() -> Bundle:
    logistic = Logistic((0, 1, 2, 3), (0.0,) * 4, (0.0,) * 4, (1.0,) * 4, (0.5, 0.1, 0.0, 0.0), -1.0)
    bundle = Bundle(NAMES, Blend(logistic), {"task": "churn", "calibrated": True}, {}, {})
    return replace(bundle, reference=reference_distribution(bundle, rows(1)))


def changed(examples: Examples, name: str, values: np.ndarray) -> Examples:
    X = examples.X.copy()
    X[:, NAMES.index(name)] = values
    return replace(examples, X=X)


def test_the_index_of_two_halves_that_became_a_quarter_and_three_quarters():
    assert psi([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.25 * log(2) + 0.25 * log(1.5))


def test_a_bin_that_emptied_or_filled_is_far_and_finite():
    assert psi([0.0, 1.0], [0.0, 1.0]) == 0
    assert psi([0.0, 1.0], [1.0, 0.0]) == pytest.approx(2 * 0.9999 * log(1e4))


@pytest.mark.parametrize(("index", "word"), [(0.0999, "stable"), (0.1, "moved"), (0.25, "moved"), (0.2501, "drifted")])
def test_the_words_are_the_customary_ones(index, word):
    assert Moved(index, None).word == word


def test_a_hundred_different_values_make_ten_tenths_and_a_bin_for_none():
    assert distribution(np.arange(100.0))["shares"] == pytest.approx([0.1] * 10 + [0])


def test_a_value_that_is_most_of_a_column_has_a_bin_of_its_own():
    # Nineteen zeros and a seven: below zero nothing, zero 95 %, above it 5 %, none missing.
    assert distribution(np.array([0.0] * 19 + [7.0]))["shares"] == [0, 0.95, 0.05, 0]


@pytest.mark.parametrize("factor", [10, 0.1])
def test_a_constant_that_changes_in_either_direction_is_noticed(factor):
    then = distribution(np.full(50, 5.0))
    assert psi(then["shares"], shares(np.full(50, 5.0), then["deciles"])) == 0
    assert psi(then["shares"], shares(np.full(50, 5.0 * factor), then["deciles"])) > 10


def test_a_column_without_any_value_has_one_bin_for_values_that_come():
    then = distribution(np.full(4, np.nan))
    assert then == {"deciles": None, "missing": 1.0, "shares": [0, 1]}
    assert shares(np.array([np.nan, 3.0]), None) == [0.5, 0.5]


@given(FOUND, FOUND)
def test_the_index_is_zero_for_the_same_rows_never_negative_and_does_not_care_for_order(then, now):
    known = distribution(then)
    assert sum(known["shares"]) == pytest.approx(1)
    assert psi(known["shares"], shares(then[::-1], known["deciles"])) == 0
    seen = shares(now, known["deciles"])
    assert sum(seen) == pytest.approx(1)
    assert psi(known["shares"], seen) == pytest.approx(psi(seen, known["shares"]))
    assert psi(known["shares"], seen) >= 0


def test_other_rows_of_the_same_shop_are_stable(champion):
    drift = measure_drift(champion, rows(2))
    assert drift.drifted == {}
    assert drift.metrics["drift.features_drifted"] == 0
    assert drift.metrics["drift.max_psi"] < 0.03
    assert drift.score.word == "stable"
    reason = drift.reason("stop")
    assert (reason.passed, reason.warning) == (True, False)


def test_a_column_times_ten_is_named_with_its_factor_and_comes_first(champion):
    today = rows(2)
    drift = measure_drift(champion, changed(today, "amount", 10 * today.column("amount")))
    assert list(drift.drifted) == ["amount"]
    assert next(iter(drift.features)) == "amount"
    assert drift.features["amount"].factor == pytest.approx(10, rel=0.1)
    assert drift.describe()["features"][0]["word"] == "drifted"
    assert "| `amount` | " in drift.table()
    stop, go_on = drift.reason("stop"), drift.reason("continue")
    assert (stop.verdict, go_on.verdict) == ("FAIL", "warn")
    assert "amount (x9.9)" in stop.text


def test_one_feature_in_twenty_that_drifts_is_in_the_table_and_stops_nothing():
    random = np.random.default_rng(0)
    names = tuple(f"x{number}" for number in range(20))
    then, now = (replace(rows(seed), X=random.normal(size=(2000, 20)), names=names) for seed in (1, 2))
    logistic = Logistic((1,), (0.0,), (0.0,), (1.0,), (1.0,), 0.0)  # the model does not look at x0
    bundle = Bundle(names, Blend(logistic), {"task": "churn", "calibrated": True}, {}, {})
    bundle = replace(bundle, reference=reference_distribution(bundle, then))
    one, two = (replace(now, X=now.X + np.where(np.isin(np.arange(20), shifted), 3, 0)) for shifted in ([0], [0, 2]))
    seen = measure_drift(bundle, one)
    assert (list(seen.drifted), seen.far, seen.reason("stop").verdict) == (["x0"], False, "pass")
    assert measure_drift(bundle, two).reason("stop").verdict == "FAIL"
    looked_at = replace(now, X=now.X + np.where(np.arange(20) == 1, 3, 0))  # one feature, but it decides the scores
    assert measure_drift(bundle, looked_at).reason("stop").verdict == "FAIL"


def test_values_that_stop_coming_are_drift(champion):
    assert list(measure_drift(champion, changed(rows(2), "amount", np.full(2000, np.nan))).drifted) == ["amount"]


def test_where_nothing_can_be_said_there_is_no_table(champion):
    assert measure_drift(champion, rows(2, count=100)) is None  # so few differ by chance
    assert measure_drift(replace(champion, reference={}), rows(2)) is None
    assert measure_drift(champion, replace(rows(2), names=("a", "b", "c", "d"))) is None


def test_a_champion_whose_feature_is_gone_is_compared_on_the_others_and_without_a_score(champion):
    drift = measure_drift(champion, replace(rows(2), names=(*NAMES[:3], "new")))
    assert set(drift.features) == set(NAMES[:3])
    assert drift.score is None
    assert "drift.score_psi" not in drift.metrics
