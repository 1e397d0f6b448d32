"""Enrolment: who enters a campaign, in which group, with what is known of them on that day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.calendar import day_of
from serving.audiences.cut import cut
from serving.audiences.holdout import groups
from serving.audiences.rules import Rule
from serving.campaigns.plan import CONTROL, TREATMENT, InvalidCampaign, Plan
from serving.campaigns.store import Campaign, Member, add_members
from serving.ledger import Ledger
from serving.release import Release

if TYPE_CHECKING:
    from features.tiles import Tiles

OF_ORDERS = ("first_order", "second_order", "repeat_order", "reactivation")  # predictions whose yes is a valid order


def enrol(ledger: Ledger, release: Release, of: Campaign, on: date) -> int:
    """Enter the audience as the release gives it, each member in the group that the salted hash of their id gives them. Returns how many are new.

    Twice, late or in pieces: who is in stays as they entered, and the group is the same whenever it is asked for.

    Args:
        on: the day of entry, on the shop's clock; their outcome windows begin with it.

    Raises:
        InvalidCampaign: it has no audience, has not begun, was stopped, or the release knows more than that day did. UnknownName, InvalidRule.
    """
    plan = of.plan
    if plan.rule is None:
        raise InvalidCampaign("This campaign's lot was drawn elsewhere. Enter who the log says was in it: encore campaign enrol NAME --from-log")
    if on < plan.starts:
        raise InvalidCampaign(f"The campaign begins on {plan.starts}; nobody enters it on {on}.")
    if date.fromisoformat(str(release.manifest["as_of"])) > on:
        raise InvalidCampaign(f"The release knows everything before {release.manifest['as_of']}: its scores know what happened after an entry on {on}.")
    rows = cut(release, Rule(**plan.rule)).rows
    lot = groups(release.users[rows], plan.salt, plan.shares, release.marks[rows])
    names = tuple(plan.shares)
    return add_members(ledger, of, members_of(release, plan, rows, [names[place] for place in lot], [on] * len(rows)))


def enrol_from_log(ledger: Ledger, tiles: Tiles, release: Release | None, of: Campaign) -> int:
    """Enter everybody whom the log says was drawn: who was held out into control, who received the campaign and was not held out into treatment.

    For a campaign that another tool drew and sent. They enter on the day of their first such event. Scores are noted only where the release's
    features end by that day.

    Raises:
        InvalidCampaign: the log knows no such campaign since its start.
    """
    plan, until = of.plan, tiles.log.complete_until
    told = tiles.between(min(plan.starts, until), until)
    found = {kind: told.events(kind, {"campaign": plan.log_name}).groupby("user_id")["day"].min() for kind in ("campaign_received", "held_out")}
    entered = found["campaign_received"].combine(found["held_out"], min, fill_value=2**31).astype(int).sort_index()
    if entered.empty:
        raise InvalidCampaign(
            f"The log has no campaign_received and no held_out of '{plan.log_name}' from {plan.starts} until {until}. "
            "What is it called in the events? Log it with --log-name."
        )
    days = [day_of(int(day)) for day in entered]
    lot = [CONTROL if user in found["held_out"].index else TREATMENT for user in entered.index]
    users = [str(user) for user in entered.index]
    if release is None:
        unscored = zip(users, lot, days, strict=True)
        return add_members(ledger, of, [Member(user, group, None, None, None, None, None, day, plan.ends(day)) for user, group, day in unscored])
    ids = np.array([user.encode() for user in users])
    rows = np.searchsorted(release.users, ids).clip(max=len(release.users) - 1)
    rows[release.users[rows] != ids] = -1
    return add_members(ledger, of, members_of(release, plan, rows, lot, days, users))


def members_of(
    release: Release, plan: Plan, rows: npt.NDArray[np.int64], lot: Sequence[str], days: Sequence[date], users: Sequence[str] | None = None
) -> list[Member]:
    """Members with what the release says of them; -1 for a row says that it does not know them."""
    as_of = date.fromisoformat(str(release.manifest["as_of"]))
    scored = plan.task is not None and plan.task in release.scores
    bundle = release.bundles[plan.task] if plan.task is not None and scored else None
    score = release.scores[plan.task].score[rows] if plan.task is not None and scored else np.full(len(rows), np.nan)
    percentile = release.scores[plan.task].percentile[rows] if plan.task is not None and scored else np.full(len(rows), np.nan)
    known = (rows >= 0) & np.array([as_of <= day for day in days], bool)
    chance = np.where(known & (bundle is not None and bundle.calibrated), score, np.nan)
    expected = expected_chance(chance, bundle.about, plan) if bundle is not None else np.full(len(rows), np.nan)
    ids = users or [user.decode() for user in release.users[rows]]
    said = zip(ids, lot, chance, expected, np.where(known, percentile, np.nan), known, days, strict=True)
    return [
        Member(user, group, _known(one), _known(goal), _known(place), release.id if there else None, as_of if there else None, day, plan.ends(day))
        for user, group, one, goal, place, there, day in said
    ]


def expected_chance(chance: npt.NDArray[np.float64], about: Mapping[str, Any], plan: Plan) -> npt.NDArray[np.float64]:
    """The chance of the goal within the campaign's horizon, from a prediction that speaks of the same goal; NaN where it does not.

    Another horizon than the prediction's is reached at a constant daily rate: 1 - (1 - p) ^ (days / days of the prediction).
    """
    declared = about.get("declared") or {}
    of_orders = plan.goal in ("order", "spend") and not plan.where
    is_same = declared.get("event") == plan.goal and dict(declared.get("where", {})) == dict(plan.where) and not declared.get("absent")
    if (of_orders and about["task"] in OF_ORDERS) or is_same:
        yes = chance
    elif of_orders and about["task"] == "churn":
        yes = 1 - chance
    else:
        return np.full(len(chance), np.nan)
    expected: npt.NDArray[np.float64] = -np.expm1(np.log1p(-np.minimum(yes, 1 - 1e-9)) * plan.horizon / float(about["horizon_days"]))
    return expected


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
