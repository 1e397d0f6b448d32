"""A campaign's plan: the four elements, the goal and how the effect will be measured, all of it said before the first outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date, timedelta
from typing import Any

from features.errors import EncoreError, InvalidUse, UnknownName
from features.goals import goal_problems
from features.vocabulary import EVENTS

TREATMENT, CONTROL, USUAL = "treatment", "control", "business_as_usual"
SPEND = "spend"
LONGEST_NAME = 200


class InvalidCampaign(InvalidUse):
    """A campaign's plan that cannot be carried out, or a step that its state does not allow; everything that is wrong is listed."""


class NoReport(EncoreError):
    """A report that nobody has made yet."""


@dataclass(frozen=True)
class Plan:
    """What a campaign is. Nothing of it changes once it is logged: a plan that is bent after the outcomes proves nothing.

    name: ours. log_name: what the events of the log call it, the same unless the tool that sends it has a name of its own.
    when, incentive, channel: in words; starts: first day of entry, on the shop's clock. audience: name of the saved audience; rule: its rule
    at that moment, None where the lot was drawn elsewhere and the log says who is in which group. task: the prediction whose score is noted
    at entry, None where the audience has no ranking.
    goal: an event of the vocabulary ("order" are valid orders) or "spend", net of refunds; where: properties of the event, as in goals. horizon:
    days that count, from the day of entry on. shares: group -> share of the audience; salt: of the lot.
    contact_cost, coupon_cost: of a message sent and of a coupon redeemed; margin: what a conversion earns before them; margin_share: instead, the
    share of spend that is earned. All in units of the shop's currency. target: hoped-for conversion rate of the treatment group, or its
    spend per member; winsorise: quantile above which spend counts as much as at it, such as .99. Both only if said now.
    """

    name: str
    starts: date
    horizon: int
    audience: str | None = None
    rule: Mapping[str, Any] | None = None
    task: str | None = None
    when: str = ""
    incentive: str = ""
    channel: str = ""
    goal: str = "order"
    where: Mapping[str, Any] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=lambda: {TREATMENT: 0.9, CONTROL: 0.1})
    salt: str = ""
    log_name: str = ""
    contact_cost: float = 0.0
    coupon_cost: float = 0.0
    margin: float | None = None
    margin_share: float | None = None
    target: float | None = None
    winsorise: float | None = None

    @property
    def counts_spend(self) -> bool:
        return self.goal == SPEND

    def ends(self, entered: date) -> date:
        """The day on which the outcome window of somebody who entered then is over."""
        return entered + timedelta(days=self.horizon)

    def described(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return {**asdict(self), "starts": self.starts.isoformat()}


def plan_of(given: Mapping[str, Any]) -> Plan:
    """A plan from what `described` gave."""
    return Plan(**{**given, "starts": date.fromisoformat(given["starts"])})


def checked(plan: Plan) -> Plan:
    """The plan, with a name for the log and a salt of its own where none were given.

    Raises:
        InvalidCampaign: with everything that is wrong.
    """
    problems = list(_problems(plan))
    if problems:
        raise InvalidCampaign("\n".join([f"The campaign has {len(problems)} problem(s):", *(f"  - {problem}" for problem in problems)]))
    given = {part.name: getattr(plan, part.name) for part in fields(plan)}
    return Plan(**{**given, "log_name": plan.log_name or plan.name, "salt": plan.salt or f"campaign:{plan.name}"})


def _problems(plan: Plan) -> Iterator[str]:
    if not plan.name or len(plan.name) > LONGEST_NAME or not plan.name.isprintable():
        yield f"the name must have 1 to {LONGEST_NAME} printable characters"
    goal = {"name": "campaign", "event": "order" if plan.counts_spend else plan.goal, "where": plan.where, "horizon": plan.horizon}
    if not plan.counts_spend and plan.goal not in EVENTS:
        yield str(UnknownName("goal", plan.goal, [SPEND, *EVENTS]))
        goal["event"] = "order"
    yield from goal_problems(goal)
    if plan.counts_spend and plan.where:
        yield 'the goal "spend" is all that is spent: it takes no properties'
    known = (TREATMENT, CONTROL, USUAL)
    if not set(plan.shares) <= set(known) or TREATMENT not in plan.shares:
        yield f"groups are {', '.join(known)}, the first of them needed; given: {', '.join(plan.shares)}"
    elif any(not 0 <= share <= 1 for share in plan.shares.values()) or abs(sum(plan.shares.values()) - 1) > 1e-9 or plan.shares[TREATMENT] == 0:
        yield f"the shares of the groups must add up to 1, and some of it be {TREATMENT}; they are {dict(plan.shares)}"
    for name in ("contact_cost", "coupon_cost", "margin"):
        if (getattr(plan, name) or 0.0) < 0:
            yield f"{name} is {getattr(plan, name)}; it must be 0 or more, in units of the currency"
    if plan.margin is not None and plan.margin_share is not None:
        yield "give margin (per conversion) or margin_share (of spend), not both: they would count the same money twice"
    if plan.margin is not None and plan.counts_spend:
        yield 'the goal "spend" has no conversions to earn a margin with: give margin_share, the share of spend that is earned'
    if plan.margin_share is not None and not 0 < plan.margin_share <= 1:
        yield f"margin_share is {plan.margin_share}; it must be above 0 and at most 1"
    if plan.target is not None and (plan.target <= 0 or (not plan.counts_spend and plan.target > 1)):
        yield f"target is {plan.target}; it must be a conversion rate above 0 and at most 1, or spend per member above 0"
    if plan.winsorise is not None and not 0.9 <= plan.winsorise < 1:
        yield f"winsorise is {plan.winsorise}; it must be a quantile of spend from .9 to below 1, such as .99"
