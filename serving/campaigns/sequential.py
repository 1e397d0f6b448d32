"""Tests that may be looked at every day: e-processes, which exceed 1 / alpha at any time with a chance of at most alpha.

Under the hypothesis an e-process is a non-negative supermartingale that starts at 1, so by Ville's inequality (1939) it ever reaches 1 / alpha
with a chance of at most alpha, however often and for whatever reason somebody looks. See Ramdas, Grünwald, Vovk, Shafer (2023), Statistical
Science 38:576-601, and Robbins (1970), Annals of Mathematical Statistics 41:1397-1409, for the mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

Vector = npt.NDArray[np.float64]

FAR_UNDER = 0.7  # of the expected rate: what is above it is not far under, be it season or calibration
ALTERNATIVES = tuple(round(0.05 * step, 2) for step in range(1, 14))  # shares of the expected rate, all below FAR_UNDER, mixed with equal weight
WEIGHT = 100.0  # how firmly the alternative of `ratio_process` stands around the shares that were drawn


def under_process(expected: Vector, days: int, goal_on: npt.NDArray[np.int64], observed: npt.NDArray[np.int64]) -> Vector:
    """Evidence, day by day, that conversions come at less than 70 % of the expected rate; log e-values, one for each day since entry.

    On each day each member who has not converted yet converts with some chance, given all before. Expected is the constant daily chance that
    adds up to `expected` within `days`. Against "at least 70 % of that" each smaller share has a likelihood ratio whose mean is at most 1, because
    the ratio falls with every conversion; so is that of their product over members and days, and of the mean over shares.

    Args:
        expected: chance of converting within `days` of each member. goal_on: days from entry to conversion, -1 for none. observed: days that are over.
    """
    daily = -np.expm1(np.log1p(-np.clip(expected, 1e-9, 1 - 1e-9)) / days)
    shares = np.array(ALTERNATIVES)
    quiet = np.log1p(-np.outer(daily, shares)) - np.log1p(-FAR_UNDER * daily)[:, None]
    converts = np.log(shares / FAR_UNDER)
    evidence = np.zeros((max(0, int(observed.max(initial=0))) + 1, len(shares)))
    for day in range(len(evidence) - 1):
        at_risk = (observed > day) & ((goal_on < 0) | (goal_on >= day))
        done = at_risk & (goal_on == day)
        evidence[day + 1] = quiet[at_risk & ~done].sum(axis=0) + done.sum() * converts
    mixed: Vector = logsumexp(evidence.cumsum(axis=0), axis=1) - np.log(len(shares))
    return mixed


def ratio_process(sizes: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Evidence that members fall into groups otherwise than in these shares; a log e-value.

    The multinomial test that is valid at any time of Lindon, Malek (2022), NeurIPS 35: a Dirichlet around the shares against the shares.
    """
    drawn = [group for group in shares if shares[group] > 0]
    counts, chance = np.array([sizes.get(group, 0) for group in drawn], float), np.array([shares[group] for group in drawn])
    prior = WEIGHT * chance
    marginal = gammaln(prior.sum()) - gammaln(prior.sum() + counts.sum()) + (gammaln(prior + counts) - gammaln(prior)).sum()
    return float(marginal - (counts * np.log(chance)).sum())
