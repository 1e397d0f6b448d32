"""Next order: when will it come?"""

from training.eligible import eligible
from training.outcomes import ordered, waited
from training.task import Task

NEXT_ORDER = Task(
    name="next_order",
    question="When, within {horizon} days, will this customer order next?",
    eligible=eligible({"feature": "orders_recency", "at_most": 365}),
    eligible_in_words="a valid order in the last 365 days",
    outcome=ordered,
    amount=waited,
    kind="date",
    bgnbd=True,
    horizon=lambda cycle: 2 * cycle.repurchase_horizon,
    rule_in_words="Kaplan-Meier by recency",
    rfm=(),
)
