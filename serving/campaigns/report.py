"""The report of a campaign whose outcome windows are over: funnel, effect against control, cost, target, days, factors. JSON, made once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features.errors import NoUsableData
from features.logs import step
from features.workspace import Workspace
from serving.campaigns import store
from serving.campaigns.effect import Estimate, Mask, Vector, adjusted_effect, economics, plain_effect, sample_ratio, why_no_claim
from serving.campaigns.factors import by_factor
from serving.campaigns.funnel import counted, days_against_ordinary, funnel, groups_of, target_against_actual
from serving.campaigns.monitor import CONTAMINATED_AT_MOST, watch
from serving.campaigns.outcomes import PRE_DAYS, Outcomes, covariates, outcomes_of
from serving.campaigns.plan import CONTROL, TREATMENT, USUAL, Plan
from serving.campaigns.store import Campaign, Member
from serving.ledger import Ledger

if TYPE_CHECKING:
    from features.tiles import Tiles

DECILES = 10
NOT_AN_EFFECT = "Reached against not reached is no effect: who opens messages was already another kind of customer. It is not shown."


def make_report(workspace: Workspace, ledger: Ledger, key: str, factors: Sequence[str] | None = None) -> tuple[Campaign, dict[str, Any]]:
    """The final report of a campaign, made and kept. It ends the campaign's entry.

    Raises:
        LabelWindowOpen: the outcome window of some member is not over in the log. NoUsableData: nobody entered. UnknownName: no such campaign, or factor.
    """
    of, tiles, members = _ready(workspace, ledger, key)
    with step("campaign report") as said:
        outcomes = outcomes_of(tiles, of.plan, members)
        described = described_at_entry(workspace, tiles, members) if any(member.as_of for member in members) else pd.DataFrame(index=range(len(members)))
        report = report_of(of.plan, outcomes, tiles.log.complete_until, tiles.log.currency, described, factors, store.also_treated(ledger, of))
        store.save_report(ledger, of, store.FINAL, report)
        said |= {"campaign": of.plan.name, "members": len(members), "claim": report["claim"]}
    return of, report


def make_monitor(workspace: Workspace, ledger: Ledger, key: str) -> tuple[Campaign, dict[str, Any]]:
    """What has happened in a campaign so far and what is off, made and kept.

    Raises:
        NoUsableData: nobody entered. UnknownName: no such campaign.
    """
    of, tiles, members = _ready(workspace, ledger, key)
    found = watch(of.plan, outcomes_of(tiles, of.plan, members, interim=True), tiles.log.complete_until)
    store.save_report(ledger, of, store.MONITOR, found)
    return of, found


def _ready(workspace: Workspace, ledger: Ledger, key: str) -> tuple[Campaign, Tiles, list[Member]]:
    of = store.campaign(ledger, key)
    members = store.members(ledger, of)
    if not members:
        raise NoUsableData("Nobody has entered this campaign. Run: encore campaign enrol")
    return of, workspace.tiles(workspace.shop()), members


def report_of(
    plan: Plan, outcomes: Outcomes, until: date, currency: str, described: pd.DataFrame | None = None, factors: Sequence[str] | None = None, overlap: int = 0
) -> dict[str, Any]:
    """The report as JSON.

    Args:
        described: features and labels of the members at entry, in their order. factors: to cut by, see `factors.by_factor`.
        overlap: members who were treated by another campaign at the same time.
    """
    y, group = outcomes.measured(plan), against(outcomes, plan)
    compared = outcomes.treated | (outcomes.group == group)
    sizes = {name: int((outcomes.group == name).sum()) for name in plan.shares}
    ratio = sample_ratio(sizes, plan.shares)
    no_claim = why_no_claim(y[compared], outcomes.treated[compared])
    report: dict[str, Any] = {
        "interim": False,
        "campaign": plan.described(),
        "complete_until": until.isoformat(),
        "currency": currency,
        "unit": currency if plan.counts_spend else "conversions",
        "groups": groups_of(outcomes, plan),
        "against": group,
        "ratio": ratio,
        "claim": no_claim is None,
        "funnel": funnel(outcomes, plan),
        "target": target_against_actual(outcomes, plan),
        "days": days_against_ordinary(outcomes, plan),
        "factors": by_factor(outcomes, plan, described, factors) if described is not None and (factors or described.shape[1]) else [],
        "note": NOT_AN_EFFECT,
    }
    if no_claim is None:
        effect, costs = _effect(outcomes, y, compared), _costs(outcomes, plan)
        report |= {"effect": effect, "economics": _economics(outcomes, plan, compared, effect["adjusted"], costs), "costs": costs}
        report |= {"deciles": _deciles(outcomes, y, compared), "beside": _beside(outcomes, plan, compared), "others": _others(outcomes, plan, y, group)}
        report["effect"] = {**effect, "adjusted": effect["adjusted"].described(), "plain": effect["plain"].described()}
    report["verdict"] = no_claim or _verdict(report, plan, group)
    report["warnings"] = list(_warnings(report, outcomes, plan, overlap))
    return report


def against(outcomes: Outcomes, plan: Plan) -> str:
    """The group that the treatment is held against: control, or those who got what is usual where nobody was kept out of everything."""
    return CONTROL if plan.shares.get(CONTROL, 0) > 0 or USUAL not in plan.shares else USUAL


def described_at_entry(workspace: Workspace, tiles: Tiles, members: Sequence[Member]) -> pd.DataFrame:
    """Features and labels of the members as of the date of the release that they entered by; a row without values for who entered without one."""
    ordered = sorted(members, key=lambda member: member.user_id)
    frames = []
    for as_of in sorted({member.as_of for member in ordered if member.as_of}):
        ids = [member.user_id for member in ordered if member.as_of == as_of]
        frames.append(workspace.snapshots.get(tiles, as_of).frame.reindex(ids))
    return pd.concat(frames).reindex([member.user_id for member in ordered])


def _effect(outcomes: Outcomes, y: Vector, compared: Mask) -> dict[str, Any]:
    treated, known = outcomes.treated[compared], covariates(outcomes)[compared]
    adjusted, plain = adjusted_effect(y[compared], treated, known), plain_effect(y[compared], treated)
    worth = (plain.error / adjusted.error) ** 2 if adjusted.error and adjusted.covariates else 1.0
    return {"adjusted": adjusted, "plain": plain, "worth": worth, "pre_days": PRE_DAYS}


def _economics(outcomes: Outcomes, plan: Plan, compared: Mask, effect: Estimate, costs: dict[str, Any]) -> dict[str, Any]:
    members = int(outcomes.treated.sum())
    if plan.margin_share is not None and not plan.counts_spend:  # earned by what is spent, though the goal is another
        spend = adjusted_effect(outcomes.spend[compared], outcomes.treated[compared], covariates(outcomes)[compared])
        money = economics(spend, members, costs["total"], plan.margin_share)
        return {**economics(effect, members, costs["total"], None), "profit": money["profit"], "roi": money["roi"]}
    return economics(effect, members, costs["total"], plan.margin_share if plan.counts_spend else plan.margin)


def _costs(outcomes: Outcomes, plan: Plan) -> dict[str, Any]:
    sent, redeemed = (int(outcomes.messages[name][outcomes.treated].sum()) for name in ("sent", "redeemed"))
    return {
        "messages": sent,
        "redemptions": redeemed,
        "contact": sent * plan.contact_cost,
        "coupons": redeemed * plan.coupon_cost,
        "total": sent * plan.contact_cost + redeemed * plan.coupon_cost,
    }


def _deciles(outcomes: Outcomes, y: Vector, compared: Mask) -> list[dict[str, Any]]:
    """The plain difference by tenth of the score at entry, lowest first; fewer, larger parts where tenths would have fewer than 30 in control."""
    score = np.where(np.isnan(outcomes.chance), outcomes.percentile / 100, outcomes.chance)
    rows = np.flatnonzero(compared & ~np.isnan(score))
    treated = outcomes.treated[rows]
    parts = min(DECILES, int((~treated).sum() // 30), int(treated.sum() // 30))
    if parts < 2:
        return []
    order = rows[np.lexsort((outcomes.users[rows].astype(str), score[rows]))]
    return [
        {
            "part": number + 1,
            "of": parts,
            "score": [float(score[some].min()), float(score[some].max())],
            "treated": int(outcomes.treated[some].sum()),
            "control": int((~outcomes.treated[some]).sum()),
            "treated_mean": float(y[some][outcomes.treated[some]].mean()),
            "control_mean": float(y[some][~outcomes.treated[some]].mean()),
            "difference": plain_effect(y[some], outcomes.treated[some]).times(1),
        }
        for number, some in enumerate(np.array_split(order, parts))
        if 1 < outcomes.treated[some].sum() < len(some) - 1
    ]


def _beside(outcomes: Outcomes, plan: Plan, compared: Mask) -> dict[str, Any]:
    """The outcome that the campaign was not about: it was not the question, so its interval says less than it seems to."""
    y = outcomes.converted if plan.counts_spend else outcomes.spend
    found = adjusted_effect(y[compared], outcomes.treated[compared], covariates(outcomes)[compared])
    return {"outcome": "conversions" if plan.counts_spend else "spend", **found.described()}


def _others(outcomes: Outcomes, plan: Plan, y: Vector, group: str) -> dict[str, Any]:
    """The effect against the second group that was kept out, where there are two."""
    found = {}
    for other in (name for name in plan.shares if name not in (TREATMENT, group)):
        rows = outcomes.treated | (outcomes.group == other)
        if why_no_claim(y[rows], outcomes.treated[rows]) is None:
            found[other] = adjusted_effect(y[rows], outcomes.treated[rows], covariates(outcomes)[rows]).described()
    return found


def _verdict(report: dict[str, Any], plan: Plan, group: str) -> str:
    effect, added = report["effect"]["adjusted"], report["economics"]["added"]
    unit = report["unit"]
    many = f"{added['value']:+,.1f} {unit} ({added['low']:+,.1f} to {added['high']:+,.1f})"
    each = f"{effect['value']:+.2f} {unit} a member" if plan.counts_spend else f"{100 * effect['value']:+.2f} points"
    beside = f"against {group.replace('_', ' ')}, {each}"
    if effect["low"] > 0:
        return f"The campaign added {many}, {beside}."
    if effect["high"] < 0:
        return f"The campaign did harm: {many}, {beside}."
    return f"No effect is shown: {many}, {beside}. The data allow for anything within the interval, none at all included."


def _warnings(report: dict[str, Any], outcomes: Outcomes, plan: Plan, overlap: int) -> Iterator[str]:
    if report["ratio"]["mismatch"]:
        expected = ", ".join(f"{group} {size:,.1f}" for group, size in report["ratio"]["expected"].items())
        yield (
            f"The groups are not those that the lot draws: expected {expected} (p = {report['ratio']['p']:.2g}). Members of one group were lost or "
            "added for a reason of the group, so the difference need not be the campaign's. Find the cause before you believe the effect."
        )
    others = ~outcomes.treated
    got = int((counted(outcomes) & others).sum())
    if got > CONTAMINATED_AT_MOST * max(1, int(others.sum())):
        yield f"{got:,} of {int(others.sum()):,} members who were kept out have events of this campaign: the effect is seen smaller than it is."
    if overlap:
        yield f"{overlap:,} members were treated by another campaign at the same time. By lot that happens to both groups alike; the effect is on top of it."
    if report["claim"] and not report["effect"]["adjusted"]["covariates"]:
        yield "The smaller group is too small to adjust for the score and the time before: the adjusted effect is the plain one."
    if report["funnel"][2]["users"] is None:
        yield "The log has no opens, clicks or redemptions of this campaign, so nobody knows how many were reached."
    if plan.contact_cost and not report["funnel"][1]["users"]:
        yield f"The log has no campaign_received of '{plan.log_name}', so contacts cost nothing here. The profit is too high."
