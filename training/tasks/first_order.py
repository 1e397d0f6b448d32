"""First order (0 -> 1): will a visitor who never bought place a first order?"""

from training.eligible import eligible
from training.outcomes import ordered
from training.task import Task

FIRST_ORDER = Task(
    name="first_order",
    question="Will this visitor place a first order within {horizon} days?",
    eligible=eligible({"feature": "orders_count", "is": 0}, {"feature": "activity_recency", "at_most": 90}),
    eligible_in_words="active in the last 90 days, no valid order yet",
    outcome=ordered,
    horizon=lambda cycle: cycle.repurchase_horizon,
    needs=("order", "product_view"),
    rule="activity_recency",
    rfm=("activity_recency", "activity_active_days_30d", "activity_product_views_30d"),
)
