"""Rows of GA4's export: their fields, users and amounts, and why one cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from features.shopfile import Shop
from features.sources.parsing import times
from features.sources.table_rows import refuse
from features.sources.tracked import (
    MONEY,
    VISITS,
    WHEN,
    WHO,
    canonical_names,
    judged_lines,
    judged_money,
    whole_numbers,
    with_amounts,
    with_currency,
    with_source,
)

KEY = ("user_pseudo_id", "event_timestamp", "event_name", "event_bundle_sequence_id")
PATHS = {
    **{name: name for name in (*KEY, "user_id")},
    **{name: f"ecommerce.{name}" for name in ("transaction_id", "purchase_revenue", "refund_value", "shipping_value", "tax_value")},
    **{name: f"collected_traffic_source.{name}" for name in ("manual_source", "manual_medium", "manual_campaign_name", "gclid")},
}
PARAMETER = {"key": "VARCHAR", "value": dict.fromkeys(("string_value", "int_value", "double_value", "float_value"), "VARCHAR")}
ITEM_FIELDS = ("item_id", "item_name", "item_brand", "item_category", "price", "quantity", "item_revenue", "item_refund", "promotion_id", "promotion_name")
ITEM = dict.fromkeys(ITEM_FIELDS, "VARCHAR")
PARAMETER_NAMES = ("page_location", "page_referrer", "source", "medium", "campaign", "currency", "value", "transaction_id", "coupon", "search_term",
                   "method", "promotion_id", "promotion_name", "item_list_id", "item_list_name")  # fmt: skip
_KEYS = "list_transform(m.event_params, lambda p: p.key)"
_VALUE = "coalesce(p.value.string_value, p.value.int_value, p.value.double_value, p.value.float_value)"
_VALUES = f"list_transform(m.event_params, lambda p: {_VALUE})"
PARAMETERS = {f"param_{name}": f"list_extract({_VALUES}, list_position({_KEYS}, '{name}'))" for name in PARAMETER_NAMES} | {
    "item_promotion_id": "m.items[1].promotion_id",
    "item_promotion_name": "m.items[1].promotion_name",
}
DETAILS = {
    "search": ("param_search_term",),
    "list_view": ("param_item_list_id", "param_item_list_name"),
    "promotion_view": ("param_promotion_id", "item_promotion_id", "param_promotion_name", "item_promotion_name"),
    "promotion_click": ("param_promotion_id", "item_promotion_id", "param_promotion_name", "item_promotion_name"),
    "share": ("param_method",),
    "sign_up": ("param_method",),
}
PER_ITEM = ("product_view", "favourite", "cart_add", "cart_remove")
UNSET = ("(not set)", "(not provided)", "(data deleted)")  # how GA4 writes that there is nothing


def judged(rows: pd.DataFrame, names: Mapping[str, str], unused: Collection[str], own_domains: Sequence[str]) -> pd.DataFrame:
    """Canonical events of users, and why a row cannot be used.

    Args:
        names: GA4's and the shop's names -> ours; `unused` have no event here.
    """
    rows = _without_unset(rows)
    stamp = rows["event_timestamp"]
    is_number = stamp.str.fullmatch(r"\d{9,17}").fillna(False)
    moment = times(stamp.where(is_number), None, "us")
    who = rows["user_pseudo_id"].fillna(rows["user_id"])
    key = who + "-" + stamp + "-" + rows["event_name"] + "-" + rows["event_bundle_sequence_id"].fillna("")
    rows = rows.assign(anonymous_id=rows["user_pseudo_id"], occurred_at=moment.values, event_id=key, reason=moment.reasons)
    rows = refuse(rows.assign(known_at=rows["occurred_at"]), stamp.isna(), "no time")
    rows = refuse(rows, ~is_number, "'event_timestamp' is not a number of microseconds since 1970")
    rows = refuse(rows, who.isna(), "no user (consent mode): neither user_id nor user_pseudo_id")
    events, why = canonical_names(rows["event_name"], names, unused)
    rows = refuse(rows.assign(event=events), events.isna(), why)
    rows = refuse(rows, (events == "order_cancelled") & _order_id(rows).isna(), "a cancellation without a transaction_id")
    rows = rows.assign(order_id=_order_id(rows), detail=_details(rows), quantity=pd.Series(pd.NA, rows.index, dtype="Int64"))
    return _with_visits(rows, own_domains)


def _without_unset(rows: pd.DataFrame) -> pd.DataFrame:
    unset = {str(name): rows[name].isin(UNSET) for name in rows if name != "line"}
    return rows.assign(**{name: rows[name].mask(found) for name, found in unset.items() if found.any()})


def _order_id(rows: pd.DataFrame) -> pd.Series:
    return rows["transaction_id"].fillna(rows["param_transaction_id"])


def _details(rows: pd.DataFrame) -> pd.Series:
    found = pd.Series(None, rows.index, dtype="string")
    for event, names in DETAILS.items():
        mine = (rows["event"] == event).fillna(False)
        for name in names:
            found = found.mask(mine & found.isna(), rows[name])
    return found


def _with_visits(rows: pd.DataFrame, own_domains: Sequence[str]) -> pd.DataFrame:
    """Source, medium and campaign of visits."""
    # Google's own parameters call a click on an advertisement google / organic: the click id knows better.
    clicked = rows["gclid"].notna() & rows["manual_source"].isna()
    rows = rows.assign(
        url=rows["param_page_location"],
        referrer=rows["param_page_referrer"],
        said_source=rows["manual_source"].mask(clicked, "google"),
        said_medium=rows["manual_medium"].mask(clicked, "cpc"),
        said_campaign=rows["manual_campaign_name"],
    )
    is_visit = rows["event"].isin(VISITS).astype(bool)
    rows = with_source(rows, is_visit, own_domains)
    unknown = is_visit & (rows["source"].isna() | (rows["source"] == "direct")) & rows["param_source"].notna()
    for name in ("source", "medium", "campaign"):
        rows[name] = rows[name].mask(unknown, rows[f"param_{name}"] if name == "campaign" else rows[f"param_{name}"].str.lower())
        # (direct) / (none) as GA4 writes it; a campaign in brackets, such as (organic), is none.
        bracketed = rows[name].str.startswith("(").fillna(False)
        rows[name] = rows[name].mask(bracketed, pd.NA if name == "campaign" else rows[name].str.strip("()"))
    return rows


def with_product(items: pd.DataFrame) -> pd.DataFrame:
    """Items by their id, else by name, with the facts about products."""
    product = items["item_id"].mask(items["item_id"].isin(UNSET)).fillna(items["item_name"].mask(items["item_name"].isin(UNSET)))
    facts = {name: items[f"item_{name}"].mask(items[f"item_{name}"].isin(UNSET)) for name in ("category", "brand")}
    return items.assign(product_id=product, **facts)


def with_money(rows: pd.DataFrame, items: pd.DataFrame, declared: str | None, added: Sequence[str], shop: Shop) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Orders and refunds with their values, and the lines of the usable orders with theirs.

    Args:
        added: what comes on top of the revenue, of shipping and tax.
    """
    money = rows[rows["reason"].isna() & rows["event"].isin(MONEY)]
    money = with_currency(money.assign(currency=money["param_currency"], coupon=money["param_coupon"]), declared)
    is_order = money["event"] == "order"
    money = refuse(money, is_order & money["order_id"].isna(), "a purchase without a transaction_id")
    lines = items[items["row"].isin(money.index)].reset_index(drop=True)
    bought = lines["row"].isin(money.index[is_order])
    lines = judged_lines(lines.assign(value=lines["item_revenue"].where(bought, lines["item_refund"]), digits=lines["row"].map(money["digits"])))
    returned = lines[lines["reason"].isna()].groupby("row")["value_cents"].sum().reindex(money.index).astype("Int64")
    said = money["purchase_revenue"].where(is_order, money["refund_value"]).fillna(money["param_value"])
    money = with_amounts(money.assign(revenue=said), ["revenue", "shipping_value", "tax_value"])
    value = money["revenue"].where(is_order, money["revenue"].abs().fillna(returned))
    for name in added:
        value = value + money[f"{name}_value"].abs().fillna(0)
    money = judged_money(money.assign(value_cents=value), shop)
    orders = money[money["reason"].isna() & is_order].sort_values(["occurred_at", "event_id"])
    first = orders.drop_duplicates("order_id").set_index("order_id")["event_id"]
    again = orders.index[orders["event_id"] != orders["order_id"].map(first)]
    money = refuse(money, pd.Series(money.index.isin(again), money.index), "a second purchase with the same transaction_id")
    columns = {name: money[name].reindex(rows.index) for name in ("value_cents", "currency", "coupon")}
    rows = rows.assign(**columns, channel=pd.Series(None, rows.index, dtype="string"), reason=rows["reason"].fillna(money["reason"]))
    lines = lines[lines["row"].isin(orders.index.difference(again))]
    return rows, lines.assign(line=lines["row"].map(rows["line"]))


def plain_events(usable: pd.DataFrame, items: pd.DataFrame) -> list[pd.DataFrame]:
    """All but orders: one event per item where items are what it is about, else one per row."""
    others = usable[usable["event"] != "order"]
    cancelled = ("order_cancelled-" + others["order_id"]).where(others["event"] == "order_cancelled")
    others = others.assign(event_id=cancelled.fillna(others["event_id"]))
    mine = items[items["row"].isin(others.index[others["event"].isin(PER_ITEM)])].dropna(subset=["product_id"])
    mine = mine.assign(quantity=whole_numbers(mine["quantity"]).values)
    each = mine.groupby(["row", "product_id"], as_index=False)["quantity"].sum(min_count=1)
    each = each.join(others[["event_id", "event", *WHO, *WHEN]], on="row")
    return [others[~others.index.isin(each["row"])], each.assign(event_id=each["event_id"] + "-" + each["product_id"])]
