"""What a day of GA4's BigQuery export says. The file is tests/data/events_20251001.jsonl.

Visitor 111.222 comes by a newsletter, sees a soap, buys as u1 two soaps and a pan for 29.00, with 4.90 of shipping and 0.10
of tax (order 1001), opens the confirmation again, and gets 4.50 (a soap) and 20.00 back. Two others come by an
advertisement and directly; one without consent has no id at all.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import InvalidTable, NoUsableData
from features.shopfile import Shop
from features.sources import read_source
from features.sources.batch import Batch
from features.sources.ga4 import NAMES, UNUSED

NAME = "events_20251001.jsonl"
TEXT = (Path(__file__).parents[1] / "data" / NAME).read_text()
LINES = TEXT.splitlines()
ROWS: list[dict[str, Any]] = [json.loads(line) for line in LINES]
SHOP = Shop("Berlin", "Europe/Berlin", "EUR")
Read = Callable[..., Batch]
PARAMETERS = pa.list_(
    pa.struct(
        {
            "key": pa.string(),
            "value": pa.struct({"string_value": pa.string(), "int_value": pa.int64(), "float_value": pa.float64(), "double_value": pa.float64()}),
        }
    )
)
ECOMMERCE = pa.struct({**dict.fromkeys(("purchase_revenue", "refund_value", "shipping_value", "tax_value"), pa.float64()), "transaction_id": pa.string()})
ITEM = {
    **dict.fromkeys(("item_id", "item_name", "item_brand", "item_category", "promotion_id", "promotion_name"), pa.string()),
    "price": pa.float64(),
    "item_revenue": pa.float64(),
    "quantity": pa.int64(),
}
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("event_date", "event_name", "user_id", "user_pseudo_id"), pa.string()),
        "event_timestamp": pa.int64(),
        "event_bundle_sequence_id": pa.int64(),
        "event_params": PARAMETERS,
        "ecommerce": ECOMMERCE,
        "collected_traffic_source": pa.struct(dict.fromkeys(("manual_source", "manual_medium", "manual_campaign_name", "gclid"), pa.string())),
        "items": pa.list_(pa.struct(ITEM)),
    }
)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Rows, or the text of a file -> Batch."""

    def read_rows(rows: Sequence[Mapping[str, Any]] | str = TEXT, shop: Shop = SHOP, path: str = NAME, **settings: Any) -> Batch:
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / path).write_bytes(gzip.compress(text.encode()) if path.endswith(".gz") else text.encode())
        return read_source({"kind": "ga4", "path": path, **settings}, replace(shop, path=tmp_path / "encore.toml"))

    return read_rows


