"""Kinds: what a prediction is a prediction of, and so how it is fitted, measured, compared and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.blend import Matrix
from training.bundle import Bundle
from training.evaluate import Interval, evaluate, evaluate_difference
from training.evaluate_value import evaluate_value, evaluate_value_difference
from training.evaluate_waiting import evaluate_waiting, evaluate_waiting_difference
from training.examples import Examples

SEED = 20_170_101
RESAMPLES = 400
Measured = dict[str, Any]  # metric -> value, low, high


@dataclass(frozen=True)
class Kind:
    """One kind of prediction.

    predict: (bundle, rows x features) -> what is measured: a number or a curve per row.
    evaluate: (examples, predictions, resamples) -> metric -> interval. difference: (examples, p, q) -> metric of p minus q.
    main: the metric in which a model must beat its baselines. more_is_better: its direction.
    tolerance: (metric, the most that a challenger may lose to the champion at the end of the interval).
    shown: metrics of tables, in order. headline: the metrics that a log line and a version's tags show.
    """

    name: str
    predict: Callable[[Bundle, Matrix], Matrix]
    evaluate: Callable[[Examples, Matrix, int], Measured]
    difference: Callable[[Examples, Matrix, Matrix], Measured]
    main: str
    more_is_better: bool
    tolerance: tuple[str, float]
    shown: tuple[str, ...]
    headline: tuple[str, ...]

    def gain(self, difference: Mapping[str, Interval]) -> Interval:
        """The difference in the main metric, turned so that above 0 is better."""
        return self._better(difference[self.main], self.more_is_better)

    def loss(self, difference: Mapping[str, Interval]) -> Interval:
        """The difference in the metric of the tolerance, turned so that above 0 is worse."""
        metric = self.tolerance[0]
        return self._better(difference[metric], not self._rises(metric))

    def _rises(self, metric: str) -> bool:
        return self.more_is_better if metric == self.main else metric in ("auc", "gini", "c_index")

    @staticmethod
    def _better(measured: Interval, as_it_is: bool) -> Interval:
        if as_it_is:
            return measured
        low, high, value = measured["low"], measured["high"], measured["value"]
        return {"value": -(value or 0.0), "low": None if high is None else -high, "high": None if low is None else -low}


def _yes_no(calibrated: bool) -> dict[str, Any]:
    return {
        "predict": lambda bundle, rows: bundle.scores(rows),
        "evaluate": lambda test, p, resamples: evaluate(test.y, p, test.users, seed=SEED, resamples=resamples, calibrated=calibrated),
        "difference": lambda test, p, q: evaluate_difference(test.y, p, q, test.users, seed=SEED, calibrated=calibrated),
        "main": "auc",
        "more_is_better": True,
    }


PROBABILITY = Kind(
    name="probability",
    **_yes_no(calibrated=True),
    tolerance=("log_loss", 0.001),
    shown=("auc", "average_precision", "log_loss", "brier", "ece", "lift_5", "lift_10", "lift_20", "lift_quality"),
    headline=("auc", "lift_10", "brier", "ece"),
)
RANK = Kind(
    name="rank",
    **_yes_no(calibrated=False),
    tolerance=("auc", 0.01),
    shown=("auc", "average_precision", "lift_5", "lift_10", "lift_20", "lift_quality"),
    headline=("auc", "lift_10"),
)
VALUE = Kind(
    name="value",
    predict=lambda bundle, rows: bundle.scores(rows),
    evaluate=lambda test, p, resamples: evaluate_value(np.asarray(test.amount), p, test.users, seed=SEED, resamples=resamples),
    difference=lambda test, p, q: evaluate_value_difference(np.asarray(test.amount), p, q, test.users, seed=SEED),
    main="gini",
    more_is_better=True,
    tolerance=("gini", 0.01),
    shown=("gini", "decile_mape", "sum_ratio", "mae", "share_top_10", "mean_value"),
    headline=("gini", "decile_mape", "sum_ratio"),
)


def _waiting_difference(test: Examples, p: Matrix, q: Matrix) -> Measured:
    return evaluate_waiting_difference(np.asarray(test.amount), p, q, test.edges, test.users, seed=SEED)


DATE = Kind(
    name="date",
    predict=lambda bundle, rows: np.asarray(bundle.model.waiting(bundle.checked(rows))),  # type: ignore[attr-defined]
    evaluate=lambda test, p, resamples: evaluate_waiting(np.asarray(test.amount), p, test.edges, test.users, seed=SEED, resamples=resamples),
    difference=_waiting_difference,
    main="integrated_brier",
    more_is_better=False,
    tolerance=("integrated_brier", 0.001),
    shown=("integrated_brier", "restricted_mae", "c_index", "coverage", "nominal_coverage", "event_rate"),
    headline=("integrated_brier", "restricted_mae", "c_index"),
)


def _by_trial(*_: Any) -> Any:
    raise TypeError("an effect is measured on the trial itself, see uplift_evidence")


EFFECT = Kind(
    name="effect",
    predict=lambda bundle, rows: bundle.scores(rows),
    evaluate=_by_trial,
    difference=_by_trial,
    main="qini",
    more_is_better=True,
    tolerance=("qini", 0.0),
    shown=("qini", "uplift_10", "uplift_20", "uplift_30", "average_effect"),
    headline=("qini", "average_effect"),
)
KINDS = {kind.name: kind for kind in (PROBABILITY, RANK, VALUE, DATE, EFFECT)}
