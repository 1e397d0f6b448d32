"""Amounts: two factors that multiply, shares that add up, a planted truth that is found, and a rule of thumb in the head."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from training.blend import Blend, Logistic, Matrix, Vector
from training.evaluate import Floats
from training.evaluate_value import evaluate_value
from training.examples import Examples
from training.fit_value import at_level, fit_rate, fit_value
from training.models import Recipe
from training.value import Rate, Value

NAMES = ("interest", "price", "noise")
RECIPE = Recipe(trees=200, seeds=1, folds=2)
EARLY, LAST = date(2024, 1, 1), date(2024, 2, 1)


def shop(rows: int, seed: int) -> tuple[Examples, Vector]:
    """One column makes people buy, another says for how much; and the cents that are to be expected of each."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 3))
    chance, mean = 1 / (1 + np.exp(0.5 - X[:, 0])), np.exp(8 + 0.7 * X[:, 1])
    amount = np.where(random.random(rows) < chance, np.rint(1 + mean * random.gamma(3, 1 / 3, rows)), 0.0)
    return examples_of(X, amount), chance * mean


def examples_of(X: Matrix, amount: Vector, names: tuple[str, ...] = NAMES) -> Examples:
    """The first half of the rows at an early cutoff, the others at the last one."""
    users = np.array([f"u{number}" for number in range(len(X))], dtype=object)
    as_of = np.where(np.arange(len(X)) < len(X) // 2, np.array(EARLY), np.array(LAST)).astype(object)
    return Examples(X, names, (amount > 0).astype(np.int8), users, as_of, amount=amount)


@pytest.fixture(scope="module")
def fitted() -> Value:
    return fit_value(shop(6_000, seed=1)[0], RECIPE)


# --- a planted truth ------------------------------------------------------------------------------------------------


def gini(y: Floats, p: Floats) -> float:
    value = evaluate_value(y, p, np.arange(len(y)), seed=0, resamples=1)["gini"]["value"]
    assert value is not None
    return value


def test_a_planted_expectation_is_found_in_order_and_in_sum(fitted: Value) -> None:
    test, expected = shop(6_000, seed=2)
    told = fitted.scores(test.X)
    assert gini(expected, told) > 0.97  # the order of the expectations themselves
    assert gini(np.asarray(test.amount), told) > 0.95 * gini(np.asarray(test.amount), expected)
    assert told.sum() / expected.sum() == pytest.approx(1, abs=0.06)
    for fifth in np.array_split(np.argsort(told), 5):
        assert told[fifth].sum() / expected[fifth].sum() == pytest.approx(1, abs=0.1)


def test_each_factor_is_found_by_itself(fitted: Value) -> None:
    X = np.array([[-2.0, 0, 0], [2, 0, 0], [0, -1.5, 0], [0, 1.5, 0]])
    chance, amount = fitted.details(X).values()
    assert chance[1] > 3 * chance[0]
    assert amount[1] == pytest.approx(amount[0], rel=0.2)
    assert amount[3] > 4 * amount[2]
    assert chance[3] == pytest.approx(chance[2], rel=0.2)


def test_the_sum_is_that_of_the_last_cutoff_and_not_of_the_others() -> None:
    examples, _ = shop(2_000, seed=3)
    amount = np.asarray(examples.amount) * np.where(examples.as_of == LAST, 1.0, 3.0)  # prices fell to a third
    value = fit_value(examples_of(examples.X, amount), Recipe(trees=20, seeds=1, folds=2))
    last = examples.as_of == LAST
    assert value.scores(examples.X[last]).sum() == pytest.approx(amount[last].sum())


def test_a_last_cutoff_at_which_nobody_spent_does_not_make_everybody_worthless() -> None:
    examples, _ = shop(200, seed=4)
    nothing = np.where(examples.as_of == LAST, 0.0, np.asarray(examples.amount))
    assert at_level(simple(), examples_of(examples.X[:, :2], nothing), examples.X[:, :2]).level == simple().level


def test_scaling_a_scaled_model_starts_from_what_it_says_now() -> None:
    examples, _ = shop(200, seed=9)
    once = at_level(simple(level=5.0), examples, examples.X[:, :2])
    last = examples.as_of == LAST
    assert once.scores(examples.X[last][:, :2]).sum() == pytest.approx(np.asarray(examples.amount)[last].sum())


def test_a_small_shop_gets_stumps_that_rank_and_add_up() -> None:
    examples, _ = shop(400, seed=5)
    value, (test, expected) = fit_value(examples, Recipe(trees=0)), shop(3_000, seed=6)
    assert len(value.texts) == 1  # a logistic has no trees, the amounts have one model
    assert gini(expected, value.scores(test.X)) > 0.7
    assert value.scores(test.X).sum() / expected.sum() == pytest.approx(1, abs=0.3)


def test_the_same_rows_give_the_same_model() -> None:
    examples, _ = shop(600, seed=7)
    recipe = Recipe(trees=10, seeds=2, folds=2)
    assert fit_value(examples, recipe) == fit_value(examples, recipe)


def test_examples_without_amounts_are_refused() -> None:
    examples, _ = shop(10, seed=8)
    with pytest.raises(TypeError, match="amounts"):
        fit_value(Examples(examples.X, examples.names, examples.y, examples.users, examples.as_of), RECIPE)


# --- arithmetic -----------------------------------------------------------------------------------------------------


def simple(coef: tuple[float, float] = (1.0, -1.0), intercept: float = 0.0, level: float = 2.0) -> Value:
    """A chance that is a line of two columns within -4 and 4 (on the scale of logarithms), and the same amount for everybody."""
    logistic = Logistic(columns=(0, 1), median=(0.0, 0.0), mean=(0.0, 0.0), scale=(1.0, 1.0), coef=coef, intercept=intercept)
    return Value(Blend(logistic), AMOUNTS, level)


def _amounts() -> tuple[str, ...]:
    import lightgbm as lgb

    rows = np.zeros((40, 2))
    settings = {"objective": "gamma", "verbosity": -1, "num_threads": 1}
    return (lgb.train(settings, lgb.Dataset(rows, label=np.full(40, 500.0)), num_boost_round=1).model_to_string(),)


AMOUNTS = _amounts()
UP = np.e - 1  # a column with this value counts 1


def test_the_expectation_is_the_chance_times_the_amount_times_the_level() -> None:
    value = simple()
    rows = np.array([[0, 0], [UP, 0], [0, UP], [np.nan, np.nan]])
    chance = 1 / (1 + np.exp(-np.array([0, 1, -1, 0])))
    np.testing.assert_allclose(value.details(rows)["probability"], chance)
    np.testing.assert_allclose(value.details(rows)["cents_if_any"], 1_000)  # 500 cents for everybody, twice that to meet the sum
    np.testing.assert_allclose(value.scores(rows), 1_000 * chance)


def test_the_shares_of_one_moved_column_are_the_logarithm_of_the_factor() -> None:
    shares = simple().contributions(np.array([[UP, 0.0]]))
    half, moved = 0.5, 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(shares, [[np.log(moved / half), 0, np.log(500 * half) + np.log(2)]], atol=1e-12)


def test_columns_that_cancel_keep_their_shares() -> None:
    up, down, start = simple().contributions(np.array([[UP, UP]]))[0]
    assert (up, down) == pytest.approx((0.5, -0.5))  # the slope of log(chance) at one half is one half
    assert start == pytest.approx(np.log(500))
    near = simple().contributions(np.array([[UP + 1e-6, UP]]))[0]
    np.testing.assert_allclose(near, [up, down, start], atol=1e-5)


def test_a_chance_near_none_and_near_all_still_adds_up() -> None:
    value = simple(coef=(10.0, 10.0), intercept=1.0)
    rows = np.array([[1e9, 1e9], [-1e9, -1e9], [np.nan, 1e9], [-1e9, 1e9]])
    np.testing.assert_allclose(value.contributions(rows).sum(axis=1), np.log(value.scores(rows)), atol=1e-9)


# --- the rule of thumb ----------------------------------------------------------------------------------------------


def test_as_much_as_in_the_past_meets_the_sum_of_the_last_cutoff() -> None:
    past, amount = np.array([[500.0], [np.nan], [100], [300], [0], [np.nan]]), np.array([900.0, 0, 7, 210, 12, 0])
    rate = fit_rate(examples_of(past, amount, ("past",)), "past")
    # Who spent nothing in the past spent 12 in 3 rows: 4 each. The last three rows brought 222, of which 3 x 4 is given;
    # the other 210 are for 300 of the past.
    assert (rate.least, rate.factor) == pytest.approx((4, 0.7))
    np.testing.assert_allclose(rate.scores(past[3:]), [214, 4, 4])


def test_as_much_as_in_the_past_knows_when_there_is_no_past() -> None:
    rate = fit_rate(examples_of(np.zeros((4, 1)), np.array([0.0, 0, 0, 8]), ("past",)), "past")
    assert rate == Rate(0.0, 2.0)
    idle = fit_rate(examples_of(np.full((4, 1), 50.0), np.array([100.0, 100, 0, 0]), ("past",)), "past")
    assert idle == Rate(0.0, 1.0)  # never less than a cent, so that there is a logarithm


def test_a_rate_has_nothing_below_its_least_and_shares_that_add_up() -> None:
    rate, rows = Rate(0.5, 2.0), np.array([[100.0], [0], [np.nan], [-30]])
    np.testing.assert_allclose(rate.scores(rows), [52, 2, 2, 2])
    np.testing.assert_allclose(rate.contributions(rows), [[np.log(26), np.log(2)], [0, np.log(2)], [0, np.log(2)], [0, np.log(2)]], atol=1e-12)
    assert rate.details(rows) == {}
