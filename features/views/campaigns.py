"""Exposure to campaigns and the response to them."""

from __future__ import annotations

from ibis import Table

from features.tiles import History, in_window
from features.view import NEVER, Column, FeatureView, days_since, ratio, sum_of


def response(history: History, window: int | None) -> Table:
    """Per user: campaigns answered by a redemption, and their share of the campaigns received."""
    rows = in_window(history.user_campaigns, window)
    each = rows.group_by("user_id", "campaign").aggregate(received=rows.received.sum(), redeemed=rows.redeemed.sum())
    users = each.group_by("user_id").aggregate(
        answered=(each.redeemed > 0).cast("int64").sum(),
        received=(each.received > 0).cast("int64").sum(),
    )
    return users.mutate(answer_share=users.answered.cast("float64") / users.received.nullif(0))


CAMPAIGNS = FeatureView(
    name="campaigns",
    windows=(30, 90, 365),
    columns=(
        Column("received", sum_of("campaigns"), "campaigns received", "campaigns", actionable=True),
        Column("recency", days_since("campaigns"), "days since the last campaign", "days", empty=NEVER, windows=(None,), actionable=True),
        Column(
            "answered", None, "campaigns answered with a coupon", "campaigns",
            windows=(None,), needs=("campaign_received", "coupon_redeemed"), accumulates=True,
        ),
        Column(
            "answer_share", None, "share of campaigns answered with a coupon", "share",
            empty=NEVER, windows=(None,), needs=("campaign_received", "coupon_redeemed"),
        ),
        Column("opens", sum_of("opens"), "messages opened", "messages", actionable=True),
        Column("clicks", sum_of("clicks"), "messages clicked", "messages", actionable=True),
        Column("click_rate", ratio("clicks", "campaigns"), "clicks per campaign received", "share", empty=NEVER, windows=(90,), actionable=True),
    ),
    rows=response,
)  # fmt: skip
