"""Segment's messages (Spec v2), one JSON object a line: track, page, screen, identify and alias.

| Segment                                                     | here              | what else it says                      |
|-------------------------------------------------------------|-------------------|----------------------------------------|
| page, screen                                                | page_view         | source, medium, campaign               |
| Application Opened; any message with context.sessionStart   | session_start     | source, medium, campaign               |
| Products Searched                                           | search            | detail: query                          |
| Product List Viewed, Product List Filtered                  | list_view         | detail: list_id, else category         |
| Promotion Viewed, Promotion Clicked                         | promotion_view, … | detail: promotion_id, else name        |
| Product Viewed                                              | product_view      | product, quantity                      |
| Product Added, Wishlist Product Added to Cart               | cart_add          | product, quantity                      |
| Product Removed                                             | cart_remove       | product, quantity                      |
| Cart Viewed                                                 | cart_view         |                                        |
| Checkout Started                                            | checkout          |                                        |
| Payment Info Entered                                        | payment_info      |                                        |
| Order Completed, Order Updated                              | order             | order_item, coupon_redeemed            |
| Order Refunded                                              | refund            | a part, or all                         |
| Order Cancelled                                             | order_cancelled   |                                        |
| Coupon Applied, Coupon Denied                               | coupon_applied, … | detail: coupon_id, else its name       |
| Product Added to Wishlist                                   | favourite         | product                                |
| Product Shared, Cart Shared                                 | share             | detail: share_via                      |
| Product Reviewed                                            | review_written    | rating, in whole stars                 |
| Email Opened; Email Link Clicked, Push Notification Tapped  | message_opened, … | campaign                               |
| Unsubscribed                                                | unsubscribed      |                                        |
| Signed Up                                                   | sign_up           |                                        |
| identify                                                    | identified        | attribute_set per trait in `attributes`|
| alias                                                       | identified        | previousId turned out to be userId     |

Not used, since another message says the same: Product Clicked (Product Viewed), Checkout Step Viewed and Completed
(Checkout Started), Coupon Entered (Applied or Denied), Coupon Removed, Product Removed from Wishlist. What the shop calls
otherwise it maps under `[sources.events]`, which goes before the table; such a message may have `detail` and `level` as
properties.

* Times. It happened at `timestamp`, or without it at receivedAt - (sentAt - originalTimestamp), and was known at
  `receivedAt`. A message sent again has its messageId and counts from when it first came.
* An order's value is `total`: what the customer paid. Where only `revenue` is given, which has neither, shipping and tax
  are added to it. `discount` is a coupon's where the order has a `coupon`, else one that everybody gets. A line is
  price x quantity.
* Order Updated is a later version of the order; its time stays that of the first message about the order in the file. A
  product that the update no longer has stays a line of the order.
* A refund is `total`, or without it the refunded products. With neither it is left out: it may be all or a part.
* A product is known by product_id, else by sku.
* Users. A message with neither userId nor anonymousId is left out; one with both says that the visitor is that user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from features.errors import InvalidTable, NoUsableData
from features.shopfile import Shop
from features.sources import segment_messages as messages
from features.sources.batch import Batch, canonical_events, file_date, refused_rows
from features.sources.json_lines import read_lines
from features.sources.parsing import amounts
from features.sources.table import DAY, complete_until, date_problems
from features.sources.table_rows import refuse
from features.sources.tracked import VISITS, facts_of, order_events, setting_problems, whole_numbers

NAMES = {
    "Application Opened": "session_start",
    "Products Searched": "search",
    "Product List Viewed": "list_view",
    "Product List Filtered": "list_view",
    "Promotion Viewed": "promotion_view",
    "Promotion Clicked": "promotion_click",
    "Product Viewed": "product_view",
    "Product Added": "cart_add",
    "Wishlist Product Added to Cart": "cart_add",
    "Product Removed": "cart_remove",
    "Cart Viewed": "cart_view",
    "Checkout Started": "checkout",
    "Payment Info Entered": "payment_info",
    "Order Completed": "order",
    "Order Updated": "order",
    "Order Refunded": "refund",
    "Order Cancelled": "order_cancelled",
    "Coupon Applied": "coupon_applied",
    "Coupon Denied": "coupon_denied",
    "Product Added to Wishlist": "favourite",
    "Product Shared": "share",
    "Cart Shared": "share",
    "Product Reviewed": "review_written",
    "Email Opened": "message_opened",
    "Email Link Clicked": "message_clicked",
    "Push Notification Tapped": "message_clicked",
    "Unsubscribed": "unsubscribed",
    "Signed Up": "sign_up",
}
UNUSED = frozenset(("Product Clicked", "Checkout Step Viewed", "Checkout Step Completed", "Coupon Entered", "Coupon Removed", "Product Removed from Wishlist"))
FACTS = ["product_id", "category", "brand"]


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """All events of the table above, and what the messages say about products.

    Raises:
        InvalidTable: the file does not hold Segment's messages; all problems are listed.
        NoUsableData: the file is empty, or has no message that can be used.
    """
    path = shop.path.parent / str(settings.get("path", ""))
    traits = {f"trait {name}": f"traits.{name}" for name in shop.attributes}
    lines = read_lines(path, {**messages.PATHS, **traits}, {"products": ("properties.products", messages.PRODUCT)})
    rows, found = messages.with_times(lines.frame(), settings)
    problems = date_problems(settings) + setting_problems(settings) + lines.problems + lines.missing("messageId", "type") + found
    if problems:
        raise InvalidTable(path.name or "The export", problems)
    rows = messages.judged(rows, {**NAMES, **settings.get("events", {})}, UNUSED, settings.get("own_domains", []))
    listed = messages.with_product(lines.elements("products"))
    rows, ordered = messages.with_money(rows, listed, settings.get("currency"), shop)
    rows, parts = _parts(rows, shop.attributes)
    frames = _frames(rows, ordered, parts)
    left_out = [lines.refused, *(refused_rows(path.name, part["line"], part["reason"]) for part in (rows, ordered, parts))]
    refused = pd.concat(left_out, ignore_index=True).sort_values(["line", "reason"], ignore_index=True)
    if not sum(map(len, frames)):
        raise NoUsableData(f"{path.name} has no usable message: {refused['reason'].value_counts().to_dict()}. Nothing was written.")
    usable = rows[rows["reason"].isna()]
    sane = usable[usable["occurred_at"] <= usable["known_at"] + DAY]
    until = complete_until(settings, (usable if sane.empty else sane)["occurred_at"].max(), shop.zone)
    return Batch(path.stem, canonical_events(*frames), until, _facts(usable, listed), refused, written=file_date(path))


def _parts(rows: pd.DataFrame, attributes: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a message says besides its own event, ratings and traits; and the messages, those that say nothing refused."""
    usable = rows[rows["reason"].isna()]
    reviews = usable[(usable["event"] == "review_written") & usable["rating"].notna()]
    stars = amounts(reviews["rating"], 0)
    ratings = reviews.assign(event="rating", event_id="rating-" + reviews["messageId"], level=stars.values, reason=stars.reasons)
    parts = [ratings]
    identified = usable[usable["type"] == "identify"]
    for name in attributes:
        set_here = identified[identified[f"trait {name}"].notna()]
        level = whole_numbers(set_here[f"trait {name}"])
        ids = "attribute_set-" + set_here["messageId"] + "-" + name
        why = level.reasons.mask(level.reasons.notna(), f"attribute '{name}' is not a whole number")
        parts.append(set_here.assign(event="attribute_set", event_id=ids, detail=name, level=level.values, reason=why))
    found = pd.concat(parts)
    silent = (rows["type"] == "identify") & rows[["user_id", "anonymous_id"]].isna().any(axis=1) & ~rows.index.isin(found.index)
    return refuse(rows, silent, "an identify without a second id or a declared attribute"), found.reset_index(drop=True)


