"""Declared attributes, as they were known: age, income, household size, ... as the shop names them."""

from __future__ import annotations

from collections.abc import Sequence

from features.aggregates import last_level
from features.view import NEVER, Column, FeatureView


def attributes_view(names: Sequence[str]) -> FeatureView:
    """One column per attribute of the shop file: its last value known before the cutoff."""
    columns = [Column(name, last_level(f"attribute.{name}"), name.replace("_", " "), "declared value", empty=NEVER) for name in names]
    return FeatureView(name="attributes", columns=tuple(columns))
