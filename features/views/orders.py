"""Recency, frequency and money: what everybody in this field looks at first."""

from features.aggregates import days_since, days_since_first, days_with, ratio, sum_of, trend
from features.view import NEVER, Column, FeatureView

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
        Column("trend_week", trend("orders", recent=7), "order rate of the last week against the usual one", "ratio", empty=NEVER, windows=(30,)),
        Column("trend_month", trend("orders", recent=30), "order rate of the last month against the usual one", "ratio", empty=NEVER, windows=(90,)),
        Column("spend_trend", trend("revenue_cents", recent=30), "spending of the last month against the usual one", "ratio", empty=NEVER, windows=(90,)),
    ),
)
