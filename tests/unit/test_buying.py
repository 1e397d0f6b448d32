"""BG/NBD in a bundle: histories from three columns, probabilities that are its own, and Shapley's axioms."""

from __future__ import annotations

from datetime import date
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.blend import Matrix, Vector
from training.btyd import BgNbd, GammaGamma
from training.buying import LEAST, Buying, Returning, Worth, history_of, shapley
from training.examples import Examples
from training.fit_value import fit_worth

NEVER = float("nan")
BGNBD, GAMMA_GAMMA = BgNbd(r=0.5, alpha=20.0, a=0.8, b=2.5), GammaGamma(p=6.25, q=3.74, v=1_544.0)
USUAL = (40.0, 200.0, 30.0)
BUYING = Buying(BGNBD, 30, (1.2, -0.3), USUAL)
RETURNING = Returning(BGNBD, (7, 14, 30), 14, USUAL)
WORTH = Worth(BGNBD, GAMMA_GAMMA, 90, 1.1, (*USUAL, 2_500.0))


def customers(count: int, seed: int = 0) -> Matrix:
    """Rows x HISTORY and a mean order value: some ordered once, some never, as features have them."""
    random = np.random.default_rng(seed)
    tenure = random.integers(1, 700, count).astype(float)
    since = np.ceil(random.random(count) * tenure)
    gap = np.where(since < tenure, (tenure - since) / random.integers(1, 9, count), NEVER)
    rows = np.column_stack([since, tenure, gap, random.gamma(3, 900, count)])
    rows[random.random(count) < 0.1] = NEVER
    return rows


# --- histories ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "history"),
    [
        ((1, 1, NEVER), (0, 0, 0)),
        ((10, 10, NEVER), (0, 0, 9)),
        ((NEVER, NEVER, NEVER), (0, 0, 0)),
        ((10, 30, 20), (1, 20, 29)),
        ((1, 31, 10), (3, 30, 30)),
        ((10, 30, NEVER), (0, 0, 29)),
        ((NEVER, 30, 5), (1, 0, 29)),
        ((50, 30, NEVER), (0, 0, 29)),
        ((10, 30, 0), (0, 0, 29)),
    ],
    ids=[
        "one order, yesterday", "one order", "never ordered", "two orders", "four orders, the last one yesterday", "a gap is missing",
        "the last order is missing, which only explanations ask about", "the last before the first", "no gap",
    ],
)  # fmt: skip
def test_a_history_is_three_numbers(row: tuple[float, ...], history: tuple[float, ...]) -> None:
    assert tuple(float(part[0]) for part in history_of(np.array([row], dtype=float))) == history


@given(st.lists(st.integers(0, 99), min_size=1, max_size=12))
@settings(max_examples=50)
def test_a_history_from_features_is_that_from_the_order_days(days: list[int]) -> None:
    ordered = sorted(set(days))
    gap = np.mean(np.diff(ordered)) if len(ordered) > 1 else NEVER
    x, tx, T = history_of(np.array([[100 - ordered[-1], 100 - ordered[0], gap]]))
    assert (x[0], tx[0], T[0]) == (len(ordered) - 1, ordered[-1] - ordered[0], 99 - ordered[0])


# --- what it says ---------------------------------------------------------------------------------------------------


def test_without_a_line_the_probability_is_that_of_bgnbd() -> None:
    rows = customers(300)[:, :3]
    plain = Buying(BGNBD, 30, (1.0, 0.0), USUAL)
    np.testing.assert_allclose(plain.scores(rows), BGNBD.p_order(*history_of(rows), 30), atol=1e-8)


def test_a_negative_line_asks_who_stays_away() -> None:
    rows = customers(300)[:, :3]
    away = Buying(BGNBD, 30, (-1.0, 0.0), USUAL)
    np.testing.assert_allclose(away.scores(rows), 1 - Buying(BGNBD, 30, (1.0, 0.0), USUAL).scores(rows), atol=1e-12)
    np.testing.assert_allclose(away.contributions(rows), -Buying(BGNBD, 30, (1.0, 0.0), USUAL).contributions(rows), atol=1e-12)


def test_who_ordered_once_is_alive_so_only_the_rate_decides() -> None:
    row = np.array([[10.0, 10.0, NEVER]])
    rate = 1 - (20 / (20 + 0)) ** 0 * ((20 + 9) / (20 + 9 + 14)) ** 0.5  # (alpha + T) / (alpha + T + h) to the power of r
    assert RETURNING.scores(row)[0] == pytest.approx(rate)


def test_waiting_falls_and_the_score_is_its_edge() -> None:
    rows = customers(300, seed=1)[:, :3]
    curve = RETURNING.waiting(rows)
    assert (np.diff(curve, axis=1, prepend=1) < 0).all()
    np.testing.assert_allclose(1 - curve[:, 1], RETURNING.scores(rows), atol=1e-12)
    assert RETURNING.details(rows).keys() == {"earliest_days", "median_days", "latest_days"}


