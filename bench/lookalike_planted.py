"""A shop with planted likeness and a sampling campaign that chose its receivers: what an expansion can reach, and what it does.

Each customer has a chance of buying the full-size product after a sample, which is known here and nowhere else. Samples
went to active customers (selective labels); whoever bought is the seed, the other receivers are explicit negatives. The
oracle is the product's blend, trained on the outcome of a sample sent to everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from lookalike_tables import interval, mean_table
from scipy.stats import spearmanr

from training.lookalike.methods import Rules, rankings
from training.lookalike.population import Mask, Population, population
from training.models import Recipe, fit

Vector = npt.NDArray[np.float64]
USERS, RECEIVERS = 20_000, 800
NAMES = ("recency", "orders", "spend", "breadth", "price", "new_products", "samples", "care", "evening", "discount", *(f"other_{n}" for n in range(20)))
RULES = Rules("spend", ("recency", "orders", "spend"))
MEASURES = ("rank correlation with the planted chance", "lift at 10 % over random", "of the oracle's")


def shop(draw: int, receivers: int) -> tuple[Population, Population, Vector, Mask]:
    """Population with answers, the same without the negatives, the planted chance of everybody, and who would buy if all got a sample."""
    random = np.random.default_rng([draw, 11])
    activity, curious, careful = random.normal(size=(3, USERS))
    noise = random.normal(size=(USERS, len(NAMES)))
    X = np.exp(0.6 * noise)
    X[:, 0] = np.exp(3.0 - 0.8 * activity + 0.5 * noise[:, 0])
    X[:, 1] = np.floor(np.exp(1.5 + 0.8 * activity + 0.3 * noise[:, 1]))
    X[:, 2] = np.exp(4.0 + 0.9 * activity + 0.5 * noise[:, 2])
    X[:, 3] = np.exp(0.5 * activity + 0.5 * curious + 0.4 * noise[:, 3])
    X[:, 4] = np.exp(0.3 * careful + 0.4 * noise[:, 4])
    X[:, 5] = np.floor(np.exp(0.9 * curious + 0.4 * noise[:, 5]))
    X[:, 6] = np.floor(np.exp(0.6 * curious + 0.5 * noise[:, 6]))
    X[:, 7] = np.exp(0.9 * careful + 0.4 * noise[:, 7])
    X[random.random(X.shape) < 0.05] = np.nan
    # Curious customers buy; careful ones only if they are neither too careful nor not at all; activity helps a little.
    chance = 1 / (1 + np.exp(-(-3.2 + 1.1 * curious - 0.7 * (careful - 0.5) ** 2 + 0.3 * activity + 0.5 * curious * (careful > 0))))
    buys = random.random(USERS) < chance
    got = np.argsort(-(1.2 * activity + random.gumbel(size=USERS)))[:receivers]
    ids = np.array([f"u{number:06d}" for number in range(USERS)], dtype=object)
    bought, did_not = ids[got[buys[got]]], ids[got[~buys[got]]]
    return population(X, NAMES, ids, bought, did_not), population(X, NAMES, ids, bought), chance, buys


def measure(draws: Sequence[int], receivers: int = RECEIVERS) -> dict[str, Any]:
    """Method -> the three measures on customers who got no sample, one value per draw of the shop."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for draw in draws:
        told, untold, chance, buys = shop(draw, receivers)
        others = told.unlabelled
        oracle = fit(told.X, buys.astype(np.int8), told.users, Recipe(folds=0)).scores(told.X)
        ways = {"oracle": oracle} | rankings(told, RULES)
        ways |= {f"{name}, no negatives": scores for name, scores in rankings(untold, RULES).items() if name in ("ensemble", "logistic", "bagging")}
        most = lift(oracle[others], chance[others])
        for name, scores in ways.items():
            reached = lift(scores[others], chance[others])
            found.setdefault(name, []).append((float(spearmanr(scores[others], chance[others])[0]), reached, reached / most))
    return {name: [interval([value[place] for value in values]) for place in range(3)] for name, values in found.items()}


def lift(scores: Vector, chance: Vector) -> float:
    """Mean planted chance in the top tenth over that of all."""
    top = np.argsort(-scores, kind="stable")[: round(0.1 * len(scores))]
    return float(chance[top].mean() / chance.mean())


def section(draws: Sequence[int]) -> str:
    """Markdown: everything measured, for a campaign of 800 receivers and a larger one."""
    parts = [
        "## A planted sampling campaign\n",
        f"{USERS:,} made-up customers, {len(NAMES)} features, {len(draws)} draws of the shop; intervals: t over draws.",
    ]
    for receivers in (RECEIVERS, 4_000):
        parts.append(f"\nSamples to {receivers:,} active customers:\n\n{mean_table(measure(draws, receivers), MEASURES)}")
    return "\n".join(parts) + "\n"
