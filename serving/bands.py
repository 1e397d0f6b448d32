"""What low, medium and high scores look like: the features that weigh most, and how their values lie in each band. Made once, when a release is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from serving.everybody import Scores
from serving.scorer import HIGH, LOW
from training.blend import Vector
from training.bundle import Bundle

if TYPE_CHECKING:
    from features.snapshot import Snapshot

BANDS = ("low", "medium", "high")
MOST_FEATURES, SAMPLE, SLOW_SAMPLE = 12, 200, 40  # users whose shares are looked at; those of a date take twenty times as long
BINS, FEW_VALUES = 16, 12  # a feature with so few different values is shown value by value
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
CLEAR = 0.3  # rank correlation from which more of a feature raises or lowers the score


def bands_of(bundle: Bundle, snapshot: Snapshot, scores: Scores) -> dict[str, Any]:
    """The distribution of a task's strongest features in each band of its scores, as JSON values: shares and quantiles of many, no user.

    features: strongest first; `share` is the mean absolute contribution on a sample of the eligible, `direction` whether more of it raises (1)
    or lowers (-1) the score, 0 where it does now one and now the other. `edges` are the ends of the bins, or where there are few
    different values, `values` these. bands: of each, users, share without a value, mean, quantiles and share in each bin.
    """
    eligible = np.flatnonzero(~np.isnan(scores.score))
    band = np.digitize(scores.percentile[eligible], (LOW, HIGH))
    sizes = np.bincount(band, minlength=len(BANDS))
    told: dict[str, Any] = {"users": {name: int(size) for name, size in zip(BANDS, sizes, strict=True)}, "features": []}
    if not len(eligible):
        return told
    most = min(SLOW_SAMPLE if bundle.kind == "date" else SAMPLE, len(eligible))
    some = eligible[np.unique(np.linspace(0, len(eligible) - 1, most).astype(int))]
    columns = {name: snapshot.table[name].to_numpy(zero_copy_only=False) for name in bundle.features}
    rows = np.column_stack([columns[name][some] for name in bundle.features]).astype(np.float64)
    shares = bundle.contributions(rows)[:, :-1]
    weight = np.abs(shares).mean(axis=0)
    for place in np.argsort(-weight, kind="stable")[:MOST_FEATURES]:
        name = bundle.features[place]
        values = np.asarray(columns[name], dtype=np.float64)[eligible]
        if weight[place] > 0 and not np.isnan(values).all():  # one that nobody has a value of tells nobody apart
            told["features"].append(
                {"name": name, "share": float(weight[place]), "direction": _direction(rows[:, place], shares[:, place]), **_lie(values, band)}
            )
    return told


def _lie(values: Vector, band: npt.NDArray[np.intp]) -> dict[str, Any]:
    """How values lie in each band, on bins that all bands share; somebody has a value."""
    known = ~np.isnan(values)
    few = np.unique(values[known][:100_000])
    if len(few) <= FEW_VALUES:
        few = np.unique(values[known])
    is_few = len(few) <= FEW_VALUES
    edges = _around(few) if is_few else _edges(values[known])
    bands = {}
    for number, name in enumerate(BANDS):
        mine, seen = band == number, values[known & (band == number)]
        inside = np.clip(seen, edges[0], edges[-1])
        counts = np.histogram(inside, edges)[0] / max(1, len(seen))
        bands[name] = {
            "missing": float(1 - len(seen) / max(1, mine.sum())),
            "mean": float(seen.mean()) if len(seen) else None,
            "quantiles": [float(value) for value in np.quantile(seen, QUANTILES)] if len(seen) else None,
            "shares": [round(float(share), 5) for share in counts],
        }
    return {("values" if is_few else "edges"): [float(value) for value in (few if is_few else edges)], "bands": bands}


def _around(values: Vector) -> Vector:
    """Bins with one value in each."""
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([[values[0] - 0.5], middles, [values[-1] + 0.5]])


def _edges(values: Vector) -> Vector:
    """The ends of bins of equal width between the 1st and the 99th percentile; what lies outside counts in the outermost."""
    low, high = np.quantile(values, (0.01, 0.99))
    if (values == np.rint(values)).all():  # bins of as many whole numbers each
        low, step = np.floor(low), max(1.0, np.ceil((np.ceil(high) - np.floor(low) + 1) / BINS))
        return np.asarray(low + step * np.arange(int(np.ceil((np.ceil(high) - low + 1) / step)) + 1))
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def _direction(values: Vector, shares: Vector) -> int:
    """Whether more of a feature raises or lowers the score: Spearman's rank correlation on those who have a value."""
    known = ~np.isnan(values)
    if known.sum() < 3 or np.ptp(values[known]) == 0 or np.ptp(shares[known]) == 0:
        return 0
    first, second = (np.unique(one, return_inverse=True)[1].astype(float) for one in (values[known], shares[known]))
    found = float(np.corrcoef(first, second)[0, 1])
    return 0 if abs(found) < CLEAR else 1 if found > 0 else -1
