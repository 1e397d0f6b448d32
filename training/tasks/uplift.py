"""Uplift: whom does a campaign make order who would not have ordered anyway?"""

from training.eligible import eligible
from training.outcomes import ordered
from training.task import Task

UPLIFT = Task(
    name="uplift",
    question="By how much does a campaign raise this customer's chance of an order within {horizon} days?",
    eligible=eligible({"any": [{"feature": "activity_recency", "known": True}, {"feature": "orders_recency", "known": True}]}),
    eligible_in_words="everybody with an order or a visit",
    outcome=ordered,
    kind="effect",
    horizon=lambda cycle: 14,
    # Only a lot tells what a campaign causes: it needs who was kept out on purpose.
    needs=("order", "campaign_received", "held_out"),
    trigger="held_outs",
    # What is received is the treatment; how often it was drawn for somebody describes the lot.
    left_out=("campaigns_",),
)
