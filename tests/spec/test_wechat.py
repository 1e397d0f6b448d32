"""What eighteen reports of a WeChat mini-program say. The file is tests/data/wechat.jsonl, with amounts in fen.

oA1, whose unionid is uA, looks, puts two pairs of shoes into the cart, takes one out and pays 84.00 for two products; 64.00 are
refunded. oB2 pays 10.00 and cancels. oC3 pays nothing. The rest cannot be used.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import InvalidTable, NoUsableData
from features.shopfile import Shop, read_shop
from features.sources import read_source
from features.sources.batch import Batch

ROOT = Path(__file__).parents[2]
REPORTS: list[dict[str, Any]] = [json.loads(line) for line in (ROOT / "tests" / "data" / "wechat.jsonl").read_text(encoding="utf-8").splitlines()]
SHOP = Shop("Shanghai", "Asia/Shanghai", "CNY")
Read = Callable[..., Batch]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reports -> Batch."""

    def read_reports(reports: Sequence[dict[str, Any]] = REPORTS, shop: Shop = SHOP, **settings: Any) -> Batch:
        path = tmp_path / "wechat.jsonl"
        path.write_text("\n".join(json.dumps(report, ensure_ascii=False) for report in reports) + "\n", encoding="utf-8")
        moment = datetime(2024, 5, 3, tzinfo=UTC).timestamp()
        os.utime(path, (moment, moment))
        given = {"kind": "wechat", "path": "wechat.jsonl", "time_unit": "ms", "amount_unit": "fen", **settings}
        return read_source({name: value for name, value in given.items() if value is not None}, replace(shop, path=tmp_path / "encore.toml"))

    return read_reports


def rows_of(batch: Batch, event: str) -> pd.DataFrame:
    table = batch.events.to_pandas()
    return table[table["event"] == event].sort_values("event_id").reset_index(drop=True)


def paid(number: int = 8, **parameters: Any) -> dict[str, Any]:
    """A report of the file with other parameters."""
    report = REPORTS[number - 1]
    return {**report, "params": {**report["params"], **parameters}}


# --- what is read -----------------------------------------------------------------------------------------------------


def test_purchase_goods_is_a_change_of_the_cart_and_no_purchase(read):
    batch = read(REPORTS[:6])
    assert rows_of(batch, "cart_add")[["product_id", "quantity"]].to_numpy().tolist() == [["3001", 2]]
    assert rows_of(batch, "cart_remove")[["product_id", "quantity"]].to_numpy().tolist() == [["3001", 1]]
    assert rows_of(batch, "order").empty
    assert len(rows_of(batch, "checkout")) == len(rows_of(batch, "list_view")) == len(rows_of(batch, "product_view")) == 1
    unknown = read([paid(4, action_type=None), paid(4, action_type=9)])
    assert len(rows_of(unknown, "cart_add")) == 1
    assert dict(unknown.quarantined) == {"action_type '9' of the cart is not known": 1}


def test_an_order_is_one_however_many_products_and_reports_it_has(read):
    batch = read()
    orders = rows_of(batch, "order")
    assert orders[["event_id", "user_id", "value_cents", "quantity"]].to_numpy().tolist() == [["order-W100", "uA", 8400, 4], ["order-W101", "oB2", 1000, 1]]
    assert orders.loc[0, "occurred_at"] == pd.Timestamp("2024-05-01T08:01:10Z")
    items = rows_of(batch, "order_item")
    assert items[["event_id", "quantity", "value_cents"]].to_numpy().tolist() == [
        ["order_item-W100-3001", 1, 5400],
        ["order_item-W100-3009", 3, 3000],
        ["order_item-W101-3009", 1, 1000],
    ]


def test_sizes_of_one_product_are_one_line(read):
    batch = read([paid(), paid(sku_id="3001-43", sku_pay_amt=3000, sku_count=2)])
    assert rows_of(batch, "order_item")[["product_id", "quantity", "value_cents"]].to_numpy().tolist() == [["3001", 3, 8400]]
    assert rows_of(read([paid(sku_pay_amt=None, sku_count=2)]), "order_item")["value_cents"].tolist() == [11800]  # price x pieces


def test_a_cancellation_and_a_refund_are_one_each(read):
    batch = read()
    assert rows_of(batch, "order_cancelled")[["event_id", "user_id"]].to_numpy().tolist() == [["order_cancelled-W101", "oB2"]]
    assert rows_of(batch, "refund")[["event_id", "value_cents"]].to_numpy().tolist() == [["refund-W100-R7", 6400]]
    without_id = [paid(11, refund_order_id=None), paid(12, refund_order_id=None)]
    assert sorted(rows_of(read(without_id), "refund")["value_cents"]) == [1000, 5400]
    assert dict(read([paid(11, refund_amt=None), paid()]).quarantined) == {"a refund without an amount": 1}


