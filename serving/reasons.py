"""Reasons: the exact shares of a score, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.money import minor_digits, minor_units
from training.blend import Matrix
from training.bundle import Bundle


@dataclass(frozen=True)
class Reason:
    """One feature's part in a score.

    contribution: its signed share of the log-odds; over all features and the start they add up to the score's
    log-odds. text: for a person. actionable: whether marketing can change it.
    """

    feature: str
    text: str
    value: float | None
    contribution: float
    effect: str
    actionable: bool


def reasons_of(bundle: Bundle, rows: Matrix, most: int, currency: str) -> list[tuple[Reason, ...]]:
    """The `most` largest contributions of each row, largest first; what contributed nothing is no reason.

    Args:
        rows: users x features in the bundle's order. currency: the shop's.
    """
    shares = bundle.contributions(rows)[:, :-1]
    words = bundle.about["features"]
    strongest = np.argsort(-np.abs(shares), axis=1, kind="stable")[:, :most]
    return [
        tuple([_reason(words[bundle.features[place]], values.item(place), share.item(place), currency) for place in places if share.item(place) != 0])
        for places, values, share in zip(strongest.tolist(), rows, shares, strict=True)
    ]


def _reason(words: Mapping[str, Any], value: float, share: float, currency: str) -> Reason:
    return Reason(
        feature=words["name"],
        text=f"{words['meaning']}: {in_words(value, words['unit'], currency)}",
        value=None if math.isnan(value) else value,
        contribution=share,
        effect="raises" if share > 0 else "lowers",
        actionable=words["actionable"],
    )


def in_words(value: float, unit: str, currency: str) -> str:
    """A feature's value as a person reads it."""
    if math.isnan(value):
        return "none so far"
    if unit == "cents":
        return f"{value / minor_units(currency):,.{minor_digits(currency)}f}"
    if unit == "share":
        return f"{value:.0%}"
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.1f}"
