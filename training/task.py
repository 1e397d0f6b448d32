"""Task: what a prediction is. Who is asked about, what counts as yes, within how many days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.conditions import Condition
from features.cycle import RepurchaseCycle
from features.happened import Window
from features.shopfile import Shop
from training.eligible import Eligible

Asked = Callable[[pd.DataFrame, int], "pd.Series[bool]"]  # (snapshot frame, definition window in days) -> one statement per user
Amount = Callable[[Window], "pd.Series[float]"]  # (what happened in the window) -> user_id -> number, for those who have one
Outcome = Callable[[Window], "pd.Series[str]"]  # (what happened in the window) -> the user_id of those who did it


STEPS = 14  # of the horizon of a date, at most


@dataclass(frozen=True)
class Task:
    """One prediction. Each is one file in `tasks/` and one line in its list.

    Args:
        name: as the API, the registry and the reports call it.
        question: with `{horizon}` and `{window}` where the days go.
        eligible: stated positively ("bought in the last 180 days"), on the snapshot's columns; as an `Eligible`, so that the service knows it.
        eligible_in_words: the same for a person.
        outcome: the users who did it between as_of and as_of + horizon.
        amount: what is predicted beyond yes or no, for those who did it: cents spent (kind "value") or days waited (kind "date").
        absence: the positive is that it did not happen.
        horizon: days, from the shop's repurchase cycle, where the shop file sets none.
        window: days of the definition window, within which a customer counts as active; likewise. It has nothing to do with the horizon.
        needs: kinds of events without which the task cannot be asked.
        rule: the column of the one-column rule that people use today, the first baseline; rule_in_words: its name.
        rfm: the columns of the RFM logistic, the second baseline.
        bgnbd: whether it asks about another order of a buyer, so that BG/NBD is the third baseline.
        kind: of the prediction, see `kinds`: "probability", "value", "date"; a look-alike is a "rank".
        declared: of a goal of the shop file: how it was declared there.
        trigger: event that starts the question: cutoffs are the days on which it happened, examples are those it
            happened to. None: cutoffs stand on a regular calendar.
        given: the question begins with "if": only users who did this in the window have an answer to learn from; everybody
            eligible is scored.
        share: columns of how many orders there were and of which share of them the outcome was not: a beta-binomial share is a baseline.
        extrapolates: where the log is too short for windows of the horizon, BG/NBD x Gamma-Gamma answers, with evidence on shorter ones.
        seed: for a look-alike: who is in the seed. Then there is no outcome window: the seed is the positive, hidden
            parts of it are the proof, and the score is a rank, not a probability.
        left_out: features that the model may not see, by the beginning of their names.
    """

    name: str
    question: str
    eligible: Asked
    eligible_in_words: str
    horizon: Callable[[RepurchaseCycle], int]
    window: Callable[[RepurchaseCycle], int] = lambda cycle: cycle.churn_horizon
    outcome: Outcome | None = None
    absence: bool = False
    needs: tuple[str, ...] = ("order",)
    rule: str = "orders_recency"
    rule_in_words: str = "recency rule"
    rfm: tuple[str, ...] = ("orders_recency", "orders_count_90d", "orders_revenue_90d")
    bgnbd: bool = False
    kind: str = "probability"
    amount: Amount | None = None
    declared: Mapping[str, Any] | None = None
    trigger: str | None = None
    given: Outcome | None = None
    share: tuple[str, ...] = ()
    extrapolates: bool = False
    seed: Callable[[pd.DataFrame], pd.Series[bool]] | None = None
    left_out: tuple[str, ...] = ()

    def at(self, shop: Shop, cycle: RepurchaseCycle) -> AskedTask:
        """The task as one shop asks it: with its horizon and its definition window in days."""
        return AskedTask(self, shop.horizons.get(self.name, self.horizon(cycle)), shop.windows.get(self.name, self.window(cycle)))


@dataclass(frozen=True)
class AskedTask:
    """A task, its horizon and its definition window in days.

    measured_on: days of the windows that labels and evidence are about, where the log is too short for windows of the horizon.
    """

    task: Task
    horizon: int
    window: int
    measured_on: int | None = None

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def kind(self) -> str:
        """What the prediction is a prediction of, as `kinds` has it."""
        return "rank" if self.task.seed else self.task.kind

    @property
    def label_days(self) -> int:
        """Days of a label window: the horizon, unless the task extrapolates."""
        return self.measured_on or self.horizon

    @property
    def extrapolation(self) -> str:
        """What to say of an answer that no window of the horizon has proven; nothing where one has."""
        if self.measured_on is None:
            return ""
        return f"not proven on windows of {self.horizon} days: BG/NBD x Gamma-Gamma extrapolates, with evidence on windows of {self.measured_on} days"

    @property
    def calibrated(self) -> bool:
        """Whether the score is a probability."""
        return self.kind in ("probability", "date")

    @property
    def edges(self) -> tuple[int, ...]:
        """Of a date: the days at which its steps end, short ones first, the last one the horizon."""
        ends = np.unique(np.rint(np.geomspace(1, self.horizon, STEPS)).astype(int))
        return tuple(int(day) for day in ends) if self.kind == "date" else ()

    def eligible(self, frame: pd.DataFrame) -> pd.Series[bool]:
        """Whom the question is about, among the users of a snapshot."""
        asked = self.task.eligible(frame, self.window)
        return asked if self.task.seed is None else asked & ~self.task.seed(frame)

    def condition(self, frame: pd.DataFrame) -> Condition | None:
        """The same as a condition on the behaviour vector, which the service asks of vectors that nobody stored; None where it is none: of a
        look-alike whose seed is a list of users."""
        asked, seed = self.task.eligible, self.task.seed
        if not isinstance(asked, Eligible) or not isinstance(seed, Eligible | None):
            return None
        told = asked.at(frame, self.window)
        return {"all": [told, {"not": seed.at(frame, self.window)}]} if seed else told

    def describe(self) -> Mapping[str, Any]:
        """What reports, model cards and the API say about it."""
        return {
            "task": self.name,
            "question": self.task.question.format(horizon=self.horizon, window=self.window),
            "eligible": self.task.eligible_in_words.format(horizon=self.horizon, window=self.window),
            "horizon_days": self.horizon,
            "window_days": self.window,
            "calibrated": self.calibrated,
            "kind": self.kind,
            **({"declared": self.task.declared} if self.task.declared else {}),
            **({"extrapolation": self.extrapolation, "measured_on_days": self.label_days} if self.extrapolation else {}),
            "baselines": {
                "rule": self.task.rule_in_words,
                "rfm": "RFM logistic",
                "bgnbd": "BG/NBD x Gamma-Gamma" if self.kind == "value" else "BG/NBD",
                **({"share": "beta-binomial share"} if self.task.share else {}),
            },
        }
