"""Everybody's scores of one task, with their ranks: made once, when a release is published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from features.vocabulary import STAGES
from training.blend import Matrix, Vector
from training.bundle import Bundle

if TYPE_CHECKING:
    from features.snapshot import Snapshot

BLOCK = 20_000  # users scored at once
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
    """Score the eligible users of a snapshot in blocks, as many at a time as there are cores: each row's score is its own."""
    rows = np.flatnonzero(eligible)
    matrix = snapshot.matrix(bundle.features)
    score = np.full(len(eligible), np.nan)
    details: dict[str, npt.NDArray[np.float64]] = {}
    blocks = np.array_split(rows, max(1, len(rows) // BLOCK))
    bundle.scores(matrix[:1])  # opens the trees, once
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for block, (found, more) in zip(blocks, pool.map(lambda block: _scored(bundle, matrix[block]), blocks), strict=True):
            score[block] = found
            for name, values in more.items():
                details.setdefault(name, np.full(len(eligible), np.nan))[block] = values
    stages = stage_codes(snapshot)
    percentile, stage_percentile = np.full(len(score), np.nan), np.full(len(score), np.nan)
    percentile[rows] = percentiles(score[rows])
    for stage in range(len(STAGES)):
        mine = rows[stages[rows] == stage]
        stage_percentile[mine] = percentiles(score[mine])
    return Scores(score, percentile, stage_percentile, np.sort(score), details)


def _scored(bundle: Bundle, rows: Matrix) -> tuple[Vector, dict[str, Vector]]:
    return bundle.scores(rows), bundle.details(rows)


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
