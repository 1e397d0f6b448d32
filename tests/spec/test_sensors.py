"""What a 神策 log of eighteen lines says. The file is tests/data/sensors.jsonl, its mapping the shipped example.

A visitor comes by an advertisement, looks, signs in as 1001 and pays 40.90 for two products, of which one is refunded. 1002 bought
for 99.00 in 2020, imported later. The rest cannot be used: an attribute without a number, a kind and an event without a
meaning, a time in seconds, half a line. One line belongs to a test project.
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
from features.sources.sensors_mapping import nearest

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "tests" / "data" / "sensors.jsonl").read_text(encoding="utf-8").splitlines()
MAPPING = (ROOT / "examples" / "sensors_mapping.toml").read_text(encoding="utf-8")
SHOP = Shop("Shanghai", "Asia/Shanghai", "CNY", attributes=("gender", "age"))
Read = Callable[..., Batch]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Lines, as text or as objects, and the text of a mapping -> Batch."""

    def read_lines(lines: Sequence[str | dict[str, Any]] = LINES, content: str | None = MAPPING, shop: Shop = SHOP, **settings: Any) -> Batch:
        path = tmp_path / "sensors.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines) + "\n", encoding="utf-8")
        moment = datetime(2024, 5, 4, tzinfo=UTC).timestamp()
        os.utime(path, (moment, moment))
        if content is not None:
            (tmp_path / "sensors_mapping.toml").write_text(content, encoding="utf-8")
            settings = {"mapping": "sensors_mapping.toml", **settings}
        return read_source({"kind": "sensors", "path": "sensors.jsonl", **settings}, replace(shop, path=tmp_path / "encore.toml"))

    return read_lines


def rows_of(batch: Batch, event: str) -> pd.DataFrame:
    table = batch.events.to_pandas()
    return table[table["event"] == event].sort_values("event_id").reset_index(drop=True)


def line(number: int, **changes: Any) -> dict[str, Any]:
    return {**json.loads(LINES[number - 1]), **changes}


def pay(**properties: Any) -> dict[str, Any]:
    """The payment of line 6 with other properties."""
    return line(6, properties={"order_id": "1", "order_actual_amount": 40.9, **properties})


# --- what is read -----------------------------------------------------------------------------------------------------


def test_an_order_has_what_was_paid_and_its_products(read):
    batch = read()
    order, items = rows_of(batch, "order").set_index("order_id").loc["20240501001"], rows_of(batch, "order_item")
    assert order[["user_id", "value_cents", "coupon_cents", "quantity", "channel"]].tolist() == ["1001", 4090, 500, 3, "H5"]
    assert items["event_id"].tolist() == ["order_item-20240501001-3001", "order_item-20240501001-3002"]
    assert items["value_cents"].tolist() == [2550, 1540]
    assert rows_of(batch, "refund")[["order_id", "value_cents"]].to_numpy().tolist() == [["20240501001", 1540]]


def test_a_visitor_is_anonymous_until_signing_in_says_who_it_is(read):
    batch = read()
    for event in ("page_view", "cart_add"):
        assert rows_of(batch, event)[["user_id", "anonymous_id"]].fillna("-").to_numpy().tolist() == [["-", "c-7f3a"]]
    assert rows_of(batch, "identified")[["user_id", "anonymous_id"]].to_numpy().tolist() == [["1001", "c-7f3a"]]


@pytest.mark.parametrize(
    "who, expected",
    [
        ({"distinct_id": "d"}, (None, "d")),
        ({"distinct_id": "d", "anonymous_id": "a"}, (None, "a")),
        ({"distinct_id": "d", "login_id": "u"}, ("u", None)),
        ({"distinct_id": "u", "login_id": "u", "anonymous_id": "a"}, ("u", "a")),
        ({"distinct_id": "u", "login_id": "u", "anonymous_id": "u"}, ("u", None)),
        ({"distinct_id": 12.0, "properties": {"$is_login_id": True}}, ("12", None)),
        ({"distinct_id": "d", "identities": {"$identity_login_id": "u"}, "anonymous_id": "a"}, ("u", "a")),
    ],
)
def test_who_a_line_belongs_to(read, who, expected):
    found = rows_of(read([{"time": 1714525200000, "type": "track", "event": "ViewProduct", "properties": {}, **who}]), "product_view").iloc[0]
    assert tuple(None if pd.isna(name) else name for name in found[["user_id", "anonymous_id"]]) == expected


