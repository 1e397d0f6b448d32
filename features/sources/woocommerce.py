"""WooCommerce orders as the REST API v3 answers them: a JSON array, or one order per line of a JSON-lines file.

Besides what `paid_orders` says of all shop systems:

* Times are the `*_gmt` ones, in UTC; the others are in the site's zone, which the file does not name.
* Paid are the statuses processing, completed and refunded. A cancelled, failed or trashed order that had been paid
  (`date_paid_gmt`) is an order and its cancellation on `date_modified_gmt`. All other statuses are not orders yet.
* A refund has an id and no date. Making one sets the order's `date_modified_gmt`, so that is when it is known at the
  latest. A refunded order without a list of refunds was refunded in full.
* A customer's id is "customer-<id>"; `customer_id` 0 is every guest, and a guest is known by the hashed e-mail address. A
  guest who registers later is two users: which account an address belongs to is not in an order.
* `coupon_lines` are coupons; what `discount_total` has beyond them is a discount that everybody gets. Line totals and
  discounts are without tax, the order's total is with tax and shipping.
* A product is known by `product_id`, which its variations share and which stays when a sku is given; else by its name.
* Ids begin at 1 in every shop: two WooCommerce shops cannot share a workspace. Of an order that the file has several
  times, the last modified state counts.
* An order that is left out is named by the line on which it begins; an array may have all of its orders on one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from features.errors import InvalidTable, NoUsableData, unknown_name
from features.rates import digits_of
from features.shopfile import Shop
from features.sources.batch import Batch, file_date
from features.sources.json_objects import values_of
from features.sources.paid_orders import Export, batch_of, hashed_contact
from features.sources.parsing import Parsed, amounts, numbers, texts, times
from features.sources.table import date_problems
from features.sources.table_rows import refuse

PAID, ENDED = ("processing", "completed", "refunded"), ("cancelled", "failed", "trash")
ORDER_TIMES = ("date_created_gmt", "date_paid_gmt", "date_modified_gmt")
ORDER_AMOUNTS = ("total", "discount_total")
ORDER_TEXTS = ("id", "status", "currency", "customer_id")
FIELDS = (*ORDER_TEXTS, *ORDER_AMOUNTS, *ORDER_TIMES, "billing", "line_items", "coupon_lines", "refunds")
Entry = Mapping[str, Any]


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """Orders, lines, cancellations and refunds.

    Raises:
        InvalidTable: the file is not a list of orders; all problems are listed.
        NoUsableData: the file has no orders, or none that can be used.
    """
    path = shop.path.parent / str(settings.get("path", ""))
    entries, begins, found = _open(path)
    problems = date_problems(settings) + found
    digits = digits_of(texts(_column(entries, "currency")).values.str.upper())
    columns = {name: _parse(_column(entries, name), digits) for name in (*ORDER_TEXTS, *ORDER_AMOUNTS, *ORDER_TIMES)}
    problems += [f"field '{name}' {column.problem}" for name, column in columns.items() if column.problem]
    if problems:
        raise InvalidTable(path.name or "The export", problems)
    written = file_date(path)
    orders = _orders(entries, columns, written)
    orders, refunds = _refunds(entries, orders, digits)
    orders = _coupons(entries, orders, digits)
    places = pd.DataFrame({"line": begins, "order": orders.index})
    lines = _lines(entries, orders, digits)
    return batch_of(path, Export(orders, places, lines.assign(line=lines["place"].map(begins)), refunds, written), settings, shop)


def _open(path: Path) -> tuple[list[Entry], pd.Series, list[str]]:
    """The orders of a file, the last state of each last, the lines on which they begin, and what is wrong with it.

    Raises:
        NoUsableData: there is nothing in the file.
    """
    nothing = pd.Series(dtype="int64")
    if not path.is_file():
        near = [file.name for file in path.parent.iterdir() if file.suffix in (".json", ".jsonl", ".ndjson")] if path.parent.is_dir() else []
        return [], nothing, [unknown_name("file", path.name, sorted(near)).replace("Known:", "Beside it:")]
    try:
        found = values_of(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        return [], nothing, [f"the file is neither a JSON array nor one JSON object a line: {error}"]
    if not found:
        raise NoUsableData(f"{path.name} has no orders. Nothing was written.")
    entries = [(entry, line) for line, entry in found if isinstance(entry, dict)]
    problems = [f"{len(found) - len(entries)} of {len(found)} entries are not JSON objects"] if len(entries) < len(found) else []
    known = sorted({name for entry, _ in entries for name in entry})
    problems += [unknown_name("field", name, known) for name in FIELDS if name not in known]
    entries.sort(key=lambda each: (str(each[0].get("date_modified_gmt")), json.dumps(each[0], sort_keys=True)))
    return [entry for entry, _ in entries], pd.Series([line for _, line in entries], dtype="int64"), problems


def _column(entries: Sequence[Entry], name: str) -> pd.Series:
    values = [entry.get(name) for entry in entries]
    return pd.Series([None if value is None else str(value) for value in values], dtype="string", name=name)


def _parse(column: pd.Series, digits: pd.Series) -> Parsed:
    if column.name in ORDER_TIMES:
        return times(column, "UTC", None)
    return amounts(column, digits) if column.name in ORDER_AMOUNTS else texts(column)


def _orders(entries: Sequence[Entry], columns: Mapping[str, Parsed], written: pd.Timestamp) -> pd.DataFrame:
    values = {name: column.values for name, column in columns.items()}
    billing = [entry.get("billing") for entry in entries]
    contact: list[Entry] = [one if isinstance(one, dict) else {} for one in billing]
    guest = hashed_contact(_column(contact, "email"), _column(contact, "phone"))
    is_customer = values["customer_id"].str.fullmatch(r"[1-9]\d*").fillna(False)
    modified, had_been_paid = values["date_modified_gmt"].fillna(written), values["status"].isin(ENDED) & values["date_paid_gmt"].notna()
    orders = pd.DataFrame(
        {
            "order_id": "woocommerce-" + values["id"],
            "user_id": ("customer-" + values["customer_id"]).where(is_customer, guest),
            "currency": values["currency"].str.upper(),
            "status": values["status"],
            "is_paid": values["status"].isin(PAID) | had_been_paid,
            "created_at": values["date_created_gmt"],
            "occurred_at": values["date_paid_gmt"].fillna(values["date_created_gmt"]),
            "cancelled_at": modified.where(had_been_paid),
            "changed_at": modified,
            "value_cents": values["total"],
            "discount_cents": values["discount_total"],
            "coupon_cents": 0,
            "reason": pd.Series(None, index=values["id"].index, dtype="string"),
        }
    )
    for column in columns.values():
        orders["reason"] = orders["reason"].fillna(column.reasons)
    orders = refuse(orders, orders["order_id"].isna(), "no order id")
    return refuse(orders, orders.duplicated("order_id", keep="last"), "an earlier state of an order that the file has again")


def _nested(entries: Sequence[Entry], orders: pd.DataFrame, field: str) -> pd.DataFrame:
    """The objects in a list of every usable order: the order's place in the file, its order_id, and the object."""
    usable = orders["reason"].isna()
    found = [(place, one) for place, entry in enumerate(entries) if usable[place] for one in entry.get(field) or () if isinstance(one, dict)]
    places = pd.Series([place for place, _ in found], dtype="int64")
    return pd.DataFrame({"place": places, "order_id": places.map(orders["order_id"]).astype("string"), "object": [one for _, one in found]})


