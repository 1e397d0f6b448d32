"""What customers are worth: value groups, layers, and the GMV equation month by month."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from features.events import day_number
from features.snapshot import Snapshot
from features.views.layers import GROUPS, LAPSED, LAPSING, SENSITIVE
from training.intervals import share

VISITOR = "visitor"
# As customers come, stay and go; a layer that the shop does not have is not shown.
LAYERS = ("new, high value", "new, low value", "super user", "loyal full-price", "loyal", "discount-sensitive",
          "cooling, high value", "cooling, low value", "lapsing", "lapsed")  # fmt: skip


def value_groups(snapshot: Snapshot) -> dict[str, Any]:
    """The eight groups by recency, frequency and money, best first, and where each of the three is split."""
    norms = snapshot.manifest["norms"]
    return {
        "split_at": {"recency_days": norms["recency"], "orders": norms["frequency"], "spend_cents": norms["monetary"]},
        "groups": _groups(snapshot.frame, "layers_rfm_group", GROUPS[::-1]),
    }


def layers(snapshot: Snapshot) -> dict[str, Any]:
    """The layers of new and existing customers, and what they are told apart by; visitors are counted beside them."""
    norms, frame = snapshot.manifest["norms"], snapshot.frame
    present = set(frame["layers_layer"].dropna())
    return {
        "split_at": {
            "cycle_days": norms["cycle"],
            "first_order_cents": norms["first_order_cents"],
            "lapsing_days": LAPSING * norms["cycle"],
            "lapsed_days": LAPSED * norms["cycle"],
            "top_spend_cents": norms["top_spend"],
            "top_active_days_90d": norms["top_activity"],
            "discount_share": SENSITIVE if norms["discounts"] else None,
        },
        "visitors": int((frame["layers_layer"] == VISITOR).sum()),
        "groups": _groups(frame, "layers_layer", [name for name in LAYERS if name in present]),
    }


def _groups(frame: pd.DataFrame, label: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Users, orders and revenue of each named group of customers, with their shares of all customers."""
    customers = frame[frame["orders_count"] > 0]
    revenue = float(customers["orders_revenue"].sum())
    found = []
    for name in names:
        mine = customers[customers[label] == name]
        cents, orders = float(mine["orders_revenue"].sum()), float(mine["orders_count"].sum())
        found.append(
            {
                "name": name,
                "customers": len(mine),
                "share": len(mine) / len(customers),
                "revenue_cents": round(cents),
                "revenue_share": cents / revenue if revenue else None,
                "mean_orders": orders / len(mine) if len(mine) else None,
                "mean_revenue_cents": cents / len(mine) if len(mine) else None,
            }
        )
    return found


def months(orders: pd.DataFrame, visits: pd.DataFrame, refunds: pd.DataFrame, as_of: date) -> list[dict[str, Any]]:
    """GMV = visitors x conversion x orders per buyer x average order value, for each month from the first order on.

    Visitors are users who visited or ordered; they are unknown in months that began before visits were recorded, unless
    orders were not recorded earlier either. A customer is new in the month of the first order and returning after it, so
    that the two add up to all buyers.

    Args:
        orders: as `shop_report.order_days` makes them. visits: as `shop_report.visit_days`.
        refunds: user_id, day and value in cents.
    """
    known_from = _visitors_known_from(orders, visits)
    orders, visits, refunds = (frame.assign(month=_months_of(frame["day"])) for frame in (orders, visits, refunds))
    is_new = orders["month"] == orders.groupby("user_id")["month"].transform("min")
    people = pd.concat([visits[["user_id", "month"]], orders[["user_id", "month"]]]).drop_duplicates()
    visitors, refunded = people.groupby("month").size(), refunds.groupby("month")["value"].sum()
    by_month = dict(list(orders.assign(is_new=is_new).groupby("month")))
    nothing = orders.iloc[:0].assign(is_new=False)
    found = []
    for number in range(int(orders["month"].min()), _month_number(day_number(as_of) - 1) + 1):
        mine = by_month.get(number, nothing)
        is_known = known_from is not None and number >= known_from
        found.append(
            {
                "month": str(np.datetime64(number, "M")),
                "is_whole": _month_number(day_number(as_of)) > number,
                **_equation(mine, int(visitors.get(number, 0)) if is_known else None),
                "refund_cents": int(refunded.get(number, 0)),
                "new": _sums(mine[mine["is_new"]]),
                "returning": _sums(mine[~mine["is_new"]]),
            }
        )
    return found


def _equation(orders: pd.DataFrame, visitors: int | None) -> dict[str, Any]:
    buyers, count, cents = int(orders["user_id"].nunique()), int(orders["orders"].sum()), int(orders["cents"].sum())
    return {
        "visitors": visitors,
        "conversion": None if visitors is None else share(buyers, visitors),
        "buyers": buyers,
        "orders_per_buyer": count / buyers if buyers else None,
        "orders": count,
        "average_order_cents": cents / count if count else None,
        "revenue_cents": cents,
    }


def _sums(orders: pd.DataFrame) -> dict[str, int]:
    return {"customers": int(orders["user_id"].nunique()), "orders": int(orders["orders"].sum()), "revenue_cents": int(orders["cents"].sum())}


def _visitors_known_from(orders: pd.DataFrame, visits: pd.DataFrame) -> int | None:
    """The first month of which all visits are recorded, as far as orders are; None without visits."""
    if visits.empty:
        return None
    first = int(visits["day"].min())
    if first <= int(orders["day"].min()):
        return _month_number(first)
    return _month_number(first - 1) + 1


def _months_of(days: pd.Series) -> pd.Series:
    """Months since 1970-01 of days since 1970-01-01."""
    return pd.Series(days.to_numpy(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64), days.index)


def _month_number(day: int) -> int:
    return int(np.datetime64(day, "D").astype("datetime64[M]").astype(np.int64))
