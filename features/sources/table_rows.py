"""What a row of a mapped table stands for: order lines, orders or events, with ids that are the same in every file."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, localcontext
from hashlib import blake2b

import numpy as np
import pandas as pd

from features.rates import LARGEST, digits_of, without_rate
from features.shopfile import Shop
from features.sources.parsing import EXACT

Read = tuple[list[pd.DataFrame], pd.Series]  # canonical frames, and per input row why it is left out

# rows -> what has to be mapped; " or " where one of several will do
REQUIRED = {
    "order_items": ("user_id", "order_id", "occurred_at", "product_id", "amount or price"),
    "orders": ("user_id", "order_id", "occurred_at", "amount"),
    "events": ("user_id or anonymous_id", "occurred_at", "event"),
}
HASHED = ("user_id", "anonymous_id", "event", "occurred_at", "order_id", "product_id", "quantity", "value_cents", "discount_cents", "coupon_cents",
          "currency", "campaign", "channel", "source", "medium", "detail", "level", "is_refund")  # fmt: skip
SUMMED = ["quantity", "value_cents", "discount_cents", "coupon_cents"]
OF_ORDER = ["user_id", "anonymous_id", "currency", "channel", "campaign", "source", "medium"]  # what the first line says
UNPAID = "not a paid order (its total is zero or less)"


def order_items(rows: pd.DataFrame, shop: Shop) -> Read:
    """One `order` per order id, one `order_item` per product of it, one `refund` per order id and moment."""
    rows = _amounts(refuse(rows, rows["order_id"].isna(), "no order id"), shop)
    rows = refuse(rows, rows["value_cents"].isna(), "no amount")
    rows = refuse(rows, (rows["quantity"] <= 0) & ~rows["is_refund"], "quantity is zero or less on a row that is not a refund")
    rows, convertible = rows.drop(columns="unconvertible"), rows["unconvertible"]
    for column, reason in (("user_id", "lines of one order belong to several users"), ("currency", "lines of one order are in several currencies")):
        lines = _lines(rows)
        several = lines.groupby("order_id")[column].transform("nunique")
        rows = refuse(rows, several.reindex(rows.index, fill_value=1) > 1, reason)
    if convertible.notna().any():
        by_order = convertible[_lines(rows).index].groupby(rows["order_id"]).first()
        rows = refuse(rows, rows["order_id"].notna(), rows["order_id"].map(by_order))
        rows = refuse(rows, convertible.notna(), convertible)
    lines = _once(_lines(rows))
    totals = lines.groupby("order_id")["value_cents"].transform("sum")
    rows = refuse(rows, rows["order_id"].isin(lines.loc[totals <= 0, "order_id"].unique()) & ~rows["is_refund"], UNPAID)
    lines = lines[totals > 0]
    refunds, reasons = _refunds(rows)
    return [_orders_of(lines), items_of(lines), refunds], reasons


def orders(rows: pd.DataFrame, shop: Shop) -> Read:
    """One `order` per row and order id, or a refund; a second, different row of the same order is left out."""
    rows = _amounts(refuse(rows, rows["order_id"].isna(), "no order id"), shop)
    rows = refuse(rows, rows["value_cents"].isna(), "no amount")
    rows = refuse(rows, (rows["value_cents"] <= 0) & ~rows["is_refund"], UNPAID)
    rows = refuse(rows, rows["unconvertible"].notna(), rows["unconvertible"])
    mine = rows[rows["reason"].isna() & ~rows["is_refund"]].assign(event="order")
    mine = mine.assign(event_id="order-" + mine["order_id"], hash=_hashes(mine)).sort_values(["event_id", "occurred_at", "value_cents", "hash"])
    first = mine.drop_duplicates("event_id")
    differs = mine[~mine["hash"].isin(first["hash"])].index
    rows = refuse(rows, pd.Series(rows.index.isin(differs), rows.index), "a second row of an order that says something else")
    refunds, reasons = _refunds(rows)
    return [first, refunds], reasons


def events(rows: pd.DataFrame, shop: Shop) -> Read:
    """One event per row; orders, cancellations and lines are known by their order, so a double count is one of them.

    An order that does not say how many pieces it has has those of its lines.
    """
    counted = rows["quantity"].notna()
    rows = _amounts(rows.assign(event=rows["event"].mask(rows["is_refund"], "refund")), shop)
    rows = refuse(rows, (rows["event"] == "order") & ~(rows["value_cents"] > 0).fillna(False), UNPAID)
    rows = refuse(rows, (rows["event"] == "order_cancelled") & rows["order_id"].isna(), "a cancellation without an order id")
    rows = refuse(rows, (rows["event"] == "identified") & rows[["user_id", "anonymous_id"]].isna().any(axis=1), "an identification without both ids")
    rows = refuse(rows, rows["unconvertible"].notna(), rows["unconvertible"])
    rows = rows.assign(value_cents=rows["value_cents"].mask(rows["event"] == "refund", rows["value_cents"].abs()))
    is_line = (rows["event"] == "order_item") & rows["order_id"].notna()
    mine, lines = rows[rows["reason"].isna() & ~is_line], rows[rows["reason"].isna() & is_line]
    by_order = (mine["event"] + "-" + mine["order_id"]).where(mine["event"].isin(["order", "order_cancelled"]))
    others = mine.assign(event_id=by_order.fillna(mine["event"] + "-" + mine["event_id"].fillna(_hashes(mine))))
    items = items_of(_once(lines))
    pieces = others["order_id"].map(items.groupby("order_id")["quantity"].sum()).where((others["event"] == "order") & ~counted[others.index])
    return [others.assign(quantity=pieces.astype("Int64").fillna(others["quantity"])), items], rows["reason"]


READERS: dict[str, Callable[[pd.DataFrame, Shop], Read]] = {"order_items": order_items, "orders": orders, "events": events}


def items_of(lines: pd.DataFrame) -> pd.DataFrame:
    """One `order_item` per order and product: equal products of one order are one line."""
    groups = lines.assign(product=lines["product_id"].fillna("")).groupby(["order_id", "product"], sort=True)
    firsts = [name for name in (*OF_ORDER, "product_id", "detail", "level") if name in lines]
    found = groups[[*firsts, "occurred_at", "known_at"]].agg({**dict.fromkeys(firsts, "first"), "occurred_at": "min", "known_at": "min"})
    found = found.join(groups[SUMMED].sum(min_count=1)).reset_index()
    return found.assign(event="order_item", event_id="order_item-" + found["order_id"] + "-" + found["product"])


def _amounts(rows: pd.DataFrame, shop: Shop) -> pd.DataFrame:
    """Add value, discount and coupon in minor units of the row's currency, and why these cannot be made the shop's.

    Each is rounded half up, once; a row without quantity is one piece.
    """
    currency = rows["currency"].str.upper().fillna(shop.currency)
    with localcontext(prec=EXACT):
        minor = digits_of(currency).map({digits: Decimal(10) ** digits for digits in range(4)}).to_numpy(object)
        quantity, value = _filled(rows["quantity"], 1), _filled(rows["price"], 0)
        has_value = rows["amount"].notna() | rows["price"].notna()
        if rows["price"].notna().any():
            value = value * quantity
            for name in ("discount", "coupon"):
                value = value - _filled(rows[name], 0) if rows[name].notna().any() else value
        value = np.where(rows["amount"].notna(), rows["amount"], value) if rows["amount"].notna().any() else value
        found = {
            "quantity": _whole(quantity, pd.Series(True, rows.index)),
            "level": _whole(rows["level"].to_numpy(object), rows["level"].notna()),
            "value_cents": _whole(value * minor, has_value),
            "discount_cents": _whole(_filled(rows["discount"], 0) * minor, rows["discount"].notna()),
            "coupon_cents": _whole(_filled(rows["coupon"], 0) * minor, rows["coupon"].notna()),
        }
    # A quarter of a kilogram is bought as well: less than half a piece is one.
    some = pd.Series([value > 0 for value in quantity], rows.index, dtype=bool)
    found["quantity"] = found["quantity"].mask(some & (found["quantity"] == 0), 1)
    large = pd.DataFrame({name: values.abs() >= LARGEST for name, values in found.items()}).any(axis=1)
    rows = rows.assign(**{name: values.mask(large).astype("Int64") for name, values in found.items()}, currency=currency)
    rows = refuse(rows, large, "a number too large to be true")
    is_money = rows[["value_cents", "discount_cents", "coupon_cents"]].notna().any(axis=1)
    return rows.assign(unconvertible=without_rate(currency.where(is_money), rows["occurred_at"], shop))


def _filled(values: pd.Series, default: int) -> np.ndarray:
    found = values.to_numpy(object, copy=True)
    found[values.isna().to_numpy()] = Decimal(default)
    return found


def _whole(values: np.ndarray, there: pd.Series) -> pd.Series:
    """Decimals rounded half up; what no 64 bits can hold becomes the smallest number that is refused."""
    present = there.to_numpy(dtype=bool)
    result = pd.Series(pd.NA, index=there.index, dtype="Int64")
    if not present.any():
        return result
    # Numbers repeat: rounding each distinct one once is what makes a million of them quick.
    places, distinct = pd.factorize(values[present])
    whole = [max(-LARGEST, min(int(value.to_integral_value(ROUND_HALF_UP)), LARGEST)) for value in distinct]
    result[present] = np.array(whole, dtype="int64")[places]
    return result


def _lines(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["reason"].isna() & ~rows["is_refund"]]


def _once(lines: pd.DataFrame) -> pd.DataFrame:
    """In an order that does not depend on the file's, those with the same event_id once."""
    lines = lines.assign(hash=_hashes(lines)).sort_values(["occurred_at", "hash", "known_at"], kind="stable")
    return lines[lines["event_id"].isna() | ~lines.duplicated("event_id")]