def test_a_person_is_the_unionid_and_else_the_openid(read):
    batch = read()
    assert rows_of(batch, "product_view")[["user_id", "anonymous_id"]].fillna("-").to_numpy().tolist() == [["oA1", "-"]]
    assert rows_of(batch, "cart_add")[["user_id", "anonymous_id"]].to_numpy().tolist() == [["uA", "oA1"]]


def test_products_have_the_categories_of_the_latest_report_that_names_them(read):
    assert read().products.to_pandas().set_index("product_id").loc["3001", ["category", "department"]].tolist() == ["帆布鞋", "鞋"]


def test_what_is_left_out_has_its_line_and_its_reason(read):
    assert read().refused.to_numpy().tolist() == [
        ["wechat.jsonl", 2, "wxdata_click_goods is reported again as wxdata_browse_goods"],
        ["wechat.jsonl", 7, "order_status '3' is no payment, cancellation or refund"],
        ["wechat.jsonl", 16, "not a paid order (its total is zero or less)"],
        ["wechat.jsonl", 17, "neither an openid nor a unionid"],
        ["wechat.jsonl", 18, "event 'my_own_event' is not mapped to a canonical event"],
    ]
    assert read().complete_until == date(2024, 5, 2)
    own = read(events={"my_own_event": "support", "wxdata_click_goods": "product_view"})
    assert (len(rows_of(own, "support")), len(rows_of(own, "product_view"))) == (1, 2)


# --- what accounts do differently -------------------------------------------------------------------------------------


def test_statuses_are_the_accounts_own(read):
    reports = [paid(order_status="PAID"), paid(order_status="BACK", order_id="W9"), paid(order_status="PAID", order_id="W9")]
    batch = read(reports, statuses={"PAID": "order", "BACK": "refund"})
    assert rows_of(batch, "order")["order_id"].tolist() == ["W100", "W9"]
    assert rows_of(batch, "refund")[["event_id", "value_cents"]].to_numpy().tolist() == [["refund-W9-all", 8400]]
    with pytest.raises(InvalidTable) as caught:
        read(reports)
    assert "status that means paid (11)" in caught.value.problems[0]
    assert "PAID (2 lines), BACK (1 lines)" in caught.value.problems[0]


def test_amounts_in_yuan_and_in_other_currencies(read, tmp_path):
    assert rows_of(read([paid(pay_amt="84.005")], amount_unit="yuan"), "order")["value_cents"].tolist() == [8401]
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2024-01-01,CNY,0.128\n")
    euros = read([paid()], replace(SHOP, currency="EUR", rates="rates.csv"))
    assert rows_of(euros, "order")[["value_cents", "currency"]].to_numpy().tolist() == [[1075, "EUR"]]
    with pytest.raises(NoUsableData, match="in CNY, not in the shop's EUR; add rates"):
        read([paid()], replace(SHOP, currency="EUR"))


def test_times_need_a_unit_or_a_zone(read):
    with pytest.raises(InvalidTable, match="declare what they count since 1970: time_unit"):
        read(time_unit=None)
    local = [{**paid(), "time": "2024-05-01 16:01:10"}]
    with pytest.raises(InvalidTable, match="declare it: time_zone"):
        read(local)
    assert rows_of(read(local, time_zone="Asia/Shanghai"), "order")["occurred_at"].tolist() == [pd.Timestamp("2024-05-01T08:01:10Z")]


def test_all_settings_that_are_wrong_are_listed(read):
    with pytest.raises(InvalidTable) as caught:
        read(amount_unit=None, time_unit="minutes", statuses={"11": "paid", "250": "order_canceled"}, complete_until="soon")
    text = "\n".join(caught.value.problems)
    for expected in ('amount_unit = "fen"', "'minutes'", "status 11: Unknown meaning 'paid'", "Did you mean 'order_cancelled'?", "'soon'"):
        assert expected in text


# --- again and again --------------------------------------------------------------------------------------------------


def test_neither_the_order_of_lines_nor_of_keys_changes_anything(read):
    expected = read().events.sort_by("event_id")
    for seed in range(3):
        shuffled = [dict(random.Random(seed).sample(list(each.items()), len(each))) for each in random.Random(seed).sample(REPORTS, len(REPORTS))]
        assert read(shuffled).events.sort_by("event_id").equals(expected)


def test_the_example_reads_the_file(tmp_path):
    for name in ("examples/wechat.toml", "tests/data/wechat.jsonl"):
        shutil.copy(ROOT / name, tmp_path)
    shop = read_shop(tmp_path / "wechat.toml")
    assert read_source(shop.sources[0], shop).events.num_rows == 13
