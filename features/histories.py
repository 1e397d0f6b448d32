"""Histories: what is kept of everybody's past, so that events which come later can be added to it.

They are the tiles as of a date, only as far as features look back, and the orders that may still be cancelled. A user is a place in
the order of the snapshot that they were made with; no id is kept. This module reads them; `history_rows` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]

KEPT_ORDERS = 180  # days: an order that is older than that when it is cancelled stays counted until the next release
KEPT_DAYS = 91  # days that each stand for themselves, so that people can read them: thirteen weeks
# What a table holds of each row; `bucket` says what the columns mean. `since` is the day on which a change became known.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "days": ("day", "column", "value"),
    "keys": ("day", "column", "key", "value"),
    "changes": ("name", "moment", "level", "text", "day", "since"),
    "orders": ("kind", "order", "event", "moment", "product", "channel", "value_cents", "discount_cents", "coupon_cents", "quantity"),
}
KINDS = ("order", "order_item", "order_cancelled")  # of the rows of orders; `kind` is a place in it
AMOUNTS = ("value_cents", "discount_cents", "coupon_cents", "quantity")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_MARK = 0  # of an order or an event without an id


@dataclass(frozen=True)
class Table:
    """Rows of all users, one user's after the other's. start: the first row of each, and one more."""

    start: Array
    columns: Mapping[str, Array]

    def of(self, user: int) -> dict[str, Array]:
        """The rows of one user."""
        mine = slice(int(self.start[user]), int(self.start[user + 1]))
        return {name: column[mine] for name, column in self.columns.items()}


@dataclass(frozen=True)
class Histories:
    """The histories of all users of a snapshot.

    day: the first day that they do not know, as `calendar.day_number` counts. tables: one of each of COLUMNS. keys, texts: the words that
    `key`, `product`, `text` and `channel` are places in, sorted. names: of the changes, sorted. products: of each key its place among the
    shop's products, -1 for none.
    """

    day: int
    tables: Mapping[str, Table]
    keys: pa.Array
    texts: pa.Array
    names: tuple[str, ...]
    products: Array

    @property
    def users(self) -> int:
        """How many they are of; tables that speak of different numbers are of nobody."""
        numbers = {len(table.start) - 1 for table in self.tables.values()}
        return numbers.pop() if len(numbers) == 1 else -1

    def of(self, user: int) -> History:
        return History(self, user)


@dataclass(frozen=True)
class History:
    """What is kept of one user."""

    histories: Histories
    user: int

    @property
    def day(self) -> int:
        return self.histories.day

    def rows(self, table: str) -> dict[str, Array]:
        return self.histories.tables[table].of(self.user)

    def orders(self, orders: Sequence[int], events: Sequence[int]) -> list[Order]:
        """Of the orders, lines and cancellations that are kept those with one of these marks."""
        rows, keys, texts = self.rows("orders"), self.histories.keys, self.histories.texts
        asked = [np.isin(rows[name], np.array(marks, np.uint64)) for name, marks in (("order", orders), ("event", events))]
        found = []
        for place in np.flatnonzero(asked[0] | asked[1]).tolist():
            amounts = {name: int(rows[name][place]) for name in AMOUNTS}
            product, channel = (word_of(words, int(rows[name][place])) for words, name in ((keys, "product"), (texts, "channel")))
            moment = EPOCH + timedelta(microseconds=int(rows["moment"][place]))
            row = {"event": KINDS[rows["kind"][place]], "occurred_at": moment, "product_id": product, "channel": channel, **amounts}
            found.append(Order(int(rows["order"][place]), int(rows["event"][place]), row))
        return found


@dataclass(frozen=True)
class Order:
    """An order, a line of one, or that one was cancelled, which occurred when it was known. order, event: marks of their ids; row: as an event."""

    order: int
    event: int
    row: Mapping[str, Any]


def word_of(words: pa.Array, place: int) -> str | None:
    """A word by its place, None for -1."""
    return None if place < 0 else str(words[place].as_py())


def mark_of(name: str | None) -> int:
    """How an id of an order or an event is kept: the last eight bytes of its MD5, as DuckDB counts them; it protects nothing."""
    return NO_MARK if name is None else int.from_bytes(md5(name.encode(), usedforsecurity=False).digest()[8:], "little")
