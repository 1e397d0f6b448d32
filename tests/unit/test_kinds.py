"""Which way is better: differences turned so that a gain is above 0 and a loss too."""

from __future__ import annotations

import pytest

from training.evaluate import Interval
from training.kinds import DATE, KINDS, PROBABILITY, RANK, VALUE, Kind

UP: Interval = {"value": 0.02, "low": -0.01, "high": 0.05}
DOWN: Interval = {"value": -0.02, "low": -0.05, "high": 0.01}


@pytest.mark.parametrize(("kind", "gain"), [(PROBABILITY, UP), (RANK, UP), (VALUE, UP), (DATE, DOWN)])
def test_more_of_a_ranking_and_less_of_an_error_is_a_gain(kind: Kind, gain: Interval) -> None:
    assert kind.gain({kind.main: UP}) == gain


@pytest.mark.parametrize(("kind", "loss"), [(PROBABILITY, UP), (RANK, DOWN), (VALUE, DOWN), (DATE, UP)])
def test_less_of_a_ranking_and_more_of_an_error_is_a_loss(kind: Kind, loss: Interval) -> None:
    assert kind.loss({kind.tolerance[0]: UP, "another": DOWN}) == loss


@pytest.mark.parametrize("kind", [PROBABILITY, RANK, VALUE, DATE])
def test_without_an_interval_there_is_none_after_turning(kind: Kind) -> None:
    alone: Interval = {"value": 0.25, "low": None, "high": None}
    for turned in (kind.gain({kind.main: alone}), kind.loss({kind.tolerance[0]: alone})):
        assert abs(turned["value"] or 0) == 0.25
        assert turned["low"] is turned["high"] is None


def test_turning_twice_is_not_turning() -> None:
    assert VALUE.loss({"gini": VALUE.loss({"gini": UP})}) == UP


def test_kinds_are_found_by_their_names_and_show_their_headlines() -> None:
    assert all(kind.name == name for name, kind in KINDS.items())
    assert all(set(kind.headline) <= set(kind.shown) and kind.main in kind.shown for kind in KINDS.values())
