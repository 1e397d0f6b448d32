"""The prediction of spending, whose horizon alone tells one task of it from another."""

from __future__ import annotations

from training.eligible import eligible
from training.outcomes import ordered, spent
from training.task import Task


def spending(name: str, days: int, extrapolates: bool = False) -> Task:
    """How much a customer will spend within so many days, less what is refunded."""
    return Task(
        name=name,
        question="How much will this customer spend within {horizon} days, net of refunds?",
        eligible=eligible({"feature": "orders_recency", "at_most": 365}),
        eligible_in_words="a valid order in the last 365 days",
        outcome=ordered,
        amount=spent,
        kind="value",
        bgnbd=True,
        horizon=lambda cycle: days,
        rule="orders_revenue_90d",
        rule_in_words="past rate of spending",
        rfm=(),
        extrapolates=extrapolates,
    )
