"""Uplift: who is changed by a treatment. Planted effects are found, absent ones are not, and chosen customers are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import NoUsableData
from features.files import canonical_json
from training.plots import save
from training.trial import Trial, measure_assignment, require_outcomes, require_random_assignment
from training.uplift import LEARNERS, Fitted, cross_fit, fit_uplift, t_logistic
from training.uplift_evidence import HeldOut, UpliftEvidence, gather_uplift_evidence, qini, qini_curve, uplift_reasons
from training.uplift_model import Uplift
from training.uplift_plots import effect_calibration, qini_curves

NAMES = ("persuadable", "likely", "noise", "rarely known")
FAST = {"repeats": 1, "fit": lambda trial: Fitted(t_logistic(trial), {})}


def simulated(customers: int, effect: float, seed: int) -> tuple[Trial, np.ndarray]:
    """A trial in which `persuadable` > 0 gains `effect` and nobody else does; `likely` says who says yes anyway. With the true effects."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(customers, len(NAMES)))
    treated = random.random(customers) < 0.5
    true = np.where(X[:, 0] > 0, effect, 0.0)
    y = random.random(customers) < 0.3 / (1 + np.exp(-2 * X[:, 1])) + true * treated
    X[random.random(customers) < 0.7, 3] = np.nan
    users = np.array([f"u{number}" for number in range(customers)], dtype=object)
    return Trial(X, NAMES, y.astype(np.int8), treated, users), true


def shuffled(trial: Trial, seed: int = 1) -> Trial:
    return trial.take(np.random.default_rng(seed).permutation(len(trial)))


def broken_rules(evidence: UpliftEvidence, trial: Trial) -> list[str]:
    return [reason.rule for reason in uplift_reasons(evidence, measure_assignment(trial)) if not reason.passed]


