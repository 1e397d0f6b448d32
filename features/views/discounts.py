"""Sensitivity to price: discounts that everybody gets, coupons, and where the user's prices lie."""

import numpy as np

from features.aggregates import Floats, days_since, kinds, ratio, sum_of, top_share
from features.norms import Norms
from features.view import NEVER, Column, Derived, FeatureView, Values


def _price_trend(values: Values, norms: Norms) -> Floats:
    usual = values["discounts_item_price"]
    return np.where(usual > 0, values["discounts_item_price_90d"] / np.where(usual > 0, usual, 1.0), np.nan)


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
        Column("sale_order_share", ratio("discount_orders", "orders"), "share of orders with a reduced price", "share", empty=NEVER, actionable=True),
        Column("full_price_share", ratio("full_price_orders", "orders"), "share of orders at full price", "share", empty=NEVER),
        Column("item_price", ratio("revenue_cents", "items"), "average amount paid per item", "cents", empty=NEVER),
        Column(
            "price_trend", Derived(("discounts_item_price_90d", "discounts_item_price"), _price_trend),
            "amount paid per item in the last 90 days against the user's usual one", "ratio", empty=NEVER, windows=(None,),
        ),
        Column("coupons_received", sum_of("coupons_received"), "coupons given", "coupons", windows=(30, 90), actionable=True),
        Column(
            "coupon_use", ratio("redemptions", "coupons_received"), "coupons redeemed per coupon given", "share", empty=NEVER, windows=(365,), actionable=True,
        ),
        Column("coupons_applied", sum_of("coupons_applied"), "coupons entered at checkout", "coupons", windows=(30, 90), actionable=True),
        Column("coupons_denied", sum_of("coupons_denied"), "coupons entered and not accepted", "coupons", windows=(90,)),
        Column("coupon_types", kinds("coupon_types", "detail"), "types of coupon redeemed", "types", windows=(365,)),
        Column("top_coupon_share", top_share("coupon_types", "detail"), "share of the coupon type used most", "share", empty=NEVER, windows=(365,)),
    ),
)  # fmt: skip
