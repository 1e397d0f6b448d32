"""An audience's rule: a prediction to rank by, a condition that members fulfil, and where the ranking is cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from features.errors import EncoreError, UnknownName
from serving.audiences.columns import BANDS
from serving.audiences.conditions import Mistake, mistakes_of, nearest
from serving.release import Release

CUTS: Mapping[str, tuple[str, ...]] = {
    "top_n": ("top_n",),
    "top_percent": ("top_percent",),
    "percentiles": ("min_percentile", "max_percentile"),
    "probabilities": ("min_probability", "max_probability"),
    "band": ("band",),
    "budget": ("budget",),
    "members": ("members",),
}
SETTINGS = ("top_n", "top_percent", "min_percentile", "max_percentile", "min_probability", "max_probability", "band", "budget")  # of a cut, as people give it
# Without the fields that look-alikes alone have: what a rule may set, and the least and the most of it.
RANGES = {
    "top_n": (1, 100_000_000),
    "top_percent": (0, 100),
    "skip_percent": (0, 100),
    "min_percentile": (0, 100),
    "max_percentile": (0, 100),
    "min_probability": (0, 1),
    "max_probability": (0, 1),
    "budget": (0, 1e12),
    "contact_cost": (0, 1e9),
    "coupon_cost": (0, 1e9),
}


class InvalidRule(EncoreError):
    """An audience rule that cannot be applied; `mistakes` lists everything that is wrong with it, where that is more than one sentence says."""

    def __init__(self, text: str, mistakes: tuple[Mistake, ...] = ()) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join([text, *(f"  - {mistake}" for mistake in mistakes)]))


@dataclass(frozen=True)
class Rule:
    """Whom an audience holds. `task` ranks users, `where` is a condition (see `serving.audiences.conditions`), and at most one cut is given.

    top_n: the best so many. top_percent: the best percent of the pool. skip_percent: of either without this best percent of the pool, such as
    those who would do it anyhow. min_percentile, max_percentile: the percentiles that scores
    show, among all whom the prediction is about, both ends included. min_probability, max_probability: likewise. band: of the score.
    budget: as many of the best as so much money reaches, at contact_cost each and coupon_cost for each who is expected to convert.
    members: of a look-alike, the audience that its last refresh made, which keeps users who are as good as those behind them.
    """

    task: str | None = None
    top_n: int | None = None
    top_percent: float | None = None
    min_probability: float | None = None
    members: bool | None = None
    where: Mapping[str, Any] | None = None
    max_probability: float | None = None
    min_percentile: float | None = None
    max_percentile: float | None = None
    band: str | None = None
    budget: float | None = None
    contact_cost: float | None = None
    coupon_cost: float | None = None
    skip_percent: float | None = None

    @property
    def cuts(self) -> list[str]:
        """The cuts that it names."""
        return [cut for cut, parts in CUTS.items() if any(getattr(self, part) is not None and getattr(self, part) is not False for part in parts)]

    def described(self) -> dict[str, Any]:
        """What was given, as the ledger keeps it."""
        return {name: value for name, value in vars(self).items() if value is not None}


def read_rule(given: Mapping[str, Any]) -> Rule:
    """A rule of a file or of the command line.

    Raises:
        InvalidRule: words that no rule knows, or values of the wrong kind; all of them are listed.
    """
    known = [field.name for field in fields(Rule) if field.name != "members"]
    found = [Mistake("", "Unknown word", name, nearest(name, known)) for name in given if name not in known]
    for name, (least, most) in RANGES.items():
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most):
            found.append(Mistake(name, f"must be a number from {least:g} to {most:g}", value))
    if given.get("top_n") is not None and not isinstance(given["top_n"], int):
        found.append(Mistake("top_n", "must be a whole number", given["top_n"]))
    if given.get("band") not in (None, *BANDS):
        found.append(Mistake("band", "must be low, medium or high", given["band"]))
    if found:
        raise InvalidRule(f"The rule has {len(found)} mistake(s):", tuple(found))
    return Rule(**given)


def check(rule: Rule, release: Release) -> None:
    """Make sure that a rule can be applied to a release.

    Raises:
        UnknownName: the release has no prediction of that name. InvalidRule: everything else that is wrong, all of it listed.
    """
    if rule.task is not None and rule.task not in release.scores:
        raise UnknownName("prediction", rule.task, release.scores)
    shape = list(_shape(rule))
    if shape:
        raise InvalidRule(" ".join(shape))
    if rule.task is not None and not release.bundles[rule.task].calibrated:
        asked = "a probability" if "probabilities" in rule.cuts else "a coupon's cost per conversion" if rule.coupon_cost else ""
        if asked:
            raise InvalidRule(f"'{rule.task}' ranks users and gives no probability, so {asked} means nothing here: cut it by top_n or top_percent.")
    found = mistakes_of(rule.where, release, "where") if rule.where is not None else []
    if found:
        raise InvalidRule(f"The condition has {len(found)} mistake(s):", tuple(found))


def _shape(rule: Rule) -> Iterator[str]:
    cuts, by_score = rule.cuts, [cut for cut in rule.cuts if cut != "members"]
    if len(cuts) > 1:
        yield f"Give one cut; {len(cuts)} were given: {', '.join(cuts)}."
    if rule.task is None and cuts:
        yield f"{', '.join(by_score or cuts)} cuts a ranking: give the prediction to rank by as `task`."
    if rule.task is None and rule.where is None:
        yield "Say whom: a `task` to rank by with a cut, a condition as `where`, or both."
    elif rule.task is not None and rule.where is None and not cuts:
        yield f"Give a cut of '{rule.task}', one of {', '.join(SETTINGS)}, or a condition as `where`."
    if rule.skip_percent is not None and not {"top_n", "top_percent"} & {*cuts}:
        yield "skip_percent leaves out the best of top_n or top_percent: give one of them, too."
    if rule.skip_percent is not None and rule.top_percent is not None and rule.skip_percent >= rule.top_percent:
        yield "skip_percent is not below top_percent: nobody could be in it."
    for low, high in (CUTS["percentiles"], CUTS["probabilities"]):
        least, most = getattr(rule, low), getattr(rule, high)
        if least is not None and most is not None and least > most:
            yield f"{low} is above {high}: nobody could be in it."
    if rule.budget is not None and not (rule.contact_cost or rule.coupon_cost):
        yield "A budget needs contact_cost, coupon_cost or both: without a cost it reaches everybody."
    if rule.budget is None and (rule.contact_cost is not None or rule.coupon_cost is not None):
        yield "contact_cost and coupon_cost belong to a budget; for a profit, give them beside the rule."
