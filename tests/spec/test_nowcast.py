"""Nowcast and season on models that say one number to everybody, so that every shift can be checked in the head."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.blend import Blend, Logistic
from training.bundle import Bundle
from training.examples import Examples
from training.nowcast import YEAR, Correction, corrections, nowcasted, shift_at, shift_to
from training.pack import reference_distribution

START = date(2024, 1, 1)


def says(chance: float) -> Bundle:
    """A model that gives everybody the same probability."""
    logistic = Logistic((0,), (0.0,), (0.0,), (1.0,), (0.0,), log(chance / (1 - chance)))
    return Bundle(("x",), Blend(logistic), {"task": "repeat_order", "calibrated": True}, {}, {})


def windows(rates: dict[int, float], users: int = 1000) -> Examples:
    """Days after START -> observed rate: the same users at every cutoff, the first so many of them positive."""
    cutoffs = [START + timedelta(days=day) for day in rates]
    y = np.concatenate([np.arange(users) < round(rate * users) for rate in rates.values()]).astype(np.int8)
    names = np.tile([f"u{number}" for number in range(users)], len(cutoffs)).astype(object)
    return Examples(np.zeros((len(y), 1)), ("x",), y, names, np.repeat(np.array(cutoffs, dtype=object), users))


def named(found: tuple[Correction, ...]) -> dict[str, Correction]:
    return {correction.name: correction for correction in found}


def test_a_window_of_one_half_where_one_fifth_was_said_asks_for_four_times_the_odds():
    assert exp(shift_to(0.5, np.full(3, 0.2))) == pytest.approx(4)
    assert exp(shift_at(says(0.2), windows({0: 0.5}), START)) == pytest.approx(4)


@given(st.floats(0.01, 0.99), st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20).map(np.array))
def test_after_the_shift_the_mean_probability_is_the_rate(rate, p):
    odds = p / (1 - p) * exp(shift_to(rate, p))
    assert (odds / (1 + odds)).mean() == pytest.approx(rate)


def test_each_cutoff_is_corrected_by_the_latest_window_that_is_over():
    train, test = windows({0: 0.2, 30: 0.2}), windows({60: 0.5, 90: 0.5, 120: 0.5})
    nowcast = named(corrections(says(0.2), train, test, 30))["nowcast"]
    told = list(nowcast.by_cutoff.values())
    assert [line["window"] for line in told] == ["2024-01-31", "2024-03-01", "2024-03-31"]  # 30, 60, 90 days in
    assert [line["before"] for line in told] == pytest.approx([-0.3] * 3)
    assert [line["after"] for line in told] == pytest.approx([-0.3, 1 / 3 - 0.5, 1 / 3 - 0.5], abs=0.001)  # odds 1/4 -> 1/2
    assert not nowcast.holds  # better, and still far off


def test_a_level_that_moved_for_good_is_followed_and_the_correction_holds():
    train, test = windows({0: 0.2, 30: 0.26}), windows({60: 0.23, 90: 0.23, 120: 0.23})
    nowcast = named(corrections(says(0.2), train, test, 30))["nowcast"]
    assert nowcast.before == pytest.approx(-0.03)
    assert nowcast.better == 3
    assert abs(nowcast.after) < 0.015
    assert nowcast.holds


@pytest.mark.parametrize("rates", [(0.23, 0.17, 0.15), (0.23, 0.23), (0.26, 0.26, 0.26)])
def test_it_does_not_hold_where_the_level_turns_on_two_cutoffs_or_where_too_much_is_left(rates):
    train = windows({0: 0.2, 30: 0.2})
    test = windows({60 + 30 * place: rate for place, rate in enumerate(rates)})
    assert not any(correction.holds for correction in corrections(says(0.2), train, test, 30))


def test_a_model_within_the_limit_is_left_alone():
    assert corrections(says(0.2), windows({0: 0.2, 30: 0.26}), windows({60: 0.21, 90: 0.21, 120: 0.21}), 30) == ()


@settings(max_examples=30, deadline=None)
@given(st.integers(7, 90), st.integers(7, 30), st.data())
def test_outcomes_that_are_not_over_at_a_cutoff_change_nothing_there(horizon, spacing, data):
    rates, days = st.floats(0.05, 0.6), [place * spacing for place in range(4)]
    first = -(-(days[-1] + horizon) // spacing) * spacing
    train = windows({day: data.draw(rates) for day in days}, 40)
    test = windows({first + day: data.draw(rates) for day in days}, 40)
    cutoff = data.draw(st.sampled_from(sorted(set(test.as_of))))
    over = np.array([day + timedelta(days=horizon) <= cutoff for day in test.as_of])
    other = replace(test, y=np.where(over, test.y, 0).astype(np.int8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.nowcast.RESAMPLES", 0)
        seen = [named(corrections(says(0.95), train, labels, horizon))["nowcast"] for labels in (test, other) if labels.y.any()]
    assert len({nowcast.scores[test.as_of == cutoff].tobytes() for nowcast in seen}) == 1
    for day, line in seen[0].by_cutoff.items():
        assert date.fromisoformat(line["window"]) + timedelta(days=horizon) <= date.fromisoformat(day)


# --- season ---------------------------------------------------------------------------------------------------------

LAST_YEAR, THIS_YEAR = {30: 0.4, 60: 0.4, 90: 0.4}, {394: 0.41, 424: 0.41, 454: 0.41}  # 364 days between them
BETWEEN = dict.fromkeys(range(120, 364, 30), 0.3)


def test_a_season_that_was_off_alike_a_year_earlier_explains_the_bias():
    found = named(corrections(says(0.3), windows(LAST_YEAR | BETWEEN, 500), windows(THIS_YEAR, 500), 30))
    season = found["season"]
    assert [date.fromisoformat(day) - date.fromisoformat(line["window"]) for day, line in season.by_cutoff.items()] == [YEAR] * 3
    assert (season.before, season.after) == pytest.approx((-0.11, -0.01), abs=0.001)
    assert season.holds
    assert not found["nowcast"].holds  # the season has begun: what ended before it says little


def test_an_ordinary_season_a_year_earlier_explains_nothing():
    usual = dict.fromkeys(LAST_YEAR, 0.3)
    assert not named(corrections(says(0.3), windows(usual | BETWEEN, 500), windows(THIS_YEAR, 500), 30))["season"].holds


def test_a_log_of_less_than_a_year_has_no_season():
    assert named(corrections(says(0.3), windows(BETWEEN, 500), windows(THIS_YEAR, 500), 30)).keys() == {"nowcast"}


# --- the model that is served ---------------------------------------------------------------------------------------


def test_the_served_model_carries_the_shift_of_its_latest_window():
    examples = windows({0: 0.2, 30: 0.5})
    plain = says(0.2)
    plain = replace(plain, reference=reference_distribution(plain, examples))
    moved = nowcasted(plain, examples)
    assert moved.scores(np.zeros((1, 1))) == pytest.approx([1 / 3], abs=0.001)  # odds 1/4 -> 1/2
    assert moved.contributions(np.zeros((1, 1))).sum() == pytest.approx(log(0.5), abs=0.003)
    assert moved.about["nowcast"] == {"shift": pytest.approx(log(2), abs=0.003), "window": "2024-01-31"}
    assert moved.reference["score"]["deciles"] == pytest.approx([1 / 3] * 11, abs=0.001)
    moved.check_golden_rows()


def test_a_window_without_a_positive_still_has_a_shift():
    assert exp(shift_at(says(0.5), windows({0: 0.0}, 9), START)) == pytest.approx(0.05 / 0.95)  # half a positive among ten
