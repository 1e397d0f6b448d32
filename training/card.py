"""The model card: what a person reads before trusting a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.drift import MOVED, STABLE, Drift
from training.evaluate import grade
from training.fit import Candidate
from training.gates import Decision
from training.kinds import KINDS

UNKNOWN: dict[str, float | None] = {"value": None, "low": None, "high": None}


def model_card(candidate: Candidate, decision: Decision, drift: Drift | None = None) -> str:
    """The card as Markdown."""
    about, evidence, split = candidate.served.about, candidate.evidence, candidate.split
    tested = "customers hidden from training" if candidate.asked.task.seed else "the last cutoffs, with a gap of one horizon before them"
    if candidate.asked.extrapolation:
        tested = f"windows of {candidate.asked.label_days} days, not of {candidate.asked.horizon}: {tested}"
    sections = [
        f"# {about['task']}",
        f"**{about['question']}**",
        f"Asked about: {about['eligible']}. Trained on {about['rows']:,} rows, {about['positives']:,} of them positive "
        f"({about['base_rate']:.1%}), cutoffs {about['first_cutoff']} to {about['last_cutoff']}.",
        f"Grade: {grade_of(decision, evidence.metrics['model'])}.",
        *_nowcast(about),
        "## Evidence",
        f"Measured on {tested} ({split.test[0]} to {split.test[-1]}), by the same recipe fitted on cutoffs up to "
        f"{split.train[-1]}. Values with 95 % intervals from a bootstrap over customers.",
        metrics_table(candidate),
        "## Gate",
        "```\n" + decision.text + "\n```",
        "## What it looks at",
        _importance(candidate),
        *_slices(candidate),
        *_drift(drift),
        "## When not to use it",
        _limits(candidate),
    ]
    return "\n\n".join(sections) + "\n"


def metrics_table(candidate: Candidate) -> str:
    """Model and baselines side by side, as a Markdown table."""
    metrics, words = candidate.evidence.metrics, candidate.served.about["baselines"]
    names = KINDS[candidate.asked.kind].shown
    head = "| | " + " | ".join(names) + " |\n|---|" + "---|" * len(names)
    rows = [f"| {words.get(who, who)} | " + " | ".join(cell(measured.get(name, UNKNOWN)) for name in names) + " |" for who, measured in metrics.items()]
    return "\n".join([head, *rows])


def cell(measured: dict[str, float | None]) -> str:
    """A measured value with its 95 % interval, as text."""
    value, low, high = measured["value"], measured["low"], measured["high"]
    if value is None:
        return "-"
    digits = 1 if abs(value) >= 10 else 3
    return f"{value:.{digits}f}" + ("" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def grade_of(decision: Decision, metrics: Any) -> str:
    """A word for how far to trust it: indicative, provisional, or the quality of its lift where it has one."""
    if decision.extrapolation:
        return decision.extrapolation
    if decision.indicative:
        return "indicative"
    quality = grade(metrics["lift_quality"]["value"]) if "lift_quality" in metrics else "measured"
    return f"provisional, {quality}" if decision.provisional else quality


def _importance(candidate: Candidate) -> str:
    words = candidate.served.about["features"]
    top = list(candidate.evidence.importance.items())[:12]
    return "\n".join(f"- {words[name]['meaning']} (`{name}`): {share:.3f}" for name, share in top)


def _slices(candidate: Candidate) -> list[str]:
    """Where the model is better and where worse, by its headline metrics."""
    names = KINDS[candidate.asked.kind].headline
    head = "| | rows | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(names)
    tables = []
    for name, found in candidate.evidence.slices.items():
        rows = [
            f"| {value} | {measured['rows']['value']:,.0f} | " + " | ".join(cell(measured[name]) for name in names) + " |" for value, measured in found.items()
        ]
        tables.append(f"By {name}:\n\n" + "\n".join([head, *rows]))
    return ["## Parts of the users", *tables] if tables else []


def _nowcast(about: Mapping[str, Any]) -> list[str]:
    """That the level was moved, and by how much."""
    if "nowcast" not in about:
        return []
    return [f"A nowcast moves its log-odds by {about['nowcast']['shift']:+.3f}: half of what the label window of {about['nowcast']['window']} asks for."]


def _drift(drift: Drift | None) -> list[str]:
    """The features that moved most since the champion was trained."""
    if drift is None:
        return []
    words = f"The {drift.rows:,} rows of the latest cutoff against what the champion was trained on. PSI below {STABLE}: stable, above {MOVED}: drifted."
    return ["## Drift", words, drift.table()]


def _limits(candidate: Candidate) -> str:
    limits = ["Outside the people it is asked about (above).", "For setting prices."]
    if candidate.asked.extrapolation:
        limits.append(f"As a proven figure: {candidate.asked.extrapolation}.")
    if candidate.asked.kind == "rank":
        limits.append("As a probability: a look-alike's score only ranks.")
    if candidate.asked.task.trigger:
        limits.append("It learned from customers whom the shop chose to send campaigns to; for others it extrapolates.")
    limits.append("To say what a campaign caused: that needs a control group.")
    return "\n".join(f"- {limit}" for limit in limits)
