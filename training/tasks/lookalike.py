"""Look-alike of coupon redeemers: which other customers resemble those who redeemed a coupon?"""

from training.eligible import eligible
from training.task import Task

REDEEMED = eligible({"feature": "discounts_redemption_recency", "known": True})

LOOKALIKE = Task(
    name="lookalike",
    question="How much does this customer resemble those who redeemed a coupon?",
    eligible=eligible({"feature": "orders_recency", "at_most": 90}),
    eligible_in_words="a valid order in the last 90 days, not in the seed",
    horizon=lambda cycle: 90,
    needs=("order", "coupon_redeemed"),
    seed=REDEEMED,
    # What defines the seed must not describe it: coupons, and campaigns, which were sent to chosen customers.
    left_out=("discounts_redemption", "discounts_coupon", "discounts_top_coupon", "discounts_full_price", "campaigns_"),
    # Spend is the rule that people use to choose an audience.
    rule="orders_revenue_365d",
    rule_in_words="spend rule",
)
