"""What a person chose on the page of audiences: prediction, both handles, hold-out, and what a campaign earns and costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.audiences.holdout import shares_of
from serving.audiences.profit import Economics
from serving.audiences.rules import Rule

HELD = (10, 20, 50, 0)  # percent that may be held out, the usual first
AMOUNTS = ("margin", "coupon_cost", "contact_cost")
BEGIN, MOST = 10.0, 1e9
NO_MARGIN = "no_margin"


@dataclass(frozen=True)
class Choice:
    """at, skip: the best so many percent of the pool, without so many of the surest; skip is below at. held: percent held out. amounts: those of
    AMOUNTS that were said. wrong: fields whose value is no amount, and NO_MARGIN where costs came without one."""

    task: str
    at: float = BEGIN
    skip: float = 0.0
    held: int = HELD[0]
    amounts: Mapping[str, float] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()

    @property
    def economics(self) -> Economics | None:
        return Economics(**self.amounts) if self.amounts and not self.wrong else None

    def rule(self) -> Rule:
        return Rule(self.task, top_percent=self.at, skip_percent=self.skip or None)

    def shares(self) -> dict[str, float] | None:
        """Of the hold-out; None where nobody is held out."""
        return shares_of(self.held / 100) if self.held else None

    def fields(self) -> dict[str, str]:
        """As a form or an address says it, so that `chosen` gives the same again."""
        return {"of": self.task, **{name: _plain(value) for name, value in {"at": self.at, "skip": self.skip, "held": self.held, **self.amounts}.items()}}


def chosen(told: Mapping[str, str], task: str) -> Choice:
    """The choice that a form or an address says. What is missing or means nothing is as usual; amounts that are none are named.

    Args:
        task: the prediction, where it names none.
    """
    at = min(_number(told.get("at"), BEGIN), 100.0)
    at = at if at > 0 else 1.0
    skip = max(0.0, _number(told.get("skip"), 0.0))
    held = int(_number(told.get("held"), HELD[0]))
    given = {name: told[name].strip() for name in AMOUNTS if told.get(name, "").strip()}
    amounts = {name: _number(text, math.nan) for name, text in given.items()}
    wrong = tuple(name for name, amount in amounts.items() if not 0 <= amount <= MOST)
    if given and "margin" not in given:
        wrong = (NO_MARGIN, *wrong)
    good = {name: amount for name, amount in amounts.items() if name not in wrong}
    return Choice(told.get("of") or task, at, skip if skip < at else max(0.0, at - 1), held if held in HELD else HELD[0], good, wrong)


def _number(text: str | None, otherwise: float) -> float:
    try:
        number = float(text or "")
    except ValueError:
        return otherwise
    return number if math.isfinite(number) else otherwise


def _plain(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
