"""What the exports of trackers (Segment, GA4) have in common: event names to map, visits to attribute, orders with lines.

* An order is known by its own id alone, so a confirmation page that is opened twice is one order. Its lines are one row per
  product. Its coupon is redeemed with it.
* Money has a currency, or the source declares one for what names none: `currency = "EUR"`. It is read as decimal digits
  of that currency, never as floats.
* A quantity that is not given is one piece.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, localcontext
from itertools import compress
from typing import Any

import pandas as pd
import pyarrow as pa

from features.rates import LARGEST, digits_of, without_rate
from features.shopfile import Shop
from features.sources.attribution import attribution
from features.sources.batch import canonical_products
from features.sources.parsing import EXACT, Parsed, amounts, to_minor
from features.sources.table_rows import UNPAID, refuse

VISITS = ("page_view", "session_start")
MONEY = ("order", "refund")
WHO = ["user_id", "anonymous_id"]
WHEN = ["occurred_at", "known_at"]


def setting_problems(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with `currency` and `own_domains`, if they are given."""
    problems = []
    if not re.fullmatch("[A-Z]{3}", str(settings.get("currency", "EUR"))):
        problems.append(f"currency is {settings['currency']!r}; it must be an ISO code such as EUR")
    domains = settings.get("own_domains", [])
    if not isinstance(domains, list) or not all(isinstance(domain, str) and "/" not in domain for domain in domains):
        problems.append(f'own_domains is {domains!r}; it must be a list of domains such as ["shop.example", "paypal.com"]')
    return problems


def canonical_names(names: pd.Series, known: Mapping[str, str], unused: Collection[str]) -> tuple[pd.Series, pd.Series]:
    """Canonical event names, and why a row has none.

    Args:
        known: the tracker's names, and those that the shop maps, -> ours.
        unused: names of the tracker that say nothing to us.
    """
    why = {
        name: f"event '{name}' is not one that Encore uses" if name in unused else f"event '{name}' is not mapped to a canonical event"
        for name in names.dropna().unique()
        if name not in known
    }
    return names.map(known.get, na_action="ignore").astype("string"), names.map(why.get, na_action="ignore").astype("string").mask(
        names.isna(), "no event name"
    )


def whole_numbers(column: pd.Series) -> Parsed:
    """Text such as 3 or 3.0 as integers of at most nine digits."""
    bad = column.notna() & ~column.str.fullmatch(r"[+-]?\d{1,9}(\.0*)?").fillna(False)
    values = column.mask(bad).str.replace(r"\..*", "", regex=True).str.removeprefix("+").astype("Int64")
    return Parsed(values, pd.Series(None, column.index, dtype="string").mask(bad, f"'{column.name}' is not a whole number"))


def with_currency(rows: pd.DataFrame, declared: str | None) -> pd.DataFrame:
    """Add the digits of each row's currency; where it names none, the declared one is meant."""
    named = rows["currency"].str.upper()
    named = named.fillna(declared) if declared else named
    return rows.assign(currency=named, digits=digits_of(named))


