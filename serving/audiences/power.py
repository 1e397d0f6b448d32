"""Power: which effect a hold-out of some size can tell from chance, and how large it must be for a wanted one.

Two proportions, two-sided 5 %, power 80 %, by the normal approximation with pooled variance under no effect (Fleiss, Levin and Paik 2003,
"Statistical Methods for Rates and Proportions", 3rd ed., formula 4.14). An adjustment by model score and pre-period makes the sample
worth `worth` times as many users, which is what a campaign's own evidence measures; without such evidence it is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

POWER, ALPHA = 0.8, 0.05
MOST = 1_000_000_000  # users


@dataclass(frozen=True)
class Detectable:
    """The smallest rise of the rate that is found four times out of five. effect: in rate, added to the control's; relative: over its rate;
    conversions: so many more among the treated. None, with the reason, where no rise could be found."""

    treated: int
    control: int
    rate: float
    effect: float | None
    relative: float | None
    conversions: float | None
    reason: str | None = None


def detectable(treated: int, control: int, rate: float, *, worth: float = 1.0, power: float = POWER, alpha: float = ALPHA) -> Detectable:
    """What a campaign can find.

    Args:
        treated, control: users of each group. rate: conversions expected of a control user. worth: by how much an adjustment multiplies the sample.

    Raises:
        ValueError: a rate that is none, or an adjustment that is worth nothing.
    """
    _check(rate, worth)
    if min(treated, control) < 1:
        return Detectable(treated, control, rate, None, None, None, "a group is empty: nothing can be compared")
    n1, n0, room = treated * worth, control * worth, 1 - rate
    if room <= 0 or not _found(room, n1, n0, rate, power, alpha):
        return Detectable(treated, control, rate, None, None, None, "too few users: not even if all the treated converted, it would be found")
    low, high = 0.0, room
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _found(middle, n1, n0, rate, power, alpha) else (middle, high)
    return Detectable(treated, control, rate, high, high / rate if rate else None, high * treated)


def needed(effect: float, rate: float, control: float = 0.1, *, worth: float = 1.0, power: float = POWER, alpha: float = ALPHA) -> int | None:
    """How many users an audience needs, so that a rise by `effect` is found when the share `control` of them is held out; None: none suffices.

    Raises:
        ValueError: a rate, share or effect that is none.
    """
    _check(rate, worth)
    if not 0 < control < 1 or not 0 < effect <= 1:
        raise ValueError("The share held out and the effect must lie between 0 and 1.")
    if rate + effect > 1:
        return None
    low, high = 1, MOST
    if not _found(effect, high * (1 - control) * worth, high * control * worth, rate, power, alpha):
        return None
    while low < high:
        middle = (low + high) // 2
        enough = _found(effect, middle * (1 - control) * worth, middle * control * worth, rate, power, alpha)
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def _found(effect: float, n1: float, n0: float, rate: float, power: float, alpha: float) -> bool:
    """Whether an effect is found with that power."""
    treated, normal = rate + effect, NormalDist()
    pooled = (n1 * treated + n0 * rate) / (n1 + n0)
    by_chance = math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
    spread = math.sqrt(max(0.0, treated * (1 - treated)) / n1 + rate * (1 - rate) / n0)
    return effect >= normal.inv_cdf(1 - alpha / 2) * by_chance + normal.inv_cdf(power) * spread


def _check(rate: float, worth: float) -> None:
    if not 0 <= rate <= 1 or not worth > 0:
        raise ValueError("A rate lies from 0 to 1, and an adjustment is worth more than nothing.")
