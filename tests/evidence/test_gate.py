"""The gate refuses what should not serve, and says which rule failed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from training.bundle import Bundle
from training.evaluate import evaluate, evaluate_difference
from training.evidence import Evidence, area_within, auc_alone, gather_evidence, importance, shuffle_within, shuffled_auc
from training.examples import Examples
from training.gates import Decision, best_baseline, decide
from training.kinds import PROBABILITY, RANK, SEED
from training.models import Recipe, fit
from training.nowcast import YEAR, corrections
from training.task import AskedTask
from training.tasks import TASKS

ASKED = AskedTask(TASKS["repeat_order"], 30, 30)
NAMES = ("orders_recency", "orders_count_90d", "activity_recency", "noise", "more_noise")
TRAIN, TEST = [date(2024, month, 1) for month in (1, 2, 3)], [date(2024, month, 1) for month in (5, 6, 7, 8)]
SMALL = Recipe(trees=60, seeds=2)
RULES = ["beats rule", "beats rfm", "single feature", "shuffled labels", "calibration", "mean bias"]


def examples_of(cutoffs: list[date], users: int, seed: int) -> Examples:
    """The same users at every cutoff; three of the columns matter."""
    random = np.random.default_rng(seed)
    rows = users * len(cutoffs)
    X = random.normal(size=(rows, len(NAMES)))
    y = (random.random(rows) < 1 / (1 + np.exp(-(0.8 * X[:, 0] + 0.6 * X[:, 1] + 0.7 * X[:, 2] - 1)))).astype(np.int8)
    customers = np.tile([f"u{number}" for number in range(users)], len(cutoffs)).astype(object)
    return Examples(X, NAMES, y, customers, np.repeat(cutoffs, users))


def bundle_of(examples: Examples, recipe: Recipe = SMALL) -> Bundle:
    parts = fit(examples.X, examples.y, examples.users, recipe)
    return Bundle(examples.names, parts, {"task": "repeat_order", "calibrated": True}, {}, {})


@pytest.fixture(scope="module")
def train() -> Examples:
    return examples_of(TRAIN, 1000, seed=1)


@pytest.fixture(scope="module")
def test() -> Examples:
    return examples_of(TEST, 1000, seed=2)


@pytest.fixture(scope="module")
def model(train) -> Bundle:
    return bundle_of(train)


@pytest.fixture(scope="module")
def baselines(train) -> dict[str, Bundle]:
    logistic = Recipe(trees=0, folds=0)
    return {name: bundle_of(replace(train, X=train.X[:, :count], names=NAMES[:count]), logistic) for name, count in (("rule", 1), ("rfm", 2))}


@pytest.fixture(scope="module")
def evidence(model, baselines, train, test) -> Evidence:
    return gather_evidence(ASKED, model, baselines, train, test)


def rejudged(evidence: Evidence, model: Bundle, baselines: dict[str, Bundle], test: Examples) -> Evidence:
    """The evidence with another model; what does not depend on the model is taken over."""
    scores = model.scores(test.of(model.features))
    gains = {name: evaluate_difference(test.y, scores, bundle.scores(test.of(bundle.features)), test.users, seed=SEED) for name, bundle in baselines.items()}
    return replace(evidence, scores={"model": scores}, metrics={"model": evaluate(test.y, scores, test.users, seed=SEED)}, gains=gains)


def failed(decision: Decision) -> list[str]:
    return [reason.rule for reason in decision.reasons if not reason.passed]


def test_a_good_model_is_promoted_and_every_rule_is_in_the_text(evidence, test):
    decision = decide(evidence, test, None, PROBABILITY, provisional=False)
    assert decision.promote, decision.text
    assert [reason.rule for reason in decision.reasons] == RULES
    assert decision.text.startswith("passed\npass  beats rule: AUC gain +0.")


def test_fewer_test_cutoffs_promote_provisionally_and_say_so(evidence, test):
    assert decide(evidence, test, None, PROBABILITY, provisional=True).text.startswith("passed (provisional: fewer than four test cutoffs")


def test_a_model_of_shuffled_labels_is_refused(evidence, model, baselines, train, test):
    shuffled = replace(train, y=shuffle_within(train.y, train.as_of, np.random.default_rng(0)))
    worse = rejudged(evidence, bundle_of(shuffled), baselines, test)
    decision = decide(worse, test, model, PROBABILITY, provisional=False)
    assert not decision.promote
    assert {"beats rule", "beats rfm", "no worse than the champion"} <= set(failed(decision))
    assert decision.text.startswith("refused\nFAIL  beats rule: AUC gain -0.")


@pytest.mark.parametrize(("slope", "offset"), [(2.5, 0.0), (1.0, 0.4)])
def test_a_better_ranking_with_wrong_probabilities_is_refused(evidence, model, baselines, test, slope, offset):
    given = model.model.platt
    skewed = replace(model, model=replace(model.model, platt=(slope * given[0], slope * given[1] + offset)))
    wrong = rejudged(evidence, skewed, {"rfm": baselines["rfm"]}, test)
    assert wrong.metrics["model"]["auc"]["value"] == pytest.approx(evidence.metrics["model"]["auc"]["value"], abs=1e-6)
    assert set(failed(decide(wrong, test, None, PROBABILITY, provisional=False))) == {"calibration", "mean bias"}
    assert failed(decide(wrong, test, model, PROBABILITY, provisional=False))[-1] == "no worse than the champion"


def moved(model: Bundle, shift: float) -> Bundle:
    """The model with everybody's log-odds moved."""
    slope, offset = model.model.platt
    return replace(model, model=replace(model.model, platt=(slope, offset + shift)))


