"""Cutoffs and their split by time: closed windows, and a gap of one horizon before the first test cutoff."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import NoUsableData
from training.split import LEAST_HISTORY, MOST_CUTOFFS, SHORTEST_PROOF, TEST_CUTOFFS, calendar, closed, longest_window, split_by_time

FIRST = date(2023, 1, 1)
horizons = st.integers(1, 365)
spans = st.integers(0, 1500)  # days of log


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def gaps(cutoffs: list[date]) -> set[int]:
    return {(later - earlier).days for earlier, later in itertools.pairwise(cutoffs)}


def test_the_last_cutoff_is_one_horizon_before_the_end_and_the_others_are_one_horizon_apart():
    assert calendar(FIRST, day(200), horizon=30) == [day(110), day(140), day(170)]


@pytest.mark.parametrize(("horizon", "apart"), [(3, 7), (7, 7), (14, 14), (30, 30), (60, 30), (90, 30)])
def test_cutoffs_are_a_horizon_apart_but_no_less_than_a_week_and_no_more_than_a_month(horizon, apart):
    assert gaps(calendar(FIRST, day(500), horizon)) == {apart}


def test_a_log_of_ninety_days_before_the_first_cutoff_is_just_enough():
    assert calendar(FIRST, day(120), horizon=30) == [day(90)]
    assert calendar(FIRST, day(119), horizon=30) == []


def test_given_cutoffs_are_kept_if_they_have_history_and_a_closed_window():
    assert closed([day(89), day(90), day(120), day(170), day(171)], FIRST, day(200), horizon=30) == [day(90), day(120), day(170)]


def test_too_many_given_cutoffs_are_thinned_to_the_spacing_of_a_calendar():
    assert closed([day(number) for number in range(100, 200)], FIRST, day(300), horizon=30) == [day(109), day(139), day(169), day(199)]


@given(spans, horizons)
def test_every_cutoff_has_history_before_it_and_a_closed_window_after_it(span, horizon):
    cutoffs = calendar(FIRST, day(span), horizon)
    assert cutoffs == sorted(set(cutoffs))
    assert len(cutoffs) <= MOST_CUTOFFS
    assert all(day(LEAST_HISTORY) <= cutoff <= day(span - horizon) for cutoff in cutoffs)


@given(st.one_of(st.tuples(spans, horizons).map(lambda drawn: (calendar(FIRST, day(drawn[0]), drawn[1]), drawn[1])),
                 st.tuples(st.lists(spans, unique=True, max_size=24).map(lambda days: [day(number) for number in sorted(days)]), horizons)))  # fmt: skip
def test_no_training_window_reaches_a_test_cutoff(drawn):
    cutoffs, horizon = drawn
    try:
        split = split_by_time(cutoffs, horizon)
    except NoUsableData:
        # Right only if not even the last cutoff has another one a horizon before it.
        assert not [cutoff for cutoff in cutoffs if cutoff <= cutoffs[-1] - timedelta(days=horizon)]
        return
    assert split.train
    assert split.test == tuple(cutoffs[-len(split.test) :])
    assert 1 <= len(split.test) <= TEST_CUTOFFS
    assert max(split.train) + timedelta(days=horizon) <= min(split.test)
    # Nothing that could be learned from is left out.
    assert set(cutoffs) - set(split.train) == {cutoff for cutoff in cutoffs if cutoff > split.test[0] - timedelta(days=horizon)}


def test_four_cutoffs_test_and_the_rest_trains():
    split = split_by_time([day(number) for number in range(90, 300, 30)], horizon=30)
    assert split.train == (day(90), day(120), day(150))
    assert split.test == (day(180), day(210), day(240), day(270))
    assert not split.provisional


def test_overlapping_windows_leave_cutoffs_out_between_training_and_test():
    split = split_by_time([day(number) for number in range(90, 390, 30)], horizon=90)
    assert (split.train[-1], split.test[0]) == (day(180), day(270))  # 210 and 240 would see into the test window


@pytest.mark.parametrize(("cutoffs", "trains", "tests"), [(6, 2, 4), (5, 2, 3), (4, 2, 2), (3, 2, 1), (2, 1, 1)])
def test_a_short_span_tests_on_fewer_cutoffs_and_says_provisional(cutoffs, trains, tests):
    split = split_by_time([day(30 * number) for number in range(cutoffs)], horizon=30)
    assert (len(split.train), len(split.test), split.provisional) == (trains, tests, tests < 4)


@pytest.mark.parametrize("cutoffs", [[], [day(90)], [day(90), day(119)]])
def test_a_span_without_a_gap_is_refused_with_the_next_step(cutoffs):
    with pytest.raises(NoUsableData, match=rf"{len(cutoffs)} cutoff\(s\) with a closed window of 30 days .* longer history"):
        split_by_time(cutoffs, horizon=30)


# --- windows that a short log can prove -------------------------------------------------------------------------------


def test_two_windows_of_a_year_and_some_history_prove_a_year():
    # Cutoffs are 30 days apart, so the last training cutoff is 390 days before the test cutoff, which is 365 before the end.
    assert longest_window(FIRST, day(90 + 390 + 365), 365) == 365
    assert longest_window(FIRST, day(90 + 390 + 364), 365) == 364


def test_a_log_of_a_year_proves_a_third_of_one():
    assert longest_window(FIRST, day(365), 365) == 125  # 90 days of history, 150 (five spacings) to the test cutoff, 125 after it
    assert longest_window(FIRST, day(1000), 90) == 90


def test_less_than_a_month_proves_nothing():
    assert longest_window(FIRST, day(150), 365) == SHORTEST_PROOF == 30
    with pytest.raises(NoUsableData, match="a closed window of 30 days"):
        longest_window(FIRST, day(149), 365)


@given(st.integers(150, 1200), horizons)
def test_the_longest_window_can_be_split_and_no_longer_one_can(span, horizon):
    days = longest_window(FIRST, day(span), max(horizon, 30))
    assert split_by_time(calendar(FIRST, day(span), days), days).test
    for longer in range(days + 1, max(horizon, 30) + 1):
        with pytest.raises(NoUsableData):
            split_by_time(calendar(FIRST, day(span), longer), longer)
