"""Suggested audiences: those that growth teams ask for first, each as a rule that anybody could have written.

A suggestion that the release cannot make says why: a prediction that no model answers, a feature that the shop's data do not give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.audiences.columns import feature, fetch
from serving.audiences.conditions import mistakes_of
from serving.audiences.cut import Audience, cut
from serving.audiences.rules import Rule
from serving.release import Release

Condition = Mapping[str, Any]
PAGE = "suggested.json"  # among a release's pages
NEAR = 20  # per cent of the members who know their distance to the next level
WAITED, FORGOTTEN = 7, 90  # days after joining: within the first they may yet buy by themselves, past the second they have gone
NEXT_ORDER = ("first_order", "second_order", "repeat_order")


@dataclass(frozen=True)
class Suggestion:
    """An audience to suggest. rule: for a release, or a sentence that says what the release lacks."""

    name: str
    sentence: str
    rule: Callable[[Release], Rule | str]


@dataclass(frozen=True)
class Suggested:
    """A suggestion for a release: the audience, or why it is skipped."""

    name: str
    sentence: str
    rule: Rule | None
    audience: Audience | None
    skipped: str | None


def suggested(release: Release) -> list[Suggested]:
    """All suggestions, in the order of a customer's life."""
    return [_applied(one, release) for one in SUGGESTIONS]


def suggestions_page(release: Release) -> dict[str, Any]:
    """All suggestions with their sizes as JSON values. Made when a release is published: each is a pass over everybody, for which no page waits."""
    found = [
        {
            "name": one.name,
            "sentence": one.sentence,
            "skipped": one.skipped,
            "size": one.audience.size if one.audience else None,
            "rule": one.rule.described() if one.rule else None,
        }
        for one in suggested(release)
    ]
    return {"suggestions": found}


def _applied(one: Suggestion, release: Release) -> Suggested:
    rule = one.rule(release)
    if isinstance(rule, str):
        return Suggested(one.name, one.sentence, None, None, rule)
    lacking = mistakes_of(rule.where, release) if rule.where is not None else []
    if lacking:
        names = ", ".join(dict.fromkeys(f"'{mistake.seen}'" for mistake in lacking))
        return Suggested(one.name, one.sentence, None, None, f"the shop's data or release lack {names}")
    audience = cut(release, rule)
    if not audience.size:
        return Suggested(one.name, one.sentence, rule, None, "nobody fulfils it today")
    return Suggested(one.name, one.sentence, rule, audience, None)


def days(name: str, at_least: float | None = None, at_most: float | None = None) -> Condition:
    """A condition on a feature."""
    ends = {"at_least": at_least, "at_most": at_most}
    return {"feature": name, **{word: value for word, value in ends.items() if value is not None}}


def both(*conditions: Condition) -> Condition:
    return {"all": list(conditions)}


def _served(release: Release, *tasks: str) -> list[str]:
    return [task for task in tasks if task in release.scores]


def _no_model(*tasks: str) -> str:
    return f"no model answers {' or '.join(f'`{task}`' for task in tasks)}: encore retrain, then encore publish"


def _by_band(band: str, extra: Condition) -> Callable[[Release], Rule | str]:
    """Users in a band of the prediction of their next order, whichever order that is."""

    def rule(release: Release) -> Rule | str:
        tasks = _served(release, *NEXT_ORDER)
        if not tasks:
            return _no_model(*NEXT_ORDER)
        return Rule(where=both({"any": [{"band": task, "is": band} for task in tasks]}, extra))

    return rule


def _top(task: str, percent: float, where: Condition | None = None) -> Callable[[Release], Rule | str]:
    def rule(release: Release) -> Rule | str:
        return Rule(task, top_percent=percent, where=where) if task in release.scores else _no_model(task)

    return rule


def _where(where: Condition, rank_by: str | None = None) -> Callable[[Release], Rule | str]:
    """A condition; its members ranked by a prediction where the release has it."""
    return lambda release: Rule(rank_by if rank_by in release.scores else None, where=where)


def _persuadable(release: Release) -> Rule | str:
    if "uplift" not in release.scores:
        return _no_model("uplift") + "; it needs campaigns with a held-out group in the log"
    return Rule("uplift", top_percent=20, where={"not": {"effect": "uplift", "at_most": 0}})