def test_a_level_that_a_nowcast_corrects_is_a_warning_and_not_a_refusal(evidence, model, baselines, train, test):
    high = moved(model, 0.13)  # too high by two or three points, at every cutoff
    wrong = rejudged(evidence, high, {"rfm": baselines["rfm"]}, test)
    assert "mean bias" in failed(decide(wrong, test, None, PROBABILITY, provisional=False))
    (nowcast,) = corrections(high, train, test, 30)
    assert nowcast.better >= 3
    corrected = gather_evidence(ASKED, high, {}, train, test, (nowcast,))
    assert corrected.scores["model"].tobytes() == nowcast.scores.tobytes()
    decision = decide(corrected, test, None, PROBABILITY, provisional=False)
    assert decision.promote, decision.text
    assert [reason.rule for reason in decision.reasons if reason.warning] == ["mean bias"]
    assert "\nwarn  mean bias: mean probability minus observed rate +0.0" in decision.text
    assert f"(mean bias {nowcast.before:+.4f} without it, {nowcast.after:+.4f} with it; smaller by " in decision.text


def test_a_bias_that_no_correction_explains_is_refused_and_says_what_was_tried(evidence, model, baselines, train, test):
    high = moved(model, 0.5)
    wrong = replace(rejudged(evidence, high, {"rfm": baselines["rfm"]}, test), corrections=corrections(high, train, test, 30))
    decision = decide(wrong, test, None, PROBABILITY, provisional=False)
    assert failed(decision) == ["calibration", "mean bias"]
    assert "The nowcast does not explain it (mean bias +0.0" in decision.text


def test_a_season_explains_a_bias_and_leaves_the_scores_as_they_are(evidence, model, baselines, test):
    high = moved(model, 0.5)  # half of which a nowcast would leave
    year_ago = replace(test, as_of=np.array([day - YEAR for day in test.as_of], dtype=object))
    season = next(correction for correction in corrections(high, year_ago, test, 30) if correction.name == "season")
    assert season.holds
    assert season.after == pytest.approx(0, abs=1e-3)
    judged = replace(rejudged(evidence, high, {"rfm": baselines["rfm"]}, test), corrections=(season,))
    decision = decide(judged, test, None, PROBABILITY, provisional=False)
    assert decision.promote, decision.text
    assert "It was off alike in the same season a year earlier: what is served will be, too" in decision.text
    assert judged.metrics["model"]["mean_bias"]["value"] == pytest.approx(season.before)


def test_an_equal_challenger_is_promoted_because_it_knows_later_data(evidence, model, test):
    decision = decide(evidence, test, model, PROBABILITY, provisional=False)
    assert decision.promote
    assert decision.reasons[-1].text.startswith("worse by +0.0000 [+0.0000, +0.0000] in log-loss")


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_challenger_that_loses_to_the_champion_is_refused_for_that_alone(evidence, model, baselines, test, calibrated):
    weaker = rejudged(evidence, baselines["rfm"], {"rule": baselines["rule"]}, test)
    decision = decide(weaker, test, model, PROBABILITY if calibrated else RANK, provisional=False)
    assert failed(decision) == ["no worse than the champion"]
    assert ("log-loss" if calibrated else "AUC") in decision.reasons[-1].text


def test_ranks_are_not_asked_for_calibration(evidence, model, test):
    decision = decide(evidence, test, model, RANK, provisional=False)
    assert [reason.rule for reason in decision.reasons] == [*RULES[:4], "no worse than the champion"]
    assert decision.promote


def test_the_champion_is_given_its_features_by_name(evidence, train, test):
    order = [3, 1, 0, 4, 2]
    turned = Examples(train.X[:, order], tuple(NAMES[place] for place in order), train.y, train.users, train.as_of)
    decision = decide(evidence, test, bundle_of(turned), PROBABILITY, provisional=False)
    assert decision.promote, decision.text


def test_a_champion_whose_features_no_longer_exist_does_not_stop_its_successor(evidence, train, test):
    renamed = replace(train, names=("orders_recency", "gone", "activity_recency", "noise", "vanished"))
    decision = decide(evidence, test, bundle_of(renamed), PROBABILITY, provisional=False)
    assert decision.promote
    assert "gone, vanished" in decision.reasons[-1].text


