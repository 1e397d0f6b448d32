"""Lots: the same pairs of user and day on every run, evenly, and no more rows than wanted."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sampling import lots
from training.examples import MOST_PAIRS, Examples, share_of, thinned


@given(st.lists(st.text(max_size=8)), st.integers(0, 40_000))
def test_a_lot_depends_on_the_user_and_the_day_alone(users: list[str], day: int) -> None:
    drawn = lots(users, day)
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert drawn.tolist() == [lots([user], day)[0] for user in users]


def test_lots_are_even_and_differ_from_day_to_day() -> None:
    users = [f"user-{number}" for number in range(20_000)]
    first, second = lots(users, 17_000), lots(users, 17_001)
    for share in (0.01, 0.25, 0.5):
        assert abs((first < share).mean() - share) < 4 * np.sqrt(share * (1 - share) / len(users))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(users))


@pytest.mark.parametrize(("pairs", "share"), [(0, 1.0), (MOST_PAIRS, 1.0), (MOST_PAIRS + 1, 0.5), (5 * MOST_PAIRS, 0.125)])
def test_the_share_is_halved_until_few_enough_pairs_are_left(pairs: int, share: float) -> None:
    assert share_of(pairs) == share


def test_thinning_draws_the_same_rows_in_any_order() -> None:
    users = np.array([f"user-{number % 300}" for number in range(600)], object)
    as_of = np.array([date(2024, 1, 1)] * 300 + [date(2024, 2, 1)] * 300, object)
    rows = Examples(np.arange(600.0)[:, None], ("place",), np.zeros(600, np.int8), users, as_of)
    kept = thinned(rows, 250)
    assert len(kept) == 250
    assert min((kept.as_of == day).sum() for day in set(as_of)) > 80
    mixed = np.random.default_rng(0).permutation(600)
    again = thinned(Examples(rows.X[mixed], rows.names, rows.y, users[mixed], as_of[mixed]), 250)
    assert sorted(again.X[:, 0]) == sorted(kept.X[:, 0])
    assert thinned(rows, 600) is rows
