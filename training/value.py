"""Value: expected spend as the chance of buying times the amount if so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from training.blend import Blend, Matrix, Trees, Vector


@dataclass(frozen=True)
class Value:
    """Expected cents within the horizon.

    buys: the chance of any spend. amounts: LightGBM models of the logarithm of the spend of those who buy (Gamma
    deviance), averaged. level: what all values are multiplied by, so that the last labelled cutoff is met in sum.
    """

    buys: Blend
    amounts: tuple[str, ...]
    level: float

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Value:
        trees = described["trees_of_chance"]
        return cls(Blend.of(described["buys"], texts[:trees]), tuple(texts[trees:]), float(described["level"]))

    def describe(self) -> dict[str, Any]:
        return {"buys": self.buys.describe(), "trees_of_chance": len(self.buys.trees), "level": self.level}

    @property
    def texts(self) -> tuple[str, ...]:
        return (*self.buys.trees, *self.amounts)

    @cached_property
    def _amounts(self) -> Trees:
        return Trees(self.amounts)

    def scores(self, rows: Matrix) -> Vector:
        """Expected cents of rows x features."""
        return np.asarray(self.buys.scores(rows) * np.exp(self._amounts.raw(rows)) * self.level)

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """The two factors: the chance of any spend, and the cents expected if there is some."""
        return {"probability": self.buys.scores(rows), "cents_if_any": np.exp(self._amounts.raw(rows)) * self.level}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of the logarithm of the expected cents.

        The logarithm of a chance is not linear in its log-odds: each share of the log-odds counts by the slope between
        where everybody starts and the row (the derivative where they meet), so that they add up (the rescale rule of Shrikumar, Greenside, Kundaje 2017,
        https://arxiv.org/abs/1704.02685).
        """
        odds, amounts = self.buys.contributions(rows), self._amounts.contributions(rows)
        start, end = odds[:, -1], odds.sum(axis=1)
        moved = end - start
        far = np.abs(moved) > 1e-9
        slope = np.where(far, (_log_chance(end) - _log_chance(start)) / np.where(far, moved, 1.0), np.exp(_log_chance(-start)))
        shares = amounts + np.column_stack([odds[:, :-1] * slope[:, None], _log_chance(start) + np.log(self.level)])
        return np.asarray(shares)


@dataclass(frozen=True)
class Rate:
    """The rule of thumb: as much as in the past, per day. One column of cents times a factor."""

    factor: float
    least: float  # for who spent nothing, so that all values are above zero and have a logarithm

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Rate:
        return cls(described["factor"], described["least"])

    def describe(self) -> dict[str, Any]:
        return vars(self)

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def scores(self, rows: Matrix) -> Vector:
        """Expected cents of rows x 1."""
        return np.asarray(np.maximum(np.nan_to_num(rows[:, 0]), 0.0) * self.factor + self.least)

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """There is nothing else."""
        return {}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x 2: shares of the logarithm of the expected cents."""
        start = np.full(len(rows), np.log(self.least))
        return np.column_stack([np.log(self.scores(rows)) - start, start])


def _log_chance(log_odds: Vector) -> Vector:
    return np.asarray(-np.logaddexp(0.0, -log_odds))
