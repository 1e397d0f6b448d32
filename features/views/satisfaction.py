"""How it went: refunds, cancellations, delivery, ratings, and whether others are told."""

from features.aggregates import days_since, ratio, sum_of
from features.view import NEVER, Column, FeatureView

SATISFACTION = FeatureView(
    name="satisfaction",
    windows=(90, None),
    columns=(
        Column("refunds", sum_of("refunds"), "refunds", "refunds"),
        Column("refund_share", ratio("refund_cents", "revenue_cents"), "amount refunded per amount spent", "share", empty=NEVER),
        Column("refund_recency", days_since("refunds"), "days since the last refund", "days", empty=NEVER, windows=(None,)),
        Column("cancellations", sum_of("cancellations"), "orders cancelled", "orders"),
        Column("delivery_days", ratio("delivery_days", "deliveries"), "days until a parcel arrived", "days", empty=NEVER, actionable=True),
        Column("late_deliveries", sum_of("late_deliveries"), "parcels that came later than promised", "parcels", actionable=True),
        Column("late_share", ratio("late_deliveries", "deliveries"), "share of parcels that came later than promised", "share", empty=NEVER, actionable=True),
        Column("late_days", ratio("late_days", "late_deliveries"), "days that late parcels were late", "days", empty=NEVER, windows=(None,), actionable=True),
        Column("stars", ratio("stars", "ratings"), "average rating given", "stars", empty=NEVER),
        Column("low_ratings", sum_of("low_ratings"), "ratings of one or two stars", "ratings"),
        Column("reviews", sum_of("reviews_written"), "reviews written", "reviews", windows=(None,)),
        Column("reviews_read", sum_of("reviews_read"), "times reviews were read", "reviews", windows=(30,)),
        Column("support", sum_of("support_contacts"), "contacts with support", "contacts"),
        Column("shares", sum_of("shares"), "products shared", "shares"),
        Column("referrals", sum_of("referrals"), "friends who came by the user's invitation", "friends"),
        Column("referral_recency", days_since("referrals"), "days since a friend came by the user's invitation", "days", empty=NEVER, windows=(None,)),
    ),
)
