"""How good an uplift model is: does treating by its order gain more than by chance, and than by who says yes anyway?

Everything is measured on customers that the model has not seen, in the manner of `training.evaluate`: rows of equal score
are one step of every curve; intervals are 95 % percentiles of a bootstrap that draws whole customers, here within each arm,
so that the shares of treated and control stay what they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import NoUsableData
from training.blend import Vector
from training.evaluate import Interval
from training.gates import Reason
from training.kinds import SEED
from training.trial import Assignment, Trial

Ints = npt.NDArray[np.intp]

TOPS = {"uplift_10": 0.10, "uplift_20": 0.20, "uplift_30": 0.30}
"""Metric name -> share of the rows that counts as the top."""

RESAMPLES, BINS = 400, 10
SHARES = np.linspace(0, 1, 101)  # of the rows, where curves are kept


@dataclass(frozen=True)
class HeldOut:
    """Scores of rows that the models which gave them have not seen.

    rows: positions in the trial; effect: P(yes | treated) - P(yes | control); learner: which one gave it; responses: name
    of a response model -> its score, higher first.
    """

    rows: Ints
    effect: Vector
    learner: str
    responses: Mapping[str, Vector]


@dataclass(frozen=True)
class UpliftEvidence:
    """Everything the gate, the model card and the pages say about an uplift model.

    metrics: name -> {"value", "low", "high"}; `METRICS` says what they are.
    responses: response model -> its qini, and the gain of the model's Qini over it, in the same form.
    curve: per share of the rows chosen: model with low and high, random, each response model: incremental outcomes per
    treated customer.
    calibration: per tenth of the rows by rising effect: predicted, observed with low and high, rows.
    learners: how often each was chosen.
    """

    metrics: Mapping[str, Interval]
    responses: Mapping[str, Mapping[str, Interval]]
    curve: pd.DataFrame
    calibration: pd.DataFrame
    learners: Mapping[str, int]

    def describe(self) -> dict[str, Any]:
        """All of it as plain JSON values: no row of any user."""
        tables = {"curve": self.curve, "calibration": self.calibration}
        told = {name: table.astype(object).where(table.notna(), None).to_dict("list") for name, table in tables.items()}
        return {"metrics": dict(self.metrics), "responses": dict(self.responses), "learners": dict(self.learners), **told}


METRICS = {
    "qini": "area between the model's Qini curve and the random line, per treated customer",
    **{name: f"difference of the arms' rates among the {share:.0%} of the largest predicted effect" for name, share in TOPS.items()},
    "average_effect": "difference of the arms' rates among all",
}


def qini_curve(y: npt.ArrayLike, treated: npt.ArrayLike, score: npt.ArrayLike) -> pd.DataFrame:
    """The Qini curve: share of the rows chosen and incremental outcomes per treated customer, best scores first.

    Among the chosen, the control's outcomes are scaled to as many customers as were treated and taken from the treated's;
    the difference is divided by all treated customers, so the curve ends at the average effect. One line per distinct
    score, after the origin. Source: Radcliffe 2007, "Using control groups to target on predicted lift".
    """
    ranked = _rank(y, treated, score)
    rows, incremental = _incremental(_steps(ranked, np.ones(len(ranked.y))))
    return pd.DataFrame({"share": rows / rows[-1], "incremental": incremental})


def qini(y: npt.ArrayLike, treated: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area between the Qini curve and the straight line to its end; 0 for a constant score, below 0 for a harmful order."""
    ranked = _rank(y, treated, score)
    return _area(_incremental(_steps(ranked, np.ones(len(ranked.y)))))


