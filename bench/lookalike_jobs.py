"""One expansion of a large population, timed, in a process of its own: `lookalike.py` starts it."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from measure import report, timed
from sklearn.neighbors import NearestNeighbors

from training.blend import standardise
from training.lookalike.bulk import linear_scores
from training.lookalike.methods import NEIGHBOURS, fit_likeness, fit_logistic, preparation, scores_of
from training.lookalike.population import Population, population

FEATURES, CHUNK = 60, 100_000


def people(users: int, shown: int) -> Population:
    """Skewed features with gaps; the seed is higher in five of them."""
    random = np.random.default_rng(0)
    X = np.empty((users, FEATURES), dtype=np.float32)
    for start in range(0, users, CHUNK):
        part = X[start : start + CHUNK]
        part[:] = random.standard_exponential(part.shape, dtype=np.float32) * 30
        part[random.random(part.shape, dtype=np.float32) < 0.1] = np.nan
    seed = random.choice(users, shown, replace=False)
    X[seed, :5] *= 2
    ids = np.array([f"u{number:08d}" for number in range(users)], dtype=object)
    return population(X, [f"f{number}" for number in range(FEATURES)], ids, ids[seed])


def knn(known: Population) -> None:
    """Brute force by scikit-learn, on features that are prepared beforehand and in the precision that is quickest for it."""
    how = preparation(known.at_most(50_000))
    table = np.concatenate([standardise(known.X[start : start + CHUNK], *how).astype(np.float32) for start in range(0, len(known), CHUNK)])
    facts: dict[str, Any] = {}
    with timed("seconds", facts):
        near = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(table[known.seed]).kneighbors(table)[0].mean(axis=1)
    report(facts | {"best": float(near.min())})


def logistic(known: Population) -> None:
    facts: dict[str, Any] = {}
    with timed("seconds", facts):
        with timed("fit", facts):
            model = fit_logistic(known)
        scores = linear_scores(model, known.X)
    report(facts | {"best": float(scores.max())})


def ensemble(known: Population) -> None:
    facts: dict[str, Any] = {}
    with timed("seconds", facts):
        with timed("fit", facts):
            model = fit_likeness(known)
        scores = scores_of(model, known.X)
    report(facts | {"best": float(scores.max())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("knn", "logistic", "ensemble"))
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--shown", type=int, required=True)
    asked = parser.parse_args()
    few = people(2_000, 100)
    scores_of(fit_likeness(few), few.X)  # libraries and loops are loaded before the clock runs
    known = people(asked.users, asked.shown)
    {"knn": knn, "logistic": logistic, "ensemble": ensemble}[asked.work](known)


if __name__ == "__main__":
    main()
