"""What twenty-six messages of Segment say. The file is tests/data/segment.jsonl.

Visitor a1 comes by a newsletter, turns out to be u1, 34 years old, and buys two soaps and a pan for 33.90 with a coupon of
2.00 (order 1001), of which 20.00 (the pan) and 9.00 (the soaps) are refunded. u2 buys for 10.10 + 2.20 + 0.70 (order 1002),
which becomes 12.00 and is cancelled. A phone whose clock stands in 2001 opens the app. The last six lines cannot be used,
but for one page.
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
import pytest

from features.errors import InvalidTable, NoUsableData
from features.shopfile import Shop
from features.sources import read_source
from features.sources.batch import Batch
from features.sources.segment import NAMES, UNUSED

TEXT = (Path(__file__).parents[1] / "data" / "segment.jsonl").read_text()
LINES = TEXT.splitlines()
MESSAGES: dict[str, dict[str, Any]] = {message["messageId"]: message for line in LINES if line.endswith("}") for message in [json.loads(line)]}
SHOP = Shop("Berlin", "Europe/Berlin", "EUR", attributes=("age",))
Read = Callable[..., Batch]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Messages, or the text of a file -> Batch."""

    def read_messages(messages: Sequence[Mapping[str, Any]] | str = TEXT, shop: Shop = SHOP, path: str = "segment.jsonl", **settings: Any) -> Batch:
        text = messages if isinstance(messages, str) else "".join(json.dumps(message) + "\n" for message in messages)
        (tmp_path / path).write_bytes(gzip.compress(text.encode()) if path.endswith(".gz") else text.encode())
        return read_source({"kind": "segment", "path": path, **settings}, replace(shop, path=tmp_path / "encore.toml"))

    return read_messages


