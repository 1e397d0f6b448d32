"""Metrics against scikit-learn as the oracle, and against tables small enough to check in the head."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from features.errors import NoUsableData
from training.evaluate import (
    DIFFERENCES,
    METRICS,
    PROBABILITY_METRICS,
    Floats,
    Interval,
    calibration_table,
    ece_floor,
    evaluate,
    evaluate_difference,
    gains,
    grade,
)

SAME = 1e-12  # both sides add up the same numbers in another order
ORACLES = {"auc": roc_auc_score, "average_precision": average_precision_score, "log_loss": log_loss, "brier": brier_score_loss}


def calibrated_rows(rows: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Outcomes drawn with exactly the probabilities beside them."""
    random = np.random.default_rng(seed)
    p = random.beta(1, 4, rows)
    return (random.random(rows) < p).astype(float), p


def values(y: object, p: object, **options: bool) -> dict[str, float | None]:
    return {name: metric["value"] for name, metric in evaluate(y, p, np.arange(np.size(y)), seed=0, resamples=2, **options).items()}  # type: ignore[arg-type]


def width(interval: Interval) -> float:
    assert interval["low"] is not None
    assert interval["high"] is not None
    return interval["high"] - interval["low"]


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("decimals", [1, 16], ids=["many ties", "no ties"])
def test_values_agree_with_scikit_learn(name: str, decimals: int) -> None:
    y, p = calibrated_rows(2_000)
    p = np.round(p, decimals)
    assert values(y, p)[name] == pytest.approx(ORACLES[name](y, p), abs=SAME)


@pytest.mark.parametrize("name", ORACLES)
def test_a_resample_is_what_scikit_learn_computes_with_the_customers_as_weights(name: str) -> None:
    y, p = calibrated_rows(300)
    p, users = np.round(p, 1), np.arange(300) // 3
    random = np.random.default_rng(5)
    weights = [np.bincount(random.integers(0, 100, 100), minlength=100)[users] for _ in range(50)]
    oracle = np.percentile([ORACLES[name](y, p, sample_weight=weight) for weight in weights], [2.5, 97.5])
    ours = evaluate(y, p, users, seed=5, resamples=50)[name]
    assert [ours["low"], ours["high"]] == pytest.approx(oracle.tolist(), abs=SAME)


def test_lift_counts_positives_in_the_top_against_the_base_rate() -> None:
    y = np.zeros(20)
    y[[0, 1, 5, 19]] = 1
    seen = values(y, np.linspace(0.95, 0, 20))
    # base rate 4/20; the top row is positive, the top two are, two of the top four are
    assert (seen["lift_5"], seen["lift_10"], seen["lift_20"]) == pytest.approx((5, 5, 2.5))


