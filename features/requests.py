"""The behaviour vector of one user at the moment of asking: events that come with a request go through the log's own code.

It equals, to the bit, what a snapshot of the whole shop holds for that user as of the same date: the same tiles, integers and
finishing, judged by the norms that the snapshot stored. What is looked up is only what these events need: the shortest way for one user.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features import (
    aggregates,
    bucket,
    calendar,
    catalogue,
    compiled,
    goods,
    kernels,
    norms,
    tile_columns,
    tile_kernels,
    tiling,
    view,
    views,
    vocabulary,
    windows,
)
from features.aggregates import Aggregate, Part, as_counted, as_share
from features.calendar import day_number
from features.catalogue import ORDERS, finish, parts_of
from features.files import code_digest
from features.goods import goods_named
from features.norms import Norms
from features.shopfile import Shop
from features.tiling import FIELDS, TEXTS, Events, tiles_of
from features.view import Derived, Feature
from features.vocabulary import LOG_SCHEMA, STAGES
from features.windows import Array, Plan, Reader

MADE_BY = (aggregates, bucket, calendar, catalogue, compiled, goods, kernels, norms, tile_columns, tile_kernels, tiling, view, vocabulary, windows)
CODE = code_digest(Path(__file__), *(Path(str(module.__file__)) for module in MADE_BY), Path(views.__file__).parent)
Event = Mapping[str, Any]  # columns of EVENT_SCHEMA without ids of users; event and occurred_at are there, the others may be, moments with their zone
Row = tuple[Event, datetime, int]  # an event, when its row became known, and 1 or -1


@dataclass(frozen=True)
class Vector:
    """values: feature -> float, NaN for no value. stage: of STAGES. used, ignored: events before the date, and at or after it."""

    values: Mapping[str, float]
    stage: str
    used: int
    ignored: int


class OneUser:
    """Makes the vector of one user at a time.

    Args:
        shop: its zone, groups, attributes, tiers and daily use. kinds: the kinds of events in its log. norms: of the snapshot.
        products: product_id (sorted), category, brand, department and lasts: minutes that one piece lasts, 0 where nobody says.
        names: the features that are wanted.
    """

    def __init__(self, shop: Shop, kinds: frozenset[str], norms: Norms, products: pa.Table, names: Sequence[str]) -> None:
        self.shop, self.norms, self.products, self.names = shop, norms, products, tuple(names)
        self.features = with_inputs(names, catalogue.catalogue(shop, kinds, goods_named(names, products)))
        self.plan = Plan(parts_of(self.features), shop.interest)
        # Most features are a count or a share. For one user calling takes longer than computing, so these are made in one call each.
        self._alike = [_Alike.of(finish_alike, self.features) for finish_alike in (as_counted, as_share)]
        made = {name for alike in self._alike for name in alike.names}
        self._others = [feature for feature in self.features if feature.name not in made]

    def vector(self, events: Sequence[Event], as_of: date) -> Vector | None:
        """The vector from everything that the user ever did; None where nothing of it counts before `as_of`.

        Args:
            as_of: midnight of that day in the shop's zone. What happened or became known then or later does not count.
        """
        cut = day_number(as_of)
        rows, numbers, used = _before(_rows(events), self.shop.zone, cut)
        known = self._known({event.get("product_id") for event in rows})
        supply = {name: lasts for name, lasts in zip(known["product_id"].to_pylist(), known["lasts"].to_pylist(), strict=True) if lasts}
        encoded = {name: _encoded([event.get(name) for event in rows]) for name in TEXTS[1:]}
        bucket = tiles_of(Events({"user_id": _encoded([""] * len(rows)), **encoded}, numbers, supply))
        users, parts = Reader(bucket, self.plan, known).parts_at(cut)
        if not len(users):
            return None
        alike = {name: value for some in self._alike for name, value in some.values(parts).items()}
        values = finish(self._others, parts, self.norms, alike)
        stage = STAGES[int(np.clip(parts[ORDERS][0], 0, 2))]
        return Vector({name: float(values[name][0]) for name in self.names}, stage, used, len(events) - used)

    def _known(self, named: set[str | None]) -> pa.Table:
        """The rows of the products that the events name, found without a table of all of them."""
        ids = self.products["product_id"].chunk(0) if self.products.num_rows else pa.array([], pa.string())
        places = [_place(name, len(ids), lambda place: str(ids[place].as_py())) for name in sorted(name for name in named if name is not None)]
        return self.products.take(pa.array([place for place in places if place is not None], pa.int64()))


@dataclass(frozen=True)
class _Alike:
    """Features that one function finishes whatever their window, from as many parts each. empty: the value without history, NaN for none."""

    finish: Callable[..., Array]
    names: tuple[str, ...]
    parts: tuple[tuple[Part, ...], ...]
    empty: Array

    @classmethod
    def of(cls, finish: Callable[..., Array], features: Sequence[Feature]) -> _Alike:
        mine = [feature for feature in features if isinstance(feature.column.source, Aggregate) and feature.column.source.finish is finish]
        empty = np.array([np.nan if feature.column.empty is None else feature.column.empty for feature in mine], np.float64)
        return cls(finish, tuple(feature.name for feature in mine), tuple(zip(*[feature.parts for feature in mine], strict=True)), empty)

    def values(self, parts: Mapping[Part, Any]) -> dict[str, Array]:
        """Name -> value of each for the one user whose parts these are."""
        if not self.names:
            return {}
        found = self.finish(None, *[np.array([parts[part][0] for part in some], np.int64) for some in self.parts])
        found = np.where(np.isnan(found), self.empty, found)
        return {name: found[place : place + 1] for place, name in enumerate(self.names)}


def with_inputs(names: Sequence[str], features: Sequence[Feature]) -> list[Feature]:
    """Some features and all that they are derived from, in the order of the catalogue."""
    wanted = set(names)
    for feature in reversed(features):
        # Optional inputs, which a derived column asks for only where they exist, stay out of `inputs`: the layers' labels. No model sees those.
        if feature.name in wanted and isinstance(feature.column.source, Derived):
            wanted |= set(feature.column.source.inputs)
    return [feature for feature in features if feature.name in wanted]


def _rows(events: Sequence[Event]) -> list[Row]:
    """What `ledger.post` makes of these facts: an order and its lines count until they are cancelled, as of when that was known."""
    off: dict[str, datetime] = {}
    for event in events:
        if event["event"] == "order_cancelled" and event.get("order_id") is not None and event.get("product_id") is None:
            moment = max(event["occurred_at"], _known_at(event))
            off[event["order_id"]] = min(moment, off.get(event["order_id"], moment))
    rows: list[Row] = []
    for event in events:
        known = _known_at(event)
        until = off.get(event.get("order_id", "")) if event["event"] in ("order", "order_item") else None
        if until is None or until > known:
            rows.append((event, known, 1))
        if until is not None and until > known:
            rows.append((event, until, -1))
    return rows


def _known_at(event: Event) -> datetime:
    known: datetime = event.get("known_at") or event["occurred_at"]
    return known


def _before(rows: Sequence[Row], zone: str, cut: int) -> tuple[list[Event], dict[str, Array], int]:
    """The rows that a cutoff may see, their numbers as `tiling.Events` wants them, and how many events they are."""
    moments, known = (pa.array(times, LOG_SCHEMA.field("occurred_at").type) for times in ([row[0]["occurred_at"] for row in rows], [row[1] for row in rows]))
    clock = calendar.local(moments, zone)
    arrays = {"day": calendar.day(clock), "known_day": calendar.day(calendar.local(known, zone)), "hour": calendar.hour(clock), "moment": moments.cast("int64")}
    numbers = {name: array.to_numpy() for name, array in arrays.items()} | {"sign": np.array([sign for _, _, sign in rows], np.int32)}
    seen = (numbers["day"] < cut) & (numbers["known_day"] < cut)
    events = [event for (event, _, _), is_seen in zip(rows, seen.tolist(), strict=True) if is_seen]
    numbers = {name: values[seen] for name, values in numbers.items()}
    numbers |= {name: np.array([event.get(name) or 0 for event in events], np.int64) for name in FIELDS}
    numbers["has_level"] = np.array([event.get("level") is not None for event in events], np.bool_)
    return events, numbers, int((numbers["sign"] > 0).sum())


def _encoded(texts: Sequence[str | None]) -> tuple[Array, pa.Array]:
    """Codes (-1 for none) into a sorted array of texts, and that array."""
    words = sorted({text for text in texts if text is not None})
    code: dict[str | None, int] = {None: -1, **{word: place for place, word in enumerate(words)}}
    return np.array([code[text] for text in texts], np.int32), pa.array(words, pa.string())


def _place(name: str, number: int, word: Callable[[int], str]) -> int | None:
    """Where a name stands among `number` sorted words, if it does."""
    place = bisect_left(range(number), name, key=word)
    return place if place < number and word(place) == name else None
