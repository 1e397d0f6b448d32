"""LightGBM by its C library says what its Python package says, to the bit."""

from __future__ import annotations

import gc

import lightgbm as lgb
import numpy as np
import pytest

from features.errors import BundleRefused
from training.lightgbm_c import Booster


def rows_of(number: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(number, 8))
    rows[random.random(rows.shape) < 0.2] = np.nan
    return rows


@pytest.fixture(scope="module", params=[{"objective": "binary"}, {"objective": "gamma"}, {"objective": "regression", "boost_from_average": False}], ids=str)
def trained(request: pytest.FixtureRequest) -> lgb.Booster:
    X = rows_of(2_000)
    y = (np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) > 0) + 1.0 * (request.param["objective"] == "gamma")
    settings = {**request.param, "num_leaves": 15, "num_threads": 1, "verbosity": -1, "deterministic": True}
    return lgb.train(settings, lgb.Dataset(X, label=y, params=settings), num_boost_round=30)


def test_raw_scores_and_contributions_are_those_of_the_python_package(trained):
    booster, rows = Booster(model_str=trained.model_to_string()), rows_of(500, seed=1)
    raw, shares = trained.predict(rows, raw_score=True, num_threads=1), trained.predict(rows, pred_contrib=True, num_threads=1)
    assert booster.raw(rows).tobytes() == raw.tobytes()
    assert np.concatenate([booster.raw(rows[place : place + 1]) for place in range(len(rows))]).tobytes() == raw.tobytes()
    assert booster.contributions(rows).tobytes() == shares.tobytes()
    assert np.vstack([booster.contributions(rows[place : place + 1]) for place in range(100)]).tobytes() == shares[:100].tobytes()


@pytest.mark.parametrize("make", [np.asfortranarray, lambda rows: rows[:, ::-1][:, ::-1], lambda rows: np.repeat(rows, 2, axis=0)[::2]])
def test_rows_count_as_they_read_and_not_as_they_lie_in_memory(trained, make):
    booster, rows = Booster(model_str=trained.model_to_string()), rows_of(50, seed=2)
    assert booster.raw(make(rows)).tobytes() == booster.raw(rows).tobytes()


def test_no_rows_have_no_scores(trained):
    booster = Booster(model_str=trained.model_to_string())
    assert (booster.raw(np.empty((0, 8))).shape, booster.contributions(np.empty((0, 8))).shape) == ((0,), (0, 9))


@pytest.mark.parametrize("shape", [(1, 7), (1, 9), (3, 7), (8,), (0, 1)])
def test_rows_of_another_width_are_refused_and_not_read_beyond(trained, shape):
    booster = Booster(model_str=trained.model_to_string())
    for ask in (booster.raw, booster.contributions):
        with pytest.raises(BundleRefused, match="fitted on 8 features"):
            ask(np.zeros(shape))


def test_models_are_given_back(trained):
    text = trained.model_to_string()
    for _ in range(20):
        Booster(model_str=text).raw(rows_of(1))
    gc.collect()
    resident = _resident()
    for _ in range(200):
        Booster(model_str=text).raw(rows_of(1))
    gc.collect()
    assert _resident() - resident < 5e6  # 200 models that stayed would take three times that


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
