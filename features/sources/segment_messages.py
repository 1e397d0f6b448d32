"""Segment's messages as rows: their fields, times, users and amounts, and why one cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from features.shopfile import Shop
from features.sources.parsing import amounts, times
from features.sources.table_rows import refuse
from features.sources.tracked import MONEY, VISITS, canonical_names, judged_lines, judged_money, whole_numbers, with_amounts, with_currency, with_source

TYPES = {"page": "page_view", "screen": "page_view", "identify": "identified", "alias": "identified"}
DETAILS = {
    "search": ("query",),
    "list_view": ("list_id", "category"),
    "promotion_view": ("promotion_id", "name"),
    "promotion_click": ("promotion_id", "name"),
    "coupon_applied": ("coupon_id", "coupon_name", "coupon"),
    "coupon_denied": ("coupon_id", "coupon_name", "coupon"),
    "share": ("share_via",),
}
COMMON = ("type", "messageId", "userId", "anonymousId", "previousId", "timestamp", "receivedAt", "sentAt", "originalTimestamp")
AMOUNTS = ("total", "revenue", "shipping", "tax", "discount")
PROPERTIES = (*AMOUNTS, "order_id", "product_id", "sku", "category", "brand", "quantity", "coupon", "currency", "affiliation", "rating", "level", "detail",
              "query", "list_id", "promotion_id", "name", "coupon_id", "coupon_name", "share_via", "campaign_name")  # fmt: skip
PATHS = {
    **{name: name for name in COMMON},
    **{name: f"properties.{name}" for name in PROPERTIES},
    "said": "event",
    "url": "context.page.url",
    "referrer": "context.page.referrer",
    "own_url": "properties.url",
    "own_referrer": "properties.referrer",
    "said_source": "context.campaign.source",
    "said_medium": "context.campaign.medium",
    "said_campaign": "context.campaign.name",
    "session_start": "context.sessionStart",
}
PRODUCT = dict.fromkeys(("product_id", "sku", "category", "brand", "price", "quantity"), "VARCHAR")
IDS = ["messageId", "user_id", "anonymous_id", "order_id"]


def with_times(raw: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """Add occurred_at, known_at and a reason where they cannot be read, and what is wrong with a column as a whole."""
    zone, unit = settings.get("time_zone"), settings.get("time_unit")
    said, received = (times(raw[name], zone, unit) for name in ("timestamp", "receivedAt"))
    # A device's clock may be wrong by years, but it was so both when the call was made and when it was sent.
    absent = raw[raw["timestamp"].isna()]
    sent, called = (times(absent[name], zone, unit) for name in ("sentAt", "originalTimestamp"))
    corrected = received.values[absent.index] - (sent.values - called.values)
    occurred = said.values.fillna(corrected.reindex(raw.index)).dt.as_unit("us")
    reason = said.reasons.fillna(received.reasons).fillna(sent.reasons.fillna(called.reasons).reindex(raw.index).where(occurred.isna()))
    reason = reason.mask(occurred.isna() & reason.isna(), "no time: neither timestamp, nor receivedAt, sentAt and originalTimestamp")
    problems = [f"field '{name}' {column.problem}" for name, column in (("timestamp", said), ("receivedAt", received)) if column.problem]
    return raw.assign(occurred_at=occurred, known_at=received.values.fillna(occurred).dt.as_unit("us"), reason=reason), problems


def judged(rows: pd.DataFrame, names: Mapping[str, str], unused: Collection[str], own_domains: Sequence[str]) -> pd.DataFrame:
    """Canonical events of users, and why a message cannot be used.

    Args:
        names: names of track events -> ours; `unused` have no event here.
    """
    rows = _first_said(_with_users(rows))
    rows = rows.assign(begins=rows["reason"].isna() & (rows["session_start"] == "true").fillna(False))
    is_track = (rows["type"] == "track").fillna(False)
    tracked, why = canonical_names(rows["said"].where(is_track), names, unused)
    rows = rows.assign(event=tracked.fillna(rows["type"].map(TYPES.get, na_action="ignore").astype("string")))
    rows = refuse(rows, is_track & tracked.isna(), why)
    rows = refuse(rows, rows["event"].isna(), ("type '" + rows["type"] + "' is not one that Encore uses").fillna("no type"))
    rows = refuse(rows, (rows["event"] == "order_cancelled") & rows["order_id"].isna(), "a cancellation without an order id")
    is_visit = (rows["event"].isin(VISITS) | rows["begins"]).astype(bool)
    # `url` among a product's properties is the product's page, wherever the visitor is.
    own = {name: rows[name].fillna(rows[f"own_{name}"].where(rows["event"].isin(VISITS))) for name in ("url", "referrer")}
    rows = with_source(with_product(rows.assign(**own)), is_visit, own_domains)
    return rows.assign(
        campaign=rows["campaign"].fillna(rows["campaign_name"].fillna(rows["said_campaign"]).where(~is_visit)),
        detail=_details(rows),
        level=amounts(rows["level"].mask(rows["event"] == "rating", rows["rating"]), 0).values,
        channel=rows["affiliation"].where(rows["event"] == "order"),
        quantity=whole_numbers(rows["quantity"]).values,
    )


def _with_users(rows: pd.DataFrame) -> pd.DataFrame:
    is_alias = (rows["type"] == "alias").fillna(False)
    rows = rows.assign(user_id=rows["userId"], anonymous_id=rows["anonymousId"].mask(is_alias, rows["previousId"]))
    no_text = pd.concat([rows[name].str.match(r"[\[{]").fillna(False) for name in IDS], axis=1).any(axis=1)
    no_id = rows[["user_id", "anonymous_id"]].isna()
    rows = refuse(rows, rows["messageId"].isna(), "no messageId: the message sent again could not be told from another one")
    rows = refuse(rows, no_text, "an id that is an object or a list")
    rows = refuse(rows, is_alias & no_id.any(axis=1), "an alias without userId or previousId")
    return refuse(rows, no_id.all(axis=1), "no user: neither userId nor anonymousId")


def _first_said(rows: pd.DataFrame) -> pd.DataFrame:
    """A message that was sent again has the times of when it first came."""
    usable = rows[rows["reason"].isna()]
    if not usable["messageId"].duplicated().any():
        return rows
    first = usable.sort_values(["known_at", "occurred_at"]).drop_duplicates("messageId").set_index("messageId")
    return rows.assign(**{name: rows["messageId"].map(first[name]).fillna(rows[name]) for name in ("occurred_at", "known_at")})


def with_product(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(product_id=rows["product_id"].fillna(rows["sku"]))


def _details(rows: pd.DataFrame) -> pd.Series:
    found = rows["detail"]
    for event, names in DETAILS.items():
        mine = (rows["event"] == event).fillna(False)
        for name in names:
            found = found.mask(mine & found.isna(), rows[name])
    return found


def with_money(rows: pd.DataFrame, listed: pd.DataFrame, declared: str | None, shop: Shop) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Orders and refunds with their values, and the lines of the usable orders with theirs."""
    money = with_currency(rows[rows["reason"].isna() & rows["event"].isin(MONEY)], declared)
    lines = listed[listed["row"].isin(money.index)].reset_index(drop=True)
    lines = judged_lines(lines.assign(value=pd.Series(None, lines.index, dtype="string"), digits=lines["row"].map(money["digits"])))
    returned = lines[lines["reason"].isna()].groupby("row")["value_cents"].sum().reindex(money.index).astype("Int64")
    money = with_amounts(money, AMOUNTS)
    is_order, has_coupon, discount = money["event"] == "order", money["coupon"].notna(), money["discount"].abs()
    value = money["total"].fillna(money["revenue"] + money["shipping"].fillna(0) + money["tax"].fillna(0))
    first = money.groupby(["event", "order_id"])["occurred_at"].transform("min")
    money = money.assign(
        value_cents=value.where(is_order, value.fillna(returned).abs()),
        coupon_cents=discount.where(has_coupon & is_order),
        discount_cents=discount.where(~has_coupon & is_order),
        # Whatever was said about an order later, it was placed when it was first spoken of.
        occurred_at=first.where(is_order & first.notna(), money["occurred_at"]),
    )
    money = judged_money(money, shop)
    names = ["value_cents", "coupon_cents", "discount_cents", "currency"]
    rows = rows.assign(**{name: money[name].reindex(rows.index) for name in names}, reason=rows["reason"].fillna(money["reason"]))
    rows = rows.assign(occurred_at=money["occurred_at"].reindex(rows.index).fillna(rows["occurred_at"]))
    orders = money[money["reason"].isna() & (money["event"] == "order")]
    lines = lines[lines["row"].isin(orders.index)]
    return rows, lines.assign(line=lines["row"].map(rows["line"]))
