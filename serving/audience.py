"""Audiences: whom a rule picks by score, how many, and how many of them are expected to do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.errors import EncoreError, UnknownName
from serving.release import ENTERED, STAYS, Release


class InvalidRule(EncoreError):
    """An audience rule that cannot be applied."""


@dataclass(frozen=True)
class Rule:
    """Exactly one of: the best `top_n`, the best `top_percent` of the eligible, everybody from `min_probability` up; or, of a
    look-alike, the `members` of the audience that its last refresh made, which keeps users who are as good as those behind them."""

    task: str
    top_n: int | None = None
    top_percent: float | None = None
    min_probability: float | None = None
    members: bool | None = None


@dataclass(frozen=True)
class Audience:
    """A rule applied to a release.

    rows: members as rows of the snapshot, best first; equal scores stand in the order of user ids.
    expected, low, high: conversions expected among them, with a 95 % interval for their chance alone (a sum of
    independent yes-or-no outcomes); None for a look-alike. at_random: expected among as many users drawn at random.
    """

    rule: Rule
    release: str
    rows: npt.NDArray[np.int64]
    eligible: int
    expected: float | None
    low: float | None
    high: float | None
    at_random: float | None

    @property
    def size(self) -> int:
        return len(self.rows)


def cut(release: Release, rule: Rule) -> Audience:
    """Apply a rule to everybody's scores.

    Raises:
        UnknownName: the release has no model of that task, or no audience of it.
        InvalidRule: a probability was asked of a score that only ranks.
    """
    if rule.task not in release.scores:
        raise UnknownName("prediction", rule.task, release.scores)
    calibrated = release.bundles[rule.task].calibrated
    if rule.min_probability is not None and not calibrated:
        raise InvalidRule(f"'{rule.task}' ranks users and gives no probability: cut it by top_n or top_percent.")
    score = release.scores[rule.task].score
    order = release.withheld.without(ranked(score))
    chosen = members_of(release, rule.task, order) if rule.members else order[: size_of(score[order], rule)]
    if not calibrated:
        return Audience(rule, release.id, chosen, len(order), None, None, None, None)
    chances = score[chosen]
    expected, spread = float(chances.sum()), 1.96 * float(np.sqrt((chances * (1 - chances)).sum()))
    return Audience(
        rule=rule,
        release=release.id,
        rows=chosen,
        eligible=len(order),
        expected=expected,
        low=max(0.0, expected - spread),
        high=min(float(len(chosen)), expected + spread),
        at_random=float(score[order].mean()) * len(chosen) if len(order) else 0.0,
    )


def members_of(release: Release, task: str, best_first: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows of the members that the last refresh of a look-alike gave it, best first.

    Raises:
        UnknownName: the release has none, as one that was published before the look-alike was made.
    """
    if task not in release.members:
        raise UnknownName("audience of a look-alike", task, release.members)
    chosen: npt.NDArray[np.int64] = best_first[np.isin(release.members[task][best_first], (STAYS, ENTERED))]
    return chosen


def ranked(score: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rows of eligible users, best first."""
    rows = np.flatnonzero(~np.isnan(score))
    order: npt.NDArray[np.int64] = rows[np.argsort(-score[rows], kind="stable")]
    return order


def size_of(best_first: npt.NDArray[np.float64], rule: Rule) -> int:
    """How many of the eligible a rule takes."""
    if rule.top_n is not None:
        return min(rule.top_n, len(best_first))
    if rule.top_percent is not None:
        return round(len(best_first) * rule.top_percent / 100)
    return int((best_first >= (rule.min_probability or 0.0)).sum())
