"""Sensitivity to price: discounts that everybody gets, and coupons."""

from features.view import NEVER, Column, FeatureView, days_since, ratio, sum_of

DISCOUNTS = FeatureView(
    name="discounts",
    windows=(90, None),
    columns=(
        Column("share", ratio("discount_cents", "revenue_cents"), "discount per amount spent", "share", empty=NEVER, actionable=True),
        Column("coupon_share", ratio("coupon_cents", "revenue_cents"), "coupon value per amount spent", "share", empty=NEVER, actionable=True),
        Column("coupon_order_share", ratio("coupon_orders", "orders"), "share of orders with a coupon", "share", empty=NEVER, actionable=True),
        Column("coupon_orders", sum_of("coupon_orders"), "orders with a coupon", "orders", windows=(30, 90, 365), actionable=True),
        Column("redemptions", sum_of("redemptions"), "coupons redeemed", "coupons", windows=(30, 90, 365), actionable=True),
        Column("redemption_recency", days_since("redemptions"), "days since the last coupon was redeemed", "days", empty=NEVER, windows=(None,)),
    ),
)
