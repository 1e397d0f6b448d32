"""Interest levels: the shop's own groups of events, each read as one virtual event."""

from __future__ import annotations

from collections.abc import Mapping

from features.aggregates import days_since, sum_of, trend
from features.view import NEVER, Column, FeatureView


def interest_view(groups: Mapping[str, tuple[str, ...]]) -> FeatureView:
    """Counts, days since and trend for each interest level of the shop file."""
    columns = []
    for level in groups:
        columns += [
            Column(level, sum_of(level), f"actions of {level} interest", "actions"),
            Column(f"{level}_recency", days_since(level), f"days since an action of {level} interest", "days", empty=NEVER, windows=(None,)),
            Column(f"{level}_trend", trend(level, recent=7), f"{level} interest of the last week against the usual rate", "ratio", empty=NEVER, windows=(30,)),
        ]
    return FeatureView(name="interest", columns=tuple(columns), windows=(1, 7, 30, 90, 365))
