"""What kinds of goods the user buys: purchases of single categories, brands or departments."""

from __future__ import annotations

from collections.abc import Sequence

from features.aggregates import count_of
from features.goods import BOUGHT, WINDOW, Goods
from features.view import Column, FeatureView


def bought_view(goods: Sequence[Goods]) -> FeatureView:
    """One column per goods: how many order lines had them."""
    columns = [
        Column(
            f"{one.dimension}_{one.name}",
            count_of("purchases", one.dimension, one.values),
            f"purchases of the {one.dimension} {' or '.join(map(repr, one.values))}",
            "purchases",
        )
        for one in goods
    ]
    return FeatureView(BOUGHT, tuple(columns), windows=(WINDOW,))
