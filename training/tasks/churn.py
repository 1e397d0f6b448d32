"""Churn: will an active customer stay away?"""

from training.eligible import WINDOW, eligible
from training.outcomes import ordered
from training.task import Task

CHURN = Task(
    name="churn",
    question="Will this active customer place no order within {horizon} days?",
    eligible=eligible({"feature": "orders_recency", "at_most": WINDOW}),
    eligible_in_words="a valid order in the last {window} days",
    outcome=ordered,
    bgnbd=True,
    absence=True,
    horizon=lambda cycle: cycle.churn_horizon,
)
