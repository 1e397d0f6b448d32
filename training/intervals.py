"""95 % intervals of shares and quantiles, in closed form: nothing is drawn, so the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from features.cycle import survival_curve
from training.evaluate import Z_95, Interval

UNKNOWN: Interval = {"value": None, "low": None, "high": None}


def share(part: int, whole: float, value: float | None = None) -> Interval:
    """part / whole with its 95 % interval by Wilson (1927, JASA 22); of a `value` instead, where `whole` is an effective
    sample size. Unknown where there is nothing to take a share of."""
    if not whole:
        return dict(UNKNOWN)
    rate = part / whole if value is None else value
    centre, shrink = rate + Z_95**2 / (2 * whole), 1 + Z_95**2 / whole
    half = Z_95 * sqrt(rate * (1 - rate) / whole + Z_95**2 / (4 * whole**2))
    return {"value": rate, "low": max(0.0, min(rate, (centre - half) / shrink)), "high": min(1.0, max(rate, (centre + half) / shrink))}


def returned_by(waited: npt.NDArray[np.int64], followed: npt.NDArray[np.bool_], within: Sequence[int]) -> list[Interval]:
    """Kaplan-Meier share that came back within each number of days; unknown where nobody was watched for so long.

    Args:
        waited: days until they came back, or until the last day on which it would be known.
        followed: whether they came back.

    The interval is Wilson's at the effective sample size that gives Greenwood's variance (Rothman 1978, J Chronic Dis 31):
    with nobody censored it is that of the plain share, and it does not shrink to nothing where no one, or everyone, came.
    """
    if not len(waited):
        return [dict(UNKNOWN) for _ in within]
    lasts, survival, spread = survival_curve(waited, followed)
    ordered = np.sort(waited)

    def by(days: int) -> Interval:
        place = int(np.searchsorted(lasts, days, side="right")) - 1
        still = float(survival[place]) if place >= 0 else 1.0
        if still == 0 and followed.all():
            return share(len(waited), len(waited))
        if still == 0:
            # The last one watched came back. Of the share before that there is an interval, of this one only its lower end.
            return {"value": 1.0, "low": by(int(lasts[place]) - 1)["low"], "high": 1.0}
        watched = len(ordered) - int(np.searchsorted(ordered, days))
        if not watched:
            return dict(UNKNOWN)
        return share(0, float((1 - still) / (still * spread[place] ** 2)) if still < 1 else watched, 1 - still)

    return [by(days) for days in within]


def quantile_interval(ordered: npt.NDArray[np.float64], quantile: float) -> tuple[float | None, float | None]:
    """95 % percentile-bootstrap interval of a quantile, of all resamples there are and not of some drawn.

    In a resample of n sorted values the k-th smallest is at most the j-th one with the probability that a binomial
    (n, j / n) is at least k, a Beta distribution in j / n (Efron 1979, The Annals of Statistics 7, section 3).
    """
    n = len(ordered)
    if not n:
        return None, None
    k = round(quantile * (n - 1)) + 1
    low, high = (int(np.clip(np.ceil(n * betaincinv(k, n - k + 1, chance)), 1, n)) for chance in (0.025, 0.975))
    return float(ordered[low - 1]), float(ordered[high - 1])