def test_a_binding_of_ids_is_an_identification_if_it_has_both(read):
    bind = {"type": "track_id_bind", "event": "$BindID", "time": 1714525320000, "identities": {"$identity_login_id": "7"}}
    batch = read([{**bind, "distinct_id": "7", "anonymous_id": "c-1"}, {**bind, "distinct_id": "7", "time": 1714525320001}])
    assert rows_of(batch, "identified")[["user_id", "anonymous_id"]].to_numpy().tolist() == [["7", "c-1"]]
    assert dict(batch.quarantined) == {"an identification without both ids": 1}


def test_declared_attributes_become_numbers(read):
    found = rows_of(read(), "attribute_set").sort_values("detail")
    assert found[["user_id", "detail", "level"]].to_numpy().tolist() == [["1001", "age", 29], ["1001", "gender", 0]]
    texts = read([line(10, properties={"$is_login_id": True, "city": "上海", "vip": True})], shop=replace(SHOP, attributes=("city", "vip")))
    assert rows_of(texts, "attribute_set")[["detail", "level"]].to_numpy().tolist() == [["vip", 1]]
    assert list(texts.quarantined) == ["attribute 'city' is not a number; give its values numbers in the mapping: [levels.city]"]


def test_campaign_parameters_say_where_a_visit_came_from(read):
    batch = read()
    assert rows_of(batch, "page_view")[["source", "medium", "campaign"]].to_numpy().tolist() == [["weibo", "cpc", "mayday"]]
    latest = rows_of(batch, "product_view").dropna(subset=["source"])
    assert latest[["source", "medium"]].to_numpy().tolist() == [["weibo", "cpc"]]


def test_products_are_described_by_events_and_by_items(read):
    products = read().products.to_pandas().set_index("product_id")
    assert products.loc["3001", ["category", "brand"]].tolist() == ["水果", "果园"]
    assert products.loc["3002", ["category", "brand"]].tolist() == ["水果", "阳光"]


def test_what_is_left_out_has_its_line_and_its_reason(read):
    assert read(content=MAPPING.replace("# project", "project")).refused[["line", "reason"]].to_numpy().tolist() == [
        [11, "attribute 'gender' has a value that [levels.gender] of the mapping does not have"],
        [12, "type 'profile_set_once' is not used"],
        [15, "event 'ClickBanner' is not mapped to a canonical event"],
        [16, "of project 'test'"],
        [17, "'time' is not from 1990 to 2100"],
        [18, "not a JSON object"],
    ]


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_line_is_known_when_it_was_received_but_an_import_of_history_when_it_happened(read):
    orders = rows_of(read(), "order").set_index("order_id")
    assert orders.loc["20240501001", "known_at"] - orders.loc["20240501001", "occurred_at"] == pd.Timedelta("2.5s")
    assert orders.loc["20200101007", "known_at"] == orders.loc["20200101007", "occurred_at"] == pd.Timestamp("2020-01-01T01:01:01Z")


def test_a_day_is_the_shops_and_the_last_one_is_not_complete(read):
    late = line(2, time=1714579200000)  # midnight of 2 May in Shanghai, 16:00 UTC
    assert read([late]).complete_until == date(2024, 5, 2)
    assert read([late], complete_until="2024-05-01").complete_until == date(2024, 5, 1)


@pytest.mark.parametrize(
    "time, reason",
    [
        (None, "no time"),
        ("yesterday", "'time' is not in milliseconds since 1970"),
        (1714525200, "'time' is not from 1990 to 2100"),
        (1801440000000, "happened after the file was written (a wrong device clock?)"),
    ],
)
def test_a_time_that_is_not_one_is_left_out(read, time, reason):
    assert dict(read([line(2), line(3, time=time)]).quarantined) == {reason: 1}


# --- again and again --------------------------------------------------------------------------------------------------


def test_neither_the_order_of_lines_nor_of_keys_nor_sending_again_changes_anything(read):
    whole = [json.loads(text) for text in LINES[:-1]]
    expected = read(whole).events.sort_by("event_id")
    for seed in range(3):
        shuffled = [dict(random.Random(seed).sample(list(each.items()), len(each))) for each in random.Random(seed).sample(whole, len(whole))]
        assert read(shuffled).events.sort_by("event_id").equals(expected)
    without_id = {name: value for name, value in line(2).items() if name != "_track_id"}
    again = read([without_id, {**without_id, "recv_time": 1714525299000, "_flush_time": 1714525298000}]).events
    assert len(set(again["event_id"].to_pylist())) == 1


# --- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit, amount, expected", [("yuan", 40.9, 4090), ("yuan", "40.905", 4091), ("fen", 4090, 4090), ("major", 40.9, 4090), ("minor", 4090, 4090)]
)
def test_the_unit_of_amounts_is_declared(read, unit, amount, expected):
    batch = read([pay(order_actual_amount=amount)], MAPPING.replace('amount_unit = "yuan"', f'amount_unit = "{unit}"'))
    assert rows_of(batch, "order")["value_cents"].tolist() == [expected]


