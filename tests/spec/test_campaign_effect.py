"""What the effect of a campaign is, in numbers that can be checked by hand or by a slow and obvious way."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serving.campaigns.effect import adjusted_effect, economics, plain_effect, sample_ratio, why_no_claim, winsorised
from serving.campaigns.factors import holm, levels_of
from serving.campaigns.sequential import ALTERNATIVES, FAR_UNDER, ratio_process, under_process

RNG = np.random.default_rng


def lot(treated: int, control: int) -> np.ndarray:
    return np.arange(treated + control) < treated


# --- the plain difference -------------------------------------------------------------------------------------------


def test_the_difference_of_two_rates_has_newcombes_interval():
    """The first example of Newcombe (1998), table II: 56 of 70 against 48 of 80, by method 10: .0524 to .3339."""
    y = np.concatenate([np.repeat([1.0, 0.0], [56, 14]), np.repeat([1.0, 0.0], [48, 32])])
    found = plain_effect(y, lot(70, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_difference_of_two_means_has_welchs_interval():
    y = np.array([3.0, 4.5, 8.0, 1.0, 0.5, 2.0, 2.5])
    found, theirs = plain_effect(y, lot(4, 3)), stats.ttest_ind(y[:4], y[4:], equal_var=False)
    assert found.value == pytest.approx(16.5 / 4 - 5 / 3)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.p == pytest.approx(theirs.pvalue)


# --- the adjusted one -----------------------------------------------------------------------------------------------


def lin_by_the_book(y: np.ndarray, treated: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """One regression on treatment, centred covariates and their products, with the sandwich written out."""
    centred = known - known.mean(axis=0)
    design = np.column_stack([np.ones(len(y)), treated, centred, treated[:, None] * centred])
    bread = np.linalg.inv(design.T @ design)
    slopes = bread @ design.T @ y
    filling = np.zeros_like(bread)
    for row, outcome in zip(design, y, strict=True):
        filling += np.outer(row, row) * (outcome - row @ slopes) ** 2 / (1 - row @ bread @ row)
    return float(slopes[1]), math.sqrt((bread @ filling @ bread)[1, 1])


@given(st.integers(0, 10_000), st.floats(0.2, 0.8))
@settings(max_examples=25, deadline=None)
def test_lins_estimator_is_the_interacted_regression_with_hc2(seed, share):
    rng = RNG(seed)
    known = rng.normal(size=(800, 2)) * [1, 50] + [0, 900]
    treated = rng.random(800) < share
    y = known[:, 0] + treated * (1 + known[:, 0]) + rng.standard_exponential(800)
    found = adjusted_effect(y, treated, known)
    assert (found.value, found.error) == pytest.approx(lin_by_the_book(y, treated, known), rel=1e-8)
    assert found.covariates == 2


def test_what_says_nothing_or_says_it_twice_changes_nothing():
    rng = RNG(1)
    known = rng.normal(size=(500, 1))
    treated, y = lot(250, 250), known[:, 0] + rng.normal(size=500)
    same = adjusted_effect(y, treated, np.column_stack([np.full(500, 7.0), known, 3 * known + 1]))
    assert (same.value, same.error) == pytest.approx((adjusted_effect(y, treated, known).value, adjusted_effect(y, treated, known).error))


def test_a_small_control_group_is_adjusted_for_little_or_nothing():
    rng = RNG(2)
    known, y = rng.normal(size=(1000, 6)), rng.normal(size=1000)
    assert [adjusted_effect(y, lot(1000 - control, control), known).covariates for control in (39, 40, 100, 400)] == [0, 1, 2, 6]


def test_a_covariate_that_is_constant_in_one_group_is_not_adjusted_for():
    y, treated = RNG(3).normal(size=400), lot(200, 200)
    assert adjusted_effect(y, treated, treated[:, None].astype(float)).covariates == 0


def test_whoever_says_so_before_counts_large_spend_as_less():
    amounts = np.array([0.0, 10, 20, 30, 1000])
    assert winsorised(amounts, None).max() == 1000
    assert winsorised(amounts, 0.9).max() == np.quantile(amounts, 0.9)


# --- what may be claimed --------------------------------------------------------------------------------------------


def test_without_control_nothing_is_claimed():
    assert "no control group" in why_no_claim(np.ones(100), np.ones(100, bool))


@pytest.mark.parametrize(("control", "converted", "claimed"), [(29, 10, False), (30, 4, False), (30, 5, True), (30, 26, False), (300, 150, True)])
def test_a_small_control_group_or_few_outcomes_claim_nothing(control, converted, claimed):
    y = np.concatenate([np.tile([0.0, 1.0], 200), np.repeat([1.0, 0.0], [converted, control - converted])])
    assert (why_no_claim(y, lot(400, control)) is None) is claimed


def test_groups_of_other_sizes_than_the_lot_gives_are_a_mismatch():
    shares = {"treatment": 0.9, "control": 0.1}
    assert not sample_ratio({"treatment": 9_010, "control": 990}, shares)["mismatch"]
    found = sample_ratio({"treatment": 9_000, "control": 850}, shares)
    assert found["mismatch"]
    assert found["p"] == pytest.approx(stats.chi2.sf((9_000 - 8_865) ** 2 / 8_865 + (850 - 985) ** 2 / 985, 1))


def test_money_is_that_of_all_treated_together():
    y = np.concatenate([np.repeat([1.0, 0.0], [300, 700]), np.repeat([1.0, 0.0], [200, 800])])
    effect = plain_effect(y, lot(1000, 1000))
    found = economics(effect, 1000, cost=250.0, earned=10.0)
    assert found["added"]["value"] == pytest.approx(100)
    assert found["cost_per_added"]["value"] == pytest.approx(2.5)
    assert found["profit"]["value"] == pytest.approx(750)
    assert found["roi"]["value"] == pytest.approx(3)
    assert found["profit"]["low"] == pytest.approx(10 * 1000 * effect.low - 250)


def test_the_cost_of_one_more_has_no_upper_end_where_there_may_be_none():
    found = economics(plain_effect(np.tile([0.0, 1.0], 100), lot(100, 100)), 100, cost=50.0, earned=None)
    assert found["cost_per_added"]["value"] is None
    assert found["cost_per_added"]["high"] is None
    assert found["profit"] is None


# --- looked at every day --------------------------------------------------------------------------------------------


def test_the_evidence_against_conversions_is_the_mixture_of_likelihood_ratios():
    """Written out for each member and day."""
    expected, days = np.array([0.3, 0.5, 0.2, 0.9]), 10
    goal_on, observed = np.array([-1, 2, -1, 0]), np.array([4, 4, 1, 3])
    mixed = 0.0
    for share in ALTERNATIVES:
        ratio = 1.0
        for chance, goal, seen in zip(expected, goal_on, observed, strict=True):
            daily = 1 - (1 - chance) ** (1 / days)
            for day in range(seen):
                if 0 <= goal < day:
                    break
                ratio *= share / FAR_UNDER if day == goal else (1 - share * daily) / (1 - FAR_UNDER * daily)
        mixed += ratio / len(ALTERNATIVES)
    assert under_process(expected, days, goal_on, observed)[-1] == pytest.approx(math.log(mixed))
    assert under_process(expected, days, goal_on, observed)[0] == pytest.approx(0)


def first_conversions(rng: np.random.Generator, expected: np.ndarray, days: int, share: float) -> np.ndarray:
    daily = share * (1 - (1 - expected) ** (1 / days))
    waits = rng.geometric(daily) - 1
    return np.where(waits < days, waits, -1)


def test_who_converts_as_expected_or_a_little_less_seldom_raises_an_alarm_and_who_hardly_does_always():
    alarms = {}
    for share in (1.0, FAR_UNDER, 0.2):
        found = []
        for seed in range(150):
            rng = RNG(seed)
            expected = rng.beta(2, 8, 400)
            goal_on = first_conversions(rng, expected, 14, share)
            found.append(under_process(expected, 14, goal_on, np.full(400, 14)).max() > math.log(100))
        alarms[share] = np.mean(found)
    assert alarms[1.0] == 0
    assert alarms[FAR_UNDER] <= 0.04  # at most 1 %, and chance
    assert alarms[0.2] == 1


def test_groups_that_are_counted_daily_raise_an_alarm_only_when_they_are_not_those_drawn():
    shares = {"treatment": 0.9, "control": 0.1}
    raised = {0.1: 0, 0.07: 0}
    for control in raised:
        for seed in range(100):
            joined = (RNG(seed).random(6_000) < control).cumsum()
            looks = [{"treatment": size - int(joined[size - 1]), "control": int(joined[size - 1])} for size in range(200, 6_001, 200)]
            raised[control] += max(ratio_process(sizes, shares) for sizes in looks) > math.log(100)
    assert raised[0.1] <= 4
    assert raised[0.07] >= 95


# --- factors --------------------------------------------------------------------------------------------------------


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_numbers_become_levels_in_words_and_rare_ones_are_put_together():
    described = pd.DataFrame({"tier": [0.0, 1.0] * 50 + [3.0] * 5, "visits": [0.0] * 60 + list(np.arange(1.0, 46.0)), "stage": ["first"] * 105})
    assert dict(pd.Series(levels_of(described, "tier")).value_counts()) == {"0": 50, "1": 50, "others": 5}
    assert dict(pd.Series(levels_of(described, "visits")).value_counts()) == {"0": 60, "above 0": 45}
    assert set(levels_of(described, "tier x stage")) == {"0, first", "1, first", "others"}
