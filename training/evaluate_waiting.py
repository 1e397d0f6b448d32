"""How good predicted times to an event are: curves of waiting against what happened. Intervals as in `evaluate`, over customers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from features.errors import NoUsableData
from training.evaluate import Floats, Interval, Ints, bootstrap, customer_numbers, interval_of
from training.hazard import QUANTILES, window_of

DIFFERENCES = ("integrated_brier", "restricted_mae", "c_index")


def evaluate_waiting(waited: ArrayLike, curve: ArrayLike, edges: Sequence[int], users: ArrayLike, *, seed: int, resamples: int = 400) -> dict[str, Interval]:
    """integrated_brier, restricted_mae, c_index, coverage, nominal_coverage and event_rate, each as {"value", "low", "high"}; and the count of rows.

    All windows are over, so nobody is censored before the last edge. integrated_brier: mean over time up to the last edge
    of the squared error of the curve (Graf et al. 1999, Statistics in Medicine 18). restricted_mae: mean absolute error in
    days of the median, both cut at the last edge. c_index: share of pairs that came in different steps and are in the
    right order by mean waiting time. coverage: share of the windows from the 10 % to the 90 % day that held; one without a
    last day holds for whoever came later or never. nominal_coverage: what it should be, .8 where all windows end in time.

    Args:
        waited: days until the event, 0 is the cutoff's own day, NaN where it did not come before the last edge.
        curve: rows x edges, the probability of still waiting when each step ends. users: customer of each row.

    Raises:
        NoUsableData: no row, or nothing happened to anybody.
    """
    measure = _measure_of(waited, curve, edges)
    days = np.asarray(waited, dtype=float)
    return bootstrap(measure, customer_numbers(users, days), seed, resamples) | {"rows": interval_of(float(days.size), [])}


def evaluate_waiting_difference(
    waited: ArrayLike, p: ArrayLike, q: ArrayLike, edges: Sequence[int], users: ArrayLike, *, seed: int, resamples: int = 400
) -> dict[str, Interval]:
    """Each metric of DIFFERENCES for the curves `p` minus those of `q`, on the same resamples; below 0 favours `p`, but for c_index."""
    ours, theirs = _measure_of(waited, p, edges), _measure_of(waited, q, edges)

    def gain(weights: Floats) -> dict[str, float] | None:
        mine, other = ours(weights), theirs(weights)
        return None if mine is None or other is None else {name: mine[name] - other[name] for name in DIFFERENCES}

    return bootstrap(gain, customer_numbers(users, np.asarray(waited, dtype=float)), seed, resamples)


def evaluate_window(waited: ArrayLike, window: Mapping[str, Floats], last: int, users: ArrayLike, *, seed: int, resamples: int = 400) -> dict[str, Interval]:
    """restricted_mae, coverage and nominal_coverage of windows without their curves, as they are served; coverage of those who have a window.

    Args:
        window: earliest_days, median_days and latest_days of each row, NaN where that is after `last`.
    """
    days = np.asarray(waited, dtype=float)
    off, covered, early, late = _held_against(window, days, float(last))
    has = np.isfinite(early)
    nominal = np.where(np.isinf(late), 1.0, QUANTILES["latest_days"]) - QUANTILES["earliest_days"]

    def measure(weights: Floats) -> dict[str, float] | None:
        mine = weights * has
        if not mine.sum() > 0:
            return None
        measured = {"restricted_mae": off @ weights / weights.sum(), "coverage": covered @ mine / mine.sum(), "nominal_coverage": nominal @ mine / mine.sum()}
        return {name: float(value) for name, value in measured.items()}

    return bootstrap(measure, customer_numbers(users, days), seed, resamples)


def _measure_of(waited: ArrayLike, curve: ArrayLike, edges: Sequence[int]) -> Callable[[Floats], dict[str, float] | None]:
    days, told = np.asarray(waited, dtype=float), np.asarray(curve, dtype=float)
    if not days.size or np.isnan(days).all():
        raise NoUsableData(f"Of {days.size} rows to evaluate the event came to none. Choose another cutoff or a longer horizon.")
    if told.shape != (days.size, len(edges)):
        raise ValueError(f"A curve has {len(edges)} edges for each of {days.size} rows; its shape is {told.shape}.")
    last, widths = float(edges[-1]), np.diff([0, *edges]).astype(float)
    until = np.where(np.isnan(days), np.inf, days)
    error = ((until[:, None] >= np.asarray(edges, dtype=float)).astype(float) - told) ** 2 @ widths / last
    waiting = (told * widths).sum(axis=1)  # not a dot product, which adds up equal rows in different orders and breaks their tie
    window = window_of(told, edges)
    off, covered, early, late = _held_against(window, days, last)
    step = np.searchsorted(np.asarray(edges, dtype=float), until, side="right")  # in which step it came; len(edges) is none
    nominal = np.where(np.isinf(late), 1.0, QUANTILES["latest_days"]) - np.where(np.isinf(early), 1.0 - told[:, -1], QUANTILES["earliest_days"])
    order = np.argsort(waiting, kind="stable")  # shortest first
    mean = waiting[order]
    ends = np.append(np.flatnonzero(mean[1:] != mean[:-1]), mean.size - 1)

    def measure(weights: Floats) -> dict[str, float] | None:
        total, came = weights.sum(), weights[~np.isnan(days)].sum()
        if not came > 0:
            return None
        return {
            "integrated_brier": float(weights @ error / total),
            "restricted_mae": float(weights @ off / total),
            "c_index": _concordance(step[order], weights[order], ends, len(edges)),
            "coverage": float(weights @ covered / total),
            "nominal_coverage": float(weights @ nominal / total),
            "event_rate": float(came / total),
        }

    return measure


def _held_against(window: Mapping[str, Floats], days: Floats, last: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Of each row: the error in days of the median, the part of the event that its window held, and the window's ends."""
    off = np.abs(np.minimum(np.nan_to_num(window["median_days"], nan=last), last) - np.minimum(np.where(np.isnan(days), np.inf, days), last))
    early, late = (np.nan_to_num(window[name], nan=np.inf) for name in ("earliest_days", "latest_days"))
    # An event on day 3 lies somewhere between 3 and 4, of which a window may hold a part.
    part = np.clip(np.minimum(days + 1, late) - np.maximum(days, early), 0.0, 1.0)
    return off, np.where(np.isnan(days), np.isinf(late), part), early, late


def _concordance(step: Ints, weights: Floats, ends: Ints, steps: int) -> float:
    """Rows by rising mean waiting time, in runs of equal ones: for each step those in it against those after it."""
    right, pairs = 0.0, 0.0
    for number in range(steps):
        now, later = np.cumsum(weights * (step == number))[ends], np.cumsum(weights * (step > number))[ends]
        if now[-1] > 0 and later[-1] > 0:
            # As the area under a ROC curve: those in the step should come first, a tie counts half.
            right += float(np.trapezoid(np.append(0, now), np.append(0, later)))
            pairs += float(now[-1] * later[-1])
    return right / pairs if pairs else 0.5
