"""FeatureView and Column: features declared as data.

A regular column is an aggregate over a window. A derived column is a function of other features of the same user and of
what is normal in the shop, so it can look neither ahead nor at raw events. A column whose unit is "label" holds words for
people; models see the numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.aggregates import Aggregate, ChangePart, DayPart, GapPart, KeyPart, Part
from features.norms import Norms
from features.tile_columns import CHANGES, KEY_CODES, KEY_COLUMNS, events_of

NEVER = None  # the value of a column for a user with no such history
EVER = 730  # days of log after which a count of everything since its beginning says more about the user than about the log
Values = Mapping[str, Any]  # feature -> float64 with NaN, or the texts of a label as a dictionary


@dataclass(frozen=True)
class Derived:
    """A function of other features.

    Args:
        inputs: full names of features; the column is left out where one of them is.
        compute: (feature name -> values of all users, norms of the shop) -> values.
        accumulates: norms enter the value that drift while the log is young.
        ageless: what its inputs gain with the age of the log, the value does not.
    """

    inputs: tuple[str, ...]
    compute: Callable[[Values, Norms], npt.NDArray[np.float64] | pa.DictionaryArray]
    accumulates: bool = False
    ageless: bool = False


@dataclass(frozen=True)
class Column:
    """One feature, once per window of its view.

    Args:
        name: short name; the full one is view_name_window, such as `orders_count_30d`.
        source: what is computed.
        meaning: in words that a marketer reads, without the window.
        unit: what the value counts: orders, days, cents, share, ...; "label" for words.
        empty: value for a user with no such history.
        windows: days, when they differ from the view's; None is "ever".
        actionable: whether marketing can change it.
    """

    name: str
    source: Aggregate | Derived
    meaning: str
    unit: str = "count"
    empty: float | None = 0
    windows: tuple[int | None, ...] | None = None
    actionable: bool = False


@dataclass(frozen=True)
class FeatureView:
    """A family of features."""

    name: str
    columns: tuple[Column, ...]
    windows: tuple[int | None, ...] = (None,)


@dataclass(frozen=True)
class Feature:
    """A column in one window: what a snapshot stores under `name` and the dictionary explains.

    looks_back: days of log that it takes for the value to mean the same at every cutoff.
    """

    name: str
    view: str
    column: Column
    window: int | None
    looks_back: int

    @property
    def is_label(self) -> bool:
        return self.column.unit == "label"

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The integers that a regular feature is made of."""
        return self.column.source.parts(self.window) if isinstance(self.column.source, Aggregate) else ()

    @property
    def meaning(self) -> str:
        over = "" if self.window is None else f" in the last {self.window} day{'s' if self.window != 1 else ''}"
        return f"{self.column.meaning}{over}"

    def describe(self) -> dict[str, object]:
        """The entry of the feature dictionary."""
        return {
            "name": self.name,
            "family": self.view,
            "meaning": self.meaning,
            "unit": self.column.unit,
            "window_days": self.window,
            "looks_back_days": self.looks_back,
            "without_history": self.column.empty,
            "actionable": self.column.actionable,
        }


def features_of(view: FeatureView, kinds: frozenset[str], interest: Mapping[str, tuple[str, ...]], known: Mapping[str, Feature]) -> Iterator[Feature]:
    """The features of a view that a log with these kinds of events can carry, in declared order.

    Args:
        known: the features of the views before this one; a derived column may use them and those declared before it.
    """
    mine: dict[str, Feature] = {}
    for column in view.columns:
        for window in view.windows if column.windows is None else column.windows:
            name = f"{view.name}_{column.name}" + ("" if window is None else f"_{window}d")
            source = column.source
            if isinstance(source, Derived):
                inputs = [{**known, **mine}.get(needed) for needed in source.inputs]
                found = [feature for feature in inputs if feature is not None]
                is_there, looks_back = len(found) == len(inputs), max((feature.looks_back for feature in found), default=0)
                looks_back = EVER if source.accumulates else 0 if source.ageless else looks_back
            else:
                is_there = all(kinds.intersection(events_behind(part, interest)) for part in source.parts(window))
                looks_back = window if window is not None else EVER if source.accumulates else 0
            if is_there:
                mine[name] = Feature(name, view.name, column, window, looks_back)
                yield mine[name]


def events_behind(part: Part, interest: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The events that an integer is made of."""
    match part:
        case DayPart():
            return events_of(part.column, interest)
        case GapPart():
            return ("order",)
        case KeyPart():
            return KEY_COLUMNS[KEY_CODES[part.column]].events
        case ChangePart():
            return CHANGES[part.name][0] if part.name in CHANGES else ("attribute_set",)
