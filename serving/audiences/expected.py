"""How far what is expected of an audience may be off: by chance, and because the model's level may be.

Chance: conversions are independent yes-or-no outcomes of unequal chances, a Poisson-binomial sum of variance sum p (1 - p).

Level: every season shifts all chances together, which no sum of independent outcomes knows. The evidence of a model says how far the mean
probability was off in each period that it had not seen. Their root mean square, with the t quantile for so few periods, is what the
mean may be off in the next one; as a shift of all log-odds it moves the expected number by (shift) x sum p (1 - p). Where the
evidence has no two periods, the pooled bias and its bootstrap interval stand in. Calibration errors above what chance
gives (ECE less its simulated floor) count where they are the larger: the cut may lie where they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.audiences.ranking import ranking
from serving.release import Release

Z = 1.959963984540054
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # 97.5 % quantiles of Student's t, from one degree of freedom on
BY_CHANCE = "95 % interval for chance alone: this release carries no evidence of the model's calibration"


@dataclass(frozen=True)
class Level:
    """How far the level may be off. shift: half width of its 95 % interval, in log-odds; basis: what that comes from, in words."""

    shift: float
    basis: str

    def interval(self, expected: float, spread: float, size: int) -> tuple[float, float]:
        """The 95 % interval of the conversions of `size` users. spread: their sum of p (1 - p)."""
        half = math.hypot(Z * math.sqrt(max(0.0, spread)), self.shift * spread)
        return max(0.0, expected - half), min(float(size), expected + half)


def level_of(release: Release, task: str) -> Level:
    """What the release knows of a calibrated prediction's level."""
    facts, whole = release.manifest["tasks"][task], ranking(release, task)
    if whole.spread is None or not len(whole) or not whole.spread[-1]:
        return Level(0.0, BY_CHANCE)
    off, basis = _mean_off(facts)
    measured = facts.get("metrics", {}).get("model", {})
    excess = max(0.0, _value(measured, "ece") - _value(measured, "ece_floor")) * Z * math.sqrt(math.pi / 2)  # mean absolute error to standard deviation
    if excess > off:
        off, basis = excess, "the calibration error (ECE) above its floor"
    if not basis:
        return Level(0.0, BY_CHANCE)
    return Level(off * len(whole) / float(whole.spread[-1]), f"95 % interval for chance and for the model's level, by {basis}")


def _mean_off(facts: Mapping[str, Any]) -> tuple[float, str]:
    """Half width of the 95 % interval of the mean probability's error, and what says so."""
    periods = [float(bias) for bias in (facts.get("bias_by_cutoff") or {}).values()]
    if len(periods) > 1:
        usual = math.sqrt(sum(bias * bias for bias in periods) / len(periods))
        return (T[len(periods) - 1] if len(periods) <= len(T) else Z) * usual, f"its bias in {len(periods)} periods that it had not seen"
    pooled = facts.get("metrics", {}).get("model", {}).get("mean_bias") or {}
    if pooled.get("value") is None:
        return 0.0, ""
    width = (pooled["high"] - pooled["low"]) / 2 if pooled.get("low") is not None and pooled.get("high") is not None else 0.0
    return math.hypot(Z * pooled["value"], width), "its pooled bias on held-out cutoffs"


def _value(measured: Mapping[str, Any], name: str) -> float:
    return float((measured.get(name) or {}).get("value") or 0.0)