def _orders_of(lines: pd.DataFrame) -> pd.DataFrame:
    """One order per order id; what else is known comes from its first line."""
    parts = lines.groupby("order_id", sort=True)
    found = parts.agg({**dict.fromkeys(OF_ORDER, "first"), **dict.fromkeys(("occurred_at", "known_at"), "min")})
    found = found.join(parts[SUMMED].sum(min_count=1)).reset_index()
    return found.assign(event="order", event_id="order-" + found["order_id"])


def _refunds(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """One refund per order id and moment, and why rows are left out."""
    marked = _once(rows[rows["reason"].isna() & rows["is_refund"]])
    moment = marked["occurred_at"].astype("int64").astype("string")
    marked = marked.assign(event="refund", event_id="refund-" + marked["order_id"] + "-" + moment)
    parts = marked.groupby("event_id", sort=True)
    found = parts.agg({**dict.fromkeys(("order_id", "event", "occurred_at", *OF_ORDER), "first"), "known_at": "min", "value_cents": "sum"})
    return found.reset_index().assign(value_cents=found["value_cents"].abs().to_numpy()), rows["reason"]


def refuse(rows: pd.DataFrame, where: pd.Series, reason: str | pd.Series) -> pd.DataFrame:
    """Give a reason to rows that have none yet."""
    return rows.assign(reason=rows["reason"].mask(rows["reason"].isna() & where.fillna(False), reason))


def _hashes(rows: pd.DataFrame) -> pd.Series:
    text = pd.Series("", rows.index, dtype="string")
    for name in HASHED:
        values = rows[name]
        if values.isna().all():
            text = text + "\x1f\x00"
            continue
        written = values.astype("int64").astype("string") if name == "occurred_at" else values.astype("string")
        text = text + "\x1f" + written.fillna("\x00")
    return pd.Series([blake2b(value.encode(), digest_size=12).hexdigest() for value in text], rows.index, dtype="string")
