"""FeatureView and Column: features declared as data, compiled to Ibis over the day tiles.

A regular column is an aggregate of tile columns over a window. An irregular one comes from a function that is given
the history already cut in time, so it cannot look ahead. Aggregates are integers; floats are computed once, last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import ibis
from ibis import Table
from ibis.expr.types import IntegerScalar, NumericValue

from features.tiles import History, event_of

NEVER = None  # the value of a column for a user with no such history
EVER = 730  # days of log after which a count of everything since its beginning says more about the user than about the log
Part = Callable[[Table, int | None], IntegerScalar]  # (rows of user_days, window) -> an integer


@dataclass(frozen=True)
class Aggregate:
    """Integers over a user's days, and how they become the value.

    accumulates: without a window it grows with the age of the log, as a count does and a share does not.
    """

    tile_columns: tuple[str, ...]
    parts: tuple[Part, ...]
    finish: Callable[..., NumericValue]
    accumulates: bool = False


@dataclass(frozen=True)
class Column:
    """One feature, once per window of its view.

    Args:
        name: short name; the full one is view_name_window, such as `orders_count_30d`.
        aggregate: what is computed; None where the view's `rows` function gives the value.
        meaning: in words that a marketer reads, without the window.
        unit: what the value counts: orders, days, currency (cents), share, ...
        empty: value for a user with no such history.
        windows: days, when they differ from the view's; None is "ever".
        needs: events without which the column is left out; derived for regular columns.
        actionable: whether marketing can change it.
        accumulates: as in Aggregate, for a column that has none.
    """

    name: str
    aggregate: Aggregate | None
    meaning: str
    unit: str = "count"
    empty: float | None = 0
    windows: tuple[int | None, ...] | None = None
    needs: tuple[str, ...] = ()
    actionable: bool = False
    accumulates: bool = False


@dataclass(frozen=True)
class FeatureView:
    """A family of features.

    Args:
        rows: (history, window) -> table of user_id and the columns that have no aggregate of their own.
    """

    name: str
    columns: tuple[Column, ...]
    windows: tuple[int | None, ...] = (None,)
    rows: Callable[[History, int | None], Table] | None = None


@dataclass(frozen=True)
class Feature:
    """A column in one window: what a snapshot stores under `name` and the dictionary explains."""

    name: str
    view: FeatureView
    column: Column
    window: int | None

    @property
    def meaning(self) -> str:
        over = "" if self.window is None else f" in the last {self.window} day{'s' if self.window != 1 else ''}"
        return f"{self.column.meaning}{over}"

    @property
    def looks_back(self) -> int:
        """Days of log that it takes for the value to mean the same at every cutoff."""
        if self.window is not None:
            return self.window
        accumulates = self.column.accumulates if self.column.aggregate is None else self.column.aggregate.accumulates
        return EVER if accumulates else 0

    def describe(self) -> dict[str, object]:
        """The entry of the feature dictionary."""
        return {
            "name": self.name,
            "family": self.view.name,
            "meaning": self.meaning,
            "unit": self.column.unit,
            "window_days": self.window,
            "looks_back_days": self.looks_back,
            "without_history": self.column.empty,
            "actionable": self.column.actionable,
        }


def features_of(view: FeatureView, kinds: frozenset[str], interest: Mapping[str, tuple[str, ...]]) -> Iterator[Feature]:
    """The features of a view that a log with these kinds of events can carry, in declared order."""
    for column in view.columns:
        if not _available(column, kinds, interest):
            continue
        for window in view.windows if column.windows is None else column.windows:
            suffix = "" if window is None else f"_{window}d"
            yield Feature(f"{view.name}_{column.name}{suffix}", view, column, window)


def _available(column: Column, kinds: frozenset[str], interest: Mapping[str, tuple[str, ...]]) -> bool:
    if column.aggregate is not None:
        return all(kinds.intersection(event_of(tile, interest)) for tile in column.aggregate.tile_columns)
    return kinds.issuperset(column.needs)


# --- the aggregates -------------------------------------------------------------------------------------------------


def sum_of(column: str) -> Aggregate:
    """Total of a tile column in the window."""
    return Aggregate((column,), (_sum(column),), _as_float, accumulates=True)


def days_with(column: str) -> Aggregate:
    """Days in the window on which a tile column is above zero."""

    def part(rows: Table, window: int | None) -> IntegerScalar:
        return ibis.cases((_within(rows, window) & (rows[column] > 0), 1), else_=0).sum()

    return Aggregate((column,), (part,), _as_float, accumulates=True)


def days_since(column: str) -> Aggregate:
    """Days from the last day on which a tile column was above zero to `as_of`; yesterday is 1."""

    def part(rows: Table, window: int | None) -> IntegerScalar:
        return ibis.cases((rows[column] > 0, rows.age), else_=ibis.null("int32")).min()

    return Aggregate((column,), (part,), _as_float)


def days_since_first(column: str) -> Aggregate:
    """Days from the first day on which a tile column was above zero to `as_of`."""

    def part(rows: Table, window: int | None) -> IntegerScalar:
        return ibis.cases((rows[column] > 0, rows.age), else_=ibis.null("int32")).max()

    return Aggregate((column,), (part,), _as_float, accumulates=True)


def ratio(numerator: str, denominator: str) -> Aggregate:
    """Total of one tile column per unit of another in the window; no value where the second total is zero."""
    return Aggregate((numerator, denominator), (_sum(numerator), _sum(denominator)), _divide)


def trend(column: str, recent: int) -> Aggregate:
    """Daily rate of a tile column in the last `recent` days over its daily rate in the window; 1 is steady."""

    def finish(short: NumericValue, long: NumericValue, window: int) -> NumericValue:
        return _divide(short * window, long * recent)

    return Aggregate((column,), (lambda rows, window: _sum(column)(rows, recent), _sum(column)), finish)


def _sum(column: str) -> Part:
    def part(rows: Table, window: int | None) -> IntegerScalar:
        return ibis.cases((_within(rows, window), rows[column]), else_=0).sum()

    return part


def _within(rows: Table, window: int | None) -> ibis.expr.types.BooleanValue:
    return ibis.literal(True) if window is None else rows.age <= window


def _as_float(value: NumericValue, window: int | None = None) -> NumericValue:
    return value.cast("float64")


def _divide(numerator: NumericValue, denominator: NumericValue, window: int | None = None) -> NumericValue:
    return numerator.cast("float64") / denominator.nullif(0).cast("float64")
