"""Eligible: whom a task is about, as data, so that the service asks it of a vector as training asks it of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.conditions import Condition, Mask, holds, of_values
from features.errors import UnknownName

WINDOW, HIGHEST = "window", "highest"  # instead of a number: the days of the definition window; the highest value that anybody has


@dataclass(frozen=True)
class Eligible:
    """A condition (see `features.conditions`) whose numbers may be WINDOW or HIGHEST. Called, it says who of a snapshot's users fulfils it."""

    condition: Condition

    def __call__(self, users: pd.DataFrame, window: int = 0) -> pd.Series[bool]:
        mask = holds(self.at(users, window), lambda leaf: _of_leaf(leaf, users))
        return pd.Series(np.broadcast_to(mask, len(users)), users.index, dtype=bool)

    def at(self, users: pd.DataFrame, window: int) -> Condition:
        """The condition with numbers alone, as it stands for these users."""
        found: Condition = _told(self.condition, users, window)
        return found


def eligible(*include: Condition, exclude: tuple[Condition, ...] = ()) -> Eligible:
    """Who fulfils all of some conditions and none of others."""
    return Eligible({"all": [*include, *({"not": condition} for condition in exclude)]})


def _of_leaf(leaf: Condition, users: pd.DataFrame) -> Mask:
    """Labels of the snapshot, which hold words, can be asked for too."""
    if leaf["feature"] not in users:
        raise UnknownName("feature", leaf["feature"], users.columns)
    column = users[leaf["feature"]]
    if pd.api.types.is_numeric_dtype(column):
        return of_values(leaf, column.to_numpy(np.float64))
    is_known = column.notna() if leaf.get("known", True) else column.isna()
    return np.asarray(is_known & column.isin(np.atleast_1d(leaf["is"]).tolist()) if "is" in leaf else is_known, np.bool_)


def _told(condition: Any, users: pd.DataFrame, window: int) -> Any:
    if isinstance(condition, list | tuple):
        return [_told(part, users, window) for part in condition]
    if not isinstance(condition, Mapping):
        return window if condition == WINDOW else condition
    said = {key: _told(value, users, window) if key != "feature" else value for key, value in condition.items()}
    for key in [key for key, value in said.items() if value == HIGHEST and key != "feature"]:
        highest = users[said["feature"]].max()
        # Where nobody has a value, whoever has one is at the top: the condition asks no more of it.
        said = {name: value for name, value in said.items() if value != HIGHEST} | ({} if pd.isna(highest) else {key: float(highest)})
    return said
