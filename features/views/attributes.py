"""Declared attributes, as they were known: age, income, household size, ... as the shop names them."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
from ibis import Table

from features.tiles import History
from features.view import NEVER, Column, FeatureView


def attributes_view(names: Sequence[str]) -> FeatureView:
    """One column per attribute of the shop file: its last value known before the cutoff."""

    def last_values(history: History, window: int | None) -> Table:
        changes = history.changes
        rows = changes.filter(changes.event == "attribute_set")
        # The latest day wins; what was known later about the same day wins over what was known earlier.
        moment = rows.day.cast("int64") * 100_000 + rows.known_day
        return rows.group_by("user_id").aggregate(
            **{name: ibis.cases((rows.detail == name, rows.level)).argmax(ibis.cases((rows.detail == name, moment))) for name in names}
        )

    return FeatureView(
        name="attributes",
        columns=tuple(Column(name, None, name.replace("_", " "), "declared value", empty=NEVER, needs=("attribute_set",)) for name in names),
        rows=last_values,
    )
