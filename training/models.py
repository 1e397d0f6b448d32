"""Fitting: the blend of a clipped, strongly regularised logistic and shallow boosted trees, calibrated by Platt.

The recipe is the most robust of those tried on real shops (see DECISIONS.md): within .0015 AUC of the best method in
twelve of fifteen settings, with nothing to tune.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import joblib
import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from training.blend import Blend, Logistic, Matrix, Vector, signed_log, standardise

Labels = npt.NDArray[np.int8]

TREES = {
    "objective": "binary",
    "learning_rate": 0.04,
    "num_leaves": 7,
    "min_child_samples": 100,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # one thread a model, several models at once: the same bytes on any machine size
    "verbosity": -1,
}


@dataclass(frozen=True)
class Recipe:
    """How to fit.

    trees: number of boosting rounds; 0: a logistic alone. seeds: tree models whose logits are averaged.
    folds: customer-grouped folds whose out-of-fold scores fit the calibration; 0: no calibration.
    """

    trees: int = 200
    seeds: int = 3
    folds: int = 3


def fit(X: Matrix, y: Labels, groups: npt.NDArray[np.object_], recipe: Recipe) -> Blend:
    """Fit the blend and calibrate it on scores of customers it has not seen.

    Args:
        X: rows x features, NaN for no value. y: 0 or 1. groups: the customer of each row.
    """
    folds = fold_of(groups, recipe.folds) if recipe.folds else np.zeros(len(y), dtype=np.int64)
    fits = [np.ones(len(y), dtype=bool)] + [folds != fold for fold in range(recipe.folds)]
    seeds = range(recipe.seeds if recipe.trees else 0)
    logistics = [fit_logistic(X[rows], y[rows]) for rows in fits]
    trees = joblib.Parallel(n_jobs=-1, prefer="threads")(joblib.delayed(fit_trees)(X[rows], y[rows], recipe.trees, seeds) for rows in fits)
    blends = [Blend(logistic, texts) for logistic, texts in zip(logistics, trees, strict=True)]
    if not recipe.folds:
        return blends[0]
    unseen = np.zeros(len(y))
    for fold, blend in enumerate(blends[1:]):
        unseen[folds == fold] = blend.raw(X[folds == fold])
    return replace(blends[0], platt=fit_platt(unseen, y))


def fit_logistic(X: Matrix, y: Labels) -> Logistic:
    """A logistic on all columns, prepared as `blend.standardise` does."""
    places, values = tuple(range(X.shape[1])), np.asfortranarray(X)  # sums along a column are most exact when it lies together
    empty = np.isnan(values).all(axis=0)
    median = np.zeros(len(places))
    median[~empty] = np.nanmedian(values[:, ~empty], axis=0)
    logged = signed_log(values, list(median))
    mean, deviation = logged.mean(axis=0), logged.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    # Few rows or many columns call for more restraint.
    strength = 0.003 if len(y) < 5_000 or len(places) > 60 else 0.03
    if len(places) <= 5:
        strength = 1.0  # a rule of a few columns needs none
    with threadpool_limits(1):
        model = LogisticRegression(C=strength, max_iter=500, tol=1e-6).fit(standardise(values, list(median), list(mean), list(scale)), y)
    return Logistic(places, _floats(median), _floats(mean), _floats(scale), _floats(model.coef_[0]), float(model.intercept_[0]))


def fit_trees(X: Matrix, y: Labels, rounds: int, seeds: Sequence[int]) -> tuple[str, ...]:
    """Shallow boosted trees as LightGBM's text, one model per seed, over one binning of the features."""
    if not seeds:
        return ()
    data = lgb.Dataset(X, label=y, params=TREES).construct()
    boosters = (lgb.train({**TREES, "bagging_seed": seed, "feature_fraction_seed": seed}, data, num_boost_round=rounds) for seed in seeds)
    return tuple(str(booster.model_to_string()) for booster in boosters)


def fit_platt(logits: Vector, y: Labels) -> tuple[float, float]:
    """Slope and offset of the log-odds (Platt 1999), fitted on rows that the model has not seen."""
    with threadpool_limits(1):
        line = LogisticRegression(C=1e6).fit(logits[:, None], y)
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def fold_of(groups: npt.NDArray[np.object_], folds: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """A fold per row such that all rows of a customer share it, balanced over customers."""
    customers, position = np.unique(groups.astype(str), return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(customers))
    return shuffled[position] % folds


def _floats(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
