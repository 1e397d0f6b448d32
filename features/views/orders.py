"""Recency, frequency and money: what everybody in this field looks at first."""

import numpy as np

from features.aggregates import Floats, days_since, days_since_first, days_with, ratio, sum_of, trend
from features.norms import Norms
from features.view import NEVER, Column, Derived, FeatureView, Values


def _relative(values: Values, norms: Norms) -> Floats:
    return np.asarray(values["orders_count"] / max(norms.frequency, 1.0))


def _rate(values: Values, norms: Norms) -> Floats:
    return np.asarray(30 * (values["orders_count"] - 1) / np.maximum(values["orders_tenure"], 1))


def _active_share(values: Values, norms: Norms) -> Floats:
    return np.asarray(1 - values["orders_recency"] / np.maximum(values["orders_tenure"], 1))


ORDERS = FeatureView(
    name="orders",
    windows=(7, 14, 30, 90, 365),
    columns=(
        Column("count", sum_of("orders"), "orders placed", "orders", windows=(7, 14, 30, 60, 90, 180, 365, None)),
        Column("days", days_with("orders"), "days with an order", "days", windows=(14, 30, 90, 365)),
        Column("revenue", sum_of("revenue_cents"), "amount spent", "cents", windows=(14, 30, 90, 365, None)),
        Column("items", sum_of("items"), "items bought", "items", windows=(30, 90, None)),
        Column("basket_value", ratio("revenue_cents", "orders"), "average order value", "cents", empty=NEVER, windows=(30, 90, None)),
        Column("basket_items", ratio("items", "orders"), "items per order", "items", empty=NEVER, windows=(90,)),
        Column("recency", days_since("orders"), "days since the last order", "days", empty=NEVER, windows=(None,)),
        Column("tenure", days_since_first("orders"), "days since the first order", "days", empty=NEVER, windows=(None,)),
        # A count of everything so far would tell the age of a young log; against the typical buyer's it does not. The other two
        # are what BG/NBD knows of a buyer (orders since the first, and when the last was), each as a share of the time there was.
        Column("relative", Derived(("orders_count",), _relative, ageless=True), "orders so far per order of the typical buyer", "ratio", windows=(None,)),
        Column(
            "rate", Derived(("orders_count", "orders_tenure"), _rate, ageless=True),
            "orders a month since the first one", "orders", empty=NEVER, windows=(None,),
        ),
        Column(
            "active_share", Derived(("orders_recency", "orders_tenure"), _active_share, ageless=True),
            "share of the time since the first order that had passed at the last one", "share", empty=NEVER, windows=(None,),
        ),
        Column("trend_week", trend("orders", recent=7), "order rate of the last week against the usual one", "ratio", empty=NEVER, windows=(30,)),
        Column("trend_month", trend("orders", recent=30), "order rate of the last month against the usual one", "ratio", empty=NEVER, windows=(90,)),
        Column("spend_trend", trend("revenue_cents", recent=30), "spending of the last month against the usual one", "ratio", empty=NEVER, windows=(90,)),
    ),
)  # fmt: skip
