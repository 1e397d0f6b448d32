"""Buying: BG/NBD and Gamma-Gamma as models that a bundle can hold. They see a few features of a customer and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np

from training.blend import Matrix, Vector
from training.btyd import BgNbd, GammaGamma
from training.hazard import window_of

WORTH = "orders_basket_value"
HISTORY = ("orders_recency", "orders_tenure", "cycle_mean_gap")  # days since the last order and the first; mean gap, NaN without a second
LEAST = 1e-9


@dataclass(frozen=True)
class Buying:
    """Probability of an order within a horizon, by BG/NBD and then Platt's line.

    horizon: days; platt: slope and offset of the log-odds (a negative slope where staying away is asked about);
    usual: the median customer, against whom contributions are counted.
    """

    bgnbd: BgNbd
    horizon: int
    platt: tuple[float, float]
    usual: tuple[float, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Buying:
        return cls(BgNbd(**described["bgnbd"]), described["horizon"], (described["platt"][0], described["platt"][1]), tuple(described["usual"]))

    def describe(self) -> dict[str, Any]:
        return {"bgnbd": vars(self.bgnbd), "horizon": self.horizon, "platt": self.platt, "usual": self.usual}

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def raw(self, rows: Matrix) -> Vector:
        """Log-odds of an order as BG/NBD has it; someone who never ordered counts as having just arrived."""
        return _log_odds(self.bgnbd.p_order(*history_of(rows), self.horizon))

    def scores(self, rows: Matrix) -> Vector:
        """Calibrated probabilities of rows x HISTORY."""
        return np.asarray(1.0 / (1.0 + np.exp(-self._logits(rows))))

    def _logits(self, rows: Matrix) -> Vector:
        slope, offset = self.platt
        return slope * self.raw(rows) + offset

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """A probability says all."""
        return {}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x 4: exact signed shares of the log-odds."""
        return shapley(self._logits, rows, self.usual)


@dataclass(frozen=True)
class Worth:
    """Expected spend within a horizon: orders that BG/NBD expects times what Gamma-Gamma expects of each.

    level: what all values are multiplied by, so that the last labelled cutoff is met in sum; usual: the median customer.
    """

    bgnbd: BgNbd
    gamma_gamma: GammaGamma
    horizon: int
    level: float
    usual: tuple[float, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Worth:
        gamma_gamma = GammaGamma(**described["gamma_gamma"])
        return cls(BgNbd(**described["bgnbd"]), gamma_gamma, described["horizon"], described["level"], tuple(described["usual"]))

    def describe(self) -> dict[str, Any]:
        return {
            "bgnbd": vars(self.bgnbd),
            "gamma_gamma": vars(self.gamma_gamma),
            "horizon": self.horizon,
            "level": self.level,
            "usual": self.usual,
        }

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def _parts(self, rows: Matrix) -> tuple[Vector, Vector]:
        x, tx, T = history_of(rows[:, :3])
        orders = self.bgnbd.expected_orders(x, tx, T, self.horizon)
        each = self.gamma_gamma.expected_value(x + 1, np.maximum(np.nan_to_num(rows[:, 3], nan=self.usual[3]), 1.0))
        return orders, each

    def scores(self, rows: Matrix) -> Vector:
        """Expected cents of rows x (HISTORY and the mean order value)."""
        orders, each = self._parts(rows)
        return np.asarray(np.maximum(orders * each * self.level, LEAST))

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """The two factors."""
        orders, each = self._parts(rows)
        return {"expected_orders": orders, "cents_per_order": each * self.level}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x 5: exact signed shares of the logarithm of the expected cents."""
        return shapley(lambda mixed: np.log(self.scores(mixed)), rows, self.usual)


@dataclass(frozen=True)
class Returning:
    """When the next order comes, by BG/NBD alone. edges, within: as in `hazard.Hazard`; usual: the median customer."""

    bgnbd: BgNbd
    edges: tuple[int, ...]
    within: int
    usual: tuple[float, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Returning:
        return cls(BgNbd(**described["bgnbd"]), tuple(described["edges"]), described["within"], tuple(described["usual"]))

    def describe(self) -> dict[str, Any]:
        return {"bgnbd": vars(self.bgnbd), "edges": self.edges, "within": self.within, "usual": self.usual}

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def waiting(self, rows: Matrix) -> Matrix:
        """Rows x edges: the probability that no order has come by then."""
        history = history_of(rows)
        return np.column_stack([1.0 - self.bgnbd.p_order(*history, edge) for edge in self.edges])

    def scores(self, rows: Matrix) -> Vector:
        """Probability of an order within `within` days."""
        return np.asarray(self.bgnbd.p_order(*history_of(rows), self.within))

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """The window of the next order, in days."""
        return window_of(self.waiting(rows), self.edges)

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x 4: exact signed shares of the log-odds of the score."""
        return shapley(lambda mixed: _log_odds(self.scores(mixed)), rows, self.usual)


def shapley(worth: Callable[[Matrix], Vector], rows: Matrix, usual: Sequence[float]) -> Matrix:
    """Exact Shapley values of a few features against a usual row (Shapley 1953): 2 to the number of features evaluations.

    Returns:
        rows x (features + 1); the last column is the worth of the usual row.
    """
    features = range(len(usual))
    told: dict[tuple[int, ...], Vector] = {}
    for size in range(len(usual) + 1):
        for some in combinations(features, size):
            mixed = np.tile(np.array(usual, dtype=np.float64), (len(rows), 1))
            mixed[:, list(some)] = rows[:, list(some)]
            told[some] = worth(mixed)
    shares = np.zeros((len(rows), len(usual) + 1))
    for feature in features:
        for some in told:
            if feature not in some:
                weight = factorial(len(some)) * factorial(len(usual) - len(some) - 1) / factorial(len(usual))
                shares[:, feature] += weight * (told[tuple(sorted((*some, feature)))] - told[some])
    shares[:, -1] = told[()]
    return shares


def _log_odds(chance: Vector) -> Vector:
    kept = np.clip(chance, LEAST, 1 - LEAST)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def history_of(rows: Matrix) -> tuple[Vector, Vector, Vector]:
    """Frequency x, recency t_x and age T in days, from rows x HISTORY."""
    since, tenure, gap = rows.T
    tenure = np.nan_to_num(tenure, nan=1.0)
    recency = tenure - np.where(np.isnan(since), tenure, np.minimum(since, tenure))
    age = np.maximum(tenure - 1.0, recency)  # to the day before the cutoff, the last one seen
    frequency = np.where(gap > 0, np.maximum(np.rint(recency / np.where(gap > 0, gap, 1.0)), 1.0), 0.0)
    return frequency, np.where(frequency > 0, recency, 0.0), age
