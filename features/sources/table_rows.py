"""What a row of a mapped table stands for: order lines, orders or events, with ids that are the same in every file."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import pandas as pd

Read = tuple[list[pd.DataFrame], pd.Series]  # canonical frames, and per input row why it is left out

# rows -> what has to be mapped; " or " where one of several will do
REQUIRED = {
    "order_items": ("user_id", "order_id", "occurred_at", "product_id", "amount or price"),
    "orders": ("user_id", "order_id", "occurred_at", "amount"),
    "events": ("user_id", "occurred_at", "event"),
}
# Digits after the point where they are not two (ISO 4217), for currencies that shops use.
DIGITS = {"CLP": 0, "ISK": 0, "JPY": 0, "KRW": 0, "PYG": 0, "UGX": 0, "VND": 0, "XAF": 0, "XOF": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}
HASHED = ("user_id", "event", "occurred_at", "order_id", "product_id", "quantity", "value_cents", "discount_cents",
          "campaign", "channel", "detail", "level", "is_refund")  # fmt: skip
SUMMED = ("quantity", "value_cents", "discount_cents")
UNPAID = "not a paid order (its total is zero or less)"


def order_items(rows: pd.DataFrame, currency: str) -> Read:
    """One `order_item` per line, one `order` per order id, one `refund` per order id and moment."""
    rows = _amounts(refuse(rows, rows["order_id"].isna(), "no order id"), currency)
    rows = refuse(rows, rows["value_cents"].isna(), "no amount")
    rows = refuse(rows, (rows["quantity"] <= 0) & ~rows["is_refund"], "quantity is zero or less on a row that is not a refund")
    lines = rows[rows["reason"].isna() & ~rows["is_refund"]]
    users = lines.groupby("order_id")["user_id"].transform("nunique")
    rows = refuse(rows, users.reindex(rows.index, fill_value=1) > 1, "lines of one order belong to several users")
    lines = _distinct_lines(lines[users == 1])
    totals = lines.groupby("order_id")["value_cents"].transform("sum")
    unpaid = set(lines.loc[totals <= 0, "order_id"])
    rows = refuse(rows, rows["order_id"].isin(unpaid) & ~rows["is_refund"], UNPAID)
    lines = lines[totals > 0]
    refunds, reasons = _refunds(rows, currency)
    items = lines.assign(event="order_item", event_id="order_item-" + lines["event_id"].fillna(lines["hash"]), currency=currency)
    return [_orders_of(lines, currency), items, refunds], reasons


def orders(rows: pd.DataFrame, currency: str) -> Read:
    """One `order` per row and order id, or a refund; a second, different row of the same order is left out."""
    rows = _amounts(refuse(rows, rows["order_id"].isna(), "no order id"), currency)
    rows = refuse(rows, rows["value_cents"].isna(), "no amount")
    rows = refuse(rows, (rows["value_cents"] <= 0) & ~rows["is_refund"], UNPAID)
    mine = rows[rows["reason"].isna() & ~rows["is_refund"]].assign(event="order")
    mine = mine.assign(event_id="order-" + mine["order_id"], hash=_hashes(mine)).sort_values(["event_id", "occurred_at", "hash"])
    first = mine.drop_duplicates("event_id")
    differs = mine[~mine["hash"].isin(first["hash"])].index
    rows = refuse(rows, pd.Series(rows.index.isin(differs), rows.index), "a second row of an order that says something else")
    refunds, reasons = _refunds(rows, currency)
    return [first.assign(currency=currency), refunds], reasons


def events(rows: pd.DataFrame, currency: str) -> Read:
    """One event per row; an `order` is known by its order id where it has one, so a double count is one order."""
    rows = _amounts(rows.assign(event=rows["event"].mask(rows["is_refund"], "refund")), currency)
    rows = refuse(rows, (rows["event"] == "order") & ~(rows["value_cents"] > 0).fillna(False), UNPAID)
    rows = refuse(rows, (rows["event"] == "order_cancelled") & rows["order_id"].isna(), "a cancellation without an order id")
    rows = rows.assign(value_cents=rows["value_cents"].mask(rows["event"] == "refund", rows["value_cents"].abs()))
    mine = rows[rows["reason"].isna()]
    by_order = ("order-" + mine["order_id"]).where(mine["event"] == "order")
    return [mine.assign(event_id=by_order.fillna(mine["event"] + "-" + mine["event_id"].fillna(_hashes(mine))), currency=currency)], rows["reason"]


READERS: dict[str, Callable[[pd.DataFrame, str], Read]] = {"order_items": order_items, "orders": orders, "events": events}


def _amounts(rows: pd.DataFrame, currency: str) -> pd.DataFrame:
    """Add value_cents and discount_cents in minor units, rounded per row; a row without quantity is one piece."""
    minor = 10 ** DIGITS.get(currency, 2)
    quantity, discount = rows["quantity"].fillna(1), rows["discount"]
    paid = rows["amount"].fillna(rows["price"] * quantity - discount.fillna(0))
    return rows.assign(
        quantity=quantity.round().astype("Int64"),
        value_cents=(paid * minor).round().astype("Int64"),
        discount_cents=(discount * minor).round().astype("Int64"),
        level=rows["level"].round().astype("Int64"),
    )


def _distinct_lines(lines: pd.DataFrame) -> pd.DataFrame:
    """Equal lines added up; lines with an event_id are equal when that is, and count once. `hash` is of the single line."""
    lines = lines.assign(hash=_hashes(lines)).sort_values(["hash", "known_at"], kind="stable")
    lines = lines[lines["event_id"].isna() | ~lines.duplicated("event_id")]
    groups = lines.groupby("hash", sort=True)
    sums = groups[list(SUMMED)].sum(min_count=1)
    return groups.head(1).set_index("hash").assign(**sums).reset_index()


def _orders_of(lines: pd.DataFrame, currency: str) -> pd.DataFrame:
    """One order per order id; what else is known comes from its first line."""
    ordered = lines.sort_values(["occurred_at", "hash"]).groupby("order_id", sort=True)
    first, least = dict.fromkeys(("user_id", "channel", "campaign"), "first"), dict.fromkeys(("occurred_at", "known_at"), "min")
    found = ordered.agg({**first, **least, **dict.fromkeys(SUMMED, "sum")}).reset_index()
    return found.assign(event="order", event_id="order-" + found["order_id"], currency=currency)


def _refunds(rows: pd.DataFrame, currency: str) -> tuple[pd.DataFrame, pd.Series]:
    """One refund per order id and moment, and why rows are left out."""
    marked = _distinct_lines(rows[rows["reason"].isna() & rows["is_refund"]])
    moment = marked["occurred_at"].astype("int64").astype("string")
    marked = marked.assign(event="refund", event_id="refund-" + marked["order_id"] + "-" + moment)
    parts = marked.sort_values(["event_id", "hash"]).groupby("event_id", sort=True)
    found = parts.agg({**dict.fromkeys(("user_id", "order_id", "event", "occurred_at", "channel"), "first"), "known_at": "min", "value_cents": "sum"})
    return found.reset_index().assign(value_cents=found["value_cents"].abs().to_numpy(), currency=currency), rows["reason"]


def refuse(rows: pd.DataFrame, where: pd.Series, reason: str | pd.Series) -> pd.DataFrame:
    """Give a reason to rows that have none yet."""
    return rows.assign(reason=rows["reason"].mask(rows["reason"].isna() & where.fillna(False), reason))


def _hashes(rows: pd.DataFrame) -> pd.Series:
    text = pd.Series("", rows.index, dtype="string")
    for name in HASHED:
        values = rows[name]
        written = values.astype("int64").astype("string") if name == "occurred_at" else values.astype("string")
        text = text + "\x1f" + written.fillna("\x00")
    return text.map(lambda value: blake2b(value.encode(), digest_size=12).hexdigest()).astype("string")
