"""Intervals that hold what they promise, curves, profits and suggestions: slow sums beside the fast ones."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.audiences.curve import BINS, MOST_POINTS, curve
from serving.audiences.cut import cut
from serving.audiences.expected import BY_CHANCE, level_of
from serving.audiences.profit import Economics, profit, recommended
from serving.audiences.ranking import ranking
from serving.audiences.rules import Rule
from serving.audiences.suggested import PAGE, SUGGESTIONS, suggested, suggestions_page
from serving.tombstones import marks_of

PATH = "/v1/audiences"
FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TASKS = st.sampled_from(["churn", "repeat_order"])
MONEY = st.one_of(st.just(0.0), st.floats(0.01, 40))  # nothing, or a cent and more
BUYS_AGAIN = {"feature": "orders_count", "at_least": 3}
WHERE = st.sampled_from([None, BUYS_AGAIN, {"not": BUYS_AGAIN}])


def chances(release, audience):
    return release.scores[audience.rule.task].score[audience.rows]


def with_facts(release, task, facts):
    tasks = release.manifest["tasks"]
    return replace(release, manifest={**release.manifest, "tasks": {**tasks, task: {**tasks[task], **facts}}})


# --- intervals ------------------------------------------------------------------------------------------------------


def test_without_evidence_the_interval_is_of_chance_alone_and_says_so(release):
    audience = cut(release, Rule("churn", top_n=80))
    p = chances(release, audience)
    assert audience.basis == BY_CHANCE
    assert audience.high - audience.expected == pytest.approx(1.959964 * math.sqrt((p * (1 - p)).sum()), rel=1e-6)


def test_evidence_of_a_level_that_was_off_widens_it(release):
    pooled = with_facts(
        release,
        "churn",
        {"metrics": {"model": {"mean_bias": {"value": 0.01, "low": -0.01, "high": 0.03}, "ece": {"value": 0.02}, "ece_floor": {"value": 0.018}}}},
    )
    periods = with_facts(pooled, "churn", {"bias_by_cutoff": {"a": 0.02, "b": -0.02, "c": 0.02, "d": -0.02}})
    crooked = with_facts(
        release, "churn", {"metrics": {"model": {"mean_bias": {"value": 0.0, "low": 0.0, "high": 0.0}, "ece": {"value": 0.06}, "ece_floor": {"value": 0.01}}}}
    )
    widths = [cut(one, Rule("churn", top_n=80)) for one in (release, pooled, periods, crooked)]
    assert [one.basis.rpartition(", by ")[2] for one in widths[1:]] == [
        "its pooled bias on held-out cutoffs",
        "its bias in 4 periods that it had not seen",
        "the calibration error (ECE) above its floor",
    ]
    assert all(one.high - one.low > widths[0].high - widths[0].low for one in widths[1:])
    n, p = len(ranking(release, "churn")), chances(release, widths[2])
    spread = ranking(release, "churn").spread[-1]
    shift = 2.776 * 0.02 * n / spread * (p * (1 - p)).sum()
    assert widths[2].high - widths[2].expected == pytest.approx(math.hypot(1.959964 * math.sqrt((p * (1 - p)).sum()), shift), rel=1e-6)


def test_the_interval_holds_the_truth_as_often_as_it_says_when_seasons_shift_the_level(release):
    """Four past seasons tell how far levels go; in the fifth, of the same sort, the interval of the best 100 must hold in 95 of 100."""
    random, task = np.random.default_rng(7), "churn"
    p = chances(release, cut(release, Rule(task, top_n=100)))
    everybody = chances(release, cut(release, Rule(task, top_percent=100)))
    log_odds, odds_of_all = np.log(p / (1 - p)), np.log(everybody / (1 - everybody))
    held = 0
    for _ in range(400):
        shifts = random.normal(0, 0.4, 5)
        bias = {str(place): float(everybody.mean() - (1 / (1 + np.exp(-(odds_of_all + shift)))).mean()) for place, shift in enumerate(shifts[:4])}
        level = level_of(with_facts(release, task, {"bias_by_cutoff": bias}), task)
        happened = (random.random(len(p)) < 1 / (1 + np.exp(-(log_odds + shifts[4])))).sum()
        low, high = level.interval(float(p.sum()), float((p * (1 - p)).sum()), len(p))
        held += low <= happened <= high
    assert 368 <= held <= 397


# --- curve and profit -----------------------------------------------------------------------------------------------


@FEW
@given(task=TASKS, where=WHERE, points=st.integers(1, MOST_POINTS))
def test_a_curve_is_its_cuts(release, task, where, points):
    found = curve(release, task, where, Economics(18, 5, 0.5, 100), points)
    assert len(found.points) <= points + 1
    assert found.points[-1].size == found.eligible
    assert [point.size for point in found.points] == sorted({point.size for point in found.points})
    for point in found.points[:: max(1, len(found.points) // 5)]:
        audience = cut(release, Rule(task, top_n=point.size, where=where))
        for name in ("expected", "low", "high", "precision", "recall", "false_positives", "lift", "by_recency", "at_random", "threshold"):
            assert getattr(point, name) == pytest.approx(getattr(audience, name), abs=1e-9), name
        assert point.profit == pytest.approx(audience.expected * (18 - 5) - 0.5 * point.size, abs=1e-7)


@pytest.mark.parametrize("task", ["churn", "lookalike"])
def test_the_histogram_holds_everybody_once(release, task):
    found, score = curve(release, task), ranking(release, task).score
    assert (len(found.counts), len(found.edges), sum(found.counts)) == (BINS, BINS + 1, len(score))
    assert found.counts == np.histogram(score, found.edges)[0].tolist()


def test_a_rank_has_a_curve_of_sizes_and_promises_nothing(release):
    found = curve(release, "lookalike", economics=Economics(10))
    assert {(point.expected, point.profit, point.lift) for point in found.points} == {(None, None, None)}
    assert found.recommended is None


@FEW
@given(task=TASKS, margin=st.floats(1, 50), coupon=MONEY, contact=MONEY, budget=st.one_of(st.none(), st.floats(0, 2_000)))
def test_the_recommended_cut_earns_the_most_that_the_budget_reaches(release, task, margin, coupon, contact, budget):
    found, economics = ranking(release, task), Economics(margin, coupon, contact, budget)
    best = recommended(found, economics)
    sizes = np.arange(len(found) + 1)
    earned, costs = profit(found, economics, sizes), contact * sizes + coupon * found.sums
    reached = sizes if budget is None else sizes[costs <= budget + 1e-9]
    assert best.at == pytest.approx(max(earned[reached].max(), 0.0), abs=1e-6)
    if best.break_even is not None and 0 < best.size < len(found) and "budget" not in best.reason:
        assert found.score[best.size - 1] >= best.break_even > found.score[best.size]


def test_break_even_in_the_head():
    assert Economics(margin=20, coupon_cost=10, contact_cost=1).break_even == pytest.approx(0.1)
    assert Economics(margin=20, coupon_cost=20, contact_cost=1).break_even is None
    assert Economics(margin=20, coupon_cost=10, contact_cost=11).break_even is None


def test_a_slider_gets_everything_in_one_answer(client):
    sent = {"task": "repeat_order", "top_percent": 20, "economics": {"margin": 18, "coupon_cost": 5, "contact_cost": 1.0}, "worth": 1.35}
    answer = client.post(f"{PATH}:preview", sent).json
    kept = client.post(PATH, {"task": "repeat_order", "top_percent": 20}).json
    assert {name: answer[name] for name in ("size", "expected_conversions", "precision", "recall", "lift")} == {
        name: kept[name] for name in ("size", "expected_conversions", "precision", "recall", "lift")
    }
    assert sum(answer["groups"].values()) == answer["size"]
    assert set(answer["groups"]) == {"treatment", "control"}
    assert answer["power"]["rate"] == answer["precision"]
    assert answer["profit"] == pytest.approx(answer["expected_conversions"] * 13 - answer["size"])
    assert answer["recommended"]["break_even"] == pytest.approx(1 / 13)
    without = client.post(f"{PATH}:preview", {**sent, "skip_percent": 5.0}).json
    surest = client.post(f"{PATH}:preview", {**sent, "top_percent": 5.0}).json
    assert without["profit"] == pytest.approx(answer["profit"] - surest["profit"])
    assert without["size"] == answer["size"] - surest["size"]
    assert client.get(PATH).json == []


def test_the_curve_over_http_takes_a_condition_and_refuses_what_is_none(client):
    found = client.get(f"{PATH}/curve?task=churn&points=20&margin=10&where=%7B%22feature%22%3A%22orders_count%22%2C%22at_least%22%3A3%7D").json
    assert len(found["points"]) <= 21
    assert found["points"][-1]["size"] == found["eligible"] < client.get(f"{PATH}/curve?task=churn").json["eligible"]
    assert client.get(f"{PATH}/curve?task=churn&where=nonsense").status == 422
    assert client.get(f"{PATH}/curve?task=chrun").status == 404
    assert client.get(f"{PATH}/curve?task=churn&points=201").status == 422


# --- suggestions ----------------------------------------------------------------------------------------------------


def test_every_suggestion_is_made_or_says_why_not(release, published, client):
    found = suggested(release)
    assert [one.name for one in found] == [one.name for one in SUGGESTIONS]
    assert all((one.audience is None) != (one.skipped is None) for one in found)
    assert {one.name for one in found if one.audience} >= {"likely lost", "super users", "discount-sensitive"}
    assert {one.name: one.skipped for one in found}["persuadable"].startswith("no model answers `uplift`")
    kept = json.loads((published.root / published.second / "pages" / PAGE).read_bytes())
    assert kept == json.loads(json.dumps(suggestions_page(release)))  # what a publication writes for the console
    assert [one["size"] for one in kept["suggestions"]] == [one.audience.size if one.audience else None for one in found]
    told = client.get(f"{PATH}/suggested").json
    assert [one["name"] for one in told] == [one.name for one in found]
    for one in told:
        if one["rule"] and not one["skipped"]:
            assert client.post(PATH, one["rule"]).json["size"] == one["audience"]["size"]


def test_suggestions_of_members_need_members(release):
    tasks, names = release.features, [name for name in release.features if name.startswith("membership_")]
    without = replace(release, features=tuple(name if name not in names else f"other_{name}" for name in tasks))
    skipped = {one.name: one.skipped for one in suggested(without)}
    assert "membership" in skipped["benefit unclaimed or unused"]
    assert "tiers" in skipped["near the next tier"]
    assert marks_of([b"a"]).dtype == np.uint64
