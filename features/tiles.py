"""Tiles: what a user did on a day, in integers. The only thing that reads raw events.

A tile row is keyed by the day something happened and the day it became known, so that `before(as_of)` can cut both
exactly. A cancelled order is one more row with the opposite sign, on the day of the order and known from the day of
the cancellation: history before that day still has the order, history after it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import ibis
from ibis import Table
from ibis.expr.types import IntegerValue

from features import vocabulary
from features.engine import Engine
from features.events import EventLog, day_number
from features.files import code_digest, digest_of, new_directory, parquet_bytes, write_bytes
from features.shopfile import Shop
from features.vocabulary import EVENTS, NO_ACTIVITY

TILES_CODE = code_digest(Path(__file__), Path(vocabulary.__file__))

# tile column -> (event, the amount that is summed)
SUMS: Mapping[str, tuple[str, str]] = {
    "revenue_cents": ("order", "value_cents"),
    "discount_cents": ("order", "discount_cents"),
    "coupon_cents": ("order", "coupon_cents"),
    "items": ("order", "quantity"),
    "refund_cents": ("refund", "value_cents"),
    "delivery_days": ("delivered", "level"),
    "stars": ("rating", "level"),
}
# tile column -> hours of the shop's day in which an order counts
DAYPARTS: Mapping[str, tuple[int, int]] = {
    "night_orders": (0, 6),
    "morning_orders": (6, 12),
    "afternoon_orders": (12, 18),
    "evening_orders": (18, 24),
}
KEYS = ("user_id", "day", "known_day")


def event_of(tile_column: str, interest: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The events that a tile column is made of: it has values only where one of them occurs."""
    if tile_column in interest:
        return interest[tile_column]
    if tile_column == "actions":
        return tuple(event for event in EVENTS if event not in NO_ACTIVITY)
    if tile_column in SUMS:
        return (SUMS[tile_column][0],)
    if tile_column in DAYPARTS or tile_column in ("weekend_orders", "coupon_orders"):
        return ("order",)
    return tuple(event for event, (column, _) in EVENTS.items() if column == tile_column)


@dataclass(frozen=True)
class Tiles:
    """The tile tables of one log, or a cut of them in time.

    user_days: (user, day) x counts and sums; user_products: (user, day, product) x quantity, value_cents, ...;
    user_campaigns: (user, day, campaign) x received, redeemed; changes: dated values of tiers and attributes;
    products: category, brand and department of each product.
    """

    log: EventLog
    shop: Shop
    user_days: Table
    user_products: Table
    user_campaigns: Table
    changes: Table
    products: Table

    def before(self, as_of: date) -> History:
        """Everything that had happened and was known before `as_of`."""
        cut = {name: _with_age(self.log.before(getattr(self, name), as_of), as_of) for name in TABLES}
        days = _add_groups(_collapse(cut.pop("user_days"), "user_id", "day", "age"), self.shop)
        return History(as_of, user_days=days, products=self.products, **cut)

    def between(self, start: date, end: date) -> Tiles:
        """What happened in `start <= day < end`.

        Raises:
            LabelWindowOpen: the window is not over in the data.
        """
        cut = {name: self.log.between(getattr(self, name), start, end) for name in TABLES}
        return replace(self, user_days=_collapse(cut.pop("user_days"), "user_id", "day"), **cut)


@dataclass(frozen=True)
class History:
    """Tiles strictly before `as_of`: all that a feature may see.

    Each table but `products` has `age`, the days from a row to `as_of`: yesterday is 1. Features are declared in ages,
    so that one compiled expression serves every cutoff.
    """

    as_of: date
    user_days: Table
    user_products: Table
    user_campaigns: Table
    changes: Table
    products: Table

    def staged(self, engine: Engine) -> History:
        """The same history under fixed names in the engine, so that what is compiled for one cutoff serves the next."""
        return replace(self, **{name: engine.stage(f"history_{name}", getattr(self, name)) for name in (*TABLES, "products")})


def in_window(table: Table, window: int | None) -> Table:
    """The rows of a history's table in the last `window` days; all of them when `window` is None."""
    return table if window is None else table.filter(table.age <= window)


TABLES = ("user_days", "user_products", "user_campaigns", "changes")


def open_tiles(log: EventLog, shop: Shop, directory: Path, engine: Engine) -> Tiles:
    """The tiles of the log as it is now; built when they are not on disk yet.

    Args:
        directory: where tiles are kept, one folder per content of the log.
    """
    folder = directory / digest_of([log.digest, TILES_CODE])[:16]
    if not folder.exists():
        with new_directory(folder) as new:
            for name, (table, order) in build_tiles(log, engine).items():
                write_bytes(new / f"{name}.parquet", parquet_bytes(engine.collect(table, order)))
    tables = {name: engine.parquet([folder / f"{name}.parquet"]) for name in TABLES}
    return Tiles(log, shop, products=log.products(engine), **tables)


