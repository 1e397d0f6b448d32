"""Intervals and tables of the look-alike bench, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.evaluate import Interval
from training.lookalike.recall import over_splits

Measured = Mapping[str, Sequence[Interval]]  # method -> an interval per head


def interval(values: Sequence[float]) -> Interval:
    """Mean of independent repetitions with its 95 % t interval."""
    return over_splits(list(values), overlap=0.0)


def mean_table(found: Measured, heads: Sequence[str], beside: Mapping[str, Measured] | None = None) -> str:
    """A method a row; beside it what the same methods measured in another way."""
    tables = {"": found, **(beside or {})}
    titles = [f"{head}, {way}" if way else head for way in tables for head in heads]
    rows = [f"| method | {' | '.join(titles)} |", "|" + "---|" * (len(titles) + 1)]
    for name in found:
        rows.append(f"| {name} | {' | '.join(shown(cell) for table in tables.values() for cell in table[name])} |")
    return "\n".join(rows)


def gain_line(gains: Mapping[str, Interval], what: str) -> str:
    """What the ensemble has beyond the others."""
    return f"\n\nGain of the ensemble in {what}: " + "; ".join(f"over {name} {shown(gain, '+')}" for name, gain in gains.items()) + "."


def curve_table(curve: Mapping[int, Measured]) -> str:
    """A seed size a row, recall at 10 % of the methods."""
    methods = list(next(iter(curve.values())))
    rows = [f"| shown | {' | '.join(methods)} |", "|" + "---|" * (len(methods) + 1)]
    return "\n".join([*rows, *(f"| {size} | {' | '.join(shown(found[name][0]) for name in methods)} |" for size, found in curve.items())])


def speed_table(found: Mapping[str, Mapping[str, Any]], users: int, shown_users: int) -> str:
    """Seconds, CPU seconds and memory of each, and how many times as quick as the k nearest neighbours."""
    base = found["knn"]
    rows = [
        f"## Speed: a seed of {shown_users:,} over {users:,} users and 60 features, fit and score\n",
        "Brute-force kNN by scikit-learn gets float32 features that are prepared already; ours prepare them within their time.\n",
        "| | seconds | CPU seconds | peak MB | quicker than kNN | the same in CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, spent in found.items():
        ratios = [f"{base[unit] / spent[unit]:.1f}x" for unit in ("seconds", "cpu")]
        rows.append(f"| {name} | {spent['seconds']:.1f} | {spent['cpu']:.1f} | {spent['memory_mb']:,.0f} | {' | '.join(ratios)} |")
    return "\n".join(rows) + "\n"


def shown(measured: Interval, sign: str = "") -> str:
    """Value and interval, as a cell."""
    if measured["low"] is None:
        return f"{measured['value']:{sign}.3f}"
    return f"{measured['value']:{sign}.3f} [{measured['low']:{sign}.3f}, {measured['high']:{sign}.3f}]"
