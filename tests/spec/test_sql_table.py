"""Tables and queries of DuckDB files and of a real PostgreSQL, on the loopback address."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from features.errors import InvalidTable, NoUsableData
from features.shopfile import Shop, read_shop
from features.sources import read_source, sql_table
from features.sources.batch import Batch

SHOP = Shop("Berlin", "Europe/Berlin", "EUR")
COLUMNS = {"user_id": "customer", "order_id": "id", "occurred_at": "paid_at", "amount": "total", "coupon": "coupon", "currency": "currency"}
ORDERS = """
create table orders (id bigint, customer bigint, paid_at timestamptz, total numeric(12, 2), coupon numeric(12, 2), currency text, note text);
insert into orders values
  (9007199254740993, 12, '2024-03-01 09:00:00+01', 19.90, 2.00, 'EUR', 'big id'),
  (2, 12, '2024-03-02 09:00:00+01', 0.10, null, 'EUR', null),
  (3, null, '2024-03-02 10:00:00+01', 5.00, null, 'EUR', 'nobody'),
  (4, 13, '2024-03-03 00:30:00+01', 7.25, null, 'USD', null);
"""
PASSWORD = "p@ss/w:rd"  # as in conftest.py
Read = Callable[..., Batch]


@dataclass(frozen=True)
class Database:
    """url: with the password as a variable. run: executes statements."""

    url: str
    run: Callable[[str], None]


@pytest.fixture(scope="session")
def postgres(postgres_server: Any) -> Database:
    """Tables in a real PostgreSQL, whose password is a variable in the URL."""
    postgres_server.run(ORDERS)
    return Database(f"postgresql://encore:${{SHOP_PASSWORD}}@127.0.0.1:{postgres_server.port}/postgres", postgres_server.run)


@pytest.fixture
def file(tmp_path: Path) -> Database:
    def run(statements: str) -> None:
        with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
            connection.execute(statements)

    run(ORDERS)
    return Database("duckdb:///shop.duckdb", run)


@pytest.fixture(params=["file", "postgres"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    return request.getfixturevalue(request.param)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_rows(database: Database, shop: Shop = SHOP, **settings: Any) -> Batch:
        given: Mapping[str, Any] = {"kind": "table", "url": database.url, "table": "orders", "rows": "orders", "columns": COLUMNS} | settings
        return read_source({name: value for name, value in given.items() if value is not None}, replace(shop, path=tmp_path / "encore.toml"))

    return read_rows


def problems_of(read: Read, database: Database, **settings: Any) -> list[str]:
    with pytest.raises(InvalidTable) as caught:
        read(database, **settings)
    return caught.value.problems


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_table_is_read_exactly_with_the_rows_left_out(read, database):
    batch = read(database)
    orders = batch.events.to_pandas().sort_values("occurred_at")
    assert orders[["order_id", "user_id", "value_cents"]].to_numpy().tolist() == [["9007199254740993", "12", 1990], ["2", "12", 10]]
    assert orders["coupon_cents"].tolist()[0] == 200
    assert orders["occurred_at"].iloc[0] == orders["known_at"].iloc[0] == pd.Timestamp("2024-03-01T08:00:00Z")
    assert batch.refused.to_numpy().tolist() == [["orders", 3, "no user id"], ["orders", 4, "in USD, not in the shop's EUR; add rates"]]
    assert (batch.name, batch.stream) == ("orders", "table orders")
    assert abs(batch.written - pd.Timestamp.now(tz="UTC")) < pd.Timedelta(minutes=5)


def test_a_query_is_read_in_chunks(read, database, monkeypatch):
    whole = read(database)
    monkeypatch.setattr(sql_table, "CHUNK", 1)
    query = "select o.*, upper(currency) as money from orders o where customer is not null order by id; -- all that are ours"
    assert read(database, table=None, query=query.replace("; --", " --")).events.sort_by("event_id") == whole.events.sort_by("event_id")
    assert read(database, table=None, query="select * from orders;").events.sort_by("event_id") == whole.events.sort_by("event_id")


def test_times_without_a_zone_need_one(read, database):
    query = "select id, customer, timestamp '2024-07-01 09:00:00' as paid_at, total, coupon, currency from orders"
    assert "declare it: time_zone" in problems_of(read, database, table=None, query=query)[0]
    batch = read(database, table=None, query=query, time_zone="Europe/Berlin")
    assert set(batch.events["occurred_at"].to_pandas()) == {pd.Timestamp("2024-07-01T07:00:00Z")}


def test_rows_may_say_when_they_became_known(read, database):
    query = "select o.*, timestamptz '2024-03-09 00:00:00+00' as loaded_at from orders o"
    batch = read(database, table=None, query=query, columns={**COLUMNS, "known_at": "loaded_at"})
    assert set(batch.events["known_at"].to_pandas()) == {pd.Timestamp("2024-03-09T00:00:00Z")}


def test_events_of_a_query_have_ids_of_their_own(read, database):
    query = """select 'v' || id as visitor, 'Look' as what, paid_at, 'https://shop.example/?utm_source=news&utm_medium=email' as landing
               from orders"""
    columns = {"anonymous_id": "visitor", "event": "what", "occurred_at": "paid_at", "landing_url": "landing"}
    settings = {"table": None, "query": query, "rows": "events", "columns": columns, "events": {"Look": "product_view"}}
    events = read(database, **settings).events.to_pandas()
    assert (len(events), set(events["source"]), set(events["medium"]), events["user_id"].isna().all()) == (4, {"news"}, {"email"}, True)
    assert sorted(read(database, **settings).events["event_id"].to_pylist()) == sorted(events["event_id"])


def test_nothing_can_be_written(read, database):
    assert problems_of(read, database, table=None, query="delete from orders returning *")
    assert problems_of(read, database, table=None, query="select * from orders) as x; delete from orders; select * from (select * from orders")
    assert read(database).events.num_rows == 2


def test_a_table_in_another_schema_is_found(read, database):
    database.run('create schema "Sales 2024"; create table "Sales 2024"."or""ders" as select * from orders')
    try:
        assert read(database, table='Sales 2024.or"ders').events.num_rows == 2
    finally:
        database.run('drop schema "Sales 2024" cascade')


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_table_that_is_not_there_is_refused_with_the_nearest_one(read, database):
    assert "Unknown table 'oders'. Did you mean 'orders'?" in problems_of(read, database, table="oders")[0]
    assert "Did you mean 'orders'?" in problems_of(read, database, table=None, query="select * from oders")[0]


def test_all_missing_columns_are_refused_with_the_nearest_ones(read, database):
    problems = problems_of(read, database, columns={**COLUMNS, "user_id": "custmer", "amount": "totl"})
    assert "Unknown column 'custmer'. Did you mean 'customer'?" in problems[0]
    assert "Unknown column 'totl'. Did you mean 'total'?" in problems[1]
    assert "the database cannot answer the query" in problems_of(read, database, table=None, query="select custmer from orders")[0]
    assert "the database cannot answer the query" in problems_of(read, database, table=None, query="selec 1")[0]


def test_no_rows_are_an_error_of_their_own(read, database):
    with pytest.raises(NoUsableData, match="query has no rows"):
        read(database, table=None, query="select * from orders where id < 0")


def test_no_connection_says_what_to_look_at_and_never_the_password(read, postgres, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    refused = problems_of(read, Database(f"postgresql://encore:${{SHOP_PASSWORD}}@127.0.0.1:{closed}/shop", postgres.run))[0]
    assert "Connection refused" in refused
    assert "Is it running there" in refused
    monkeypatch.setenv("SHOP_PASSWORD", "swordfish:)")
    assert "password authentication failed" in problems_of(read, postgres)[0]
    for url in (
        "postgresql://encore:${SHOP_PASSWORD}@127.0.0.1:nowhere/shop",
        "postgresql://encore:sword%fish@127.0.0.1:1/shop",
        "postgresql://a:swordfish)@[::1",
    ):
        assert "swordfish" not in "\n".join(problems_of(read, Database(url, postgres.run)))


def test_a_whole_address_may_be_a_variable(read, postgres, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHOP_DATABASE", sql_table._expanded(postgres.url))
    assert read(Database("${SHOP_DATABASE}", postgres.run)).events.num_rows == 2


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"query": "select 1"}, "both are given"),
        ({"table": None}, 'either query = "select ..." or table'),
        ({"path": "orders.csv"}, "both url and path"),
        ({"url": None, "path": "shop.csv"}, "table needs url"),
        ({"url": "postgres://localhost/shop"}, "'postgres'. Did you mean 'postgresql'?"),
        ({"url": "postgresql://encore:${NOT_SET_ANYWHERE}@localhost/shop"}, "variable NOT_SET_ANYWHERE, which url names, is not set"),
        ({"url": "duckdb:///shp.duckdb"}, r"'shp.duckdb'. Did you mean 'shop.duckdb'?"),
    ],
)
def test_settings_that_contradict_each_other_are_named(read, file, settings, expected):
    assert any(expected in problem for problem in problems_of(read, file, **settings))


def test_a_file_that_is_no_database_or_elsewhere_is_named(read, file, tmp_path):
    (tmp_path / "text.duckdb").write_text("id,customer\n" * 1000)
    assert "text.duckdb cannot be opened" in problems_of(read, file, url="duckdb:///text.duckdb")[0]
    assert f"write four slashes: duckdb:///{tmp_path}/shop.duckdb" in problems_of(read, file, url=f"duckdb://{tmp_path}/shop.duckdb")[0]
    assert read(file, url=f"duckdb:///{tmp_path}/shop.duckdb").events.num_rows == 2


def test_the_example_is_a_valid_shop_file(tmp_path):
    shutil.copy(Path(__file__).parents[2] / "examples" / "sql_table.toml", tmp_path)
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2024-01-01,USD,0.9\n")
    assert [source["rows"] for source in read_shop(tmp_path / "sql_table.toml").sources] == ["orders", "events"]
