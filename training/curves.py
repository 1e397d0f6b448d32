"""Curves: what the pictures of a candidate draw, as numbers, for whoever shows them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from training.blend import Matrix
from training.evaluate import calibration_table, gains
from training.fit import Candidate

SHARES = np.linspace(0, 1, 51)
TENTHS, THIRDS = 10, ("soonest", "middle", "latest")
RELIABILITY_BINS = 10


def curves_of(candidate: Candidate) -> dict[str, Any]:
    """The curves of a candidate's kind, as JSON values: no row of any user.

    captured: model and baseline -> of the best share of the rows (`shares`), the share of the positives, or of the spend, that is in it.
    reliability: of a probability, bins of equal size with predicted, observed, its 95 % interval by Wilson, and count.
    groups: of an amount, mean predicted and observed cents of ten equal groups, highest prediction first.
    waiting: of a date, the share still waiting after so many days in three groups by prediction, predicted and observed.
    """
    scores, test, kind = candidate.evidence.scores, candidate.test, candidate.asked.kind
    if kind in ("probability", "rank"):
        found: dict[str, Any] = {"shares": SHARES.tolist(), "captured": {who: positives_captured(test.y, told) for who, told in scores.items()}}
        reliability = calibration_table(test.y, scores["model"], RELIABILITY_BINS).to_dict("records") if kind == "probability" else None
        return {**found, **({"reliability": reliability} if reliability else {})}
    if kind == "value":
        spent = np.asarray(test.amount, dtype=float)
        return {
            "shares": SHARES.tolist(),
            "captured": {who: spend_captured(spent, told) for who, told in scores.items()},
            "groups": by_tenth(spent, scores["model"]),
        }
    return {"waiting": waiting(test.amount, scores["model"], test.edges)} if kind == "date" else {}


def positives_captured(y: ArrayLike, p: ArrayLike) -> list[float]:
    """Share of the positives among the best share of the rows, at `SHARES`; rows of equal score count in proportion."""
    table = gains(y, p)
    return [float(value) for value in np.interp(SHARES, table["rows_share"], table["positives_share"])]


def spend_captured(spent: ArrayLike, told: ArrayLike) -> list[float]:
    """Share of all spend that the best share of the rows by prediction brought, at `SHARES`."""
    amounts = np.asarray(spent, dtype=float)
    cumulated = np.append(0.0, np.cumsum(amounts[np.argsort(-np.asarray(told, dtype=float), kind="stable")]))
    return [float(value) for value in np.interp(SHARES, np.linspace(0, 1, len(cumulated)), cumulated / max(cumulated[-1], 1.0))]


def by_tenth(spent: ArrayLike, told: ArrayLike) -> list[dict[str, float]]:
    """Mean predicted and observed amount of ten equal groups, highest prediction first."""
    amounts, predicted = np.asarray(spent, dtype=float), np.asarray(told, dtype=float)
    groups = np.array_split(np.argsort(-predicted, kind="stable"), TENTHS)
    return [{"predicted": float(predicted[rows].mean()), "observed": float(amounts[rows].mean()), "count": len(rows)} for rows in groups if len(rows)]


def waiting(waited: Any, curve: Matrix, edges: tuple[int, ...]) -> Mapping[str, Any]:
    """Share still waiting at the end of each step: three equal groups by predicted waiting."""
    days, told = np.nan_to_num(np.asarray(waited, dtype=float), nan=np.inf), np.asarray(curve, dtype=float)
    parts = np.array_split(np.argsort(told.sum(axis=1), kind="stable"), len(THIRDS))
    groups = [
        {
            "name": name,
            "count": len(rows),
            "predicted": [1.0, *map(float, told[rows].mean(axis=0))],
            "observed": [1.0, *(float((days[rows] >= edge).mean()) for edge in edges)],
        }
        for rows, name in zip(parts, THIRDS, strict=True)
        if len(rows)
    ]
    return {"days": [0, *edges], "groups": groups}
