"""Uplift: what a treatment adds to the probability of a yes. The fitted model's arithmetic, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from training.blend import Logistic, Matrix, Trees, Vector


@dataclass(frozen=True)
class Uplift:
    """A model of P(yes | treated) - P(yes | control), in one of three forms.

    learner: how it was fitted. lines: (treated, control), two logistics whose log-odds are those of a yes in each arm; or
    (effect,), one line whose value is the effect itself; or none. texts: LightGBM models of the log-odds of a yes, whose
    last column says whether the row is treated; none where there are lines.
    """

    learner: str
    lines: tuple[Logistic, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, described: Mapping[str, Any], texts: Sequence[str]) -> Uplift:
        """From what JSON made of it."""
        return cls(described["learner"], tuple(Logistic.of(line) for line in described["lines"]), tuple(texts))

    def describe(self) -> dict[str, Any]:
        return {"learner": self.learner, "lines": [line.describe() for line in self.lines]}

    @property
    def explains(self) -> str:
        """What the contributions of a row add up to."""
        return "effect" if len(self.lines) == 1 else "difference of log-odds"

    def effect(self, rows: Matrix) -> Vector:
        """P(yes | treated) - P(yes | control) of rows x features (NaN for no value), from -1 to 1."""
        if len(self.lines) == 1:
            return np.clip(self.lines[0].logits(rows), -1.0, 1.0)
        treated, control = self._log_odds(rows)
        return _probability(treated) - _probability(control)

    def scores(self, rows: Matrix) -> Vector:
        """The effect: who gains most from the treatment comes first."""
        return self.effect(rows)

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """Both probabilities, where the model has them."""
        if len(self.lines) == 1:
            return {}
        treated, control = self._log_odds(rows)
        return {"if_treated": _probability(treated), "if_control": _probability(control)}

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of what `explains` names; the last column is what everybody starts from.

        Lines: coefficient x standardised value, treated minus control. Trees: TreeSHAP of the row as treated minus that
        of the row as control; what the treatment has by itself is in the last column.
        """
        if len(self.lines) == 1:
            return self.lines[0].contributions(rows)
        if self.lines:
            return np.asarray(self.lines[0].contributions(rows) - self.lines[1].contributions(rows))
        shares = self._trees.contributions(with_treatment(rows, 1)) - self._trees.contributions(with_treatment(rows, 0))
        shares[:, -1] += shares[:, -2]
        return np.delete(shares, -2, axis=1)

    @cached_property
    def _trees(self) -> Trees:
        return Trees(self.texts)

    def _log_odds(self, rows: Matrix) -> tuple[Vector, Vector]:
        if self.lines:
            return self.lines[0].logits(rows), self.lines[1].logits(rows)
        return self._trees.raw(with_treatment(rows, 1)), self._trees.raw(with_treatment(rows, 0))


def with_treatment(rows: Matrix, treated: Any) -> Matrix:
    """The rows with one more column: 1 for treated, 0 for control."""
    return np.column_stack([rows, np.broadcast_to(np.asarray(treated, dtype=np.float64), len(rows))])


def _probability(log_odds: Vector) -> Vector:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))