def slow_curve(y: list[int], treated: list[int], score: list[int]) -> list[tuple[float, float]]:
    """The Qini curve as its definition says it, one threshold after the other."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(score), reverse=True):
        chosen = [place for place in range(len(y)) if score[place] >= threshold]
        ours, theirs = [place for place in chosen if treated[place]], [place for place in chosen if not treated[place]]
        expected = sum(y[place] for place in theirs) / len(theirs) * len(ours) if theirs else 0.0
        points.append((len(chosen) / len(y), (sum(y[place] for place in ours) - expected) / sum(treated)))
    return points


def test_a_qini_curve_that_can_be_checked_in_the_head():
    score = [4, 4, 3, 3, 2, 2, 1, 1]  # a treated customer and one of control at each score
    treated = [1, 0, 1, 0, 1, 0, 1, 0]
    y = [1, 0, 1, 0, 0, 0, 0, 1]  # the two best gain, the third does not, the last loses
    curve = qini_curve(y, treated, score)
    assert curve["share"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve["incremental"].tolist() == [0, 0.25, 0.5, 0.5, 0.25]
    assert qini(y, treated, score) == 7 / 32  # 11/32 under the curve, 4/32 under the line


def test_control_is_scaled_to_as_many_customers_as_were_treated():
    #  of the best four three are treated, one of them with a yes; the one of control has a yes and stands for three
    curve = qini_curve([1, 0, 0, 1, 1, 0], [1, 1, 1, 0, 1, 0], [2, 2, 2, 2, 1, 1])
    assert curve["incremental"].tolist() == [0, (1 - 3) / 4, (2 - 2) / 4]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=30), st.randoms())
def test_the_curve_is_its_definition_and_knows_no_order_among_equals(rows, random):
    rows += [(1, 1, 2), (0, 0, 2)]  # both arms are there
    points = np.array(slow_curve(*zip(*rows, strict=True)))
    expected = np.trapezoid(points[:, 1], points[:, 0]) - points[-1, 1] / 2
    for _ in range(2):
        assert qini_curve(*zip(*rows, strict=True)).to_numpy() == pytest.approx(points)
        assert qini(*zip(*rows, strict=True)) == pytest.approx(expected)
        random.shuffle(rows)


def test_a_constant_score_is_the_random_line():
    assert qini([1, 0, 1, 0, 1], [1, 1, 0, 0, 1], [7, 7, 7, 7, 7]) == 0


@pytest.mark.parametrize("treated", [[1, 1], [0, 0]])
def test_an_effect_needs_both_arms(treated):
    with pytest.raises(NoUsableData, match="control"):
        qini([0, 1], treated, [1, 2])


@pytest.fixture(scope="module")
def planted() -> tuple[Trial, np.ndarray]:
    return simulated(6_000, 0.2, seed=1)


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_finds_the_planted_effect(learner, planted):
    trial, _ = planted
    unseen, true = simulated(3_000, 0.2, seed=2)
    effect = LEARNERS[learner](trial).effect(unseen.X)
    assert np.corrcoef(effect, true)[0, 1] > 0.65
    assert effect.mean() == pytest.approx(0.1, abs=0.025)
    assert effect[true > 0].mean() == pytest.approx(0.2, abs=0.06)
    assert effect[true == 0].mean() == pytest.approx(0.0, abs=0.06)


@pytest.mark.parametrize("learner", LEARNERS)
def test_contributions_add_up_to_what_they_explain(learner, planted):
    trial, _ = planted
    model, rows = LEARNERS[learner](trial), trial.X[:50]
    shares = model.contributions(rows)
    assert shares.shape == (50, len(NAMES) + 1)
    if model.explains == "effect":
        expected = model.effect(rows)
    else:
        yes = model.details(rows)
        expected = np.log(yes["if_treated"] / (1 - yes["if_treated"])) - np.log(yes["if_control"] / (1 - yes["if_control"]))
        assert yes["if_treated"] - yes["if_control"] == pytest.approx(model.effect(rows), abs=1e-15)
    assert shares.sum(axis=1) == pytest.approx(expected, abs=1e-9)
    assert np.abs(shares[:, 0]).mean() > 2 * np.abs(shares[:, 2]).mean()  # the persuadable feature, and noise


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_model_survives_as_text_and_json_and_scores_a_row_alone_as_among_others(learner, planted):
    trial, _ = planted
    model = LEARNERS[learner](trial)
    again = Uplift.of(json.loads(canonical_json(model.describe())), model.texts)
    assert again == model
    alone = np.concatenate([again.scores(trial.X[place : place + 1]) for place in range(20)])
    assert (alone == model.effect(trial.X)[:20]).all()


@pytest.fixture(scope="module")
def fitted(planted) -> Fitted:
    return fit_uplift(planted[0].take(np.arange(3_000)))


def test_the_learner_with_the_best_cross_fitted_qini_is_chosen_whatever_the_order_of_the_rows(planted, fitted):
    assert set(fitted.qini) == set(LEARNERS)
    assert fitted.qini[fitted.model.learner] == max(fitted.qini.values()) > 0.01
    assert fit_uplift(shuffled(planted[0].take(np.arange(3_000)))) == fitted


def test_a_planted_effect_passes_the_gate_with_its_size_and_its_deciles(planted):
    trial, true = planted
    evidence = gather_uplift_evidence(trial, cross_fit(trial, **FAST), resamples=200)
    assert not broken_rules(evidence, trial)
    metrics = evidence.metrics
    assert metrics["average_effect"]["value"] == pytest.approx(true.mean(), abs=0.03)
    assert metrics["uplift_10"]["value"] > 0.15
    for measured in evidence.responses.values():
        assert measured["gain"]["value"] == pytest.approx(metrics["qini"]["value"] - measured["qini"]["value"])
    # Half of the customers carry all of the effect: a perfect order has its corner at (1/2, .1), hence a Qini of .025.
    assert metrics["qini"]["low"] < 0.025 and metrics["qini"]["value"] > 0.015
    table = evidence.calibration
    assert table["rows"].sum() == len(trial) and (np.diff(table["predicted"]) > 0).all()
    assert table["observed"].iloc[-3:].mean() > 0.14 > 0.06 > table["observed"].iloc[:3].mean()
    assert (table["low"] <= table["observed"]).all() and (table["observed"] <= table["high"]).all()
    assert evidence.curve["model"].iloc[-1] == pytest.approx(metrics["average_effect"]["value"], abs=1e-3)
    json.loads(canonical_json(evidence.describe()))


def test_an_equal_effect_on_everybody_leaves_nothing_to_rank_and_is_refused():
    trial, _ = simulated(4_000, 0.0, seed=3)
    everybody = replace(trial, y=np.maximum(trial.y, trial.treated & (np.random.default_rng(4).random(len(trial)) < 0.1)).astype(np.int8))
    for case in (trial, everybody):
        evidence = gather_uplift_evidence(case, cross_fit(case, **FAST), resamples=100)
        assert "beats random targeting" in broken_rules(evidence, case)


def test_ranking_by_who_says_yes_anyway_does_not_beat_itself(planted):
    trial, _ = planted
    parts = [replace(part, effect=part.responses["response model"]) for part in cross_fit(trial, **FAST)]
    evidence = gather_uplift_evidence(trial, parts, resamples=50)
    assert evidence.responses["response model"]["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "beats the response model" in broken_rules(evidence, trial)


def test_shuffled_treatments_have_a_qini_of_zero(planted):
    trial, random = planted[0].take(np.arange(2_000)), np.random.default_rng(5)
    found = []
    for _ in range(12):
        blind = replace(trial, treated=random.permutation(trial.treated))
        found.append(np.mean([qini(blind.y[part.rows], blind.treated[part.rows], part.effect) for part in cross_fit(blind, **FAST)]))
    assert abs(np.mean(found)) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))


def test_held_out_scores_come_from_models_that_have_not_seen_the_customer():
    trial, _ = simulated(800, 0.2, seed=6)
    twice = trial.take(np.tile(np.arange(len(trial)), 2))  # every customer has two rows
    seen: list[set[str]] = []

    def watch(half: Trial) -> Fitted:
        seen.append(set(half.users))
        return Fitted(t_logistic(half), {})

    parts = cross_fit(twice, fit=watch, repeats=2, folds=2)
    assert np.bincount(np.concatenate([part.rows for part in parts])).tolist() == [2] * len(twice)
    for part, learned in zip(parts, seen, strict=True):
        assert not learned & set(twice.users[part.rows])


def constant_scores(trial: Trial) -> list[HeldOut]:
    return [HeldOut(np.arange(len(trial)), np.zeros(len(trial)), "none", {})]


def test_the_interval_of_the_average_effect_is_the_textbooks_and_counts_customers_not_rows():
    trial, _ = simulated(1_500, 0.2, seed=7)
    evidence = gather_uplift_evidence(trial, constant_scores(trial))
    rates = [(trial.y[arm].mean(), arm.sum()) for arm in (trial.treated, ~trial.treated)]
    error = np.sqrt(sum(rate * (1 - rate) / count for rate, count in rates))
    effect = evidence.metrics["average_effect"]
    assert effect["value"] == pytest.approx(rates[0][0] - rates[1][0])
    assert effect["high"] - effect["low"] == pytest.approx(2 * 1.96 * error, rel=0.12)
    twice = trial.take(np.repeat(np.arange(len(trial)), 2))
    assert gather_uplift_evidence(twice, constant_scores(twice)).metrics["average_effect"] == pytest.approx(effect)


def test_repeating_a_part_buys_no_precision(planted):
    trial, _ = planted
    part = HeldOut(np.arange(len(trial)), t_logistic(trial).effect(trial.X), "T-logistic", {"response model": trial.X[:, 1]})
    once, often = (gather_uplift_evidence(trial, [part] * times, resamples=20) for times in (1, 3))
    for name, measured in once.metrics.items():
        assert often.metrics[name] == pytest.approx(measured), name
    assert often.responses["response model"]["gain"] == pytest.approx(once.responses["response model"]["gain"])
    assert often.calibration["low"].to_numpy() == pytest.approx(once.calibration["low"].to_numpy())


def test_evidence_does_not_depend_on_the_order_of_the_rows():
    trial, _ = simulated(1_200, 0.2, seed=8)
    first, second = (gather_uplift_evidence(case, cross_fit(case, **FAST), resamples=20) for case in (trial, shuffled(trial)))
    assert canonical_json(first.describe()) == canonical_json(second.describe())


def test_customers_that_were_chosen_are_refused_with_what_to_do():
    trial, _ = simulated(2_000, 0.2, seed=9)
    random = np.random.default_rng(10)
    likelier = replace(trial, treated=random.random(len(trial)) < 1 / (1 + np.exp(-trial.X[:, 1])))
    with pytest.raises(NoUsableData, match=r"likely.*random part of its audience"):
        require_random_assignment(measure_assignment(likelier))
    known = replace(trial, treated=random.random(len(trial)) < np.where(np.isnan(trial.X[:, 3]), 0.6, 0.4))
    with pytest.raises(NoUsableData, match="rarely known"):
        require_random_assignment(measure_assignment(known))
    # Neither extreme more often than the middle: no difference of means shows it, the trees do.
    middle = measure_assignment(replace(trial, treated=random.random(len(trial)) < np.where(np.abs(trial.X[:, 2]) < 0.7, 0.7, 0.3)))
    assert [reason.passed for reason in middle.reasons] == [True, False]


def test_a_feature_that_knows_the_treatment_is_refused_even_if_it_is_constant_in_each_arm():
    trial, _ = simulated(600, 0.2, seed=11)
    leaking = replace(trial, X=np.column_stack([trial.X, trial.treated]), names=(*NAMES, "mail opened"))
    with pytest.raises(NoUsableData, match="mail opened"):
        require_random_assignment(measure_assignment(leaking))


def test_treatment_by_lot_is_accepted_even_in_small_trials():
    found = [measure_assignment(simulated(300, 0.2, seed=seed)[0]) for seed in range(15)]
    assert [reason for assignment in found for reason in assignment.reasons if not reason.passed] == []
    for assignment in found:
        require_random_assignment(assignment)


def test_too_few_outcomes_are_refused_with_the_counts():
    trial, _ = simulated(300, 0.2, seed=12)
    few = replace(trial, y=np.where(trial.treated, trial.y, 0).astype(np.int8))
    with pytest.raises(NoUsableData, match=rf"control: 0 and {(~trial.treated).sum()}\."):
        require_outcomes(few)
    require_outcomes(simulated(1_000, 0.2, seed=12)[0])


def test_pictures_are_the_same_bytes_each_time(tmp_path):
    trial, _ = simulated(1_000, 0.2, seed=13)
    evidence = gather_uplift_evidence(trial, cross_fit(trial, **FAST), resamples=20)
    for draw in (qini_curves, effect_calibration):
        for name in ("first.png", "second.png"):
            save(draw(evidence), tmp_path / name)
        assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
        assert (tmp_path / "first.png").stat().st_size > 10_000
