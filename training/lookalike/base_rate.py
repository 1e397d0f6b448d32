"""Probabilities of likeness, for those who know how frequent what they look for is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression

from training.blend import Vector
from training.lookalike.proof import BANDS


def probabilities(top: Vector, base_rate: float, bands: Sequence[float]) -> Vector:
    """P(is what the seed is), by Bayes: the base rate times how much denser the hidden seed users lie at a place than everybody.

    Args:
        top: share of the candidates that rank above each user, 0 for the first. base_rate: share of the candidates who
            are what is looked for, from the user: a test mailing, a market study. bands: recall of the hidden at `BANDS`, of the proof.

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
