"""Tier upgrade: will a member rise to a higher level?"""

from training.eligible import HIGHEST, eligible
from training.outcomes import rose
from training.task import Task

TIER_UPGRADE = Task(
    name="tier_upgrade",
    question="Will this member rise to a higher level within {horizon} days?",
    eligible=eligible({"feature": "membership_tier", "known": True}, exclude=({"feature": "membership_tier", "at_least": HIGHEST},)),
    eligible_in_words="members below the top level",
    outcome=rose,
    horizon=lambda cycle: 30,
    needs=("order", "tier_changed"),
    # Where the shop says what a level takes, its distance; else what a level is bought with.
    rule="membership_to_next_tier",
    rule_in_words="distance to the next level",
    rfm=("orders_recency", "orders_count_90d", "orders_revenue_90d", "membership_tier"),
)
