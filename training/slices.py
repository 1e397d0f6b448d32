"""Slices: parts of the users for which a model is judged apart, by what is known of them at the cutoff."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Texts = npt.NDArray[np.object_]

LABELS = {"stage": "stage", "layer": "layers_layer", "source of the last visit": "touch_last_source", "channel of the last order": "touch_order_channel"}
BANDS = {"days since the last order": "orders_recency", "days since the first order": "orders_tenure", "days since the last visit": "activity_recency"}
EDGES = (0, 7, 30, 90, 180, 365)
MOST_VALUES, LEAST = 8, 30  # values of a slice; rows of each outcome without which a slice is not measured


def slices_of(frame: pd.DataFrame) -> dict[str, Texts]:
    """Slice -> its value for each user of a snapshot's frame, where the snapshot has it."""
    found = {name: _texts(frame[column]) for name, column in LABELS.items() if column in frame}
    return found | {name: _bands(frame[column]) for name, column in BANDS.items() if column in frame}


def measurable(values: Texts, y: npt.NDArray[Any]) -> Mapping[str, npt.NDArray[np.bool_]]:
    """The most frequent values with enough of both outcomes, and the rows of each; nothing where there is only one."""
    counts = pd.Series(values).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    rows = {str(name): values == name for name in counts.index[:MOST_VALUES]}
    enough = {name: mine for name, mine in rows.items() if min(y[mine].sum(), (1 - y[mine]).sum()) >= LEAST}
    return enough if len(counts) > 1 else {}


def _texts(column: pd.Series) -> Texts:
    return np.asarray(column.astype(object).where(column.notna(), "none"), dtype=object)


def _bands(column: pd.Series) -> Texts:
    names = [f"{low + 1} to {high}" for low, high in pairwise(EDGES)] + [f"over {EDGES[-1]}", "never"]
    place = np.where(column.isna(), len(names) - 1, np.searchsorted(EDGES[1:], column.fillna(0)))
    return np.array(names, dtype=object)[place]