def gather_uplift_evidence(trial: Trial, parts: Sequence[HeldOut], *, seed: int = SEED, resamples: int = RESAMPLES) -> UpliftEvidence:
    """Measure held-out scores: each metric is its mean over the parts, and its interval the mean of theirs.

    Scores of different models are never put into one order. Models that have learned on each other's held-out customers
    err together (in two-fold cross-fitting without an effect, both halves measure the same accident), so averaging the
    parts buys no precision, and a bootstrap of the mean would be too sure of itself. The average effect needs no model:
    its interval is that of the whole trial.
    """
    measured = [_Part(trial, part) for part in parts]
    value = _measure(trial, measured, np.ones(len(trial)))
    draws: dict[str, list[Vector]] = {name: [] for name in value}
    for weights in _resampled(trial, seed, resamples):
        for name, drawn in _measure(trial, measured, weights).items():
            draws[name].append(drawn)
    low, high = ({name: _mean(_percentile(np.array(drawn), level)) for name, drawn in draws.items()} for level in (2.5, 97.5))
    rows, mean = sum(part.count for part in measured), {name: _mean(values) for name, values in value.items()}
    intervals = {name: {"value": _plain(mean[name]), "low": _plain(low[name]), "high": _plain(high[name])} for name in mean if not mean[name].ndim}
    responses = list(parts[0].responses)
    curve = {"share": SHARES, "model": mean["curve"], "low": low["curve"], "high": high["curve"], "random": SHARES * mean["curve"][-1]}
    predicted = _mean(np.array([part.predicted for part in measured]))
    deciles = {"predicted": predicted, "observed": mean["observed"], "low": low["observed"], "high": high["observed"], "rows": rows}
    learners = [part.learner for part in parts]
    return UpliftEvidence(
        metrics={name: intervals[name] for name in METRICS},
        responses={name: {"qini": intervals[f"qini {name}"], "gain": intervals[f"gain {name}"]} for name in responses},
        curve=pd.DataFrame(curve | {name: mean[f"curve {name}"] for name in responses}),
        calibration=pd.DataFrame(deciles).query("rows > 0").reset_index(drop=True),
        learners={name: learners.count(name) for name in sorted(set(learners))},
    )


def uplift_reasons(evidence: UpliftEvidence, assignment: Assignment) -> list[Reason]:
    """Treat by this model only if all of it holds: lots were drawn, and it beats chance and each response model by whole intervals."""
    return [
        *assignment.reasons,
        _above_zero("beats random targeting", "Qini x 1000", evidence.metrics["qini"]),
        *(_above_zero(f"beats the {name}", "gain in Qini x 1000", measured["gain"]) for name, measured in evidence.responses.items()),
    ]


def _above_zero(rule: str, what: str, measured: Interval) -> Reason:
    value, low, high = measured["value"], measured["low"], measured["high"]
    if value is None or low is None or high is None:
        return Reason(rule, False, f"{what} has no interval: too few customers in one arm. Wait for more outcomes")
    return Reason(rule, low > 0, f"{what} {1e3 * value:+.2f} [{1e3 * low:+.2f}, {1e3 * high:+.2f}]; its lower end must be above 0")


@dataclass(frozen=True)
class _Ranked:
    """Rows sorted by falling score; a step is a run of equal scores."""

    order: Ints  # the row that stands at each place
    ends: Ints  # the last place of each step
    y: Vector
    treated: Vector


def _rank(y: npt.ArrayLike, treated: npt.ArrayLike, score: npt.ArrayLike) -> _Ranked:
    outcome, arm, order_by = (np.asarray(values, dtype=np.float64) for values in (y, treated, score))
    if outcome.ndim != 1 or not outcome.shape == arm.shape == order_by.shape:
        raise ValueError(f"Outcomes, arms and scores must be lists of one length; their shapes are {outcome.shape}, {arm.shape} and {order_by.shape}.")
    if not np.isin(outcome, (0, 1)).all() or not np.isin(arm, (0, 1)).all() or not np.isfinite(order_by).all():
        raise ValueError("Outcomes and arms must be 0 or 1 and scores finite numbers.")
    if not 0 < arm.sum() < arm.size:
        raise NoUsableData(f"An effect needs treated and control customers; {int(arm.sum())} of {arm.size} rows are treated. Hold out a random control group.")
    order = np.argsort(-order_by, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(order_by[order])), arm.size - 1)
    return _Ranked(order, ends, outcome[order], arm[order])


