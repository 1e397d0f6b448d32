"""A snapshot is one thing: the same bytes on any number of threads, however its tiles were cut up and its log came in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from features import bought as bought_module
from features import store as store_module
from features.bought import most_bought, with_bought, with_most_bought
from features.errors import SnapshotRefused
from features.events import EventLog, day_number
from features.files import read_json
from features.shop import simulate
from features.shopfile import Shop
from features.snapshot import catalogue, parts_of, vectors
from features.sources.batch import Batch
from features.store import SnapshotStore, measure, read_snapshot
from features.tiles import BUCKET_EVENTS, Tiles, open_tiles
from features.windows import Plan, Reader

CUTOFFS = [date(2024, 3, 1), date(2024, 4, 15), date(2024, 6, 1)]
SHOP = Shop("Test shop", "UTC", "EUR", attributes=("age",), tiers=(0, 100, 1000), daily_use={"care": 0.1})


@pytest.fixture(scope="module", autouse=True)
def small_groups() -> Iterator[None]:
    """Row groups of 32 users, so that buckets end inside them and they end inside buckets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "GROUP", 32)
        yield


@pytest.fixture(scope="module")
def batch() -> Batch:
    """150 users over 160 days; a tenth of their orders is corrected weeks later, and every third user was a visitor at first."""
    played = simulate(users=150, days=160, seed=4).batch
    events = played.events.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    orders = events[events["event"] == "order"]
    corrected = orders.iloc[::10].assign(value_cents=lambda rows: rows["value_cents"] // 2, known_at=lambda rows: rows["known_at"] + pd.Timedelta(days=20))
    visitors = events["user_id"].str.endswith(("0", "3", "6", "9")) & (events["occurred_at"] < "2024-03-20")
    links = events[visitors].drop_duplicates("user_id").assign(event="identified", order_id=None, product_id=None, detail=None)
    links = links.assign(anonymous_id="visitor of " + links["user_id"], event_id="link " + links["user_id"])
    links[["occurred_at", "known_at"]] = pd.Timestamp("2024-03-20", tz="UTC")
    events = events.assign(anonymous_id=("visitor of " + events["user_id"]).where(visitors), user_id=events["user_id"].mask(visitors))
    rows = pd.concat([events, corrected.assign(anonymous_id=events["anonymous_id"], user_id=events["user_id"]), links])
    return replace(played, events=pa.Table.from_pandas(rows, schema=played.events.schema, preserve_index=False))


@pytest.fixture(scope="module")
def log(batch, tmp_path_factory) -> EventLog:
    log = EventLog(tmp_path_factory.mktemp("log"), "UTC", "EUR")
    report = log.append(batch)
    assert report.restated > 20
    assert report.taken_back > 100
    return log


@pytest.fixture(scope="module")
def tiles(log, tmp_path_factory) -> Tiles:
    return open_tiles(log, SHOP, tmp_path_factory.mktemp("tiles"))


def digests(tiles: Tiles, folder: Path, threads: int = 1, cutoffs: list[date] = CUTOFFS) -> list[str]:
    return [read_json(path / "manifest.json")["sha256"] for path in SnapshotStore(folder).build(tiles, cutoffs, threads)]


@pytest.fixture(scope="module")
def expected(tiles, tmp_path_factory) -> list[str]:
    """One bucket, one thread, all cutoffs in one build, all events in one ingest."""
    assert len(tiles) == 1
    return digests(tiles, tmp_path_factory.mktemp("snapshots"))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("bucket_events", [500, 2_000, BUCKET_EVENTS])
def test_threads_and_buckets_do_not_show(log, expected, tmp_path, threads, bucket_events):
    tiles = open_tiles(log, SHOP, tmp_path / "tiles", bucket_events)
    assert len(tiles) > {500: 15, 2_000: 4, BUCKET_EVENTS: 0}[bucket_events]
    assert digests(tiles, tmp_path / "snapshots", threads) == expected


@pytest.fixture(scope="module")
def counted(tiles, tmp_path_factory) -> pa.Table:
    """The last snapshot with the categories that most had bought: the reference for tiles cut up otherwise."""
    return widest(tiles, tmp_path_factory.mktemp("counted"))


def widest(tiles: Tiles, folder: Path) -> pa.Table:
    return with_most_bought(SnapshotStore(folder).get(tiles, CUTOFFS[-1]), tiles).table


@pytest.mark.parametrize("bucket_events", [500, 2_000])
def test_goods_are_counted_alike_however_the_tiles_were_cut_up(log, counted, tmp_path, bucket_events):
    assert counted.column_names[-1].startswith("bought_category_")
    cut_up = open_tiles(log, SHOP, tmp_path / "tiles", bucket_events)
    pd.testing.assert_frame_equal(widest(cut_up, tmp_path / "snapshots").to_pandas(), counted.to_pandas())


def test_counts_of_goods_follow_the_users_of_a_snapshot(batch, log, tiles, counted, tmp_path):
    """A sample has those of its users, who is suppressed has none, and the recipe says that they are there."""
    names = [name for name in counted.column_names if name.startswith("bought_")]
    part = read_snapshot(SnapshotStore(tmp_path).build(tiles, CUTOFFS[-1:], share=0.5)[0])
    wide = with_bought(part, tiles, [*names, "orders_count"])
    everybody = counted.to_pandas().set_index("user_id")
    pd.testing.assert_frame_equal(wide.frame[names], everybody.loc[part.user_ids, names])
    assert wide.feature_names == [*part.feature_names, *names]
    assert wide.manifest["recipe"] != part.manifest["recipe"]
    assert with_bought(wide, tiles, names) is wide
    silent = EventLog(tmp_path / "log", "UTC", "EUR")
    silent.append(batch)
    gone = everybody.index[everybody[names].sum(axis=1) > 0][0]
    silent.bury([gone], "suppressed")
    left = with_bought(SnapshotStore(tmp_path / "left").get(others := open_tiles(silent, SHOP, tmp_path / "tiles"), CUTOFFS[-1]), others, names)
    pd.testing.assert_frame_equal(left.frame[names], everybody.loc[everybody.index != gone, names])


def test_a_snapshot_of_another_log_is_refused(tiles, tmp_path):
    snapshot = SnapshotStore(tmp_path / "snapshots").get(tiles, CUTOFFS[-1])
    other = EventLog(tmp_path / "log", "UTC", "EUR")
    other.append(simulate(users=20, days=160, seed=4).batch)
    with pytest.raises(SnapshotRefused, match="it lacks"):
        with_bought(snapshot, open_tiles(other, SHOP, tmp_path / "tiles"), ["bought_category_care_0_365d"])


@pytest.mark.parametrize("as_of", CUTOFFS)
def test_the_goods_chosen_are_those_that_most_had_bought_by_then(tiles, monkeypatch, as_of):
    """Against a plain count; what happens or becomes known later does not matter."""
    monkeypatch.setattr(bought_module, "FEWEST", 5)
    bought = tiles.before(as_of).keys("purchases").merge(tiles.products.to_pandas(), left_on="key", right_on="product_id")
    buyers = bought.groupby("category")["user_id"].nunique()
    buyers = buyers[buyers >= 5].sort_index().sort_values(ascending=False, kind="stable")
    assert len(buyers) > 10
    for most in (3, 10, 100):
        named = sorted(f"bought_category_{category.replace('-', '_')}_365d" for category in buyers.index[:most])
        assert most_bought(tiles, as_of, most=most) == named


def test_a_sample_has_the_vectors_of_the_whole_and_is_part_of_every_larger_one(tiles, expected, tmp_path):
    store, kept = SnapshotStore(tmp_path), []
    whole = [read_snapshot(path) for path in store.build(tiles, CUTOFFS)]
    for share in (0.5, 0.25):
        sampled = [read_snapshot(path) for path in store.build(tiles, CUTOFFS, share=share)]
        for snapshot, everybody in zip(sampled, whole, strict=True):
            assert snapshot.manifest["share"] == share
            assert snapshot.manifest["norms"] == everybody.manifest["norms"]
            pd.testing.assert_frame_equal(snapshot.frame, everybody.frame.loc[snapshot.user_ids])
        kept.append([set(snapshot.user_ids) for snapshot in sampled])
    assert all(0.3 < len(ids) / snapshot.table.num_rows < 0.7 for ids, snapshot in zip(kept[0], whole, strict=True))
    assert all(less < more for less, more in zip(kept[1], kept[0], strict=True))
    assert digests(tiles, tmp_path) == expected


def test_cutoffs_one_by_one_and_in_any_order(tiles, expected, tmp_path):
    assert [digests(tiles, tmp_path, cutoffs=[as_of])[0] for as_of in reversed(CUTOFFS)] == expected[::-1]


@pytest.mark.parametrize(("pieces", "bucket_events"), [(12, BUCKET_EVENTS), (5, 2_000)])
def test_a_log_that_grew_day_by_day_with_its_tiles(batch, expected, log, tmp_path, pieces, bucket_events):
    known = batch.events["known_at"].to_pandas()
    edges = pd.date_range(pd.Timestamp("2024-01-01", tz="UTC"), known.max().ceil("D"), periods=pieces + 1)
    edges = edges[[0, *range(pieces // 2, pieces + 1)]]  # half at once, then bit by bit: tiles of news beside the old ones
    grown, most = EventLog(tmp_path / "log", "UTC", "EUR"), 0
    for begin, end in pairwise(edges):
        rows = batch.events.filter(pa.array(((known >= begin) & (known < end)).to_numpy()))
        grown.append(replace(batch, events=rows))
        tiles = open_tiles(grown, SHOP, tmp_path / "tiles", bucket_events)
        most = max(most, len(tiles.folders))
    assert most == 2  # old tiles with news beside them were read as one
    assert grown.digest == log.digest
    assert digests(tiles, tmp_path / "snapshots") == expected
    assert digests(open_tiles(grown, SHOP, tmp_path / "anew"), tmp_path / "again") == expected


def test_a_user_alone_has_the_values_that_they_have_among_all(batch, log, tiles, tmp_path):
    features = catalogue(SHOP, log.kinds)
    as_of = CUTOFFS[-1]
    norms = measure(tiles, [as_of], features)[as_of]
    everybody = read_snapshot(SnapshotStore(tmp_path / "snapshots").build(tiles, [as_of])[0]).table
    plan = Plan(parts_of(features), SHOP.interest)
    for place in range(0, everybody.num_rows, 25):
        name = everybody["user_id"][place].as_py()
        mine = pc.or_kleene(pc.equal(batch.events["user_id"], name), pc.equal(batch.events["anonymous_id"], f"visitor of {name}"))
        alone = EventLog(tmp_path / name, "UTC", "EUR")
        alone.append(replace(batch, events=batch.events.filter(mine)))
        reader = Reader(open_tiles(alone, SHOP, tmp_path / f"tiles of {name}").bucket(0), plan, alone.products())
        users, parts = reader.parts_at(day_number(as_of))
        ours = vectors(reader.bucket.users.take(pa.array(users)), parts, features, norms, frozenset())
        assert ours.to_pandas().equals(everybody.slice(place, 1).to_pandas()), name


def test_every_value_is_a_number_or_no_value_and_never_infinite(tiles, tmp_path):
    for path in SnapshotStore(tmp_path).build(tiles, CUTOFFS):
        snapshot = read_snapshot(path)
        matrix = snapshot.matrix(snapshot.feature_names)
        assert not np.isinf(matrix).any()
        assert len(snapshot.feature_names) > 200


@pytest.mark.timeout(60)
def test_an_error_in_one_bucket_ends_the_build_and_leaves_no_snapshot(log, tmp_path, monkeypatch):
    tiles, calls = open_tiles(log, SHOP, tmp_path / "tiles", 2_000), []

    def breaks(*args):
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError("no more of it")
        return vectors(*args)

    monkeypatch.setattr(store_module, "vectors", breaks)
    with pytest.raises(MemoryError):
        SnapshotStore(tmp_path / "snapshots").build(tiles, CUTOFFS, 4)
    assert not list((tmp_path / "snapshots").glob("*/manifest.json"))
    monkeypatch.undo()
    assert len(SnapshotStore(tmp_path / "snapshots").build(tiles, CUTOFFS, 4)) == len(CUTOFFS)


def test_what_the_snapshot_was_measured_by_stands_in_its_manifest(tiles, tmp_path):
    (path,) = SnapshotStore(tmp_path).build(tiles, CUTOFFS[-1:])
    norms = read_snapshot(path).manifest["norms"]
    assert norms == measure(tiles, CUTOFFS[-1:], catalogue(SHOP, tiles.log.kinds))[CUTOFFS[-1]].describe()
    assert norms["repurchasers"] > 20
