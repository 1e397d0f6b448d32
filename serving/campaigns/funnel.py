"""Counting, without any claim about the effect: the funnel, target against actual, campaign days against ordinary days."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.campaigns.effect import Mask
from serving.campaigns.outcomes import Outcomes, ordinary_days
from serving.campaigns.plan import Plan
from training.evaluate import Z_95
from training.intervals import share

STEPS = ("entered", "triggered", "reached", "goal")


def groups_of(outcomes: Outcomes, plan: Plan) -> dict[str, Any]:
    """Each group: members, who reached the goal, the rate with its interval, spend, and what the scores at entry expected."""
    found = {}
    for group in {**plan.shares, **dict.fromkeys(outcomes.group.astype(str))}:
        mine = outcomes.take(outcomes.group == group)
        spend = mine.spend.mean() if len(mine) else None
        found[str(group)] = {
            "members": len(mine),
            "converted": int(mine.converted.sum()),
            "rate": share(int(mine.converted.sum()), len(mine)),
            "spend": float(mine.spend.sum()),
            "spend_per_member": None if spend is None else float(spend),
            "expected": expected_of(mine),
        }
    return found


def expected_of(outcomes: Outcomes) -> dict[str, float] | None:
    """Conversions that the scores at entry promised without the campaign, with a 95 % interval for chance alone; None where no score speaks of the goal."""
    chance = outcomes.expected
    if not len(chance) or np.isnan(chance).any():
        return None
    spread = Z_95 * float(np.sqrt((chance * (1 - chance)).sum()))
    expected = float(chance.sum())
    return {"value": expected, "low": max(0.0, expected - spread), "high": min(float(len(chance)), expected + spread)}


def funnel(outcomes: Outcomes, plan: Plan) -> list[dict[str, Any]]:
    """Of the treatment group: entered -> triggered (something was sent) -> reached (opened, clicked or redeemed) -> goal.

    Each step counts those of the step before; `share` is of that step, `of_entered` of all. Where the log knows neither opens, clicks nor
    redemptions of the campaign, `reached` is not measured (None), and the goal counts those of `triggered`. `goal_of_all` in the last step
    counts everybody who entered: that, against control, is what the effect is about, and not those who were reached.
    """
    ours = outcomes.take(outcomes.treated)
    sent = ours.messages["sent"] > 0
    answered = np.any([ours.messages[name] > 0 for name in ("opened", "clicked", "redeemed")], axis=0)
    is_measured = bool(answered.any())
    reached = sent & answered if is_measured else sent
    flags = dict(zip(STEPS, (np.ones(len(ours), bool), sent, reached, reached & (ours.converted > 0)), strict=True))
    steps: list[dict[str, Any]] = []
    for name, mask in flags.items():
        if name == "reached" and not is_measured:
            steps.append({"step": name, "users": None, "share": None, "of_entered": None})
            continue
        before = next((step["users"] for step in reversed(steps) if step["users"] is not None), len(ours))
        users = int(mask.sum())
        steps.append({"step": name, "users": users, "share": share(users, before), "of_entered": share(users, len(ours))})
    steps[-1]["goal_of_all"] = int(ours.converted.sum())
    steps[1]["messages"] = int(ours.messages["sent"].sum())
    steps[2]["redemptions"] = int(ours.messages["redeemed"].sum())
    return steps


def counted(outcomes: Outcomes) -> Mask:
    """Who has any event of the campaign itself."""
    return np.asarray(np.any([values > 0 for values in outcomes.messages.values()], axis=0))


def target_against_actual(outcomes: Outcomes, plan: Plan) -> dict[str, Any] | None:
    """The plan's target for the treatment group and what came; None without a target."""
    if plan.target is None:
        return None
    ours = outcomes.take(outcomes.treated)
    if plan.counts_spend:
        mean, error = float(ours.spend.mean()), float(ours.spend.std(ddof=1) / np.sqrt(len(ours)))
        actual: dict[str, float | None] = {"value": mean, "low": mean - Z_95 * error, "high": mean + Z_95 * error}
    else:
        actual = share(int(ours.converted.sum()), len(ours))
    low, high = actual["low"], actual["high"]
    verdict = "met" if low is not None and low >= plan.target else "missed" if high is not None and high < plan.target else "not decided by chance alone"
    total = float(outcomes.measured(plan)[outcomes.treated].sum())
    return {"target": plan.target, "actual": actual, "verdict": verdict, "target_total": plan.target * len(ours), "actual_total": total}


def days_against_ordinary(outcomes: Outcomes, plan: Plan) -> dict[str, Any]:
    """Days with a goal per 1,000 members: each day since entry, and the campaign's days against the same weekdays in the whole weeks before it.

    Members were chosen as of entry, so the days before and after it differ with or without a campaign: the group that was kept out shows by how much.
    """
    before, after = ordinary_days(plan), plan.horizon
    found: dict[str, Any] = {"ordinary_days": before, "campaign_days": after, "groups": {}}
    for group in dict.fromkeys(outcomes.group.astype(str)):
        rows = np.flatnonzero(outcomes.group == group)
        mine = outcomes.daily[np.isin(outcomes.daily["member"], rows)]
        counts = np.zeros(before + after)
        offsets = mine["offset"].to_numpy() + before
        np.add.at(counts, offsets[(offsets >= 0) & (offsets < before + after)], 1)
        series = 1000 * counts / len(rows)
        # Every weekday comes equally often in whole weeks, so the mean over the weekdays that the campaign's days have is theirs.
        lag = [series[:before].reshape(-1, 7).mean(axis=0)[day % 7] for day in range(after)]
        ordinary, campaign = float(np.mean(lag)), float(series[before:].mean())
        found["groups"][str(group)] = {
            "series": [round(float(value), 4) for value in series],
            "ordinary": ordinary,
            "campaign": campaign,
            "ratio": campaign / ordinary if ordinary > 0 else None,
        }
    return found
