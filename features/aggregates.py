"""What can be said of a user's history, as declarations.

A part is one integer per user: a sum, a count of days, a gap, a count of kinds. `windows` computes parts in compiled
loops, `relational` in SQL, and both must give the same integers. An aggregate turns parts into the value of a feature:
the only place where floats appear, in the same NumPy code whichever engine gave the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.kernels import MILLIONTH, quotient, to_float

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
T = TypeVar("T")


def _hashed_once(kind: type[T]) -> type[T]:
    """Remember an object's hash: hundreds of parts are looked up for each user, who is often the only one."""
    compute = kind.__hash__

    def remembered(self: Any) -> int:
        try:
            return int(self._hash)
        except AttributeError:
            object.__setattr__(self, "_hash", compute(self))
            return int(self._hash)

    kind.__hash__ = remembered  # type: ignore[method-assign]
    return kind


@_hashed_once
@dataclass(frozen=True)
class DayPart:
    """Of a column of the day tiles: its sum, the days on which it is above zero, the age of the last or first such day."""

    kind: Literal["sum", "days", "since", "first"]
    column: str
    window: int | None = None


@_hashed_once
@dataclass(frozen=True)
class GapPart:
    """Of the days between a user's days with an order: how many, their sum and squares, the longest, the last, the one before."""

    kind: Literal["count", "total", "squares", "longest", "last", "earlier"]


@_hashed_once
@dataclass(frozen=True)
class KeyPart:
    """Of a column that counts per product, campaign, ...: how it spreads over a dimension's values.

    kinds: values that occur; total; top: the largest count, top_key: whose it is (the first by name if several);
    information: the sum of n ln n in millionths; again: values that occur twice or more; count: how often one value does.
    """

    kind: Literal["kinds", "total", "top", "top_key", "information", "again", "count"]
    column: str
    dimension: str
    window: int | None = None
    value: str | None = None


@_hashed_once
@dataclass(frozen=True)
class ChangePart:
    """The level or the text of the first or the last change of a name, as it was known."""

    kind: Literal["first", "last"]
    name: str
    field: Literal["level", "text"] = "level"


Part = DayPart | GapPart | KeyPart | ChangePart


@dataclass(frozen=True)
class Aggregate:
    """Parts, and how they become the value.

    Args:
        parts: the same for every window, or one made for each.
        finish: (window, *parts as int64 with NONE or texts) -> float64 with NaN, or the texts of a label.
        accumulates: without a window it grows with the age of the log, as a count does and a share does not.
    """

    parts: Callable[[int | None], tuple[Part, ...]]
    finish: Callable[..., Floats | pa.DictionaryArray]
    accumulates: bool = False


def as_counted(window: int | None, value: Ints) -> Floats:
    """The part itself."""
    return as_float(value)


def as_share(window: int | None, above: Ints, below: Ints) -> Floats:
    """The one part per unit of the other."""
    return divide(above, below)


def sum_of(column: str) -> Aggregate:
    """Total of a tile column in the window."""
    return Aggregate(lambda window: (DayPart("sum", column, window),), as_counted, accumulates=True)


def days_with(column: str) -> Aggregate:
    """Days in the window on which a tile column is above zero."""
    return Aggregate(lambda window: (DayPart("days", column, window),), as_counted, accumulates=True)


def days_since(column: str) -> Aggregate:
    """Days from the last day on which a tile column was above zero to `as_of`; yesterday is 1."""
    return Aggregate(lambda window: (DayPart("since", column),), as_counted)


def days_since_first(column: str) -> Aggregate:
    """Days from the first day on which a tile column was above zero to `as_of`."""
    return Aggregate(lambda window: (DayPart("first", column),), as_counted, accumulates=True)


def ratio(numerator: str, denominator: str) -> Aggregate:
    """Total of one tile column per unit of another in the window; no value where the second total is zero."""
    return Aggregate(lambda window: (DayPart("sum", numerator, window), DayPart("sum", denominator, window)), as_share)


