"""How good a model is: ranking, calibration and lift, each with an interval that respects customers.

Several rows of one customer (one per cutoff) are not independent, so the intervals come from a bootstrap that draws
whole customers with replacement: a customer drawn twice counts with weight two (Field and Welsh 2007, "Bootstrapping
clustered data", JRSS B 69(3)). Intervals are 95 % percentile intervals; everything returned is a plain dict or frame.

Rows of equal score are never put into an order they do not have: they are one step of every curve and share one
calibration bin. So the row order of the input changes nothing, and a constant score has AUC 0.5 and lift 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from features.errors import NoUsableData

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.intp]
Interval: TypeAlias = dict[str, float | None]

LIFTS = {"lift_5": 0.05, "lift_10": 0.10, "lift_20": 0.20}
"""Metric name -> share of the rows that counts as the top."""

PROBABILITY_METRICS = ("log_loss", "brier", "ece", "ece_floor", "mean_bias")
"""Metrics that mean nothing for a score that is not a probability."""

METRICS = ("auc", "average_precision", *PROBABILITY_METRICS, *LIFTS, "lift_quality", "positives", "rows", "base_rate")
DIFFERENCES = ("auc", "average_precision", "log_loss", "brier", "lift_10")

GRADES = ((20.0, "poor"), (40.0, "fair"), (60.0, "good"))
BINS = 15
FLOOR_DRAWS = 100
Z_95 = 1.959963984540054


def evaluate(y: ArrayLike, p: ArrayLike, users: ArrayLike, *, seed: int, resamples: int = 400, calibrated: bool = True) -> dict[str, Interval]:
    """Every metric of `METRICS` as {"value", "low", "high"}.

    `y` 0 or 1, `p` probabilities (any finite score with `calibrated=False`, which leaves `PROBABILITY_METRICS` out),
    `users` the customer of each row: three arrays of one length. `positives` and `rows` are counts without interval.
    The interval of `ece_floor` is the range of its simulation; that of `ece` leans upwards, because a resample is
    noisier than the data. An interval is None for one customer alone, or if under half of the resamples hold both outcomes.

    Raises NoUsableData without rows or with only one outcome, ValueError for arrays that break these rules.
    """
    outcome, score = _checked(y, p, calibrated=calibrated)
    ranked = _rank(outcome, score)
    metrics = bootstrap(lambda weights: _measure(ranked, weights, calibrated), customer_numbers(users, outcome), seed, resamples)
    metrics |= {"positives": interval_of(outcome.sum(), []), "rows": interval_of(outcome.size, [])}
    if calibrated:
        floor = _floor_draws(ranked, seed)
        metrics["ece_floor"] = interval_of(float(np.mean(floor)), floor)
    return {name: metrics[name] for name in METRICS if name in metrics}


def evaluate_difference(
    y: ArrayLike, p: ArrayLike, q: ArrayLike, users: ArrayLike, *, seed: int, resamples: int = 400, calibrated: bool = True
) -> dict[str, Interval]:
    """Each metric of `DIFFERENCES` for `p` minus the same for `q`, both measured on the same resamples.

    Above 0 favours `p`, except for log_loss and brier. Set `calibrated=False` if either is not a probability.
    Inputs and errors are those of `evaluate`.
    """
    outcome, first = _checked(y, p, calibrated=calibrated)
    _, second = _checked(y, q, calibrated=calibrated)
    ours, theirs = _rank(outcome, first), _rank(outcome, second)

    def gain(weights: Floats) -> dict[str, float] | None:
        mine, other = _measure(ours, weights, calibrated), _measure(theirs, weights, calibrated)
        return None if mine is None or other is None else {name: mine[name] - other[name] for name in DIFFERENCES if name in mine}

    return bootstrap(gain, customer_numbers(users, outcome), seed, resamples)


def ece_floor(p: ArrayLike, seed: int) -> float:
    """Mean expected calibration error of a perfectly calibrated model with these probabilities, over 100 simulations.

    Even true probabilities miss the observed rate of a finite bin, so an error is judged against this floor, not
    against 0. Outcomes are drawn as independent Bernoulli(p); customers with several rows make the true floor higher.
    """
    _, score = _checked(np.zeros(np.size(p)), p, calibrated=True)
    return float(np.mean(_floor_draws(_rank(np.zeros_like(score), score), seed)))


def promised(p: ArrayLike, seed: int, draws: int = FLOOR_DRAWS) -> dict[str, Interval]:
    """What probabilities promise of themselves: every metric if each of them is true, as the mean and 95 % range over simulated outcomes.

    The ECE among them is the floor. Outcomes are drawn as independent Bernoulli(p). Raises NoUsableData when they hardly ever hold both outcomes.
    """
    _, score = _checked(np.zeros(np.size(p)), p, calibrated=True)
    random, ones = np.random.default_rng(seed), np.ones(score.size)
    drawn = (_measure(_rank((random.random(score.size) < score).astype(float), score), ones, True) for _ in range(draws))
    usable = [sample for sample in drawn if sample is not None]
    if 2 * len(usable) < draws:
        raise NoUsableData(f"The {score.size} probabilities promise one outcome for all, so there is nothing to rank.")
    told = {name: [sample[name] for sample in usable] for name in usable[0]}
    return {name: interval_of(float(np.mean(values)), values) for name, values in told.items()}


def calibration_table(y: ArrayLike, p: ArrayLike, bins: int = BINS) -> pd.DataFrame:
    """Per equal-mass bin of rising probability: predicted (mean), observed (rate), count, low and high.

    low and high are the 95 % interval of the observed rate by Wilson (1927, JASA 22), which takes the rows of a bin
    as independent. Equal probabilities share a bin, so there can be fewer bins than asked for.
    """
    outcome, score = _checked(y, p, calibrated=True)
    ranked = _rank(outcome, score)
    number = _bin_numbers(np.diff(ranked.ends, prepend=-1).astype(float), bins)[ranked.step]
    rows = pd.DataFrame({"bin": bins - number, "predicted": ranked.p, "observed": ranked.y})
    table = rows.groupby("bin").agg(predicted=("predicted", "mean"), observed=("observed", "mean"), count=("observed", "size"))
    low, high = _wilson(table["observed"].to_numpy(float), table["count"].to_numpy(float))
    return table.assign(low=low, high=high).reset_index(drop=True)


def gains(y: ArrayLike, p: ArrayLike) -> pd.DataFrame:
    """The cumulative gains curve: rows_share, positives_share and lift, best scores first, one line per distinct score.

    It starts at the origin, where the lift is not defined (NaN). Raises NoUsableData without a positive row.
    """
    outcome, score = _checked(y, p, calibrated=False)
    if not outcome.any():
        raise NoUsableData(f"Gains need at least one positive row; all {outcome.size} rows are negative. Choose a longer window.")
    rows, positives = _steps(_rank(outcome, score), np.ones_like(outcome))
    table = pd.DataFrame({"rows_share": np.append(0, rows / rows[-1]), "positives_share": np.append(0, positives / positives[-1])})
    return table.assign(lift=table["positives_share"] / table["rows_share"])


def grade(lift_quality: float) -> str:
    """Lift quality in per cent -> poor (under 20), fair (20 to under 40), good (40 to 60) or excellent (over 60)."""
    for limit, word in GRADES:
        if lift_quality < limit or (word == "good" and lift_quality == limit):
            return word
    return "excellent"


@dataclass(frozen=True)
class _Ranked:
    """Outcomes and scores sorted by falling score; a step is a run of equal scores."""

    order: Ints  # the row that stands at each place
    step: Ints  # the step that each place belongs to
    ends: Ints  # the last place of each step
    y: Floats
    p: Floats
    log_loss: Floats  # of each place; of no meaning for a score that is not a probability


def _rank(y: Floats, p: Floats) -> _Ranked:
    order = np.argsort(-p, kind="stable")
    y, p = y[order], p[order]
    starts = np.append(True, p[1:] != p[:-1])
    kept = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    loss = -np.where(y == 1, np.log(kept), np.log1p(-kept))
    return _Ranked(order, np.cumsum(starts) - 1, np.append(np.flatnonzero(starts)[1:] - 1, p.size - 1), y, p, loss)


def _steps(ranked: _Ranked, weights: Floats) -> tuple[Floats, Floats]:
    """Cumulative weight of the rows and of the positive rows at the end of each step; `weights` as ranked."""
    return np.cumsum(weights)[ranked.ends], np.cumsum(weights * ranked.y)[ranked.ends]


def _measure(ranked: _Ranked, row_weights: Floats, calibrated: bool) -> dict[str, float] | None:
    """The metrics of one weighting of the rows, or None if only one outcome has weight."""
    weights = row_weights[ranked.order]
    rows, positives = _steps(ranked, weights)
    if not 0 < positives[-1] < rows[-1]:
        return None
    area = _auc(rows, positives)
    measured = {"auc": area, "average_precision": _average_precision(rows, positives)}
    if calibrated:
        measured |= _probability_metrics(ranked, weights, rows, positives)
    lifts = {name: _lift(rows, positives, share) for name, share in LIFTS.items()}
    # The area between the gains curve and the diagonal over that of a perfect model is the accuracy ratio, which for
    # a yes-or-no outcome is exactly 2 AUC - 1 (Engelmann, Hayden, Tasche 2003, "Testing rating accuracy", Risk 16).
    return measured | lifts | {"lift_quality": 100 * (2 * area - 1), "base_rate": float(positives[-1] / rows[-1])}


def _auc(rows: Floats, positives: Floats) -> float:
    """Share of positive-negative pairs in the right order, a tie counting half: the area under the ROC steps."""
    negatives = rows - positives
    return float(np.trapezoid(np.append(0, positives), np.append(0, negatives)) / (positives[-1] * negatives[-1]))


def _average_precision(rows: Floats, positives: Floats) -> float:
    """Precision at each step weighted by the recall it adds, without interpolation, as scikit-learn defines it."""
    precision = positives / np.maximum(rows, 1)
    return float(np.sum(np.diff(positives, prepend=0) * precision) / positives[-1])


def _lift(rows: Floats, positives: Floats, share: float) -> float:
    """Rate of positives in the top `share` of the rows over the base rate; a step cut by the border counts in proportion."""
    found = np.interp(share, np.append(0, rows / rows[-1]), np.append(0, positives / positives[-1]))
    return float(found / share)


def _probability_metrics(ranked: _Ranked, weights: Floats, rows: Floats, positives: Floats) -> dict[str, float]:
    total, error = rows[-1], ranked.p - ranked.y
    return {
        "log_loss": float(weights @ ranked.log_loss / total),
        "brier": float(weights @ error**2 / total),
        "ece": _ece(ranked, np.diff(rows, prepend=0), np.diff(positives, prepend=0)),
        "mean_bias": float(weights @ error / total),
    }


def _ece(ranked: _Ranked, mass: Floats, positives: Floats) -> float:
    """Expected calibration error: mean |predicted - observed| of equal-mass bins (Naeini et al. 2015, AAAI); per-step inputs."""
    gap = np.bincount(_bin_numbers(mass, BINS), mass * ranked.p[ranked.ends] - positives)
    return float(np.abs(gap).sum() / mass.sum())


def _bin_numbers(mass: Floats, bins: int) -> Ints:
    """Bin (from 0) of each step by where the middle of its mass lies, so that a step is never split."""
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    number: Ints = np.minimum((middle * bins).astype(np.intp), bins - 1)
    return number


def _floor_draws(ranked: _Ranked, seed: int) -> list[float]:
    """Calibration errors of simulated outcomes for which the probabilities are true."""
    random, mass = np.random.default_rng(seed), np.diff(ranked.ends, prepend=-1).astype(float)
    outcomes = ((random.random(ranked.p.size) < ranked.p).astype(float) for _ in range(FLOOR_DRAWS))
    return [_ece(ranked, mass, np.add.reduceat(y, ranked.ends + 1 - mass.astype(np.intp))) for y in outcomes]


def bootstrap(measure: Callable[[Floats], dict[str, float] | None], customers: Ints, seed: int, resamples: int) -> dict[str, Interval]:
    """`measure`, given a weight per row, on the data as they are, with the 95 % percentiles of it on resampled customers."""
    values = measure(np.ones(customers.size))
    if values is None:
        raise NoUsableData(
            f"The {customers.size} rows to evaluate all have the same outcome, so ranking is not defined. "
            "Both positives and negatives are needed: choose another cutoff, a longer horizon or a wider population."
        )
    random, count = np.random.default_rng(seed), int(customers.max()) + 1
    drawn = (np.bincount(random.integers(0, count, count), minlength=count) for _ in range(resamples))
    usable = [sample for sample in (measure(times[customers].astype(float)) for times in drawn) if sample is not None]
    enough = usable if count > 1 and 2 * len(usable) >= resamples else []
    return {name: interval_of(value, [sample[name] for sample in enough]) for name, value in values.items()}


def interval_of(value: float, draws: list[float]) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5]).tolist() if draws else (None, None)
    return {"value": float(value), "low": low, "high": high}


def _wilson(rate: Floats, count: Floats) -> tuple[Floats, Floats]:
    centre = (rate + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 * np.sqrt(rate * (1 - rate) / count + Z_95**2 / (4 * count**2)) / (1 + Z_95**2 / count)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def customer_numbers(users: ArrayLike, y: Floats) -> Ints:
    """Customer number of each row; numbered by sorted id, so that the row order does not change the resamples."""
    codes, _ = pd.factorize(np.asarray(users), sort=True)
    if codes.size != y.size or (codes < 0).any():
        raise ValueError(f"users needs an id for each of the {y.size} rows; it has {codes.size} entries, {(codes < 0).sum()} of them missing.")
    return codes.astype(np.intp)


def _checked(y: ArrayLike, p: ArrayLike, *, calibrated: bool) -> tuple[Floats, Floats]:
    """Both as float arrays of one length, after refusing what no metric is defined for."""
    outcome, score = np.asarray(y, dtype=float), np.asarray(p, dtype=float)
    if outcome.ndim != 1 or outcome.shape != score.shape:
        raise ValueError(f"Outcomes and scores must be two lists of one length; their shapes are {outcome.shape} and {score.shape}.")
    if not outcome.size:
        raise NoUsableData("There are no rows to evaluate. Choose a cutoff at which somebody is eligible.")
    if not np.isin(outcome, (0, 1)).all():
        raise ValueError(f"Outcomes must be 0 or 1; seen: {np.unique(outcome[~np.isin(outcome, (0, 1))])[:5].tolist()}.")
    if not np.isfinite(score).all():
        raise ValueError(f"Scores must be finite numbers; {(~np.isfinite(score)).sum()} of {score.size} are not.")
    if calibrated and (score.min() < 0 or score.max() > 1):
        raise ValueError(f"Probabilities lie between 0 and 1; seen {score.min():g} to {score.max():g}. For ranks pass calibrated=False.")
    return outcome, score
