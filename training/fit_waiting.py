"""Fitting the models of time: when the next order comes, and its baselines."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np

from training.blend import Matrix
from training.btyd import fit_bgnbd
from training.buying import Returning, history_of
from training.examples import Examples, thinned
from training.hazard import Bands, Hazard, person_periods
from training.models import TREES, Recipe

MOST_PERIODS = 600_000  # rows times steps: more only take longer
BANDS = 10
PERIOD_TREES = {**TREES, "num_leaves": 15}


def fit_hazard(rows: Examples, recipe: Recipe) -> Hazard:
    """Boosted trees on one row per example and step, the step's number beside the features."""
    rows = thinned(rows, MOST_PERIODS // len(rows.edges))
    person, step, came = person_periods(np.asarray(rows.amount), rows.edges)
    settings = PERIOD_TREES if recipe.trees else {**PERIOD_TREES, "num_leaves": 3, "min_child_samples": 20}
    data = lgb.Dataset(np.column_stack([rows.X[person], step]), label=came, params=settings).construct()
    trees = tuple(
        lgb.train({**settings, "bagging_seed": seed, "feature_fraction_seed": seed}, data, num_boost_round=recipe.trees or 60).model_to_string()
        for seed in range(max(1, recipe.seeds if recipe.trees else 1))
    )
    return Hazard(trees, rows.edges, rows.within)


def fit_bands(rows: Examples, column: str) -> Bands:
    """Kaplan-Meier by tenths of one column; all windows are over, so the curve of a band is the share still waiting."""
    values, waited = np.nan_to_num(rows.column(column), nan=np.inf), np.nan_to_num(np.asarray(rows.amount), nan=np.inf)
    finite = values[np.isfinite(values)]
    limits = np.unique(np.quantile(finite, np.linspace(0, 1, BANDS + 1)[1:-1])) if len(finite) else np.zeros(0)
    band = np.searchsorted(limits, values)
    everybody = _curve(waited, rows.edges)
    curves = [_curve(waited[band == number], rows.edges) if (band == number).any() else everybody for number in range(len(limits) + 1)]
    return Bands(tuple(float(limit) for limit in limits), tuple(curves), rows.edges, rows.within)


def fit_returning(buyers: Matrix, rows: Examples) -> Returning:
    """BG/NBD of everybody who ever bought; buyers: users x HISTORY.

    Raises:
        NoUsableData: nobody came back.
    """
    usual = tuple(float(value) for value in np.median(np.nan_to_num(buyers), axis=0))
    return Returning(fit_bgnbd(*history_of(buyers)), rows.edges, rows.within, usual)


def _curve(waited: Matrix, edges: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(float((waited >= edge).mean()) for edge in edges)
