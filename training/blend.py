"""Blend: a clipped logistic and shallow boosted trees, mean of logits, then Platt's line. Its arithmetic, and nothing else.

Additions happen in one fixed order, so that a user's score is the same to the last bit whether the user is scored alone
or among millions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from training import lightgbm_c as lgb

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

CLIP = 4.0  # standardised inputs beyond this carry no more weight: it keeps a logistic sane on heavy tails


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on imputed, sign-logged, standardised and clipped columns.

    columns: positions in the bundle's features; median, mean, scale, coef: one value per column; intercept.
    """

    columns: tuple[int, ...]
    median: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coef: tuple[float, ...]
    intercept: float

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Logistic:
        """From what JSON made of it."""
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}
        return cls(**values)

    def describe(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _arrays(self) -> tuple[npt.NDArray[np.intp], Vector, Vector, Vector]:
        """Columns, median, mean and scale: made once, because for one row making them costs more than using them."""
        return np.array(self.columns, dtype=np.intp), np.array(self.median), np.array(self.mean), np.array(self.scale)

    def inputs(self, rows: Matrix) -> Matrix:
        """Rows x columns as the regression sees them."""
        columns, *moments = self._arrays
        return standardise(rows[:, columns], *moments)

    def logits(self, rows: Matrix) -> Vector:
        """Column after column: a dot product would add up in another order for another number of rows."""
        inputs = self.inputs(rows)
        if len(rows) == 1:  # the same additions without an array for each
            total = self.intercept
            for coefficient, value in zip(self.coef, inputs[0].tolist(), strict=True):
                total += coefficient * value
            return np.array([total])
        totals = np.full(len(rows), self.intercept)
        for coefficient, values in zip(self.coef, inputs.T, strict=True):
            totals += coefficient * values
        return totals

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): coefficient x standardised value, whose mean over the training rows is about zero."""
        shares = np.zeros((len(rows), rows.shape[1] + 1))
        shares[:, self._arrays[0]] += np.array(self.coef) * self.inputs(rows)
        shares[:, -1] = self.intercept
        return shares


@dataclass(frozen=True)
class Trees:
    """Boosted trees as LightGBM's texts; what they give is averaged."""

    texts: tuple[str, ...]

    def __reduce__(self) -> tuple[type[Trees], tuple[tuple[str, ...]]]:
        return Trees, (self.texts,)  # what the library holds stays in this process

    @cached_property
    def boosters(self) -> list[lgb.Booster]:
        return [lgb.Booster(model_str=text) for text in self.texts]

    def raw(self, rows: Matrix) -> Vector:
        """Mean raw score of each row."""
        return self._mean([booster.raw(rows) for booster in self.boosters])

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1), adding up to `raw`: TreeSHAP as LightGBM computes it.

        Source: Lundberg et al. 2020, https://doi.org/10.1038/s42256-019-0138-9
        """
        return self._mean([booster.contributions(rows) for booster in self.boosters])

    @staticmethod
    def _mean(parts: Sequence[Matrix]) -> Matrix:
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        return np.asarray(total / len(parts))


@dataclass(frozen=True)
class Blend:
    """Log-odds: the mean of a logistic's and some trees' (the logistic's alone without trees), then Platt's line.

    trees: LightGBM models as text; platt: (slope, offset) of the calibration.
    """

    logistic: Logistic
    trees: tuple[str, ...] = ()
    platt: tuple[float, float] = (1.0, 0.0)

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Blend:
        return cls(Logistic.of(described["logistic"]), tuple(texts), (described["platt"][0], described["platt"][1]))

    def describe(self) -> dict[str, Any]:
        return {"logistic": self.logistic.describe(), "platt": self.platt}

    @property
    def texts(self) -> tuple[str, ...]:
        return self.trees

    @cached_property
    def _trees(self) -> Trees:
        return Trees(self.trees)

    def raw(self, rows: Matrix) -> Vector:
        """Uncalibrated log-odds."""
        linear = self.logistic.logits(rows)
        return 0.5 * linear + 0.5 * self._trees.raw(rows) if self.trees else linear

    def logits(self, rows: Matrix) -> Vector:
        """Calibrated log-odds of rows x features."""
        slope, offset = self.platt
        return slope * self.raw(rows) + offset

    def scores(self, rows: Matrix) -> Vector:
        """Probabilities; without calibration, numbers that only rank."""
        return 1.0 / (1.0 + np.exp(-self.logits(rows)))

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """A probability says all."""
        return {}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of the log-odds; the last column is what everybody starts from."""
        linear = self.logistic.contributions(rows)
        slope, offset = self.platt
        shares: Matrix = slope * (0.5 * linear + 0.5 * self._trees.contributions(rows) if self.trees else linear)
        shares[:, -1] += offset
        return shares


def standardise(values: Matrix, median: npt.ArrayLike, mean: npt.ArrayLike, scale: npt.ArrayLike) -> Matrix:
    """Impute the median, take the signed logarithm, standardise, clip."""
    standard = (signed_log(values, median) - np.asarray(mean)) / np.asarray(scale)
    return np.asarray(np.minimum(np.maximum(standard, -CLIP), CLIP))  # np.clip, in a third of its time for one row


def signed_log(values: Matrix, median: npt.ArrayLike) -> Matrix:
    """Impute the median and take the signed logarithm."""
    filled = np.where(np.isnan(values), median, values)
    return np.sign(filled) * np.log1p(np.abs(filled))
