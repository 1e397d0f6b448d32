"""Reactivation: will a lapsed customer come back?"""

from training.outcomes import ordered
from training.task import Task

REACTIVATION = Task(
    name="reactivation",
    question="Will this lapsed customer order again within {horizon} days?",
    eligible=lambda users, window: users["orders_recency"] > window,
    eligible_in_words="the last valid order is more than {window} days old",
    outcome=ordered,
    bgnbd=True,
    horizon=lambda cycle: cycle.repurchase_horizon,
)