def with_amounts(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns of decimal text as minor units; a row with one that cannot be read gets a reason."""
    for name in names:
        parsed = amounts(rows[name], rows["digits"])
        rows = refuse(rows.assign(**{name: parsed.values}), parsed.reasons.notna(), parsed.reasons)
    return rows


def with_source(rows: pd.DataFrame, is_visit: pd.Series, own_domains: Sequence[str]) -> pd.DataFrame:
    """Add where visits came from: what the tracker says (said_source, said_medium, said_campaign), else url and referrer."""
    visits = rows[is_visit]
    found = attribution(visits["url"], visits["referrer"], own_domains)
    said = visits[["said_source", "said_medium", "said_campaign"]].set_axis(found.columns, axis=1)
    said = said.assign(source=said["source"].str.lower(), medium=said["medium"].str.lower())
    found = found.mask(said["source"].notna(), said).reindex(rows.index)
    return rows.assign(**{str(name): found[name].astype("string") for name in found})


def judged_money(rows: pd.DataFrame, shop: Shop) -> pd.DataFrame:
    """Orders and refunds with `value_cents` and `currency`: those that cannot be used get a reason."""
    is_order = rows["event"] == "order"
    rows = refuse(rows, rows["order_id"].isna(), "no order id")
    rows = refuse(rows, rows["currency"].isna(), 'no currency (declare what amounts without one are in: currency = "EUR")')
    unconvertible = without_rate(rows["currency"], rows["occurred_at"], shop)
    rows = refuse(rows, unconvertible.notna(), unconvertible)
    rows = refuse(rows, rows["value_cents"].isna(), "no amount")
    rows = refuse(rows, is_order & (rows["value_cents"] <= 0), UNPAID)
    return refuse(rows, rows["value_cents"] == 0, "a refund of nothing")


def judged_lines(lines: pd.DataFrame) -> pd.DataFrame:
    """Products of orders: product_id, digits, and quantity, price and value as text. They get value_cents, or a reason why
    they cannot be used."""
    quantity = whole_numbers(lines["quantity"])
    pieces = quantity.values.mask(quantity.values.isna() & quantity.reasons.isna(), 1)
    lines = lines.assign(quantity=pieces, reason=quantity.reasons)
    lines = refuse(lines, lines["product_id"].isna(), "a line without a product")
    lines = refuse(lines, pieces <= 0, "a line with a quantity of zero or less")
    for name in ("price", "value"):
        reasons = amounts(lines[name], 0).reasons
        lines = refuse(lines, reasons.notna(), reasons)
    parts = list(zip(lines["value"], lines["price"], pieces, lines["digits"], strict=True))
    with localcontext(prec=EXACT):  # prices repeat: each is worked out once
        known = {part: _line_value(*part) for part in set(compress(parts, lines["reason"].isna()))}
    lines = lines.assign(value_cents=pd.Series([known.get(part) for part in parts], lines.index, dtype="Int64"))
    return refuse(lines, lines["value_cents"].isna(), "a line without an amount")


def _line_value(value: Any, price: Any, quantity: int, digits: int) -> int | None:
    """What was paid for a line: as it says, or else price x quantity, rounded half up once, at the end."""
    if pd.isna(value) and pd.isna(price):
        return None
    cents = to_minor(Decimal(price) * int(quantity) if pd.isna(value) else Decimal(value), int(digits))
    return cents if abs(cents) <= LARGEST else None


def order_events(orders: pd.DataFrame, lines: pd.DataFrame) -> list[pd.DataFrame]:
    """Orders, their lines and the coupons redeemed with them.

    Args:
        orders: usable ones, with the canonical columns and `coupon`.
        lines: usable ones; `row` is the label of its order.
    """
    quantity = lines.groupby("row")["quantity"].sum().reindex(orders.index).astype("Int64")
    orders = orders.assign(event_id="order-" + orders["order_id"], quantity=quantity)
    shared = ["order_id", "currency", "channel", *WHO, *WHEN]
    items = lines.groupby(["row", "product_id"], as_index=False)[["quantity", "value_cents"]].sum().join(orders[shared], on="row", how="inner")
    items = items.assign(event="order_item", event_id="order_item-" + items["order_id"] + "-" + items["product_id"])
    redeemed = orders.loc[orders["coupon"].notna(), [*shared, "coupon"]].rename(columns={"coupon": "detail"})
    redeemed = redeemed.assign(event="coupon_redeemed", event_id="coupon_redeemed-" + redeemed["order_id"])
    return [orders, items, redeemed]


def facts_of(seen: pd.DataFrame) -> pa.Table | None:
    """What was last said of each product: of every fact by itself, since few events name them all.

    Args:
        seen: product_id, category, brand and occurred_at.
    """
    facts = ["category", "brand"]
    known = seen.dropna(subset=["product_id"]).dropna(subset=facts, how="all").sort_values(["occurred_at", *facts], kind="stable")
    return canonical_products(known.groupby("product_id")[facts].last().reset_index()) if len(known) else None
