"""Curves of waiting: days read off by a ruler, rows per step by hand, a planted hazard that is found, bands that count."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.blend import Matrix, Vector
from training.examples import Examples
from training.fit_waiting import fit_bands, fit_hazard, fit_returning
from training.hazard import Bands, Hazard, days_until, person_periods, window_of
from training.models import Recipe

NEVER = float("nan")
EDGES = (1, 2, 4, 7, 14)
RECIPE = Recipe(trees=400, seeds=1)
CHANCES = np.array([0.05, 0.15, 0.35])  # of an order in each step, by the first column


# --- reading a curve ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "day"), [(0.0, 0), (0.2, 2), (0.4, 4), (0.5, 5), (0.6, 7), (0.8, 13), (0.9, 16), (1.0, NEVER)])
def test_days_on_a_curve_of_two_steps_are_read_by_a_ruler(share: float, day: float) -> None:
    # from 1 to .5 in five days, on to .2 in nine, and to .1 in two
    assert days_until(np.array([[0.5, 0.2, 0.1]]), (5, 14, 16), share)[0] == pytest.approx(day + (share == 0.6) * 1 + (share == 0.8) * 1, nan_ok=True)


def test_a_curve_that_ends_exactly_at_a_quantile_reaches_it_on_the_last_day() -> None:
    curve = np.array([[0.9, 0.9], [0.9, 0.5], [0.5, 0.1], [0.91, 0.11]])
    window = window_of(curve, (5, 10))
    np.testing.assert_allclose(window["earliest_days"], [5, 5, 1, 5 + 5 * 0.01 / 0.8])
    np.testing.assert_allclose(window["median_days"], [NEVER, 10, 5, 5 + 5 * 0.41 / 0.8])
    np.testing.assert_allclose(window["latest_days"], [NEVER, NEVER, 10, NEVER])


def test_where_the_curve_is_flat_the_first_day_counts() -> None:
    assert days_until(np.array([[0.5, 0.5, 0.5, 0.0]]), (2, 4, 6, 8), 0.5)[0] == 2


def test_a_curve_that_falls_at_once_is_done_within_the_first_step() -> None:
    window = window_of(np.array([[0.0, 0.0]]), (1, 7))
    assert [window[name][0] for name in ("earliest_days", "median_days", "latest_days")] == pytest.approx([0.1, 0.5, 0.9])


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.floats(0.01, 0.99))
@settings(max_examples=200)
def test_on_the_day_found_the_curve_has_fallen_so_far_and_not_before(falls: list[float], share: float) -> None:
    curve = np.cumprod(1 - np.array(falls))
    (day,) = days_until(curve[None], EDGES, share)
    grid, whole = [0, *EDGES], [1.0, *curve]
    if np.isnan(day):
        assert curve[-1] > 1 - share - 1e-9
    else:
        assert np.interp(day, grid, whole) == pytest.approx(1 - share, abs=1e-9)
        assert np.interp(max(day - 0.01, 0), grid, whole) >= 1 - share - 1e-9


# --- rows per step --------------------------------------------------------------------------------------------------


def test_a_row_enters_every_step_until_its_order_came() -> None:
    rows, steps, came = person_periods(np.array([0.0, 3.0, NEVER]), (1, 2, 4, 9))
    assert list(zip(rows.tolist(), steps.tolist(), came.tolist(), strict=True)) == [
        (0, 0, 1),
        (1, 0, 0), (1, 1, 0), (1, 2, 1),
        (2, 0, 0), (2, 1, 0), (2, 2, 0), (2, 3, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("waited", "step"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (6, 3), (7, 4), (13, 4), (14, None)])
def test_the_day_of_an_edge_belongs_to_the_step_that_begins_there(waited: float, step: int | None) -> None:
    _, steps, came = person_periods(np.array([float(waited)]), EDGES)
    assert steps[came == 1].tolist() == ([] if step is None else [step])
    assert len(steps) == (len(EDGES) if step is None else step + 1)


# --- a planted hazard -----------------------------------------------------------------------------------------------


def shop(rows: int, seed: int) -> Examples:
    """In each step an order comes with the same probability, which the first column tells."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 3, rows)
    step = random.geometric(CHANCES[kind]) - 1
    starts = np.array([0, *EDGES[:-1]])
    days = starts[np.minimum(step, 4)] + np.floor(random.random(rows) * np.diff([0, *EDGES])[np.minimum(step, 4)])
    return examples_of(np.column_stack([kind, random.normal(size=rows)]), np.where(step < 5, days, NEVER))


def examples_of(X: Matrix, waited: Vector) -> Examples:
    users = np.array([f"u{number}" for number in range(len(X))], dtype=object)
    as_of = np.full(len(X), date(2024, 5, 1), dtype=object)
    return Examples(X, ("recency", "noise"), (~np.isnan(waited)).astype(np.int8), users, as_of, amount=waited, edges=EDGES)


@pytest.fixture(scope="module")
def fitted() -> Hazard:
    return fit_hazard(shop(6_000, seed=1), RECIPE)


def test_a_planted_hazard_is_found_in_every_step(fitted: Hazard) -> None:
    curve = fitted.waiting(np.array([[0.0, 0], [1, 0], [2, 0]]))
    np.testing.assert_allclose(curve, (1 - CHANCES[:, None]) ** np.arange(1, 6), atol=0.04)


def test_probabilities_hold_in_each_third_of_other_people(fitted: Hazard) -> None:
    test = shop(6_000, seed=2)
    told, came = fitted.scores(test.X), np.nan_to_num(np.asarray(test.amount), nan=99) < fitted.within
    for third in np.array_split(np.argsort(told, kind="stable"), 3):
        assert told[third].mean() == pytest.approx(came[third].mean(), abs=0.035)  # standard error .011


