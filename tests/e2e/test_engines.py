"""The same declarations counted by compiled loops and by SQL on DuckDB; SQL for warehouses compiles and parses. Spark has a file of its own."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
import sqlglot

from features.aggregates import Part
from features.engine import COMPILED_ONLY, compiled, connect, read_parquet
from features.errors import UnknownName
from features.events import EventLog, day_number
from features.goods import Goods, goods_of
from features.relational import collected, integers
from features.shop import simulate
from features.shopfile import Shop
from features.snapshot import catalogue, parts_of
from features.store import SnapshotStore, build_elsewhere
from features.tile_columns import DIMENSIONS
from features.tiles import Tiles, open_tiles, supply_of
from features.vocabulary import EVENTS, LOG_SCHEMA, PRODUCT_SCHEMA
from features.windows import Plan, Reader

SHOP = Shop("Test shop", "UTC", "EUR", attributes=("age", "growth_value"), tiers=(0, 100), daily_use={"care-00": 0.1, "kitchen-1": 0.5})
AS_OF = date(2024, 6, 1)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    folder = tmp_path_factory.mktemp("engines")
    log = EventLog(folder / "log", "UTC", "EUR")
    log.append(simulate(users=150, days=200, seed=5).batch)
    return open_tiles(log, SHOP, folder / "tiles")


def counted(backend: Any, tiles: Tiles, parts: list[Part]) -> dict[Part, Any]:
    supply = supply_of(tiles.products, SHOP)
    lasts = pa.array([supply.get(name, 0) for name in tiles.products["product_id"].to_pylist()], pa.int64())
    events, products = read_parquet(backend, tiles.log.parts), ibis.memtable(tiles.products.append_column("lasts", lasts))
    users, found = collected(backend.to_pyarrow(integers(events, products, AS_OF, parts, SHOP.interest)), parts)
    return {"users": users.to_pylist()} | {part: plain(values) for part, values in found.items()}


def plain(values: Any) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.cast(pa.string()).to_numpy(zero_copy_only=False)


def expected(tiles: Tiles, parts: list[Part]) -> dict[Part, Any]:
    reader = Reader(tiles.bucket(0), Plan(parts, SHOP.interest), tiles.products)
    users, found = reader.parts_at(day_number(AS_OF))
    return {"users": reader.bucket.users.take(pa.array(users)).to_pylist()} | {part: plain(values) for part, values in found.items()}


def test_sql_on_duckdb_counts_the_same_integers_as_the_compiled_loops(tiles: Tiles) -> None:
    goods = [one for dimension in DIMENSIONS for one in goods_of(tiles.products, dimension)]
    parts = list(dict.fromkeys(parts_of(catalogue(SHOP, tiles.log.kinds, [*goods, Goods("category", "wine", ("wine",))]))))
    here, there = expected(tiles, parts), counted(connect("duckdb://"), tiles, parts)
    assert len(parts) > 180 + len(goods) > 200
    assert [part for part in here if list(here[part]) != list(there[part])] == []


def test_a_snapshot_counted_elsewhere_has_the_same_bytes(tiles: Tiles, tmp_path: Path) -> None:
    ours = SnapshotStore(tmp_path / "ours").build(tiles, [AS_OF])[0]
    theirs = build_elsewhere(SnapshotStore(tmp_path / "theirs"), tiles, [AS_OF], "duckdb://")[0]
    assert (ours / "vectors.parquet").read_bytes() == (theirs / "vectors.parquet").read_bytes()
    assert (ours / "manifest.json").read_bytes() == (theirs / "manifest.json").read_bytes()


@pytest.mark.long  # to parse half a million characters takes its time
@pytest.mark.parametrize("warehouse", COMPILED_ONLY)
def test_sql_of_the_whole_catalogue_for_a_warehouse_parses_and_fits_its_limit(warehouse: str) -> None:
    sql = sql_for(warehouse, list(dict.fromkeys(parts_of(catalogue(SHOP, frozenset(EVENTS), [Goods("brand", "dr_o", ("Dr. O'",))])))))
    assert len(sql) < 1_000_000  # BigQuery takes no longer query


@pytest.mark.parametrize("warehouse", COMPILED_ONLY)
def test_sql_for_a_warehouse_parses(warehouse: str) -> None:
    parts = list(dict.fromkeys(parts_of(catalogue(SHOP, frozenset(EVENTS), [Goods("brand", "dr_o", ("Dr. O'",))]))))
    assert f"part_{len(parts[::8]) - 1}" in sql_for(warehouse, parts[::8])


def sql_for(warehouse: str, parts: list[Part]) -> str:
    """SQL that counts some parts, after a look at it."""
    events = ibis.table(ibis.Schema.from_pyarrow(LOG_SCHEMA), name="log")
    products = ibis.table({**ibis.Schema.from_pyarrow(PRODUCT_SCHEMA), "lasts": "int64"}, name="products")
    sql = compiled(integers(events, products, AS_OF, parts, SHOP.interest), warehouse)
    assert isinstance(sqlglot.parse_one(sql, dialect=warehouse), sqlglot.exp.Select)
    assert all(f"part_{number}" in sql for number in range(len(parts)))
    return sql


def test_an_unknown_engine_is_named_with_its_neighbour() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'spark'"):
        connect("sparc://local")
    with pytest.raises(UnknownName, match="Did you mean 'bigquery'"):
        compiled(ibis.table({"a": "int64"}, name="a"), "bigqueri")
