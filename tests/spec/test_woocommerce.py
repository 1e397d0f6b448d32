"""What ten orders of WooCommerce's REST API say. The file is tests/data/woocommerce_orders.json.

1001, 1002: customer 12 buys for 33.90 and, with a coupon, for 16.00; 1003 is a guest with the same address. 1004, 1005: the
guest bob buys for 20.00, of which 5.00 and 2.50 are refunded, and cancels 4.50. 1006: refunded in full. 1007: cancelled
before it was paid. 1008: pending. 1009: a guest without contact. 1010: dollars.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import InvalidTable, NoUsableData
from features.events import EventLog
from features.ingest import ingest_sources
from features.shopfile import Shop
from features.sources import read_source
from features.sources.batch import Batch
from features.workspace import open_workspace

ORDERS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "woocommerce_orders.json").read_text())
SHOP = Shop("Berlin", "Europe/Berlin", "EUR")
ANN, BOB = (sha256(contact.encode()).hexdigest() for contact in ("ann@example.com", "bob@example.com"))
Read = Callable[..., Batch]


def write(path: Path, text: str) -> None:
    """Write an export as it was made on 2025-10-09 at noon, UTC."""
    path.write_text(text)
    moment = datetime(2025, 10, 9, 12, tzinfo=UTC).timestamp()
    os.utime(path, (moment, moment))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Orders, or the text of a file -> Batch."""

    def read_orders(orders: Sequence[Any] | str = ORDERS, shop: Shop = SHOP, **settings: Any) -> Batch:
        write(tmp_path / "orders.json", orders if isinstance(orders, str) else json.dumps(orders))
        return read_source({"kind": "woocommerce", "path": "orders.json", **settings}, replace(shop, path=tmp_path / "encore.toml"))

    return read_orders


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log", SHOP.zone, SHOP.currency)


def rows_of(batch: Batch, event: str) -> pd.DataFrame:
    """The events of one name, with the order's number as index."""
    table = batch.events.to_pandas()
    table = table[table["event"] == event].sort_values("event_id")
    return table.set_index(table["order_id"].str.removeprefix("woocommerce-").astype("int64"))


def only(number: int, **changes: Any) -> dict[str, Any]:
    return {**next(order for order in ORDERS if order["id"] == number), **changes}


# --- what is read ---------------------------------------------------------------------------------------------------


def test_paid_orders_are_orders_of_customers_and_of_guests_by_their_address(read):
    orders = rows_of(read(), "order")
    assert orders["value_cents"].to_dict() == {1001: 3390, 1002: 1600, 1003: 450, 1004: 2000, 1005: 450, 1006: 2000}
    users = {1001: "customer-12", 1002: "customer-12", 1003: ANN, 1004: BOB, 1005: BOB, 1006: "customer-13"}
    assert orders["user_id"].to_dict() == users


def test_what_is_left_out_is_counted(read):
    assert dict(read().quarantined) == {
        "no customer: neither an e-mail address nor a phone number": 1,
        "not a paid order (status 'cancelled')": 1,
        "not a paid order (status 'pending')": 1,
        "in USD, not in the shop's EUR; add rates": 1,
    }


def test_an_order_left_out_is_named_by_the_line_on_which_it_begins(read):
    lines = [json.dumps(order) for order in ORDERS]
    numbers = {order["id"]: line for line, order in enumerate(ORDERS, 1)}
    left_out = sorted(numbers[number] for number in (1007, 1008, 1009, 1010))
    assert read("\n".join(lines)).refused["line"].tolist() == left_out
    assert read("[\n" + ",\n".join(lines) + "\n]").refused["line"].tolist() == [line + 1 for line in left_out]
    assert read("[" + ", ".join(lines) + "]").refused["line"].tolist() == [1, 1, 1, 1]
    indented = json.dumps([only(1001), only(1007)], indent=1)
    assert read(indented).refused["line"].tolist() == [len(json.dumps([only(1001)], indent=1).splitlines())]
    # A line separator within a text is no end of a line.
    odd = json.dumps(only(1001, customer_note="a\u2028b"), ensure_ascii=False)
    assert read(odd + "\n" + json.dumps(only(1007))).refused["line"].tolist() == [2]