def only(name: str, _parameters: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The first event of a name with other fields and text parameters."""
    found = {**next(row for row in ROWS if row["event_name"] == name), **changes}
    kept = [one for one in found["event_params"] if one["key"] not in (_parameters or {})]
    return {**found, "event_params": [*kept, *({"key": key, "value": {"string_value": value}} for key, value in (_parameters or {}).items())]}


def rows_of(batch: Batch, *events: str) -> pd.DataFrame:
    """The events of some names, by id."""
    table = batch.events.to_pandas()
    return table[table["event"].isin(events)].sort_values(["occurred_at", "event_id"]).set_index("event_id")


def content(batch: Batch) -> list[str]:
    return sorted(map(repr, batch.events.to_pylist()))


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def typed(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as BigQuery writes them to Parquet: numbers are numbers."""

    def numbers(value: Any, kind: pa.DataType) -> Any:
        if value is None:
            return None
        if pa.types.is_list(kind):
            return [numbers(one, kind.value_type) for one in value]
        if pa.types.is_struct(kind):
            return {field.name: numbers(value.get(field.name), field.type) for field in kind}
        return int(value) if pa.types.is_integer(kind) else value

    return pa.Table.from_pylist([{field.name: numbers(row.get(field.name), field.type) for field in SCHEMA} for row in rows], SCHEMA)


# --- what is read ---------------------------------------------------------------------------------------------------


def test_every_row_is_an_event_or_refused(read):
    batch = read()
    assert batch.refused.to_numpy().tolist() == [
        [NAME, 1, "event 'first_visit' is not one that Encore uses"],
        [NAME, 12, "a second purchase with the same transaction_id"],
        [NAME, 13, "a purchase without a transaction_id"],
        [NAME, 18, "no user (consent mode): neither user_id nor user_pseudo_id"],
        [NAME, 19, "no user (consent mode): neither user_id nor user_pseudo_id"],
        [NAME, 20, "event 'scroll' is not one that Encore uses"],
        [NAME, 21, "event 'hero_tapped' is not mapped to a canonical event"],
    ]
    counts = batch.events.to_pandas()["event"].value_counts().to_dict()
    assert counts == {
        **dict.fromkeys(("list_view", "search", "product_view", "checkout", "payment_info", "order", "coupon_redeemed"), 1),
        **dict.fromkeys(("promotion_view", "share", "sign_up", "cart_remove"), 1),
        **dict.fromkeys(("page_view", "cart_add", "order_item", "refund"), 2),
        "session_start": 3,
    }


def test_an_event_is_known_by_the_four_fields(read):
    rows = rows_of(read(), "search")
    assert rows.index.tolist() == ["111.222-1759305690000000-view_search_results-7"]
    assert rows["occurred_at"].tolist() == [at("2025-10-01T08:01:30")] and rows["detail"].tolist() == ["olive soap"]


def test_users_without_consent_are_not_one_user(read):
    batch = read()
    assert set(batch.events["anonymous_id"].to_pylist()) == {"111.222", "333.444", "555.666"}
    for nobody in ({"user_pseudo_id": None}, {"user_pseudo_id": ""}, {"user_pseudo_id": "(not set)", "user_id": "(not set)"}):
        assert read([only("page_view"), only("view_item", **nobody)]).refused["line"].tolist() == [2]
    assert rows_of(read([only("page_view", user_pseudo_id=None, user_id="u9")]), "page_view")["user_id"].tolist() == ["u9"]


def test_a_row_with_both_ids_says_that_the_visitor_is_the_user(read):
    assert rows_of(read(), "checkout")[["user_id", "anonymous_id"]].to_numpy().tolist() == [["u1", "111.222"]]
    assert rows_of(read(), "search")["user_id"].isna().all()


def test_an_orders_value_is_revenue_with_shipping_and_tax(read):
    order = rows_of(read(), "order").loc["order-1001"]
    assert order[["value_cents", "quantity", "order_id", "user_id", "currency"]].tolist() == [2900 + 490 + 10, 3, "1001", "u1", "EUR"]
    assert order["occurred_at"] == at("2025-10-01T08:06:00")


def test_a_shop_that_sends_shipping_and_tax_inside_revenue_says_so(read):
    assert rows_of(read(revenue_includes=["shipping", "tax"]), "order")["value_cents"].tolist() == [2900]
    assert rows_of(read(revenue_includes=["tax"]), "order")["value_cents"].tolist() == [3390]


def test_lines_are_item_revenue_or_else_price_times_quantity(read):
    lines = rows_of(read(), "order_item")
    assert lines.loc["order_item-1001-soap", ["product_id", "quantity", "value_cents"]].tolist() == ["soap", 2, 900]
    plain = [{"item_id": "soap", "price": 4.5, "quantity": "3"}, {"item_name": "Pan", "price": 20}, {"item_id": "soap", "price": 4.5}]
    lines = rows_of(read([only("purchase", items=plain)]), "order_item")
    assert lines["value_cents"].to_dict() == {"order_item-1001-soap": 1800, "order_item-1001-Pan": 2000}


def test_a_coupon_is_redeemed_with_the_order(read):
    assert rows_of(read(), "coupon_redeemed").loc["coupon_redeemed-1001", ["detail", "order_id", "user_id"]].tolist() == ["TEN", "1001", "u1"]


def test_refunds_are_parts_or_all_by_transaction(read):
    refunds = rows_of(read(), "refund")
    assert refunds[["order_id", "value_cents"]].to_numpy().tolist() == [["1001", 450], ["1001", 2000]]
    negative = only("refund", ecommerce={"transaction_id": "1001", "refund_value": -29.0, "shipping_value": 4.9})
    assert rows_of(read([negative]), "refund")["value_cents"].tolist() == [3390]


def test_views_and_cart_changes_are_one_event_per_item(read):
    batch = read()
    assert rows_of(batch, "cart_add")[["product_id", "quantity"]].to_numpy().tolist() == [["pan", 1], ["soap", 2]]
    assert rows_of(batch, "product_view").index.tolist() == ["111.222-1759305720000000-view_item-7-soap"]
    assert rows_of(batch, "list_view")["detail"].tolist() == ["bath"]  # what was listed was not looked at
    assert rows_of(read([only("view_item", items=[])]), "product_view").index.tolist() == ["111.222-1759305720000000-view_item-7"]


def test_visits_have_their_source(read):
    visits = rows_of(read(), "session_start", "page_view")[["event", "source", "medium", "campaign"]].fillna("").to_numpy().tolist()
    assert visits == [
        ["page_view", "newsletter", "email", "Spring Sale"],
        ["session_start", "newsletter", "email", "Spring Sale"],  # from the address alone
        ["page_view", "", "", ""],  # from one page of the shop to the next
        ["session_start", "google", "cpc", ""],  # GA4's own parameters call it google / organic (organic)
        ["session_start", "direct", "none", ""],
    ]


def test_parameters_of_the_source_count_where_the_address_says_nothing(read):
    started = only("session_start", {"page_location": "https://shop.example/", "source": "Bing", "medium": "Organic", "campaign": "(organic)"})
    assert rows_of(read([started]), "session_start")[["source", "medium", "campaign"]].fillna("").to_numpy().tolist() == [["bing", "organic", ""]]


def test_own_domains_are_no_referrals(read):
    back = only("page_view", {"page_location": "https://shop.example/thanks", "page_referrer": "https://www.paypal.com/"}, collected_traffic_source=None)
    assert rows_of(read([back]), "page_view")["source"].tolist() == ["paypal.com"]
    assert rows_of(read([back], own_domains=["paypal.com"]), "page_view")["source"].isna().all()


def test_products_come_from_items(read):
    assert read().products.to_pylist() == [
        {"product_id": "pan", "category": "Kitchen", "brand": "Ferrum", "department": None},
        {"product_id": "soap", "category": "Bath", "brand": "Savon", "department": None},
    ]


def test_names_are_mapped_once(read):
    assert not NAMES.keys() & UNUSED
    batch = read(events={"hero_tapped": "promotion_click", "scroll": "page_view"})
    assert len(rows_of(batch, "promotion_click")) == 1 and len(rows_of(batch, "page_view")) == 3


# --- times ----------------------------------------------------------------------------------------------------------


def test_rows_are_known_on_their_own_day_and_corrections_from_the_date_of_the_file(read, tmp_path):
    batch = read()
    assert (batch.events.to_pandas()["known_at"] == batch.events.to_pandas()["occurred_at"]).all()
    assert batch.written == pd.Timestamp((tmp_path / NAME).stat().st_mtime_ns // 1000, unit="us", tz="UTC")


def test_a_daily_table_is_complete_with_its_day_of_the_propertys_zone(read):
    assert read().complete_until == date(2025, 10, 2)
    assert read([only("page_view")]).complete_until == date(2025, 10, 2)
    assert read(path="events_20251001_000000000003.jsonl.gz").complete_until == date(2025, 10, 2)
    assert read(time_zone="America/New_York").complete_until == date(2025, 10, 2)  # over at six in the morning in Berlin
    assert read(time_zone="Asia/Tokyo").complete_until == date(2025, 10, 1)  # over at five in the afternoon in Berlin
    assert read(complete_until="2025-09-30").complete_until == date(2025, 9, 30)


@pytest.mark.parametrize("path", ["events_intraday_20251001.jsonl", "pseudonymous.jsonl", "events_20259999.jsonl", "my_events.jsonl"])
def test_any_other_table_is_complete_up_to_the_day_of_its_last_event(read, path):
    batch = read(path=path)
    assert batch.complete_until == date(2025, 10, 1) and content(batch) == content(read())


# --- again and again ------------------------------------------------------------------------------------------------


def test_the_same_row_twice_is_the_same_event(read):
    assert set(content(read(TEXT + TEXT))) == set(content(read()))


def test_a_daily_table_repeats_the_events_of_the_intraday_one(read):
    intraday = read("\n".join(LINES[:12]), path="events_intraday_20251001.jsonl")
    assert set(content(intraday)) <= set(content(read()))


def test_a_table_exported_again_has_the_same_ids(read):
    corrected = only("purchase", ecommerce={"transaction_id": "1001", "purchase_revenue": 25.0})
    first, second = rows_of(read(), "order"), rows_of(read([corrected]), "order")
    assert second.index.tolist() == first.index.tolist() == ["order-1001"] and second["value_cents"].tolist() == [2500]


def test_of_two_purchases_with_one_transaction_the_first_counts_in_any_order(read):
    for rows in (ROWS[10:12], ROWS[11:9:-1]):
        batch = read(rows)
        assert rows_of(batch, "order")["occurred_at"].tolist() == [at("2025-10-01T08:06:00")]
        assert len(rows_of(batch, "order_item")) == 2 and len(batch.refused) == 1


def test_lines_in_any_order_are_the_same_batch(read):
    first = read()
    for seed in range(3):
        other = read("\n".join(random.Random(seed).sample(LINES, len(LINES))) + "\n")
        assert content(other) == content(first)
        assert other.products == first.products and other.quarantined == first.quarantined and other.complete_until == first.complete_until


# --- Parquet --------------------------------------------------------------------------------------------------------


def test_parquet_says_the_same_and_counts_rows_from_one(read, tmp_path):
    pq.write_table(typed(ROWS), tmp_path / "events_20251001.parquet", row_group_size=10)
    batch = read_source({"kind": "ga4", "path": "events_20251001.parquet"}, replace(SHOP, path=tmp_path / "encore.toml"))
    assert content(batch) == content(read()) and batch.complete_until == date(2025, 10, 2)
    assert batch.refused[["line", "reason"]].equals(read().refused[["line", "reason"]])


def test_parquet_of_another_shape_is_read_as_well(read, tmp_path):
    table = typed(ROWS)
    narrow = table.drop_columns(["collected_traffic_source", "ecommerce"]).append_column("ecommerce", pa.array(["{}"] * len(ROWS)))
    pq.write_table(narrow, tmp_path / "events_20251001.parquet")
    batch = read_source({"kind": "ga4", "path": "events_20251001.parquet"}, replace(SHOP, path=tmp_path / "encore.toml"))
    assert rows_of(batch, "order")["value_cents"].tolist() == [2900]  # by the parameters alone
    assert rows_of(batch, "page_view")["source"].dropna().tolist() == ["newsletter"]


def test_parquet_of_something_else_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1], "event": ["x"]}), tmp_path / "events.parquet")
    with pytest.raises(InvalidTable, match=r"Unknown field 'event_name'\. Did you mean 'event'"):
        read_source({"kind": "ga4", "path": "events.parquet"}, replace(SHOP, path=tmp_path / "encore.toml"))


