"""Files as shops really send them. A file is refused as a whole with all its problems, or its bad rows are counted."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import InvalidTable, NoUsableData
from features.events import EventLog
from features.shopfile import Shop
from features.sources import read_source
from features.sources.batch import Batch

COLUMNS = {"user_id": "customer", "order_id": "order", "occurred_at": "time", "product_id": "sku", "quantity": "n", "price": "price"}
HEADER = "customer,order,time,sku,n,price"
GOOD = f"{HEADER}\nann,1,2024-03-01T10:00:00,soap,2,1.50\nann,1,2024-03-01T10:00:00,pan,1,20.00\nbob,2,2024-03-02T11:00:00,soap,1,1.50\n"
Read = Callable[..., Batch]


@pytest.fixture
def read(tmp_path: Path, shop: Shop) -> Read:
    """Text of a CSV and settings -> Batch."""

    def read_text(text: str | bytes, **settings: Any) -> Batch:
        (tmp_path / "orders.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        mapping = {"kind": "table", "path": "orders.csv", "rows": "order_items", "time_zone": "Europe/London", "columns": COLUMNS, **settings}
        settings_given = {name: value for name, value in mapping.items() if value is not None}
        return read_source(settings_given, replace(shop, path=tmp_path / "encore.toml"))

    return read_text


def rows_of(batch: Batch, event: str) -> pd.DataFrame:
    table = batch.events.to_pandas()
    return table[table["event"] == event].reset_index(drop=True)


def problems_of(read: Read, text: str | bytes, **settings: Any) -> list[str]:
    with pytest.raises(InvalidTable) as caught:
        read(text, **settings)
    return caught.value.problems


# --- what is read ---------------------------------------------------------------------------------------------------


def test_lines_become_lines_and_orders(read):
    batch = read(GOOD)
    orders = rows_of(batch, "order")
    assert orders[["user_id", "order_id", "value_cents", "quantity"]].to_numpy().tolist() == [["ann", "1", 2300, 3], ["bob", "2", 150, 1]]
    assert len(rows_of(batch, "order_item")) == 3
    assert (dict(batch.quarantined), batch.complete_until) == ({}, date(2024, 3, 2))


def test_csv_and_parquet_of_the_same_rows_are_the_same_events(read, tmp_path):
    typed = pd.read_csv(io.StringIO(GOOD)).assign(time=lambda table: pd.to_datetime(table["time"]))
    typed.to_parquet(tmp_path / "orders.parquet")
    csv, parquet = read(GOOD), read(GOOD, path="orders.parquet")
    assert csv.events.sort_by("event_id").equals(parquet.events.sort_by("event_id"))


def test_equal_lines_of_one_order_are_added_and_the_same_file_twice_is_once(read, tmp_path):
    twice = GOOD + "bob,2,2024-03-02T11:00:00,soap,1,1.50\n"
    batch = read(twice)
    assert rows_of(batch, "order")["value_cents"].tolist() == [2300, 300]
    log = EventLog(tmp_path / "log", "UTC", "EUR")
    first = log.append(batch)
    digest = log.digest
    assert (first.added, first.duplicates) == (5, 0)
    assert log.append(read(twice)).added == 0
    assert log.digest == digest


def test_lines_with_an_event_id_count_once(read):
    header, *lines = GOOD.splitlines()
    text = "\n".join([f"{header},id", *(f"{line},{number}" for number, line in enumerate([*lines, lines[-1]]))])
    assert rows_of(read(text, columns={**COLUMNS, "event_id": "id"}), "order")["value_cents"].tolist() == [2300, 300]
    repeated = text + "\n" + text.splitlines()[-1]
    assert rows_of(read(repeated, columns={**COLUMNS, "event_id": "id"}), "order")["value_cents"].tolist() == [2300, 300]


def test_equal_products_of_one_order_are_one_line(read):
    text = f"{HEADER}\nann,1,2024-03-01T10:00:00,soap,2,1.00\nann,1,2024-03-01T10:05:00,soap,1,0.90\nann,1,2024-03-01T10:00:00,pan,1,1.00\n"
    items = rows_of(read(text), "order_item")
    assert items[["event_id", "quantity", "value_cents"]].to_numpy().tolist() == [["order_item-1-pan", 1, 100], ["order_item-1-soap", 3, 290]]


def test_rows_marked_as_returns_become_refunds_of_the_positive_amount(read):
    text = f"{HEADER},return\nann,1,2024-03-01T10:00:00,soap,2,1.50,False\nann,C9,2024-03-05T10:00:00,soap,-1,1.50,True\n"
    batch = read(text, refund_when={"return": True})
    assert rows_of(batch, "refund")[["order_id", "value_cents"]].to_numpy().tolist() == [["C9", 150]]
    assert rows_of(batch, "order")["order_id"].tolist() == ["1"]


def test_events_are_mapped_and_names_without_a_mapping_are_counted(read):
    text = "who,when,what\nann,1709287200,AddToCart\nann,1709287201,Wiggle\nann,1709287200,AddToCart\n"
    settings = {"rows": "events", "columns": {"user_id": "who", "occurred_at": "when", "event": "what"}, "events": {"AddToCart": "cart_add"}}
    batch = read(text, time_unit="s", **settings)
    assert rows_of(batch, "cart_add")["occurred_at"].dt.strftime("%H:%M").tolist() == ["10:00", "10:00"]
    assert rows_of(batch, "cart_add")["event_id"].nunique() == 1
    assert dict(batch.quarantined) == {"event 'Wiggle' is not mapped to a canonical event": 1}


def test_amounts_are_exact_and_rounded_half_up_once(read):
    # As floats, 1.005 x 100 is 100.49999999999999; a price of a third of a cent counts in full.
    text = f"{HEADER}\nann,1,2024-03-01T10:00:00,soap,1,1.005\nbob,2,2024-03-02T11:00:00,nail,1000,0.003\neve,3,2024-03-02T11:00:00,tea,0.25,7.98\n"
    assert rows_of(read(text), "order")["value_cents"].tolist() == [101, 300, 200]
    huge = read(GOOD + "eve,3,2024-03-02T11:00:00,tea,999999999,99999999999\neve,4,2024-03-02T11:00:00,tea,1,1e15\n")
    assert dict(huge.quarantined) == {"'price' is a trillion or more": 1, "a number too large to be true": 1}


def test_coupons_visitors_and_origins_are_columns_too(read):
    text = (
        "who,visitor,when,what,order,total,coupon,from,landing\n"
        "ann,v1,2024-03-01T10:00:00Z,order,7,20.00,2.50,,https://shop.example/?utm_source=News&utm_medium=email&utm_campaign=may\n"
        ",v2,2024-03-01T11:00:00Z,page_view,,,,partner,https://shop.example/?gclid=1\n"
        ",,2024-03-01T11:00:00Z,page_view,,,,,\n"
        ",v3,2024-03-01T11:00:00Z,identified,,,,,\n"
    )
    columns = {"user_id": "who", "anonymous_id": "visitor", "occurred_at": "when", "event": "what", "order_id": "order", "amount": "total"}
    batch = read(text, rows="events", time_zone=None, columns={**columns, "coupon": "coupon", "source": "from", "landing_url": "landing"})
    order, view = rows_of(batch, "order").iloc[0], rows_of(batch, "page_view").iloc[0]
    assert order[["user_id", "anonymous_id", "coupon_cents", "source", "medium", "campaign"]].tolist() == ["ann", "v1", 250, "news", "email", "may"]
    assert (view["anonymous_id"], view["source"], pd.isna(view["user_id"]), pd.isna(view["medium"])) == ("v2", "partner", True, True)
    assert batch.refused[["line", "reason"]].to_numpy().tolist() == [
        [4, "neither a user id nor an anonymous id"],
        [5, "an identification without both ids"],
    ]


def test_orders_one_a_row(read):
    text = "c,o,t,total\nann,1,2024-03-01T10:00:00Z,10\nann,1,2024-03-01T10:00:00Z,10\nann,1,2024-03-01T10:00:00Z,12\nbob,2,2024-03-01T10:00:00+02:00,0\n"
    batch = read(text, rows="orders", time_zone=None, columns={"user_id": "c", "order_id": "o", "occurred_at": "t", "amount": "total"})
    assert rows_of(batch, "order")["order_id"].unique().tolist() == ["1"]
    assert dict(batch.quarantined) == {"a second row of an order that says something else": 1, "not a paid order (its total is zero or less)": 1}


def test_the_yen_has_no_cents(read, shop, tmp_path):
    (tmp_path / "orders.csv").write_text(GOOD.replace("1.50", "150").replace("20.00", "2000"))
    yen = replace(shop, currency="JPY", path=tmp_path / "encore.toml")
    batch = read_source({"kind": "table", "path": "orders.csv", "rows": "order_items", "time_zone": "Asia/Tokyo", "columns": COLUMNS}, yen)
    assert rows_of(batch, "order")["value_cents"].tolist() == [2300, 150]


# --- what is refused ------------------------------------------------------------------------------------------------


def test_all_problems_are_listed_together_with_the_nearest_names(read):
    columns = {**COLUMNS, "user_id": "custmer", "price": "prise"}
    del columns["product_id"]
    problems = problems_of(read, GOOD, columns=columns, time_zone=None, time_unit="minutes", complete_until="soon")
    text = "\n".join(problems)
    for expected in ("'custmer'. Did you mean 'customer'?", "'prise'. Did you mean 'price'?", "needs product_id", "without a zone", "'minutes'", "'soon'"):
        assert expected in text
    assert len(problems) == 6


def test_a_value_of_the_wrong_type_is_counted_and_a_whole_column_of_them_is_refused(read):
    cheap = GOOD.replace("1.50", "cheap")
    assert dict(read(cheap).quarantined) == {"'price' is not a number": 2}
    assert "'cheap' and the like, not numbers" in problems_of(read, cheap.replace("20.00", "dear"))[0]


def test_times_in_a_shape_that_reads_two_ways_are_refused(read):
    assert "not times such as 2024-03-31T14:05:00" in problems_of(read, GOOD.replace("2024-03-0", "01.03.2"))[0]


def test_naive_times_and_integers_are_never_guessed(read):
    assert "declare it: time_zone" in problems_of(read, GOOD, time_zone=None)[0]
    seconds = GOOD.replace("2024-03-01T10:00:00", "1709287200").replace("2024-03-02T11:00:00", "1709377200")
    assert "declare what they count since 1970: time_unit" in problems_of(read, seconds)[0]
    assert "is the time_unit right?" in problems_of(read, seconds, time_unit="ms")[0]
    # 10:00 in London and 10:00 UTC are the same in winter.
    assert read(seconds, time_unit="s").events["occurred_at"].equals(read(GOOD).events["occurred_at"])


def test_a_wrong_kind_of_rows_or_file_is_named(read, tmp_path):
    assert "Did you mean 'order_items'" in problems_of(read, GOOD, rows="order_item")[0]
    assert "Did you mean 'orders.csv'" in problems_of(read, GOOD, path="order.csv")[0]
    (tmp_path / "orders.xls").write_text(GOOD)
    assert "give a .csv or a .parquet file" in problems_of(read, GOOD, path="orders.xls")[0]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad\x80", HEADER.encode() + b'\n"never closed,1'])
def test_a_damaged_file_is_refused(read, content):
    assert problems_of(read, content)


def test_a_parquet_file_cut_in_half_is_refused(read, tmp_path):
    pd.DataFrame({"customer": ["ann"]}).to_parquet(tmp_path / "half.parquet")
    content = (tmp_path / "half.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(content[: len(content) // 2])
    assert "damaged" in "\n".join(problems_of(read, GOOD, path="half.parquet"))


NOBODY = f"{HEADER}\n,1,2024-03-01,soap,1,1\n"


@pytest.mark.parametrize(("text", "expected"), [("", "empty file"), (HEADER + "\n", "a header and no rows"), (NOBODY, "no user id")])
def test_files_without_a_usable_row_say_so(read, text, expected):
    with pytest.raises(NoUsableData, match=expected):
        read(text)


def test_a_refusal_leaves_the_log_as_it_was(read, tmp_path, make_batch):
    log = EventLog(tmp_path / "log", "UTC", "EUR")
    log.append(read(GOOD))
    digest, files = log.digest, sorted(path for path in log.directory.rglob("*") if path.is_file())
    for bad in ("", HEADER, GOOD.replace("customer", "who")):
        with pytest.raises((InvalidTable, NoUsableData)):
            log.append(read(bad))
    dollars = make_batch([{"event": "order", "occurred_at": "2024-03-01", "currency": "USD"}, {"event": "oder", "occurred_at": "2024-03-01"}])
    with pytest.raises(InvalidTable) as caught:
        log.append(dollars)
    assert len(caught.value.problems) == 2
    assert (log.digest, sorted(path for path in log.directory.rglob("*") if path.is_file())) == (digest, files)


# --- which rows are left out ----------------------------------------------------------------------------------------


def test_rows_are_left_out_with_a_reason_and_a_count(read):
    bad = [
        ",9,2024-03-01T10:00:00,soap,1,1.50",
        "  ,9,2024-03-01T10:00:00,soap,1,1.50",
        "eve,3,yesterday,soap,1,1.50",
        "eve,3,,soap,1,1.50",
        "eve,3,2024-03-01T10:00:00,soap,many,1.50",
        "eve,3,2024-03-01T10:00:00,soap,1,inf",
        "eve,4,2024-03-01T10:00:00,soap,-1,1.50",
        "eve,5,2024-03-01T10:00:00,soap,1,0",
        "eve,,2024-03-01T10:00:00,soap,1,2",
        "eve,6,2024-03-01T10:00:00,soap,1,",
        "eve,7,2024-03-01T10:00:00,soap,1,2",
        "adam,7,2024-03-01T10:00:00,soap,1,2",
        "eve,8,1970-01-01T00:00:01,soap,1,2",
    ]
    batch = read(GOOD + "\n".join(bad) + "\n")
    assert batch.refused["file"].unique().tolist() == ["orders.csv"]
    assert batch.refused["line"].tolist() == list(range(5, 18))
    assert dict(batch.quarantined) == {
        "'n' is not a number": 1,
        "'price' is not a number": 1,
        "'time' is not an ISO 8601 time": 1,
        "'time' is not from 1990 to 2100": 1,
        "lines of one order belong to several users": 2,
        "no amount": 1,
        "no order id": 1,
        "no time": 1,
        "no user id": 2,
        "not a paid order (its total is zero or less)": 1,
        "quantity is zero or less on a row that is not a refund": 1,
    }
    assert batch.events.sort_by("event_id").equals(read(GOOD).events.sort_by("event_id"))


def test_a_row_left_out_is_named_by_its_line_whatever_quotes_and_blank_lines_come_before_it(read, tmp_path):
    header, *lines = GOOD.splitlines()
    text = "\n".join([header, '"ann\nmarie",1,2024-03-01T10:00:00,"soap\r\nbar",2,1.50', "", *lines[2:], ",9,2024-03-01T10:00:00,soap,1,1.50"])
    assert read(text).refused[["line", "reason"]].to_numpy().tolist() == [[7, "no user id"]]
    pd.read_csv(io.StringIO(text)).to_parquet(tmp_path / "orders.parquet")
    assert read(text, path="orders.parquet").refused["line"].tolist() == [3]


def test_every_line_of_an_order_left_out_is_named(read):
    two = GOOD + "eve,2,2024-03-02T11:00:00,pan,1,20.00\n"
    assert read(two).refused["line"].tolist() == [4, 5]
    free = GOOD + "eve,3,2024-03-02T11:00:00,pan,1,0\neve,3,2024-03-02T11:00:00,soap,1,0\n"
    assert read(free).refused["line"].tolist() == [5, 6]


def test_local_times_that_do_not_exist_or_occur_twice_are_left_out(read):
    # London: 01:30 on 31 March 2024 never was, 01:30 on 27 October 2024 was twice. With an offset both are clear.
    moments = ["2024-03-31T01:30:00", "2024-10-27T01:30:00", "2024-10-27T01:30:00+01:00"]
    lines = [f"ann,{number},{moment},soap,1,1.00" for number, moment in enumerate(moments, 10)]
    batch = read(GOOD + "\n".join(lines))
    assert sorted(batch.quarantined.values()) == [1, 1]
    assert all("Europe/London" in reason for reason in batch.quarantined)
    assert "12" in rows_of(batch, "order")["order_id"].tolist()


def test_a_device_clock_in_the_future_neither_counts_nor_makes_the_log_complete(read, tmp_path):
    batch = read(GOOD + "eve,3,2077-01-01T00:00:00,soap,1,1.00\n")
    assert dict(batch.quarantined) == {"happened after the file was written (a wrong device clock?)": 1}
    assert batch.complete_until == date(2024, 3, 2)
    text = "c,t,k,e\nann,2024-03-05T10:00:00Z,2024-03-01T10:00:00Z,search\nann,2024-03-01T10:00:00Z,2024-03-01T11:00:00Z,search\n"
    known = read(text, rows="events", columns={"user_id": "c", "occurred_at": "t", "known_at": "k", "event": "e"})
    report = EventLog(tmp_path / "log", "UTC", "EUR").append(known)
    assert (report.added, report.complete_until, sum(report.quarantined.values())) == (1, date(2024, 3, 1), 1)


def test_a_byte_order_mark_and_missing_values_called_na_do_no_harm(read):
    batch = read(b"\xef\xbb\xbf" + GOOD.replace("ann", "NA").encode())
    assert rows_of(batch, "order")["user_id"].tolist() == ["NA", "bob"]
