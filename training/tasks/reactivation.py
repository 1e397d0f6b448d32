"""Reactivation: will a lapsed customer come back?"""

from training.eligible import WINDOW, eligible
from training.outcomes import ordered
from training.task import Task

REACTIVATION = Task(
    name="reactivation",
    question="Will this lapsed customer order again within {horizon} days?",
    eligible=eligible({"feature": "orders_recency", "known": True}, exclude=({"feature": "orders_recency", "at_most": WINDOW},)),
    eligible_in_words="the last valid order is more than {window} days old",
    outcome=ordered,
    bgnbd=True,
    horizon=lambda cycle: cycle.repurchase_horizon,
)
