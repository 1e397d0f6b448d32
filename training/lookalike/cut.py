"""A response rate cut by two factors: a rate with its interval for each cell, and a test for each difference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from features.errors import UnknownName
from features.snapshot import Snapshot
from training.intervals import share
from training.lookalike.contrast_tests import corrected, share_difference
from training.lookalike.contrast_words import OTHER, amount
from training.lookalike.rules import Mask, column_of, labels_of

Texts = npt.NDArray[np.object_]
MOST_LEVELS = 4  # of a factor; the others count as one
LEAST_IN_CELL = 10  # users, below which a cell is shown and not tested


def cut(snapshot: Snapshot, converted: Mask, others: Mask, first: str, second: str) -> dict[str, Any]:
    """Rates of those who converted among both groups, by the levels of two factors.

    A factor is a feature, split at the median of these users, or a label; a user without a value is "unknown". Within each
    level of one factor every two levels of the other are compared (see `contrast_tests.share_difference`); all the p-values are
    corrected together (`q`).

    Raises:
        UnknownName: no such feature or label.
    """
    rows = np.flatnonzero(converted | others)
    did = converted[rows]
    factors = [(name, *_levels(name, snapshot, rows)) for name in (first, second)]
    (_, levels, of), (_, other_levels, other_of) = factors
    cells = []
    for level in levels:
        for other in other_levels:
            mine = (of == level) & (other_of == other)
            cells.append({"levels": [level, other], **_rate(did, mine)})
    differences = [*_differences(cells, 0, levels, other_levels), *_differences(cells, 1, other_levels, levels)]
    for one, q in zip(differences, corrected([one["p"] for one in differences]), strict=True):
        one["q"] = q
    described = [{"factor": name, "levels": names, "rates": [_rate(did, values == level) for level in names]} for name, names, values in factors]
    return {"factors": described, "users": len(rows), "converted": int(did.sum()), "cells": cells, "differences": differences}


def _rate(did: Mask, mine: Mask) -> dict[str, Any]:
    return {"users": int(mine.sum()), "converted": int(did[mine].sum()), "rate": share(int(did[mine].sum()), int(mine.sum()))}


def _differences(cells: Sequence[dict[str, Any]], factor: int, levels: Sequence[str], within: Sequence[str]) -> list[dict[str, Any]]:
    """Every two levels of a factor, within each level of the other one."""
    by_levels = {tuple(cell["levels"]): cell for cell in cells}
    found = []
    for fixed in within:
        for one, two in combinations(levels, 2):
            a, b = (by_levels[(level, fixed) if factor == 0 else (fixed, level)] for level in (one, two))
            if min(a["users"], b["users"]) >= LEAST_IN_CELL:
                tested = share_difference(a["converted"], a["users"], b["converted"], b["users"])
                found.append({"factor": factor, "between": [one, two], "within": fixed, **tested, "q": None})
    return found


def _levels(name: str, snapshot: Snapshot, rows: npt.NDArray[np.int64]) -> tuple[list[str], Texts]:
    """The levels of a factor in their order, and that of each row."""
    column = column_of(name, snapshot)
    if column is None:
        raise UnknownName("factor", name, [*labels_of(snapshot), *snapshot.feature_names])
    if column in labels_of(snapshot):
        texts = pc.fill_null(snapshot.table[column].cast("string"), "unknown").to_numpy(zero_copy_only=False)[rows].astype(object)
        words, counts = np.unique(texts.astype(str), return_counts=True)
        shown = [str(word) for word in words[np.lexsort((words, -counts))][:MOST_LEVELS]]
        values = np.array([word if word in shown else OTHER for word in texts], dtype=object)
        return [*shown, *([OTHER] if len(words) > MOST_LEVELS else [])], values
    return _split(snapshot, column, rows)


def _split(snapshot: Snapshot, column: str, rows: npt.NDArray[np.int64]) -> tuple[list[str], Texts]:
    numbers = snapshot.table[column].to_numpy(zero_copy_only=False)[rows]
    known = numbers[~np.isnan(numbers)]
    unit = next(entry["unit"] for entry in snapshot.manifest["features"] if entry["name"] == column)
    middle = float(np.median(known)) if len(known) else 0.0
    if len(known) and middle == known.max() > known.min():  # most have the largest value: "over" it would be nobody
        middle = float(known[known < middle].max())
    is_money_or_share = unit in ("cents", "share", "flag")
    border = f"{middle:,.0f}" if middle == int(middle) and not is_money_or_share else amount(middle, unit, str(snapshot.manifest["currency"]), named=False)
    names = [f"up to {border}", f"over {border}", "unknown"]
    place = np.where(np.isnan(numbers), 2, (numbers > middle).astype(int))
    present = np.unique(place)
    return [names[number] for number in present], np.array(names, dtype=object)[place]
