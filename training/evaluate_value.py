"""How good predicted amounts are: do they rank spenders, and do they add up? Intervals as in `evaluate`, over customers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from features.errors import NoUsableData
from training.evaluate import Floats, Interval, Ints, bootstrap, customer_numbers, interval_of

DECILES = 10


def evaluate_value(y: ArrayLike, p: ArrayLike, users: ArrayLike, *, seed: int, resamples: int = 400) -> dict[str, Interval]:
    """gini, decile_mape, sum_ratio, mae, share_top_10 and mean_value, each as {"value", "low", "high"}; and the count of rows.

    gini: normalised: the area between the curve of spend captured by falling prediction and the diagonal, over the same
    for the best order there is; 1 is perfect, 0 is random. decile_mape: mean over ten equal groups by prediction of
    |predicted - observed| / observed sums. sum_ratio: predicted sum / observed sum. mae: mean absolute error in cents.
    share_top_10: share of all spend that the best tenth brought.

    Args:
        y: cents spent, 0 or more. p: predicted cents. users: customer of each row.

    Raises:
        NoUsableData: no row, or nobody spent anything.
    """
    spent, predicted = _checked(y, p)
    ranked = _rank(spent, predicted)
    metrics = bootstrap(lambda weights: _measure(ranked, weights), customer_numbers(users, spent), seed, resamples)
    return metrics | {"rows": interval_of(float(spent.size), [])}


def evaluate_value_difference(y: ArrayLike, p: ArrayLike, q: ArrayLike, users: ArrayLike, *, seed: int, resamples: int = 400) -> dict[str, Interval]:
    """gini, decile_mape and mae of `p` minus those of `q`, on the same resamples; above 0 favours `p` for gini only."""
    spent, first = _checked(y, p)
    _, second = _checked(y, q)
    ours, theirs = _rank(spent, first), _rank(spent, second)

    def gain(weights: Floats) -> dict[str, float] | None:
        mine, other = _measure(ours, weights), _measure(theirs, weights)
        return None if mine is None or other is None else {name: mine[name] - other[name] for name in ("gini", "decile_mape", "mae")}

    return bootstrap(gain, customer_numbers(users, spent), seed, resamples)


@dataclass(frozen=True)
class _Ranked:
    """Amounts by falling prediction (steps of equal ones) and by falling amount."""

    order: Ints
    ends: Ints
    y: Floats
    p: Floats
    best: Ints
    best_ends: Ints


def _rank(y: Floats, p: Floats) -> _Ranked:
    order, best = np.argsort(-p, kind="stable"), np.argsort(-y, kind="stable")
    return _Ranked(order, _step_ends(p[order]), y[order], p[order], best, _step_ends(y[best]))


def _step_ends(ordered: Floats) -> Ints:
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), ordered.size - 1)


def _measure(ranked: _Ranked, row_weights: Floats) -> dict[str, float] | None:
    weights = row_weights[ranked.order]
    observed, predicted = weights * ranked.y, weights * ranked.p
    if not observed.sum() > 0:
        return None
    curve = _curve(weights, observed, ranked.ends)
    best_weights = row_weights[ranked.best]
    perfect = _curve(best_weights, best_weights * np.sort(ranked.y)[::-1], ranked.best_ends)
    return {
        "gini": _area(*curve) / _area(*perfect) if _area(*perfect) > 0 else 0.0,
        "decile_mape": _decile_error(weights, observed, predicted, ranked.ends),
        "sum_ratio": float(predicted.sum() / observed.sum()),
        "mae": float(np.abs(observed - predicted).sum() / weights.sum()),
        "share_top_10": float(np.interp(0.1, *curve)),
        "mean_value": float(observed.sum() / weights.sum()),
    }


def _curve(weights: Floats, amounts: Floats, ends: Ints) -> tuple[Floats, Floats]:
    """Share of the rows -> share of the spend, from the origin."""
    rows, spend = np.cumsum(weights)[ends], np.cumsum(amounts)[ends]
    return np.append(0, rows / rows[-1]), np.append(0, spend / spend[-1])


def _area(rows: Floats, spend: Floats) -> float:
    return float(np.trapezoid(spend, rows) - 0.5)


def _decile_error(weights: Floats, observed: Floats, predicted: Floats, ends: Ints) -> float:
    """Ten groups of equal weight by prediction, a step across a border in proportion; a group in which nobody spent anything is left out."""
    rows = np.append(0, np.cumsum(weights)[ends])
    borders = np.arange(DECILES + 1) * rows[-1] / DECILES
    seen, told = (np.diff(np.interp(borders, rows, np.append(0, np.cumsum(amounts)[ends]))) for amounts in (observed, predicted))
    some = seen > 0
    return float(np.mean(np.abs(told[some] - seen[some]) / seen[some]))


def _checked(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats]:
    spent, predicted = np.asarray(y, dtype=float), np.asarray(p, dtype=float)
    if spent.ndim != 1 or spent.shape != predicted.shape:
        raise ValueError(f"Amounts and predictions must be two lists of one length; their shapes are {spent.shape} and {predicted.shape}.")
    if not (np.isfinite(spent).all() and np.isfinite(predicted).all() and (spent >= 0).all()):
        raise ValueError("Amounts must be finite and 0 or more, predictions finite.")
    if not spent.any():
        raise NoUsableData(f"Of {spent.size} rows to evaluate none spent anything. Choose another cutoff or a longer horizon.")
    return spent, predicted
