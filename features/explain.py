"""The events behind a value: what a person asks when a number looks wrong."""

from __future__ import annotations

from datetime import date
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.aggregates import ChangePart, DayPart, GapPart, KeyPart, Part
from features.errors import NoUsableData, UnknownName
from features.events import EventLog, day_number
from features.goods import goods_of
from features.shopfile import Shop
from features.snapshot import catalogue
from features.tile_columns import DIMENSIONS
from features.view import Derived, Feature, events_behind
from features.vocabulary import LOG_SCHEMA

SHOWN = ("occurred_at", "known_at", "event", "order_id", "product_id", "quantity", "value_cents", "campaign", "channel", "source", "detail", "level")


def rows_of(log: EventLog, user_id: str, as_of: date) -> pd.DataFrame:
    """The rows of the log that count for a user before `as_of`, oldest first, each with its product's category, brand and
    department; what was taken back is not among them.

    Raises:
        NoUsableData: nothing is known of the user before that date.
    """
    cut = day_number(as_of)
    wanted = (pc.field("user_id") == user_id) & (pc.field("day") < cut) & (pc.field("known_day") < cut)
    frames = [pq.read_table(path, filters=wanted).to_pandas() for path in log.parts]
    rows = pd.concat(frames, ignore_index=True) if frames else LOG_SCHEMA.empty_table().to_pandas()
    content = [name for name in LOG_SCHEMA.names if name not in ("sign", "known_at", "known_day")]
    rows["stands"] = rows.groupby(content, dropna=False)["sign"].transform("sum")
    standing: pd.DataFrame = rows[(rows["stands"] > 0) & (rows["sign"] > 0)].drop_duplicates(content, keep="last")
    if standing.empty:
        raise NoUsableData(f"Nothing is known of the user '{user_id}' before {as_of}. Ids are case-sensitive; a visitor may be known by another id since.")
    return standing.merge(log.products().to_pandas(), on="product_id", how="left").sort_values(["occurred_at", "event_id"], ignore_index=True)


def behind(feature: Feature, features: dict[str, Feature], rows: pd.DataFrame, as_of: date, shop: Shop) -> pd.DataFrame:
    """Of a user's rows those that a feature is made of, the newest first."""
    parts = _parts(feature, features)
    mine = pd.Series(False, rows.index)
    for part in parts:
        mine |= _matches(part, rows, day_number(as_of), shop)
    return rows.loc[mine, list(SHOWN)].iloc[::-1]


def named(name: str, shop: Shop, kinds: frozenset[str], products: pa.Table) -> tuple[Feature, dict[str, Feature]]:
    """A feature by its name, and all of them, counts of any goods included.

    Raises:
        UnknownName: with the nearest match.
    """
    every = [goods for dimension in DIMENSIONS for goods in goods_of(products, dimension)]
    known = {feature.name: feature for feature in catalogue(shop, kinds, every)}
    if name not in known:
        raise UnknownName("feature", name, known)
    return known[name], known


def _parts(feature: Feature, features: dict[str, Feature]) -> list[Part]:
    source = feature.column.source
    return [part for name in source.inputs for part in _parts(features[name], features)] if isinstance(source, Derived) else list(feature.parts)


def _matches(part: Part, rows: pd.DataFrame, cut: int, shop: Shop) -> pd.Series[bool]:
    found: Any = rows["event"].isin(events_behind(part, shop.interest))
    match part:
        case DayPart() | KeyPart():
            if part.window is not None:
                found &= cut - rows["day"] <= part.window
            if isinstance(part, KeyPart) and part.value is not None:
                found &= rows[part.dimension] == part.value
        case ChangePart() if part.name.startswith("attribute."):
            found &= rows["detail"] == part.name.removeprefix("attribute.")
        case ChangePart() | GapPart():
            pass
    return pd.Series(found, rows.index)
