"""Membership: the level and the growth value as they were known, the way to the next level, benefits and samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.aggregates import Floats, days_since, last_level, ratio, sum_of
from features.norms import Norms
from features.view import NEVER, Column, Derived, FeatureView, Values


def membership_view(tiers: Sequence[int], has_growth_value: bool) -> FeatureView:
    """The membership family.

    Args:
        tiers: growth value from which each rank is reached, from rank 0 on, as the shop file gives it; may be empty.
        has_growth_value: whether `growth_value` is a declared attribute of the shop.
    """
    needed = np.array([*tiers, np.nan], np.float64)

    def to_next(values: Values, norms: Norms) -> Floats:
        rank = np.nan_to_num(values["membership_tier"], nan=0.0).astype(int)
        reach = needed[np.clip(rank + 1, 0, len(needed) - 1)]
        return np.where(np.isnan(values["membership_growth_value"]), np.nan, np.maximum(reach - values["membership_growth_value"], 0.0))

    growth = Column("growth_value", last_level("attribute.growth_value"), "growth value", "points", empty=NEVER)
    distance = Column(
        "to_next_tier",
        Derived(("membership_tier", "membership_growth_value"), to_next),
        "growth value missing to the next level",
        "points",
        empty=NEVER,
        actionable=True,
    )
    return FeatureView(
        name="membership",
        columns=(
            Column("tier", last_level("tier"), "membership level", "level", empty=NEVER),
            Column("tier_recency", days_since("tier_changes"), "days since the membership level changed", "days", empty=NEVER),
            *([growth] if has_growth_value else []),
            *([distance] if has_growth_value and tiers else []),
            Column("visits", sum_of("member_visits"), "visits to the member centre", "visits", windows=(30, 90), actionable=True),
            Column("visit_recency", days_since("member_visits"), "days since the member centre was visited", "days", empty=NEVER, actionable=True),
            Column("benefits_claimed", sum_of("benefits_claimed"), "member benefits claimed", "benefits", windows=(90,), actionable=True),
            Column("benefits_used", sum_of("benefits_used"), "member benefits used", "benefits", windows=(90,), actionable=True),
            Column("benefit_use", ratio("benefits_used", "benefits_claimed"), "benefits used per benefit claimed", "share", empty=NEVER, windows=(365,)),
            Column("samples", sum_of("samples"), "samples received", "samples", windows=(90, None), actionable=True),
            Column("sample_recency", days_since("samples"), "days since a sample was received", "days", empty=NEVER, actionable=True),
        ),
    )
