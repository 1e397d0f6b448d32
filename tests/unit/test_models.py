"""Fitting gives the same bytes every time, and probabilities that are closer to the truth than the raw scores."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from training.blend import standardise
from training.models import Recipe, fit, fit_logistic, fit_platt, fold_of

SMALL = Recipe(trees=40, seeds=2)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X, y and customers: 500 customers with 4 rows each; two columns matter, one in a way that no line can follow."""
    random = np.random.default_rng(7)
    X = random.normal(size=(2000, 8))
    y = (random.random(2000) < sigmoid(1.5 * X[:, 0] + np.abs(2 * X[:, 1]) - 2)).astype(np.int8)
    X[random.random(X.shape) < 0.1] = np.nan
    return X, y, np.repeat([f"u{number}" for number in range(500)], 4).astype(object)


def test_two_fits_are_equal_to_the_byte(data):
    assert fit(*data, SMALL) == fit(*data, SMALL)


def test_one_thread_and_two_threads_fit_the_same_bytes(data, monkeypatch):
    fits = []
    for threads in (1, 2):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(threads))  # what joblib's n_jobs=-1 becomes
        with threadpool_limits(threads):
            fits.append(fit(*data, SMALL))
    assert fits[0] == fits[1]


def test_the_fit_does_not_change_its_input(data):
    X, y, groups = data
    before = X.copy(), y.copy()
    fit(X, y, groups, Recipe(trees=5, seeds=1))
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_platt_on_unseen_customers_improves_calibration(data):
    X, y, groups = data
    learn, unseen = np.arange(len(y)) < 1000, np.arange(len(y)) >= 1000
    parts = fit(X[learn], y[learn], groups[learn], SMALL)
    raw = parts.raw(X[unseen])
    slope, offset = parts.platt

    def log_loss(logits: np.ndarray) -> float:
        return float(-np.where(y[unseen] == 1, np.log(sigmoid(logits)), np.log(sigmoid(-logits))).mean())

    assert slope > 1.2  # shrunken towards the mean by strong regularisation, which Platt undoes
    assert log_loss(slope * raw + offset) < log_loss(raw) - 0.005


def test_platt_finds_the_line_that_was_planted():
    random = np.random.default_rng(3)
    logits = random.normal(size=20_000)
    y = (random.random(20_000) < sigmoid(2 * logits - 1)).astype(np.int8)
    assert fit_platt(logits, y) == pytest.approx((2, -1), abs=0.1)


def test_no_folds_mean_no_calibration(data):
    assert fit(*data, Recipe(trees=5, seeds=1, folds=0)).platt == (1.0, 0.0)


def test_the_blend_beats_its_logistic_where_no_line_follows(data):
    X, y, groups = data
    parts = fit(X[:1000], y[:1000], groups[:1000], SMALL)
    positive = y[1000:] == 1

    def share_in_order(scores: np.ndarray) -> float:
        return float((scores[positive][:, None] > scores[~positive][None]).mean())

    assert share_in_order(parts.raw(X[1000:])) > share_in_order(parts.logistic.logits(X[1000:])) + 0.03


# --- folds ----------------------------------------------------------------------------------------------------------


def test_rows_of_a_customer_share_a_fold_whatever_their_order(data):
    groups = data[2]
    folds = fold_of(groups, 3)
    assert all(len(set(folds[groups == customer])) == 1 for customer in set(groups))
    order = np.random.default_rng(0).permutation(len(groups))
    np.testing.assert_array_equal(fold_of(groups[order], 3), folds[order])


@pytest.mark.parametrize(("customers", "folds"), [(500, 3), (7, 3), (3, 3), (10, 5)])
def test_folds_hold_equally_many_customers(customers, folds):
    counts = np.bincount(fold_of(np.arange(customers).astype(object), folds), minlength=folds)
    assert counts.max() - counts.min() <= 1


# --- the logistic ---------------------------------------------------------------------------------------------------


def test_empty_and_constant_columns_say_nothing_and_break_nothing():
    random = np.random.default_rng(5)
    useful = random.normal(size=300)
    X = np.column_stack([np.full(300, np.nan), np.full(300, 3.0), useful, np.where(useful > 0, 0.0, np.nan)])
    logistic = fit_logistic(X, (useful > 0).astype(np.int8))
    assert np.isfinite([*logistic.median, *logistic.mean, *logistic.scale, *logistic.coef, logistic.intercept]).all()
    assert (logistic.coef[0], logistic.coef[1]) == (0, 0)
    assert logistic.coef[2] > 0
    # A value where there never was one in training changes little, and is no error.
    surprise = logistic.logits(np.array([[1e12, -1e12, np.nan, np.nan]]))
    assert np.isfinite(surprise).all()


def test_an_outlier_weighs_no_more_than_four_deviations():
    values = np.array([[1e15], [-1e15], [0.0], [np.nan]])
    assert standardise(values, [0.0], [0.0], [1.0]).ravel().tolist() == [4, -4, 0, 0]
