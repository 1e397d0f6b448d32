"""Whom each prediction is about, as data: the same people as the sentence says, in a table and one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.conditions import features_in, holds, of_values
from features.errors import UnknownName
from training.eligible import Eligible, eligible
from training.task import AskedTask
from training.tasks import TASKS

COLUMNS = ("orders_count", "orders_recency", "activity_recency", "membership_tier", "discounts_redemption_recency")
BUYERS = ("coupon_response", "discount_affinity", "next_order", "value", "value_365")
# What each task said in plain pandas; window is the definition window in days.
SAID = {
    "first_order": lambda users, window: (users["orders_count"] == 0) & (users["activity_recency"] <= 90),
    "second_order": lambda users, window: (users["orders_count"] == 1) & (users["orders_recency"] <= 180),
    "repeat_order": lambda users, window: (users["orders_count"] >= 2) & (users["orders_recency"] <= 365),
    "churn": lambda users, window: users["orders_recency"] <= window,
    "reactivation": lambda users, window: users["orders_recency"] > window,
    "tier_upgrade": lambda users, window: users["membership_tier"].notna() & (users["membership_tier"] < users["membership_tier"].max()),
    "uplift": lambda users, window: users["activity_recency"].notna() | users["orders_recency"].notna(),
    "lookalike": lambda users, window: (users["orders_recency"] <= 90) & users["discounts_redemption_recency"].isna(),
    **{name: lambda users, window: users["orders_recency"] <= 365 for name in BUYERS},
}
NUMBERS = st.one_of(st.just(np.nan), st.sampled_from([0.0, 1.0, 2.0, 3.0, 89.0, 90.0, 91.0, 180.0, 181.0, 365.0, 366.0]))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(*[NUMBERS] * len(COLUMNS)), max_size=12), window=st.sampled_from([1, 90, 200]))
def test_each_task_asks_whom_its_sentence_means_of_everybody_and_of_each_alone(rows, window):
    users = pd.DataFrame(rows, columns=COLUMNS, dtype=np.float64)
    assert set(SAID) == set(TASKS)
    for name, said in SAID.items():
        asked = AskedTask(TASKS[name], 30, window)
        expected = said(users, window).to_numpy(bool)
        assert asked.eligible(users).tolist() == expected.tolist(), name
        condition = asked.condition(users)
        alone = [bool(holds(condition, lambda leaf, row=row: of_values(leaf, np.float64(row[COLUMNS.index(leaf["feature"])])))) for row in rows]
        assert alone == expected.tolist(), name


def test_a_condition_says_what_it_looks_at_and_everybody_is_a_condition_too():
    users = pd.DataFrame({"orders_count": [0.0, 2.0], "layer": ["visitor", None]})
    rule = eligible({"feature": "orders_count", "at_least": 1}, exclude=({"any": [{"feature": "a", "known": True}, {"feature": "orders_count", "is": 7}]},))
    assert features_in(rule.condition) == ("orders_count", "a")
    assert eligible()(users).tolist() == [True, True]
    assert eligible({"feature": "layer", "is": ["visitor"]})(users).tolist() == [True, False]
    with pytest.raises(UnknownName, match="Did you mean 'orders_count'"):
        eligible({"feature": "orders_cuont", "is": 1})(users)


def test_every_task_is_one_that_the_service_can_ask():
    assert all(isinstance(task.eligible, Eligible) for task in TASKS.values())
