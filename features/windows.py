"""Parts of features from sorted tiles, at any number of cutoffs: what is wanted is laid out once, then compiled loops run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features import kernels
from features.aggregates import ChangePart, DayPart, GapPart, KeyPart, Part
from features.bucket import Bucket, Rows, statements
from features.tile_columns import DAY_CODES, DAY_COLUMNS, DIMENSIONS, KEY_CODES, KEY_COLUMNS, members

Array = npt.NDArray[Any]
ENDLESS = np.iinfo(np.int64).max
DAY_KINDS = {"sum": 0, "days": 1, "since": 2, "first": 3}
GAP_KINDS = ("count", "total", "squares", "longest", "last", "earlier")
MOST = 0.7
KEY_KINDS = {"kinds": 0, "total": 1, "top": 2, "top_key": 3, "information": 4, "again": 5, "count": 6}


class Plan:
    """The distinct parts of some features, in the layout of the kernels.

    Args:
        parts: what is wanted; repeated ones are computed once.
        interest: interest level -> events; a part's column may be such a level.
        everybody: whether users whose facts add to no part are wanted too.
    """

    def __init__(self, parts: Sequence[Part], interest: Mapping[str, tuple[str, ...]], everybody: bool = True) -> None:
        distinct = list(dict.fromkeys(parts))
        self.days = [part for part in distinct if isinstance(part, DayPart)]
        self.gaps = [part for part in distinct if isinstance(part, GapPart)]
        self.keys = [part for part in distinct if isinstance(part, KeyPart)]
        self.changes = [part for part in distinct if isinstance(part, ChangePart)]
        self._groups(interest)
        counts = np.array([column.is_count for column in DAY_COLUMNS])
        self.is_count = counts if everybody else counts & (np.diff(self.group_of)[: len(DAY_COLUMNS)] > 0)
        self.day_requests = _requests([_endless(part) for part in self.days], [DAY_KINDS[part.kind] for part in self.days], self.day_targets)
        streams = list(dict.fromkeys((KEY_CODES[part.column], part.dimension) for part in self.keys))
        self.streams = sorted(streams)
        targets = [self.streams.index((KEY_CODES[part.column], part.dimension)) for part in self.keys]
        self.key_reach = _reach([KEY_CODES[part.column] for part in self.keys], [part.window for part in self.keys], len(KEY_COLUMNS))
        self.key_requests = _requests([part.window for part in self.keys], [KEY_KINDS[part.kind] for part in self.keys], targets)

    def _groups(self, interest: Mapping[str, tuple[str, ...]]) -> None:
        """Columns beyond the tiles' own: groups of events that add up counting columns."""
        wanted = dict.fromkeys(part.column for part in self.days)
        groups = [name for name in wanted if name not in DAY_CODES]
        place = {**DAY_CODES, **{name: len(DAY_CODES) + number for number, name in enumerate(groups)}}
        self.day_targets = [place[part.column] for part in self.days]
        adds_to: list[list[int]] = [[code] if column.name in wanted else [] for code, column in enumerate(DAY_COLUMNS)] + [[] for _ in groups]
        for name in groups:
            for code in members(name, interest):
                adds_to[code].append(place[name])
        self.group_of = np.concatenate([[0], np.cumsum([len(targets) for targets in adds_to])]).astype(np.int64)
        self.groups = np.array([target for targets in adds_to for target in targets], np.int64)
        far = _reach(self.day_targets, [_endless(part) for part in self.days], len(adds_to))
        self.day_reach = np.array([max((far[target] for target in targets), default=0) for targets in adds_to[: len(DAY_COLUMNS)]], np.int64)


def _reach(targets: Sequence[int], windows: Sequence[int | None], size: int) -> Array:
    """Per column the longest window that asks for it."""
    far = np.zeros(size, np.int64)
    for target, window in zip(targets, windows, strict=True):
        far[target] = max(far[target], ENDLESS if window is None else window)
    return far


def _endless(part: DayPart) -> int | None:
    return part.window if part.kind in ("sum", "days") else None


