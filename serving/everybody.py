"""Everybody's scores of one task, with their ranks: made once, when a release is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.vocabulary import STAGES
from training.bundle import Bundle

if TYPE_CHECKING:
    from features.snapshot import Snapshot

DETAIL = "detail."  # before the name of a column that only some kinds of predictions have


@dataclass(frozen=True)
class Scores:
    """Everybody's scores for one task, in the snapshot's order of users; NaN where a user is not eligible.

    score: what the bundle gives. details: what else it says, by name. percentile, stage_percentile: 0 to 100, among all eligible users and among those of
    the same stage; equal scores share their middle rank. ordered: the scores of the eligible, ascending, then NaN.
    """

    score: npt.NDArray[np.float64]
    percentile: npt.NDArray[np.float64]
    stage_percentile: npt.NDArray[np.float64]
    ordered: npt.NDArray[np.float64]
    details: Mapping[str, npt.NDArray[np.float64]]

    def columns(self) -> dict[str, npt.NDArray[np.float64]]:
        """Everything by name, as it is stored."""
        plain = {"score": self.score, "percentile": self.percentile, "stage_percentile": self.stage_percentile, "ordered": self.ordered}
        return plain | {f"{DETAIL}{name}": values for name, values in self.details.items()}

    @classmethod
    def of(cls, columns: Mapping[str, npt.NDArray[np.float64]]) -> Scores:
        details = {name.removeprefix(DETAIL): values for name, values in columns.items() if name.startswith(DETAIL)}
        return cls(columns["score"], columns["percentile"], columns["stage_percentile"], columns["ordered"], details)


def score_everybody(bundle: Bundle, snapshot: Snapshot, eligible: npt.NDArray[np.bool_]) -> Scores:
    """Score the eligible users of a snapshot in blocks."""
    rows = np.flatnonzero(eligible)
    matrix = snapshot.matrix(bundle.features)
    score = np.full(len(eligible), np.nan)
    details: dict[str, npt.NDArray[np.float64]] = {}
    for block in np.array_split(rows, max(1, len(rows) // 50_000)):
        score[block] = bundle.scores(matrix[block])
        for name, values in bundle.details(matrix[block]).items():
            details.setdefault(name, np.full(len(eligible), np.nan))[block] = values
    stages = stage_codes(snapshot)
    percentile, stage_percentile = np.full(len(score), np.nan), np.full(len(score), np.nan)
    percentile[rows] = percentiles(score[rows])
    for stage in range(len(STAGES)):
        mine = rows[stages[rows] == stage]
        stage_percentile[mine] = percentiles(score[mine])
    return Scores(score, percentile, stage_percentile, np.sort(score), details)


def percentiles(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The percentile of each one among all of them."""
    return percentiles_among(np.sort(score), len(score), score)


def percentiles_among(ordered: npt.NDArray[np.float64], number: int, score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of `ordered` below each score, plus half of those equal to it, times 100.

    Args:
        ordered: `number` scores, ascending; what follows is NaN.
    """
    below = np.searchsorted(ordered, score, "left")
    up_to = np.searchsorted(ordered, score, "right")
    result: npt.NDArray[np.float64] = 100.0 * (below + up_to) / (2 * max(1, number))
    return result


def stage_codes(snapshot: Snapshot) -> npt.NDArray[np.int8]:
    """The stage of each user as a position in STAGES."""
    names = snapshot.table["stage"].to_numpy(zero_copy_only=False)
    return np.array([STAGES.index(name) for name in names], dtype=np.int8)
