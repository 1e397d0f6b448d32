"""Value: how much will a customer spend, less what is refunded?"""

from training.outcomes import ordered, spent
from training.task import Task

VALUE = Task(
    name="value",
    question="How much will this customer spend within {horizon} days, net of refunds?",
    eligible=lambda users, window: users["orders_recency"] <= 365,
    eligible_in_words="a valid order in the last 365 days",
    outcome=ordered,
    amount=spent,
    kind="value",
    bgnbd=True,
    horizon=lambda cycle: 90,
    rule="orders_revenue_90d",
    rule_in_words="past rate of spending",
    rfm=(),
)