def only(message: str, _properties: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A message of the file with other fields and properties."""
    found = {**MESSAGES[message], **changes}
    return {**found, "properties": {**found.get("properties", {}), **_properties}} if _properties is not None else found


def rows_of(batch: Batch, *events: str) -> pd.DataFrame:
    """The events of some names by their id, in the order of their ids and versions."""
    table = batch.events.to_pandas(types_mapper=None)
    return table[table["event"].isin(events)].sort_values(["event_id", "known_at"]).set_index("event_id")


def content(batch: Batch) -> list[str]:
    return sorted(map(repr, batch.events.to_pylist()))


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


# --- what is read ---------------------------------------------------------------------------------------------------


def test_every_line_is_an_event_or_refused(read):
    batch = read()
    assert batch.refused.to_numpy().tolist() == [
        ["segment.jsonl", 21, "event 'Product Clicked' is not one that Encore uses"],
        ["segment.jsonl", 22, "event 'Tile Tapped' is not mapped to a canonical event"],
        ["segment.jsonl", 23, "no user: neither userId nor anonymousId"],
        ["segment.jsonl", 24, "in USD, not in the shop's EUR; add rates"],
        ["segment.jsonl", 25, "not a JSON object"],
    ]
    counts = batch.events.to_pandas()["event"].value_counts().to_dict()
    assert counts == {
        **dict.fromkeys(("search", "list_view", "product_view", "cart_add", "checkout", "payment_info", "coupon_applied", "coupon_redeemed"), 1),
        **dict.fromkeys(("order_cancelled", "review_written", "rating", "share", "attribute_set"), 1),
        **dict.fromkeys(("session_start", "identified", "refund"), 2),
        **dict.fromkeys(("page_view", "order"), 3),
        "order_item": 4,
    }


def test_total_is_what_the_customer_paid(read):
    order = rows_of(read(), "order").loc["order-1001"]
    assert order[["user_id", "order_id", "value_cents", "quantity", "channel", "currency"]].tolist() == ["u1", "1001", 3390, 3, "Web Shop", "EUR"]


def test_revenue_is_without_shipping_and_tax_so_they_are_added(read):
    assert rows_of(read(), "order").loc["order-1002", "value_cents"].iloc[0] == 1010 + 220 + 70
    both = only("m10", {"total": 11})
    assert rows_of(read([both]), "order")["value_cents"].tolist() == [1100]  # total is not added to anything


def test_lines_are_price_times_quantity_and_equal_products_are_one_line(read):
    lines = rows_of(read(), "order_item")
    assert lines.loc["order_item-1001-soap", ["quantity", "value_cents", "order_id"]].tolist() == [2, 900, "1001"]
    assert lines.loc["order_item-1001-pan", ["quantity", "value_cents"]].tolist() == [1, 2000]
    assert lines.loc["order_item-1002-S-9", "quantity"].tolist() == [1, 1]  # by sku; no quantity is one piece


def test_a_discount_is_the_coupons_where_there_is_one(read):
    batch = read()
    orders = rows_of(batch, "order")
    assert orders.loc["order-1001", "coupon_cents"] == 200 and pd.isna(orders.loc["order-1001", "discount_cents"])
    assert orders["discount_cents"].dropna().tolist() == [100] and orders["coupon_cents"].dropna().tolist() == [200]
    assert rows_of(batch, "coupon_redeemed").loc["coupon_redeemed-1001", ["detail", "user_id", "order_id"]].tolist() == ["TEN", "u1", "1001"]
    assert rows_of(batch, "coupon_applied")["detail"].tolist() == ["TEN"]


def test_an_updated_order_is_a_later_version_of_the_same_order(read):
    versions = rows_of(read(), "order").loc["order-1002"]
    assert versions["value_cents"].tolist() == [1300, 1200]
    assert versions["occurred_at"].tolist() == [at("2025-10-02T10:00:00")] * 2
    assert versions["known_at"].tolist() == [at("2025-10-02T10:00:02"), at("2025-10-03T10:00:02")]
    assert rows_of(read(), "order_item").loc["order_item-1002-S-9", "value_cents"].tolist() == [1010, 910]


def test_a_refund_is_its_total_or_else_its_products(read):
    refunds = rows_of(read(), "refund")
    assert refunds[["order_id", "value_cents"]].to_numpy().tolist() == [["1001", 2000], ["1001", 900]]
    assert rows_of(read([only("m12", {"total": -20})]), "refund")["value_cents"].tolist() == [2000]


def test_a_cancellation_has_the_orders_id(read):
    assert rows_of(read(), "order_cancelled").loc["order_cancelled-1002", ["order_id", "user_id"]].tolist() == ["1002", "u2"]


def test_identify_says_who_the_visitor_is_and_sets_declared_attributes_that_are_whole_numbers(read):
    batch = read()
    assert rows_of(batch, "identified").loc["m06", ["user_id", "anonymous_id"]].tolist() == ["u1", "a1"]
    assert rows_of(batch, "attribute_set")[["user_id", "detail", "level"]].to_numpy().tolist() == [["u1", "age", 34]]
    assert rows_of(read([only("m06", traits={"age": "35.0"})]), "attribute_set")["level"].tolist() == [35]
    shop = replace(SHOP, attributes=("age", "plan"))
    batch = read(shop=shop)
    assert rows_of(batch, "attribute_set").index.tolist() == ["attribute_set-m06-age"]
    assert batch.refused.iloc[0].tolist() == ["segment.jsonl", 6, "attribute 'plan' is not a whole number"]
    assert rows_of(read([only("m06", userId=None, traits={"age": 5})]), "attribute_set")["anonymous_id"].tolist() == ["a1"]


def test_an_alias_says_that_the_previous_id_is_the_user(read):
    assert rows_of(read(), "identified").loc["m18", ["user_id", "anonymous_id"]].tolist() == ["u1", "ann@example.com"]


def test_visits_have_their_source_and_pages_of_the_shop_have_none(read):
    pages = rows_of(read(), "page_view", "session_start")[["source", "medium", "campaign"]].fillna("").apply(tuple, axis=1).to_dict()
    assert pages == {
        "m01": ("newsletter", "email", "Spring Sale"),
        "session_start-m01": ("newsletter", "email", "Spring Sale"),
        "m19": ("google", "cpc", ""),  # the app was opened by a link with a click id
        "m20": ("", "", ""),
        "m26": ("", "", ""),  # from one page of the shop to the next
    }


def test_the_campaign_of_the_context_goes_before_the_address(read):
    context = {"page": {"url": "https://shop.example/?gclid=1"}, "campaign": {"name": "May", "source": "Partner", "medium": "CPO"}}
    assert rows_of(read([only("m01", context=context)]), "page_view")[["source", "medium", "campaign"]].to_numpy().tolist() == [["partner", "cpo", "May"]]


def test_a_visit_begins_with_the_message_that_says_so_even_if_its_event_is_not_mapped(read):
    batch = read([only("m22", context={"sessionStart": True, "page": {"url": "https://shop.example/"}}), only("m02")])
    assert rows_of(batch, "session_start")[["source", "medium"]].to_numpy().tolist() == [["direct", "none"]]
    assert batch.refused["line"].tolist() == [1]


def test_details_say_what_was_searched_listed_and_shared(read):
    details = batch_details(read())
    assert details == {"search": "olive soap", "list_view": "bath", "share": "email", "coupon_applied": "TEN", "coupon_redeemed": "TEN", "attribute_set": "age"}


def batch_details(batch: Batch) -> dict[str, str]:
    rows = batch.events.to_pandas().dropna(subset=["detail"])
    return dict(zip(rows["event"], rows["detail"], strict=True))


def test_a_review_is_a_rating_where_it_has_stars(read):
    assert rows_of(read(), "rating")[["level", "product_id"]].to_numpy().tolist()[0][0] == 5
    assert rows_of(read([only("m16", {"rating": None}), only("m02")]), "rating").empty
    assert rows_of(read([only("m16", {"rating": 4.5})]), "rating")["level"].tolist() == [5]


def test_products_keep_what_was_last_said_of_each_fact(read):
    assert read().products.to_pylist() == [
        {"product_id": "pan", "category": "Kitchen", "brand": "Ferrum", "department": None},
        {"product_id": "soap", "category": "Bath", "brand": "Savon", "department": None},
    ]
    later = only("m04", {"category": "Soaps", "brand": None}, messageId="n", timestamp="2025-10-09T00:00:00Z")
    assert read([*MESSAGES.values(), later]).products.to_pylist()[1] == {"product_id": "soap", "category": "Soaps", "brand": "Savon", "department": None}


def test_all_events_of_the_specification_are_known(read):
    assert {"Products Searched", "Promotion Viewed", "Coupon Denied", "Cart Shared", "Wishlist Product Added to Cart"} <= NAMES.keys()
    assert {"Checkout Step Viewed", "Coupon Entered", "Product Removed from Wishlist"} <= UNUSED
    assert not NAMES.keys() & UNUSED


# --- times ----------------------------------------------------------------------------------------------------------


def test_a_wrong_device_clock_is_corrected_by_when_the_message_was_sent(read):
    opened = rows_of(read(), "session_start").loc["m19"]
    assert opened["occurred_at"] == at("2025-10-08T21:30:00")  # a minute before it was received
    assert opened["known_at"] == at("2025-10-08T21:31:00")


def test_known_is_when_it_was_received_or_else_when_it_happened(read):
    assert rows_of(read(), "search")["known_at"].tolist() == [at("2025-10-01T08:01:01")]
    assert rows_of(read([only("m02", receivedAt=None)]), "search")["known_at"].tolist() == [at("2025-10-01T08:01:00")]


def test_a_late_message_keeps_when_it_happened(read):
    late = rows_of(read([only("m02", receivedAt="2025-10-09T00:00:00Z")]), "search")
    assert late[["occurred_at", "known_at"]].iloc[0].tolist() == [at("2025-10-01T08:01:00"), at("2025-10-09T00:00:00")]


def test_times_have_an_offset_or_a_declared_zone(read):
    naive = only("m02", timestamp="2025-10-01 10:01:00", receivedAt=None)
    assert rows_of(read([naive], time_zone="Europe/Berlin"), "search")["occurred_at"].tolist() == [at("2025-10-01T08:01:00")]
    with pytest.raises(InvalidTable, match="time_zone"):
        read([naive])


def test_complete_until_is_declared_or_the_day_of_the_last_event(read):
    assert read().complete_until == date(2025, 10, 8)
    assert read([only("m02", timestamp="2025-10-08T22:30:00Z", receivedAt="2025-10-08T22:31:00Z")]).complete_until == date(2025, 10, 9)  # in Berlin
    assert read(complete_until="2025-10-01").complete_until == date(2025, 10, 1)
    future = only("m02", messageId="n", timestamp="2031-01-01T00:00:00Z")
    assert read([only("m01"), future]).complete_until == date(2025, 10, 1)


# --- again and again ------------------------------------------------------------------------------------------------


def test_a_message_sent_again_is_the_same_event_and_known_since_it_first_came(read):
    again = only("m09", receivedAt="2025-10-05T00:00:00Z", sentAt="2025-10-05T00:00:00Z")
    for messages in ([only("m09"), again], [again, only("m09")]):
        batch = read(messages)
        assert set(content(batch)) == set(content(read([only("m09")])))
        assert len(rows_of(batch, "order")) == 2  # the log counts the second as a duplicate


def test_a_retry_without_timestamp_happened_when_the_first_one_did(read):
    again = only("m20", sentAt="2001-01-01T00:02:00.100Z", receivedAt="2025-10-08T21:31:55.400Z")
    assert rows_of(read([again, only("m20")]), "page_view")["occurred_at"].nunique() == 1


def test_a_confirmation_page_opened_twice_is_one_order(read):
    again = only("m09", messageId="m99", timestamp="2025-10-02T08:00:00Z", receivedAt="2025-10-02T08:00:01Z")
    orders = rows_of(read([only("m09"), again]), "order")
    assert orders.drop(columns="known_at").drop_duplicates().index.tolist() == ["order-1001"]
    assert orders["occurred_at"].unique().tolist() == [at("2025-10-01T08:07:00")]


def test_two_refunds_of_an_order_are_two(read):
    assert rows_of(read([only("m12"), only("m12", messageId="m98")]), "refund")["value_cents"].tolist() == [2000, 2000]


def test_lines_in_any_order_are_the_same_batch(read):
    first = read()
    for seed in range(3):
        other = read("\n".join(random.Random(seed).sample(LINES, len(LINES))) + "\n")
        assert content(other) == content(first)
        assert other.products == first.products and other.quarantined == first.quarantined and other.complete_until == first.complete_until


def test_compressed_files_and_files_with_a_byte_order_mark_are_the_same(read):
    assert content(read(path="segment.jsonl.gz")) == content(read("\ufeff" + TEXT)) == content(read(TEXT.replace("\n", "\r\n\r\n")))


# --- money ----------------------------------------------------------------------------------------------------------


def test_the_yen_has_no_cents(read):
    batch = read([only("m09", {"currency": "JPY", "total": 3390, "discount": 200})], shop=replace(SHOP, currency="JPY"))
    assert rows_of(batch, "order")[["value_cents", "coupon_cents"]].to_numpy().tolist() == [[3390, 200]]


def test_amounts_are_exact_and_rounded_half_up(read):
    written = {"1.005": 101, "0.285": 29, "33.9": 3390, "4.35": 435, "3.3000000000000003": 330, "999999999.99": 99999999999, '"12.34"': 1234, "1e2": 10000}
    orders = [json.dumps(only("m09", {"order_id": str(place)})).replace('"total": 33.9', f'"total": {text}') for place, text in enumerate(written)]
    assert rows_of(read("\n".join(orders)), "order")["value_cents"].tolist() == list(written.values())


def test_lines_are_rounded_once_at_the_end(read):
    products = [{"product_id": "nail", "price": 0.005, "quantity": 300}]
    assert rows_of(read([only("m09", {"products": products})]), "order_item")["value_cents"].tolist() == [150]


def test_amounts_without_a_currency_need_a_declared_one(read):
    nameless = only("m09", {"currency": None})
    assert list(read([nameless, only("m02")]).quarantined) == ['no currency (declare what amounts without one are in: currency = "EUR")']
    assert rows_of(read([nameless], currency="EUR"), "order")["value_cents"].tolist() == [3390]


# --- the shop's own names -------------------------------------------------------------------------------------------


def test_the_shop_maps_its_own_names(read):
    stars = only("m22", {"product_id": "soap", "level": 4, "detail": "tile"}, messageId="n")
    batch = read([stars, only("m21")], events={"Tile Tapped": "rating", "Product Clicked": "product_view"})
    rows = rows_of(batch, "rating", "product_view")
    assert rows["event"].to_dict() == {"n": "rating", "m21": "product_view"} and rows.loc["n", "detail"] == "tile"
    assert rows_of(read([stars], events={"Tile Tapped": "tier_changed"}), "tier_changed")["level"].tolist() == [4]
    paid = only("m09", event="Paid")
    assert rows_of(read([paid], events={"Paid": "order"}), "order")["value_cents"].tolist() == [3390]


# --- what is refused ------------------------------------------------------------------------------------------------


REFUSED = [
    (only("m02", messageId=None), "no messageId: the message sent again could not be told from another one"),
    (only("m02", type="group"), "type 'group' is not one that Encore uses"),
    (only("m02", type=None), "no type"),
    (only("m02", event=None), "no event name"),
    (only("m02", anonymousId="  "), "no user: neither userId nor anonymousId"),
    (only("m02", userId={"$oid": "1"}), "an id that is an object or a list"),
    (only("m02", timestamp=None), "no time: neither timestamp, nor receivedAt, sentAt and originalTimestamp"),
    (only("m02", timestamp="yesterday"), "'timestamp' is not an ISO 8601 time"),
    (only("m06", userId=None, traits={}), "an identify without a second id or a declared attribute"),
    (only("m18", previousId=None), "an alias without userId or previousId"),
    (only("m09", {"order_id": None, "products": []}), "no order id"),
    (only("m09", {"total": None, "revenue": None}), "no amount"),
    (only("m09", {"total": "a lot"}), "'total' is not an amount"),
    (only("m09", {"total": {"amount": 3}}), "'total' is not an amount"),
    (only("m09", {"total": 0}), "not a paid order (its total is zero or less)"),
    (only("m13", {"products": None}), "no amount"),
    (only("m12", {"total": 0}), "a refund of nothing"),
    (only("m14", {"order_id": None}), "a cancellation without an order id"),
]


def test_a_message_that_cannot_be_used_is_refused_with_its_line(read):
    batch = read([only("m01"), *(message for message, _ in REFUSED)])
    assert batch.refused[["line", "reason"]].to_numpy().tolist() == [[line, reason] for line, (_, reason) in enumerate(REFUSED, 2)]
    assert set(rows_of(batch, "page_view", "session_start").index) == {"m01", "session_start-m01"} and batch.events.num_rows == 2


BAD_LINES = [
    ({"price": 1}, "a line without a product"),
    ({"product_id": "x"}, "a line without an amount"),
    ({"product_id": "x", "price": "free"}, "'price' is not an amount"),
    ({"product_id": "x", "price": 1, "quantity": 0}, "a line with a quantity of zero or less"),
    ({"product_id": "x", "price": 1, "quantity": 1.5}, "'quantity' is not a whole number"),
    ("x", "a line without a product"),
]


def test_a_line_that_cannot_be_used_leaves_the_order(read):
    pan = {"product_id": "pan", "price": 20}
    batch = read([only("m01"), *(only("m09", {"order_id": str(place), "products": [pan, product]}) for place, (product, _) in enumerate(BAD_LINES))])
    assert batch.refused[["line", "reason"]].to_numpy().tolist() == [[line, reason] for line, (_, reason) in enumerate(BAD_LINES, 2)]
    assert rows_of(batch, "order_item").index.tolist() == [f"order_item-{place}-pan" for place in range(6)] and len(rows_of(batch, "order")) == 6


def test_lines_that_are_not_objects_are_refused_one_by_one(read):
    bad = ["7", "[]", '"text"', "null", '{"a":', r'{"a": "\ud83d"}', "{} {}", "\x00"]
    batch = read("\n".join([LINES[1], *bad, "", LINES[0]]))
    assert batch.refused["line"].tolist() == list(range(2, 10))
    assert batch.quarantined == {"not a JSON object": 8}
    assert set(rows_of(batch, "search", "page_view").index) == {"m01", "m02"}


def test_bytes_that_are_not_utf8_are_refused_with_their_line(read, tmp_path):
    read()
    (tmp_path / "segment.jsonl").write_bytes(LINES[0].encode() + b'\n{"type": "\xff"}\n')
    batch = read_source({"kind": "segment", "path": "segment.jsonl"}, replace(SHOP, path=tmp_path / "encore.toml"))
    assert batch.refused["line"].tolist() == [2]


def test_a_file_of_something_else_is_refused_with_all_problems(read):
    with pytest.raises(InvalidTable) as caught:
        read([{"message_id": "1", "kind": "track", "timestamp": "soon"}], complete_until="soon", currency="euro", own_domains="shop.example")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 6
    for expected in (
        "Unknown field 'messageId'. Did you mean 'message_id'?",
        "Unknown field 'type'",
        "currency is 'euro'",
        "own_domains",
        "complete_until",
        "'soon'",
    ):
        assert expected in text
    with pytest.raises(InvalidTable, match="not one line is a JSON object"):
        read("id,type\n1,track\n")
    with pytest.raises(InvalidTable, match=r"Did you mean 'segment\.jsonl'"):
        read_source({"kind": "segment", "path": "segment.json"}, replace(SHOP, path=Path(__file__).parents[1] / "data" / "encore.toml"))
    with pytest.raises(InvalidTable, match="damaged"):
        read(TEXT, path="segment.parquet")
    with pytest.raises(InvalidTable, match="cannot be read"):
        read(TEXT, path="segment.csv")


def test_a_file_without_anything_to_use_is_no_data(read):
    for text in ("", "\n\n"):
        with pytest.raises(NoUsableData, match="no records"):
            read(text)
    with pytest.raises(NoUsableData, match="no usable message"):
        read([only("m22")])