def _discount(release: Release) -> Rule | str:
    layer = {"feature": "layer", "is": "discount-sensitive"}
    if "discount_affinity" in release.scores:
        return Rule("discount_affinity", where={"band": "discount_affinity", "is": "high"})
    return Rule(where=layer)


def _high_value(release: Release) -> Rule | str:
    tasks = _served(release, "value", "value_365")
    return Rule(tasks[0], top_percent=10) if tasks else Rule(where={"feature": "group", "is": "champion"})


def _replenishment(release: Release) -> Rule | str:
    """By what was bought and its daily use where the shop says so; else by the customer's own usual pause."""
    late = days("cycle_supply_left", -30, 0) if "cycle_supply_left" in release.features else days("cycle_position", 1.2, 3)
    return Rule(_served(release, "repeat_order")[0] if _served(release, "repeat_order") else None, where=both(days("orders_count", 2), late))


def _next_tier(release: Release) -> Rule | str:
    name = "membership_to_next_tier"
    if name not in release.features:
        return "the shop file has no `tiers` with the attribute `growth_value`, so nobody knows the distance to the next level"
    away = feature(release, name)
    away = away[away > 0]
    if not len(away):
        return "no member has a level above their own"
    rank_by = "tier_upgrade" if "tier_upgrade" in release.scores else None
    return Rule(rank_by, where=both(days(name, 1e-9), days(name, at_most=float(np.percentile(away, NEAR)))))


def _benefits(release: Release) -> Rule | str:
    claimed, used = "membership_benefits_claimed_90d", "membership_benefits_used_90d"
    if {claimed, used, "membership_tier"} - {*release.features}:
        return "the shop's data have no membership levels with benefits"
    fetch(release, [claimed, used, "membership_tier"])
    if not (feature(release, claimed) > 0).any():
        return "nobody has claimed a member benefit in 90 days: the log has no benefit_claimed"
    return Rule(where=both({"feature": "membership_tier", "known": True}, {"any": [days(claimed, at_most=0), both(days(claimed, 1), days(used, at_most=0))]}))


SUGGESTIONS = (
    Suggestion(
        "joined, not bought",
        f"Registered {WAITED} to {FORGOTTEN} days ago and have not ordered yet: a first-order offer.",
        _where(both(days("activity_sign_up_recency", WAITED, FORGOTTEN), days("orders_count", at_most=0)), "first_order"),
    ),
    Suggestion(
        "ready to buy",
        "The most likely fifth to place their next order who also put something into the cart or began a checkout within a week: remind, do not discount.",
        _by_band("high", days("interest_strong_7d", 1)),
    ),
    Suggestion(
        "second order due",
        "Bought once, and half to one and a half of the shop's repurchase cycles ago: the time at which second orders come.",
        _where(both({"feature": "stage", "is": "second"}, days("cycle_shop_position", 0.5, 1.5)), "second_order"),
    ),
    Suggestion(
        "replenishment late",
        "What they bought should be used up, or their usual pause is over, and they have not come back: a reminder of what they buy.",
        _replenishment,
    ),
    Suggestion("likely lost", "The fifth of active customers most likely to stay away: win them back before they are gone.", _top("churn", 20)),
    Suggestion(
        "long shots",
        "Active within a month, yet in the lowest fifth of chances of a next order: only what costs next to nothing pays here.",
        _by_band("low", days("activity_recency", at_most=30)),
    ),
    Suggestion("persuadable", "The fifth whose chance of an order a campaign raises most: spend here, not on those who buy anyway.", _persuadable),
    Suggestion("discount-sensitive", "Their next order is likely one with a coupon or at a reduced price: coupons work, and cost margin.", _discount),
    Suggestion("high value", "The tenth expected to spend most: service, early access, no discounts needed.", _high_value),
    Suggestion(
        "super users", "Top spenders who are also here the most: ask them for reviews, samples, referrals.", _where({"feature": "layer", "is": "super user"})
    ),
    Suggestion("near the next tier", "The fifth of members with the shortest way to the next level: tell them how little is missing.", _next_tier),
    Suggestion("benefit unclaimed or unused", "Members who claimed no benefit in 90 days, or claimed one and did not use it.", _benefits),
)
