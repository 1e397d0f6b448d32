"""Rankings: who comes first, and what is expected of the first so many, summed once per release, prediction and condition."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.audiences.columns import feature
from serving.audiences.conditions import holds
from serving.audiences.memory import remembered
from serving.release import Release

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """The pool of a cut, best first: whom the prediction is about, who may be spoken to and, where there is a condition, fulfils it.

    rows: of the snapshot; equal scores stand in the order of user ids. score: theirs, falling. percentile: among all whom the
    prediction is about. sums, spread: of the first n, at place n: the sum of scores, and of p (1 - p) where they are probabilities.
    """

    rows: Rows
    score: Floats
    percentile: Floats
    sums: Floats
    spread: Floats | None

    def __len__(self) -> int:
        return len(self.rows)

    def down_to(self, least: float) -> int:
        """How many have a score of at least this."""
        return bisect_right(self.score, -least, key=lambda score: -score)

    def above(self, most: float) -> int:
        """How many have a score above this."""
        return bisect_left(self.score, -most, key=lambda score: -score)

    def down_to_percentile(self, least: float) -> int:
        return bisect_right(self.percentile, -least, key=lambda percentile: -percentile)

    def above_percentile(self, most: float) -> int:
        return bisect_left(self.percentile, -most, key=lambda percentile: -percentile)


def ranked(score: Floats) -> Rows:
    """Rows of eligible users, best first; equal scores stand in the order of user ids, which is that of the rows."""
    rows = np.flatnonzero(~np.isnan(score))
    order: Rows = rows[falling(score[rows])]
    return order


def falling(score: Floats) -> Rows:
    """The places of scores, highest first, equal ones as they stand: what a stable sort gives, in a third of its time."""
    order: Rows = np.argsort(-score)
    sorted_, begins = score[order], np.ones(len(score), dtype=bool)
    np.not_equal(sorted_[1:], sorted_[:-1], out=begins[1:])
    tied = np.flatnonzero(~begins | ~np.append(begins[1:], True))
    run = np.cumsum(begins[tied]) * len(score)  # no place reaches it: one sort puts every run of equal scores in order
    order[tied] = np.sort(run + order[tied]) - run
    return order


def ranking(release: Release, task: str, where: Mapping[str, Any] | None = None) -> Ranking:
    """The ranking of a prediction's pool."""
    if where is None:
        return remembered(release, ("ranking", task), lambda: _summed(release, task, release.withheld.marketable(ranked(release.scores[task].score))))
    key = "ranking", task, json.dumps(where, sort_keys=True)
    return remembered(release, key, lambda: _summed(release, task, _fulfilling(release, ranking(release, task).rows, where)))


def pool(release: Release, where: Mapping[str, Any]) -> Rows:
    """Whom a condition alone picks, in the order of user ids."""
    key = "pool", json.dumps(where, sort_keys=True)
    return remembered(release, key, lambda: _fulfilling(release, release.withheld.marketable(np.arange(len(release.users))), where))


def _fulfilling(release: Release, rows: Rows, where: Mapping[str, Any]) -> Rows:
    return rows[holds(where, release)[rows]]


def _summed(release: Release, task: str, rows: Rows) -> Ranking:
    scores = release.scores[task]
    score = scores.score[rows]
    spread = _running(score * (1 - score)) if release.bundles[task].calibrated else None
    return Ranking(rows, score, scores.percentile[rows], _running(score), spread)


def _running(values: npt.NDArray[Any]) -> Floats:
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


@dataclass(frozen=True)
class ByRecency:
    """A pool as the recency rule orders it. users, chances: of all who bought at most so many days ago, day by day."""

    users: Floats
    chances: Floats

    def of_first(self, size: float) -> float:
        """What the model expects of the first so many; users of the same day count alike."""
        return float(np.interp(size, self.users, self.chances))


def by_recency(release: Release, task: str, where: Mapping[str, Any] | None) -> ByRecency | None:
    """The pool by days since the last order, from the end that does better: those who bought last, but for predictions of staying away
    those who bought longest ago. None where the release does not know, or nobody in the pool has bought."""
    if "orders_recency" not in release.features:
        return None
    key = "by recency", task, json.dumps(where, sort_keys=True)
    return remembered(release, key, lambda: _by_recency(release, task, where))


def _by_recency(release: Release, task: str, where: Mapping[str, Any] | None) -> ByRecency | None:
    found = ranking(release, task, where)
    days = feature(release, "orders_recency")[found.rows]
    buyers = ~np.isnan(days)
    if not buyers.any():
        return None
    day = np.where(buyers, days, np.nanmax(days) + 1).astype(np.int64)  # who never bought comes last
    users, chances = np.bincount(day).astype(np.float64), np.bincount(day, found.score)
    ways = [ByRecency(_running(users[order]), _running(chances[order])) for order in (np.arange(len(users)), _oldest_first(len(users), bool(buyers.all())))]
    return max(ways, key=lambda way: np.trapezoid(way.chances, way.users))


def _oldest_first(days: int, all_bought: bool) -> Rows:
    return np.arange(days)[::-1] if all_bought else np.append(np.arange(days - 1)[::-1], days - 1)
