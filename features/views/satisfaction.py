"""How it went: refunds, cancellations, delivery, ratings."""

from features.view import NEVER, Column, FeatureView, days_since, ratio, sum_of

SATISFACTION = FeatureView(
    name="satisfaction",
    windows=(90, None),
    columns=(
        Column("refunds", sum_of("refunds"), "refunds", "refunds"),
        Column("refund_share", ratio("refund_cents", "revenue_cents"), "amount refunded per amount spent", "share", empty=NEVER),
        Column("refund_recency", days_since("refunds"), "days since the last refund", "days", empty=NEVER, windows=(None,)),
        Column("cancellations", sum_of("cancellations"), "orders cancelled", "orders"),
        Column("delivery_days", ratio("delivery_days", "deliveries"), "days until a parcel arrived", "days", empty=NEVER, actionable=True),
        Column("stars", ratio("stars", "ratings"), "average rating given", "stars", empty=NEVER),
        Column("reviews", sum_of("reviews_written"), "reviews written", "reviews", windows=(None,)),
        Column("support", sum_of("support_contacts"), "contacts with support", "contacts"),
    ),
)
