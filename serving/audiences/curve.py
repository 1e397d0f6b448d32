"""The curve over all cuts of a ranking, and the histogram of its scores: what a slider needs, in one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.audiences.expected import Level, level_of
from serving.audiences.profit import Economics, Profit, profit, recommended
from serving.audiences.ranking import ByRecency, Ranking, by_recency, ranking
from serving.audiences.rules import Rule, check
from serving.release import Release

MOST_POINTS, BINS = 200, 50
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """The best `size` of the pool. threshold: the score of the last of them. Numbers are None where the prediction gives no probability."""

    size: int
    percent: float
    threshold: float
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    precision: float | None = None
    recall: float | None = None
    false_positives: float | None = None
    lift: float | None = None
    by_recency: float | None = None
    at_random: float | None = None
    profit: float | None = None


@dataclass(frozen=True)
class Curve:
    """points: from the smallest cut to the whole pool. edges, counts: a histogram of the pool's scores, BINS bars."""

    task: str
    release: str
    eligible: int
    points: list[Point]
    edges: list[float]
    counts: list[int]
    basis: str | None
    recommended: Profit | None


def curve(release: Release, task: str, where: Mapping[str, Any] | None = None, economics: Economics | None = None, points: int = 100) -> Curve:
    """All cuts of a prediction's pool at up to `points` sizes, the recommended one among them.

    Raises:
        UnknownName, InvalidRule: as `cut`.
    """
    check(Rule(task, where=where) if where is not None else Rule(task, top_percent=100), release)
    found, bundle = ranking(release, task, where), release.bundles[task]
    pays = bundle.calibrated or bundle.kind == "effect"
    best = recommended(found, economics, bundle.kind) if economics and pays else None
    sizes = sizes_of(len(found), min(points, MOST_POINTS), best.size if best else 0)
    edges, counts = histogram(found, bundle.calibrated)
    level = level_of(release, task) if bundle.calibrated else None
    recency = by_recency(release, task, where) if level else None
    profits = profit(found, economics, sizes, bundle.kind).tolist() if economics and pays else [None] * len(sizes)
    made = [_point(found, int(size), level, recency, earned) for size, earned in zip(sizes, profits, strict=True)]
    return Curve(task, release.id, len(found), made, edges, counts, level.basis if level else None, best)


def sizes_of(pool: int, points: int, also: int = 0) -> npt.NDArray[np.int64]:
    """Sizes of cuts, evenly from the first to the whole pool, all different."""
    if not pool:
        return np.zeros(0, dtype=np.int64)
    even = np.unique(np.rint(np.linspace(0, pool, min(points, pool) + 1)[1:]).astype(np.int64))
    return np.union1d(even, [also]) if also else even


def histogram(found: Ranking, calibrated: bool) -> tuple[list[float], list[int]]:
    """Edges and counts of equal bars: of probabilities from 0 to 1, of other scores from their least to their most."""
    if not len(found):
        return [], []
    low, high = (0.0, 1.0) if calibrated else (float(found.score[-1]), float(found.score[0]))
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    down_to = [found.down_to(edge) for edge in edges[:-1]] + [0]  # the last bar holds its upper edge, too
    return edges.tolist(), [int(more - fewer) for more, fewer in pairwise(down_to)]


def _point(found: Ranking, size: int, level: Level | None, recency: ByRecency | None, earned: float | None) -> Point:
    plain: dict[str, Any] = {"size": size, "percent": 100 * size / len(found), "threshold": float(found.score[size - 1]), "profit": earned}
    if level is None or found.spread is None:
        return Point(**plain)
    expected, everybody = float(found.sums[size]), float(found.sums[-1])
    low, high = level.interval(expected, float(found.spread[size]), size)
    at_random = everybody * size / len(found)
    return Point(
        **plain,
        expected=expected,
        low=low,
        high=high,
        precision=expected / size,
        recall=expected / everybody if everybody else None,
        false_positives=size - expected,
        lift=expected / at_random if at_random else None,
        by_recency=recency.of_first(size) if recency else None,
        at_random=at_random,
    )
