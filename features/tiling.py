"""Tiling: rows of the log as the sorted arrays of a bucket. The only code that reads raw events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import tile_kernels
from features.bucket import CHANGE_TYPES, DAY_TYPES, Array, Bucket, Rows, grouped, sorted_changes
from features.tile_columns import CHANGES, DAY_COLUMNS, KEY_COLUMNS, DayColumn
from features.vocabulary import EVENTS

FIELDS = ("value_cents", "discount_cents", "coupon_cents", "quantity", "level")  # rows of the kernel's `fields`; then supply_minutes
TEXTS = ("user_id", "event", "product_id", "campaign", "detail", "channel", "source", "medium")
READ = (*TEXTS, "day", "known_day", "hour", "sign", "occurred_at", *FIELDS)
NUMBERS = ("day", "known_day", "hour", "sign", "moment", "has_level")
CODES = {event: code for code, event in enumerate(EVENTS)}
NONE = np.empty(0, np.int64)


class Events:
    """Columns of the log as arrays, sorted by user, day and known_day.

    text: column -> codes into `names` of that column (sorted texts), -1 for none. event: codes of EVENTS. amounts: FIELDS
    and supply_minutes x rows, nothing is 0.

    Args:
        encoded: column -> codes and names. numbers: "day", "known_day", "hour", "sign", "moment" (microseconds), "has_level"
            and FIELDS, one array each. supply: product -> minutes that one piece lasts.
    """

    def __init__(self, encoded: Mapping[str, tuple[Array, pa.Array]], numbers: Mapping[str, Array], supply: Mapping[str, int]) -> None:
        self.names = {name: words for name, (_, words) in encoded.items()}
        order = _order(encoded["user_id"][0], numbers["day"], numbers["known_day"])

        def sorted_by(column: Array) -> Array:
            return column if order is None else column[order]

        self.text = {name: sorted_by(codes) for name, (codes, _) in encoded.items()}
        self.user = self.text["user_id"]
        self.day, self.known, self.hour, self.sign, self.moment, self.has_level = (sorted_by(numbers[name]) for name in NUMBERS)
        self.amounts = np.zeros((len(FIELDS) + 1, len(self.user)), np.int64)
        for place, name in enumerate(FIELDS):
            self.amounts[place] = sorted_by(numbers[name])
        self.event = np.array([CODES[name] for name in self.names["event"].to_pylist()], np.uint8)[self.text["event"]]
        if supply:
            lasts = np.array([supply.get(name, 0) for name in self.names["product_id"].to_pylist()] + [0], np.int64)
            self.amounts[-1] = lasts[self.text["product_id"]] * np.maximum(self.amounts[FIELDS.index("quantity")], 1)

    @classmethod
    def of(cls, table: pa.Table, supply: Mapping[str, int]) -> Events:
        """Rows of the log: at least the columns READ, in any order."""
        numbers = {name: _plain(table[name]) for name in ("day", "known_day", "hour", "sign")} | {name: _filled(table[name], 0) for name in FIELDS}
        numbers |= {"moment": table["occurred_at"].cast(pa.int64()).to_numpy(), "has_level": np.asarray(table["level"].is_valid().to_numpy())}
        return cls({name: _encoded(table[name]) for name in TEXTS}, numbers, supply)

    @cached_property
    def _by_event(self) -> tuple[Array, Array]:
        order = np.argsort(self.event, kind="stable")
        return order, np.searchsorted(self.event[order], np.arange(len(EVENTS) + 1))

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The events that occur."""
        return frozenset(self.names["event"].to_pylist())

    def rows_of(self, events: tuple[str, ...]) -> Array:
        """Positions of the rows of some events, in order."""
        if self.kinds.isdisjoint(events):
            return NONE
        order, first = self._by_event
        found = [order[first[CODES[event]] : first[CODES[event] + 1]] for event in events]
        return found[0] if len(found) == 1 else np.sort(np.concatenate(found))


def bucket_of(table: pa.Table, supply: Mapping[str, int]) -> Bucket:
    """Rows of the log (at least the columns READ, in any order) as tiles.

    Args:
        supply: product -> minutes that one piece lasts.
    """
    return tiles_of(Events.of(table, supply))


def tiles_of(events: Events) -> Bucket:
    """Events as tiles."""
    cells = _cells()
    most = np.diff(cells[0]).reshape(-1, 8).max(axis=1)  # rows that an event may add to, at any hour of any day
    room = int(most[events.event].sum())
    counted = tile_kernels.day_rows(events.user, events.day, events.known, events.event, events.hour, events.sign, events.amounts, room, *cells)
    keys, key_names = _key_rows(events)
    changes, change_names, texts = _change_rows(events)
    return Bucket(events.names["user_id"], dict(zip(DAY_TYPES, counted, strict=True)), keys, changes, key_names, change_names, texts)


