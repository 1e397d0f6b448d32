"""The shop's repurchase cycle (RC), by induction from the gaps between orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.engine import Engine
from features.tiles import History
from features.views.cycle import gaps

ENOUGH_REPURCHASERS = 200


@dataclass(frozen=True)
class RepurchaseCycle:
    """RC = P90 / 3, where P90 is the 90th percentile of the mean gap of each user with two order days or more.

    The rule sees only users who came back, so it is biased short. `days` is None where too few of them exist.
    """

    days: float | None
    repurchasers: int

    @property
    def repurchase_horizon(self) -> int:
        """Default horizon of the order predictions, in days: min(90, 3 RC), or 30."""
        return 30 if self.days is None else max(1, min(90, round(3 * self.days)))

    @property
    def churn_horizon(self) -> int:
        """Default horizon and definition window of churn, in days: 3 RC, or 90."""
        return 90 if self.days is None else max(1, min(365, round(3 * self.days)))


def repurchase_cycle(history: History, engine: Engine) -> RepurchaseCycle:
    """Measure the cycle on everything before the history's `as_of`."""
    table = engine.collect(gaps(history, None).select("user_id", "mean_gap"), ["user_id"])
    mean_gaps = table["mean_gap"].drop_null().to_numpy()
    if len(mean_gaps) < ENOUGH_REPURCHASERS:
        return RepurchaseCycle(None, len(mean_gaps))
    return RepurchaseCycle(float(np.quantile(mean_gaps, 0.9)) / 3, len(mean_gaps))
