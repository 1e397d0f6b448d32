"""Shopify's export of orders as CSV: one row per line item, what is said of the whole order only on its first row.

Besides what `paid_orders` says of all shop systems:

* Rows of one order have the same `Name`. Its total stands on exactly one of them, in whatever order the rows are; an
  order whose total stands twice (two exports in one file) is left out: give each export as a source of its own.
* An order is known by `Id`, which is unique over all of Shopify. `Name` begins at #1001 in every shop.
* Paid is what has the status paid, partially_refunded or refunded. A partially_paid order is not paid yet; it comes in
  with the export that says so.
* The export says how much was refunded so far, not when. What an export adds to the refunds known before becomes a
  refund on the date of the file. Hence the file's date has to be kept when it is copied, or be later.
* `Discount Amount` is a coupon's where there is a `Discount Code`, else a discount that everybody gets.
* A line's value is price x quantity, less its `Lineitem discount`. Its product is the sku, else the name.
* Times carry their offset. A file that a spreadsheet saved without them needs `time_zone`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from features.errors import InvalidTable, NoUsableData
from features.rates import digits_of
from features.shopfile import Shop
from features.sources.batch import Batch, file_date
from features.sources.paid_orders import Export, batch_of, hashed_contact
from features.sources.parsing import Parsed, amounts, numbers, texts, times
from features.sources.table import DAY, date_problems, open_table, row_lines
from features.sources.table_rows import refuse

PAID = ("paid", "partially_refunded", "refunded")
ORDER_TIMES = ("Created at", "Paid at", "Cancelled at")
ORDER_AMOUNTS = ("Total", "Discount Amount", "Refunded Amount")
ORDER_TEXTS = ("Name", "Id", "Email", "Phone", "Financial Status", "Currency", "Discount Code")
LINE_AMOUNTS = ("Lineitem price", "Lineitem discount")
LINE_TEXTS = ("Lineitem sku", "Lineitem name", "Vendor")
ORDER_COLUMNS = (*ORDER_TIMES, *ORDER_AMOUNTS, *ORDER_TEXTS)
LINE_COLUMNS = ("Lineitem quantity", *LINE_AMOUNTS, *LINE_TEXTS)


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """Orders, lines, cancellations, refunds and the brands of products.

    Raises:
        InvalidTable: the file is not a whole export of orders; all problems are listed.
        NoUsableData: the file has no orders, or none that can be used.
    """
    path = shop.path.parent / str(settings.get("path", ""))
    problems = date_problems(settings)
    raw, found = open_table(path, [*ORDER_COLUMNS, *LINE_COLUMNS])
    digits = _digits(raw)
    columns = {str(name): _parse(raw[name], settings, digits) for name in raw}
    problems += found + [f"column '{name}' {column.problem}" for name, column in columns.items() if column.problem and len(raw)]
    if problems:
        raise InvalidTable(path.name or "The export", problems)
    if raw.empty:
        raise NoUsableData(f"{path.name} has a header and no rows. Nothing was written.")
    written = file_date(path)
    orders = _orders(raw, columns, written)
    rows = pd.DataFrame({name: columns[name].values for name in ("Name", *LINE_COLUMNS)})
    line = row_lines(path, len(raw))
    lines = _lines(rows, _first_reason(columns, LINE_COLUMNS, raw.index), orders).assign(line=line)
    places = pd.DataFrame({"line": line, "order": rows["Name"].fillna("").map(pd.Series(orders.index, orders["Name"]))})
    refunds = pd.DataFrame({"order_id": orders["order_id"], "value_cents": orders["refunded"]}).dropna()
    refunds["event_id"] = "refund-" + refunds["order_id"] + "-" + refunds["value_cents"].astype("string")
    return batch_of(path, Export(orders, places, lines, refunds, written), settings, shop, refunds_are_totals=True)


def _digits(raw: pd.DataFrame) -> pd.Series:
    """Digits of the currency per row: it stands on one row of an order, and its lines are on others."""
    if not {"Name", "Currency"} <= set(raw):
        return pd.Series(2, raw.index)
    return digits_of(texts(raw["Currency"]).values.str.upper().groupby(raw["Name"].fillna("")).transform("first"))


def _parse(column: pd.Series, settings: Mapping[str, Any], digits: pd.Series) -> Parsed:
    if column.name in ORDER_TIMES:
        return times(column, settings.get("time_zone"), None)
    if column.name in (*ORDER_AMOUNTS, *LINE_AMOUNTS):
        return amounts(column, digits)
    return numbers(column) if column.name == "Lineitem quantity" else texts(column)


def _orders(raw: pd.DataFrame, columns: Mapping[str, Parsed], written: pd.Timestamp) -> pd.DataFrame:
    """One row per `Name`, from the row that has the order's total."""
    rows = pd.DataFrame({name: columns[name].values for name in ORDER_COLUMNS})
    rows = rows.assign(Name=rows["Name"].fillna(""), reason=_first_reason(columns, ORDER_COLUMNS, raw.index), has_total=raw["Total"].notna())
    counts = rows.groupby("Name").agg(totals=("has_total", "sum"))
    # Without a total any row will do: the order is left out.
    orders = rows.sort_values("has_total", ascending=False, kind="stable").drop_duplicates("Name").merge(counts, on="Name")
    orders = _translated(orders.reset_index(drop=True))
    orders = refuse(orders, orders["Name"] == "", "no order name")
    orders = refuse(orders, orders["totals"] == 0, "no row of the order has its total")
    orders = refuse(orders, orders["totals"] > 1, "the order's total stands on several rows (two exports in one file?)")
    orders = refuse(orders, ~orders["order_id"].str.fullmatch(r"\d+").fillna(False), "'Id' is not a whole number (saved by a spreadsheet?)")
    orders = refuse(orders, orders.duplicated("order_id", keep=False), "two names have the same 'Id'")
    latest = orders[["created_at", "occurred_at", "cancelled_at"]].max(axis=1)
    return orders.assign(changed_at=max(written, latest.where(latest <= written + DAY, written).max()))


