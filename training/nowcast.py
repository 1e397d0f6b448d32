"""Nowcast and season: why a model's mean probability is off on later cutoffs, and whether that can be corrected.

A correction moves the log-odds of everybody at a cutoff by a share of what a window of reference, over by then, asks of the
same model: the shift after which its mean probability there is the observed rate. That is recalibration in the large, the
intercept of a logistic regression with the model's log-odds as offset (Janssen et al. 2008, "Updating methods improved the
performance of a clinical prediction model in new patients", Journal of Clinical Epidemiology 61(1)).

* Nowcast: the window of reference is the latest one that is over at the cutoff, and the share one half, since a window shows
  its own noise as well as a level that lasts. It is an intercept correction as forecasters use it after a break in the level
  (Clements and Hendry 1996, "Intercept corrections and structural change", Journal of Applied Econometrics 11(5)).
* Season: the window of reference is the one a year earlier, in full.

Either counts only if a backtest over the test cutoffs says so, see `Correction.holds`. A nowcast that holds becomes part of
the model that is served; a season that holds explains a bias and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
from scipy.optimize import brentq

from training.blend import Blend, Vector
from training.bundle import Bundle
from training.evaluate import Interval, bootstrap, customer_numbers, evaluate
from training.examples import Examples
from training.gates import LARGEST_BIAS
from training.kinds import RESAMPLES, SEED
from training.pack import with_model

SHARE = {"nowcast": 0.5, "season": 1.0}
LEAST_CUTOFFS = 3  # of a backtest
YEAR, NEAR = timedelta(days=364), timedelta(days=15)  # 52 weeks; half of the widest spacing of cutoffs


@dataclass(frozen=True)
class Correction:
    """A correction, backtested on the test cutoffs.

    name: nowcast or season. before, after: mean probability minus observed rate, pooled. fall: by how much its absolute value
    falls, with the interval over customers. by_cutoff: cutoff -> the window of reference, shift, bias before and after.
    metrics: of the corrected probabilities. scores: these probabilities; kept in memory, never logged.
    """

    name: str
    before: float
    after: float
    fall: Interval
    by_cutoff: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Interval]
    scores: Vector

    @property
    def better(self) -> int:
        """At how many of the cutoffs the bias is smaller with it."""
        return sum(abs(told["after"]) < abs(told["before"]) for told in self.by_cutoff.values())

    @property
    def holds(self) -> bool:
        """On three or more cutoffs, the pooled bias gets smaller (surely, or at every cutoff) and is then within the gate's limit."""
        low = self.fall["low"]
        surely = low is not None and low > 0
        enough = len(self.by_cutoff) >= LEAST_CUTOFFS
        return enough and (surely or self.better == len(self.by_cutoff)) and abs(self.after) < abs(self.before) and abs(self.after) <= LARGEST_BIAS

    @property
    def text(self) -> str:
        """What the backtest says, in words."""
        low, high = self.fall["low"], self.fall["high"]
        interval = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
        cutoffs = f"smaller by {self.fall['value']:+.4f}{interval}, and at {self.better} of {len(self.by_cutoff)} cutoffs"
        return f"mean bias {self.before:+.4f} without it, {self.after:+.4f} with it; {cutoffs}"

    def describe(self) -> dict[str, Any]:
        """All of it that may be stored."""
        named = {"before": self.before, "after": self.after, "fall": self.fall, "holds": self.holds, "by_cutoff": self.by_cutoff}
        return {**named, **{name: self.metrics[name] for name in ("ece", "ece_floor")}}


