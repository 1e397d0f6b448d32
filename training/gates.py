"""The gate: may this challenger replace that champion? Yes or no, with reasons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from training.bundle import Bundle
from training.evidence import Evidence
from training.examples import Examples
from training.kinds import Kind

LARGEST_SINGLE_AUC = 0.9
ECE_ABOVE_FLOOR, LARGEST_BIAS = 0.010, 0.015
LARGEST_LEVEL_ERROR, LARGEST_COVERAGE_ERROR = 0.10, 0.05
LEAST_GAIN = 0.0
EXPLAINED = {
    "nowcast": "The base rate moves: the level follows half of what the latest window shows, here and in what is served",
    "season": "It was off alike in the same season a year earlier: what is served will be, too",
}
IN_WORDS = {"auc": "AUC", "log_loss": "log-loss", "gini": "normalised Gini", "integrated_brier": "integrated Brier score"}


@dataclass(frozen=True)
class Reason:
    """One rule of the gate: what was measured, against what, and whether it holds.

    warning: it holds, but whoever uses the model should know how.
    """

    rule: str
    passed: bool
    text: str
    warning: bool = False

    @property
    def verdict(self) -> str:
        """pass, warn or FAIL."""
        return "FAIL" if not self.passed else "warn" if self.warning else "pass"


@dataclass(frozen=True)
class Decision:
    """What the gate says.

    provisional: the data span did not permit four test cutoffs, three of them apart. indicative: fewer than 500 of one
    outcome stand behind the model. extrapolation: that no window has proven it for so long a time, in words.
    """

    promote: bool
    provisional: bool
    indicative: bool
    reasons: tuple[Reason, ...]
    extrapolation: str = ""

    @property
    def text(self) -> str:
        verdict = "passed" if self.promote else "refused"
        grade = " (provisional: fewer than four test cutoffs, or fewer than three that do not overlap)" if self.provisional else ""
        grade += " (indicative: fewer than 500 positives or negatives)" if self.indicative else ""
        grade += f" ({self.extrapolation})" if self.extrapolation else ""
        return f"{verdict}{grade}\n" + "\n".join(f"{reason.verdict}  {reason.rule}: {reason.text}" for reason in self.reasons)

    def also(self, reason: Reason) -> Decision:
        """The decision with one more rule."""
        return replace(self, promote=self.promote and reason.passed, reasons=(*self.reasons, reason))


def decide(
    evidence: Evidence,
    test: Examples,
    champion: Bundle | None,
    kind: Kind,
    provisional: bool,
    indicative: bool = False,
    signed_off: Collection[str] = (),
) -> Decision:
    """Hold a challenger against the baselines, against the champion and against its own calibration.

    Args:
        signed_off: features that somebody looked at and found honest, however well they rank alone.
        champion: the model whose evidence made it champion, fitted on windows that end before these test cutoffs.
    """
    if kind.name == "effect":
        return Decision(all(reason.passed for reason in evidence.reasons), provisional, indicative, evidence.reasons)
    reasons = [*beats_baselines(evidence, kind), *no_leak(evidence, signed_off)]
    reasons += LEVEL[kind.name](evidence)
    if champion is not None:
        reasons.append(no_worse_than(champion, evidence, test, kind))
    return Decision(all(reason.passed for reason in reasons), provisional, indicative, tuple(reasons))


def beats_baselines(evidence: Evidence, kind: Kind) -> list[Reason]:
    """The whole interval of the gain over each baseline, in the kind's main metric, lies above zero."""
    reasons = []
    for name, difference in evidence.gains.items():
        gain = kind.gain(difference)
        passed = gain["low"] is not None and gain["low"] > LEAST_GAIN
        reasons.append(Reason(f"beats {name}", passed, f"{IN_WORDS[kind.main]} gain {_interval(gain)}; its lower end must be above 0"))
    return reasons


def is_calibrated(evidence: Evidence) -> list[Reason]:
    """ECE is near what sampling alone gives, and the mean probability near the observed rate."""
    metrics = evidence.metrics["model"]
    explained = next((correction for correction in evidence.corrections if correction.holds), None)
    judged: Mapping[str, Any] = explained.metrics if explained else metrics
    ece, floor = (judged[name]["value"] for name in ("ece", "ece_floor"))
    calibration = f"ECE {ece:.4f}; at most {floor + ECE_ABOVE_FLOOR:.4f} (floor {floor:.4f} + {ECE_ABOVE_FLOOR})"
    bias = f"mean probability minus observed rate {metrics['mean_bias']['value']:+.4f}; at most {LARGEST_BIAS} either way"
    if explained:
        calibration, bias = f"{calibration}, with the {explained.name} taken into account", f"{bias}. {EXPLAINED[explained.name]} ({explained.text})"
    else:
        bias = ". ".join([bias, *(f"The {correction.name} does not explain it ({correction.text})" for correction in evidence.corrections)])
    holds = explained is not None or abs(metrics["mean_bias"]["value"]) <= LARGEST_BIAS
    return [Reason("calibration", ece <= floor + ECE_ABOVE_FLOOR, calibration), Reason("mean bias", holds, bias, warning=explained is not None)]


