"""Repeat order (2 -> many): will a repeat buyer order again?"""

from training.eligible import eligible
from training.outcomes import ordered
from training.task import Task

REPEAT_ORDER = Task(
    name="repeat_order",
    question="Will this customer order again within {horizon} days?",
    eligible=eligible({"feature": "orders_count", "at_least": 2}, {"feature": "orders_recency", "at_most": 365}),
    eligible_in_words="two valid orders or more, the last one in the last 365 days",
    outcome=ordered,
    bgnbd=True,
    horizon=lambda cycle: cycle.repurchase_horizon,
)
