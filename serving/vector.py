"""The score of a vector that somebody posts: what would the model say of such a user?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.errors import UnknownName
from serving.everybody import percentiles_among
from serving.reasons import Reason, reasons_of
from serving.scorer import MOST_REASONS, Scorer, band, or_none, shown


class UnknownFeature(UnknownName):
    """A feature was given that the model does not have."""


@dataclass(frozen=True)
class VectorScore:
    """What the model says of a vector; the fields are those of a user's `Score`.

    percentile: where it would stand among the eligible users of the release. missing: features that were not given, which count as no value.
    """

    task: str
    probability: float | None
    value: float | None
    effect: float | None
    score: float | None
    percentile: float
    band: str
    details: Mapping[str, float | None] | None
    missing: tuple[str, ...]
    reasons: tuple[Reason, ...] | None
    model_version: str
    release: str
    baseline: bool


def score_vector(scorer: Scorer, task: str, features: Mapping[str, float | None], *, reasons: bool = False) -> VectorScore:
    """Score named features; equal to a user's score to the last bit where the features are that user's.

    Raises:
        UnknownName: the release has no model of that task. UnknownFeature: the model has no such feature.
    """
    release = scorer.release
    if task not in release.bundles:
        raise UnknownName("prediction", task, release.bundles)
    bundle, stored, facts = release.bundles[task], release.scores[task], scorer.tasks[task]
    given = [features.get(name) for name in bundle.features]
    missing = tuple([name for name, value in zip(bundle.features, given, strict=True) if value is None])
    if len(given) - len(missing) + sum(features.get(name, 0) is None for name in missing) < len(features):
        raise UnknownFeature("feature", next(name for name in features if name not in bundle.features), bundle.features)
    rows = np.array([given], dtype=np.float64)  # None becomes NaN
    raw = float(bundle.scores(rows)[0])
    percentile = float(percentiles_among(stored.ordered, facts["eligible"], np.array([raw]))[0])
    return VectorScore(
        task=task,
        **shown(bundle.kind, raw, percentile),
        percentile=percentile,
        band=band(percentile),
        details={name: or_none(float(value[0])) for name, value in bundle.details(rows).items()} or None,
        missing=missing,
        reasons=reasons_of(bundle, rows, MOST_REASONS)[0] if reasons else None,
        model_version=facts["version"],
        release=release.id,
        baseline=facts["kind"] == "baseline",
    )
