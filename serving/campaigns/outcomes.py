"""What the members of a campaign did in their outcome windows, and what they had done before: one row per member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.calendar import day_number
from features.happened import Window
from features.money import minor_units
from features.tiles import Tiles
from serving.campaigns.effect import Mask, Vector, logit, winsorised
from serving.campaigns.plan import TREATMENT, Plan
from serving.campaigns.store import Member
from training.outcomes import spent

PRE_DAYS = 91  # thirteen whole weeks
MESSAGES = {"sent": "campaign_received", "opened": "message_opened", "clicked": "message_clicked", "redeemed": "coupon_redeemed"}


@dataclass(frozen=True)
class Outcomes:
    """Members in the order of their ids, as arrays.

    users, group: who, and in which group. chance, expected, percentile: at entry, NaN for none. entered: day of entry, in days since 1970. observed:
    days of the window that are over. goal_on: days from entry to the first goal, -1 for none. spend: net of refunds, in units of the currency.
    orders_before, spend_before: in the 91 days before entry. messages: sent, opened, clicked, redeemed -> how many times in the window.
    daily: member (position), offset (days since entry, negative before it), one row for each member and day with a goal.
    """

    users: npt.NDArray[np.object_]
    group: npt.NDArray[np.object_]
    chance: Vector
    expected: Vector
    percentile: Vector
    entered: npt.NDArray[np.int64]
    observed: npt.NDArray[np.int64]
    goal_on: npt.NDArray[np.int64]
    spend: Vector
    orders_before: Vector
    spend_before: Vector
    messages: dict[str, npt.NDArray[np.int64]]
    daily: pd.DataFrame

    def __len__(self) -> int:
        return len(self.users)

    @property
    def treated(self) -> Mask:
        return np.asarray(self.group == TREATMENT, bool)

    @property
    def converted(self) -> Vector:
        """1 for who reached the goal, else 0."""
        return (self.goal_on >= 0).astype(float)

    def measured(self, plan: Plan) -> Vector:
        """The outcome that the effect is about: spend, winsorised if the plan said so, or the goal."""
        return winsorised(self.spend, plan.winsorise) if plan.counts_spend else self.converted

    def take(self, rows: Mask) -> Outcomes:
        """Some members; `daily` is left behind."""
        parts = {name: values[rows] for name, values in vars(self).items() if isinstance(values, np.ndarray)}
        return Outcomes(**parts, messages={name: values[rows] for name, values in self.messages.items()}, daily=self.daily.iloc[:0])


def covariates(outcomes: Outcomes) -> Vector:
    """What was known at entry, the most telling first: the score and its log-odds, and orders and spend before.

    Where somebody has no score, the mean stands in, and that there is none is a column of its own.
    """
    score = np.where(np.isnan(outcomes.chance), outcomes.percentile / 100, outcomes.chance)
    absent = np.isnan(score)
    filled = np.where(absent, np.nanmean(score) if not absent.all() else 0.5, score)
    spend, log_odds = outcomes.spend_before, logit(np.clip(filled, 0.001, 0.999))
    return np.column_stack([filled, spend, log_odds, absent.astype(float), np.log1p(outcomes.orders_before), np.log1p(np.maximum(spend, 0))])


def outcomes_of(tiles: Tiles, plan: Plan, members: Sequence[Member], interim: bool = False) -> Outcomes:
    """What the members did.

    Args:
        interim: take as much of each window as is over, instead of refusing one that is not.

    Raises:
        LabelWindowOpen: some member's outcome window is not over in the log.
    """
    members = sorted(members, key=lambda member: member.user_id)
    users = pd.Index([member.user_id for member in members], dtype=object)
    entered = pd.Series([member.entered_on for member in members], dtype=object).to_numpy()
    size, unit = len(members), minor_units(tiles.log.currency)
    found: dict[str, npt.NDArray[np.float64]] = {name: np.zeros(size) for name in ("spend", "orders_before", "spend_before", *MESSAGES)}
    goal_on, observed, daily = np.full(size, -1, np.int64), np.zeros(size, np.int64), [_no_days()]
    for day in sorted(set(entered)):
        rows = np.flatnonzero(entered == day)
        at, ours = day_number(day), users[rows]
        end = min(plan.ends(day), max(tiles.log.complete_until, day)) if interim else plan.ends(day)
        after, before = tiles.between(day, end), Window(tiles, at - PRE_DAYS, at, at)
        observed[rows] = (end - day).days
        found["spend"][rows] = _per_user(spent(after) / unit, ours)
        found["orders_before"][rows] = _per_user(before.days("orders").groupby("user_id")["value"].sum(), ours)
        found["spend_before"][rows] = _per_user(spent(before) / unit, ours)
        for name, event in MESSAGES.items():
            found[name][rows] = _per_user(after.events(event, {"campaign": plan.log_name}).groupby("user_id").size(), ours)
        goals = _goal_days(after, plan)
        first = goals.groupby("user_id")["day"].min() - at
        goal_on[rows] = first.reindex(ours).fillna(-1).to_numpy(np.int64)
        ordinary = Window(tiles, at - ordinary_days(plan), at, at)
        days = pd.concat([goals, _goal_days(ordinary, plan)])
        places = pd.Series(rows, index=ours).reindex(days["user_id"]).to_numpy()
        daily.append(pd.DataFrame({"member": places, "offset": days["day"].to_numpy() - at}).dropna().astype(int))
    return Outcomes(
        users=users.to_numpy(dtype=object),
        group=np.array([member.group for member in members], object),
        chance=_numbers([member.chance for member in members]),
        expected=_numbers([member.expected for member in members]),
        percentile=_numbers([member.percentile for member in members]),
        entered=np.array([day_number(day) for day in entered], np.int64),
        observed=observed,
        goal_on=goal_on,
        spend=found["spend"],
        orders_before=found["orders_before"],
        spend_before=found["spend_before"],
        messages={name: found[name].astype(np.int64) for name in MESSAGES},
        daily=pd.concat(daily, ignore_index=True),
    )


def ordinary_days(plan: Plan) -> int:
    """How many days before entry are the ordinary ones: as many whole weeks as the horizon has, begun weeks included."""
    return 7 * -(-plan.horizon // 7)


def _goal_days(window: Window, plan: Plan) -> pd.DataFrame:
    """user_id and day of every day on which the goal was reached."""
    if plan.goal in ("order", "spend") and not plan.where:
        return window.days("orders")[["user_id", "day"]]
    return window.events(plan.goal, plan.where).drop_duplicates(["user_id", "day"])


def _per_user(values: pd.Series[Any], users: pd.Index) -> Vector:
    return np.asarray(values.reindex(users).fillna(0), np.float64)


def _numbers(values: Sequence[float | None]) -> Vector:
    return np.array([np.nan if value is None else value for value in values], float)


def _no_days() -> pd.DataFrame:
    return pd.DataFrame({"member": pd.Series(dtype=int), "offset": pd.Series(dtype=int)})
