"""Membership: the level as it was known, and what the user makes of it."""

from __future__ import annotations

from ibis import Table

from features.tiles import History
from features.view import NEVER, Column, FeatureView, days_since, sum_of


def tier(history: History, window: int | None) -> Table:
    """Per user: the last known membership level."""
    changes = history.changes
    changes = changes.filter(changes.event == "tier_changed")
    # The latest day wins; what was known later about the same day wins over what was known earlier.
    moment = changes.day.cast("int64") * 100_000 + changes.known_day
    return changes.group_by("user_id").aggregate(tier=changes.level.argmax(moment))


MEMBERSHIP = FeatureView(
    name="membership",
    columns=(
        Column("tier", None, "membership level", "level", empty=NEVER, needs=("tier_changed",)),
        Column("tier_recency", days_since("tier_changes"), "days since the membership level changed", "days", empty=NEVER),
        Column("visits", sum_of("member_visits"), "visits to the member centre", "visits", windows=(30, 90), actionable=True),
        Column("benefits_claimed", sum_of("benefits_claimed"), "member benefits claimed", "benefits", windows=(90,), actionable=True),
        Column("benefits_used", sum_of("benefits_used"), "member benefits used", "benefits", windows=(90,), actionable=True),
        Column("samples", sum_of("samples"), "samples received", "samples", windows=(90, None), actionable=True),
    ),
    rows=tier,
)
