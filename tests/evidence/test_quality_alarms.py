"""How often an honest run raises an alarm of quality, and a broken one does not: over many shops of the law that the model learned."""

from __future__ import annotations

import numpy as np
import pytest

from features.shop import order_probability, simulate
from serving.quality.rules import below_expectation
from training.evaluate import evaluate, promised

USERS, DRAWS = 1200, 100


def judged(y, p, users, seed):
    """A stratum as `measure` has it, without the curve."""
    spread = 1.96 * np.sqrt((p * (1 - p)).sum())
    expected = {"value": p.sum(), "low": p.sum() - spread, "high": p.sum() + spread}
    found = {"metrics": evaluate(y, p, users, seed=seed, resamples=200), "promised": promised(p, seed), "expected": expected, "actual": float(y.sum())}
    stratum = {"rows": len(y), "customers": len(y), "positives": int(y.sum()), **found}
    return {"untreated": stratum, "all": stratum, "treated": {"rows": 0, "customers": 0, "positives": 0}}


@pytest.mark.long
def test_true_probabilities_raise_an_alarm_at_most_now_and_then_and_shuffled_ones_always():
    """Outcomes drawn from the simulated shop's own exact probabilities: nothing could be more honest."""
    shop = simulate(users=2 * USERS, days=200, seed=11)
    p = order_probability(shop, shop.start.fromordinal(shop.start.toordinal() + 150), 30)
    p = p[p > 0.01].clip(upper=0.99).to_numpy()[:USERS]
    users, random = np.arange(len(p)), np.random.default_rng(2)
    honest, broken = [], []
    for draw in range(DRAWS):
        y = (random.random(len(p)) < p).astype(float)
        honest.append(tuple(alert.rule for alert in below_expectation("probability", judged(y, p, users, draw), {})))
        if draw < 10:
            broken.append("ranking" in [alert.rule for alert in below_expectation("probability", judged(y, random.permutation(p), users, draw), {})])
    assert all(broken)
    assert sum(map(bool, honest)) <= 2, honest  # three rules of 95 % intervals that have to lie apart
