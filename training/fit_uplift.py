"""Fitting the effect of a campaign, and its evidence in the shape that all predictions share."""

from __future__ import annotations

import numpy as np

from training.bundle import Bundle
from training.evidence import Evidence, importance
from training.examples import Examples
from training.trial import Trial, measure_assignment, require_outcomes, require_random_assignment
from training.uplift import cross_fit, fit_uplift
from training.uplift_evidence import gather_uplift_evidence, uplift_reasons
from training.uplift_model import Uplift

REPEATS = 2  # of the cross-fitting: each costs a minute on a hundred thousand customers


def trial_of(rows: Examples) -> Trial:
    """The examples of a lot as a trial."""
    return Trial(rows.X, rows.names, rows.y, np.asarray(rows.treated, dtype=bool), rows.users)


def fit_effect(rows: Examples) -> Uplift:
    """The learner that ranks effects best within the rows, fitted on all of them."""
    return fit_uplift(trial_of(rows)).model


def gather_effect_evidence(served: Bundle, rows: Examples) -> Evidence:
    """Cross-fitted over customers: every one is judged by models that have not seen them.

    Raises:
        NoUsableData: too few outcomes in an arm, or the arms do not look drawn by lot.
    """
    trial = trial_of(rows)
    require_outcomes(trial)
    assignment = measure_assignment(trial)
    require_random_assignment(assignment)
    found = gather_uplift_evidence(trial, cross_fit(trial, repeats=REPEATS))
    count = {"value": float(len(trial)), "low": None, "high": None}
    return Evidence(
        metrics={"model": {**found.metrics, "rows": count}, **{name: {"qini": measured["qini"], "rows": count} for name, measured in found.responses.items()}},
        gains={name: {"qini": measured["gain"]} for name, measured in found.responses.items()},
        by_cutoff={},
        slices={},
        importance=importance(served, rows),
        alone={},
        shuffled=(0.5, 0.0),
        scores={},
        uplift=found,
        reasons=tuple(uplift_reasons(found, assignment)),
    )
