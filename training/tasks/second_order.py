"""Second order (1 -> 2): will a new customer come back?"""

from training.eligible import eligible
from training.outcomes import ordered
from training.task import Task

SECOND_ORDER = Task(
    name="second_order",
    question="Will this customer place a second order within {horizon} days?",
    eligible=eligible({"feature": "orders_count", "is": 1}, {"feature": "orders_recency", "at_most": 180}),
    eligible_in_words="exactly one valid order, placed in the last 180 days",
    outcome=ordered,
    bgnbd=True,
    horizon=lambda cycle: cycle.repurchase_horizon,
    rfm=("orders_recency", "orders_revenue_90d", "orders_items_90d"),
)
