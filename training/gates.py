"""The gate: may this challenger replace that champion? Yes or no, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.bundle import Bundle
from training.evaluate import evaluate_difference
from training.evidence import SEED, Evidence
from training.examples import Examples

LARGEST_SINGLE_AUC = 0.9
ECE_ABOVE_FLOOR, LARGEST_BIAS = 0.010, 0.015
LARGEST_LOG_LOSS_LOSS = 0.001
LEAST_AUC_GAIN = 0.0


@dataclass(frozen=True)
class Reason:
    """One rule of the gate: what was measured, against what, and whether it holds."""

    rule: str
    passed: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """What the gate says. `provisional`: the data span did not permit four test cutoffs, three of them apart."""

    promote: bool
    provisional: bool
    reasons: tuple[Reason, ...]

    @property
    def text(self) -> str:
        verdict = "passed" if self.promote else "refused"
        grade = " (provisional: fewer than four test cutoffs, or fewer than three that do not overlap)" if self.provisional else ""
        return f"{verdict}{grade}\n" + "\n".join(f"{'pass' if reason.passed else 'FAIL'}  {reason.rule}: {reason.text}" for reason in self.reasons)


def decide(evidence: Evidence, test: Examples, champion: Bundle | None, calibrated: bool, provisional: bool) -> Decision:
    """Hold a challenger against the baselines, against the champion and against its own calibration.

    Args:
        champion: the model whose evidence made it champion, fitted on windows that end before these test cutoffs.
    """
    reasons = [*beats_baselines(evidence), *no_leak(evidence)]
    if calibrated:
        reasons += is_calibrated(evidence)
    if champion is not None:
        reasons.append(no_worse_than(champion, evidence, test, calibrated))
    return Decision(all(reason.passed for reason in reasons), provisional, tuple(reasons))


def beats_baselines(evidence: Evidence) -> list[Reason]:
    """The whole interval of the AUC gain over each baseline lies above zero."""
    reasons = []
    for name, gain in evidence.gains.items():
        auc = gain["auc"]
        passed = auc["low"] is not None and auc["low"] > LEAST_AUC_GAIN
        reasons.append(Reason(f"beats {name}", passed, f"AUC gain {_interval(auc)}; its lower end must be above 0"))
    return reasons


def is_calibrated(evidence: Evidence) -> list[Reason]:
    """ECE is near what sampling alone gives, and the mean probability near the observed rate."""
    metrics = evidence.metrics["model"]
    ece, floor, bias = (metrics[name]["value"] for name in ("ece", "ece_floor", "mean_bias"))
    return [
        Reason("calibration", ece <= floor + ECE_ABOVE_FLOOR, f"ECE {ece:.4f}; at most {floor + ECE_ABOVE_FLOOR:.4f} (floor {floor:.4f} + {ECE_ABOVE_FLOOR})"),
        Reason("mean bias", abs(bias) <= LARGEST_BIAS, f"mean probability minus observed rate {bias:+.4f}; at most {LARGEST_BIAS} either way"),
    ]


def no_leak(evidence: Evidence) -> list[Reason]:
    """No feature is too good to be true, and shuffled labels teach nothing."""
    name, area = evidence.strongest
    mean, error = evidence.shuffled
    return [
        Reason("single feature", area <= LARGEST_SINGLE_AUC, f"{name} alone has AUC {area:.3f}; above {LARGEST_SINGLE_AUC} it is a leak until signed off"),
        Reason("shuffled labels", abs(mean - 0.5) <= 3 * error, f"mean AUC {mean:.4f} +- {error:.4f}; must be within 3 standard errors of .5"),
    ]


def no_worse_than(champion: Bundle, evidence: Evidence, test: Examples, calibrated: bool) -> Reason:
    """The challenger may not lose to the champion on rows that neither has learned from.

    A champion that needs features which no longer exist could not be served either, so it holds nobody up.
    """
    gone = [name for name in champion.features if name not in test.names]
    if gone:
        return Reason("no worse than the champion", True, f"not compared: the champion needs features that the data no longer have ({', '.join(gone)})")
    theirs = champion.scores(test.X[:, champion.align(test.names)])
    difference = evaluate_difference(test.y, evidence.scores["model"], theirs, test.users, seed=SEED)
    if calibrated:
        loss = difference["log_loss"]
        passed = loss["high"] is not None and loss["high"] < LARGEST_LOG_LOSS_LOSS
        return Reason("no worse than the champion", passed, f"log loss difference {_interval(loss)}; its upper end must be below {LARGEST_LOG_LOSS_LOSS}")
    auc = difference["auc"]
    passed = auc["low"] is not None and auc["low"] > -0.01
    return Reason("no worse than the champion", passed, f"AUC difference {_interval(auc)}; its lower end must be above -0.01")


def best_baseline(evidence: Evidence) -> str:
    """The baseline to serve when no model passes and there is no champion: least log loss, or highest AUC for ranks."""

    def badness(name: str) -> tuple[float, str]:
        metrics: Mapping[str, Any] = evidence.metrics[name]
        return (metrics["log_loss"]["value"] if "log_loss" in metrics else -metrics["auc"]["value"], name)

    return min(evidence.gains, key=badness)


def _interval(measured: Mapping[str, Any]) -> str:
    if measured["low"] is None:
        return f"{measured['value']:+.4f} (no interval)"
    return f"{measured['value']:+.4f} [{measured['low']:+.4f}, {measured['high']:+.4f}]"
