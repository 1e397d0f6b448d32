"""Snapshot: one behaviour vector per user, as of one date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from features import aggregates, goods, kernels, norms, view, views, windows
from features import catalogue as declared
from features.aggregates import Part
from features.catalogue import ORDERS as ORDERS
from features.catalogue import absent
from features.catalogue import catalogue as catalogue
from features.catalogue import finish as finish
from features.catalogue import needed_for_norms as needed_for_norms
from features.catalogue import parts_of as parts_of
from features.errors import UnknownName
from features.events import EventLog
from features.files import code_digest, digest_of
from features.identity import tombstone
from features.norms import Norms
from features.shopfile import Shop
from features.tiles import TILES_CODE, supply_of
from features.view import Feature
from features.vocabulary import STAGES

MADE_BY = (declared, view, aggregates, goods, kernels, windows, norms)
CATALOGUE_CODE = code_digest(Path(__file__), *(Path(str(module.__file__)) for module in MADE_BY), Path(views.__file__).parent)


@dataclass(frozen=True)
class Snapshot:
    """Behaviour vectors of all users known before `as_of`.

    table: user_id (sorted), stage, the labels as text, then one float64 column per feature; NaN is "no value".
    manifest: as_of, rows, catalogue, norms, data digest, feature dictionary.
    """

    table: pa.Table
    manifest: Mapping[str, Any]

    @property
    def as_of(self) -> date:
        return date.fromisoformat(self.manifest["as_of"])

    @property
    def feature_names(self) -> list[str]:
        return [entry["name"] for entry in self.manifest["features"]]

    @property
    def label_names(self) -> list[str]:
        """Columns with words for people, which no model sees."""
        return [entry["name"] for entry in self.manifest["labels"]]

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


def recipe_digest(log: EventLog, shop: Shop, as_of: date, share: float = 1.0) -> str:
    """What a snapshot is made by and from: catalogue, shop settings, the data known before its date, the share of its users."""
    names = [feature.describe() for feature in catalogue(shop, log.kinds)]
    return digest_of([names, CATALOGUE_CODE, TILES_CODE, shop.digest, supply_of(log.products(), shop), log.digest_before(as_of), share])


def describe(log: EventLog, shop: Shop, as_of: date, measured: Norms, share: float = 1.0) -> dict[str, Any]:
    """The manifest of a snapshot, but for what is known only when it is written."""
    features = catalogue(shop, log.kinds)
    return {
        "as_of": as_of.isoformat(),
        "features": [feature.describe() for feature in features if not feature.is_label],
        "labels": [feature.describe() for feature in features if feature.is_label],
        "families": list(dict.fromkeys(feature.view for feature in features)),
        "absent": absent(shop, log.kinds),
        "norms": measured.describe(),
        "recipe": recipe_digest(log, shop, as_of, share),
        "share": share,
        "data": log.digest_before(as_of),
        "complete_until": log.complete_until.isoformat(),
        "zone": log.zone,
        "currency": log.currency,
    }


def vectors(users: pa.Array, parts: Mapping[Part, Any], features: Sequence[Feature], measured: Norms, out: frozenset[str]) -> pa.Table:
    """The rows of a snapshot for some users.

    Args:
        out: tombstones of users who must stay out.
    """
    if out:
        rows = pa.array([place for place, name in enumerate(users.to_pylist()) if tombstone(name) not in out], pa.int64())
        users, parts = users.take(rows), {part: values[rows] if isinstance(values, np.ndarray) else values.take(rows) for part, values in parts.items()}
    values = finish(features, parts, measured)
    stage = pa.DictionaryArray.from_arrays(pa.array(np.clip(parts[ORDERS], 0, 2), pa.int32()), pa.array(STAGES)).cast(pa.string())
    columns: dict[str, Any] = {"user_id": users, "stage": stage}
    columns |= {feature.name: values[feature.name].cast(pa.string()) for feature in features if feature.is_label}
    columns |= {feature.name: pa.array(values[feature.name]) for feature in features if not feature.is_label}
    # Numbers are never null: NaN is "no value", and costs less to write.
    schema = pa.schema([pa.field(name, column.type, nullable=column.type == pa.string()) for name, column in columns.items()])
    return pa.table(list(columns.values()), schema=schema)