def _translated(orders: pd.DataFrame) -> pd.DataFrame:
    status, has_code = orders["Financial Status"].str.lower(), orders["Discount Code"].notna()
    return orders.assign(
        order_id=orders["Id"],
        user_id=hashed_contact(orders["Email"], orders["Phone"]),
        currency=orders["Currency"].str.upper(),
        status=status,
        is_paid=status.isin(PAID),
        created_at=orders["Created at"],
        occurred_at=orders["Paid at"].fillna(orders["Created at"]),
        cancelled_at=orders["Cancelled at"],
        value_cents=orders["Total"],
        refunded=orders["Refunded Amount"],
        discount_cents=orders["Discount Amount"].mask(has_code),
        coupon_cents=orders["Discount Amount"].where(has_code),
    )


def _lines(rows: pd.DataFrame, reasons: pd.Series, orders: pd.DataFrame) -> pd.DataFrame:
    quantity = rows["Lineitem quantity"].round().astype("Int64")
    return pd.DataFrame(
        {
            "order_id": rows["Name"].fillna("").map(orders.set_index("Name")["order_id"]),
            "product_id": rows["Lineitem sku"].fillna(rows["Lineitem name"]),
            "brand": rows["Vendor"],
            "quantity": quantity,
            "value_cents": rows["Lineitem price"] * quantity - rows["Lineitem discount"].fillna(0),
            "discount_cents": rows["Lineitem discount"],
            "coupon_cents": pd.Series(None, rows.index, dtype="Int64"),
            "reason": reasons,
        }
    )


def _first_reason(columns: Mapping[str, Parsed], names: tuple[str, ...], index: pd.Index) -> pd.Series:
    """Per row, why the first of these columns that cannot be read cannot be."""
    reason = pd.Series(None, index=index, dtype="string")
    for name in names:
        reason = reason.fillna(columns[name].reasons)
    return reason