def test_times_are_utc_whatever_the_zone_of_the_site(read):
    orders = rows_of(read(), "order")
    assert orders.loc[1001, "occurred_at"] == orders.loc[1001, "known_at"] == pd.Timestamp("2025-10-01T07:50:30Z")
    assert orders.loc[1003, "occurred_at"] == pd.Timestamp("2025-10-05T08:00:00Z")  # not paid yet: cash on delivery


def test_coupons_are_not_discounts(read):
    orders = rows_of(read(), "order")
    assert orders.loc[1002, ["coupon_cents", "discount_cents"]].tolist() == [200, 0]
    more = rows_of(read([only(1002, discount_total="3.00")]), "order")
    assert more.loc[1002, ["coupon_cents", "discount_cents"]].tolist() == [200, 100]


def test_lines_have_what_they_cost_after_the_coupon(read):
    lines = rows_of(read(), "order_item")
    assert lines.loc[[1001], ["product_id", "quantity", "value_cents"]].to_numpy().tolist() == [["7", 2, 900], ["8", 1, 2000]]
    assert lines.loc[1002, ["product_id", "quantity", "value_cents", "coupon_cents"]].tolist() == ["7", 4, 1600, 200]
    unnumbered = [{**ORDERS[0]["line_items"][0], "product_id": 0}]
    assert rows_of(read([only(1001, line_items=unnumbered)]), "order_item")["product_id"].tolist() == ["Olive soap"]


def test_every_refund_is_an_event_of_the_day_the_order_last_changed(read):
    refunds = rows_of(read(), "refund")
    assert refunds["value_cents"].tolist() == [500, 250, 2000]  # the last one: refunded in full, without a list
    assert refunds.loc[[1004], "known_at"].tolist() == [pd.Timestamp("2025-10-07T09:00:00Z")] * 2


def test_a_cancellation_after_payment_is_an_event_and_leaves_nothing_to_refund(read):
    batch = read()
    assert rows_of(batch, "order_cancelled")["occurred_at"].to_dict() == {1005: pd.Timestamp("2025-10-07T10:00:00Z")}
    assert 1005 not in rows_of(batch, "refund").index


def test_the_yen_has_no_cents(read):
    assert rows_of(read([only(1001, total="3390", currency="JPY")], shop=replace(SHOP, currency="JPY")), "order")["value_cents"].tolist() == [3390]


def test_the_day_of_the_last_created_order_is_not_complete(read):
    assert read().complete_until == date(2025, 10, 8)  # 23:00 UTC is the next day in Berlin
    assert read(complete_until="2025-10-07").complete_until == date(2025, 10, 7)


# --- again and again ------------------------------------------------------------------------------------------------


def test_an_array_and_lines_in_any_order_are_the_same_and_twice_is_once(read, log, tmp_path):
    assert log.append(read()).added == 6 + 7 + 1 + 3
    digest = log.digest
    assert log.append(read()).added == 0
    for seed in range(3):
        other = EventLog(tmp_path / f"log{seed}", SHOP.zone, SHOP.currency)
        shuffled = random.Random(seed).sample(ORDERS, len(ORDERS))
        other.append(read("\n".join(json.dumps(order) for order in shuffled) + "\n"))
        assert other.digest == log.digest == digest


def test_an_order_exported_again_adds_only_what_is_new(read, log):
    assert log.append(read([only(1001, status="processing")])).added == 3
    first, second = {"id": 1, "reason": "", "total": "-10.00"}, {"id": 2, "reason": "", "total": "-15.00"}
    assert log.append(read([only(1001, refunds=[first])])).added == 1
    assert log.append(read([only(1001, refunds=[first, second])])).added == 1
    assert log.append(read([only(1001, status="cancelled", refunds=[first, second])])).added == 1
    assert log.manifest["events"] == {"order": 0, "order_item": 0, "refund": 2, "order_cancelled": 1}  # what stands at the end