def _has_unreadable(orders: pd.DataFrame, rows: pd.DataFrame, amount: Parsed) -> pd.Series:
    """Which orders have a nested object without the amount."""
    return pd.Series(orders.index.isin(rows.loc[amount.values.isna(), "place"]), orders.index)


def _refunds(entries: Sequence[Entry], orders: pd.DataFrame, digits: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Orders, less those with a refund that cannot be read, and the refunds."""
    rows = _nested(entries, orders, "refunds")
    total = amounts(_column(list(rows["object"]), "total"), rows["place"].map(digits))
    orders = refuse(orders, _has_unreadable(orders, rows, total), "a refund without a readable amount")
    listed = rows.assign(value_cents=total.values.abs(), event_id="refund-" + rows["order_id"] + "-" + _column(list(rows["object"]), "id"))
    whole = orders[(orders["status"] == "refunded") & ~orders.index.isin(rows["place"])]
    whole = whole.assign(event_id="refund-" + whole["order_id"] + "-all")
    names = ["order_id", "event_id", "value_cents"]
    return orders, pd.concat([listed[names], whole[names]], ignore_index=True)


def _coupons(entries: Sequence[Entry], orders: pd.DataFrame, digits: pd.Series) -> pd.DataFrame:
    rows = _nested(entries, orders, "coupon_lines")
    discount = amounts(_column(list(rows["object"]), "discount"), rows["place"].map(digits))
    orders = refuse(orders, _has_unreadable(orders, rows, discount), "a coupon without a readable amount")
    coupon = discount.values.groupby(rows["place"]).sum().reindex(orders.index).fillna(0)
    return orders.assign(coupon_cents=coupon, discount_cents=(orders["discount_cents"] - coupon).clip(lower=0))


def _lines(entries: Sequence[Entry], orders: pd.DataFrame, digits: pd.Series) -> pd.DataFrame:
    """What the lines cost after coupons; the coupon's share is what they cost before, less that."""
    rows = _nested(entries, orders, "line_items")
    columns = {name: _column(list(rows["object"]), name) for name in ("product_id", "name", "quantity", "subtotal", "total")}
    product, quantity = texts(columns["product_id"]).values, numbers(columns["quantity"])
    places = rows["place"].map(digits)
    total, before = amounts(columns["total"], places), amounts(columns["subtotal"], places)
    reduced, has_coupon = (before.values - total.values).clip(lower=0), rows["place"].map(orders["coupon_cents"]) > 0
    return pd.DataFrame(
        {
            "order_id": rows["order_id"],
            "place": rows["place"],
            "product_id": product.mask(product == "0").fillna(texts(columns["name"]).values),
            "brand": pd.Series(None, rows.index, dtype="string"),
            "quantity": quantity.values.round().astype("Int64"),
            "value_cents": total.values,
            "discount_cents": reduced.mask(has_coupon),
            "coupon_cents": reduced.where(has_coupon),
            "reason": quantity.reasons.fillna(total.reasons).fillna(before.reasons),
        }
    )
