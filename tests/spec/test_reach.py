"""The dials of a look-alike audience, and what a refresh changes."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import NoUsableData, UnknownName
from features.workspace import open_workspace
from training.lookalike.expand import Ranking
from training.lookalike.keep import make_audience
from training.lookalike.reach import Dial, ranked, reach_curve, refreshed, similarity

TEN = tuple("abcdefghij")  # most alike first


def test_similarity_is_the_share_of_the_seed_that_is_at_most_so_alike():
    assert list(similarity(np.array([0.0, 2.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]))) == [0, 50, 50, 100]


def test_three_dials_choose_by_number_by_share_and_by_likeness():
    alike = np.array([90.0, 80, 70, 40, 10])
    assert (Dial(size=2).of(alike), Dial(top_percent=60).of(alike), Dial(similarity=70).of(alike)) == (2, 3, 3)


@pytest.mark.parametrize("dial", [Dial(size=6), Dial(size=0), Dial(top_percent=1), Dial(similarity=95)])
def test_an_audience_that_cannot_be_made_is_said(dial):
    with pytest.raises(NoUsableData, match="cannot be made"):
        dial.of(np.array([90.0, 80, 70, 40, 10]))


def test_the_curve_shows_the_dials_beside_each_other():
    curve = reach_curve(np.arange(1000.0), np.array([899.5, 949.5, 989.5, 994.5]))
    at = {point["top_percent"]: point for point in curve}
    assert (at[1]["size"], at[1]["similarity"]) == (10, 75)  # the tenth best scores 990, more than three of the four
    assert (at[10]["size"], at[10]["similarity"]) == (100, 25)
    assert at[100]["size"] == 1000


def test_equal_scores_stand_in_the_order_of_ids():
    assert ranked(np.array(["b", "c", "a"], dtype=object), np.array([1.0, 2.0, 1.0])) == ("c", "a", "b")


def test_the_first_time_the_best_are_taken():
    made = refreshed(TEN, 3)
    assert (made.users, made.entries, made.exits) == (("a", "b", "c"), ("a", "b", "c"), ())


def test_a_member_just_behind_the_last_place_stays():
    users = tuple(f"{number:02d}" for number in range(30))
    before = (*users[:19], users[21])  # the last of twenty is now the twenty-second, within a tenth
    made = refreshed(users, 20, before)
    assert (set(made.users), made.entries, made.exits) == (set(before), (), ())


def test_a_member_far_behind_goes_and_the_best_takes_the_place():
    users = tuple(f"{number:02d}" for number in range(30))
    made = refreshed(users, 20, (*users[:19], users[25]))
    assert (made.users, made.entries, made.exits) == (users[:20], ("19",), ("25",))


@given(st.permutations(TEN), st.integers(1, 10), st.sets(st.sampled_from([*TEN, "gone"])))
def test_the_size_is_locked_and_entries_and_exits_explain_the_change(best_first, size, before):
    made = refreshed(best_first, size, before)
    assert len(made.users) == size == len(set(made.users))
    assert set(made.users) == set(before) - set(made.exits) | set(made.entries)
    assert not set(made.entries) & before
    assert list(made.users) == sorted(made.users, key=best_first.index)


class Passes(tuple[str, ...]):
    """Counts how often it is gone through."""

    count = 0

    def __iter__(self):
        Passes.count += 1
        return super().__iter__()


def test_the_members_of_before_are_gone_through_once_and_not_for_each_member():
    made = refreshed(TEN, 8, Passes(TEN[:8]))
    assert (made.entries, made.exits, Passes.count) == ((), (), 1)


def test_no_audience_is_left_of_a_seed_that_was_deleted_meanwhile(tmp_path):
    ranking = Ranking(date(2024, 3, 1), np.array(["a", "b"], dtype=object), np.array([1.0, 2.0]), np.array([10.0, 20.0]), [])
    with pytest.raises(UnknownName):
        make_audience(open_workspace(tmp_path, {}), "gone", ranking, Dial(size=1), np.arange(3.0))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".parquet")]
