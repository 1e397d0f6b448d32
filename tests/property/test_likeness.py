"""Whatever the order of the rows and the number of threads, the same people get the same bytes."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.lookalike.methods import Rules, fit_likeness, rankings
from training.lookalike.population import Population, population
from training.lookalike.recall import recall_at

NAMES = ("a", "b", "recency", "orders", "spend")
RULES = Rules("spend", ("recency", "orders", "spend"))


def people(order: np.ndarray, gaps: bool = True) -> Population:
    random = np.random.default_rng(3)
    X = random.gamma(1.0, 20.0, (400, 5))
    X[random.random(X.shape) < 0.1 * gaps] = np.nan
    ids = np.array([f"u{number}" for number in range(400)], dtype=object)
    seed = ids[np.argsort(-np.nan_to_num(X[:, 0]))[:60:2]]
    return population(X[order], NAMES, ids[order], set(seed.tolist()))


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(random: object) -> None:
    order = np.arange(400)
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = rankings(people(np.arange(400)), RULES), rankings(people(order), RULES)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    known = people(np.arange(400))
    alone = fit_likeness(known)
    with joblib.parallel_config(n_jobs=threads):
        several = fit_likeness(known)
    assert json.dumps(alone.describe()) == json.dumps(several.describe())
    assert alone.texts == several.texts


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(lambda rows: any(hit for _, hit in rows)))
def test_recall_rises_from_nothing_to_all_and_is_the_same_in_any_order(rows: list[tuple[int, bool]]) -> None:
    scores, hidden = np.array([float(score) for score, _ in rows]), np.array([hit for _, hit in rows])
    found = recall_at(scores, hidden, (0.0, 0.1, 0.5, 1.0))
    assert found[0] == 0.0
    assert found[-1] == pytest.approx(1.0)
    assert (np.diff(found) >= 0).all()
    assert np.array_equal(found, recall_at(scores[::-1], hidden[::-1], (0.0, 0.1, 0.5, 1.0)))
