"""Likeness: a strongly regularised logistic and bagged trees, each on its own scale, added up. Its arithmetic, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from training.blend import Logistic, Matrix, Trees, Vector


@dataclass(frozen=True)
class Part:
    """A part's mean and deviation over the population: what it says is standardised, so that neither part outshouts the other."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Likeness:
    """How much a user resembles a seed: the mean of the standardised log-odds of a logistic and of some trees.

    The score is 0 for the average user of the population and counts deviations. It ranks; it is no probability.
    trees: LightGBM models as text, none where the logistic serves alone; no logistic where trees serve alone.
    """

    logistic: Logistic | None
    trees: tuple[str, ...]
    linear: Part
    bagged: Part

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Likeness:
        logistic = None if described["logistic"] is None else Logistic.of(described["logistic"])
        return cls(logistic, tuple(texts), Part(**described["linear"]), Part(**described["bagged"]))

    def describe(self) -> dict[str, Any]:
        return {"logistic": self.logistic and self.logistic.describe(), "linear": vars(self.linear), "bagged": vars(self.bagged)}

    @property
    def texts(self) -> tuple[str, ...]:
        return self.trees

    @cached_property
    def _trees(self) -> Trees:
        return Trees(self.trees)

    @property
    def _share(self) -> float:
        return 0.5 if self.logistic and self.trees else 1.0

    def scores(self, rows: Matrix) -> Vector:
        """Deviations above the average of the population, one per row of rows x features."""
        total = np.zeros(len(rows))
        if self.logistic:
            total += self._share * (self.logistic.logits(rows) - self.linear.mean) / self.linear.deviation
        if self.trees:
            total += self._share * (self._trees.raw(rows) - self.bagged.mean) / self.bagged.deviation
        return total

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """A rank says all."""
        return {}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of the score; the last column is what everybody starts from."""
        shares = np.zeros((len(rows), rows.shape[1] + 1))
        parts = []
        if self.logistic:
            parts.append((self.logistic.contributions(rows), self.linear))
        if self.trees:
            parts.append((self._trees.contributions(rows), self.bagged))
        for told, part in parts:
            told[:, -1] -= part.mean
            shares += self._share * told / part.deviation
        return shares
