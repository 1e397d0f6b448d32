"""Task: what a prediction is. Who is asked about, what counts as yes, within how many days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from features.cycle import RepurchaseCycle
from features.shopfile import Shop
from features.tiles import Window

Eligible = Callable[[pd.DataFrame, int], "pd.Series[bool]"]  # (snapshot frame, horizon) -> one statement per user
Outcome = Callable[[Window], "pd.Series[str]"]  # (what happened in the window) -> the user_id of those who did it


@dataclass(frozen=True)
class Task:
    """One prediction. Each is one file in `tasks/` and one line in its list.

    Args:
        name: as the API, the registry and the reports call it.
        question: with `{horizon}` where the days go.
        eligible: stated positively ("bought in the last 180 days"), on the snapshot's columns.
        eligible_in_words: the same for a person.
        outcome: the users who did it between as_of and as_of + horizon.
        absence: the positive is that it did not happen.
        horizon: days, from the shop's repurchase cycle, where the shop file sets none.
        needs: kinds of events without which the task cannot be asked.
        rule: the column of the one-column rule that people use today, the first baseline; rule_in_words: its name.
        rfm: the columns of the RFM logistic, the second baseline.
        trigger: event that starts the question: cutoffs are the days on which it happened, examples are those it
            happened to. None: cutoffs stand on a regular calendar.
        seed: for a look-alike: who is in the seed. Then there is no outcome window: the seed is the positive, hidden
            parts of it are the proof, and the score is a rank, not a probability.
        left_out: features that the model may not see, by the beginning of their names.
    """

    name: str
    question: str
    eligible: Eligible
    eligible_in_words: str
    horizon: Callable[[RepurchaseCycle], int]
    outcome: Outcome | None = None
    absence: bool = False
    needs: tuple[str, ...] = ("order",)
    rule: str = "orders_recency"
    rule_in_words: str = "recency rule"
    rfm: tuple[str, ...] = ("orders_recency", "orders_count_90d", "orders_revenue_90d")
    trigger: str | None = None
    seed: Callable[[pd.DataFrame], pd.Series[bool]] | None = None
    left_out: tuple[str, ...] = ()

    def at(self, shop: Shop, cycle: RepurchaseCycle) -> AskedTask:
        """The task as one shop asks it: with its horizon in days."""
        return AskedTask(self, shop.horizons.get(self.name, self.horizon(cycle)))


@dataclass(frozen=True)
class AskedTask:
    """A task and its horizon in days."""

    task: Task
    horizon: int

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def calibrated(self) -> bool:
        """Whether the score is a probability (else it is a rank)."""
        return self.task.seed is None

    def eligible(self, frame: pd.DataFrame) -> pd.Series[bool]:
        """Whom the question is about, among the users of a snapshot."""
        asked = self.task.eligible(frame, self.horizon)
        return asked if self.task.seed is None else asked & ~self.task.seed(frame)

    def describe(self) -> Mapping[str, Any]:
        """What reports, model cards and the API say about it."""
        return {
            "task": self.name,
            "question": self.task.question.format(horizon=self.horizon),
            "eligible": self.task.eligible_in_words.format(horizon=self.horizon),
            "horizon_days": self.horizon,
            "calibrated": self.calibrated,
            "baselines": {"rule": self.task.rule_in_words, "rfm": "RFM logistic"},
        }
