"""The monitor of a running campaign: what is off today. It may be asked daily, and makes no claim about the effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from math import exp, log
from typing import Any

import numpy as np

from serving.campaigns.funnel import counted, funnel, groups_of
from serving.campaigns.outcomes import Outcomes
from serving.campaigns.plan import TREATMENT, Plan
from serving.campaigns.sequential import FAR_UNDER, ratio_process, under_process

ALARM = 0.01  # chance that a campaign as planned ever raises one of the two alarms of a test, however often it is asked
REACHED_AT_LEAST, SENT_WITHIN = 0.5, 2  # share of the treatment group to be sent something within so many days
CONTAMINATED_AT_MOST = 0.01  # share of the control groups that may get the campaign by mistake
OPENED_AT_LEAST, SENDS_THAT_TELL = 0.02, 200


def watch(plan: Plan, outcomes: Outcomes, until: date) -> dict[str, Any]:
    """What has happened so far and what is off, as JSON.

    Args:
        outcomes: interim ones. until: the log is complete until then.
    """
    evidence = conversions_under(plan, outcomes)
    found = {
        "interim": True,
        "complete_until": until.isoformat(),
        "note": (
            "Interim: outcome windows are not over, so these numbers will change. A difference between the groups is not shown as an effect before "
            "they are: who looks daily and stops at a good moment finds effects that are not there."
        ),
        "groups": groups_of(outcomes, plan),
        "members_observed_to_the_end": int((outcomes.observed >= plan.horizon).sum()),
        "funnel": funnel(outcomes, plan),
        "conversions": evidence,
        "ratio": {"evidence": exp(min(ratio_process(_sizes(outcomes), plan.shares), 500.0))},
    }
    return {**found, "alarms": list(_alarms(plan, outcomes, found))}


def conversions_under(plan: Plan, outcomes: Outcomes) -> dict[str, Any]:
    """Conversions of the treatment group so far against expectation, and the evidence that they are far under it.

    Expected is what the scores at entry promised without the campaign, or the plan's target where no score speaks of the goal.
    """
    ours = np.flatnonzero(outcomes.treated & (outcomes.observed > 0))
    chance = outcomes.expected[ours]
    source = "the scores at entry, without the campaign"
    if np.isnan(chance).any() or not len(chance):
        known = ~np.isnan(chance)
        if plan.target is None or plan.counts_spend:
            chance, ours = chance[known], ours[known]
        else:
            chance, source = np.full(len(chance), plan.target), "the plan's target"
    seen = outcomes.observed[ours]
    if not len(chance):
        return {"actual": int(outcomes.converted[outcomes.treated].sum()), "expected": None, "source": None, "evidence": None, "series": []}
    so_far = -np.expm1(np.log1p(-np.minimum(chance, 1 - 1e-9)) * seen / plan.horizon)
    process = under_process(chance, plan.horizon, outcomes.goal_on[ours], seen)
    return {
        "actual": int(outcomes.converted[ours].sum()),
        "expected": float(so_far.sum()),
        "source": source,
        "evidence": exp(min(float(process.max()), 500.0)),  # once raised it stays raised
        "series": [round(float(value), 4) for value in process],
    }


def _alarms(plan: Plan, outcomes: Outcomes, found: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    conversions, ratio = found["conversions"], found["ratio"]["evidence"]
    if conversions["evidence"] is not None and log(max(conversions["evidence"], 1e-300)) > -log(ALARM):
        yield _alarm(
            "conversions far under expectation",
            f"{conversions['actual']:,} of {conversions['expected']:,.1f} expected by {conversions['source']}; evidence against at least "
            f"{FAR_UNDER:.0%} of it: {conversions['evidence']:,.0f} to 1",
            "See whether the landing page, the coupon and the tracking of the goal work, and whether the log lacks events.",
        )
    if ratio > 1 / ALARM:
        sizes = ", ".join(f"{group} {size:,}" for group, size in _sizes(outcomes).items())
        yield _alarm(
            "groups are not those that were drawn",
            f"{sizes}, planned {dict(plan.shares)}; evidence {ratio:,.0f} to 1",
            "Find out who was left out, or added, for a reason of the group. Until then nothing can be compared.",
        )
    due = outcomes.treated & (outcomes.observed >= SENT_WITHIN)
    sent = outcomes.messages["sent"] > 0
    if due.any() and sent[due].mean() < REACHED_AT_LEAST:
        yield _alarm(
            "hardly anybody is reached",
            f"{int(sent[due].sum()):,} of the {int(due.sum()):,} treated who entered {SENT_WITHIN} days ago or earlier were sent something",
            f"See whether the journey runs and whether its events carry the campaign '{plan.log_name}'.",
        )
    opened = (outcomes.messages["opened"] + outcomes.messages["clicked"]) > 0
    told = due & sent
    if told.sum() >= SENDS_THAT_TELL and opened.any() and opened[told].mean() < OPENED_AT_LEAST:
        yield _alarm("hardly anybody opens", f"{int(opened[told].sum()):,} of {int(told.sum()):,} who were sent it", "See whether it lands in spam.")
    others = ~outcomes.treated
    got = counted(outcomes) & others
    if got.sum() > CONTAMINATED_AT_MOST * max(1, others.sum()):
        yield _alarm(
            "control is contaminated",
            f"{int(got.sum()):,} of the {int(others.sum()):,} members who were kept out have events of this campaign",
            f"Take the control group out of the channel's list. They stay in control, so the effect is seen smaller than it is. Treated: group {TREATMENT}.",
        )


def _alarm(what: str, seen: str, next_step: str) -> dict[str, str]:
    return {"what": what, "seen": seen, "next_step": next_step}


def _sizes(outcomes: Outcomes) -> dict[str, int]:
    names, sizes = np.unique(outcomes.group.astype(str), return_counts=True)
    return {str(name): int(size) for name, size in zip(names, sizes, strict=True)}