def trend(column: str, recent: int) -> Aggregate:
    """Daily rate of a tile column in the last `recent` days over its daily rate in the window; 1 is steady."""
    return Aggregate(
        lambda window: (DayPart("sum", column, recent), DayPart("sum", column, window)), lambda window, short, long: divide(short * window, long * recent)
    )


def last_level(name: str) -> Aggregate:
    """The last known level of what changes with a date."""
    return Aggregate(lambda window: (ChangePart("last", name),), as_counted)


def text_of(kind: Literal["first", "last"], name: str) -> Aggregate:
    """A label: the first or last known text of what changes with a date."""
    return Aggregate(lambda window: (ChangePart(kind, name, "text"),), lambda window, text: text)


def kinds(column: str, dimension: str) -> Aggregate:
    """How many different values of the dimension occur."""
    return Aggregate(lambda window: (KeyPart("kinds", column, dimension, window),), as_counted, accumulates=True)


def again_share(column: str, dimension: str) -> Aggregate:
    """The share of the values that occur at least twice."""
    return Aggregate(
        lambda window: (KeyPart("again", column, dimension, window), KeyPart("kinds", column, dimension, window)),
        as_share,
    )


def top_share(column: str, dimension: str) -> Aggregate:
    """The share of the most frequent value."""
    return Aggregate(
        lambda window: (KeyPart("top", column, dimension, window), KeyPart("total", column, dimension, window)),
        as_share,
    )


def top_key(column: str, dimension: str) -> Aggregate:
    """A label: the most frequent value."""
    return Aggregate(lambda window: (KeyPart("top_key", column, dimension, window),), lambda window, text: text)


def entropy(column: str, dimension: str) -> Aggregate:
    """How evenly actions spread over the values, in nats; 0 is a single one."""

    def finish(window: int | None, information: Ints, total: Ints) -> Floats:
        n = np.where(total > 0, total, 1)
        nats = np.log(n) - information / (n * float(MILLIONTH))
        return np.where(total > 0, np.maximum(nats, 0.0), np.nan)

    return Aggregate(lambda window: (KeyPart("information", column, dimension, window), KeyPart("total", column, dimension, window)), finish)


def key_ratio(numerator: str, denominator: str, dimension: str) -> Aggregate:
    """Values of the dimension that occur in one column per value that occurs in another."""
    return Aggregate(
        lambda window: (KeyPart("kinds", numerator, dimension, window), KeyPart("kinds", denominator, dimension, window)),
        as_share,
    )


def count_of(column: str, dimension: str, values: Sequence[str]) -> Aggregate:
    """How often some values of the dimension, at least one, occur in the window."""
    return Aggregate(
        lambda window: tuple(KeyPart("count", column, dimension, window, value) for value in values),
        lambda window, *counts: as_float(sum(counts)),
        accumulates=True,
    )


def gaps(finish: Callable[..., Floats], *wanted: Literal["count", "total", "squares", "longest", "last", "earlier"]) -> Aggregate:
    """Of the gaps between order days; `finish` is given the wanted parts."""
    return Aggregate(lambda window: tuple(GapPart(kind) for kind in wanted), lambda window, *parts: finish(*parts))


def as_float(values: Ints) -> Floats:
    """float64, NaN for NONE."""
    return np.asarray(to_float(values))


def divide(above: Ints, below: Ints) -> Floats:
    """above / below, NaN where below is zero."""
    return np.asarray(quotient(above, below))


def flags(label: pa.DictionaryArray, known: tuple[str, ...]) -> Floats:
    """1 where a label is one of the known words, 0 where it is another, NaN where it is empty."""
    words = np.array([float(word in known) for word in label.dictionary.to_pylist()] + [np.nan])
    return np.asarray(words[pc.fill_null(label.indices, len(words) - 1).to_numpy(zero_copy_only=False)])


def labels(places: npt.NDArray[np.int64], words: Sequence[str], empty: npt.NDArray[np.bool_] | None = None) -> pa.DictionaryArray:
    """A label from places in a list of words."""
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32), mask=empty), pa.array(words))
