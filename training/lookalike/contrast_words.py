"""A contrast in words that a marketer reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.money import minor_digits, minor_units

PLAIN = ("count", "ratio", "level", "points", "declared value", "nats")  # units that say nothing beside a number
OTHER = "any other"  # the words of a label that are too many to name
ROUND_MONEY = 1_000  # from which on nobody reads the cents


def value_words(row: Mapping[str, Any], names: tuple[str, str], currency: str) -> str:
    """Such as "different categories bought in the last 90 days: 3.1 categories, others 1.4": means, or where these hide the
    direction behind a few large values, medians."""
    shown, kind = _typical(row), ""
    if shown is row["medians"]:
        kind = " (median)"
    if row["is_flag"]:
        return f"{_flagged(row['meaning'])}: {_percent(row['means'][0])}, {names[1]} {_percent(row['means'][1])}"
    return f"{row['meaning']}: {amount(shown[0], row['unit'], currency)}, {names[1]} {amount(shown[1], row['unit'], currency, named=False)}{kind}"


def missing_words(row: Mapping[str, Any], names: tuple[str, str]) -> str:
    """How often a value is there at all."""
    first, second = (_percent(1 - share) for share in row["missing_shares"])
    return f"has a value for '{row['meaning']}': {first}, {names[1]} {second}"


def label_words(row: Mapping[str, Any], names: tuple[str, str]) -> str:
    """The word whose shares lie furthest apart."""
    named = [one for one in row["values"] if one["value"] != OTHER] or row["values"]
    word = max(named, key=lambda one: (abs(one["shares"][0] - one["shares"][1]), one["value"]))
    return f"{row['meaning']} is '{word['value']}': {_percent(word['shares'][0])}, {names[1]} {_percent(word['shares'][1])}"


def amount(value: float | None, unit: str, currency: str, named: bool = True) -> str:
    """A number with its unit: money in the shop's currency, shares in percent."""
    if value is None:
        return "-"
    if unit == "cents":
        money = value / minor_units(currency)
        return f"{money:,.{0 if abs(money) >= ROUND_MONEY else minor_digits(currency)}f} {currency}"
    if unit in ("share", "flag"):
        return _percent(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:,.{digits}f}" + (f" {unit}" if named and unit not in PLAIN else "")


def _typical(row: Mapping[str, Any]) -> Any:
    """Means, unless they point the other way than the ranks and the medians do not."""
    sign = row["effect"]["value"]
    (mean, other), (median, other_median) = row["means"], row["medians"]
    return row["medians"] if (mean - other) * sign < 0 < (median - other_median) * sign else row["means"]


def _flagged(meaning: str) -> str:
    return meaning.removeprefix("1 if ")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share in (0.0, 1.0) or 0.1 <= share <= 0.9 else f"{100 * share:.1f} %"
