"""What a Shopify export of nine orders says. The file is tests/data/shopify_orders.csv, written on 2025-10-09.

#1001, #1002 ann buys for 33.90 and, with a coupon, for 16.00; #1009 she has paid in part. #1004, #1005 bob buys for 20.00,
of which 5.00 are refunded, and cancels 4.50. #1003 is a guest without contact, #1007 one with a phone, #1006 not paid,
#1008 in dollars.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.errors import InvalidTable, NoUsableData
from features.events import EventLog
from features.ingest import ingest_sources
from features.shopfile import Shop
from features.sources import read_source
from features.sources.batch import Batch
from features.workspace import open_workspace

EXPORT = pd.read_csv(Path(__file__).parents[1] / "data" / "shopify_orders.csv", dtype=str, keep_default_na=False)
SHOP = Shop("Berlin", "Europe/Berlin", "EUR")
ANN, BOB, PHONE = (sha256(contact.encode()).hexdigest() for contact in ("ann@example.com", "bob@example.com", "491712345678"))
FIRST = 5_629_000_000_000  # the Id of an order is this and its number
Read = Callable[..., Batch]


def write(path: Path, table: pd.DataFrame, day: int = 9) -> None:
    """Write an export as it was made on a day of October 2025 at noon, UTC."""
    table.to_csv(path, index=False)
    moment = datetime(2025, 10, day, 12, tzinfo=UTC).timestamp()
    os.utime(path, (moment, moment))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """An export -> Batch."""

    def read_export(table: pd.DataFrame = EXPORT, day: int = 9, shop: Shop = SHOP, **settings: Any) -> Batch:
        write(tmp_path / "orders.csv", table, day)
        return read_source({"kind": "shopify", "path": "orders.csv", **settings}, replace(shop, path=tmp_path / "encore.toml"))

    return read_export


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log", SHOP.zone, SHOP.currency)


def rows_of(batch: Batch, event: str) -> pd.DataFrame:
    """The events of one name by order number, with the number as index."""
    table = batch.events.to_pandas()
    table = table[table["event"] == event]
    return table.set_index(table["order_id"].astype("int64") - FIRST).sort_index()


def only(number: int, **changes: str) -> pd.DataFrame:
    """The rows of one order, its first row changed."""
    table = EXPORT[EXPORT["Name"] == f"#{number}"].reset_index(drop=True)
    for name, value in changes.items():
        table.loc[0, name.replace("_", " ")] = value
    return table


# --- what is read ---------------------------------------------------------------------------------------------------


def test_several_rows_are_one_order_with_the_total_of_its_first_row(read):
    orders = rows_of(read(), "order")
    assert orders["value_cents"].to_dict() == {1001: 3390, 1002: 1600, 1004: 2000, 1005: 450, 1007: 750}
    assert orders["user_id"].to_dict() == {1001: ANN, 1002: ANN, 1004: BOB, 1005: BOB, 1007: PHONE}
    assert orders["quantity"].to_dict() == {1001: 3, 1002: 4, 1004: 1, 1005: 1, 1007: 2}
    filled_down = EXPORT.replace("", None).groupby("Name")[["Email", "Total"]].ffill()
    naive = filled_down.loc[filled_down["Email"].str.lower() == "ann@example.com", "Total"].astype(float).sum()
    assert (orders.loc[orders["user_id"] == ANN, "value_cents"].sum(), round(naive * 100)) == (4990, 10380)


def test_what_is_left_out_is_counted_in_rows(read):
    assert dict(read().quarantined) == {
        "no customer: neither an e-mail address nor a phone number": 2,
        "not a paid order (status 'pending')": 1,
        "not a paid order (status 'partially_paid')": 1,
        "in USD, not in the shop's EUR; add rates": 1,
    }


def test_an_order_left_out_names_every_one_of_its_rows(read):
    names = EXPORT["Name"].tolist()
    refused = read().refused
    assert refused["file"].unique().tolist() == ["orders.csv"]
    assert [names[line - 2] for line in refused["line"]] == ["#1003", "#1003", "#1006", "#1008", "#1009"]
    assert read().written == pd.Timestamp("2025-10-09T12:00:00Z")


def test_an_order_happened_when_it_was_paid_or_else_when_it_was_created(read):
    assert rows_of(read(), "order").loc[1001, "occurred_at"] == pd.Timestamp("2025-10-01T07:50:30Z")
    unknown = rows_of(read(only(1001, Paid_at="")), "order").loc[1001]
    assert unknown["occurred_at"] == unknown["known_at"] == pd.Timestamp("2025-10-01T07:50:26Z")


def test_lines_have_quantity_value_after_discount_and_a_product(read):
    lines = rows_of(read(), "order_item").reset_index(drop=True)
    seen = lines[["product_id", "quantity", "value_cents", "discount_cents"]].to_numpy().tolist()
    assert seen[:3] == [["pan", 1, 2000, 0], ["soap", 2, 900, 0], ["soap", 4, 1600, 200]]
    assert "Greeting card, blank" in lines["product_id"].tolist()  # it has no sku


def test_a_reduction_by_code_is_a_coupon_and_any_other_a_discount(read):
    orders = rows_of(read(), "order")
    assert orders.loc[1002, ["coupon_cents", "discount_cents"]].fillna(0).tolist() == [200, 0]
    assert orders.loc[1007, ["coupon_cents", "discount_cents"]].fillna(0).tolist() == [0, 150]


def test_a_cancellation_has_its_own_time_and_leaves_nothing_to_refund(read):
    batch = read()
    assert rows_of(batch, "order_cancelled")["occurred_at"].to_dict() == {1005: pd.Timestamp("2025-10-07T10:00:00Z")}
    assert rows_of(batch, "refund")["value_cents"].to_dict() == {1004: 500}


def test_a_refund_is_known_when_the_file_was_written_and_no_earlier(read):
    refund = rows_of(read(), "refund").loc[1004]
    assert refund["occurred_at"] == refund["known_at"] == pd.Timestamp("2025-10-09T12:00:00Z")
    # A copy that lost its date cannot be older than what it says.
    assert rows_of(read(only(1004), day=5), "refund").loc[1004, "known_at"] == pd.Timestamp("2025-10-06T09:00:00Z")


def test_the_day_of_the_last_created_order_is_not_complete(read):
    assert read().complete_until == date(2025, 10, 8)
    assert read(complete_until="2025-10-07").complete_until == date(2025, 10, 7)
    # Paid weeks later: an export of September's orders does not have October's.
    assert read(only(1001, Paid_at="2025-10-08 09:00:00 +0200")).complete_until == date(2025, 10, 1)


def test_the_vendor_is_the_brand(read):
    assert read().products.to_pandas().set_index("product_id")["brand"].to_dict() == {
        "soap": "Savon & Fils",
        "pan": "Ferrum",
        "Greeting card, blank": "Papeterie",
    }


def test_the_yen_has_no_cents(read):
    whole = EXPORT.replace(r"^(\d+)\.\d\d$", r"\1", regex=True).replace("EUR", "JPY")
    assert rows_of(read(whole, shop=replace(SHOP, currency="JPY")), "order").loc[1001, "value_cents"] == 33


def test_an_order_in_another_currency_is_converted_with_its_lines_and_refunds(read, tmp_path):
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2025-09-01,USD,0.8512\n2025-10-08,USD,2\n2025-09-01,JPY,0.006\n")
    rates = replace(SHOP, rates="rates.csv")
    batch = read(shop=rates)
    assert rows_of(batch, "order").loc[1008, ["value_cents", "currency"]].tolist() == [
        round(rows_of(read(only(1008), shop=replace(SHOP, currency="USD")), "order").loc[1008, "value_cents"] * 0.8512),
        "EUR",
    ]
    assert 1008 not in batch.refused["line"].tolist()
    # What was refunded so far counts at the rate of the order's day, in every export.
    for day in (7, 9):
        refund = rows_of(read(only(1004, Currency="USD"), day=day, shop=rates), "refund").loc[1004]
        assert (refund["value_cents"], refund["currency"]) == (426, "EUR")  # 500 x .8512 = 425.6
    yen = read(only(1001, Currency="JPY", Total="3390"), shop=rates)
    assert rows_of(yen, "order").loc[1001, "value_cents"] == 2034


@pytest.mark.parametrize("zip_code", ["'10115", "10115", ""])
def test_the_apostrophe_of_a_zip_code_changes_nothing(read, zip_code):
    changed = EXPORT.assign(**{"Billing Zip": zip_code})
    assert read(changed).events.sort_by("event_id").equals(read().events.sort_by("event_id"))


def test_amounts_are_exact(read):
    # As floats, 1.005 x 100 is 100.49999999999999 and 4.35 x 100 is 434.99999999999994.
    assert rows_of(read(only(1001, Total="4.35")), "order").loc[1001, "value_cents"] == 435
    assert rows_of(read(only(1001, Total="1.005")), "order").loc[1001, "value_cents"] == 101


# --- again and again ------------------------------------------------------------------------------------------------


def test_twice_is_once_and_the_order_of_rows_does_not_matter(read, log, tmp_path):
    assert log.append(read()).added == 13
    digest = log.digest
    assert log.append(read()).added == 0
    assert log.digest == digest
    for seed in range(3):
        other = EventLog(tmp_path / f"log{seed}", SHOP.zone, SHOP.currency)
        other.append(read(EXPORT.sample(frac=1, random_state=seed)))
        assert other.digest == digest


def test_an_order_exported_again_adds_only_what_is_new(read, log):
    paid = only(1001)
    assert log.append(read(paid)).added == 3
    refunded = only(1001, Financial_Status="partially_refunded", Refunded_Amount="10.00")
    assert log.append(read(refunded, day=10)).added == 1
    cancelled = only(1001, Financial_Status="refunded", Refunded_Amount="33.90", Cancelled_at="2025-10-11 09:00:00 +0200")
    assert log.append(read(cancelled, day=12)).added == 1
    assert log.manifest["events"] == {"order": 0, "order_item": 0, "refund": 1, "order_cancelled": 1}  # what stands at the end


@pytest.mark.parametrize(
    "exports, added",
    [
        ([("10.00", 9), ("25.00", 10)], [1000, 1500]),
        ([("25.00", 10)], [2500]),
        ([("25.00", 10), ("10.00", 9), ("25.00", 11)], [2500]),  # an older export afterwards, and the newer one again
        ([("10.00", 9), ("10.00", 10), ("25.00", 11), ("30.00", 12)], [1000, 1500, 500]),
    ],
)
def test_refunds_add_up_to_the_largest_amount_whichever_exports_were_read(read, log, exports, added):
    for amount, day in exports:
        log.append(read(only(1001, Financial_Status="partially_refunded", Refunded_Amount=amount), day=day))
    events = pd.concat([pq.read_table(path).to_pandas() for path in log.parts])
    refunds = events[events["event"] == "refund"].sort_values("known_day")
    assert refunds["value_cents"].tolist() == added
    assert refunds["event_id"].is_unique


def test_two_exports_in_one_file_count_nothing_twice(read):
    batch = read(pd.concat([EXPORT, only(1004)]))
    assert 1004 not in rows_of(batch, "order").index
    assert batch.quarantined["the order's total stands on several rows (two exports in one file?)"] == 2


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_header_that_is_not_shopifys_is_refused_with_all_that_is_missing(read):
    with pytest.raises(InvalidTable) as caught:
        read(EXPORT.rename(columns={"Email": "E-Mail", "Paid at": "Paid_at"}).drop(columns="Lineitem discount"), complete_until="soon")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for expected in ("'Email'. Did you mean 'E-Mail'?", "'Paid at'. Did you mean 'Paid_at'?", "'Lineitem discount'. Did you mean", "'soon'"):
        assert expected in text


def test_columns_of_another_kind_are_refused_together(read):
    table = EXPORT.assign(Total=EXPORT["Total"].str.replace(".", ","), **{"Created at": EXPORT["Created at"].str.removesuffix(" +0200")})
    with pytest.raises(InvalidTable) as caught:
        read(table)
    assert [problem.split(" holds ")[0] for problem in caught.value.problems] == ["column 'Total'", "column 'Created at'"]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"Total": "a lot"}, "'Total' is not an amount"),
        ({"Total": "0.00"}, "not a paid order (its total is zero or less)"),
        ({"Total": ""}, "no row of the order has its total"),
        ({"Name": ""}, "no order name"),
        ({"Id": "5.62947E+12"}, "'Id' is not a whole number (saved by a spreadsheet?)"),
        ({"Id": str(FIRST + 1002)}, "two names have the same 'Id'"),
        ({"Currency": ""}, "no currency"),
        ({"Email": "none", "Phone": "-"}, "no customer: neither an e-mail address nor a phone number"),
        ({"Cancelled_at": "yesterday", "Refunded_Amount": "1.00"}, "'Cancelled at' is not an ISO 8601 time"),
        ({"Paid_at": "2025-12-01 09:00:00 +0200"}, "happened after the file was written (a wrong date of the file?)"),
        ({"Financial_Status": "voided"}, "not a paid order (status 'voided')"),
        ({"Lineitem_quantity": "0"}, "a line with a quantity of zero or less"),
    ],
)
def test_an_order_that_cannot_be_used_is_left_out_and_counted(read, changes, reason):
    batch = read(pd.concat([only(1004, **changes), only(1002), only(1005)], ignore_index=True))
    assert batch.quarantined[reason] >= 1
    assert 1005 in rows_of(batch, "order").index


def test_nothing_usable_is_an_error_that_says_why(read):
    with pytest.raises(NoUsableData, match="in USD, not in the shop"):
        read(only(1008))
    with pytest.raises(NoUsableData, match="a header and no rows"):
        read(EXPORT.head(0))
    with pytest.raises(NoUsableData, match="no customer"):
        read(only(1003))


# --- the whole way --------------------------------------------------------------------------------------------------


def test_from_the_export_to_a_vector(tmp_path):
    workspace = open_workspace(tmp_path, environment={})
    workspace.shop_file.write_text('name = "Berlin"\nzone = "Europe/Berlin"\ncurrency = "EUR"\n[[sources]]\nkind = "shopify"\npath = "orders.csv"\n')

    def ingest(table: pd.DataFrame, day: int) -> None:
        write(tmp_path / "orders.csv", table, day)
        ingest_sources(workspace)

    def features(day: int, user: str) -> list[float]:
        snapshot = workspace.snapshots.get(workspace.tiles(workspace.shop()), date(2025, 10, day))
        return snapshot.frame.loc[user, ["orders_count", "orders_revenue", "satisfaction_refunds"]].tolist()

    ingest(EXPORT, day=9)
    assert features(8, ANN) == [2, 4990, 0]
    assert features(7, BOB) == [2, 2450, 0]  # the cancellation is of this day, so the day before does not know it
    assert features(8, BOB) == [1, 2000, 0]
    times = {"Created at": "2025-10-11 10:00:00 +0200", "Paid at": "2025-10-11 10:00:00 +0200"}
    ingest(pd.concat([EXPORT, only(1007).assign(Name="#1010", Id=str(FIRST + 1010), **times)]), day=12)
    assert features(9, BOB) == [1, 2000, 0]  # the refund was exported in the course of this day
    assert features(10, BOB) == [1, 2000, 1]
    assert features(11, ANN) == [2, 4990, 0]