@dataclass(frozen=True)
class Requests:
    """edges: window lengths, ascending, then ENDLESS. first: edge -> its first request, and one more. order: request -> part."""

    edges: Array
    first: Array
    kind: Array
    target: Array
    order: Array


def _requests(windows: Sequence[int | None], kinds: Sequence[int], targets: Sequence[int]) -> Requests:
    lengths = np.array([ENDLESS if window is None else window for window in windows], np.int64)
    edges = np.unique(np.append(lengths, ENDLESS))
    order = np.argsort(lengths, kind="stable")
    first = np.searchsorted(lengths[order], edges).astype(np.int64)
    return Requests(edges, np.append(first, len(order)), np.array(kinds, np.int64)[order], np.array(targets, np.int64)[order], order)


class Reader:
    """One bucket, ready to be asked at any cutoff.

    Args:
        products: the shop's products, as PRODUCT_SCHEMA.
    """

    def __init__(self, bucket: Bucket, plan: Plan, products: pa.Table) -> None:
        self.bucket, self.plan, self.products = bucket, plan, products
        self.days, self.day_start = _wanted_days(bucket, plan)

    def parts_at(self, cut: int, asked: Array | None = None) -> tuple[Array, dict[Part, Any]]:
        """Positions of the users with a fact that stands before the day `cut`, and every part for them: int64 with NONE,
        or texts as a dictionary.

        Args:
            asked: ascending positions of the users to look at; None is everybody.
        """
        plan, rows, ask = self.plan, self.days, self.plan.day_requests
        asked = np.arange(len(self.bucket.users)) if asked is None else asked
        sums = np.empty((len(plan.days), len(asked)), np.int64)
        users = kernels.day_pass(
            asked, self.day_start, rows["day"], rows["known"], rows["column"], rows["value"], cut,
            plan.is_count, plan.day_reach, plan.group_of, plan.groups, ask.edges, ask.first, ask.kind, ask.target, sums,
        )  # fmt: skip
        found: dict[Part, Any] = {plan.days[part]: sums[place, : len(users)] for place, part in enumerate(ask.order)}
        if plan.gaps:
            moments = np.empty((len(GAP_KINDS), len(users)), np.int64)
            placed = self._order_rows
            kernels.gap_pass(users, self._order_start, placed["day"], placed["known"], placed["value"], cut, moments)
            found |= {part: moments[GAP_KINDS.index(part.kind)] for part in plan.gaps}
        if plan.keys:
            found |= self._keys(users, cut)
        if plan.changes:
            found |= self._changes(users, cut)
        return users, found

    def _keys(self, users: Array, cut: int) -> dict[Part, Any]:
        plan, rows, ask = self.plan, self._key_rows, self.plan.key_requests
        out = np.empty((len(plan.keys), len(users)), np.int64)
        kernels.key_pass(
            users, self._key_start, rows["day"], rows["known"], rows["column"], rows["key"], rows["value"], cut, plan.key_reach,
            self._codes, self._streams_of, self._stream_dimension, self._sizes,
            ask.edges, ask.first, ask.kind, ask.target, self._counted, kernels.INFORMATION_OF, out,
        )  # fmt: skip
        found: dict[Part, Any] = {}
        for place, number in enumerate(ask.order):
            part = plan.keys[number]
            found[part] = _texts(out[place], out[place] == kernels.NONE, self._words(part.dimension)) if part.kind == "top_key" else out[place]
        return found

    def _changes(self, users: Array, cut: int) -> dict[Part, Any]:
        rows, names = self.bucket.changes, self.bucket.names.to_pylist()
        first, last = (np.empty((max(len(names), 1), len(users)), np.int64) for _ in range(2))
        kernels.change_pass(users, self._change_start, rows["day"], rows["known"], rows["name"], self._statements, rows["value"], cut, first, last)
        found: dict[Part, Any] = {}
        for part in self.plan.changes:
            none = np.full(len(users), -1, np.int64)
            row = none if part.name not in names else (first if part.kind == "first" else last)[names.index(part.name)]
            if part.field == "level":
                found[part] = np.where(row < 0, kernels.NONE, np.append(rows["level"], 0)[row])
            else:
                code = np.append(rows["text"], -1)[row].astype(np.int64)
                found[part] = _texts(code, code < 0, self.bucket.texts)
        return found

    @cached_property
    def _order_rows(self) -> Rows:
        rows = self.bucket.days
        mine = rows["column"] == DAY_CODES["orders"]
        return {name: column[mine] for name, column in rows.items()}

    @cached_property
    def _order_start(self) -> Array:
        return self.bucket.starts(self._order_rows)

    @cached_property
    def _key_rows(self) -> Rows:
        wanted = np.zeros(len(KEY_COLUMNS), np.bool_)
        wanted[[code for code, _ in self.plan.streams]] = True
        rows = self.bucket.keys
        mine = wanted[rows["column"]]
        return rows if mine.all() else {name: column[mine] for name, column in rows.items()}

    @cached_property
    def _key_start(self) -> Array:
        return self.bucket.starts(self._key_rows)

    @cached_property
    def _change_start(self) -> Array:
        return self.bucket.starts(self.bucket.changes)

    @cached_property
    def _statements(self) -> Array:
        return statements(self.bucket.changes)

    @cached_property
    def _dimensions(self) -> list[str]:
        return list(dict.fromkeys(dimension for _, dimension in self.plan.streams))

    @cached_property
    def _dimension_words(self) -> dict[str, pa.Array]:
        return {name: pc.unique(self.products[name].drop_null().combine_chunks()).sort() for name in self._dimensions if name in DIMENSIONS}

    @cached_property
    def _codes(self) -> Array:
        """Dimensions x keys: the code of a key's value in the dimension, -1 where it has none."""
        names = self.bucket.key_names
        codes = np.empty((len(self._dimensions), len(names)), np.int64)
        product = pc.index_in(names, self.products["product_id"].combine_chunks())
        for place, dimension in enumerate(self._dimensions):
            if dimension not in DIMENSIONS:
                codes[place] = np.arange(len(names))
                continue
            value = pc.take(self.products[dimension].combine_chunks(), product)
            codes[place] = pc.fill_null(pc.index_in(value, self._dimension_words[dimension], skip_nulls=True), -1).to_numpy(zero_copy_only=False)
        return codes

    @cached_property
    def _counted(self) -> Array:
        """Per request the code of the one value that is counted, -1 where it has none or asks for something else."""
        asked = [self.plan.keys[number] for number in self.plan.key_requests.order]
        dimensions = {part.dimension for part in asked if part.value is not None}
        places = {name: {word: code for code, word in enumerate(self._words(name).to_pylist())} for name in dimensions}
        return np.array([-1 if part.value is None else places[part.dimension].get(part.value, -1) for part in asked], np.int64)

    def _words(self, dimension: str) -> pa.Array:
        return self._dimension_words.get(dimension, self.bucket.key_names)

    @cached_property
    def _sizes(self) -> Array:
        return np.array([len(self._words(dimension)) for dimension in self._dimensions], np.int64)

    @cached_property
    def _stream_dimension(self) -> Array:
        return np.array([self._dimensions.index(dimension) for _, dimension in self.plan.streams], np.int64)

    @cached_property
    def _streams_of(self) -> Array:
        return np.searchsorted([code for code, _ in self.plan.streams], np.arange(len(KEY_COLUMNS) + 1)).astype(np.int64)


def _texts(codes: Array, empty: Array, words: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=empty), words)


def _wanted_days(bucket: Bucket, plan: Plan) -> tuple[Rows, Array]:
    """The day rows that some part or the count of facts needs."""
    wanted = plan.is_count | (np.diff(plan.group_of)[: len(DAY_COLUMNS)] > 0)
    rows = bucket.days
    mine = wanted[rows["column"]]
    # Where most are needed, passing over the rest is cheaper than copying.
    kept = rows if mine.sum() >= MOST * len(mine) else {name: column[mine] for name, column in rows.items()}
    return kept, bucket.starts(kept)
