"""Amounts in other currencies. The rates are tests/data/rates.csv: a dollar is .9237 euros from 1 March 2024, .9213 from the 4th."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import InvalidShopFile, InvalidTable, NoUsableData
from features.rates import convert, read_rates
from features.shopfile import Shop, read_shop
from features.sources import read_source
from features.sources.batch import Batch, canonical_events

DATA = Path(__file__).parents[1] / "data"
COLUMNS = {"user_id": "who", "order_id": "order", "occurred_at": "time", "amount": "total", "currency": "currency"}
Read = Callable[..., Batch]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shutil.copy(DATA / "rates.csv", tmp_path / "rates.csv")
    return Shop("Berlin", "Europe/Berlin", "EUR", rates="rates.csv", path=tmp_path / "encore.toml")


@pytest.fixture
def read(shop: Shop) -> Read:
    """Orders as (time, total, currency) -> Batch."""

    def read_orders(*orders: tuple[str, str, str], shop: Shop = shop, **settings: Any) -> Batch:
        lines = [f"ann,{number},{time},{total},{currency}" for number, (time, total, currency) in enumerate(orders, 1)]
        (shop.path.parent / "orders.csv").write_text("\n".join(["who,order,time,total,currency", *lines]) + "\n")
        return read_source({"kind": "table", "path": "orders.csv", "rows": "orders", "columns": COLUMNS, **settings}, shop)

    return read_orders


def cents(batch: Batch) -> list[int]:
    table = batch.events.to_pandas()
    assert table["currency"].eq("EUR").all()
    return [int(value) for value in table.sort_values("order_id")["value_cents"]]


# --- what an amount is worth ------------------------------------------------------------------------------------------


def test_an_amount_counts_at_the_latest_rate_on_or_before_its_day(read):
    orders = [(f"2024-03-0{day}T12:00:00Z", "100", currency) for day, currency in ((1, "USD"), (3, "USD"), (4, "usd"))]
    assert cents(read(*orders)) == [9237, 9237, 9213]


def test_the_day_is_that_of_the_shops_zone(read, shop):
    late = ("2024-03-03T23:30:00Z", "100", "USD")  # half past midnight in Berlin
    assert cents(read(late)) == [9213]
    assert cents(read(late, shop=replace(shop, zone="UTC"))) == [9237]


def test_each_currency_has_its_own_digits(read):
    moment = "2024-03-02T12:00:00Z"
    assert cents(read((moment, "1000", "JPY"), (moment, "1.005", "KWD"), (moment, "10.00", "EUR"))) == [616, 302, 1000]  # 6.161 and 3.01751 euros


@pytest.mark.parametrize("total, currency, expected", [("1.00", "EUR", 162), ("0.005", "EUR", 2), ("-1", "EUR", 0)])
def test_a_shop_in_yen_has_whole_yen(read, shop, total, currency, expected):
    (shop.path.parent / "rates.csv").write_text("date,currency,rate\n2024-01-01,EUR,161.5\n")
    orders = [("2024-03-01T12:00:00Z", total, currency), ("2024-03-01T12:00:00Z", "500", "JPY")]
    values = read(*orders, shop=replace(shop, currency="JPY")).events.to_pandas().set_index("order_id")["value_cents"]
    assert int(values.get("1", 0)) == expected
    assert int(values["2"]) == 500


def test_rounding_is_half_up_and_exact(shop):
    (shop.path.parent / "rates.csv").write_text("date,currency,rate\n2024-01-01,USD,0.5\n2024-01-01,GBP,1.000000000001\n")
    values = [(1, "USD", 1), (3, "USD", 2), (-3, "USD", -2), (2, "USD", 1), (899_999_999_999_999, "GBP", 900_000_000_000_899)]
    rows = pd.DataFrame(values, columns=["value_cents", "currency", "expected"]).assign(event="refund", user_id="ann")
    rows = rows.assign(event_id=list("abcde"), occurred_at=pd.Timestamp("2024-03-01", tz="UTC"))
    batch = convert(Batch("orders", canonical_events(rows), date(2024, 3, 2)), shop)
    assert batch.events["value_cents"].to_pylist() == [expected for *_, expected in values]


def test_discounts_and_coupons_are_converted_like_the_value_and_empty_stays_empty(shop):
    rows = pd.DataFrame(
        [
            {"event_id": "a", "event": "order", "value_cents": 1000, "coupon_cents": 500, "currency": "USD"},
            {"event_id": "b", "event": "order", "value_cents": 1000, "discount_cents": 100, "currency": None},
            {"event_id": "c", "event": "product_view", "currency": "XXX"},
        ]
    ).assign(user_id="ann", occurred_at=pd.Timestamp("2024-03-02", tz="UTC"))
    for name in ("value_cents", "coupon_cents", "discount_cents"):
        rows[name] = rows[name].astype("Int64")
    events = convert(Batch("orders", canonical_events(rows), date(2024, 3, 2)), shop).events
    assert events["value_cents"].to_pylist() == [924, 1000, None]
    assert events["coupon_cents"].to_pylist() == [462, None, None]
    assert events["discount_cents"].to_pylist() == [None, 100, None]
    assert events["currency"].to_pylist() == ["EUR", None, "EUR"]  # without an amount there is nothing to convert


# --- what is left out -------------------------------------------------------------------------------------------------


def test_without_a_rate_that_early_a_row_is_left_out_with_its_line(read):
    batch = read(("2024-03-01T12:00:00Z", "100", "USD"), ("2024-02-29T22:59:00Z", "100", "USD"), ("2024-03-01T12:00:00Z", "5", "CHF"))
    assert batch.refused.to_numpy().tolist() == [
        ["orders.csv", 3, "in USD, and rates.csv has no rate for USD on or before 2024-02-29"],
        ["orders.csv", 4, "in CHF, and rates.csv has no rate for CHF on or before 2024-03-01"],
    ]


def test_without_rates_nothing_is_added_up_across_currencies(read, shop):
    alone = replace(shop, rates=None)
    batch = read(("2024-03-01T12:00:00Z", "100", "USD"), ("2024-03-01T12:00:00Z", "7", ""), shop=alone)
    assert cents(batch) == [700]
    assert dict(batch.quarantined) == {"in USD, not in the shop's EUR; add rates": 1}
    with pytest.raises(NoUsableData, match="add rates"):
        read(("2024-03-01T12:00:00Z", "100", "USD"), shop=alone)


def test_an_order_with_lines_in_two_currencies_or_without_a_rate_is_left_out_whole(shop):
    lines = [("1", "01", "EUR"), ("1", "01", "USD"), ("2", "01", "USD"), ("2", "01", "USD"), ("3", "01", "EUR")]
    text = "".join(f"ann,{order},2024-03-{day}T12:00:00Z,10,{currency},p{n}\n" for n, (order, day, currency) in enumerate(lines))
    early = text.replace("ann,2,2024-03-01", "ann,2,2024-02-01", 1)
    (shop.path.parent / "lines.csv").write_text(f"who,order,time,total,currency,sku\n{early}")
    batch = read_source({"kind": "table", "path": "lines.csv", "rows": "order_items", "columns": {**COLUMNS, "product_id": "sku"}}, shop)
    assert batch.refused[["line", "reason"]].to_numpy().tolist() == [
        [2, "lines of one order are in several currencies"],
        [3, "lines of one order are in several currencies"],
        [4, "in USD, and rates.csv has no rate for USD on or before 2024-02-01"],
        [5, "in USD, and rates.csv has no rate for USD on or before 2024-02-01"],
    ]
    assert set(batch.events["order_id"].to_pylist()) == {"3"}


def test_what_belongs_to_an_order_that_cannot_be_converted_goes_with_it(shop):
    # As a source that leaves everything to `convert`.
    rows = pd.DataFrame(
        [
            {"event_id": "order-1", "event": "order", "order_id": "1", "occurred_at": "2024-02-01", "value_cents": 100, "currency": "USD"},
            {"event_id": "refund-1", "event": "refund", "order_id": "1", "occurred_at": "2024-03-02", "value_cents": 100, "currency": "USD"},
            {"event_id": "order-2", "event": "order", "order_id": "2", "occurred_at": "2024-03-02", "value_cents": 100, "currency": "EUR"},
        ]
    ).assign(user_id="ann")
    rows["occurred_at"] = pd.to_datetime(rows["occurred_at"], utc=True)
    batch = convert(Batch("orders", canonical_events(rows), date(2024, 3, 3)), shop)
    assert batch.events["event_id"].to_pylist() == ["order-2"]
    assert batch.refused["reason"].tolist() == ["in USD, and rates.csv has no rate for USD on or before 2024-02-01"] * 2
    assert batch.refused["line"].isna().all()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_with_the_rates_is_listed_with_its_line(read, shop):
    wrong = ["2024-13-01,USD,0.9", "2024-03-01,Dollar,0.9", "2024-03-01,USD,0,9", "2024-03-01,USD,0.91", "2024-03-02,EUR,1.1", "20240303,USD,-1"]
    (shop.path.parent / "rates.csv").write_text("\n".join(["date,currency,rate", *wrong]) + "\n")
    with pytest.raises(InvalidTable) as caught:
        read(("2024-03-01T12:00:00Z", "100", "EUR"))  # even if no row needs a rate
    assert [problem[:6] for problem in caught.value.problems] == ["line 2", "line 3", "line 4", "line 5", "line 6", "line 7", "line 7"]
    text = "\n".join(caught.value.problems)
    for expected in ("'2024-13-01'", "'Dollar'", "rate is '0'", "USD on 2024-03-01 stands in line 4 already", "one EUR is one EUR", "'20240303'", "'-1'"):
        assert expected in text


def test_missing_columns_empty_files_and_missing_files_are_named(shop, tmp_path):
    for text, expected in (("day,currency,rates\n", "'rate'. Did you mean 'rates'"), ("date,currency,rate\n", "has no rates"), ("", "Unknown column 'date'")):
        (tmp_path / "rates.csv").write_text(text)
        with pytest.raises(InvalidTable, match=expected):
            read_rates(shop)
    with pytest.raises(InvalidTable, match=r"Did you mean 'rates\.csv'"):
        read_rates(replace(shop, rates="rate.csv"))


def test_the_shop_file_names_the_rates(tmp_path):
    path = tmp_path / "encore.toml"
    path.write_text('name = "Berlin"\nzone = "Europe/Berlin"\ncurrency = "EUR"\nrates = "rate.csv"\n')
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2024-03-01,USD,0.9237\n")
    with pytest.raises(InvalidShopFile, match=r"line 4: the file 'rate\.csv'.*Did you mean 'rates\.csv'"):
        read_shop(path)
    path.write_text(path.read_text().replace("rate.csv", "rates.csv"))
    assert set(read_rates(read_shop(path))) == {"USD"}
