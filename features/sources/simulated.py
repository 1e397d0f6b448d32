"""The simulated shop as a source: `users`, `days` and `seed` in the shop file, all optional."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.shopfile import Shop
from features.sources.batch import Batch


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """What `features.shop.simulate` plays, on the shop's own clock and in its currency; the truth stays behind."""
    from features.shop import simulate

    users, days, seed = (int(settings.get(name, default)) for name, default in (("users", 2000), ("days", 400), ("seed", 0)))
    return simulate(users, days, seed, zone=shop.zone, currency=shop.currency).batch