def _encoded(column: pa.ChunkedArray) -> tuple[Array, pa.Array]:
    """Codes (-1 for null) into a sorted array of texts, and that array."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    words = encoded.dictionary.cast(pa.string())
    used = _filled(encoded.indices, -1)
    order = pc.sort_indices(words).to_numpy()
    rank = np.empty(len(order) + 1, np.int32)
    rank[order], rank[-1] = np.arange(len(order), dtype=np.int32), -1
    return rank[used], words.take(pa.array(order))


def _filled(column: pa.Array | pa.ChunkedArray, empty: int) -> Array:
    return np.asarray((pc.fill_null(column, empty) if column.null_count else column).to_numpy())


def _plain(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.to_numpy(), np.int32)


def _order(user: Array, day: Array, known: Array) -> Array | None:
    """The order by user, day and known_day, or None where the rows have it."""
    if not len(user):
        return None
    key = (user.astype(np.int64) << 36) | ((day.astype(np.int64) + 100_000) << 18) | (known.astype(np.int64) + 100_000)
    return None if np.all(key[1:] >= key[:-1]) else np.argsort(key, kind="stable")


@cache
def _cells() -> tuple[Any, ...]:
    """What an event adds to which column, per event, quarter of the day and weekend, as the kernel wants it."""
    variants = [(event, quarter, weekend) for event in EVENTS for quarter in range(4) for weekend in (False, True)]
    cells = [[(code, column) for code, column in enumerate(DAY_COLUMNS) if _adds(column, *variant)] for variant in variants]
    flat = [cell for found in cells for cell in found]
    return (
        np.concatenate([[0], np.cumsum([len(found) for found in cells])]).astype(np.int64),
        np.array([code for code, _ in flat], np.int16),
        np.array([-1 if column.amount is None else _field(column.amount) for _, column in flat], np.int64),
        np.array([_test(column) for _, column in flat], np.int64),
        np.array([column.at_most or 0 for _, column in flat], np.int64),
        len(DAY_COLUMNS),
    )


def _adds(column: DayColumn, event: str, quarter: int, weekend: bool) -> bool:
    return event in column.events and column.hours[0] <= 6 * quarter < column.hours[1] and (weekend or not column.weekend)


def _field(name: str) -> int:
    return (*FIELDS, "supply_minutes").index(name)


def _test(column: DayColumn) -> int:
    return _field(column.positive) if column.positive else -2 if column.zero else -3 if column.at_most else -1


def _key_rows(events: Events) -> tuple[Rows, pa.Array]:
    used = list(dict.fromkeys(column.field for column in KEY_COLUMNS))
    everything = pa.chunked_array([events.names[field] for field in used], pa.string())
    key_names = pc.unique(everything).sort() if len(everything) else pa.array([], pa.string())
    place = {field: pc.index_in(events.names[field], key_names).to_numpy(zero_copy_only=False).astype(np.int32) for field in used}
    parts: list[tuple[Array, ...]] = []
    for code, column in enumerate(KEY_COLUMNS):
        rows = events.rows_of(column.events)
        if not len(rows) and parts:
            continue
        rows = rows[events.text[column.field][rows] >= 0]
        if not len(rows) and parts:
            continue
        value = events.sign[rows].astype(np.int64) * (1 if column.amount is None else events.amounts[_field(column.amount)][rows])
        key = place[column.field][events.text[column.field][rows]]
        parts.append((events.user[rows], events.day[rows], events.known[rows], np.full(len(rows), code, np.int16), key, value))
    user, day, known, column_code, key, value = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    found = {"user": user, "day": day, "known": known, "column": column_code, "key": key, "value": value}
    return grouped(found, len(key_names)), key_names


def _change_rows(events: Events) -> tuple[Rows, pa.Array, pa.Array]:
    wanted: list[tuple[str, tuple[str, ...], str, int | None]] = [(name, made_by, field, None) for name, (made_by, field) in CHANGES.items()]
    details, detail = events.names["detail"].to_pylist(), events.text["detail"]
    declared = np.unique(detail[events.rows_of(("attribute_set",))])
    wanted += [(f"attribute.{details[code]}", ("attribute_set",), "level", int(code)) for code in declared if code >= 0]
    change_names = pa.array(sorted(name for name, *_ in wanted), pa.string())
    texts = pc.unique(pa.chunked_array([events.names[field] for field in ("source", "medium", "campaign", "channel")], pa.string())).sort()
    parts: list[tuple[Array, ...]] = []
    for name, made_by, field, code in wanted:
        rows = events.rows_of(made_by)
        if not len(rows) and parts:
            continue
        rows = rows[events.has_level[rows] if field == "level" else events.text[field][rows] >= 0]
        rows = rows if code is None else rows[detail[rows] == code]
        if not len(rows) and parts:
            continue
        words = np.full(len(rows), -1, np.int32)
        if field != "level":
            words = pc.index_in(events.names[field], texts).to_numpy(zero_copy_only=False).astype(np.int32)[events.text[field][rows]]
        place = np.full(len(rows), change_names.index(name).as_py(), np.int32)
        number = events.amounts[_field("level")][rows] if field == "level" else np.zeros(len(rows), np.int64)
        parts.append((events.user[rows], place, events.moment[rows], number, words, events.day[rows], events.known[rows], events.sign[rows].astype(np.int64)))
    stacked = {name: np.concatenate(arrays) for name, arrays in zip(CHANGE_TYPES, zip(*parts, strict=True), strict=True)}
    return sorted_changes(stacked), change_names, texts
