"""Coupon response: will a customer who receives a campaign redeem a coupon of it?"""

from training.eligible import eligible
from training.outcomes import redeemed_offer
from training.task import Task

COUPON_RESPONSE = Task(
    name="coupon_response",
    question="If this customer receives a campaign, will they redeem a coupon of it within {horizon} days?",
    eligible=eligible({"feature": "orders_recency", "at_most": 365}),
    eligible_in_words="a valid order in the last 365 days",
    outcome=redeemed_offer,
    horizon=lambda cycle: 60,  # the validity of most offers
    needs=("order", "campaign_received", "coupon_redeemed"),
    # Recency says nothing about coupons; the rule that people use here is who has used coupons before.
    rule="discounts_coupon_order_share",
    rule_in_words="past coupon use",
    rfm=("orders_recency", "orders_count_90d", "orders_revenue_90d", "discounts_coupon_order_share"),
    trigger="campaigns",
)
