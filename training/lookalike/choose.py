"""Choice of the method that is served: the ensemble, unless one of its members surely finds more of a hidden seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.evaluate import Interval
from training.lookalike.methods import MEMBERS, members
from training.lookalike.population import Population
from training.lookalike.recall import MAIN, Found, over_splits, recalls, sizes_of

SIZES = (50, 150, 400)  # users shown; and all
SPLITS = range(1_000, 1_005)  # others than those of the proof


@dataclass(frozen=True)
class Choice:
    """chosen: ensemble, logistic or bagging. recall: seed size -> method -> recall at 10 %. gains: seed size -> member -> what the
    ensemble finds beyond it, with its interval."""

    chosen: str
    recall: dict[int, dict[str, float]]
    gains: dict[int, dict[str, Interval]]

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the model to fit."""
        return MEMBERS if self.chosen == "ensemble" else (self.chosen,)

    def describe(self) -> dict[str, Any]:
        return {
            "chosen": self.chosen,
            "recall_at_10": {str(size): found for size, found in self.recall.items()},
            "gain_of_ensemble": {str(size): found for size, found in self.gains.items()},
        }


def choose(people: Population) -> Choice:
    """By hidden-seed recall at 10 % at several seed sizes.

    The ensemble is chosen if at no size one of its members is surely better (the interval of the gain is below 0);
    else the member with the best mean. Asking that it be best at every size to the last digit would let noise change
    the model, and with it the audience, from refresh to refresh.
    """
    found = {size: recalls(people, members, SPLITS, size, (MAIN,)) for size in sizes_of(int(people.seed.sum()), SIZES)}
    recall = {size: {method: _mean(splits, method) for method in splits[0]} for size, splits in found.items()}
    gains = {size: {member: _gain(splits, member) for member in MEMBERS} for size, splits in found.items()}
    beaten = any((gain["high"] or 0.0) < 0 for of_size in gains.values() for gain in of_size.values())
    best = max(MEMBERS, key=lambda member: sum(of_size[member] for of_size in recall.values()))
    return Choice(best if beaten else "ensemble", recall, gains)


def _mean(splits: Found, method: str) -> float:
    return over_splits([float(split[method][0]) for split in splits])["value"] or 0.0


def _gain(splits: Found, member: str) -> Interval:
    return over_splits([float(split["ensemble"][0] - split[member][0]) for split in splits])
