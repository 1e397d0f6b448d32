"""Share: of a customer's orders, those with a discount; shrunk towards the shop's by how few orders there are.

k of n orders had a discount, each with the customer's own chance, which is Beta(a, b) over customers; so the chance given
the orders is Beta(a + k, b + n - k) (Gelman et al. 2013, "Bayesian Data Analysis", 3rd ed., chapters 2 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.blend import Matrix, Vector
from training.buying import shapley

INTERVAL = (0.1, 0.9)


@dataclass(frozen=True)
class Share:
    """The chance that the next order has a discount: the beta-binomial share, then Platt's line.

    a, b: of the customers' own chances. platt: slope and offset of the log-odds: the next order is of another season than the
    past ones. usual: the median customer, against whom contributions are counted.
    """

    a: float
    b: float
    platt: tuple[float, float]
    usual: tuple[float, ...]

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Share:
        return cls(described["a"], described["b"], (described["platt"][0], described["platt"][1]), tuple(described["usual"]))

    def describe(self) -> dict[str, Any]:
        return {"a": self.a, "b": self.b, "platt": self.platt, "usual": self.usual}

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def posterior(self, rows: Matrix) -> tuple[Vector, Vector]:
        """The two parameters of each row's Beta."""
        with_discount, orders = counts_of(rows)
        return self.a + with_discount, self.b + orders - with_discount

    def raw(self, rows: Matrix) -> Vector:
        """Log-odds of the posterior mean."""
        yes, no = self.posterior(rows)
        return np.asarray(np.log(yes) - np.log(no))

    def scores(self, rows: Matrix) -> Vector:
        """Calibrated probabilities of rows x (orders, share of them at full price)."""
        return np.asarray(1.0 / (1.0 + np.exp(-self._logits(rows))))

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """The share of the customer's orders in the long run: its posterior mean, and where it lies with a probability of 80 %."""
        from scipy.special import betaincinv  # asked at publish, not by the service

        yes, no = self.posterior(rows)
        low, high = (np.asarray(betaincinv(yes, no, level)) for level in INTERVAL)
        return {"discount_share": yes / (yes + no), "discount_share_low": low, "discount_share_high": high}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x 3: exact signed shares of the log-odds."""
        return shapley(self._logits, rows, self.usual)

    def _logits(self, rows: Matrix) -> Vector:
        slope, offset = self.platt
        return slope * self.raw(rows) + offset


def counts_of(rows: Matrix) -> tuple[Vector, Vector]:
    """Orders with a discount, and all, from rows x (orders, share of them at full price); no order: none of none."""
    orders = np.maximum(np.nan_to_num(rows[:, 0]), 0.0)
    full_price = np.clip(np.nan_to_num(rows[:, 1], nan=1.0), 0.0, 1.0)
    return np.asarray(np.rint(orders * (1.0 - full_price))), orders
