"""The user's own rhythm of buying: gaps between days with an order, and where in the cycle the user stands."""

from __future__ import annotations

import ibis
from ibis import Table

from features.tiles import History, in_window
from features.view import NEVER, Column, FeatureView


def gaps(history: History, window: int | None) -> Table:
    """Per user: moments of the gaps between order days, all from integer sums."""
    days = in_window(history.user_days, window)
    days = days.filter(days.orders > 0).select("user_id", "day", "age")
    mine = ibis.window(group_by="user_id", order_by="day")
    days = days.mutate(gap=days.day - days.day.lag().over(mine))
    days = days.mutate(previous=days.gap.lag().over(mine))
    last = days.group_by("user_id").aggregate(
        n=days.gap.count(),
        total=days.gap.sum(),
        squares=(days.gap.cast("int64") * days.gap).sum(),
        longest=days.gap.max(),
        last=days.gap.argmax(days.day),
        before=days.previous.argmax(days.day),
        recency=days.age.min(),
    )
    count, total = last.n.nullif(0).cast("float64"), last.total.cast("float64")
    variance = (last.n * last.squares - last.total * last.total).cast("float64") / (count * count)
    return last.select(
        "user_id",
        mean_gap=total / count,
        gap_deviation=variance.sqrt(),
        longest_gap=last.longest,
        last_gap=last["last"],
        earlier_gap=last.before,
        position=last.recency * count / total.nullif(0.0),
        overdue=last.recency.cast("float64") - total / count,
    )


CYCLE = FeatureView(
    name="cycle",
    columns=(
        Column("mean_gap", None, "usual days between orders", "days", empty=NEVER, needs=("order",)),
        Column("gap_deviation", None, "how irregular the days between orders are", "days", empty=NEVER, needs=("order",)),
        Column("longest_gap", None, "longest pause between two orders", "days", empty=NEVER, needs=("order",)),
        Column("last_gap", None, "days between the last two orders", "days", empty=NEVER, needs=("order",)),
        Column("earlier_gap", None, "days between the two orders before the last", "days", empty=NEVER, needs=("order",)),
        Column("position", None, "days since the last order against the user's own usual pause", "ratio", empty=NEVER, needs=("order",)),
        Column("overdue", None, "days past the user's own usual pause", "days", empty=NEVER, needs=("order",)),
    ),
    rows=gaps,
)
