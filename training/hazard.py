"""Hazard: when the next order comes. Boosted trees give the chance of an order in each step of time, if none came before.

Source: Singer, Willett 1993, "It's about time: using discrete-time survival analysis", Journal of Educational Statistics 18(2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from training.blend import Matrix, Trees, Vector

QUANTILES = {"earliest_days": 0.1, "median_days": 0.5, "latest_days": 0.9}


@dataclass(frozen=True)
class Hazard:
    """Time to the next order, up to a last day.

    trees: LightGBM models whose last column is the number of the step; edges: days at which the steps end, ascending;
    within: days, the score is the probability of an order until then, one of `edges`.
    """

    trees: tuple[str, ...]
    edges: tuple[int, ...]
    within: int

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Hazard:
        return cls(tuple(texts), tuple(described["edges"]), described["within"])

    def describe(self) -> dict[str, Any]:
        return {"edges": self.edges, "within": self.within}

    @property
    def texts(self) -> tuple[str, ...]:
        return self.trees

    @cached_property
    def _trees(self) -> Trees:
        return Trees(self.trees)

    def waiting(self, rows: Matrix) -> Matrix:
        """Rows x edges: the probability that no order has come when each step ends."""
        survival = np.ones(len(rows))
        curve = np.empty((len(rows), len(self.edges)))
        for step in range(len(self.edges)):
            odds = self._trees.raw(np.column_stack([rows, np.full(len(rows), float(step))]))
            survival = survival / (1.0 + np.exp(odds))
            curve[:, step] = survival
        return curve

    def scores(self, rows: Matrix) -> Vector:
        """Probability of an order within `within` days."""
        return np.asarray(1.0 - self.waiting(rows)[:, self.edges.index(self.within)])

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """Days until the order has come with probability .1, .5 and .9; NaN where that is after the last edge."""
        return window_of(self.waiting(rows), self.edges)

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of the mean log-odds of an order in a step, over the steps until `within`."""
        steps = self.edges.index(self.within) + 1
        total = np.zeros((len(rows), rows.shape[1] + 1))
        for step in range(steps):
            shares = self._trees.contributions(np.column_stack([rows, np.full(len(rows), float(step))]))
            total[:, :-1] += shares[:, :-2]
            total[:, -1] += shares[:, -2] + shares[:, -1]  # what time itself does, everybody starts from
        return np.asarray(total / steps)


@dataclass(frozen=True)
class Bands:
    """Time to the next order by bands of one column: in each, the curve that was seen.

    limits: upper ends of the bands but the last, ascending; curves: bands x edges, the share still waiting; a missing
    value is in the last band. edges, within: as in Hazard.
    """

    limits: tuple[float, ...]
    curves: tuple[tuple[float, ...], ...]
    edges: tuple[int, ...]
    within: int

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Bands:
        return cls(tuple(described["limits"]), tuple(tuple(curve) for curve in described["curves"]), tuple(described["edges"]), described["within"])

    def describe(self) -> dict[str, Any]:
        return vars(self)

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def waiting(self, rows: Matrix) -> Matrix:
        """Rows x edges: the probability that no order has come by then."""
        return np.array(self.curves)[np.searchsorted(self.limits, np.nan_to_num(rows[:, 0], nan=np.inf))]

    def scores(self, rows: Matrix) -> Vector:
        """Probability of an order within `within` days."""
        return np.asarray(1.0 - self.waiting(rows)[:, self.edges.index(self.within)])

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """The window of the next order, in days."""
        return window_of(self.waiting(rows), self.edges)

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x 2: the score against that of the first band."""
        start = np.full(len(rows), 1.0 - self.curves[0][self.edges.index(self.within)])
        return np.column_stack([self.scores(rows) - start, start])


def window_of(curve: Matrix, edges: Sequence[int]) -> dict[str, Vector]:
    """Days until the order has come with probability .1, .5 and .9, from a curve of waiting."""
    return {name: days_until(curve, edges, share) for name, share in QUANTILES.items()}


def days_until(curve: Matrix, edges: Sequence[int], share: float) -> Vector:
    """The day, between two edges by a straight line, on which a curve of waiting falls to 1 - share; NaN where it never does."""
    grid = np.array([0, *edges], dtype=np.float64)
    whole = np.column_stack([np.ones(len(curve)), curve])
    left = round(1.0 - share, 12)  # 1 - .9 is a little under .1
    reached = whole <= left
    place = np.maximum(reached.argmax(axis=1), 1)
    rows = np.arange(len(curve))
    above, below = whole[rows, place - 1], whole[rows, place]
    part = (above - left) / np.where(above > below, above - below, 1.0)
    days = grid[place - 1] + part * (grid[place] - grid[place - 1])
    return np.where(reached.any(axis=1), days, np.nan)


def person_periods(waited: Vector, edges: Sequence[int]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Each row once per step that it enters: the row, the step's number, and whether the order came in it.

    Args:
        waited: days until the order (0 is the day of the cutoff itself), NaN where none came before the last edge.
    """
    starts = np.array([0, *edges[:-1]], dtype=np.float64)
    last = np.where(np.isnan(waited), np.inf, waited)
    rows, steps = np.nonzero(last[:, None] >= starts[None, :])
    came = (last[rows] >= starts[steps]) & (last[rows] < np.asarray(edges, dtype=np.float64)[steps])
    return rows, steps.astype(np.float64), came.astype(np.int8)