# --- money ----------------------------------------------------------------------------------------------------------


def test_the_yen_has_no_cents(read):
    batch = read([only("purchase", {"currency": "JPY"}, ecommerce={"transaction_id": "1", "purchase_revenue": 2900.0})], replace(SHOP, currency="JPY"))
    assert rows_of(batch, "order")["value_cents"].tolist() == [2900]


def test_amounts_are_exact_and_rounded_half_up(read):
    written = {1.005: 101, 0.285: 29, 4.35: 435, 3.3000000000000003: 330, "12.34": 1234}
    orders = [only("purchase", ecommerce={"transaction_id": str(place), "purchase_revenue": revenue}) for place, revenue in enumerate(written)]
    assert rows_of(read(orders), "order").sort_index()["value_cents"].tolist() == list(written.values())


def test_amounts_without_a_currency_need_a_declared_one(read):
    nameless = only("purchase", {"currency": None})
    assert read([nameless, only("page_view")]).refused["line"].tolist() == [1]
    assert rows_of(read([nameless], currency="EUR"), "order")["value_cents"].tolist() == [3400]


# --- what is refused ------------------------------------------------------------------------------------------------


REFUSED = [
    (only("page_view", event_timestamp=None), "no time"),
    (only("page_view", event_timestamp="soon"), "'event_timestamp' is not a number of microseconds since 1970"),
    (only("page_view", event_timestamp=1759305600), "'event_timestamp' is not from 1990 to 2100"),
    (only("page_view", event_name=None), "no event name"),
    (only("purchase", {"currency": "USD"}), "in USD, not in the shop's EUR; add rates"),
    (only("purchase", ecommerce={"transaction_id": "1", "purchase_revenue": 0}), "not a paid order (its total is zero or less)"),
    (only("purchase", ecommerce={"transaction_id": "1", "purchase_revenue": "a lot"}), "'revenue' is not an amount"),
    (only("refund", items=[]), "no amount"),
    (only("refund", ecommerce={}), "no order id"),
]


