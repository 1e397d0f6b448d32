"""When the user comes and buys: part of the day and weekend, on the shop's own clock."""

from features.aggregates import ratio
from features.view import NEVER, Column, FeatureView

RHYTHM = FeatureView(
    name="rhythm",
    columns=(
        Column("weekend_share", ratio("weekend_orders", "orders"), "share of orders at the weekend", "share", empty=NEVER),
        Column("night_share", ratio("night_orders", "orders"), "share of orders from midnight to six", "share", empty=NEVER),
        Column("morning_share", ratio("morning_orders", "orders"), "share of orders in the morning", "share", empty=NEVER),
        Column("afternoon_share", ratio("afternoon_orders", "orders"), "share of orders in the afternoon", "share", empty=NEVER),
        Column("evening_share", ratio("evening_orders", "orders"), "share of orders in the evening", "share", empty=NEVER),
        Column("weekend_activity", ratio("weekend_actions", "actions"), "share of activity at the weekend", "share", empty=NEVER, windows=(90,)),
        Column("night_activity", ratio("night_actions", "actions"), "share of activity from midnight to six", "share", empty=NEVER, windows=(90,)),
        Column("morning_activity", ratio("morning_actions", "actions"), "share of activity in the morning", "share", empty=NEVER, windows=(90,)),
        Column("afternoon_activity", ratio("afternoon_actions", "actions"), "share of activity in the afternoon", "share", empty=NEVER, windows=(90,)),
        Column("evening_activity", ratio("evening_actions", "actions"), "share of activity in the evening", "share", empty=NEVER, windows=(90,)),
    ),
)
