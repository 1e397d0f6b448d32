"""The whole catalogue counted by Spark on two cores: the same snapshot to the byte."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path

import ibis
import pyarrow as pa
import pytest

from features.engine import connect, read_parquet
from features.events import EventLog, day_number
from features.goods import goods_of
from features.relational import collected, integers
from features.shop import simulate
from features.shopfile import Shop
from features.snapshot import catalogue, parts_of
from features.store import SnapshotStore, build_elsewhere
from features.tiles import open_tiles
from features.windows import Plan, Reader

SHOP = Shop("Test shop", "UTC", "EUR", attributes=("age",), tiers=(0, 100), daily_use={"care-00": 0.1, "kitchen-1": 0.5})
AS_OF = date(2024, 6, 1)


# Spark's Python side leaves sockets to the garbage collector and uses options that pandas 3 has deprecated.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_spark_gives_the_same_bytes_for_the_whole_catalogue(tmp_path: Path) -> None:
    if shutil.which("java") is None and not os.environ.get("CI"):
        pytest.skip("Spark needs Java 17, which is not installed here")
    log = EventLog(tmp_path / "log", "UTC", "EUR")
    log.append(simulate(users=100, days=170, seed=5).batch)
    tiles = open_tiles(log, SHOP, tmp_path / "tiles")
    assert len(catalogue(SHOP, log.kinds)) > 200
    ours = SnapshotStore(tmp_path / "ours").build(tiles, [AS_OF])[0]
    parts = parts_of([feature for feature in catalogue(SHOP, log.kinds, goods_of(tiles.products, "category")) if feature.view == "bought"])
    spark = connect("spark://local[2]")
    session = spark._session
    try:
        theirs = build_elsewhere(SnapshotStore(tmp_path / "theirs"), tiles, [AS_OF], "spark://local[2]")[0]
        sql = integers(read_parquet(spark, log.parts), ibis.memtable(tiles.products), AS_OF, parts, SHOP.interest)
        users, counted = collected(spark.to_pyarrow(sql), parts)
    finally:
        gateway = session.sparkContext._gateway
        session.stop()
        gateway.shutdown()
    assert (ours / "vectors.parquet").read_bytes() == (theirs / "vectors.parquet").read_bytes()
    assert (ours / "manifest.json").read_bytes() == (theirs / "manifest.json").read_bytes()
    reader = Reader(tiles.bucket(0), Plan(parts, SHOP.interest), tiles.products)
    positions, expected = reader.parts_at(day_number(AS_OF))
    assert users.to_pylist() == reader.bucket.users.take(pa.array(positions)).to_pylist()
    assert [part for part in parts if counted[part].tolist() != expected[part].tolist()] == []
    assert len(parts) > 10