def test_a_row_that_cannot_be_used_is_refused_with_its_line(read):
    batch = read([only("view_search_results"), *(row for row, _ in REFUSED)])
    assert batch.refused[["line", "reason"]].to_numpy().tolist() == [[line, reason] for line, (_, reason) in enumerate(REFUSED, 2)]
    assert batch.events.num_rows == 1


def test_a_broken_line_is_refused_with_its_number(read):
    batch = read("\n".join([LINES[3], LINES[4][:40], LINES[5]]))
    assert batch.refused.to_numpy().tolist() == [[NAME, 2, "not a JSON object"]] and batch.events.num_rows == 2


def test_a_file_of_something_else_is_refused_with_all_problems(read):
    with pytest.raises(InvalidTable) as caught:
        read([{"eventName": "x", "event_timestamp": "1759305600000000"}], complete_until="soon", revenue_includes=["taxes"])
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    for expected in ("Unknown field 'event_name'. Did you mean 'eventName'?", "Unknown part of an order's total 'taxes'. Did you mean 'tax'?", "'soon'"):
        assert expected in text
    with pytest.raises(NoUsableData, match="no usable event"):
        read([only("scroll"), only("page_view", user_pseudo_id=None)])
    with pytest.raises(NoUsableData, match="no records"):
        read("")
