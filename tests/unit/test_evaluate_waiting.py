"""Metrics of curves of waiting: rows small enough to check in the head, days and pairs as oracles, and the gate's rule on windows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import NoUsableData
from training.bundle import Bundle
from training.evaluate import Floats
from training.evaluate_waiting import DIFFERENCES, evaluate_waiting, evaluate_waiting_difference
from training.evidence import Evidence
from training.examples import Examples
from training.gates import decide, window_holds
from training.hazard import Bands
from training.kinds import DATE

NEVER = float("nan")
EDGES = (1, 2, 4, 7, 14, 30)
FEW = st.lists(st.tuples(st.sampled_from([0, 1, 3, 8, 29, NEVER]), st.lists(st.integers(0, 3), min_size=6, max_size=6)), min_size=2, max_size=20)


def values(waited: object, curve: object, edges: tuple[int, ...]) -> dict[str, float]:
    seen = evaluate_waiting(waited, curve, edges, np.arange(np.size(waited)), seed=0, resamples=2)  # type: ignore[arg-type]
    return {name: metric["value"] for name, metric in seen.items()}  # type: ignore[misc]


def rows_of(drawn: list[tuple[float, list[int]]]) -> tuple[Floats, Floats]:
    """Days waited, and curves in steps of quarters that fall."""
    return np.array([waited for waited, _ in drawn], dtype=float), np.array([np.maximum(1 - np.cumsum(falls) / 4, 0) for _, falls in drawn])


def constant(hazard: float, rows: int, edges: tuple[int, ...], seed: int = 0) -> tuple[Floats, Floats]:
    """Days waited by people who order on any day with the same probability, and exactly their curves."""
    days = np.random.default_rng(seed).geometric(hazard, rows) - 1.0
    return np.where(days < edges[-1], days, NEVER), np.tile((1 - hazard) ** np.array(edges, dtype=float), (rows, 1))


# --- one metric at a time -------------------------------------------------------------------------------------------


def test_who_is_sure_and_right_has_no_error_and_everything_in_order() -> None:
    waited = np.array([0, 1, 2, NEVER])
    curve = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    seen = values(waited, curve, (1, 2, 3))
    assert (seen["integrated_brier"], seen["c_index"], seen["event_rate"], seen["rows"]) == (0, 1, 0.75, 4)
    # the medians are noon of the right day, which is half a day off its beginning for the three who came
    assert seen["restricted_mae"] == pytest.approx(3 * 0.5 / 4)


def test_half_and_half_at_all_times_has_a_brier_score_of_a_quarter() -> None:
    assert values([0, NEVER], [[0.5, 0.5], [0.5, 0.5]], (1, 9))["integrated_brier"] == pytest.approx(0.25)


def test_a_step_counts_by_its_days() -> None:
    # The order came on the first day; the curve says so for one day of four and the contrary for three.
    assert values([0], [[0, 1]], (1, 4))["integrated_brier"] == pytest.approx(3 / 4)


def test_a_median_after_the_last_edge_counts_as_the_last_edge() -> None:
    assert values([3, NEVER], [[0.9], [0.9]], (10,))["restricted_mae"] == pytest.approx((10 - 3 + 0) / 2)


@pytest.mark.parametrize(
    ("means", "index"),
    [((1, 2, 3), 1), ((2, 1, 3), 2 / 3), ((3, 2, 1), 0), ((1, 1, 3), 5 / 6), ((2, 2, 2), 0.5)],
    ids=["right", "one pair turned", "reverse", "one tie", "all tied"],
)
def test_three_rows_have_three_pairs(means: tuple[int, ...], index: float) -> None:
    # waited 0, 2 and never: every pair is comparable, and who never came should be last
    assert values([0, 2, NEVER], [[mean / 3] * 3 for mean in means], (1, 2, 3))["c_index"] == pytest.approx(index)


def test_two_who_came_in_one_step_or_never_came_are_no_pair() -> None:
    curve = [[0.9, 0.1], [0.2, 0.1], [0.5, 0.5], [0.3, 0.2]]
    assert values([2, 3, NEVER, NEVER], curve, (2, 9))["c_index"] == pytest.approx(values([3, 2, NEVER, NEVER], curve, (2, 9))["c_index"])
    assert values([2, 3], [[0.9, 0.1], [0.2, 0.1]], (2, 9))["c_index"] == 0.5


def test_equal_curves_are_a_tie_wherever_they_stand() -> None:
    random, edges = np.random.default_rng(0), (1, 2, 5, 10, 22, 46, 100, 215, 464, 1_000, 2_154, 4_641, 9_999)
    waited = random.integers(0, 9_999, 1_003).astype(float)
    for _ in range(10):  # a dot product of equal rows gives two different numbers for some of these curves
        curve = np.tile(np.sort(random.random(13))[::-1], (1_003, 1))
        assert values(waited, curve, edges)["c_index"] == pytest.approx(0.5, abs=1e-12)


def test_a_straight_curve_holds_eight_of_ten_days() -> None:
    # From 1 to 0 in ten days: the window is from day 1 to day 9, so that the orders of the days 0 and 9 are out.
    for day in range(10):
        assert values([day], [[0.0]], (10,))["coverage"] == pytest.approx(float(1 <= day <= 8), abs=1e-9)
    seen = values(np.arange(10), np.zeros((10, 1)), (10,))
    assert (seen["coverage"], seen["nominal_coverage"]) == pytest.approx((0.8, 0.8))


def test_a_window_that_holds_half_of_a_day_holds_half_of_its_orders() -> None:
    # From 1 to 0 in five days: the window is from 0.5 to 4.5.
    assert [values([day], [[0.0]], (5,))["coverage"] for day in range(5)] == pytest.approx([0.5, 1, 1, 1, 0.5])


def test_a_window_without_a_last_day_holds_for_who_never_came_and_should_more_often() -> None:
    never, came = [NEVER, 0], [[0.5], [0.0]]  # the first's 90 % day is not known; its 10 % day is 2
    seen = values(never, came, (10,))
    assert (seen["coverage"], seen["nominal_coverage"]) == pytest.approx((0.5, (0.9 + 0.8) / 2))
    hardly = values([NEVER, 4], [[0.96], [0.96]], (10,))  # not even a 10 % day: only who never came is within
    assert (hardly["coverage"], hardly["nominal_coverage"]) == pytest.approx((0.5, 0.96))


@pytest.mark.parametrize("hazard", [0.3, 0.1, 0.04, 0.012, 0.004, 0.001])
def test_true_curves_hold_as_often_as_they_should_however_rare_orders_are(hazard: float) -> None:
    edges = (1, 2, 3, 4, 5, 7, 9, 12, 17, 23, 32, 44, 60)
    seen = values(*constant(hazard, 20_000, edges), edges)
    assert seen["coverage"] == pytest.approx(seen["nominal_coverage"], abs=0.012)
    assert seen["integrated_brier"] == pytest.approx(np.mean([(1 - hazard) ** edge * (1 - (1 - hazard) ** edge) for edge in ends_of_days(edges)]), abs=0.005)


def ends_of_days(edges: tuple[int, ...]) -> list[int]:
    """For each day up to the last edge the end of its step."""
    return [next(edge for edge in edges if day < edge) for day in range(edges[-1])]


# --- slow and obvious -----------------------------------------------------------------------------------------------


@given(FEW)
@settings(max_examples=50, deadline=None)
def test_the_c_index_is_that_of_all_pairs_and_the_brier_score_that_of_all_days(drawn: list[tuple[float, list[int]]]) -> None:
    waited, curve = rows_of(drawn)
    if np.isnan(waited).all():
        waited[0] = 0
    came = np.where(np.isnan(waited), np.inf, waited)
    place = [next((number for number, edge in enumerate(EDGES) if day < edge), len(EDGES)) for day in came]
    days = ends_of_days(EDGES)
    mean = [sum(row[EDGES.index(end)] for end in days) for row in curve]
    pairs = [(i, j) for i, j in permutations(range(len(waited)), 2) if place[i] < place[j]]
    right = [1.0 if mean[i] < mean[j] else 0.5 if mean[i] == mean[j] else 0.0 for i, j in pairs]
    error = [np.mean([((day >= end) - row[EDGES.index(end)]) ** 2 for end in days]) for day, row in zip(came, curve, strict=True)]
    seen = values(waited, curve, EDGES)
    assert seen["c_index"] == pytest.approx(np.mean(right) if pairs else 0.5, abs=1e-9)
    assert seen["integrated_brier"] == pytest.approx(np.mean(error), abs=1e-9)


@given(FEW, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_changes_nothing(drawn: list[tuple[float, list[int]]], random: object) -> None:
    waited, curve = rows_of([(0.0, [1, 0, 0, 0, 0, 0]), *drawn])
    users, order = np.arange(len(waited)) // 2, random.sample(range(len(waited)), len(waited))  # type: ignore[attr-defined]
    before = evaluate_waiting(waited, curve, EDGES, users, seed=1, resamples=5)
    after = evaluate_waiting(waited[order], curve[order], EDGES, users[order], seed=1, resamples=5)
    for name, metric in before.items():
        assert [*after[name].values()] == pytest.approx([*metric.values()], abs=1e-9), name


def test_a_resample_counts_a_customer_as_often_as_drawn() -> None:
    random = np.random.default_rng(2)
    waited, curve = rows_of([(day, falls.tolist()) for day, falls in zip(random.choice([0, 3, 8, NEVER], 60), random.integers(0, 2, (60, 6)), strict=True)])
    draws, again = np.random.default_rng(7), []
    for _ in range(30):
        times = np.bincount(draws.integers(0, 20, 20), minlength=20)[np.arange(60) // 3]
        again.append(values(np.repeat(waited, times), np.repeat(curve, times, axis=0), EDGES))
    seen = evaluate_waiting(waited, curve, EDGES, np.arange(60) // 3, seed=7, resamples=30)
    for name in (*DIFFERENCES, "coverage", "nominal_coverage", "event_rate"):
        oracle = np.percentile([each[name] for each in again], [2.5, 97.5])
        assert (seen[name]["low"], seen[name]["high"]) == pytest.approx(tuple(oracle), abs=1e-9), name


def test_the_truth_beats_a_bolder_and_a_shyer_curve_and_gains_nothing_over_itself() -> None:
    waited, curve = constant(0.05, 3_000, EDGES)
    users = np.arange(3_000)
    for other in (curve**2, curve**0.5):
        gain = evaluate_waiting_difference(waited, curve, other, EDGES, users, seed=0, resamples=50)
        assert tuple(gain) == DIFFERENCES
        assert gain["integrated_brier"]["high"] < 0  # type: ignore[operator]
        assert gain["integrated_brier"]["value"] == pytest.approx(
            values(waited, curve, EDGES)["integrated_brier"] - values(waited, other, EDGES)["integrated_brier"]
        )
    same = evaluate_waiting_difference(waited, curve, curve, EDGES, users, seed=0, resamples=10)
    assert all(metric == {"value": 0, "low": 0, "high": 0} for metric in same.values())


def test_what_cannot_be_evaluated_is_refused_with_the_reason() -> None:
    for nothing in ([], [NEVER, NEVER]):
        with pytest.raises(NoUsableData, match=f"Of {len(nothing)} rows to evaluate the event came to none"):
            evaluate_waiting(nothing, np.ones((len(nothing), 1)), (7,), nothing, seed=0)
    with pytest.raises(ValueError, match=r"2 edges for each of 1 rows; its shape is \(1, 3\)"):
        evaluate_waiting([1], np.ones((1, 3)), (1, 2), ["a"], seed=0)


# --- the gate -------------------------------------------------------------------------------------------------------


def shop(rows: int = 600) -> tuple[Examples, Floats]:
    """Two kinds of people, told apart by the first column, and their true curves."""
    often, seldom = constant(0.1, rows, EDGES, seed=1), constant(0.01, rows, EDGES, seed=2)
    which = np.arange(rows) % 2 == 0
    waited, curve = np.where(which, often[0], seldom[0]), np.where(which[:, None], often[1], seldom[1])
    X = np.column_stack([np.where(which, 1.0, 50.0), np.random.default_rng(3).normal(size=rows)])
    users = np.array([f"u{number}" for number in range(rows)], dtype=object)
    as_of = np.full(rows, date(2024, 5, 1), dtype=object)
    return Examples(X, ("recency", "noise"), (~np.isnan(waited)).astype(np.int8), users, as_of, amount=waited, edges=EDGES), curve


def evidence_of(test: Examples, told: Floats) -> Evidence:
    everybody = np.tile([float((np.nan_to_num(np.asarray(test.amount), nan=99) >= edge).mean()) for edge in EDGES], (len(test), 1))
    metrics = {name: DATE.evaluate(test, p, 10) for name, p in {"model": told, "rule": everybody}.items()}
    return Evidence(metrics, {"rule": DATE.difference(test, told, everybody)}, {}, {}, {}, {"recency": 0.8}, (0.5, 0.01), {"model": told})


def test_the_truth_passes_and_every_rule_is_named() -> None:
    test, curve = shop()
    decision = decide(evidence_of(test, curve), test, None, DATE, provisional=False)
    assert [reason.rule for reason in decision.reasons] == ["beats rule", "single feature", "shuffled labels", "window"]
    assert decision.promote, decision.text
    assert "integrated Brier score gain +" in decision.text  # less of it is better, so the gain is turned


def test_windows_that_are_too_narrow_are_refused_by_the_rule_of_the_window() -> None:
    test, curve = shop()
    sure = np.clip((curve - 0.5) * 2.5 + 0.5, 0, 1)
    assert "window" in {reason.rule for reason in decide(evidence_of(test, sure), test, None, DATE, provisional=False).reasons if not reason.passed}


@pytest.mark.parametrize(("share", "nominal", "passed"), [(0.8, 0.8, True), (0.76, 0.8, True), (0.74, 0.8, False), (0.9, 0.8, False), (0.9, 0.9, True)])
def test_a_share_of_windows_may_be_five_points_off_what_it_should_be(share: float, nominal: float, passed: bool) -> None:
    test, curve = shop(50)
    measured = {"coverage": {"value": share, "low": None, "high": None}, "nominal_coverage": {"value": nominal, "low": None, "high": None}}
    (reason,) = window_holds(replace(evidence_of(test, curve), metrics={"model": measured}))
    assert reason.passed == passed
    assert f"{share:.1%} of the 10-90 % windows hold; within 5% of {nominal:.1%}" in reason.text


def test_a_champion_is_compared_by_its_curves() -> None:
    test, curve = shop()
    true = tuple(tuple(float(value) for value in curve[row]) for row in (0, 1))
    champion = Bundle(("recency",), Bands((10.0,), true, EDGES, 14), {"task": "next_order", "kind": "date"}, {}, {})
    np.testing.assert_array_equal(DATE.predict(champion, test.X[:, :1]), curve)
    assert decide(evidence_of(test, curve), test, champion, DATE, provisional=False).promote
    worse = decide(evidence_of(test, curve[::-1]), test, champion, DATE, provisional=False)  # the one kind is taken for the other
    assert "no worse than the champion" in {reason.rule for reason in worse.reasons if not reason.passed}
