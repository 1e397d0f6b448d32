"""What MLflow keeps of a candidate: parameters, metrics, pictures, card, bundles. Never a row of a user."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from features.files import write_bytes, write_json
from training import kind_plots, plots, uplift_plots
from training.blend import Matrix
from training.card import model_card
from training.curves import curves_of
from training.drift import Drift
from training.fit import BLEND, INDICATIVE, Candidate
from training.gates import Decision
from training.kinds import KINDS, Measured
from training.tracking import Tracking

NOTHING = np.zeros(0)
Told = Mapping[str, Matrix]  # model and baselines by their names -> what they predict of the test rows


def record_candidate(tracking: Tracking, candidate: Candidate, decision: Decision, run_id: str, drift: Drift | None = None) -> None:
    """Log a candidate into its open run: parameters, metrics, a child run per cutoff, pictures, card, table of drift, bundles."""
    asked, evidence, split, served = candidate.asked, candidate.evidence, candidate.split, candidate.served
    params = {
        **asked.describe(),
        "train_cutoffs": ", ".join(map(str, split.train)),
        "test_cutoffs": ", ".join(map(str, split.test)),
        "features": len(served.features),
        "rows": served.about["rows"],
        "positives": served.about["positives"],
        "recipe": INDICATIVE if candidate.indicative else BLEND,
    }
    tracking.log(run_id, params, _flat(evidence.metrics) | (drift.metrics if drift else {}), {})
    tracking.log_dataset(run_id, f"{asked.name} examples", str(served.about["data"]), f"{len(served.features)} features")
    for number, (cutoff, measured) in enumerate(evidence.by_cutoff.items()):
        tracking.log(run_id, {}, {f"cutoff.{name}": value for name, value in _flat({"model": measured["model"]}).items()}, {}, steps=number)
        with tracking.run(f"{asked.name} at {cutoff}", {"encore.task": asked.name, "encore.cutoff": cutoff}, run_id) as child:
            tracking.log(child, {"cutoff": cutoff}, _flat(measured), {})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_bytes(folder / "model_card.md", model_card(candidate, decision, drift).encode())
        if drift:
            write_json(folder / "drift.json", drift.describe())
        write_json(folder / "evidence.json", evidence.describe())
        write_json(folder / "features.json", list(served.about["features"].values()))
        write_json(folder / "curves.json", curves_of(candidate))
        draw(candidate, folder / "plots")
        tracking.log_directory(run_id, folder)
    tracking.log_bundle(run_id, served, "bundle")
    tracking.log_bundle(run_id, candidate.evaluated, "evaluated")
    for name, bundle in candidate.baselines.items():
        tracking.log_bundle(run_id, bundle, f"baselines/{name}")


def draw(candidate: Candidate, folder: Path) -> None:
    """Write the pictures that a data scientist expects of this kind of prediction."""
    evidence, kind = candidate.evidence, KINDS[candidate.asked.kind]
    names = {"model": candidate.asked.name, **candidate.served.about["baselines"]}
    told = {names[who]: values for who, values in evidence.scores.items()}
    meanings = {name: words["meaning"] for name, words in candidate.served.about["features"].items()}
    figures = PICTURES[kind.name](candidate, told, evidence.scores.get("model", NOTHING))
    figures["importance"] = plots.importance(evidence.importance, meanings)
    if evidence.uplift:
        figures |= {"qini": uplift_plots.qini_curves(evidence.uplift), "effect": uplift_plots.effect_calibration(evidence.uplift)}
    if len(evidence.by_cutoff) > 1:
        curves = {who: {date.fromisoformat(cutoff): measured[who][kind.main] for cutoff, measured in evidence.by_cutoff.items()} for who in evidence.scores}
        figures["stability"] = plots.stability({names[who]: curve for who, curve in curves.items()}, kind.main)
    if evidence.slices:
        figures["slices"] = kind_plots.by_slice(evidence.slices, kind.main, evidence.metrics["model"][kind.main]["value"])
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        plots.save(figure, folder / f"{name}.png")


def _rank_pictures(candidate: Candidate, told: Told, model: Matrix) -> dict[str, Figure]:
    happened = candidate.test.y
    return {
        "roc": plots.roc(happened, told),
        "precision_recall": plots.precision_recall(happened, told),
        "gains": plots.gains_curve(happened, told),
        "lift": plots.lift_curve(happened, told),
        "score_distribution": plots.score_distribution(happened, model),
    }


def _probability_pictures(candidate: Candidate, told: Told, model: Matrix) -> dict[str, Figure]:
    return {**_rank_pictures(candidate, told, model), "reliability": plots.reliability(candidate.test.y, told)}


def _value_pictures(candidate: Candidate, told: Told, model: Matrix) -> dict[str, Figure]:
    spent, currency = np.asarray(candidate.test.amount), str(candidate.served.about["currency"])
    return {"spend_captured": kind_plots.spend_captured(spent, told), "spend_by_tenth": kind_plots.spend_by_tenth(spent, model, currency)}


def _date_pictures(candidate: Candidate, told: Told, model: Matrix) -> dict[str, Figure]:
    test = candidate.test
    return {"waiting": kind_plots.waiting_curves(np.asarray(test.amount), model, test.edges)}


PICTURES = {"probability": _probability_pictures, "rank": _rank_pictures, "value": _value_pictures, "date": _date_pictures, "effect": lambda *_: {}}


def _flat(metrics: Mapping[str, Measured]) -> dict[str, float]:
    """Model and baseline -> metric -> interval, as MLflow's flat names: `auc`, `auc.low`, `rule.auc`."""
    flat = {}
    for who, measured in metrics.items():
        for name, interval in measured.items():
            prefix = name if who == "model" else f"{who}.{name}"
            flat[prefix] = interval["value"]
            flat |= {f"{prefix}.{end}": interval[end] for end in ("low", "high") if interval[end] is not None}
    return {name: float(value) for name, value in flat.items() if value is not None}
