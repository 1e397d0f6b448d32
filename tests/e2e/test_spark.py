"""Vectors counted by Spark on two cores: the same integers for every kind of count, and in the long tests the same snapshot to the byte."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest

from features.aggregates import ChangePart, DayPart, GapPart, KeyPart, Part
from features.engine import connect, read_parquet
from features.events import EventLog, day_number
from features.goods import goods_of
from features.relational import collected, integers
from features.shop import simulate
from features.shopfile import Shop
from features.snapshot import catalogue, parts_of
from features.store import SnapshotStore, build_elsewhere
from features.tiles import Tiles, open_tiles
from features.windows import Plan, Reader

SHOP = Shop("Test shop", "UTC", "EUR", attributes=("age",), tiers=(0, 100), daily_use={"care-00": 0.1, "kitchen-1": 0.5})
AS_OF = date(2024, 6, 1)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    if shutil.which("java") is None and not os.environ.get("CI"):
        pytest.skip("Spark needs Java 17, which is not installed here")
    folder = tmp_path_factory.mktemp("spark")
    log = EventLog(folder / "log", "UTC", "EUR")
    log.append(simulate(users=100, days=170, seed=5).batch)
    return open_tiles(log, SHOP, folder / "tiles")


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")  # to optimise what runs once costs as much as all the rest
    backend = connect("spark://local[2]")
    session = backend._session
    yield backend
    context = type(session.sparkContext)
    gateway = context._gateway
    session.stop()
    gateway.shutdown()
    context._gateway = context._jvm = None  # or the next session talks to the one that is gone


def one_of_each_kind(parts: Sequence[Part]) -> list[Part]:
    """The first part of each kind, with a window and without one, over each dimension."""
    first: dict[object, Part] = {}
    for part in parts:
        about = part.kind, getattr(part, "dimension", None), getattr(part, "window", None) is None, getattr(part, "field", None)
        first.setdefault((type(part), *about), part)
    return list(first.values())


def agree(spark: Any, tiles: Tiles, parts: Sequence[Part]) -> None:
    """Spark counts each part as the compiled loops do."""
    sql = integers(read_parquet(spark, tiles.log.parts), ibis.memtable(tiles.products), AS_OF, parts, SHOP.interest)
    users, counted = collected(spark.to_pyarrow(sql), parts)
    reader = Reader(tiles.bucket(0), Plan(parts, SHOP.interest), tiles.products)
    positions, expected = reader.parts_at(day_number(AS_OF))
    assert users.to_pylist() == reader.bucket.users.take(pa.array(positions)).to_pylist()
    assert [part for part in parts if counted[part].tolist() != expected[part].tolist()] == []


# Spark's Python side leaves sockets to the garbage collector and uses options that pandas 3 has deprecated.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_spark_counts_every_kind_of_part_as_the_compiled_loops_do(tiles: Tiles, spark: Any) -> None:
    parts = one_of_each_kind(parts_of(catalogue(SHOP, tiles.log.kinds)))
    assert {type(part) for part in parts} == {DayPart, GapPart, KeyPart, ChangePart}
    assert len(parts) > 20
    agree(spark, tiles, parts)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(900)
def test_spark_gives_the_same_bytes_for_the_whole_catalogue(tiles: Tiles, spark: Any, tmp_path: Path) -> None:
    assert len(catalogue(SHOP, tiles.log.kinds)) > 200
    ours = SnapshotStore(tmp_path / "ours").build(tiles, [AS_OF])[0]
    theirs = build_elsewhere(SnapshotStore(tmp_path / "theirs"), tiles, [AS_OF], "spark://local[2]")[0]
    assert (ours / "vectors.parquet").read_bytes() == (theirs / "vectors.parquet").read_bytes()
    assert (ours / "manifest.json").read_bytes() == (theirs / "manifest.json").read_bytes()
    parts = parts_of([feature for feature in catalogue(SHOP, tiles.log.kinds, goods_of(tiles.products, "category")) if feature.view == "bought"])
    assert len(parts) > 10
    agree(spark, tiles, parts)
