"""How good what was served turned out to be, by the metrics of its kind, apart for those whom no campaign reached and those whom one did.

Treatment changes outcomes: a model of who buys anyway is judged on the untreated. The treated are shown beside them, and all together,
which is what a model that learned among campaigns speaks of. Intervals are those of `training.evaluate`, over customers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from features.errors import NoUsableData
from serving.quality.outcome import Outcome, within
from training.evaluate import BINS, Z_95, calibration_table, evaluate, promised
from training.evaluate_value import evaluate_value
from training.evaluate_waiting import evaluate_window
from training.kinds import RESAMPLES, SEED
from training.trial import Trial
from training.uplift_evidence import HeldOut, gather_uplift_evidence

STRATA = ("all", "untreated", "treated")
TENTHS = 10
LEAST_IN_BIN = 40  # rows of a bin of the reliability curve: of fewer a rate says nothing


def measured(outcome: Outcome) -> dict[str, Any]:
    """Stratum -> rows, customers, expected and actual, metrics, what the scores themselves promised, reliability; JSON values.

    A stratum that cannot be measured says why under `unknown`. Effects are measured on their lot, which holds treated and untreated: all together.
    """
    masks = {"all": np.ones(len(outcome), dtype=bool), "untreated": ~outcome.treated, "treated": outcome.treated}
    names = STRATA[:1] if outcome.asked.kind == "effect" else STRATA
    return {name: _stratum(outcome.take(masks[name])) for name in names}


def _stratum(rows: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"rows": len(rows), "customers": len(set(rows.people)), "positives": int(rows.y.sum())}
    if not len(rows):
        return {**told, "unknown": "nobody"}
    try:
        return {**told, **MEASURES[rows.asked.kind](rows)}
    except NoUsableData as error:
        return {**told, "unknown": str(error)}


def _chance(rows: Outcome) -> dict[str, Any]:
    y, p = rows.y.astype(float), rows.served.score
    metrics = evaluate(y, p, rows.people, seed=SEED, resamples=RESAMPLES)
    spread = Z_95 * float(np.sqrt((p * (1 - p)).sum()))  # of a sum of independent yes-or-no outcomes
    return {
        "metrics": metrics,
        "promised": promised(p, SEED),
        "expected": {"value": float(p.sum()), "low": float(p.sum()) - spread, "high": float(p.sum()) + spread},
        "actual": float(y.sum()),
        "reliability": calibration_table(y, p, bins=max(2, min(BINS, len(rows) // LEAST_IN_BIN))).to_dict("records"),
    }


def _date(rows: Outcome) -> dict[str, Any]:
    found = {**_chance(rows), "within_days": within(rows.asked)}
    if rows.served.details and rows.amount is not None:
        window = evaluate_window(rows.amount, rows.served.details, rows.asked.edges[-1], rows.people, seed=SEED, resamples=RESAMPLES)
        found["metrics"] |= window
    return found


def _rank(rows: Outcome) -> dict[str, Any]:
    metrics = evaluate(rows.y.astype(float), rows.served.score, rows.people, seed=SEED, resamples=RESAMPLES, calibrated=False)
    return {"metrics": metrics, "actual": float(rows.y.sum())}


def _value(rows: Outcome) -> dict[str, Any]:
    spent, told = np.asarray(rows.amount), rows.served.score
    tenths = [part for part in np.array_split(np.argsort(told, kind="stable"), TENTHS) if len(part)]
    return {
        "metrics": evaluate_value(spent, told, rows.people, seed=SEED, resamples=RESAMPLES),
        "expected": {"value": float(told.sum()), "low": None, "high": None},
        "actual": float(spent.sum()),
        "tenths": [{"predicted": float(told[part].mean()), "observed": float(spent[part].mean()), "count": len(part)} for part in tenths],
    }


def _effect(rows: Outcome) -> dict[str, Any]:
    effect = rows.served.score
    trial = Trial(np.empty((len(rows), 0)), (), rows.y.astype(np.int8), np.asarray(rows.arm), rows.people)
    if not 0 < trial.treated.sum() < len(trial):
        raise NoUsableData("Of those in the lot all are of one arm.")
    evidence = gather_uplift_evidence(trial, [HeldOut(np.arange(len(rows)), effect, "served", {})])
    return {"metrics": dict(evidence.metrics), "expected": {"value": float(effect.mean()), "low": None, "high": None}}


MEASURES: Mapping[str, Callable[[Outcome], dict[str, Any]]] = {"probability": _chance, "date": _date, "rank": _rank, "value": _value, "effect": _effect}
