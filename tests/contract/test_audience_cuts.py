"""Cuts and their numbers: slow sums beside the fast ones, and who is in none."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.audiences.curve import curve
from serving.audiences.cut import cut
from serving.audiences.expected import level_of
from serving.audiences.members import split
from serving.audiences.memory import known, remembered
from serving.audiences.ranking import by_recency, falling, ranking
from serving.audiences.rules import Rule
from serving.audiences.warm import warm
from serving.release import load_release
from serving.tombstones import withheld

FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TASKS = st.sampled_from(["churn", "repeat_order"])
BUYS_AGAIN = {"feature": "orders_count", "at_least": 3}
WHERE = st.sampled_from([None, BUYS_AGAIN, {"not": BUYS_AGAIN}])


def chances(release, audience):
    return release.scores[audience.rule.task].score[audience.rows]


# --- cuts -----------------------------------------------------------------------------------------------------------


@FEW
@given(task=TASKS, where=WHERE, ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_range_of_probabilities_or_percentiles_takes_exactly_those_in_it(release, task, where, ends):
    low, high = sorted(ends)
    scores = release.scores[task]
    pool = np.ones(len(release.users), dtype=bool) if where is None else np.isin(np.arange(len(release.users)), cut(release, Rule(where=where)).rows)
    taken = cut(release, Rule(task, min_probability=low, max_probability=high, where=where)).rows
    assert set(taken) == set(np.flatnonzero(pool & (scores.score >= low) & (scores.score <= high)))
    taken = cut(release, Rule(task, min_percentile=100 * low, max_percentile=100 * high, where=where)).rows
    assert set(taken) == set(np.flatnonzero(pool & (scores.percentile >= 100 * low) & (scores.percentile <= 100 * high)))
    assert (np.diff(scores.score[taken]) <= 0).all()


@pytest.mark.parametrize("task", ["churn", "repeat_order", "lookalike"])
def test_the_bands_part_the_eligible(release, task):
    bands = [set(cut(release, Rule(task, band=band)).rows) for band in ("low", "medium", "high")]
    assert sum(map(len, bands)) == len(set.union(*bands)) == int((~np.isnan(release.scores[task].score)).sum())
    percentile = release.scores[task].percentile
    assert bands[2] == set(np.flatnonzero(percentile >= 80))


@FEW
@given(task=TASKS, where=WHERE, budget=st.floats(0, 500), contact=st.floats(0.01, 5), coupon=st.floats(0, 20))
def test_a_budget_is_spent_on_the_best_and_never_overdrawn(release, task, where, budget, contact, coupon):
    audience = cut(release, Rule(task, budget=budget, contact_cost=contact, coupon_cost=coupon, where=where))
    everybody = cut(release, Rule(task, top_percent=100, where=where)).rows
    spent, size = 0.0, 0
    for row in everybody:  # one after the other, as money goes
        spent += contact + coupon * release.scores[task].score[row]
        if spent > budget + 1e-9:
            break
        size += 1
    assert abs(audience.size - size) <= (1 if math.isclose(spent, budget, abs_tol=1e-6) else 0)
    assert audience.size * contact + coupon * audience.expected <= budget + 1e-6


@FEW
@given(task=TASKS, where=WHERE, size=st.integers(1, 400))
def test_every_number_of_a_cut_is_what_its_name_says(release, task, where, size):
    audience = cut(release, Rule(task, top_n=size, where=where))
    everybody, p = chances(release, cut(release, Rule(task, top_percent=100, where=where))), chances(release, audience)
    assert audience.expected == pytest.approx(p.sum(), abs=1e-9)
    assert audience.precision == pytest.approx(p.mean(), abs=1e-12)
    assert audience.recall == pytest.approx(p.sum() / everybody.sum(), abs=1e-12)
    assert audience.false_positives == pytest.approx((1 - p).sum(), abs=1e-9)
    assert audience.lift == pytest.approx(p.mean() / everybody.mean(), abs=1e-9)
    assert audience.at_random == pytest.approx(everybody.mean() * audience.size, abs=1e-9)
    assert audience.threshold == p[-1]
    assert audience.eligible == len(everybody)
    assert audience.by_recency <= audience.expected + 1e-9  # the model's own best are its best


@FEW
@given(task=TASKS, where=WHERE, ends=st.tuples(st.floats(0.5, 100), st.floats(0, 99)), by=st.sampled_from(["top_n", "top_percent"]))
def test_without_the_surest_a_cut_begins_behind_them_and_its_numbers_are_of_those_that_are_left(release, task, where, ends, by):
    top, skip = max(ends), min(ends) if min(ends) < max(ends) else 0.0
    everybody = cut(release, Rule(task, top_percent=100, where=where)).rows
    stop = round(len(everybody) * top / 100)
    audience = cut(release, Rule(task, skip_percent=skip, where=where, **({"top_n": max(1, stop)} if by == "top_n" else {"top_percent": top})))
    left = everybody[round(len(everybody) * skip / 100) : max(1, stop) if by == "top_n" else stop]
    assert audience.rows.tolist() == left.tolist()
    p = release.scores[task].score[left]
    assert audience.expected == pytest.approx(p.sum(), abs=1e-9)
    assert (audience.low, audience.high) == pytest.approx(level_of(release, task).interval(p.sum(), (p * (1 - p)).sum(), len(p)), abs=1e-7)
    assert audience.at_random == pytest.approx(release.scores[task].score[everybody].mean() * len(p), abs=1e-9)
    if len(p):
        assert (audience.threshold, audience.precision) == (p[-1], pytest.approx(p.mean(), abs=1e-9))


def test_a_condition_alone_picks_and_promises_nothing(release):
    audience = cut(release, Rule(where=BUYS_AGAIN))
    assert set(audience.rows) == set(np.flatnonzero(release.vectors[:, release.features.index("orders_count")] >= 3))
    assert (audience.expected, audience.precision, audience.low) == (None, None, None)
    assert "no prediction ranks it" in audience.reason


def test_whoever_may_not_be_spoken_to_is_in_no_cut_no_curve_and_no_pool(release):
    rows = cut(release, Rule("churn", top_n=5)).rows
    from serving.tombstones import tombstone

    hidden = {tombstone(bytes(release.users[row])): kind for row, kind in zip(rows, ["no_marketing", "no_profiling", "deleted"], strict=False)}
    silent = replace(release, withheld=withheld(hidden, release.users, release.marks))
    gone = set(rows[:3])
    assert len(silent.withheld.rows) + len(silent.withheld.unmarketed) == 3
    for rule in (
        Rule("churn", top_percent=100),
        Rule(where={"feature": "orders_count", "at_least": 0}),
        Rule("churn", where={"feature": "stage", "known": True}),
    ):
        assert set(cut(release, rule).rows) - set(cut(silent, rule).rows) == gone & set(cut(release, rule).rows)
    assert curve(release, "churn").eligible - curve(silent, "churn").eligible == 3


def test_by_recency_counts_users_of_the_same_day_alike(release):
    pool = cut(release, Rule("repeat_order", top_percent=100)).rows
    days, p = release.vectors[pool, release.features.index("orders_recency")], release.scores["repeat_order"].score[pool]
    for size in (1, 7, 50, len(pool)):
        expected, left = 0.0, size
        for day in sorted(set(days)):
            here = p[days == day]
            taken = min(left, len(here))
            expected, left = expected + here.mean() * taken, left - taken
        assert by_recency(release, "repeat_order", None).of_first(size) == pytest.approx(expected, abs=1e-9)


def test_for_staying_away_the_rule_begins_with_those_who_bought_longest_ago(release):
    rule, half = by_recency(release, "churn", None), len(ranking(release, "churn")) // 2
    assert rule.of_first(half) > release.scores["churn"].ordered[: 2 * half].mean() * half


@given(scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1)))
def test_scores_fall_and_equal_ones_stay_as_they_stand(scores):
    values = np.array(scores, dtype=np.float64)
    assert falling(values).tolist() == sorted(range(len(scores)), key=lambda place: -scores[place])


def test_what_was_asked_of_the_release_before_is_known_of_the_next(published, release):
    for before in (release, replace(release)):
        split(before, cut(before, Rule("churn", top_n=5)).rows, "salt", {"treatment": 0.5, "control": 0.5})
        next_ = load_release(published.root / published.first)
        assert known(next_) == []
        warm(next_, before)
        assert {("ranking", "churn"), ("groups", "salt", (("treatment", 0.5), ("control", 0.5)))} <= {*known(next_)}


def test_of_several_who_ask_at_the_same_moment_one_makes_it(release):
    of, many, together, made = replace(release), 4, Barrier(4), []

    def fail():
        raise ValueError("it cannot be made")

    def make():
        made.append(1)
        time.sleep(0.05)  # so that the others come while it is made
        return np.arange(3)

    def ask(_):
        together.wait(30)
        return remembered(of, "three", make)

    with pytest.raises(ValueError, match="cannot"):
        remembered(of, "three", fail)  # which holds up nobody
    with ThreadPoolExecutor(many) as pool:
        found = list(pool.map(ask, range(many)))
    assert len(made) == 1
    assert all(one is found[0] for one in found)
