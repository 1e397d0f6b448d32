"""Snapshot: one behaviour vector per user, as of one date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from ibis import Table

from features import view, views
from features.engine import Engine
from features.errors import NoUsableData, UnknownName
from features.events import EventLog
from features.files import code_digest, digest_of
from features.shopfile import Shop
from features.tiles import TILES_CODE, History, Tiles
from features.view import Feature, FeatureView, features_of
from features.views import all_views
from features.vocabulary import STAGES

CATALOGUE_CODE = code_digest(Path(__file__), Path(view.__file__), Path(views.__file__).parent)


@dataclass(frozen=True)
class Snapshot:
    """Behaviour vectors of all users known before `as_of`.

    table: user_id (sorted), stage, then one float64 column per feature; null is "no value".
    manifest: as_of, rows, catalogue, data digest, feature dictionary.
    """

    table: pa.Table
    manifest: Mapping[str, Any]

    @property
    def as_of(self) -> date:
        return date.fromisoformat(self.manifest["as_of"])

    @property
    def feature_names(self) -> list[str]:
        return [entry["name"] for entry in self.manifest["features"]]

    @cached_property
    def user_ids(self) -> pd.Index:
        index: pd.Index[str] = pd.Index(self.table["user_id"].to_pylist(), dtype="str")
        return index

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table as a frame indexed by user_id, NaN where a feature has no value."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame.set_index("user_id")

    def matrix(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Users x named features, in the order of the names.

        Raises:
            UnknownName: a feature that the snapshot does not have.
        """
        missing = [name for name in names if name not in self.table.column_names]
        if missing:
            raise UnknownName("feature", missing[0], self.feature_names)
        columns = [self.table[name].to_numpy(zero_copy_only=False) for name in names]
        return np.column_stack(columns).astype(np.float64) if columns else np.empty((self.table.num_rows, 0))


def catalogue(shop: Shop, kinds: frozenset[str]) -> list[Feature]:
    """The features that a shop with these kinds of events has, in a fixed order."""
    return [feature for family in all_views(shop) for feature in features_of(family, kinds, shop.interest)]


def recipe_digest(log: EventLog, shop: Shop) -> str:
    """What a snapshot is made by and from, besides its date: catalogue, shop settings, data."""
    names = [feature.describe() for feature in catalogue(shop, log.kinds)]
    return digest_of([names, CATALOGUE_CODE, TILES_CODE, shop.digest, log.digest])


def build_snapshot(tiles: Tiles, as_of: date, engine: Engine) -> Snapshot:
    """Compute every feature of the catalogue for every user known before `as_of`.

    Raises:
        NoUsableData: nobody is known before that date.
    """
    log, shop = tiles.log, tiles.shop
    features = catalogue(shop, log.kinds)
    history = tiles.before(as_of).staged(engine)
    expression = digest_of([[feature.describe() for feature in features], shop.digest])
    table = engine.collect_staged(expression, lambda: _vectors(history, features), ["user_id"])
    if not table.num_rows:
        raise NoUsableData(f"No user is known before {as_of}; the log holds events up to {log.complete_until}.")
    manifest = {
        "as_of": as_of.isoformat(),
        "rows": table.num_rows,
        "features": [feature.describe() for feature in features],
        "recipe": recipe_digest(log, shop),
        "data": log.digest,
        "complete_until": log.complete_until.isoformat(),
        "zone": log.zone,
        "currency": log.currency,
    }
    return Snapshot(table, manifest)


def _vectors(history: History, features: Sequence[Feature]) -> Table:
    users = _regular(history, features)
    for family, window in dict.fromkeys((feature.view, feature.window) for feature in features if feature.column.aggregate is None):
        mine = [feature for feature in features if (feature.view, feature.window) == (family, window) and feature.column.aggregate is None]
        users = users.left_join(_irregular(history, family, window, mine), "user_id").drop("user_id_right")
    values = {feature.name: _or_empty(users[feature.name].cast("float64"), feature) for feature in features}
    return users.select("user_id", "stage", **values)


def _regular(history: History, features: Sequence[Feature]) -> Table:
    """All regular features in one aggregate over the user's days."""
    rows = history.user_days
    regular = [(feature, feature.column.aggregate) for feature in features if feature.column.aggregate is not None]
    integers = {f"{feature.name}__{number}": part(rows, feature.window) for feature, aggregate in regular for number, part in enumerate(aggregate.parts)}
    sums = rows.group_by("user_id").aggregate(placed=rows.orders.sum(), **integers)
    values = {
        feature.name: aggregate.finish(*(sums[f"{feature.name}__{number}"] for number in range(len(aggregate.parts))), window=feature.window)
        for feature, aggregate in regular
    }
    stage = ibis.cases((sums.placed <= 0, STAGES[0]), (sums.placed == 1, STAGES[1]), else_=STAGES[2])
    return sums.select("user_id", stage=stage, **values)


def _irregular(history: History, family: FeatureView, window: int | None, features: Sequence[Feature]) -> Table:
    if family.rows is None:
        raise TypeError(f"view '{family.name}' has columns without an aggregate but no rows function")
    table = family.rows(history, window)
    return table.select("user_id", **{feature.name: table[feature.column.name] for feature in features})


def _or_empty(value: ibis.expr.types.NumericValue, feature: Feature) -> ibis.expr.types.NumericValue:
    return value if feature.column.empty is None else value.fill_null(float(feature.column.empty))
