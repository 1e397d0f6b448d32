"""Two groups compared in one number: effect sizes with intervals, and tests. Plain functions of arrays."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, false_discovery_control, fisher_exact, norm, rankdata

from training.evaluate import Z_95, Interval
from training.intervals import share

Values = npt.NDArray[np.float64]
MOST_ROWS = 60_000  # of a group that is compared: more would only take longer
LEAST_EXPECTED = 5  # cell count below which chi-square is not to be trusted (Cochran 1954, Biometrics 10)


def drawn(rows: npt.NDArray[np.int64], most: int = MOST_ROWS) -> npt.NDArray[np.int64]:
    """At most so many of some rows, drawn by a lot that is always the same, in their order."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng(20_261_122).permutation(rows)[:most])


def auc_of(first: Values, second: Values) -> float:
    """Chance that a value of the first group is above one of the second, ties counting half."""
    ranks = rankdata(np.concatenate([first, second]))
    return float((ranks[: len(first)].sum() - len(first) * (len(first) + 1) / 2) / (len(first) * len(second)))


def rank_difference(first: Values, second: Values) -> dict[str, Any]:
    """The rank-biserial correlation of two groups of numbers (2 AUC - 1; Cureton 1956, Psychometrika 21), its 95 % interval by
    DeLong's variance (DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44), and the p-value of Mann and Whitney (1947, Annals of
    Mathematical Statistics 18) by the normal approximation with the correction for ties and none for continuity.
    """
    n, m = len(first), len(second)
    together = np.concatenate([first, second])
    ranks = rankdata(together)
    above = (ranks[:n] - rankdata(first)) / m  # of each value, the share of the other group below it
    below = 1 - (ranks[n:] - rankdata(second)) / n
    auc = float(above.mean())
    half = Z_95 * 2 * sqrt((above.var(ddof=1) / n if n > 1 else 0.0) + (below.var(ddof=1) / m if m > 1 else 0.0))
    ties = np.unique(together, return_counts=True)[1].astype(np.float64)
    total = n + m
    variance = n * m / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    z = (auc - 0.5) * n * m / sqrt(variance) if variance > 0 else 0.0
    effect = 2 * auc - 1
    return {"test": "Mann-Whitney", "effect": interval(effect, max(-1.0, effect - half), min(1.0, effect + half)), "p": float(2 * norm.sf(abs(z)))}


def share_difference(did: int, of: int, other_did: int, other_of: int) -> dict[str, Any]:
    """The difference of two shares with its 95 % interval by Newcombe (1998, Statistics in Medicine 17, method 10), and the
    p-value of chi-square without correction, or of Fisher's exact test where a cell is expected below five.

    For a feature that is 0 or 1 the difference is its rank-biserial correlation.
    """
    one, two = share(did, of), share(other_did, other_of)
    table = np.array([[did, of - did], [other_did, other_of - other_did]], float)
    p, test = association(table)
    difference, ends = did / of - other_did / other_of, [(one, two, "low", "high"), (two, one, "low", "high")]
    low, high = (sqrt((a["value"] - a[x]) ** 2 + (b[y] - b["value"]) ** 2) for a, b, x, y in ends)  # type: ignore[operator]
    return {"test": test, "effect": interval(difference, difference - low, difference + high), "p": p}


def association(table: npt.NDArray[np.float64]) -> tuple[float, str]:
    """p-value that rows and columns have nothing to do with each other, and the name of the test; 1 where there is nothing to compare."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return 1.0, "chi-square"
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    if table.shape == (2, 2) and expected.min() < LEAST_EXPECTED:
        return float(fisher_exact(table.astype(int))[1]), "Fisher"
    statistic = float(((table - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, (table.shape[0] - 1) * (table.shape[1] - 1))), "chi-square"


def cramers_v(table: npt.NDArray[np.float64]) -> float:
    """How strongly two classifications go together, 0 to 1 (Cramer 1946, Mathematical Methods of Statistics, section 21.9)."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return sqrt(float(((table - expected) ** 2 / expected).sum()) / (table.sum() * (min(table.shape) - 1)))


def corrected(p: list[float]) -> list[float]:
    """p-values corrected for their number, so that of those below .05 one in twenty is expected to be false (Benjamini,
    Hochberg 1995, JRSS B 57; under the positive dependence of related features too: Benjamini, Yekutieli 2001, Annals of
    Statistics 29)."""
    return [float(q) for q in false_discovery_control(np.clip(p, 0, 1), method="bh")] if p else []


def interval(value: float, low: float, high: float) -> Interval:
    return {"value": float(value), "low": float(low), "high": float(high)}
