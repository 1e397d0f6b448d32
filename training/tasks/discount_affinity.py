"""Discount affinity: is the next order of a customer one with a discount?"""

from training.eligible import eligible
from training.outcomes import ordered, ordered_at_a_discount
from training.task import Task

DISCOUNT_AFFINITY = Task(
    name="discount_affinity",
    question="If this customer orders again within {horizon} days, will it be with a coupon or at a reduced price?",
    eligible=eligible({"feature": "orders_recency", "at_most": 365}),
    eligible_in_words="a valid order in the last 365 days",
    outcome=ordered_at_a_discount,
    given=ordered,
    horizon=lambda cycle: cycle.repurchase_horizon,
    rule="discounts_full_price_share",
    rule_in_words="past share of orders with a discount",
    rfm=("orders_recency", "orders_count_90d", "orders_revenue_90d", "discounts_full_price_share_90d"),
    share=("orders_count", "discounts_full_price_share"),
)
