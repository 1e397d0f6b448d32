"""The rhythm of buying: gaps between days with an order, where in the cycle the user stands, and how long supplies last."""

import numpy as np

from features.aggregates import Floats, Ints, as_float, days_since_first, divide, gaps, sum_of
from features.norms import Norms
from features.view import NEVER, Column, Derived, FeatureView, Values

MINUTES = 1440.0


def _deviation(count: Ints, total: Ints, squares: Ints) -> Floats:
    n = np.where(count > 0, count, 1).astype(np.float64)
    variance = (count * squares - total * total).astype(np.float64) / (n * n)
    return np.where(count > 0, np.sqrt(np.maximum(variance, 0.0)), np.nan)


def _position(values: Values, norms: Norms) -> Floats:
    usual = values["cycle_mean_gap"]
    return np.where(usual > 0, values["orders_recency"] / np.where(usual > 0, usual, 1.0), np.nan)


def _supply_left(values: Values, norms: Norms) -> Floats:
    return np.asarray(values["cycle_supply"] / MINUTES - values["cycle_supply_age"])


RHYTHM_OF_ORDERS = (
    Column("mean_gap", gaps(lambda count, total: divide(total, count), "count", "total"), "usual days between orders", "days", empty=NEVER),
    Column("gap_deviation", gaps(_deviation, "count", "total", "squares"), "how irregular the days between orders are", "days", empty=NEVER),
    Column("longest_gap", gaps(as_float, "longest"), "longest pause between two orders", "days", empty=NEVER),
    Column("last_gap", gaps(as_float, "last"), "days between the last two orders", "days", empty=NEVER),
    Column("earlier_gap", gaps(as_float, "earlier"), "days between the two orders before the last", "days", empty=NEVER),
    Column(
        "position", Derived(("orders_recency", "cycle_mean_gap"), _position),
        "days since the last order against the user's own usual pause", "ratio", empty=NEVER,
    ),
    Column(
        "overdue", Derived(("orders_recency", "cycle_mean_gap"), lambda values, norms: values["orders_recency"] - values["cycle_mean_gap"]),
        "days past the user's own usual pause", "days", empty=NEVER,
    ),
    Column(
        "shop_position", Derived(("orders_recency",), lambda values, norms: values["orders_recency"] / norms.cycle, accumulates=True),
        "days since the last order against the shop's repurchase cycle", "ratio", empty=NEVER,
    ),
)  # fmt: skip
SUPPLY = (
    Column("supply", sum_of("supply_minutes"), "minutes that all products bought last, by their daily use", "minutes"),
    Column("supply_age", days_since_first("supply_minutes"), "days since a product with a known daily use was first bought", "days", empty=NEVER),
    Column(
        "supply_left", Derived(("cycle_supply", "cycle_supply_age"), _supply_left),
        "days until what was bought is used up (negative: days without)", "days", empty=NEVER,
    ),
)  # fmt: skip


def cycle_view(has_daily_use: bool) -> FeatureView:
    """The rhythm of orders, and where the shop gives the daily use of some product, how long supplies last."""
    return FeatureView(name="cycle", columns=RHYTHM_OF_ORDERS + (SUPPLY if has_daily_use else ()))