def test_a_tie_at_the_border_of_the_top_counts_in_proportion() -> None:
    y, p = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0], [0.9, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    # the top two are the first row and one of three tied rows that hold one positive: 1 + 1/3 of 2 found in 20 %
    assert values(y, p)["lift_20"] == pytest.approx((1 + 1 / 3) / 2 / 0.2)


def test_a_constant_score_is_worth_nothing_and_costs_nothing() -> None:
    y = np.array([1, 0, 0, 1, 0])
    seen = evaluate(y, np.full(5, 0.4), np.arange(5), seed=0)
    assert [seen[name]["value"] for name in ("auc", "lift_5", "lift_10", "lift_20", "lift_quality", "ece", "mean_bias")] == [
        0.5,
        1,
        1,
        1,
        0,
        pytest.approx(0, abs=SAME),
        pytest.approx(0, abs=SAME),
    ]
    assert width(seen["lift_10"]) == 0


def test_a_perfect_model_has_lift_quality_100_and_the_reverse_has_minus_100() -> None:
    y = np.array([0, 0, 1, 0, 1])
    assert values(y, y)["lift_quality"] == 100
    assert values(y, 1 - y)["lift_quality"] == -100


def test_a_random_score_has_lift_quality_near_zero() -> None:
    y, _ = calibrated_rows(5_000)
    seen = evaluate(y, np.random.default_rng(1).random(5_000), np.arange(5_000), seed=0)["lift_quality"]
    assert seen["low"] < 0 < seen["high"]  # type: ignore[operator]
    assert width(seen) < 10


def test_lift_quality_is_the_area_of_the_gains_curve_over_that_of_a_perfect_model() -> None:
    y, p = calibrated_rows(800)
    curve, perfect = gains(y, np.round(p, 2)), gains(y, y)
    area, best = (np.trapezoid(each["positives_share"], each["rows_share"]) - 0.5 for each in (curve, perfect))
    assert values(y, np.round(p, 2))["lift_quality"] == pytest.approx(100 * area / best)


def test_repeating_the_rows_of_every_customer_leaves_the_intervals_as_wide() -> None:
    y, p = calibrated_rows(500)
    once = evaluate(y, p, np.arange(500), seed=3)
    repeated = evaluate(np.repeat(y, 6), np.repeat(p, 6), np.repeat(np.arange(500), 6), seed=3)
    pretended = evaluate(np.repeat(y, 6), np.repeat(p, 6), np.arange(3_000), seed=3)
    for name in ("auc", "average_precision", "brier", "lift_10", "base_rate"):
        assert width(repeated[name]) == pytest.approx(width(once[name]), rel=1e-9)
        assert width(pretended[name]) < 0.6 * width(once[name])


def test_an_interval_covers_the_true_value_about_as_often_as_it_says() -> None:
    rates = [evaluate(*calibrated_rows(200, seed), np.arange(200), seed=seed, resamples=100, calibrated=False)["base_rate"] for seed in range(100)]
    covered = sum(rate["low"] <= 0.2 <= rate["high"] for rate in rates)  # type: ignore[operator]
    assert 88 <= covered <= 99  # 95 expected, standard error 2.2


def test_a_gain_is_paired_so_that_a_small_one_shows() -> None:
    y, p = calibrated_rows(2_000)
    worse = np.clip(p + np.random.default_rng(2).normal(0, 0.03, 2_000), 0, 1)
    users = np.arange(2_000)
    gain = evaluate_difference(y, p, worse, users, seed=0)
    assert tuple(gain) == DIFFERENCES
    assert width(gain["auc"]) < width(evaluate(y, p, users, seed=0)["auc"]) / 2
    for name in DIFFERENCES:
        assert gain[name]["value"] == pytest.approx(values(y, p)[name] - values(y, worse)[name])  # type: ignore[operator]


def test_a_model_gains_nothing_over_itself() -> None:
    y, p = calibrated_rows(200)
    assert all(gain == {"value": 0, "low": 0, "high": 0} for gain in evaluate_difference(y, p, p, np.arange(200), seed=0).values())


def test_probabilities_that_are_true_have_an_error_near_the_floor() -> None:
    y, p = calibrated_rows(10_000)
    seen = evaluate(y, p, np.arange(10_000), seed=0, resamples=2)
    floor = seen["ece_floor"]
    assert floor["value"] == ece_floor(p, 0)
    assert floor["low"] <= seen["ece"]["value"] <= floor["high"]  # type: ignore[operator]
    assert values(y, np.sqrt(p))["ece"] > 5 * floor["value"]  # type: ignore[operator]


def test_the_calibration_error_is_the_mean_gap_of_fifteen_equal_bins() -> None:
    y, p = calibrated_rows(1_500)
    order = np.argsort(p)
    gaps = [abs(p[rows].mean() - y[rows].mean()) for rows in np.split(order, 15)]
    assert values(y, p)["ece"] == pytest.approx(np.mean(gaps))
    table = calibration_table(y, p)
    assert (table["predicted"] - table["observed"]).abs().tolist() == pytest.approx(gaps)
    assert table["count"].tolist() == [100] * 15


def test_the_interval_of_a_bin_is_that_of_wilson() -> None:
    table = calibration_table([1] * 2 + [0] * 8, [0.2] * 10)
    # Wilson's interval of 2 in 10, as in every textbook table
    assert table.round(4).to_dict("records") == [{"predicted": 0.2, "observed": 0.2, "count": 10, "low": 0.0567, "high": 0.5098}]


def test_gains_start_at_nothing_and_end_at_everything() -> None:
    table = gains([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.2])
    assert table["rows_share"].tolist() == [0, 0.25, 0.5, 1]
    assert table["positives_share"].tolist() == [0, 0.5, 0.5, 1]
    assert table["lift"].tolist()[1:] == [2, 1, 1]


@pytest.mark.parametrize(("quality", "word"), [(-5, "poor"), (19.9, "poor"), (20, "fair"), (39.9, "fair"), (40, "good"), (60, "good"), (60.1, "excellent")])
def test_grades_change_at_20_40_and_60(quality: float, word: str) -> None:
    assert grade(quality) == word


def test_every_metric_is_there_for_probabilities_and_only_ranking_for_scores() -> None:
    y, p = calibrated_rows(200)
    assert tuple(values(y, p)) == METRICS
    assert tuple(values(y, -50 * p, calibrated=False)) == tuple(name for name in METRICS if name not in PROBABILITY_METRICS)
    assert {"auc", "average_precision", "lift_10"} == set(evaluate_difference(y, p, -50 * p, np.arange(200), seed=0, calibrated=False))


def test_the_order_of_the_rows_changes_nothing() -> None:
    y, p = calibrated_rows(400)
    p, users, turned = np.round(p, 1), np.array([f"u{i // 2}" for i in range(400)]), np.random.default_rng(9).permutation(400)
    before, after = evaluate(y, p, users, seed=1, resamples=20), evaluate(y[turned], p[turned], users[turned], seed=1, resamples=20)
    before.pop("ece_floor"), after.pop("ece_floor")  # simulated row by row, so only its distribution is the same
    assert all(after[name] == pytest.approx(metric, abs=SAME) for name, metric in before.items())


def test_one_customer_gives_values_without_intervals() -> None:
    assert evaluate([1, 0, 1], [0.9, 0.1, 0.4], ["a", "a", "a"], seed=0)["auc"] == {"value": 1, "low": None, "high": None}


def test_what_cannot_be_evaluated_is_refused_with_the_reason() -> None:
    with pytest.raises(NoUsableData, match="no rows"):
        evaluate([], [], [], seed=0)
    with pytest.raises(NoUsableData, match="same outcome"):
        evaluate([0, 0], [0.1, 0.2], ["a", "b"], seed=0)
    with pytest.raises(NoUsableData, match="at least one positive"):
        gains([0, 0], [0.1, 0.2])
    with pytest.raises(ValueError, match="calibrated=False"):
        evaluate([0, 1], [3.0, 5.0], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="0 or 1"):
        evaluate([0, 2], [0.1, 0.2], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="finite"):
        evaluate([0, 1], [0.1, float("nan")], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="one length"):
        evaluate([0, 1], [0.1], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="missing"):
        evaluate([0, 1], [0.1, 0.2], ["a", None], seed=0)  # type: ignore[arg-type, list-item, unused-ignore]
