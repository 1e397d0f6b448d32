"""Profit: what a campaign to the best so many earns, how many to ask, and from which chance on it pays.

A member costs the contact; whoever converts brings the margin and costs the coupon. So asking somebody with the chance p pays from
p (margin - coupon) = contact on (Provost and Fawcett 2013, "Data Science for Business", chapter 7), and the best of a ranking by
probability are asked down to there, or as far as the budget reaches. It counts every conversion that is expected, those that come
without the campaign too: what asking adds, only a hold-out tells. Of a prediction of what a treatment adds, p is that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.audiences.cut import within_budget
from serving.audiences.ranking import Ranking

Floats = npt.NDArray[np.float64]

EVERY = "counts every conversion that is expected, also those that come without the campaign; what it adds, only a hold-out tells"
ADDED = "counts what the treatment adds, by the model; a coupon is taken to cost its price for every member"


@dataclass(frozen=True)
class Economics:
    """What a campaign earns and costs, in units of the shop's currency.

    margin: of a conversion, before the coupon. coupon_cost: for each who converts. contact_cost: for each member. budget: the most to spend.
    """

    margin: float
    coupon_cost: float = 0.0
    contact_cost: float = 0.0
    budget: float | None = None

    @property
    def break_even(self) -> float | None:
        """The chance from which on asking somebody pays; None where it never does."""
        gain = self.margin - self.coupon_cost
        return self.contact_cost / gain if gain > 0 and self.contact_cost <= gain else None


@dataclass(frozen=True)
class Profit:
    """The cut to recommend, and why there. size: how many of the best; at: profit there; cost: what it takes."""

    size: int
    at: float
    cost: float
    break_even: float | None
    reason: str
    note: str


def profit(found: Ranking, economics: Economics, sizes: Any, kind: str = "probability") -> Floats:
    """What asking the best so many earns, for each of some sizes. kind: of the prediction."""
    asked = np.asarray(sizes)
    return np.asarray(found.sums[asked] * economics.margin - cost(found, economics, asked, kind))


def profit_between(found: Ranking, economics: Economics, start: int, stop: int, kind: str = "probability") -> float:
    """What asking a piece of the ranking earns, from the place `start` to before `stop`."""
    first, last = profit(found, economics, [start, stop], kind)
    return float(last - first)


def cost(found: Ranking, economics: Economics, sizes: Any, kind: str = "probability") -> Floats:
    """What asking the best so many takes: contacts, and coupons of those who convert (of an effect: of all)."""
    asked = np.asarray(sizes)
    coupons = asked if kind == "effect" else found.sums[asked]
    return np.asarray(asked * economics.contact_cost + coupons * economics.coupon_cost)


def recommended(found: Ranking, economics: Economics, kind: str = "probability") -> Profit:
    """The size of the highest profit that the budget reaches."""
    if kind == "effect":
        per_member = economics.contact_cost + economics.coupon_cost
        break_even = per_member / economics.margin if 0 < economics.margin >= per_member else None
        reached = len(found) if economics.budget is None or not per_member else min(len(found), int(economics.budget * (1 + 1e-12) / per_member))
    else:
        break_even = economics.break_even
        reached = len(found) if economics.budget is None else within_budget(found, economics.budget, economics.contact_cost, economics.coupon_cost)
    if break_even is None:
        reason = "no contact pays: what a conversion brings after its coupon does not cover one contact"
        return Profit(0, 0.0, 0.0, None, reason, _note(kind))
    pays = found.down_to(break_even)
    size = min(pays, reached)
    where = f"a chance of {break_even:.4g}, from which on a contact pays" if kind != "effect" else f"an effect of {break_even:.4g}, from which on it pays"
    reason = f"the budget ends before {where}" if reached < pays else f"down to {where}" if size < len(found) else "everybody in the pool pays"
    return Profit(size, float(profit(found, economics, size, kind)), float(cost(found, economics, size, kind)), break_even, reason, _note(kind))


def _note(kind: str) -> str:
    return ADDED if kind == "effect" else EVERY
