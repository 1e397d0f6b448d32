"""Scoring millions at a time: the arithmetic of `Likeness`, compiled, with the same sums in the same order.

A bundle scores by LightGBM, which walks down each tree and takes some 40 ns for it. The trees here have three nodes at most: all
three questions are asked of every row, and their answers are the place of the leaf in a table of eight, as in Lucchese et al. 2015,
"QuickScorer", https://doi.org/10.1145/2766462.2767733. A test holds both against each other: trees to the last bit, the line to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import joblib
import numpy as np
import numpy.typing as npt
from numba import njit

from training.blend import CLIP, Logistic, Vector
from training.lookalike.population import Table

Ints = npt.NDArray[np.int64]
Forest = tuple[Ints, Vector, npt.NDArray[np.bool_], Vector, Ints]
BLOCK = 1 << 13  # rows at a time: as many as caches hold
NODES = 3  # of a tree, at most
CATEGORICAL, DEFAULT_LEFT = 1, 2  # bits of LightGBM's decision type; the next two are how it treats missing values
MISSING_NONE, MISSING_ZERO = 0, 1


def linear_scores(model: Logistic, X: Table) -> Vector:
    """What `model.logits` says of every row."""
    places = np.array(model.columns, dtype=np.int64)
    median, mean, scale, coef = (np.array(values) for values in (model.median, model.mean, model.scale, model.coef))
    return _over_blocks(X, lambda rows, out: _linear(rows, places, median, mean, scale, coef, model.intercept, CLIP, out))


def tree_scores(texts: Sequence[str], X: Table) -> Vector:
    """What `Trees(texts).raw` says of every row.

    Raises:
        ValueError: trees of more than three nodes, on categories, or that take zero for missing.
    """
    forest = _read(texts)
    return _over_blocks(X, lambda rows, out: _ask(np.ascontiguousarray(rows.T), *forest, out))


def _over_blocks(X: Table, work: Callable[[Table, Vector], None]) -> Vector:
    out = np.empty(len(X))
    starts = range(0, len(X), BLOCK)
    joblib.Parallel(n_jobs=-1, prefer="threads")(joblib.delayed(work)(X[start : start + BLOCK], out[start : start + BLOCK]) for start in starts)
    return out


def _read(texts: Sequence[str]) -> Forest:
    """Feature, threshold and whether no value means yes, of trees x 3 questions; leaf values of trees x 8 answers; the first tree
    of each model, and one more."""
    models = [[_table(tree) for tree in text.split("end of trees")[0].split("\nTree=")[1:]] for text in texts]
    features, thresholds, absent, leaves = (np.array(part) for part in zip(*(tree for trees in models for tree in trees), strict=True))
    return features, thresholds, absent, leaves, np.cumsum([0, *map(len, models)])


def _table(tree: str) -> tuple[list[int], list[float], list[bool], list[float]]:
    told = {name: values.split() for name, _, values in (line.partition("=") for line in tree.splitlines())}
    features, kinds = ([int(value) for value in told.get(name, [])] for name in ("split_feature", "decision_type"))
    limits, leaves = [float(value) for value in told.get("threshold", [])], [float(value) for value in told["leaf_value"]]
    if len(features) > NODES or any(kind & CATEGORICAL or (kind >> 2) & 3 == MISSING_ZERO for kind in kinds):
        raise ValueError(f"a tree of {len(features)} nodes, or of other questions than on numbers: bulk scoring knows likeness alone")
    unknown = [limit >= 0.0 if (kind >> 2) & 3 == MISSING_NONE else bool(kind & DEFAULT_LEFT) for kind, limit in zip(kinds, limits, strict=True)]
    children = [[int(value) for value in told.get(name, [])] for name in ("right_child", "left_child")]
    found = []
    for answers in range(1 << NODES):
        node = 0 if features else -1
        while node >= 0:
            node = children[answers >> node & 1][node]
        found.append(leaves[-node - 1])
    empty = NODES - len(features)
    return features + [0] * empty, limits + [0.0] * empty, unknown + [False] * empty, found


@njit(nogil=True, cache=True)
def _linear(rows, places, median, mean, scale, coef, intercept, clip, out):  # type: ignore[no-untyped-def]
    for row in range(rows.shape[0]):
        total = intercept
        for k in range(len(places)):
            value = float(rows[row, places[k]])
            if np.isnan(value):
                value = median[k]
            logged = np.log1p(abs(value))
            if value < 0:
                logged = -logged
            total += coef[k] * min(max((logged - mean[k]) / scale[k], -clip), clip)
        out[row] = total


@njit(nogil=True, cache=True)
def _ask(columns, feature, threshold, absent, leaves, models, out):  # type: ignore[no-untyped-def]
    count, size = len(models) - 1, len(out)
    part = np.empty(size)
    out[:] = 0.0
    for model in range(count):
        part[:] = 0.0
        for tree in range(models[model], models[model + 1]):
            a, b, c = columns[feature[tree, 0]], columns[feature[tree, 1]], columns[feature[tree, 2]]
            at_a, at_b, at_c = threshold[tree, 0], threshold[tree, 1], threshold[tree, 2]
            if_a, if_b, if_c = absent[tree, 0], absent[tree, 1], absent[tree, 2]
            leaf = leaves[tree]
            for row in range(size):
                yes_a = (a[row] <= at_a) | ((a[row] != a[row]) & if_a)
                yes_b = (b[row] <= at_b) | ((b[row] != b[row]) & if_b)
                yes_c = (c[row] <= at_c) | ((c[row] != c[row]) & if_c)
                part[row] += leaf[yes_a + 2 * yes_b + 4 * yes_c]
        out += part
    out /= count
