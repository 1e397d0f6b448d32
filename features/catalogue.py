"""The features of a shop, and how integers become their values: the same for a snapshot, another engine and a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.aggregates import DayPart, Part
from features.goods import Goods
from features.norms import MEASURED_ON, Norms
from features.shopfile import Shop
from features.view import Derived, Feature, features_of
from features.views import all_views
from features.vocabulary import EVENTS

ORDERS = DayPart("sum", "orders")  # decides the stage


def catalogue(shop: Shop, kinds: frozenset[str], counted: Sequence[Goods] = ()) -> list[Feature]:
    """The features and labels that a shop with these kinds of events has, in a fixed order.

    Args:
        counted: goods whose purchases are features too: of those who ask for them, see `bought`.
    """
    found: dict[str, Feature] = {}
    for family in all_views(shop, counted):
        for feature in features_of(family, kinds, shop.interest, found):
            found[feature.name] = feature
    return list(found.values())


def absent(shop: Shop, kinds: frozenset[str]) -> list[str]:
    """Features left out because the shop has no such events."""
    present = {feature.name for feature in catalogue(shop, kinds)}
    return [feature.name for feature in catalogue(shop, frozenset(EVENTS)) if feature.name not in present]


def parts_of(features: Sequence[Feature]) -> list[Part]:
    """All integers that the features need, and the one that decides the stage."""
    return [ORDERS, *(part for feature in features for part in feature.parts)]


def needed_for_norms(features: Sequence[Feature]) -> list[Feature]:
    return [feature for feature in features if feature.name in MEASURED_ON]


def finish(features: Sequence[Feature], parts: Mapping[Part, Any], measured: Norms, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Name -> values of every feature and label, from integers; the same code whichever engine counted them.

    Args:
        known: values of other features that some of these are derived from.
    """
    values: dict[str, Any] = dict(known or {})
    with np.errstate(divide="ignore", invalid="ignore"):
        for feature in features:
            source = feature.column.source
            if isinstance(source, Derived):
                found: Any = source.compute(values, measured)
            else:
                found = source.finish(feature.window, *(parts[part] for part in feature.parts))
            values[feature.name] = found if feature.is_label else _or_empty(found, feature.column.empty)
    return values


def _or_empty(values: npt.NDArray[Any], empty: float | None) -> npt.NDArray[np.float64]:
    numbers = values.astype(np.float64, copy=False)
    return numbers if empty is None else np.where(np.isnan(numbers), empty, numbers)
