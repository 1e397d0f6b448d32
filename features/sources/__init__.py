"""All sources, one file each. A new source is a new file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from features.errors import UnknownName
from features.rates import convert
from features.shopfile import Shop
from features.sources import complete_journey, ga4, segment, sensors, shopify, simulated, table, wechat, woocommerce
from features.sources.batch import Batch

SOURCES: dict[str, Callable[[Mapping[str, Any], Shop], Batch]] = {
    "complete_journey": complete_journey.read,
    "ga4": ga4.read,
    "segment": segment.read,
    "sensors": sensors.read,
    "shopify": shopify.read,
    "simulated": simulated.read,
    "table": table.read,
    "wechat": wechat.read,
    "woocommerce": woocommerce.read,
}


def read_source(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """Read one of the shop file's sources; all amounts are in the shop's currency.

    Raises:
        UnknownName: no source is of that kind.
        InvalidTable: the source cannot be accepted; all problems are listed.
        NoUsableData: the source is empty.
    """
    kind = str(settings.get("kind", ""))
    if kind not in SOURCES:
        raise UnknownName("kind of source", kind, SOURCES)
    return replace(convert(SOURCES[kind](settings, shop), shop), stream=f"{kind} {settings.get('rows', '')}".strip())
