"""Counts of what a user buys, per goods: features of a snapshot for whoever asks for them.

A shop has hundreds of categories. Look-alikes gain by their counts and other predictions do not, so no snapshot holds them: who
needs some names them, and they are counted from the tiles as of the snapshot's date. A model keeps the names in its bundle, so that
it sees the same goods at every date; which these are was chosen by what was known when it was fitted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.bucket import Array, Bucket
from features.catalogue import catalogue, parts_of
from features.errors import SnapshotRefused
from features.events import day_number
from features.files import code_digest, digest_of
from features.goods import BOUGHT, WINDOW, goods_named, goods_of
from features.norms import Norms
from features.snapshot import Snapshot, vectors
from features.tile_columns import DIMENSIONS, KEY_CODES
from features.tiles import Tiles
from features.view import Feature
from features.windows import Plan, Reader

BOUGHT_CODE = code_digest(Path(__file__))
MOST, FEWEST = 200, 20  # goods, and the buyers that each has to have


def features_bought(names: Sequence[str], tiles: Tiles) -> list[Feature]:
    """Of the named features those that count purchases of goods, by name."""
    counted = goods_named(names, tiles.products)
    return [feature for feature in catalogue(tiles.shop, tiles.log.kinds, counted) if feature.view == BOUGHT]


def most_bought(tiles: Tiles, as_of: date, dimension: str = "category", most: int = MOST) -> list[str]:
    """Features that count the goods of a dimension which most users had bought, by what had happened and was known before `as_of`:
    at most so many, each with FEWEST buyers in its window; ties go by name."""
    goods, cut = goods_of(tiles.products, dimension), day_number(as_of)
    place = {value: number for number, one in enumerate(goods) for value in one.values}
    values = zip(tiles.products["product_id"].to_pylist(), tiles.products[dimension].to_pylist(), strict=True)
    of_product = {product: place[value] for product, value in values if value in place}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        by_bucket = pool.map(lambda number: _buyers(tiles.bucket(number, ("keys",)), of_product, len(goods), cut), range(len(tiles)))
        buyers = sum(by_bucket, np.zeros(len(goods), np.int64))
    order = np.argsort(-buyers, kind="stable")[:most]
    return sorted(goods[place].feature for place in order if buyers[place] >= FEWEST)


def _buyers(bucket: Bucket, of_product: Mapping[str, int], goods: int, cut: int) -> Array:
    """How many users of a bucket bought each of so many goods: on some day more of a product than was taken back.

    Args:
        of_product: product -> place of its goods.
    """
    rows = bucket.keys
    mine = (rows["column"] == KEY_CODES["purchases"]) & (rows["day"] < cut) & (rows["day"] >= cut - WINDOW) & (rows["known"] < cut)
    user, day, key, value = (rows[name][mine] for name in ("user", "day", "key", "value"))
    if not len(user) or not goods:
        return np.zeros(goods, np.int64)
    is_new = np.append(True, (user[1:] != user[:-1]) | (day[1:] != day[:-1]) | (key[1:] != key[:-1]))
    first = np.flatnonzero(is_new)
    stands = first[np.add.reduceat(value, first) > 0]
    place = np.array([of_product.get(name, -1) for name in bucket.key_names.to_pylist()], np.int64)[key[stands]]
    pairs = np.unique((user[stands].astype(np.int64) * goods + place)[place >= 0])  # each user once per goods
    return np.bincount(pairs % goods, minlength=goods)


def with_bought(snapshot: Snapshot, tiles: Tiles, names: Sequence[str]) -> Snapshot:
    """The snapshot with those of the named features that count purchases of goods and that it does not have yet; the others are
    passed over.

    Raises:
        SnapshotRefused: the tiles are not of the log that the snapshot was made from.
    """
    features = [feature for feature in features_bought(names, tiles) if feature.name not in snapshot.feature_names]
    if not features:
        return snapshot
    counted = _counted(tiles, features, day_number(snapshot.as_of))
    place = pc.index_in(snapshot.table["user_id"].combine_chunks(), counted["user_id"].combine_chunks())
    if place.null_count:
        raise SnapshotRefused(f"The log changed since the snapshot as of {snapshot.as_of} was made: it lacks {place.null_count} of its users. Do it again.")
    table = snapshot.table
    for feature in features:
        table = table.append_column(pa.field(feature.name, pa.float64(), nullable=False), counted[feature.name].take(place))
    told = [feature.describe() for feature in features]
    recipe = digest_of([snapshot.manifest["recipe"], told, BOUGHT_CODE])
    more = {"features": [*snapshot.manifest["features"], *told], "families": list(dict.fromkeys([*snapshot.manifest["families"], BOUGHT])), "recipe": recipe}
    return replace(snapshot, table=table, manifest={**snapshot.manifest, **more})


def with_most_bought(snapshot: Snapshot, tiles: Tiles, rule: str = "") -> Snapshot:
    """The snapshot with counts of the categories that most users had bought, and of the goods whose features a rule speaks of."""
    known = {goods.feature for dimension in DIMENSIONS for goods in goods_of(tiles.products, dimension)} if rule else set()
    said = known.intersection(re.findall(r"[^\s<>=!]+", rule))
    return with_bought(snapshot, tiles, [*most_bought(tiles, snapshot.as_of), *sorted(said)])


def _counted(tiles: Tiles, features: Sequence[Feature], cut: int) -> pa.Table:
    plan, out = Plan(parts_of(features), tiles.shop.interest), frozenset(tiles.log.manifest["tombstones"])

    def of_bucket(number: int) -> pa.Table:
        reader = Reader(tiles.bucket(number, ("days", "keys")), plan, tiles.products)
        users, parts = reader.parts_at(cut)
        return vectors(reader.bucket.users.take(pa.array(users)), parts, features, Norms(), out)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return pa.concat_tables(pool.map(of_bucket, range(len(tiles))))
