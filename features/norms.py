"""What is normal in the shop at a cutoff: its repurchase cycle and the thresholds that split users into groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ENOUGH_REPURCHASERS = 200
DEFAULT_CYCLE = 30.0  # days, where too few users came back to measure one
MEASURED_ON = ("orders_recency", "orders_count", "orders_revenue", "cycle_mean_gap", "activity_active_days_90d", "discounts_full_price_share")
SPLITS = ("median", "mean")


@dataclass(frozen=True)
class Norms:
    """Measured on all users known before the cutoff, and stored with the snapshot, so that one user alone is judged alike.

    Args:
        cycle: RC in days: a third of the 90th percentile of the mean gaps of those who came back; DEFAULT_CYCLE where fewer
            than 200 did.
        repurchasers: users with two order days or more.
        recency, frequency, monetary: where RFM splits buyers, in days, orders and cents.
        first_order_cents: total revenue of users with one order / their number.
        discounts: whether anybody ever bought with a coupon or at a reduced price; without, nothing is known of it.
        top_spend, top_activity: the 90th percentile of spending, the 75th of active days in 90, among buyers.
    """

    cycle: float = DEFAULT_CYCLE
    repurchasers: int = 0
    recency: float = 0.0
    frequency: float = 0.0
    monetary: float = 0.0
    first_order_cents: float = 0.0
    top_spend: float = 0.0
    top_activity: float = 0.0
    discounts: bool = False

    def describe(self) -> dict[str, Any]:
        return asdict(self)


def norms_of(values: Mapping[str, npt.NDArray[np.float64]], split: str | float = "median") -> Norms:
    """Measure the norms.

    Args:
        values: the features MEASURED_ON that the shop has, of all buyers (others do not matter) in any order.
        split: where RFM splits: "median", "mean" or a quantile between 0 and 1.
    """
    if "orders_count" not in values:
        return Norms()
    count = values["orders_count"]
    buys = count > 0
    if not buys.any():
        return Norms()
    gaps = values["cycle_mean_gap"]
    gaps = np.sort(gaps[~np.isnan(gaps)])
    enough = len(gaps) >= ENOUGH_REPURCHASERS
    once = values["orders_revenue"][count == 1]
    activity = values.get("activity_active_days_90d")
    return Norms(
        cycle=float(np.quantile(gaps, 0.9)) / 3 if enough else DEFAULT_CYCLE,
        repurchasers=len(gaps),
        recency=_split(values["orders_recency"][buys], split),
        frequency=_split(count[buys], split),
        monetary=_split(values["orders_revenue"][buys], split),
        first_order_cents=float(once.sum()) / len(once) if len(once) else 0.0,
        top_spend=float(np.quantile(values["orders_revenue"][buys], 0.9)),
        top_activity=float(np.quantile(activity[buys], 0.75)) if activity is not None else 0.0,
        discounts=bool((values["discounts_full_price_share"] < 1).any()) if "discounts_full_price_share" in values else False,
    )


def _split(values: npt.NDArray[np.float64], split: str | float) -> float:
    if split == "mean":
        # Sums of whole numbers are exact in any order.
        return float(values.sum()) / len(values)
    return float(np.quantile(values, 0.5 if split == "median" else float(split)))
