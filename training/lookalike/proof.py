"""Proof: does an expansion find the part of the seed that was hidden from it, and better than the rules people use?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluate import Interval
from training.lookalike.choose import Choice, choose
from training.lookalike.methods import MOST_UNLABELLED, Rules, rankings
from training.lookalike.population import Population
from training.lookalike.recall import MAIN, SHARES, Found, gain, hidden_of, lift, over_splits, recalls, scaled, sizes_of

SPLITS = range(10)
CURVE_SPLITS = range(5)
CURVE = (30, 50, 100, 200, 400)  # users shown; and all
BANDS = (0.01, 0.05, 0.10, 0.20, 0.30, 0.50, 1.00)  # of the candidates, for the base rate
SIMPLER = ("spend", "rfm", "centroid")
Measured = dict[str, dict[str, Interval]]  # method -> share of the candidates in per cent -> interval


@dataclass(frozen=True)
class Proof:
    """What a hidden fifth of the seed says, over repeated splits. No user is named in it.

    among: whom the hidden are looked for among, candidates or explicit negatives. candidates, drawn: how many there are, and
    how many of them the proof drew by lots. recall, lift_over_random: of each method. lift: of the chosen method over the
    others. gain: the same as a difference of recalls. curve: recall at 10 % of every method by number of seed users shown; best:
    at each of these numbers the best single method (`method`) and what ours finds beyond it on the same splits (`gain`). bands:
    mean recall of the chosen method at `BANDS`.
    """

    seed: int
    hidden: int
    negatives: int
    among: str
    candidates: int
    drawn: int
    splits: int
    choice: Choice
    recall: Measured
    lift_over_random: Measured
    lift: Measured
    gain: Measured
    curve: dict[int, dict[str, Interval]]
    best: dict[int, dict[str, Any]]
    bands: tuple[float, ...]

    @property
    def better_than_rules(self) -> bool:
        """Whether the chosen method surely finds more at 10 % than spend, the RFM rule and the centroid, those that there are."""
        lows = [self.gain[method][percent(MAIN)]["low"] for method in SIMPLER if method in self.gain]
        return all(low is not None and low > 0 for low in lows)

    @property
    def no_worse_at_any_size(self) -> bool:
        """Whether at no number of seed users the best single method surely finds more than ours: the interval reaches 0."""
        return all((versus["gain"]["high"] or 0.0) >= 0 for versus in self.best.values())

    def describe(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain = {name: value for name, value in vars(self).items() if name not in ("choice", "curve", "best", "bands")}
        return {
            **plain,
            "choice": self.choice.describe(),
            "curve": {str(size): methods for size, methods in self.curve.items()},
            "bands": {percent(share): recall for share, recall in zip(BANDS, self.bands, strict=True)},
            "best_single": {str(size): versus for size, versus in self.best.items()},
            "better_than_rules": self.better_than_rules,
            "no_worse_at_any_size": self.no_worse_at_any_size,
            "interval": "95 %, corrected resampled t over splits (Nadeau, Bengio 2003)",
        }


def prove(people: Population, rules: Rules | None = None, choice: Choice | None = None) -> Proof:
    """Choose the method, then hide a fifth of the seed ten times over and compare.

    The choice is made on other splits of the same seed than the proof, not on other users. Of a large population the proof
    draws 50,000 candidates: recall at a share of the candidates does not depend on how many there are.

    Raises:
        NoUsableData: fewer than 30 seed users.
    """
    known, rules = people.at_most(MOST_UNLABELLED), rules or Rules()
    choice = choice or choose(known)
    shares = tuple(sorted({*SHARES, *BANDS}))
    found = recalls(known, lambda shown: rankings(shown, rules), SPLITS, shares=shares)
    hidden, methods, ours = hidden_of(int(people.seed.sum())), tuple(found[0]), choice.chosen
    places = {percent(share): shares.index(share) for share in SHARES}
    others = [method for method in methods if method != ours]
    curve, best = learning_curve(known, rules, ours)
    recall = {method: {name: _recall(found, method, place) for name, place in places.items()} for method in methods}
    return Proof(
        seed=int(people.seed.sum()),
        hidden=hidden,
        negatives=int(people.negatives.sum()),
        among="explicit negatives" if people.negatives.any() else "candidates",
        candidates=int(people.unlabelled.sum()),
        drawn=int(known.unlabelled.sum()),
        splits=len(SPLITS),
        choice=choice,
        recall=recall,
        lift_over_random={method: {percent(share): scaled(recall[method][percent(share)], 1 / share) for share in SHARES} for method in methods},
        lift={method: {name: lift(found, ours, method, place, hidden) for name, place in places.items()} for method in others},
        gain={method: {name: gain(found, ours, method, place) for name, place in places.items()} for method in others},
        curve=curve,
        best=best,
        bands=tuple(float(np.mean([split[ours][shares.index(share)] for split in found])) for share in BANDS),
    )


def learning_curve(people: Population, rules: Rules, ours: str) -> tuple[dict[int, dict[str, Interval]], dict[int, dict[str, Any]]]:
    """Recall at 10 % by number of seed users shown, of every method; and ours against the best single one of each number.

    The best is picked on the splits that it is compared on, which favours it.
    """
    curve, best = {}, {}
    for size in sizes_of(int(people.seed.sum()), CURVE):
        found = recalls(people, lambda shown: rankings(shown, rules), CURVE_SPLITS, size, (MAIN,))
        curve[size] = {method: _recall(found, method, 0) for method in found[0]}
        method = max((one for one in found[0] if one not in ("ensemble", ours)), key=lambda one: curve[size][one]["value"] or 0.0)
        best[size] = {"method": method, "gain": gain(found, ours, method, 0)}
    return curve, best


def percent(share: float) -> str:
    return f"{100 * share:g}"


def _recall(found: Found, method: str, place: int) -> Interval:
    return over_splits([float(split[method][place]) for split in found])
