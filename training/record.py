"""What MLflow keeps of a candidate: parameters, metrics, pictures, card, bundles. Never a row of a user."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from features.files import write_bytes, write_json
from training import plots
from training.card import model_card
from training.evidence import Measured
from training.fit import BLEND, Candidate
from training.gates import Decision
from training.tracking import Tracking


def record_candidate(tracking: Tracking, candidate: Candidate, decision: Decision, run_id: str) -> None:
    """Log a candidate into its open run: parameters, metrics, a child run per cutoff, pictures, card, bundles."""
    asked, evidence, split, served = candidate.asked, candidate.evidence, candidate.split, candidate.served
    params = {
        **asked.describe(),
        "train_cutoffs": ", ".join(map(str, split.train)),
        "test_cutoffs": ", ".join(map(str, split.test)),
        "features": len(served.features),
        "rows": served.about["rows"],
        "positives": served.about["positives"],
        "recipe": BLEND,
    }
    tracking.log(run_id, params, _flat(evidence.metrics), {})
    tracking.log_dataset(run_id, f"{asked.name} examples", str(served.about["data"]), f"{len(served.features)} features")
    for number, (cutoff, measured) in enumerate(evidence.by_cutoff.items()):
        tracking.log(run_id, {}, {f"cutoff.{name}": value for name, value in _flat({"model": measured["model"]}).items()}, {}, steps=number)
        with tracking.run(f"{asked.name} at {cutoff}", {"encore.task": asked.name, "encore.cutoff": cutoff}, run_id) as child:
            tracking.log(child, {"cutoff": cutoff}, _flat(measured), {})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_bytes(folder / "model_card.md", model_card(candidate, decision).encode())
        write_json(folder / "evidence.json", evidence.describe())
        write_json(folder / "features.json", list(served.about["features"].values()))
        draw(candidate, folder / "plots")
        tracking.log_directory(run_id, folder)
    tracking.log_bundle(run_id, served, "bundle")
    tracking.log_bundle(run_id, candidate.evaluated, "evaluated")
    for name, bundle in candidate.baselines.items():
        tracking.log_bundle(run_id, bundle, f"baselines/{name}")


def draw(candidate: Candidate, folder: Path) -> None:
    """Write the pictures that a data scientist expects."""
    y, evidence = candidate.test.y, candidate.evidence
    names = {"model": candidate.asked.name, **candidate.served.about["baselines"]}
    scores = {names[who]: values for who, values in evidence.scores.items()}
    meanings = {name: words["meaning"] for name, words in candidate.served.about["features"].items()}
    figures = {
        "roc": plots.roc(y, scores),
        "precision_recall": plots.precision_recall(y, scores),
        "gains": plots.gains_curve(y, scores),
        "lift": plots.lift_curve(y, scores),
        "score_distribution": plots.score_distribution(y, evidence.scores["model"]),
        "importance": plots.importance(evidence.importance, meanings),
    }
    if candidate.asked.calibrated:
        figures["reliability"] = plots.reliability(y, scores)
    if len(evidence.by_cutoff) > 1:
        figures["stability"] = plots.stability(
            {names[who]: {date.fromisoformat(cutoff): measured[who]["auc"] for cutoff, measured in evidence.by_cutoff.items()} for who in evidence.scores},
            "auc",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        plots.save(figure, folder / f"{name}.png")


def _flat(metrics: Mapping[str, Measured]) -> dict[str, float]:
    """Model and baseline -> metric -> interval, as MLflow's flat names: `auc`, `auc.low`, `rule.auc`."""
    flat = {}
    for who, measured in metrics.items():
        for name, interval in measured.items():
            prefix = name if who == "model" else f"{who}.{name}"
            flat[prefix] = interval["value"]
            flat |= {f"{prefix}.{end}": interval[end] for end in ("low", "high") if interval[end] is not None}
    return {name: float(value) for name, value in flat.items() if value is not None}
