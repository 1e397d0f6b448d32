"""Fitting the models of amounts: spend expected within a horizon, and its baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from training.blend import Matrix, Vector
from training.btyd import fit_bgnbd, fit_gamma_gamma
from training.buying import Worth, history_of
from training.examples import Examples
from training.models import TREES, Recipe, fit
from training.value import Rate, Value

Made = TypeVar("Made", Value, Worth)
GAMMA = {**TREES, "objective": "gamma", "num_leaves": 15, "min_child_samples": 60}


def fit_value(rows: Examples, recipe: Recipe) -> Value:
    """The chance of buying by the recipe; the amount by boosted trees with Gamma deviance on those who bought."""
    if rows.amount is None:
        raise TypeError("examples of a value need amounts")
    bought = rows.amount > 0
    buys = fit(rows.X, bought.astype(np.int8), rows.users, recipe)
    amounts = fit_amounts(rows.X[bought], rows.amount[bought], recipe)
    return at_level(Value(buys, amounts, 1.0), rows, rows.X)


def fit_amounts(X: Matrix, amount: Vector, recipe: Recipe) -> tuple[str, ...]:
    """Gamma trees as text, a model per seed; without trees in the recipe (a small shop) few rounds of stumps."""
    rounds, settings = (recipe.trees, GAMMA) if recipe.trees else (50, {**GAMMA, "num_leaves": 3, "min_child_samples": 20})
    data = lgb.Dataset(X, label=amount, params=settings).construct()
    seeds = range(max(1, recipe.seeds if recipe.trees else 1))
    return tuple(lgb.train({**settings, "bagging_seed": seed, "feature_fraction_seed": seed}, data, num_boost_round=rounds).model_to_string() for seed in seeds)


def fit_rate(rows: Examples, column: str) -> Rate:
    """As much as in the past: the column's cents, scaled to the last cutoff's sum; a small amount for who spent nothing."""
    past = rows.of((column,))
    last, amount = _last(rows), np.asarray(rows.amount)
    idle = np.nan_to_num(past[:, 0]) <= 0
    least = max(float(amount[idle].mean()) if idle.any() else 0.0, 1.0)
    known = np.maximum(np.nan_to_num(past[last, 0]), 0.0).sum()
    return Rate(max(float((amount[last].sum() - least * last.sum()) / known), 0.0) if known > 0 else 0.0, least)


def fit_worth(buyers: Matrix, horizon: int, rows: Examples, columns: tuple[str, ...]) -> Worth:
    """BG/NBD times Gamma-Gamma of everybody who ever bought, at the level of the last cutoff.

    Args:
        buyers: users x (HISTORY and mean order value in cents).

    Raises:
        NoUsableData: nobody came back.
    """
    x, tx, T = history_of(buyers[:, :3])
    usual = tuple(float(value) for value in np.median(np.nan_to_num(buyers), axis=0))
    worth = Worth(fit_bgnbd(x, tx, T), fit_gamma_gamma(x, buyers[:, 3]), horizon, 1.0, usual)
    return at_level(worth, rows, rows.of(columns))


def at_level(model: Made, rows: Examples, X: Matrix) -> Made:
    """The model with its sum scaled to what was spent after the last labelled cutoff; as it is where nobody spent anything."""
    last = _last(rows)
    told, spent = float(model.scores(X[last]).sum()), float(np.asarray(rows.amount)[last].sum())
    return replace(model, level=model.level * spent / told) if told > 0 and spent > 0 else model


def _last(rows: Examples) -> npt.NDArray[np.bool_]:
    return np.asarray(rows.as_of == max(set(rows.as_of)))
