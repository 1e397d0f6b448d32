"""Reasons: exact shares, largest first, in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serving.reasons import in_words, reasons_of
from training.blend import Blend, Logistic
from training.bundle import Bundle

WORDS = {
    "days": {"name": "days", "meaning": "days since the last order", "unit": "days", "actionable": False},
    "spent": {"name": "spent", "meaning": "amount spent", "unit": "cents", "actionable": False},
    "mail": {"name": "mail", "meaning": "share of mails opened", "unit": "share", "actionable": True},
}


@pytest.fixture(scope="module")
def bundle():
    """A logistic alone, whose shares can be worked out by hand: slope x coefficient x sign-log of the value."""
    logistic = Logistic(columns=(0, 1, 2), median=(0, 0, 0), mean=(0, 0, 0), scale=(1, 1, 1), coef=(-1.0, 0.5, 2.0), intercept=0.25)
    return Bundle(tuple(WORDS), Blend(logistic, (), (2.0, -1.0)), {"task": "test", "calibrated": True, "features": WORDS}, {}, {})


def test_reasons_are_the_largest_shares_first(bundle):
    row = np.array([[np.e - 1, np.e**3 - 1, np.e**0.1 - 1]])  # sign-logs 1, 3, 0.1
    first, second, third = reasons_of(bundle, row, 5, "EUR")[0]
    assert (first.feature, first.contribution) == ("spent", pytest.approx(2 * 0.5 * 3))
    assert (second.feature, second.contribution) == ("days", pytest.approx(2 * -1.0 * 1))
    assert (third.feature, third.contribution) == ("mail", pytest.approx(2 * 2.0 * 0.1))
    assert [reason.effect for reason in (first, second)] == ["raises", "lowers"]
    assert [reason.actionable for reason in (first, second, third)] == [False, False, True]


def test_shares_and_the_start_add_up_to_the_log_odds(bundle):
    rows = np.array([[3.0, 250.0, 0.5], [np.nan, np.nan, np.nan], [1e9, -1e9, 1.0]])
    for row, reasons in zip(rows, reasons_of(bundle, rows, 3, "EUR"), strict=True):
        assert sum(reason.contribution for reason in reasons) + 2 * 0.25 - 1 == pytest.approx(bundle.model.logits(row[None])[0], abs=1e-12)


def test_only_as_many_reasons_as_asked_for(bundle):
    assert [len(reasons_of(bundle, np.ones((4, 3)), most, "EUR")[3]) for most in (0, 1, 2, 3, 9)] == [0, 1, 2, 3, 3]


def test_equal_shares_stand_in_the_order_of_the_features(bundle):
    row = np.array([[np.e - 1, np.e**2 - 1, 0.0]])  # -1 x 1 and 0.5 x 2
    assert [reason.feature for reason in reasons_of(bundle, row, 3, "EUR")[0]] == ["days", "spent"]


def test_what_contributed_nothing_is_no_reason(bundle):
    assert reasons_of(bundle, np.zeros((1, 3)), 3, "EUR") == [()]


def test_a_missing_value_is_told_as_missing(bundle):
    median_of_two = replace(bundle, model=replace(bundle.model, logistic=replace(bundle.model.logistic, median=(2.0, 0, 0))))
    reason = reasons_of(median_of_two, np.array([[np.nan, 0.0, 0.0]]), 1, "EUR")[0][0]
    assert (reason.value, reason.text) == (None, "days since the last order: none so far")


def test_nobody_has_no_reasons(bundle):
    assert reasons_of(bundle, np.empty((0, 3)), 5, "EUR") == []


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (3.0, "days", "3"),
        (3.25, "days", "3.2"),
        (1234567.0, "orders", "1,234,567"),
        (123456.0, "cents", "1,234.56"),
        (0.256, "share", "26%"),
        (0.0, "orders", "0"),
        (-2.0, "orders", "-2"),
        (float("nan"), "cents", "none so far"),
    ],
)
def test_values_read_as_a_person_writes_them(value, unit, words):
    assert in_words(value, unit, "EUR") == words


@pytest.mark.parametrize(("currency", "words"), [("EUR", "12.00"), ("JPY", "1,200"), ("KWD", "1.200")])
def test_amounts_have_the_digits_of_their_currency(bundle, currency, words):
    reason = next(one for one in reasons_of(bundle, np.array([[0.0, 1200.0, 0.0]]), 1, currency)[0])
    assert (reason.value, reason.text) == (1200.0, f"amount spent: {words}")