def _steps(ranked: _Ranked, weights: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """Cumulative weight at the end of each step, after the origin: treated, control, treated with a yes, control with a yes."""
    chosen = weights[ranked.order]
    treated = chosen * ranked.treated
    control = chosen - treated
    sums = (np.cumsum(values)[ranked.ends] for values in (treated, control, treated * ranked.y, control * ranked.y))
    treated, control, treated_yes, control_yes = (np.append(0.0, values) for values in sums)
    return treated, control, treated_yes, control_yes


def _incremental(steps: tuple[Vector, Vector, Vector, Vector]) -> tuple[Vector, Vector]:
    """Rows chosen, and what treating them has added per treated customer of all."""
    treated, control, treated_yes, control_yes = steps
    expected = control_yes * treated / np.maximum(control, 1)  # weights are whole numbers: no control, nothing expected
    return treated + control, (treated_yes - expected) / treated[-1]


def _area(curve: tuple[Vector, Vector]) -> float:
    rows, incremental = curve
    return float(np.trapezoid(incremental, rows / rows[-1]) - incremental[-1] / 2)


def _at_shares(curve: tuple[Vector, Vector]) -> Vector:
    rows, incremental = curve
    return np.asarray(np.interp(SHARES, rows / rows[-1], incremental))


def _top(steps: tuple[Vector, Vector, Vector, Vector], share: float) -> float:
    """Difference of the arms' rates among the top; a step cut by the border counts in proportion. NaN where one arm is not there."""
    rows = steps[0] + steps[1]
    treated, control, treated_yes, control_yes = (np.interp(share * rows[-1], rows, values) for values in steps)
    return float(treated_yes / treated - control_yes / control) if treated and control else np.nan


class _Part:
    """One held-out part: its rankings and the tenth of each row by rising effect."""

    def __init__(self, trial: Trial, part: HeldOut) -> None:
        y, treated = trial.y[part.rows], trial.treated[part.rows]
        self.rows = part.rows
        self.model = _rank(y, treated, part.effect)
        self.responses = {name: _rank(y, treated, score) for name, score in part.responses.items()}
        first = np.append(-1, self.model.ends[:-1])
        middle = (first + self.model.ends + 1) / 2 / len(y)  # of a step: equal effects share a bin
        self.bin = np.repeat(np.minimum(((1 - middle) * BINS).astype(np.intp), BINS - 1), self.model.ends - first)
        self.count = np.bincount(self.bin, minlength=BINS)
        self.predicted = _over(np.bincount(self.bin, part.effect[self.model.order], minlength=BINS), self.count)

    def observed(self, weights: Vector) -> Vector:
        """Difference of the arms' rates in each bin; `weights` of the part's rows."""
        chosen, treated, yes = weights[self.model.order], self.model.treated, self.model.y
        mass = (chosen * treated, chosen * (1 - treated), chosen * treated * yes, chosen * (1 - treated) * yes)
        ours, theirs, ours_yes, theirs_yes = (np.bincount(self.bin, values, minlength=BINS) for values in mass)
        return _over(ours_yes, ours) - _over(theirs_yes, theirs)


def _measure(trial: Trial, parts: Sequence[_Part], row_weights: Vector) -> dict[str, Vector]:
    """All metrics of one weighting of the trial's rows: one entry per part, but for the average effect, which has one of the whole."""
    found: dict[str, list[Any]] = defaultdict(list)
    rates = [np.average(trial.y[arm], weights=row_weights[arm]) for arm in (trial.treated, ~trial.treated)]
    found["average_effect"].append(rates[0] - rates[1])
    for part in parts:
        weights = row_weights[part.rows]
        steps = _steps(part.model, weights)
        curve = _incremental(steps)
        found["qini"].append(_area(curve))
        found["curve"].append(_at_shares(curve))
        found["observed"].append(part.observed(weights))
        for name, share in TOPS.items():
            found[name].append(_top(steps, share))
        for name, ranked in part.responses.items():
            other = _incremental(_steps(ranked, weights))
            found[f"qini {name}"].append(_area(other))
            found[f"gain {name}"].append(_area(curve) - _area(other))
            found[f"curve {name}"].append(_at_shares(other))
    return {name: np.array(values) for name, values in found.items()}


def _over(sums: npt.NDArray[Any], counts: npt.NDArray[Any]) -> Vector:
    """The quotient; NaN where there is nothing to divide by."""
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean(values: npt.NDArray[np.float64]) -> Vector:
    """Mean over the parts in which it is defined; NaN where in none."""
    defined = np.isfinite(values)
    return np.asarray(_over(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0)))


def _resampled(trial: Trial, seed: int, resamples: int) -> Iterator[Vector]:
    """Weights of the rows when customers are drawn with replacement among those of the same arm (or of both)."""
    _, codes = np.unique(trial.users.astype(str), return_inverse=True)
    count = int(codes.max()) + 1
    arms = (np.bincount(codes[trial.treated], minlength=count) > 0) + 2 * (np.bincount(codes[~trial.treated], minlength=count) > 0)
    strata = [np.flatnonzero(arms == arm) for arm in (1, 2, 3)]
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = [members[random.integers(0, len(members), len(members))] for members in strata if len(members)]
        yield np.bincount(np.concatenate(drawn), minlength=count)[codes].astype(np.float64)


def _percentile(draws: npt.NDArray[np.float64], level: float) -> Vector:
    """Of the draws in which the metric is defined; NaN where that is under half of them."""
    enough = 2 * np.isfinite(draws).sum(axis=0) >= len(draws)
    filled = np.where(enough, draws, 0.0)
    return np.where(enough, np.nanpercentile(filled, level, axis=0), np.nan)


def _plain(value: Vector) -> float | None:
    return float(value) if np.isfinite(value) else None
