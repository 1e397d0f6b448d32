"""Parts of the users: the bands at their edges, and which parts are large enough to judge apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.slices import LEAST, MOST_VALUES, measurable, slices_of


@pytest.mark.parametrize(
    ("days", "band"),
    [
        (1, "1 to 7"), (7, "1 to 7"), (8, "8 to 30"), (30, "8 to 30"), (31, "31 to 90"), (90, "31 to 90"), (91, "91 to 180"),
        (180, "91 to 180"), (181, "181 to 365"), (365, "181 to 365"), (366, "over 365"), (9_999, "over 365"), (np.nan, "never"),
    ],
)  # fmt: skip
def test_a_band_holds_its_upper_edge(days: float, band: str) -> None:
    found = slices_of(pd.DataFrame({"orders_recency": [3.0, days], "orders_tenure": [400.0, days], "activity_recency": [days, np.nan]}))
    assert {name: list(values) for name, values in found.items()} == {
        "days since the last order": ["1 to 7", band],
        "days since the first order": ["over 365", band],
        "days since the last visit": [band, "never"],
    }


def test_a_label_is_taken_as_it_is_and_none_is_a_word_too() -> None:
    found = slices_of(pd.DataFrame({"stage": pd.Categorical(["first", None]), "layers_layer": ["new", None], "other": [1, 2]}))
    assert {name: list(values) for name, values in found.items()} == {"stage": ["first", "none"], "layer": ["new", "none"]}


def test_a_snapshot_without_any_of_it_has_no_slices() -> None:
    assert slices_of(pd.DataFrame({"orders_count": [1, 2]})) == {}


def part(name: str, positives: int, negatives: int) -> tuple[list[str], list[int]]:
    return [name] * (positives + negatives), [1] * positives + [0] * negatives


def of_parts(*parts: tuple[list[str], list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(sum((names for names, _ in parts), []), dtype=object), np.array(sum((y for _, y in parts), []), dtype=np.int8)


def test_a_part_needs_thirty_of_both_outcomes() -> None:
    values, y = of_parts(part("enough", LEAST, LEAST), part("few came", LEAST - 1, 500), part("few stayed away", 500, LEAST - 1))
    found = measurable(values, y)
    assert list(found) == ["enough"]
    assert found["enough"].tolist() == (values == "enough").tolist()


def test_one_value_for_everybody_is_no_slice() -> None:
    assert measurable(*of_parts(part("all", 500, 500))) == {}


def test_the_most_frequent_values_are_kept_and_equal_ones_by_their_name() -> None:
    parts = [part(name, 40, 40) for name in "jihgfedcb"] + [part("z", 41, 40)]
    assert list(measurable(*of_parts(*parts))) == ["z", *"bcdefgh"]
    assert len(measurable(*of_parts(*parts))) == MOST_VALUES


def test_more_than_127_of_an_outcome_are_counted_in_full() -> None:
    assert list(measurable(*of_parts(part("many", 200, 300), part("more", 300, 256)))) == ["more", "many"]  # labels are of 8 bits
