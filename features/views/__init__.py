"""All feature views, one file each. A new view is a new file and one line here."""

from __future__ import annotations

from features.shopfile import Shop
from features.view import FeatureView
from features.views.activity import ACTIVITY
from features.views.attributes import attributes_view
from features.views.campaigns import CAMPAIGNS
from features.views.cycle import CYCLE
from features.views.discounts import DISCOUNTS
from features.views.interest import interest_view
from features.views.membership import MEMBERSHIP
from features.views.orders import ORDERS
from features.views.products import PRODUCTS
from features.views.rhythm import RHYTHM
from features.views.satisfaction import SATISFACTION


def all_views(shop: Shop) -> tuple[FeatureView, ...]:
    """Every view, in the order of the snapshot's columns; two of them are shaped by the shop's own names."""
    return (
        ORDERS,
        CYCLE,
        PRODUCTS,
        DISCOUNTS,
        CAMPAIGNS,
        RHYTHM,
        ACTIVITY,
        interest_view(shop.interest),
        SATISFACTION,
        MEMBERSHIP,
        attributes_view(shop.attributes),
    )
