"""When the user buys: part of the day and weekend, on the shop's own clock."""

from features.view import NEVER, Column, FeatureView, ratio

RHYTHM = FeatureView(
    name="rhythm",
    columns=(
        Column("weekend_share", ratio("weekend_orders", "orders"), "share of orders at the weekend", "share", empty=NEVER),
        Column("night_share", ratio("night_orders", "orders"), "share of orders from midnight to six", "share", empty=NEVER),
        Column("morning_share", ratio("morning_orders", "orders"), "share of orders in the morning", "share", empty=NEVER),
        Column("afternoon_share", ratio("afternoon_orders", "orders"), "share of orders in the afternoon", "share", empty=NEVER),
        Column("evening_share", ratio("evening_orders", "orders"), "share of orders in the evening", "share", empty=NEVER),
    ),
)
