"""All feature views, one file each. A new view is a new file and one line here."""

from __future__ import annotations

from collections.abc import Sequence

from features.goods import Goods
from features.shopfile import Shop
from features.view import FeatureView
from features.views.activity import ACTIVITY
from features.views.attributes import attributes_view
from features.views.bought import bought_view
from features.views.campaigns import CAMPAIGNS
from features.views.cycle import cycle_view
from features.views.discounts import DISCOUNTS
from features.views.interest import interest_view
from features.views.layers import LAYERED
from features.views.membership import membership_view
from features.views.orders import ORDERS
from features.views.products import PRODUCTS
from features.views.rhythm import RHYTHM
from features.views.satisfaction import SATISFACTION
from features.views.search import SEARCH
from features.views.touch import TOUCH


def all_views(shop: Shop, counted: Sequence[Goods] = ()) -> tuple[FeatureView, ...]:
    """Every view, in the order of the snapshot's columns; a derived column comes after what it is derived from.

    Args:
        counted: goods whose purchases are counted, each in a column of its own.
    """
    return (
        ORDERS,
        cycle_view(bool(shop.daily_use)),
        PRODUCTS,
        DISCOUNTS,
        CAMPAIGNS,
        RHYTHM,
        ACTIVITY,
        SEARCH,
        interest_view(shop.interest),
        SATISFACTION,
        membership_view(shop.tiers, "growth_value" in shop.attributes),
        attributes_view([name for name in shop.attributes if name != "growth_value"]),
        TOUCH,
        LAYERED,
        bought_view(counted),
        *shop.views,
    )
