"""The behaviour vector of one user at the moment of asking: events that come with a request go through the log's own code.

It equals, to the bit, what a snapshot of the whole shop holds for that user as of the same date: the same tiles, integers and
finishing, judged by the norms that the snapshot stored. Where a history of the user is kept, the events are added to it as the log would
add them. What is looked up is only what these events need: the shortest way for one user.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
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
    histories,
    joining,
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
from features.bucket import Bucket
from features.calendar import day_number
from features.catalogue import ORDERS, finish, parts_of
from features.files import code_digest
from features.goods import goods_named
from features.histories import History
from features.joining import Event, before, joined, products_of, rows_of, since
from features.norms import Norms
from features.shopfile import Shop
from features.tile_columns import DIMENSIONS
from features.tiling import TEXTS, Events, tiles_of
from features.view import Derived, Feature
from features.vocabulary import STAGES
from features.windows import Array, Plan, Reader

MADE_BY = (
    aggregates,
    bucket,
    calendar,
    catalogue,
    compiled,
    goods,
    histories,
    joining,
    kernels,
    norms,
    tile_columns,
    tile_kernels,
    tiling,
    view,
    vocabulary,
    windows,
)
CODE = code_digest(Path(__file__), *(Path(str(module.__file__)) for module in MADE_BY), Path(views.__file__).parent)


@dataclass(frozen=True)
class Vector:
    """values: feature -> float, NaN for no value. stage: of STAGES. used: events that counted. stored: events that the kept history has.
    unresolved: cancellations of orders that neither the events nor the kept history have."""

    values: Mapping[str, float]
    stage: str
    used: int
    stored: int = 0
    unresolved: int = 0


REMEMBERED = 10_000  # products whose places are remembered


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
        ids = products["product_id"].combine_chunks() if products.num_rows else pa.array([], pa.string())
        ids = ids if isinstance(ids, pa.Array) else ids.chunk(0)
        # A table of all of them would take as much memory again; those that people buy are few.
        self._place = lru_cache(REMEMBERED)(lambda name: _place(name, len(ids), lambda place: str(ids[place].as_py())))
        self._others = [feature for feature in self.features if feature.name not in made]

    def vector(self, events: Sequence[Event], as_of: date, past: History | None = None) -> Vector | None:
        """The vector from everything that the user ever did; None where nothing of it counts before `as_of`.

        Args:
            events: all of them, or what the past does not have. as_of: midnight of that day in the shop's zone. What happened or became
                known then or later does not count. past: what is kept of the user; no later than `as_of`.
        """
        cut = day_number(as_of)
        new = events if past is None else since(events, self.shop.zone, past.day)
        rows, unresolved = rows_of(new, past)
        counted, numbers, used = before(rows, self.shop.zone, cut)
        known = self._known({event.get("product_id") for event in counted}, () if past is None else products_of(past))
        supply = {name: lasts for name, lasts in zip(known["product_id"], known["lasts"], strict=True) if lasts}
        encoded = {name: _encoded([event.get(name) for event in counted]) for name in TEXTS[1:]}
        bucket = tiles_of(Events({"user_id": _encoded([""] * len(counted)), **encoded}, numbers, supply))
        users, parts = OneReader(bucket if past is None else joined(past, bucket), self.plan, known).parts_at(cut)
        if not len(users):
            return None
        alike = {name: value for some in self._alike for name, value in some.values(parts).items()}
        values = finish(self._others, parts, self.norms, alike)
        stage = STAGES[int(np.clip(parts[ORDERS][0], 0, 2))]
        return Vector({name: float(values[name][0]) for name in self.names}, stage, used, len(events) - len(new), unresolved)

    def _known(self, named: set[str | None], places: Sequence[int]) -> dict[str, list[Any]]:
        """The rows of the products that the events name and those at some places, as columns."""
        found = {self._place(name) for name in named if name is not None}
        wanted = sorted({place for place in found if place is not None} | {*places})
        return dict(self.products.take(pa.array(wanted, pa.int64())).to_pydict())


class OneReader(Reader):
    """A reader of one user's tiles: what a table does for millions at once a dictionary does sooner for a handful.

    Args:
        products: columns of the products that the tiles name.
    """

    def __init__(self, bucket: Bucket, plan: Plan, products: Mapping[str, Sequence[Any]]) -> None:
        super().__init__(bucket, plan, pa.table({}))
        self._goods = products

    @cached_property
    def _dimension_words(self) -> dict[str, pa.Array]:
        return {
            name: pa.array(sorted({value for value in self._goods[name] if value is not None}), pa.string()) for name in self._dimensions if name in DIMENSIONS
        }

    @cached_property
    def _codes(self) -> Array:
        names = self.bucket.key_names.to_pylist()
        codes = np.full((len(self._dimensions), len(names)), -1, np.int64)
        for place, dimension in enumerate(self._dimensions):
            if dimension not in DIMENSIONS:
                codes[place] = np.arange(len(names))
                continue
            code = {word: number for number, word in enumerate(self._dimension_words[dimension].to_pylist())}
            of_product = {product: code.get(value, -1) for product, value in zip(self._goods["product_id"], self._goods[dimension], strict=True)}
            codes[place] = [of_product.get(name, -1) for name in names]
        return codes


@dataclass(frozen=True)
class _Alike:
    """Features that one function finishes whatever their window, from as many parts each. parts: the different ones; places: of each argument
    for each feature. empty: the value without history, NaN for none."""

    finish: Callable[..., Array]
    names: tuple[str, ...]
    parts: tuple[Part, ...]
    places: tuple[Array, ...]
    empty: Array

    @classmethod
    def of(cls, finish: Callable[..., Array], features: Sequence[Feature]) -> _Alike:
        mine = [feature for feature in features if isinstance(feature.column.source, Aggregate) and feature.column.source.finish is finish]
        place = {part: number for number, part in enumerate(dict.fromkeys(part for feature in mine for part in feature.parts))}
        arguments = zip(*[[place[part] for part in feature.parts] for feature in mine], strict=True)
        empty = np.array([np.nan if feature.column.empty is None else feature.column.empty for feature in mine], np.float64)
        return cls(finish, tuple(feature.name for feature in mine), tuple(place), tuple(np.array(some, np.int64) for some in arguments), empty)

    def values(self, parts: Mapping[Part, Any]) -> dict[str, Array]:
        """Name -> value of each for the one user whose parts these are."""
        if not self.names:
            return {}
        numbers = np.array([parts[part][0] for part in self.parts], np.int64)
        found = self.finish(None, *[numbers[some] for some in self.places])
        found = np.where(np.isnan(found), self.empty, found)
        return dict(zip(self.names, found[:, None], strict=True))


def with_inputs(names: Sequence[str], features: Sequence[Feature]) -> list[Feature]:
    """Some features and all that they are derived from, in the order of the catalogue."""
    wanted = set(names)
    for feature in reversed(features):
        # Optional inputs, which a derived column asks for only where they exist, stay out of `inputs`: the layers' labels. No model sees those.
        if feature.name in wanted and isinstance(feature.column.source, Derived):
            wanted |= set(feature.column.source.inputs)
    return [feature for feature in features if feature.name in wanted]


def _encoded(texts: Sequence[str | None]) -> tuple[Array, pa.Array]:
    """Codes (-1 for none) into a sorted array of texts, and that array."""
    words = sorted({text for text in texts if text is not None})
    code: dict[str | None, int] = {None: -1, **{word: place for place, word in enumerate(words)}}
    return np.array([code[text] for text in texts], np.int32), pa.array(words, pa.string())


def _place(name: str, number: int, word: Callable[[int], str]) -> int | None:
    """Where a name stands among `number` sorted words, if it does."""
    place = bisect_left(range(number), name, key=word)
    return place if place < number and word(place) == name else None