def is_at_level(evidence: Evidence) -> list[Reason]:
    """The sum of the predicted amounts is near what was spent."""
    level = evidence.metrics["model"]["sum_ratio"]["value"]
    passed = abs(level - 1) <= LARGEST_LEVEL_ERROR
    return [Reason("level", passed, f"predicted sum over observed sum {level:.3f}; at most {LARGEST_LEVEL_ERROR:.0%} off 1")]


def window_holds(evidence: Evidence) -> list[Reason]:
    """Of the 10-90 % windows as many hold as should: four in five, and more where the 90 % day is after the horizon."""
    share, nominal = (evidence.metrics["model"][name]["value"] for name in ("coverage", "nominal_coverage"))
    text = f"{share:.1%} of the 10-90 % windows hold; within {LARGEST_COVERAGE_ERROR:.0%} of {nominal:.1%}"
    return [Reason("window", abs(share - nominal) <= LARGEST_COVERAGE_ERROR, text)]


LEVEL: dict[str, Callable[[Evidence], list[Reason]]] = {"probability": is_calibrated, "rank": lambda evidence: [], "value": is_at_level, "date": window_holds}


def no_leak(evidence: Evidence, signed_off: Collection[str] = ()) -> list[Reason]:
    """No feature is too good to be true, unless somebody answers for it, and shuffled labels teach nothing."""
    mean, error = evidence.shuffled
    return [
        single_feature(evidence.alone, signed_off),
        Reason("shuffled labels", abs(mean - 0.5) <= 3 * error, f"mean AUC {mean:.4f} +- {error:.4f}; must be within 3 standard errors of .5"),
    ]


def single_feature(alone: Mapping[str, float], signed_off: Collection[str]) -> Reason:
    """Features that rank above .9 by themselves are leaks until signed off."""
    suspects = [name for name, area in alone.items() if area > LARGEST_SINGLE_AUC and name not in signed_off]
    name, area = next(iter(alone.items()))
    if not suspects:
        answered = ", signed off" if area > LARGEST_SINGLE_AUC else ""
        return Reason("single feature", True, f"{name} alone has AUC {area:.3f}{answered}; above {LARGEST_SINGLE_AUC} it is a leak until signed off")
    found = ", ".join(f"{name} ({alone[name]:.3f})" for name in suspects)
    return Reason(
        "single feature",
        False,
        f"AUC alone above {LARGEST_SINGLE_AUC}: {found}. That is a leak until you know better: `encore features describe NAME` says how it is made; "
        f'if it is honest, sign it off in encore.toml: signed_off = ["{suspects[0]}"]',
    )


def no_worse_than(champion: Bundle, evidence: Evidence, test: Examples, kind: Kind) -> Reason:
    """The challenger may not lose to the champion on rows that neither has learned from.

    A champion that needs features which no longer exist could not be served either, so it holds nobody up.
    """
    gone = [name for name in champion.features if not test.has(name)]
    if gone:
        return Reason("no worse than the champion", True, f"not compared: the champion needs features that the data no longer have ({', '.join(gone)})")
    theirs = kind.predict(champion, test.of(champion.features))
    loss = kind.loss(kind.difference(test, evidence.scores["model"], theirs))
    metric, most = kind.tolerance
    passed = loss["high"] is not None and loss["high"] < most
    return Reason("no worse than the champion", passed, f"worse by {_interval(loss)} in {IN_WORDS[metric]}; the upper end must be below {most}")


def best_baseline(evidence: Evidence, kind: Kind) -> str:
    """The baseline to serve when no model passes and there is no champion: the best by the metric of the kind."""
    by, rises = ("log_loss", False) if kind.name == "probability" else (kind.main, kind.more_is_better)

    def badness(name: str) -> tuple[float, str]:
        value = float(evidence.metrics[name][by]["value"])
        return (-value if rises else value, name)

    return min(evidence.gains, key=badness)


def _interval(measured: Mapping[str, Any]) -> str:
    if measured["low"] is None:
        return f"{measured['value']:+.4f} (no interval)"
    return f"{measured['value']:+.4f} [{measured['low']:+.4f}, {measured['high']:+.4f}]"
