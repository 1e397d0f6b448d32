"""RFM groups and the layers of new and existing customers, as numbers for models and as words for people."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.aggregates import Floats, labels
from features.norms import Norms
from features.view import NEVER, Column, Derived, FeatureView, Values

RFM = ("orders_recency", "orders_count", "orders_revenue")
# By recent, frequent and high spending, in that order of digits.
GROUPS = ("lost", "valuable once", "frequent once", "valuable, to win back", "new", "valuable, to develop", "regular", "champion")
LAPSING, LAPSED = 2.0, 3.0  # repurchase cycles since the last order
SENSITIVE = 0.5  # share of orders with a coupon or a reduced price


def _buys(values: Values) -> npt.NDArray[np.bool_]:
    return np.asarray(values["orders_count"] > 0)


def _recent(values: Values, norms: Norms) -> Floats:
    return np.where(_buys(values), values["orders_recency"] <= norms.recency, np.nan)


def _frequent(values: Values, norms: Norms) -> Floats:
    return np.where(_buys(values), values["orders_count"] > norms.frequency, np.nan)


def _spending(values: Values, norms: Norms) -> Floats:
    return np.where(_buys(values), values["orders_revenue"] > norms.monetary, np.nan)


def _group(values: Values, norms: Norms) -> pa.DictionaryArray:
    place = 4 * _recent(values, norms) + 2 * _frequent(values, norms) + _spending(values, norms)
    return labels(np.nan_to_num(place).astype(np.int64), GROUPS, np.isnan(place))


def _layer(values: Values, norms: Norms) -> pa.DictionaryArray:
    """One order: within one repurchase cycle or past it, above or below the mean first order. More: by how they buy."""
    count, revenue, position = values["orders_count"], values["orders_revenue"], values["cycle_shop_position"]
    active = values.get("activity_active_days_90d")
    is_super = (revenue >= norms.top_spend) & (True if active is None else active >= norms.top_activity)
    share = values.get("discounts_full_price_share") if norms.discounts else None
    sensitive = np.zeros(len(count), bool) if share is None else share < 1 - SENSITIVE
    full_price = np.zeros(len(count), bool) if share is None else share >= 1 - SENSITIVE
    within, high = position <= 1, revenue > norms.first_order_cents
    cases = [count <= 0, (count == 1) & within & high, (count == 1) & within, (count == 1) & high, count == 1]
    cases += [position > LAPSED, position > LAPSING, is_super, sensitive, full_price]
    names = ["visitor", "new, high value", "new, low value", "cooling, high value", "cooling, low value"]
    names += ["lapsed", "lapsing", "super user", "discount-sensitive", "loyal full-price"]
    return labels(np.select(cases, range(len(cases)), len(cases)).astype(np.int64), [*names, "loyal"])


LAYER_INPUTS = ("orders_count", "orders_revenue", "cycle_shop_position")

LAYERED = FeatureView(
    name="layers",
    columns=(
        Column("recent", Derived(RFM, _recent), "1 if the last order is more recent than the typical buyer's", "flag", empty=NEVER),
        Column("frequent", Derived(RFM, _frequent), "1 if there are more orders than the typical buyer has", "flag", empty=NEVER),
        Column("spending", Derived(RFM, _spending), "1 if more was spent than the typical buyer spends", "flag", empty=NEVER),
        Column("rfm_group", Derived(RFM, _group), "value group by recency, frequency and money", "label", empty=NEVER),
        Column("layer", Derived(LAYER_INPUTS, _layer), "layer of new or existing customers", "label", empty=NEVER),
        Column(
            "cycles_since", Derived(("cycle_shop_position",), lambda values, norms: np.floor(values["cycle_shop_position"])),
            "whole repurchase cycles of the shop since the last order", "cycles", empty=NEVER,
        ),
    ),
)  # fmt: skip
