"""Packing: a fitted model as a bundle, with its words, its reference distribution and its golden rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.bought import features_bought
from features.snapshot import catalogue
from features.tiles import Tiles
from training.baselines import Fit
from training.bundle import Bundle, Model, golden_rows
from training.examples import Examples
from training.psi import distribution
from training.task import AskedTask

GOLDEN_ROWS = 20


def make_bundle(asked: AskedTask, examples: Examples, tiles: Tiles, columns: tuple[str, ...], how: Fit, baseline: str | None = None) -> Bundle:
    """Fit a model and pack it with its words, its reference distribution and its golden rows.

    Args:
        columns: the features that the model sees, in its order.
    """
    model = how(examples)
    known = {feature.name: feature.describe() for feature in [*catalogue(tiles.shop, tiles.log.kinds), *features_bought(columns, tiles)]}
    about: dict[str, Any] = {
        **asked.describe(),
        "baseline": baseline,
        "rows": len(examples),
        "positives": int(examples.y.sum()),
        "base_rate": float(examples.y.mean()),
        "first_cutoff": min(examples.as_of).isoformat(),
        "last_cutoff": max(examples.as_of).isoformat(),
        "data": tiles.log.digest,
        "currency": tiles.log.currency,
        "features": {name: known[name] for name in columns},
    }
    bundle = Bundle(columns, model, about, {}, {})
    reference = reference_distribution(bundle, examples)
    return replace(bundle, reference=reference, golden=golden_rows(bundle, made_up_rows(reference)))


def with_model(bundle: Bundle, model: Model, about: Mapping[str, Any], examples: Examples) -> Bundle:
    """The bundle with a model that scores otherwise on the same features, and with more to say about it."""
    changed = replace(bundle, model=model, about={**bundle.about, **about})
    reference = {**bundle.reference, "score": distribution(changed.scores(examples.of(bundle.features)))}
    return replace(changed, reference=reference, golden=golden_rows(changed, made_up_rows(reference)))


def reference_distribution(bundle: Bundle, examples: Examples) -> dict[str, Any]:
    """Deciles of every feature and of the score in training, the share of rows without a value, and of those in each bin."""
    columns = {name: distribution(values) for name, values in zip(bundle.features, examples.of(bundle.features).T, strict=True)}
    return {"features": columns, "score": distribution(bundle.scores(examples.of(bundle.features)))}


def made_up_rows(reference: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Rows to test a bundle with, drawn feature by feature from the deciles: of nobody, and none of a user's own."""
    random = np.random.default_rng(GOLDEN_ROWS)
    columns = []
    for told in reference["features"].values():
        values = random.choice(told["deciles"] or [np.nan], GOLDEN_ROWS)
        columns.append(np.where(random.random(GOLDEN_ROWS) < told["missing"], np.nan, values))
    return np.column_stack(columns)
