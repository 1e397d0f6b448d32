"""The score of a vector that somebody posts: what would the model say of such a user?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.conditions import holds, of_values
from features.errors import UnknownName
from serving.everybody import percentiles_among
from serving.reasons import Reason, reasons_of
from serving.scorer import MOST_REASONS, Scorer, Status, band, or_none, shown


class UnknownFeature(UnknownName):
    """A feature was given that the model does not have."""


@dataclass(frozen=True)
class VectorScore:
    """What the model says of a vector; the fields are those of a user's `Score`.

    status: OK, NOT_ELIGIBLE or SUPPRESSED; of the last two nothing is said. eligible: None where it cannot be told. percentile: where it
    would stand among the eligible users of the release. missing: features that were not given, which count as no value.
    """

    task: str
    status: str
    eligible: bool | None
    model_version: str
    release: str
    baseline: bool
    probability: float | None = None
    value: float | None = None
    effect: float | None = None
    score: float | None = None
    percentile: float | None = None
    band: str | None = None
    details: Mapping[str, float | None] | None = None
    missing: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] | None = None


def score_vector(
    scorer: Scorer, task: str, features: Mapping[str, float | None], *, reasons: bool = False, eligible: bool | None = None, strict: bool = True
) -> VectorScore:
    """Score named features; equal to a user's score to the last bit where the features are that user's.

    Args:
        eligible: whether the prediction is about the user, where that is known without the features. strict: whether features that nothing
            here looks at are refused.

    Raises:
        UnknownName: the release has no model of that task. UnknownFeature: the model has no such feature.
    """
    release = scorer.release
    if task not in release.bundles:
        raise UnknownName("prediction", task, release.bundles)
    bundle, stored, facts = release.bundles[task], release.scores[task], scorer.tasks[task]
    deciding = scorer.deciding[task]
    given = [features.get(name) for name in bundle.features]
    missing = tuple([name for name, value in zip(bundle.features, given, strict=True) if value is None])
    if strict and len(given) - len(missing) + sum(features.get(name, 0) is None for name in missing) < len(features):
        known = {*bundle.features, *deciding}
        if unknown := [name for name in features if name not in known]:
            raise UnknownFeature("feature", unknown[0], [*bundle.features, *deciding])
    if deciding and all(name in features for name in deciding):
        eligible = is_asked(scorer, task, features)
    if eligible is False:
        return nothing_said(scorer, task, Status.NOT_ELIGIBLE, missing)
    rows = np.array([given], dtype=np.float64)  # None becomes NaN
    raw = float(bundle.scores(rows)[0])
    percentile = float(percentiles_among(stored.ordered, facts["eligible"], np.array([raw]))[0])
    return VectorScore(
        task=task,
        status=Status.OK.value,
        eligible=eligible,
        model_version=facts["version"],
        release=release.id,
        baseline=facts["kind"] == "baseline",
        **shown(bundle.kind, raw, percentile, release.currency),
        percentile=percentile,
        band=band(percentile),
        details={name: or_none(float(value[0])) for name, value in bundle.details(rows).items()} or None,
        missing=missing,
        reasons=reasons_of(bundle, rows, MOST_REASONS, release.currency)[0] if reasons else None,
    )


def nothing_said(scorer: Scorer, task: str, status: Status, missing: tuple[str, ...] = ()) -> VectorScore:
    """The answer for somebody of whom a prediction says nothing."""
    facts = scorer.tasks[task]
    eligible = False if status is Status.NOT_ELIGIBLE else None
    return VectorScore(task, status.value, eligible, facts["version"], scorer.release.id, facts["kind"] == "baseline", missing=missing)


def is_asked(scorer: Scorer, task: str, features: Mapping[str, float | None]) -> bool:
    """Whether a prediction is about a user with these features, among which are all that decide it."""

    def number(name: str) -> np.float64:
        value = features[name]
        return np.float64(np.nan if value is None else value)

    return bool(holds(scorer.tasks[task]["asks"], lambda leaf: of_values(leaf, number(leaf["feature"]))))