def test_yuan_are_chinese_money_and_a_line_may_name_another_currency(read, tmp_path):
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2024-01-01,CNY,0.128\n2024-01-01,JPY,0.006\n")
    euros = replace(SHOP, currency="EUR", rates="rates.csv")
    mapping = MAPPING.replace("\n[properties]\n", '\n[properties]\ncurrency = "currency"\n')
    orders = rows_of(read([pay(order_id="1"), line(7), pay(order_id="2", currency="JPY", order_actual_amount=1000)], mapping, euros), "order")
    assert orders["value_cents"].tolist() == [524, 600]  # 40.90 x .128 = 5.2352
    with pytest.raises(NoUsableData, match="in CNY, not in the shop's EUR; add rates"):
        read([pay()], mapping, replace(euros, rates=None))
    minor = mapping.replace('amount_unit = "yuan"', 'amount_unit = "minor"')
    assert rows_of(read([pay(order_actual_amount=4090)], minor, euros), "order")["value_cents"].tolist() == [4090]


@pytest.mark.parametrize(
    "properties, reason",
    [
        ({"order_actual_amount": 0}, "not a paid order (its total is zero or less)"),
        ({"order_actual_amount": "a lot"}, "'order_actual_amount' is not a number"),
        ({"order_actual_amount": None}, "not a paid order (its total is zero or less)"),
    ],
)
def test_an_order_without_an_amount_is_left_out(read, properties, reason):
    assert dict(read([pay(**properties), line(2)]).quarantined) == {reason: 1}


# --- the mapping ------------------------------------------------------------------------------------------------------


def test_without_a_mapping_the_events_of_the_file_are_named_with_the_nearest_canonical_ones(read):
    with pytest.raises(InvalidTable) as caught:
        read(content=None)
    text = "\n".join(caught.value.problems)
    assert "examples/sensors_mapping.toml" in text
    assert 'event "ViewProduct" (3 lines) has no meaning yet; add to [events]: "ViewProduct" = "product_view"' in text
    with pytest.raises(InvalidTable, match=r"'sensor_mapping\.toml'. Did you mean 'sensors_mapping\.toml'"):
        read(mapping="sensor_mapping.toml")


def test_a_mapping_of_which_no_event_occurs_names_those_that_do(read):
    with pytest.raises(InvalidTable, match='"PayOrder" = "order"'):
        read(content='[events]\nBuy = "order"\n')


@pytest.mark.parametrize(
    "name, expected", [("ViewProduct", "product_view"), ("add_cart", "cart_add"), ("SearchWords", "search"), ("PayOrder", "order"), ("付款", None)]
)
def test_the_proposal_is_a_canonical_name(name, expected):
    assert nearest(name) == expected


def test_all_that_is_wrong_with_the_mapping_is_listed(read):
    wrong = 'amount_unit = "cents"\n[events]\nBuy = "oder"\n[properties]\norderid = "order_id"\namount = 7\n[levels.gender]\n"男" = "1"\n'
    with pytest.raises(InvalidTable) as caught:
        read(content=wrong, complete_until="soon")
    text = "\n".join(caught.value.problems)
    for expected in ("Did you mean 'order'?", "'orderid'. Did you mean 'order_id'?", "amount is 7", "amount_unit is 'cents'", "[levels.gender]", "'soon'"):
        assert expected in text
    broken = {"events = 1\n": r"\[events\] must be a section", "evnts = 1\n": "Did you mean 'events'", "[events\n": "sensors_mapping.toml: "}
    for text, expected in broken.items():
        with pytest.raises(InvalidTable, match=expected):
            read(content=text)
    with pytest.raises(InvalidTable, match="amount_unit is None; declare what amounts count"):
        read(content='[properties]\namount = "total"\n')


def test_files_that_are_missing_empty_or_of_another_kind_are_refused(read):
    with pytest.raises(InvalidTable, match=r"Did you mean 'sensors\.jsonl'"):
        read(path="sensor.jsonl")
    with pytest.raises(NoUsableData, match="is an empty file"):
        read([""])
    with pytest.raises(InvalidTable, match="not one of its 2 lines is a JSON object"):
        read(["id,event", "[1]"])
    with pytest.raises(NoUsableData, match="no usable event"):
        read([line(13)])


def test_the_example_reads_the_file(tmp_path):
    for name in ("examples/sensors.toml", "examples/sensors_mapping.toml", "tests/data/sensors.jsonl"):
        shutil.copy(ROOT / name, tmp_path)
    shop = read_shop(tmp_path / "sensors.toml")
    assert read_source(shop.sources[0], shop).events.num_rows == 13