def test_of_an_order_that_the_file_has_twice_the_last_state_counts(read):
    later = only(1001, status="cancelled", date_modified_gmt="2025-10-08T00:00:00")
    for orders in ([only(1001), later], [later, only(1001)]):
        batch = read(orders)
        assert len(rows_of(batch, "order")) == len(rows_of(batch, "order_cancelled")) == 1
        assert rows_of(batch, "order_item")["quantity"].tolist() == [2, 1]
        assert dict(batch.quarantined) == {"an earlier state of an order that the file has again": 1}


# --- what is refused ------------------------------------------------------------------------------------------------


def test_fields_that_are_missing_are_listed_together_with_the_nearest_names(read):
    renamed = [{("customerId" if name == "customer_id" else name): value for name, value in order.items() if name != "refunds"} for order in ORDERS]
    with pytest.raises(InvalidTable) as caught:
        read([*renamed, 7], complete_until="soon")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for expected in ("'customer_id'. Did you mean 'customerId'?", "Unknown field 'refunds'", "1 of 11 entries are not JSON objects", "'soon'"):
        assert expected in text


def test_a_file_that_is_not_json_is_refused(read):
    with pytest.raises(InvalidTable, match="neither a JSON array nor one JSON object a line"):
        read("id,status\n1,paid\n")
    with pytest.raises(InvalidTable, match=r"Did you mean 'orders\.json'"):
        read(path="order.json")
    with pytest.raises(NoUsableData, match="no orders"):
        read([])


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"total": "a lot"}, "'total' is not an amount"),
        ({"total": "0.00"}, "not a paid order (its total is zero or less)"),
        ({"id": None}, "no order id"),
        ({"currency": ""}, "no currency"),
        ({"billing": None}, "no customer: neither an e-mail address nor a phone number"),
        ({"date_paid_gmt": "0000-00-00T00:00:00"}, "'date_paid_gmt' is not an ISO 8601 time"),
        ({"date_paid_gmt": "2025-12-01T00:00:00"}, "happened after the file was written (a wrong date of the file?)"),
        ({"refunds": [{"id": 1, "total": "some"}]}, "a refund without a readable amount"),
        ({"coupon_lines": [{"id": 1}]}, "a coupon without a readable amount"),
        ({"status": "on-hold"}, "not a paid order (status 'on-hold')"),
    ],
)
def test_an_order_that_cannot_be_used_is_left_out_and_counted(read, changes, reason):
    batch = read([only(1004, **changes), only(1001)])
    assert batch.quarantined == {reason: 1}
    assert rows_of(batch, "order").index.tolist() == [1001]


# --- the whole way --------------------------------------------------------------------------------------------------


def test_from_the_export_to_a_vector(tmp_path):
    workspace = open_workspace(tmp_path, environment={})
    workspace.shop_file.write_text('name = "Berlin"\nzone = "Europe/Berlin"\ncurrency = "EUR"\n[[sources]]\nkind = "woocommerce"\npath = "orders.json"\n')
    write(tmp_path / "orders.json", json.dumps(ORDERS))
    ingest_sources(workspace)
    tiles = workspace.tiles(workspace.shop())

    def features(day: int, user: str) -> list[float]:
        return workspace.snapshots.get(tiles, date(2025, 10, day)).frame.loc[user, ["orders_count", "orders_revenue", "satisfaction_refunds"]].tolist()

    assert features(8, "customer-12") == [2, 4990, 0]
    assert features(7, BOB) == [2, 2450, 0]  # cancelled and refunded on this day: the day before does not know
    assert features(8, BOB) == [1, 2000, 2]
