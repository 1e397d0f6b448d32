"""Orders as shop systems export them, as canonical events: what Shopify and WooCommerce have in common.

* A valid order is paid and not cancelled. Its event happened when it was paid, or where the export does not say, when
  it was created. Its value is the total that was charged, with shipping and tax.
* A cancellation is an event of its own, at its own time. It takes the whole order back, so a cancelled order has no
  refund besides.
* A refund became known when the export says that the order last changed, or else when the file was written: never
  earlier than it could have been seen.
* Identity. Every fact has an id of its own, made of the order's id: an order that is exported again adds only what is
  new about it. Equal products of one order are one line.
* An order that is left out is left out with every row or line of the file that speaks of it.
* Users without an account are known by a hash of their e-mail address or phone number; with neither they are left out.
* Time. `complete_until` is declared, or else the shop's day on which the last order of the file was created. The last
  payment says nothing: an export of September's orders that is made in October has payments of October.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from features.errors import NoUsableData
from features.rates import without_rate
from features.shopfile import Shop
from features.sources.batch import Batch, canonical_events, refused_rows
from features.sources.batch import file_date as file_date
from features.sources.table import DAY, complete_until, products_of
from features.sources.table_rows import UNPAID, refuse

SUMMED = ["quantity", "value_cents", "discount_cents", "coupon_cents"]
TIMES = ["created_at", "occurred_at", "cancelled_at", "changed_at"]
LATE = "happened after the file was written (a wrong date of the file?)"


@dataclass(frozen=True)
class Export:
    """What a file says, before it is judged.

    Args:
        orders: order_id, user_id, currency, TIMES, value_cents, discount_cents, coupon_cents, is_paid, status and
            reason why it cannot be used. `changed_at` is when its refunds became known at the latest. Amounts are in
            minor units of its currency.
        places: line of the file, and `order`: the label in `orders` of the order that it speaks of.
        lines: order_id, product_id, brand, the columns of SUMMED, line of the file, and reason.
        refunds: order_id, event_id, value_cents.
        written: when the file was.
    """

    orders: pd.DataFrame
    places: pd.DataFrame
    lines: pd.DataFrame
    refunds: pd.DataFrame
    written: pd.Timestamp


def batch_of(path: Path, export: Export, settings: Mapping[str, Any], shop: Shop, refunds_are_totals: bool = False) -> Batch:
    """The events of all usable orders, and the rows left out, with the reason.

    Raises:
        NoUsableData: no order can be used.
    """
    orders = _judge(export, shop)
    usable = orders[orders["reason"].isna()]
    lines = _judge_lines(export.lines[export.lines["order_id"].isin(usable["order_id"])])
    left_out = [(export.places["line"], export.places["order"].map(orders["reason"])), (lines["line"], lines["reason"])]
    refused = pd.concat([refused_rows(path.name, *each) for each in left_out]).sort_values("line", kind="stable", ignore_index=True)
    if usable.empty:
        counts = {str(reason): int(rows) for reason, rows in refused["reason"].value_counts().sort_index().items()}
        raise NoUsableData(f"{path.name} has no usable order: {counts}. Nothing was written.")
    lines = lines[lines["reason"].isna()].merge(usable[["order_id", "occurred_at"]], on="order_id")
    created = orders["created_at"]
    return Batch(
        name=path.stem,
        events=canonical_events(*_events(usable, lines, export.refunds)),
        complete_until=complete_until(settings, created[created <= export.written + DAY].max(), shop.zone),
        products=products_of(lines.reindex(columns=["product_id", "occurred_at", "category", "brand", "department"])),
        refused=refused,
        refunds_are_totals=refunds_are_totals,
        written=export.written,
    )


def hashed_contact(emails: pd.Series, phones: pd.Series) -> pd.Series:
    """SHA-256 hex of the trimmed, lower-cased e-mail address, else of the digits of the phone number; empty with neither."""
    address, digits = emails.str.strip().str.lower(), phones.str.replace(r"\D", "", regex=True)
    # A till that writes "none" or "-" for everybody must not make them one user.
    found = address.where(address.str.contains("@", na=False)).fillna(digits.where(digits.str.len().fillna(0) >= 6))
    return found.map(lambda text: sha256(text.encode()).hexdigest(), na_action="ignore").astype("string")


def _judge(export: Export, shop: Shop) -> pd.DataFrame:
    orders = export.orders
    orders = refuse(orders, ~orders["is_paid"], "not a paid order (status '" + orders["status"].fillna("") + "')")
    orders = refuse(orders, orders["currency"].isna(), "no currency")
    orders = refuse(orders, orders["user_id"].isna(), "no customer: neither an e-mail address nor a phone number")
    orders = refuse(orders, orders["occurred_at"].isna() | orders["created_at"].isna(), "no time")
    orders = refuse(orders, orders[TIMES].max(axis=1) > export.written + DAY, LATE)
    orders = refuse(orders, ~(orders["value_cents"] > 0).fillna(False), UNPAID)
    unconvertible = without_rate(orders["currency"], orders["occurred_at"], shop)
    return refuse(orders, unconvertible.notna(), unconvertible)


def _judge_lines(lines: pd.DataFrame) -> pd.DataFrame:
    lines = refuse(lines, lines["product_id"].isna(), "a line without a product")
    lines = refuse(lines, ~(lines["quantity"] > 0).fillna(False), "a line with a quantity of zero or less")
    return refuse(lines, lines["value_cents"].isna(), "a line without an amount")


def _events(orders: pd.DataFrame, lines: pd.DataFrame, refunds: pd.DataFrame) -> list[pd.DataFrame]:
    """Orders, their lines, cancellations and refunds; the facts of one order share its order_id."""
    orders = orders.assign(event="order", event_id="order-" + orders["order_id"])
    orders["quantity"] = orders["order_id"].map(lines.groupby("order_id")["quantity"].sum()).astype("Int64")
    who = orders[["order_id", "user_id", "currency"]]
    items = lines.groupby(["order_id", "product_id", "occurred_at"], as_index=False)[SUMMED].sum(min_count=1).merge(who, on="order_id")
    items = items.assign(event="order_item", event_id="order_item-" + items["order_id"] + "-" + items["product_id"])
    is_cancelled = orders["cancelled_at"].notna()
    cancelled = orders.loc[is_cancelled, ["order_id", "user_id", "cancelled_at"]].rename(columns={"cancelled_at": "occurred_at"})
    cancelled = cancelled.assign(event="order_cancelled", event_id="order_cancelled-" + cancelled["order_id"])
    kept = orders.loc[~is_cancelled, [*who.columns, "changed_at"]].rename(columns={"changed_at": "occurred_at"})
    refunds = refunds[refunds["value_cents"] > 0].merge(kept, on="order_id").assign(event="refund")
    return [orders, items, cancelled, refunds]