def test_the_score_is_about_the_edge_nearest_to_half_of_the_horizon(fitted: Hazard) -> None:
    rows = shop(50, seed=3).X
    assert fitted.within == 7
    np.testing.assert_array_equal(fitted.scores(rows), 1 - fitted.waiting(rows)[:, 3])


def test_a_curve_only_falls_and_stays_between_1_and_0(fitted: Hazard) -> None:
    curve = fitted.waiting(np.array([[0.0, -9], [2, 9], [np.nan, np.nan]]))
    assert ((np.diff(curve, axis=1, prepend=1) < 0) & (curve > 0)).all()


def test_the_shares_are_those_of_the_mean_log_odds_of_the_steps(fitted: Hazard) -> None:
    rows = shop(100, seed=4).X
    curve = np.column_stack([np.ones(100), fitted.waiting(rows)])[:, :5]  # four steps end by day 7
    chance = 1 - curve[:, 1:] / curve[:, :-1]
    np.testing.assert_allclose(fitted.contributions(rows).sum(axis=1), np.log(chance / (1 - chance)).mean(axis=1), atol=1e-9)
    shares = np.abs(fitted.contributions(rows)).mean(axis=0)
    assert shares.shape == (3,)
    assert shares[0] > 5 * shares[1]  # what was planted counts, noise does not


def test_a_small_shop_gets_stumps() -> None:
    hazard = fit_hazard(shop(400, seed=5), Recipe(trees=0))
    assert len(hazard.texts) == 1
    scores = hazard.scores(np.array([[0.0, 0], [1, 0], [2, 0]]))
    assert (np.diff(scores) > 0.08).all()  # shy with 400 people, but in the right order and right in the middle
    assert scores[1] == pytest.approx(1 - (1 - CHANCES[1]) ** 4, abs=0.1)


def test_the_same_rows_give_the_same_model() -> None:
    examples, recipe = shop(300, seed=6), Recipe(trees=10, seeds=2)
    assert fit_hazard(examples, recipe) == fit_hazard(examples, recipe)


# --- bands ----------------------------------------------------------------------------------------------------------


def test_a_band_is_a_count_of_who_still_waits() -> None:
    random = np.random.default_rng(7)
    values, waited = random.permutation(np.arange(1.0, 101)), random.choice([0, 1, 3, 5, 9, NEVER], 100)
    bands = fit_bands(examples_of(np.column_stack([values, values]), waited), "recency")
    for row, value in enumerate(values):
        band = [day for other, day in zip(values, waited, strict=True) if (other - 1) // 10 == (value - 1) // 10]
        oracle = [sum(not day < edge for day in band) / 10 for edge in EDGES]  # who never came (NaN) is not before any day
        np.testing.assert_allclose(bands.waiting(np.array([[values[row]]]))[0], oracle)


def test_a_missing_value_is_in_the_last_band_and_the_last_band_alone() -> None:
    values = np.array([1.0, 1, 1, 1, NEVER, NEVER])
    bands = fit_bands(examples_of(np.column_stack([values, values]), np.array([0.0, 0, 0, NEVER, NEVER, 9])), "recency")
    assert bands.limits == (1.0,)
    np.testing.assert_allclose(bands.waiting(np.array([[1.0], [NEVER], [50]])), [[0.25] * 5, [1, 1, 1, 1, 0.5], [1, 1, 1, 1, 0.5]])
    np.testing.assert_allclose(bands.scores(np.array([[1.0], [NEVER]])), [0.75, 0])


def test_a_column_of_one_value_or_of_none_is_everybody() -> None:
    waited = np.array([0.0, 3, NEVER, NEVER])
    for values in (np.full(4, 5.0), np.full(4, NEVER)):
        bands = fit_bands(examples_of(np.column_stack([values, values]), waited), "recency")
        np.testing.assert_allclose(bands.waiting(np.array([[values[0]], [99]])), [[0.75, 0.75, 0.5, 0.5, 0.5]] * 2)


def test_bands_hold_their_upper_limit_and_count_against_the_first() -> None:
    bands = Bands((10.0, 20.0), ((0.5, 0.2), (0.8, 0.6), (1.0, 0.9)), (7, 14), 7)
    rows = np.array([[-5.0], [10], [10.1], [20], [21], [NEVER]])
    np.testing.assert_allclose(bands.scores(rows), [0.5, 0.5, 0.2, 0.2, 0, 0])
    np.testing.assert_allclose(bands.contributions(rows), [[0, 0.5], [0, 0.5], [-0.3, 0.5], [-0.3, 0.5], [-0.5, 0.5], [-0.5, 0.5]], atol=1e-12)
    np.testing.assert_allclose(bands.details(rows)["median_days"], [7, 7, NEVER, NEVER, NEVER, NEVER])


def test_bgnbd_by_itself_needs_nothing_but_the_buyers() -> None:
    random = np.random.default_rng(8)
    tenure = random.integers(100, 400, 300).astype(float)
    since = np.minimum(random.integers(1, 100, 300), tenure - 1)
    buyers = np.column_stack([since, tenure, np.where(random.random(300) < 0.4, NEVER, (tenure - since) / random.integers(1, 8, 300))])
    buyers[np.isnan(buyers[:, 2]), 0] = buyers[np.isnan(buyers[:, 2]), 1]  # who ordered once did so on the first day
    returning = fit_returning(buyers, shop(20, seed=9))
    assert (returning.edges, returning.within) == (EDGES, 7)
    assert returning.usual == tuple(np.median(np.nan_to_num(buyers), axis=0))
    assert returning == fit_returning(buyers[::-1], shop(20, seed=10))  # in whatever order the buyers come
