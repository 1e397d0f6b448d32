"""What a model must beat: the one-column rule that people use today and the RFM logistic. Both are bundles, so either can be served."""

from __future__ import annotations

from training.models import Recipe
from training.task import AskedTask


def baseline_recipes(asked: AskedTask, features: tuple[str, ...]) -> dict[str, Recipe]:
    """Baseline -> recipe. A rule of one column is a logistic of that column: the same order, and a probability."""
    columns = {"rule": (asked.task.rule,), "rfm": asked.task.rfm}
    return {
        name: Recipe(columns=tuple(features.index(column) for column in wanted if column in features), trees=0, folds=0)
        for name, wanted in columns.items()
        if any(column in features for column in wanted)
    }
