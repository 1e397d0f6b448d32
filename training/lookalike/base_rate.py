"""Probabilities of likeness, for those who know how frequent what they look for is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression

from training.blend import Vector
from training.lookalike.proof import BANDS


def bands_of(scores: Vector, of_seed: Vector) -> Vector:
    """Share of the seed that is at least as alike as the last of the best candidates, for each of `BANDS`.

    Args:
        scores: of the candidates of the seed's date. of_seed: what models that had not seen them gave the seed users. Of a seed with
            explicit negatives the proof looks for the hidden among the negatives, so that its own recall says nothing about
            candidates; this does.
    """
    best_first = np.sort(scores)[::-1]
    last = best_first[np.maximum(1, np.rint(len(scores) * np.array(BANDS)).astype(int)) - 1]
    return np.append((np.asarray(of_seed)[None, :] >= last[:-1, None]).mean(axis=1), 1.0)


def probabilities(top: Vector, base_rate: float, bands: Sequence[float] | Vector) -> Vector:
    """P(is what the seed is), by Bayes: the base rate times how much denser the hidden seed users lie at a place than everybody.

    Args:
        top: share of the candidates that rank above each user, 0 for the first. base_rate: share of the candidates who
            are what is looked for, from the user: a test mailing, a market study. bands: recall of seed users at `BANDS`.

    Seeds do not tell how many like them there are. The estimate of Elkan and Noto (2008), which takes it from the scores of
    the seed, supposes that the seed is a plain sample of all who qualify; with selective labels it came out at three times the truth.
    Here too the seed must be like those who are looked for, but the level is the user's. The density falls with the rank by
    isotonic regression; the mean over all candidates is the base rate, unless the top is cut at 1.

    Raises:
        ValueError: a base rate that is not between 0 and 1.
    """
    if not 0 < base_rate < 1:
        raise ValueError(
            f"The base rate is the share of the candidates who are what you look for, above 0 and below 1; seen: {base_rate:g}. Leave it out for ranks."
        )
    width = np.diff(np.array([0.0, *BANDS]))
    density = np.diff(np.array([0.0, *bands])) / width
    falling = IsotonicRegression(increasing=False).fit_transform(np.arange(len(density)), density, sample_weight=width)
    place = np.minimum(np.searchsorted(BANDS, top, side="right"), len(BANDS) - 1)
    return np.asarray(np.minimum(base_rate * falling[place], 1.0))