def corrections(model: Bundle, train: Examples, test: Examples, horizon: int) -> tuple[Correction, ...]:
    """Both corrections of a model of probabilities that is off by more than the gate permits; those with a window for each cutoff.

    Args:
        model: fitted on `train` alone. horizon: days of a label window.
    """
    p = model.scores(test.of(model.features))
    if abs(float((p - test.y).mean())) <= LARGEST_BIAS:
        return ()
    known, cutoffs = sorted({*train.as_of, *test.as_of}), sorted(set(test.as_of))
    over = {cutoff: [day for day in known if day + timedelta(days=horizon) <= cutoff] for cutoff in cutoffs}
    year_ago = {cutoff: [day for day in days if abs(day - (cutoff - YEAR)) <= NEAR] for cutoff, days in over.items()}
    asked = {
        "nowcast": {cutoff: max(days, default=None) for cutoff, days in over.items()},
        "season": {cutoff: min(days, key=lambda day: abs(day - (cutoff - YEAR)), default=None) for cutoff, days in year_ago.items()},
    }
    shifts = {day: shift_at(model, train if day in set(train.as_of) else test, day) for windows in asked.values() for day in windows.values() if day}
    return tuple(
        backtest(name, test, p, {cutoff: (day, shifts[day]) for cutoff, day in windows.items() if day})
        for name, windows in asked.items()
        if None not in windows.values()
    )


def backtest(name: str, test: Examples, p: Vector, windows: Mapping[date, tuple[date, float]]) -> Correction:
    """Correct each test cutoff by its window of reference, and measure the bias before and after.

    Args:
        windows: test cutoff -> cutoff of the window of reference, and the shift that this window asks for.
    """
    corrected, by_cutoff = p.copy(), {}
    for cutoff, (day, asked) in windows.items():
        rows, shift = test.as_of == cutoff, SHARE[name] * asked
        corrected[rows] = _chance(_logit(p[rows]) + shift)
        bias = {when: float((values[rows] - test.y[rows]).mean()) for when, values in (("before", p), ("after", corrected))}
        by_cutoff[cutoff.isoformat()] = {"window": day.isoformat(), "shift": shift, **bias}

    def fall(weights: Vector) -> dict[str, float]:
        before, after = (abs(float(weights @ (values - test.y) / weights.sum())) for values in (p, corrected))
        return {"fall": before - after}

    users = customer_numbers(test.users, test.y.astype(np.float64))
    metrics = evaluate(test.y, corrected, test.users, seed=SEED, resamples=0)
    before, after = (float((values - test.y).mean()) for values in (p, corrected))
    return Correction(name, before, after, bootstrap(fall, users, SEED, RESAMPLES)["fall"], by_cutoff, metrics, corrected)


def nowcasted(bundle: Bundle, examples: Examples) -> Bundle:
    """The model with its level moved by half of what the latest of its own windows shows, as a fit at that day would be served.

    Args:
        examples: what it was fitted on. Having seen the window it is less surprised by it than the backtest's models, so this shift is the smaller one.
    """
    if not isinstance(bundle.model, Blend):
        raise TypeError(f"a nowcast moves the log-odds of a blend, not of a {type(bundle.model).__name__}")
    latest = max(examples.as_of)
    shift = SHARE["nowcast"] * shift_at(bundle, examples, latest)
    slope, offset = bundle.model.platt
    about = {"shift": shift, "window": latest.isoformat()}
    return with_model(bundle, replace(bundle.model, platt=(slope, offset + shift)), {"nowcast": about}, examples)


def shift_at(bundle: Bundle, examples: Examples, cutoff: date) -> float:
    """The move of the log-odds that one window asks for; half a positive and half a negative are added, so that there always is one."""
    rows = examples.take(examples.as_of == cutoff)
    return shift_to((float(rows.y.sum()) + 0.5) / (len(rows) + 1), bundle.scores(rows.of(bundle.features)))


def shift_to(rate: float, p: Vector) -> float:
    """The move of the log-odds after which these probabilities have this mean."""
    logit = _logit(p)
    return float(brentq(lambda shift: float(_chance(logit + shift).mean()) - rate, -100.0, 100.0))


def _logit(p: Any) -> Any:
    kept = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    return np.log(kept) - np.log1p(-kept)


def _chance(logit: Vector) -> Vector:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))
