"""Exposure to campaigns and promotions, the response to them, and fatigue."""

from features.aggregates import days_since, key_ratio, kinds, ratio, sum_of, trend
from features.view import NEVER, Column, FeatureView

CAMPAIGNS = FeatureView(
    name="campaigns",
    windows=(30, 90, 365),
    columns=(
        Column("received", sum_of("campaigns"), "campaigns received", "campaigns", actionable=True),
        Column("recency", days_since("campaigns"), "days since the last campaign", "days", empty=NEVER, windows=(None,), actionable=True),
        Column("answered", kinds("redeemed", "campaign"), "campaigns answered with a coupon", "campaigns", windows=(None,)),
        Column(
            "answer_share", key_ratio("redeemed", "received", "campaign"),
            "campaigns answered with a coupon per campaign received", "share", empty=NEVER, windows=(None,),
        ),
        Column("opens", sum_of("opens"), "messages opened", "messages", actionable=True),
        Column("clicks", sum_of("clicks"), "messages clicked", "messages", actionable=True),
        Column("open_rate", ratio("opens", "campaigns"), "messages opened per campaign received", "share", empty=NEVER, windows=(90,), actionable=True),
        Column("click_rate", ratio("clicks", "campaigns"), "clicks per campaign received", "share", empty=NEVER, windows=(90,), actionable=True),
        Column("clicked", kinds("clicked", "campaign"), "different campaigns clicked", "campaigns", windows=(365,)),
        Column(
            "pressure", trend("campaigns", recent=30), "campaigns of the last month against the usual rate",
            "ratio", empty=NEVER, windows=(365,), actionable=True,
        ),
        Column("open_trend", trend("opens", recent=30), "messages opened in the last month against the usual rate", "ratio", empty=NEVER, windows=(365,)),
        Column("unsubscribed", days_since("unsubscriptions"), "days since messages were declined", "days", empty=NEVER, windows=(None,)),
        Column("promotion_views", sum_of("promotion_views"), "promotions seen in the shop", "promotions", windows=(30,)),
        Column("promotion_clicks", sum_of("promotion_clicks"), "promotions clicked in the shop", "promotions", windows=(30, 90)),
    ),
)  # fmt: skip
