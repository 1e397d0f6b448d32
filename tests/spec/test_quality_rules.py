"""The rules of alarm, with numbers that can be checked in the head."""

from __future__ import annotations

import pytest

from serving.quality.rules import ADVICE, Alert, below_expectation, label_drift, treatment_drift
from serving.quality.standing import LEAST, judged_stratum
from training.evaluate import promised
from training.examples import LEAST_POSITIVES


def about(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def stratum(rows=1000, positives=300, auc=0.78, bias=0.0, ece=0.02, promise=0.78):
    metrics = {"auc": about(auc), "mean_bias": about(bias, 0.005), "ece": about(ece, 0.005), "ece_floor": about(0.02, 0.005)}
    expected = {"value": positives + bias * rows, "low": 0.0, "high": 0.0}
    told = {"metrics": metrics, "promised": {"auc": about(promise)}, "expected": expected, "actual": float(positives)}
    return {"rows": rows, "customers": rows, "positives": positives, **told}


def facts(treated=0, **untreated):
    return {"all": stratum(**untreated), "untreated": stratum(**untreated), "treated": {"rows": treated, "customers": treated, "positives": 0}}


def rules(kind, found, then=None):
    return [alert.rule for alert in below_expectation(kind, found, then or {"auc": about(0.80)})]


@pytest.mark.parametrize(
    ("seen", "spoken"),
    [
        ({}, []),
        ({"auc": 0.70}, ["ranking"]),
        ({"auc": 0.75}, []),  # its upper end, .77, is above the lower end of what was promised, .76
        ({"auc": 0.70, "promise": 0.71}, []),  # these users are hard to tell apart, and the scores said so
        ({"bias": 0.021}, ["level"]),  # from .016 on, above .015
        ({"bias": 0.019}, []),
        ({"bias": -0.03}, ["level"]),
        ({"ece": 0.036}, ["calibration"]),  # .025 at most by chance, and .010 more
        ({"ece": 0.034}, []),
        ({"auc": 0.5, "ece": 0.2}, ["ranking"]),  # probabilities of a broken rank are no further finding
        ({"auc": 0.5, "positives": 29}, []),  # too few did it
        ({"auc": 0.5, "rows": 329}, []),  # too few did not
    ],
)
def test_a_rule_speaks_where_whole_intervals_lie_apart(seen, spoken):
    assert rules("probability", facts(**seen)) == spoken


def test_better_evidence_than_the_scores_promise_does_not_make_an_alarm_alone():
    assert rules("probability", facts(auc=0.70), {"auc": about(0.71)}) == []
    assert rules("probability", facts(auc=0.70), {"gini": about(0.9)}) == ["ranking"]  # no such evidence: what was promised counts alone


def test_a_level_is_off_only_where_the_untreated_and_everybody_say_so():
    found = facts(bias=0.04)
    found["all"] = stratum(bias=0.0)
    assert rules("probability", found) == []
    found["all"] = stratum(bias=-0.04)
    assert rules("probability", found) == []


def test_where_nearly_everybody_was_treated_all_are_judged():
    found = facts(auc=0.5) | {"untreated": stratum(rows=40, positives=20)}
    assert (judged_stratum(found), LEAST) == ("all", LEAST_POSITIVES)
    assert "treated ones among them" in below_expectation("probability", found, {})[0].text


def test_values_ranks_windows_and_effects_by_their_own_metrics():
    value = {"rows": 500, "positives": 200, "metrics": {"gini": about(0.5), "sum_ratio": about(1.2, 0.05)}}
    spoken = below_expectation("value", {"untreated": value, "all": value}, {"gini": about(0.8)})
    assert [alert.rule for alert in spoken] == ["ranking", "level"]
    value["metrics"] = {"gini": about(0.77), "sum_ratio": about(1.12, 0.05)}
    assert below_expectation("value", {"untreated": value, "all": value}, {"gini": about(0.8)}) == []
    value["metrics"]["gini"] = about(0.5)
    assert below_expectation("value", {"untreated": value, "all": {**value, "metrics": {"gini": about(0.79)}}}, {"gini": about(0.8)}) == []
    assert [rules("rank", facts(auc=auc)) for auc in (0.47, 0.49)] == [["ranking"], []]
    date = facts()
    date["untreated"]["metrics"] |= {"coverage": about(0.7), "nominal_coverage": {"value": 0.8, "low": None, "high": None}}
    assert rules("date", date) == ["window"]
    assert rules("effect", {"all": {"rows": 9, "metrics": {"qini": about(0.0)}}}, {"qini": about(0.1)}) == ["ranking"]


def test_drift_of_the_base_rate_and_of_treatment():
    assert label_drift("probability", facts(positives=300), {"base_rate": 0.3})[1] == []
    assert [alert.rule for alert in label_drift("probability", facts(positives=450), {"base_rate": 0.3})[1]] == ["label drift"]
    assert label_drift("date", facts(positives=450), {"base_rate": 0.3}) == (None, [])
    assert [alert.rule for alert in treatment_drift(facts(treated=500), about(0.3))[1]] == ["treatment drift"]
    assert treatment_drift(facts(treated=390), about(0.3))[1] == []


def test_every_rule_says_what_to_do():
    assert all("retrain" in Alert(rule, "seen").advice for rule in ADVICE)


def test_what_probabilities_promise():
    """.9 and .1 in halves: a pair is in order when it is (.9 yes, .1 no), wrong when (.1 yes, .9 no), else a tie: AUC .9 for every outcome near its mean."""
    told = promised([0.9] * 2000 + [0.1] * 2000, seed=1)
    assert told["auc"]["value"] == pytest.approx(0.9, abs=0.003)
    assert told["brier"]["value"] == pytest.approx(0.09, abs=0.002)
    assert told["base_rate"]["value"] == pytest.approx(0.5, abs=0.003)
    assert told["mean_bias"]["low"] < 0 < told["mean_bias"]["high"]