def _frames(rows: pd.DataFrame, ordered: pd.DataFrame, parts: pd.DataFrame) -> list[pd.DataFrame]:
    usable = rows[rows["reason"].isna()]
    orders = usable[usable["event"] == "order"]
    halves = (usable["event"] == "identified") & usable[["user_id", "anonymous_id"]].isna().any(axis=1)
    others = usable[(usable["event"] != "order") & ~halves]
    by_order = ("order_cancelled-" + others["order_id"]).where(others["event"] == "order_cancelled")
    others = others.assign(event_id=by_order.fillna(others["messageId"]))
    # A visit begins with the message that says so, whatever else that message says.
    began = rows[rows["begins"] & ~(rows["event"] == "session_start").fillna(False)]
    visit = ["user_id", "anonymous_id", "occurred_at", "known_at", "source", "medium", "campaign"]
    began = began[visit].assign(event="session_start", event_id="session_start-" + began["messageId"])
    others.loc[~others["event"].isin(VISITS), ["source", "medium"]] = pd.NA
    lines = ordered[ordered["reason"].isna()]
    plain = ["event_id", "event", "detail", "level", *visit[:4]]
    return [
        others,
        *order_events(orders.drop(columns=["product_id", "source", "medium", "campaign", "detail", "level"]), lines),
        began,
        parts.loc[parts["reason"].isna(), plain],
    ]


def _facts(usable: pd.DataFrame, listed: pd.DataFrame) -> pa.Table | None:
    """What the messages say about products, alone or in lists."""
    inside = listed[listed["row"].isin(usable.index)]
    inside = inside[FACTS].assign(occurred_at=inside["row"].map(usable["occurred_at"]))
    return facts_of(pd.concat([usable[[*FACTS, "occurred_at"]], inside], ignore_index=True))
