"""What a tile counts. Each column is declared once; `buckets` computes it from arrays, `relational` in any SQL engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.vocabulary import EVENTS, NO_ACTIVITY

ACTIVITY = tuple(event for event in EVENTS if event not in NO_ACTIVITY)
DAYPARTS: Mapping[str, tuple[int, int]] = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}  # quarters: kernels divide so


@dataclass(frozen=True)
class DayColumn:
    """A sum over a user's events of one day.

    Args:
        name: of the column.
        events: that add to it.
        amount: the field that is added; 1 for each event where None.
        hours: only events from the first hour to before the second, on the shop's clock.
        weekend: only events on a Saturday or Sunday.
        positive, zero: only events whose field is above zero; only events whose fields are all zero or empty.
        at_most: only events whose level is that or less.
    """

    name: str
    events: tuple[str, ...]
    amount: str | None = None
    hours: tuple[int, int] = (0, 24)
    weekend: bool = False
    positive: str | None = None
    zero: tuple[str, ...] = ()
    at_most: int | None = None

    @property
    def is_count(self) -> bool:
        """Whether it counts each of its events, once."""
        return self == DayColumn(self.name, self.events)


@dataclass(frozen=True)
class KeyColumn:
    """A sum over a user's events of one day, for each value of a field: product, campaign, ..."""

    name: str
    field: str
    events: tuple[str, ...]
    amount: str | None = None


ORDER = ("order",)
DAY_COLUMNS: tuple[DayColumn, ...] = (
    *(DayColumn(column, (event,)) for event, (column, _) in EVENTS.items()),
    DayColumn("revenue_cents", ORDER, "value_cents"),
    DayColumn("discount_cents", ORDER, "discount_cents"),
    DayColumn("coupon_cents", ORDER, "coupon_cents"),
    DayColumn("items", ORDER, "quantity"),
    DayColumn("refund_cents", ("refund",), "value_cents"),
    DayColumn("delivery_days", ("delivered",), "level"),
    DayColumn("late_days", ("delivery_late",), "level"),
    DayColumn("stars", ("rating",), "level"),
    DayColumn("low_ratings", ("rating",), at_most=2),
    DayColumn("coupon_orders", ORDER, positive="coupon_cents"),
    DayColumn("discount_orders", ORDER, positive="discount_cents"),
    DayColumn("full_price_orders", ORDER, zero=("coupon_cents", "discount_cents")),
    DayColumn("weekend_orders", ORDER, weekend=True),
    DayColumn("weekend_actions", ACTIVITY, weekend=True),
    *(DayColumn(f"{part}_orders", ORDER, hours=hours) for part, hours in DAYPARTS.items()),
    *(DayColumn(f"{part}_actions", ACTIVITY, hours=hours) for part, hours in DAYPARTS.items()),
    # How long what was bought lasts, in minutes: of products whose daily use the shop file gives.
    DayColumn("supply_minutes", ("order_item",), "supply_minutes"),
)
KEY_COLUMNS: tuple[KeyColumn, ...] = (
    KeyColumn("purchases", "product_id", ("order_item",)),
    KeyColumn("quantity", "product_id", ("order_item",), "quantity"),
    KeyColumn("views", "product_id", ("product_view",)),
    KeyColumn("carts", "product_id", ("cart_add",)),
    KeyColumn("wishes", "product_id", ("favourite",)),
    KeyColumn("received", "campaign", ("campaign_received",)),
    KeyColumn("kept_out", "campaign", ("held_out",)),
    KeyColumn("redeemed", "campaign", ("coupon_redeemed",)),
    KeyColumn("clicked", "campaign", ("message_clicked",)),
    KeyColumn("terms", "detail", ("search",)),
    KeyColumn("coupon_types", "detail", ("coupon_redeemed",)),
    KeyColumn("channels", "channel", ORDER),
    KeyColumn("visit_sources", "source", ("session_start", "page_view")),
)
DAY_CODES = {column.name: code for code, column in enumerate(DAY_COLUMNS)}
KEY_CODES = {column.name: code for code, column in enumerate(KEY_COLUMNS)}
DIMENSIONS = ("category", "brand", "department")  # of products; any other key is a dimension of its own

# What changes with a date: name -> (events, the field that has the value). Attributes are named by their own detail.
TOUCH = ("session_start", "page_view")
CHANGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "tier": (("tier_changed",), "level"),
    "source": (TOUCH, "source"),
    "medium": (TOUCH, "medium"),
    "touch_campaign": (TOUCH, "campaign"),
    "channel": (("order",), "channel"),
}


def events_of(column: str, interest: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The events that a column of the day tiles is made of: it has values only where one of them occurs."""
    if column in DAY_CODES:
        return DAY_COLUMNS[DAY_CODES[column]].events
    return {**interest, "actions": ACTIVITY}[column]


def members(group: str, interest: Mapping[str, tuple[str, ...]]) -> tuple[int, ...]:
    """The counting columns that a group of events adds up."""
    return tuple(DAY_CODES[EVENTS[event][0]] for event in events_of(group, interest))