# --- leaks ----------------------------------------------------------------------------------------------------------


def leaky(examples: Examples, noise: float) -> Examples:
    column = -examples.y + np.random.default_rng(9).normal(0, noise, len(examples))
    return replace(examples, X=np.column_stack([examples.X, column]), names=(*examples.names, "orders_next"))


def test_a_feature_that_knows_the_label_blocks_the_model_in_either_direction(evidence, train, test):
    known, asked_about = leaky(train, 0.3), leaky(test, 0.3)
    alone = auc_alone(known)
    name, area = next(iter(alone.items()))
    assert name == "orders_next"
    assert area > 0.95
    leaky_evidence = replace(evidence, alone=alone)
    decision = decide(leaky_evidence, asked_about, None, PROBABILITY, provisional=False)
    assert failed(decision) == ["single feature"]
    assert "orders_next (0.9" in decision.text
    assert 'signed_off = ["orders_next"]' in decision.text
    assert decide(leaky_evidence, asked_about, None, PROBABILITY, provisional=False, signed_off=["orders_next"]).promote


def test_a_missing_value_can_be_the_leak(train):
    column = np.where(train.y == 1, np.nan, 5.0)
    alone = auc_alone(replace(train, X=np.column_stack([train.X, column]), names=(*NAMES, "returns")))
    assert next(iter(alone.items())) == ("returns", 1.0)


def test_an_honest_feature_is_far_below_the_alarm(train):
    name, area = next(iter(auc_alone(train).items()))
    assert name == "orders_recency"
    assert 0.6 < area < 0.75


def test_shuffled_labels_teach_nothing(evidence):
    mean, error = evidence.shuffled
    assert abs(mean - 0.5) <= 3 * error
    assert 0 < error < 0.02


def test_shuffled_labels_that_teach_something_block_the_model(evidence, test):
    decision = decide(replace(evidence, shuffled=(0.53, 0.004)), test, None, PROBABILITY, provisional=False)
    assert failed(decision) == ["shuffled labels"]


def test_shuffling_keeps_the_base_rate_of_each_cutoff(train):
    shuffled = shuffle_within(train.y, train.as_of, np.random.default_rng(0))
    assert (shuffled != train.y).any()
    for cutoff in TRAIN:
        assert shuffled[train.as_of == cutoff].sum() == train.y[train.as_of == cutoff].sum()


def test_base_rates_that_differ_between_cutoffs_are_no_skill():
    # A score that knows the month ranks well over all rows, and not at all within a month.
    y = np.array([1, 1, 1, 0, 0, 0, 0, 1], dtype=np.int8)
    months = np.repeat([date(2024, 1, 1), date(2024, 2, 1)], 4)
    assert area_within(y, np.repeat([0.9, 0.1], 4), months) == 0.5


def test_shuffled_labels_are_near_chance_even_when_base_rates_differ(train, test):
    def rising(examples: Examples) -> Examples:
        months = np.array([cutoff.month for cutoff in examples.as_of])
        y = (np.random.default_rng(4).random(len(examples)) < months / 10).astype(np.int8)
        return replace(examples, y=y, X=np.column_stack([examples.X[:, :2], months]), names=("a", "b", "month"))

    mean, error = shuffled_auc(rising(train), rising(test))
    assert abs(mean - 0.5) <= 3 * error


# --- the rest -------------------------------------------------------------------------------------------------------


def test_the_baseline_that_serves_is_the_one_with_the_least_log_loss(evidence):
    def with_loss(**losses: float) -> Evidence:
        metrics = {name: {"log_loss": {"value": loss}, "auc": {"value": 0.5}} for name, loss in losses.items()}
        return replace(evidence, metrics=metrics, gains=dict.fromkeys(losses, {}))

    assert best_baseline(evidence, PROBABILITY) == "rfm"
    assert best_baseline(with_loss(rule=0.4, rfm=0.5), PROBABILITY) == "rule"
    assert best_baseline(with_loss(rule=0.4, rfm=0.4), PROBABILITY) == "rfm"  # a tie has one answer


def test_the_baseline_that_serves_a_rank_is_the_one_with_the_highest_auc(evidence):
    metrics = {name: {"auc": {"value": area}} for name, area in (("rule", 0.7), ("rfm", 0.6))}
    assert best_baseline(replace(evidence, metrics=metrics, gains=dict.fromkeys(metrics, {})), RANK) == "rule"


def test_importance_names_what_matters_first(model, test):
    found = importance(model, test)
    assert set(found) == set(NAMES)
    assert set(list(found)[:3]) == set(NAMES[:3])


def test_what_is_stored_of_the_evidence_holds_no_user(evidence):
    stored = repr(evidence.describe())
    assert "u17" not in stored
    assert "scores" not in evidence.describe()
