"""Ways to rank people by likeness to a seed: the rules that people use, the folk methods, and ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import joblib
import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from training.blend import Logistic, Matrix, Vector, signed_log, standardise
from training.lookalike.bulk import BLOCK, linear_scores, tree_scores
from training.lookalike.likeness import Likeness, Part
from training.lookalike.population import Mask, Population, Table

STRENGTH = 0.003  # C of the logistic: a seed says little, and many features say the same
MOST_UNLABELLED = 50_000  # to fit on, drawn by lots; everybody is scored
NEIGHBOURS = 10
BAGS, PER_SEED_USER = 20, 2
MOST_OF_SEED = 1_500  # in one bag
UNLABELLED_WEIGH = 20  # explicit negatives
TREES = {
    "objective": "binary",
    "learning_rate": 0.3,
    "num_leaves": 4,
    "min_child_samples": 10,
    "feature_fraction": 0.3,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
ROUNDS = 10  # few and small: twenty bags of more and larger trees ranked no better

AS_IT_IS = Part(0.0, 1.0)
MEMBERS = ("logistic", "bagging")
Scores = dict[str, Vector]
Floats = tuple[float, ...]


@dataclass(frozen=True)
class Rules:
    """The columns of the rules that people use without a model: spend; days since the last order, orders, spend of late."""

    spend: str = "orders_revenue_365d"
    rfm: tuple[str, str, str] = ("orders_recency", "orders_count_90d", "orders_revenue_90d")


def rankings(people: Population, rules: Rules) -> Scores:
    """Method -> a score of everybody by every method; higher is more alike. Rules whose columns are missing are left out."""
    table, known = prepared(people), {*people.names, *people.facts}
    found = members(people) | {
        "lightgbm": tree_scores(fit_against_unlabelled(people), people.X),
        "knn": knn(table, people.seed),
        "centroid": centroid(table, people.seed),
    }
    if known.issuperset(rules.rfm):
        narrow = Population(np.column_stack([people.column(name) for name in rules.rfm]), rules.rfm, people.users, people.seed, people.negatives)
        found |= {"rfm": rfm(people, rules.rfm), "rfm_logistic": linear_scores(fit_logistic(narrow, 1.0), narrow.X)}
    if rules.spend in known:
        found["spend"] = np.nan_to_num(people.column(rules.spend), nan=-np.inf)
    return found


def members(people: Population) -> Scores:
    """The same of the ensemble and its members alone."""
    linear, bagged = linear_scores(fit_logistic(people), people.X), tree_scores(fit_bags(people), people.X)
    both = standardised(linear, _scale_of(linear)) + standardised(bagged, _scale_of(bagged))
    return {"ensemble": both, "logistic": linear, "bagging": bagged}


def rfm(people: Population, columns: tuple[str, str, str]) -> Vector:
    """Sum of the fifths of recency (few days are good), frequency and spend: the rule of Hughes 1994, Strategic Database Marketing."""
    recency, frequency, spend = (people.column(name) for name in columns)
    return fifth(-recency) + fifth(frequency) + fifth(spend)


def fifth(values: Vector) -> Vector:
    """1 to 5; equal values share a fifth, no value is in the lowest."""
    ranks = rankdata(np.nan_to_num(values, nan=-np.inf), method="max")
    return np.asarray(np.ceil(5 * ranks / len(values)))


def centroid(table: Matrix, seed: Mask) -> Vector:
    """Cosine between each row of a prepared table and the mean of the seed."""
    centre = table[seed].mean(axis=0)
    length = np.sqrt((table**2).sum(axis=1)) * np.sqrt((centre**2).sum())
    return np.asarray((table * centre).sum(axis=1) / np.maximum(length, 1e-12))


def knn(table: Matrix, seed: Mask, neighbours: int = NEIGHBOURS) -> Vector:
    """Mean distance to the nearest seed users, negated; a seed user is not a neighbour of itself."""
    wanted = min(neighbours, int(seed.sum()) - 1)
    if wanted < 1:
        return np.zeros(len(table))
    with threadpool_limits(1):
        near = NearestNeighbors(n_neighbors=wanted + 1, algorithm="brute").fit(table[seed]).kneighbors(table)[0]
    return np.asarray(-np.where(seed[:, None], near[:, 1:], near[:, :-1]).mean(axis=1))


def fit_likeness(people: Population, parts: Sequence[str] = MEMBERS) -> Likeness:
    """What is served: the logistic, the bagged trees, or the mean of the two on their scales in the population."""
    logistic = fit_logistic(people) if "logistic" in parts else None
    trees = fit_bags(people) if "bagging" in parts else ()
    typical = people.at_most(MOST_UNLABELLED).X
    linear = _scale_of(linear_scores(logistic, typical)) if logistic else AS_IT_IS
    bagged = _scale_of(tree_scores(trees, typical)) if trees else AS_IT_IS
    return Likeness(logistic, trees, linear, bagged)


def _scale_of(values: Vector) -> Part:
    deviation = float(values.std())
    return Part(float(values.mean()), deviation if deviation > 1e-12 else 1.0)  # a model that tells nobody apart says nothing


def standardised(values: Vector, part: Part) -> Vector:
    return np.asarray((values - part.mean) / part.deviation)


def prepared(people: Population) -> Matrix:
    """Everybody's features imputed, sign-logged, standardised and clipped, as the logistic sees them."""
    return standardise(np.asarray(people.X, dtype=np.float64), *preparation(people))


