"""Churn: will an active customer stay away?"""

from training.outcomes import ordered
from training.task import Task

CHURN = Task(
    name="churn",
    question="Will this active customer place no order within {horizon} days?",
    eligible=lambda users, horizon: users["orders_recency"] <= horizon,
    eligible_in_words="a valid order in the last {horizon} days",
    outcome=ordered,
    absence=True,
    horizon=lambda cycle: cycle.churn_horizon,
)
