"""The shop's repurchase cycle (RC): by induction from gaps, by consumption from daily use, and censored as it really is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.events import day_number
from features.norms import ENOUGH_REPURCHASERS
from features.snapshot import catalogue
from features.store import measure
from features.tiles import Tiles

Z = 1.96  # of a 95 % interval


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


@dataclass(frozen=True)
class TimeToNext:
    """Kaplan-Meier estimate of the days from an order to the user's next one, those still waiting counted as censored.

    median, low, high: days by which half of the orders have been followed by another, with the 95 % interval of the
    median; None where the curve does not get that far. orders, followed: what it is estimated on.
    """

    median: int | None
    low: int | None
    high: int | None
    orders: int
    followed: int


def repurchase_cycle(tiles: Tiles, as_of: date) -> RepurchaseCycle:
    """Measure the cycle by induction on everything known before `as_of`."""
    norms = measure(tiles, [as_of], catalogue(tiles.shop, tiles.log.kinds))[as_of]
    return RepurchaseCycle(norms.cycle if norms.repurchasers >= ENOUGH_REPURCHASERS else None, norms.repurchasers)


def cycle_of(days: pd.DataFrame) -> RepurchaseCycle:
    """The cycle by induction of any kind of purchases: one row per user_id and day."""
    ordered = days.sort_values(["user_id", "day"])
    gaps = ordered.groupby("user_id")["day"].agg(["first", "last", "size"])
    gaps = gaps[gaps["size"] > 1]
    means = (gaps["last"] - gaps["first"]) / (gaps["size"] - 1)
    enough = len(means) >= ENOUGH_REPURCHASERS
    return RepurchaseCycle(float(np.quantile(np.sort(means.to_numpy()), 0.9)) / 3 if enough else None, len(means))


def cycle_by_category(tiles: Tiles, as_of: date) -> dict[str, RepurchaseCycle]:
    """The cycle of each category with enough repurchasers: the gaps between days on which a user bought from it."""
    bought = tiles.before(as_of).keys("purchases")
    products = tiles.products
    category = dict(zip(products["product_id"].to_pylist(), products["category"].to_pylist(), strict=True))
    bought = bought.assign(category=bought["key"].map(category)).dropna(subset=["category"]).drop_duplicates(["user_id", "category", "day"])
    found = {str(name): cycle_of(rows) for name, rows in bought.groupby("category")}
    return {name: cycle for name, cycle in found.items() if cycle.days is not None}


def cycle_by_consumption(tiles: Tiles, as_of: date) -> dict[str, float]:
    """Average quantity bought at a time / daily use: days, per product or category that the shop file gives a use for."""
    bought = tiles.before(as_of).keys("quantity")
    products = tiles.products
    category = dict(zip(products["product_id"].to_pylist(), products["category"].to_pylist(), strict=True))
    found = {}
    for name, use in tiles.shop.daily_use.items():
        mine = bought[(bought["key"] == name) | (bought["key"].map(category) == name)]
        if len(mine):
            found[name] = float(mine["value"].sum()) / len(mine) / use
    return found


def time_to_next(tiles: Tiles, as_of: date) -> TimeToNext:
    """Kaplan-Meier over all order days known before `as_of`, with Greenwood's variance on the log-log scale.

    Source: Kaplan, Meier (1958), Nonparametric estimation from incomplete observations; Kalbfleisch, Prentice (1980)
    for the interval.
    """
    days = tiles.before(as_of).days("orders").sort_values(["user_id", "day"])
    following = days.groupby("user_id")["day"].shift(-1)
    waited = (following.fillna(day_number(as_of)) - days["day"]).to_numpy(np.int64)
    followed = following.notna().to_numpy()
    lasts, survival, spread = survival_curve(waited, followed)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = Z * spread / np.abs(np.log(survival))
        low, high = survival ** np.exp(width), survival ** np.exp(-width)
    return TimeToNext(_first_below(lasts, survival), _first_below(lasts, low), _first_below(lasts, high), len(waited), int(followed.sum()))


def survival_curve(
    waited: npt.NDArray[np.int64], followed: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Days, the share still waiting after each, and the square root of Greenwood's sum."""
    lasts = np.unique(waited[followed])
    ends = np.array([np.sum(followed & (waited == day)) for day in lasts], np.float64)
    at_risk = np.array([np.sum(waited >= day) for day in lasts], np.float64)
    survival = np.cumprod(1 - ends / at_risk)
    with np.errstate(divide="ignore"):
        spread = np.sqrt(np.cumsum(ends / (at_risk * (at_risk - ends))))
    return lasts.astype(np.int64), survival.astype(np.float64), spread.astype(np.float64)


def _first_below(days: npt.NDArray[np.int64], survival: npt.NDArray[np.float64]) -> int | None:
    reached = np.flatnonzero(survival <= 0.5)
    return int(days[reached[0]]) if len(reached) else None