def preparation(people: Population) -> tuple[Floats, Floats, Floats]:
    """Median, mean and scale of each column."""
    values = np.asfortranarray(people.X, dtype=np.float64)  # sums along a column are most exact when it lies together
    empty = np.isnan(values).all(axis=0)
    median = np.zeros(values.shape[1])
    median[~empty] = np.nanmedian(values[:, ~empty], axis=0)
    logged = signed_log(values, list(median))
    deviation = logged.std(axis=0)
    return _floats(median), _floats(logged.mean(axis=0)), _floats(np.where(deviation > 1e-9, deviation, 1.0))


def fit_logistic(people: Population, strength: float = STRENGTH) -> Logistic:
    """A logistic of seed against everybody else on prepared columns, with a strong L2 penalty.

    Explicit negatives, where there are any, count far more than the unlabelled do.
    """
    known = people.at_most(MOST_UNLABELLED)
    median, mean, scale = preparation(known)
    with threadpool_limits(1):
        model = LogisticRegression(C=strength, max_iter=500, tol=1e-6).fit(
            standardise(np.asarray(known.X, dtype=np.float64), median, mean, scale), known.seed, sample_weight=_weights(known)
        )
    return Logistic(tuple(range(len(people.names))), median, mean, scale, _floats(model.coef_[0]), float(model.intercept_[0]))


def _weights(people: Population) -> Vector:
    """One for each user; the unlabelled weigh, all together, as much as 20 explicit negatives, where there are any.

    Receivers of a sample were chosen. Against everybody, who came back looks like who was chosen; against the receivers who
    did not, like who comes back. What is left of the unlabelled keeps the model sane where no sample went.
    """
    weights, negatives, unlabelled = np.ones(len(people)), int(people.negatives.sum()), int(people.unlabelled.sum())
    if negatives:
        each = (negatives + unlabelled) / (negatives + UNLABELLED_WEIGH)  # in sum the weight stays what it was
        weights[people.negatives] = each
        weights[people.unlabelled] = each * UNLABELLED_WEIGH / unlabelled
    return weights


def fit_bags(people: Population) -> tuple[str, ...]:
    """Bagging for positive and unlabelled examples: each bag has the whole seed and another draw of twice as many others.

    A seed of more than 1,500 gives each bag a draw of so many. Source: Mordelet, Vert 2014, "A bagging SVM to learn from positive and unlabeled examples", https://doi.org/10.1016/j.patrec.2013.06.010;
    boosted trees in the place of the support vector machine. Explicit negatives are drawn first, the unlabelled fill the bag up.
    """
    return tuple(joblib.Parallel(n_jobs=-1, prefer="threads")(joblib.delayed(_fit_bag)(people, bag) for bag in range(BAGS)))


def _fit_bag(people: Population, bag: int) -> str:
    seed, negatives, others = (np.flatnonzero(mask) for mask in (people.seed, people.negatives, people.unlabelled))
    random = np.random.default_rng([len(people), bag])
    shown = random.choice(seed, min(len(seed), MOST_OF_SEED), replace=False)
    wanted = PER_SEED_USER * len(shown)
    known = random.choice(negatives, min(len(negatives), wanted), replace=False)
    drawn = random.choice(others, min(len(others), wanted - len(known)), replace=False)
    rows = np.sort(np.concatenate([shown, known, drawn]))
    return _boosted(people.X[rows], people.seed[rows], bag)


def fit_against_unlabelled(people: Population) -> tuple[str, ...]:
    """Boosted trees that take everybody else for negative: what a classifier does that knows nothing of unlabelled examples."""
    known = people.at_most(MOST_UNLABELLED)
    return (_boosted(known.X, known.seed, 0),)


def _boosted(X: Table, y: Mask, seed: int) -> str:
    settings = {**TREES, "seed": seed}
    return str(lgb.train(settings, lgb.Dataset(X, label=y.astype(np.int8), params=settings), num_boost_round=ROUNDS).model_to_string())


def in_blocks(score: Callable[[Matrix], Vector], X: Table) -> Vector:
    """The scores of all rows by any model, block by block on all cores, to the last bit: a row's score does not depend on its block."""
    blocks = (np.ascontiguousarray(X[start : start + BLOCK], dtype=np.float64) for start in range(0, len(X), BLOCK))
    return np.concatenate(joblib.Parallel(n_jobs=-1, prefer="threads")(joblib.delayed(score)(block) for block in blocks))


def scores_of(model: Likeness, X: Table) -> Vector:
    """The model's scores of everybody, quickly: `model.scores`, to rounding."""
    parts = []
    if model.logistic:
        parts.append(standardised(linear_scores(model.logistic, X), model.linear))
    if model.trees:
        parts.append(standardised(tree_scores(model.trees, X), model.bagged))
    return np.asarray(np.mean(parts, axis=0))


def _floats(values: npt.NDArray[np.float64]) -> Floats:
    return tuple(float(value) for value in values)
