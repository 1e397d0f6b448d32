"""The population stability index: how far a column's shares of rows, over the same bins, lie apart then and now.

    PSI = sum over bins of (now - then) ln(now / then)

Source: Siddiqi 2006, "Credit Risk Scorecards", Wiley. Bins are those of then: tenths, a bin of its own for a value that is
several of the deciles, and one for no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from training.blend import Vector

LEAST_SHARE = 1e-4  # an empty bin counts as this: its logarithm would be infinite


def distribution(values: Vector) -> dict[str, Any]:
    """What a later comparison needs of a column: its deciles, and its share of rows in each bin, the one without a value last."""
    deciles = [float(edge) for edge in np.nanquantile(values, np.linspace(0, 1, 11))] if not np.isnan(values).all() else None
    return {"deciles": deciles, "missing": float(np.isnan(values).mean()), "shares": shares(values, deciles)}


def shares(values: Vector, deciles: Sequence[float] | None) -> list[float]:
    """The share of the rows in each bin that the deciles make; the last bin is for rows without a value."""
    edges = _edges(deciles)
    empty = np.isnan(values)
    bins = np.where(empty, len(edges) + 1, np.searchsorted(edges, np.where(empty, 0.0, values), side="left"))
    return [float(share) for share in np.bincount(bins, minlength=len(edges) + 2) / len(values)]


def psi(then: Sequence[float], now: Sequence[float]) -> float:
    """The population stability index of two lists of shares; an empty bin counts as a hundredth of a percent."""
    expected, seen = (np.maximum(np.array(parts, dtype=np.float64), LEAST_SHARE) for parts in (then, now))
    return float(np.sum((seen - expected) * np.log(seen / expected)))


def _edges(deciles: Sequence[float] | None) -> list[float]:
    """Upper ends of the bins. A value that is several deciles gets a bin of its own, with one below it, so that a constant
    column has a bin on either side."""
    if deciles is None:
        return []
    tied = {value for value, following in pairwise(deciles) if value == following}
    return sorted({*deciles[1:-1], *tied, *(float(np.nextafter(value, -np.inf)) for value in tied)})