def test_worth_is_orders_times_value_and_the_level_scales_both_the_same() -> None:
    rows = customers(300, seed=2)
    orders, each = WORTH.details(rows).values()
    np.testing.assert_allclose(WORTH.scores(rows), np.maximum(orders * each, LEAST))
    np.testing.assert_allclose(WORTH.scores(rows), 1.1 * Worth(BGNBD, GAMMA_GAMMA, 90, 1.0, WORTH.usual).scores(rows))
    np.testing.assert_array_equal(orders, BGNBD.expected_orders(*history_of(rows[:, :3]), 90))


def test_who_pays_more_is_worth_more_and_who_never_paid_is_worth_the_usual() -> None:
    rows = np.array([[10.0, 100, 30, 1_000], [10, 100, 30, 9_000], [10, 100, 30, NEVER], [10, 100, 30, 2_500]])
    small, large, unknown, usual = WORTH.scores(rows)
    assert small < usual < large
    assert unknown == usual


def test_a_fitted_worth_meets_the_sum_of_the_last_cutoff() -> None:
    rows = customers(800, seed=3)
    rows = rows[~np.isnan(rows[:, 0])]
    as_of = np.where(np.arange(len(rows)) % 2 == 0, np.array(date(2024, 1, 1)), np.array(date(2024, 2, 1))).astype(object)
    amount = np.random.default_rng(4).gamma(0.3, 8_000, len(rows))
    names = ("since", "tenure", "gap", "value")
    examples = Examples(rows, names, (amount > 0).astype(np.int8), np.arange(len(rows)).astype(object), as_of, amount=amount)
    worth = fit_worth(rows, 90, examples, names)
    last = as_of == date(2024, 2, 1)
    assert worth.scores(rows[last]).sum() == pytest.approx(amount[last].sum())
    assert worth.horizon == 90


# --- shares ---------------------------------------------------------------------------------------------------------


def by_permutations(worth: object, row: Vector, usual: Vector) -> list[float]:
    """The mean, over all orders in which the features can be told, of what each adds."""
    shares, orders = np.zeros(len(usual)), list(permutations(range(len(usual))))
    for order in orders:
        told = usual.copy()
        for feature in order:
            before = worth(told[None])[0]  # type: ignore[operator]
            told[feature] = row[feature]
            shares[feature] += worth(told[None])[0] - before  # type: ignore[operator]
    return [*(shares / len(orders)), worth(usual[None])[0]]  # type: ignore[operator]


def test_a_product_is_shared_by_halves() -> None:
    np.testing.assert_allclose(shapley(lambda rows: rows[:, 0] * rows[:, 1], np.array([[6.0, 5.0]]), (0.0, 0.0)), [[15, 15, 0]])


def test_a_sum_is_shared_as_it_is_written() -> None:
    shares = shapley(lambda rows: 2 * rows[:, 0] - rows[:, 1] + 7, np.array([[3.0, 1.0], [1.0, 1.0]]), (1.0, 1.0))
    np.testing.assert_allclose(shares, [[4, 0, 8], [0, 0, 8]])


@given(st.lists(st.floats(-3, 3), min_size=8, max_size=8))
@settings(max_examples=60)
def test_shares_add_up_are_alike_for_likes_and_nothing_for_who_adds_nothing(numbers: list[float]) -> None:
    rows, usual = np.array([numbers[:4], [numbers[0], numbers[0], *numbers[2:4]]]), np.array([numbers[4], numbers[4], numbers[5], numbers[6]])

    def worth(mixed: Matrix) -> Vector:
        return np.asarray(np.exp(mixed[:, 0] + mixed[:, 1]) - (mixed[:, 0] + mixed[:, 1]) * mixed[:, 2])  # symmetric in two, blind to the last

    shares = shapley(worth, rows, tuple(usual))
    np.testing.assert_allclose(shares.sum(axis=1), worth(rows), atol=1e-9)
    assert shares[1, 0] == pytest.approx(shares[1, 1], abs=1e-9)
    assert (shares[:, 3] == 0).all()
    np.testing.assert_allclose(shares[0], by_permutations(worth, rows[0], usual), atol=1e-9)


def test_the_shares_of_a_customer_are_the_mean_over_all_orders_of_telling() -> None:
    for row in customers(2, seed=5):
        oracle = by_permutations(lambda mixed: np.log(WORTH.scores(mixed)), row, np.array(WORTH.usual))
        np.testing.assert_allclose(WORTH.contributions(row[None])[0], oracle, atol=1e-9)


def test_the_usual_customer_is_explained_by_nothing() -> None:
    for model in (BUYING, RETURNING, WORTH):
        np.testing.assert_allclose(model.contributions(np.array([model.usual]))[0, :-1], 0, atol=1e-12)
