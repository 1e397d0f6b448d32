"""cut: a rule applied to a release. Whom it picks, how many, and how many of them are expected to do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import UnknownName
from serving.audiences.columns import HIGH, LOW
from serving.audiences.expected import level_of
from serving.audiences.ranking import Ranking, by_recency, pool, ranking
from serving.audiences.rules import Rule, check
from serving.release import ENTERED, STAYS, Release

ONLY_RANKS = "it only ranks: its score is no probability, so nothing can be promised of how many will"
NOT_RANKED = "no prediction ranks it: give a `task` to learn how many of them will"
UNCALIBRATED = {
    "value": "it predicts spend: see expected_value",
    "effect": "it predicts what a treatment adds: see expected_extra",
}


@dataclass(frozen=True)
class Audience:
    """A rule applied to a release.

    rows: members as rows of the snapshot, best first; without a prediction in the order of user ids. eligible: users in the pool, which are
    those whom the prediction is about, who may be spoken to and who fulfil the condition. expected, low, high: conversions expected
    among the members, with a 95 % interval (see `basis`); all: among the pool; by_recency: among as many picked by the recency rule, by
    the same model. None, with the reason, where the prediction gives no probability. total: the sum of scores where it is of spend
    or of an effect.
    """

    rule: Rule
    release: str
    rows: npt.NDArray[np.int64]
    eligible: int
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    all: float | None = None
    by_recency: float | None = None
    total: float | None = None
    threshold: float | None = None
    reason: str | None = None
    basis: str | None = None

    @property
    def size(self) -> int:
        return len(self.rows)

    @property
    def at_random(self) -> float | None:
        """Expected among as many users of the pool drawn at random."""
        return None if self.all is None else self.all * self.size / self.eligible if self.eligible else 0.0

    @property
    def precision(self) -> float | None:
        """Share of the members who are expected to do it; None of nobody."""
        return None if self.expected is None or not self.size else self.expected / self.size

    @property
    def recall(self) -> float | None:
        """Share of all in the pool who are expected to do it that are members; None where nobody is."""
        return None if self.expected is None or not self.all else self.expected / self.all

    @property
    def false_positives(self) -> float | None:
        """Members who are expected not to do it."""
        return None if self.expected is None else self.size - self.expected

    @property
    def lift(self) -> float | None:
        """How many times as many as at random."""
        return None if self.expected is None or not self.at_random else self.expected / self.at_random


def cut(release: Release, rule: Rule) -> Audience:
    """Apply a rule to everybody whom a release may name to marketing.

    Raises:
        UnknownName: the release has no prediction of that name, or no audience of it. InvalidRule: the rule cannot be applied.
    """
    check(rule, release)
    if rule.task is None:
        return measured(release, rule, pool(release, rule.where or {}))
    found = ranking(release, rule.task, rule.where)
    if rule.members:
        return measured(release, rule, members_of(release, rule.task, found.rows))
    start, stop = bounds(found, rule)
    spread = 0.0 if found.spread is None else float(found.spread[stop] - found.spread[start])
    return measured(release, rule, found.rows[start:stop], (float(found.sums[stop] - found.sums[start]), spread))


def measured(release: Release, rule: Rule, rows: npt.NDArray[np.int64], sums: tuple[float, float] | None = None) -> Audience:
    """An audience of these members, best first, and what the rule's prediction expects of them.

    Args:
        sums: of their scores and of p (1 - p), where they are known; who has no score adds nothing.
    """
    if rule.task is None:
        everybody = len(release.withheld.marketable(np.arange(len(release.users))))
        return Audience(rule, release.id, rows, everybody, reason=NOT_RANKED)
    score, bundle = release.scores[rule.task].score, release.bundles[rule.task]
    found = ranking(release, rule.task, rule.where)
    total, spread = sums or (float(np.nansum(score[rows])), float(np.nansum(score[rows] * (1 - score[rows]))))
    threshold = float(score[rows[-1]]) if len(rows) and not np.isnan(score[rows[-1]]) else None
    if not bundle.calibrated:
        of_sums = total if bundle.kind in UNCALIBRATED else None
        return Audience(rule, release.id, rows, len(found), total=of_sums, threshold=threshold, reason=UNCALIBRATED.get(bundle.kind, ONLY_RANKS))
    level, recency = level_of(release, rule.task), by_recency(release, rule.task, rule.where)
    low, high = level.interval(total, spread, len(rows))
    return Audience(
        rule,
        release.id,
        rows,
        len(found),
        expected=total,
        low=low,
        high=high,
        all=float(found.sums[-1]),
        by_recency=recency.of_first(len(rows)) if recency else None,
        threshold=threshold,
        basis=level.basis,
    )


def bounds(found: Ranking, rule: Rule) -> tuple[int, int]:
    """The places of a ranking that a rule takes, from start to before stop. Every cut is a piece of the ranking."""
    everybody, band = len(found), {"high": (HIGH, 100.0), "medium": (LOW, HIGH), "low": (0.0, LOW)}.get(rule.band or "")
    if rule.top_n is not None or rule.top_percent is not None:
        stop = min(rule.top_n, everybody) if rule.top_n is not None else round(everybody * (rule.top_percent or 0.0) / 100)
        return min(round(everybody * (rule.skip_percent or 0.0) / 100), stop), stop
    if band:  # a band begins at its least percentile and ends before that of the next
        return 0 if rule.band == "high" else found.down_to_percentile(band[1]), found.down_to_percentile(band[0])
    if rule.budget is not None:
        return 0, within_budget(found, rule.budget, rule.contact_cost or 0.0, rule.coupon_cost or 0.0)
    start, stop = 0, everybody
    if rule.max_percentile is not None:
        start = found.above_percentile(rule.max_percentile)
    if rule.min_percentile is not None:
        stop = found.down_to_percentile(rule.min_percentile)
    if rule.max_probability is not None:
        start = found.above(rule.max_probability)
    if rule.min_probability is not None:
        stop = found.down_to(rule.min_probability)
    return min(start, stop), stop


def within_budget(found: Ranking, budget: float, contact_cost: float, coupon_cost: float) -> int:
    """How many of the best so much money reaches: contact_cost each, coupon_cost for each who is expected to convert."""
    costs = contact_cost * np.arange(1, len(found) + 1) + coupon_cost * found.sums[1:]
    return int(np.searchsorted(costs, budget * (1 + 1e-12), "right"))


def members_of(release: Release, task: str, best_first: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows of the members that the last refresh of a look-alike gave it, best first.

    Raises:
        UnknownName: the release has none, as one that was published before the look-alike was made.
    """
    if task not in release.members:
        raise UnknownName("audience of a look-alike", task, release.members)
    chosen: npt.NDArray[np.int64] = best_first[np.isin(release.members[task][best_first], (STAYS, ENTERED))]
    return chosen


def rule_of(kept: Mapping[str, Any]) -> Rule:
    """A rule as the ledger has it, of today or of an older Encore."""
    return Rule(**kept)
