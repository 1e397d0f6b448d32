"""Recall of a hidden part of the seed, over repeated splits, with intervals.

The hidden are looked for among all candidates. Where there are explicit negatives, they are looked for among a hidden fifth of
these instead: receivers of a sample were chosen, and who finds them among everybody has learned who was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, log, sqrt

import numpy as np
from scipy.stats import t as students_t

from features.errors import NoUsableData
from training.blend import Vector
from training.evaluate import Interval, gains
from training.lookalike.methods import Scores
from training.lookalike.population import Mask, Population

HIDDEN = 0.2  # of the seed
SHARES = (0.01, 0.05, 0.10, 0.20)  # of the candidates: how large an audience is
MAIN = 0.10
LEAST_SEED = 30
Found = list[dict[str, Vector]]  # split -> method -> recall at each share
Rank = Callable[[Population], Scores]


def recalls(people: Population, rank: Rank, splits: Iterable[int], shown: int | None = None, shares: Sequence[float] = SHARES) -> Found:
    """Hide a fifth of the seed, rank the candidates by the rest, and see which share of the hidden is at the top; once per split.

    Args:
        splits: numbers of the draws. shown: how many of the rest are shown, for a learning curve; all without it.

    Raises:
        NoUsableData: the seed has fewer than 30 users.
    """
    if (size := int(people.seed.sum())) < LEAST_SEED:
        raise NoUsableData(f"The seed has {size} users in the population; a proof needs at least {LEAST_SEED}. Widen the seed.")
    return [_recall_once(people, rank, split, shown, shares) for split in splits]


def _recall_once(people: Population, rank: Rank, split: int, shown: int | None, shares: Sequence[float]) -> dict[str, Vector]:
    hidden, kept_out = split_seed(people, split, shown)
    refused = _fifth(people.negatives, split)
    known, wanted, among = people.hiding(hidden | refused).take(~kept_out), hidden[~kept_out], (hidden | refused)[~kept_out]
    rows = among if refused.any() else known.unlabelled
    return {method: recall_at(scores[rows], wanted[rows], shares) for method, scores in rank(known).items()}


def split_seed(people: Population, split: int, shown: int | None = None) -> tuple[Mask, Mask]:
    """Who of the seed is hidden, and who of it is left out because fewer are to be shown."""
    hidden = _fifth(people.seed, split)
    rest = np.random.default_rng([split, 1]).permutation(np.flatnonzero(people.seed & ~hidden))
    kept_out = np.zeros(len(people), dtype=bool)
    kept_out[rest[len(rest) if shown is None else shown :]] = True
    return hidden, kept_out


def _fifth(labelled: Mask, split: int) -> Mask:
    """A fifth of the labelled, drawn by lots; of a few at least one."""
    members, drawn = np.flatnonzero(labelled), np.zeros(len(labelled), dtype=bool)
    if len(members):
        drawn[np.random.default_rng([split, 0]).permutation(members)[: hidden_of(len(members))]] = True
    return drawn


def hidden_of(labelled: int) -> int:
    """How many of so many are hidden."""
    return max(1, round(HIDDEN * labelled))


def recall_at(scores: Vector, hidden: Mask, shares: Sequence[float]) -> Vector:
    """Share of the hidden users in the top shares of the candidates; users of equal score come in at the same rate."""
    curve = gains(hidden, np.maximum(scores, np.finfo(float).min))
    return np.asarray(np.interp(shares, curve["rows_share"], curve["positives_share"]))


def over_splits(values: Sequence[float], overlap: float = HIDDEN / (1 - HIDDEN)) -> Interval:
    """Mean over repeated splits with its 95 % interval by the corrected resampled t.

    Splits of one seed overlap, so that a plain t interval of their mean is far too narrow; the variance is raised by the
    hidden over the shown (Nadeau, Bengio 2003, "Inference for the generalization error", Machine Learning 52,
    https://doi.org/10.1023/A:1024068626366). `overlap` 0 is for independent repetitions.
    """
    count, middle = len(values), float(np.mean(values))
    if count < 2:
        return {"value": middle, "low": None, "high": None}
    half = float(students_t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) * sqrt(1 / count + overlap)
    return {"value": middle, "low": middle - half, "high": middle + half}


def gain(found: Found, ours: str, theirs: str, place: int) -> Interval:
    """Recall of one method minus that of another on the same splits, at the share of this place."""
    return over_splits([float(split[ours][place] - split[theirs][place]) for split in found])


def lift(found: Found, ours: str, theirs: str, place: int, hidden: int) -> Interval:
    """How many times the hidden users that another method finds: the interval is that of the logarithm, with half a user added to both."""
    ratios = [log((split[ours][place] * hidden + 0.5) / (split[theirs][place] * hidden + 0.5)) for split in found]
    return {part: None if value is None else exp(value) for part, value in over_splits(ratios).items()}


def scaled(measured: Mapping[str, float | None], by: float) -> Interval:
    return {part: None if value is None else value * by for part, value in measured.items()}


def sizes_of(seed: int, sizes: Sequence[int]) -> list[int]:
    """The sizes of a learning curve that a fifth held back leaves room for, and all of the rest."""
    rest = seed - hidden_of(seed)
    return [size for size in sizes if size < rest] + [rest]
