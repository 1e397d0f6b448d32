"""The effect of a treatment given by lot: intent to treat, adjusted for what was known before, with intervals. Pure functions.

Everybody who entered counts in the group that the lot gave them, whether a message reached them or not: who is reached was already
another kind of customer before, so reached against not reached says nothing about the campaign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chisquare, norm, t

from training.intervals import share

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
LEAST_CONTROL = 30  # members of a group, below which nothing is claimed
LEAST_OUTCOMES = 5  # of either kind in each group, below which a rate says nothing
ROWS_PER_COVARIATE = 40  # members of the smaller group for each covariate that is adjusted for
MISMATCH = 0.001  # p-value below which the groups are not those that were drawn (Fabijan et al. 2019, https://doi.org/10.1145/3292500.3330722)


@dataclass(frozen=True)
class Estimate:
    """A difference of means, treated less control, in the outcome's own unit; low and high bound its 95 % interval.

    error: standard error. p: of no difference, two-sided. covariates: how many were adjusted for.
    """

    value: float
    low: float
    high: float
    error: float
    p: float
    method: str
    covariates: int = 0

    def times(self, factor: float) -> dict[str, float]:
        """Value and interval in another unit, such as for all members together."""
        return {"value": self.value * factor, "low": self.low * factor, "high": self.high * factor}

    def described(self) -> dict[str, Any]:
        return asdict(self)


def plain_effect(y: Vector, treated: Mask) -> Estimate:
    """Difference of means without adjustment.

    Of a share (0 and 1 alone) with Newcombe's hybrid score interval (1998, Statistics in Medicine 17:873-890, method 10); of amounts Welch's
    (1947, Biometrika 34).

    Args:
        y: one outcome per member. treated: whether the lot treated them; both groups have at least 2.
    """
    ours, theirs = y[treated], y[~treated]
    difference = float(ours.mean() - theirs.mean())
    spreads = ours.var(ddof=1) / len(ours), theirs.var(ddof=1) / len(theirs)
    if np.isin(y, (0.0, 1.0)).all():
        one, other = share(int(ours.sum()), len(ours)), share(int(theirs.sum()), len(theirs))
        low, high = newcombe(one, other)
        pooled = float(y.mean())
        error = sqrt(pooled * (1 - pooled) * (1 / len(ours) + 1 / len(theirs)))
        return Estimate(difference, low, high, error, _two_sided(difference, error), "difference of rates, Newcombe's interval")
    return _with_t(difference, spreads, (len(ours) - 1, len(theirs) - 1), "difference of means, Welch's interval", 0)


def newcombe(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> tuple[float, float]:
    """95 % interval of the difference of two shares, from their Wilson intervals."""
    a, a_low, a_high, b, b_low, b_high = (float(part[name] or 0.0) for part in (one, other) for name in ("value", "low", "high"))
    return a - b - sqrt((a - a_low) ** 2 + (b_high - b) ** 2), a - b + sqrt((a_high - a) ** 2 + (b - b_low) ** 2)


def adjusted_effect(y: Vector, treated: Mask, covariates: Vector) -> Estimate:
    """Difference of means adjusted for what was known before the lot.

    Lin's estimator (2013, Annals of Applied Statistics 7:295-318): each group has a regression of its own on the centred covariates, and the
    effect is the difference of the intercepts. It is right whether or not the outcome is linear in them, and never less exact than the
    plain difference but for what estimating the slopes costs. The standard error is HC2 (MacKinnon, White 1985), the interval Student's
    with Welch-Satterthwaite degrees of freedom.

    Args:
        covariates: members x what was known before, the most telling first; constant and redundant columns are left out, and so are
            the last ones where the smaller group has fewer than 40 members for each.
    """
    kept = independent(covariates)[:, : min(int(treated.sum()), int((~treated).sum())) // ROWS_PER_COVARIATE]
    if not kept.shape[1]:
        return plain_effect(y, treated)
    centred = np.column_stack([np.ones(len(y)), kept])
    fits = [_intercept(centred[rows], y[rows]) for rows in (treated, ~treated)]
    if fits[0] is None or fits[1] is None:
        return plain_effect(y, treated)  # a column says nothing within a group
    (one, its_spread, its_free), (other, other_spread, other_free) = fits[0], fits[1]
    return _with_t(one - other, (its_spread, other_spread), (its_free, other_free), "Lin's regression adjustment, HC2 interval", kept.shape[1])


def independent(covariates: Vector) -> Vector:
    """The columns that say something of their own, centred and scaled to standard deviation 1."""
    spread = covariates.std(axis=0)
    alive = covariates[:, spread > 1e-9 * np.maximum(1.0, np.abs(covariates).max(axis=0, initial=0.0))]
    scaled = (alive - alive.mean(axis=0)) / alive.std(axis=0) if alive.size else alive
    kept: list[int] = []
    basis = np.empty((len(scaled), 0))
    for column in range(scaled.shape[1]):
        rest = scaled[:, column] - basis @ (basis.T @ scaled[:, column])
        if np.linalg.norm(rest) > 1e-4 * sqrt(len(rest)):
            kept.append(column)
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    chosen: Vector = scaled[:, kept]
    return chosen


def winsorised(amounts: Vector, quantile: float | None) -> Vector:
    """Amounts with everything above the quantile of all of them, both groups together, set to it; None leaves them as they are."""
    return amounts if quantile is None else np.minimum(amounts, np.quantile(amounts, quantile))


def sample_ratio(sizes: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, Any]:
    """Whether the groups have the sizes that the lot would give them: a chi-square test; `mismatch` below p = .001.

    A mismatch says that members of one group were lost, or added, for a reason of the group, and then the groups cannot be compared.
    """
    drawn = [group for group in shares if shares[group] > 0]
    seen, total = [sizes.get(group, 0) for group in drawn], sum(sizes.values())
    if len(drawn) < 2 or not total:
        return {"p": None, "mismatch": False, "expected": {}}
    expected = [shares[group] * sum(seen) for group in drawn]
    p = float(chisquare(seen, expected).pvalue)
    return {"p": p, "mismatch": p < MISMATCH, "expected": dict(zip(drawn, expected, strict=True))}


def why_no_claim(y: Vector, treated: Mask) -> str | None:
    """Why nothing may be claimed about the effect; None where something may."""
    control = int((~treated).sum())
    if not control:
        return "There is no control group, so nobody knows what the members would have done without the campaign. No effect is claimed."
    if min(control, int(treated.sum())) < LEAST_CONTROL:
        return (
            f"The control group has {control:,} members and the treatment group {int(treated.sum()):,}; with fewer than {LEAST_CONTROL} no effect is claimed."
        )
    is_rate = bool(np.isin(y, (0.0, 1.0)).all())
    counts = [int((y[group] > 0).sum()) for group in (treated, ~treated)]
    fewest = min(*counts, *((int((y[group] == 0).sum()) for group in (treated, ~treated)) if is_rate else ()))
    if fewest < LEAST_OUTCOMES:
        return (
            f"{counts[0]:,} treated and {counts[1]:,} control members reached the goal; with fewer than {LEAST_OUTCOMES} of either kind no effect is claimed."
        )
    return None


def economics(effect: Estimate, members: int, cost: float, earned: float | None) -> dict[str, Any]:
    """What the campaign added, for all treated members together, and what that cost.

    The cost is a fact of this campaign, what it added is an estimate: intervals are those of the effect. Where the lower end of what was
    added is not above 0, the cost of one more has no upper end (None).

    Args:
        effect: per member. members: of the treatment group. cost: of the messages sent and coupons redeemed. earned: by one unit of what was added.
    """
    added = effect.times(members)
    low, high = (cost / part if part > 0 else None for part in (added["high"], added["low"]))
    each = {"value": cost / added["value"] if added["value"] > 0 else None, "low": low, "high": high}
    found: dict[str, Any] = {"added": added, "cost": cost, "cost_per_added": each, "profit": None, "roi": None}
    if earned is not None:
        profit = {name: earned * part - cost for name, part in added.items()}
        found |= {"profit": profit, "roi": {name: part / cost for name, part in profit.items()} if cost > 0 else None}
    return found


def logit(chance: Vector) -> Vector:
    """Log-odds; chances of 0 and 1 are taken for one in a million and its opposite."""
    clipped = np.clip(chance, 1e-6, 1 - 1e-6)
    odds: Vector = np.log(clipped / (1 - clipped))
    return odds


def _intercept(design: Vector, y: Vector) -> tuple[float, float, int] | None:
    """The intercept of a least-squares fit, its HC2 variance and the degrees of freedom that are left; None where columns are redundant."""
    q, r = np.linalg.qr(design)
    sizes = np.abs(np.diag(r))
    if sizes.min() < 1e-7 * sizes.max():
        return None
    left = y - q @ (q.T @ y)
    leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-9)
    row = q @ np.linalg.solve(r.T, np.eye(len(r))[0])  # the intercept as a weighted sum of the outcomes
    return float(row @ y), float((row**2 * left**2 / (1 - leverage)).sum()), len(y) - design.shape[1]


def _with_t(value: float, spreads: tuple[float, float], free: tuple[int, int], method: str, covariates: int) -> Estimate:
    spread = float(sum(spreads))
    if spread == 0:
        return Estimate(value, value, value, 0.0, float(value == 0), method, covariates)
    degrees = spread**2 / sum(part**2 / left for part, left in zip(spreads, free, strict=True))
    error, reach = sqrt(spread), float(t.ppf((1 + CONFIDENCE) / 2, degrees))
    return Estimate(value, value - reach * error, value + reach * error, error, float(2 * t.sf(abs(value) / error, degrees)), method, covariates)


def _two_sided(value: float, error: float) -> float:
    return float(2 * norm.sf(abs(value) / error)) if error else 1.0