def build_tiles(log: EventLog, engine: Engine) -> dict[str, tuple[Table, tuple[str, ...]]]:
    """Name -> (tile table as an expression, its sort order), in one reading of the events each."""
    events = log.events(engine)
    signed = events.mutate(sign=ibis.literal(1))
    if "order_cancelled" in log.kinds:
        signed = signed.union(_reversals(events))
    return {
        "user_days": (_user_days(signed), KEYS),
        "user_products": (_user_products(signed), (*KEYS, "product_id")),
        "user_campaigns": (_user_campaigns(signed), (*KEYS, "campaign")),
        "changes": (_changes(events), (*KEYS, "event", "detail")),
    }


def _reversals(events: Table) -> Table:
    # One that names a product cancels a line, not the order: it is counted, and its money comes back as a refund.
    cancelled = events.filter((events.event == "order_cancelled") & events.product_id.isnull())
    known = cancelled.group_by("user_id", "order_id").aggregate(off_day=ibis.greatest(cancelled.day, cancelled.known_day).min())
    rows = events.filter(events.event.isin(["order", "order_item"])).inner_join(known, ["user_id", "order_id"])
    rows = rows.mutate(known_day=ibis.greatest(rows.known_day, rows.off_day), sign=ibis.literal(-1))
    return rows.select(*events.columns, "sign")


def _user_days(events: Table) -> Table:
    def total(condition: ibis.expr.types.BooleanValue, amount: IntegerValue | int = 1) -> IntegerValue:
        return ibis.cases((condition, ibis.coalesce(amount, 0) * events.sign), else_=0).sum().cast("int64")

    order = events.event == "order"
    weekend = ((events.day + 4) % 7).isin([0, 6])  # 1970-01-01 was a Thursday
    columns = {column: total(events.event == event) for event, (column, _) in EVENTS.items()}
    columns |= {column: total(events.event == event, events[amount]) for column, (event, amount) in SUMS.items()}
    columns |= {column: total(order & (events.hour >= start) & (events.hour < end)) for column, (start, end) in DAYPARTS.items()}
    columns |= {"weekend_orders": total(order & weekend), "coupon_orders": total(order & (events.coupon_cents > 0))}
    return events.group_by(*KEYS).aggregate(**columns)


def _user_products(events: Table) -> Table:
    def total(event: str, amount: IntegerValue | int = 1) -> IntegerValue:
        return ibis.cases((events.event == event, ibis.coalesce(amount, 0) * events.sign), else_=0).sum().cast("int64")

    columns = {
        "purchases": total("order_item"),
        "quantity": total("order_item", events.quantity),
        "value_cents": total("order_item", events.value_cents),
        "product_views": total("product_view"),
        "cart_adds": total("cart_add"),
        "favourites": total("favourite"),
    }
    return events.filter(events.product_id.notnull()).group_by(*KEYS, "product_id").aggregate(**columns)


def _user_campaigns(events: Table) -> Table:
    rows = events.filter(events.campaign.notnull() & events.event.isin(["campaign_received", "coupon_redeemed"]))
    received = rows.event == "campaign_received"
    return rows.group_by(*KEYS, "campaign").aggregate(
        received=received.cast("int64").sum(),
        redeemed=(~received).cast("int64").sum(),
    )


def _changes(events: Table) -> Table:
    rows = events.filter(events.event.isin(["tier_changed", "attribute_set"])).mutate(
        # A user has one tier at a time; of attributes, one value for each name.
        detail=(events.event == "tier_changed").ifelse("", events.detail.fill_null(""))
    )
    # Several changes on one day: the last one counts; equal times are settled by the event's own key.
    ranked = rows.mutate(rank=ibis.row_number().over(group_by=[*KEYS, "event", "detail"], order_by=[rows.occurred_at.desc(), rows.event_id.desc()]))
    return ranked.filter(ranked["rank"] == 0).select(*KEYS, "event", "detail", "level")


def _with_age(table: Table, as_of: date) -> Table:
    return table.mutate(age=day_number(as_of) - table.day)


def _collapse(table: Table, *keys: str) -> Table:
    """One row per key: adds up what became known on different days."""
    return table.group_by(*keys).aggregate(**{name: table[name].sum().cast("int64") for name in table.columns if name not in (*KEYS, *keys)})


def _add_groups(days: Table, shop: Shop) -> Table:
    """Add one column per interest level and `actions`, all that the user did besides buying."""
    groups = {**shop.interest, "actions": event_of("actions", {})}
    return days.mutate(**{name: sum((days[EVENTS[event][0]] for event in events), ibis.literal(0)) for name, events in groups.items()})
