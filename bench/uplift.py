"""Uplift on Hillstrom's randomised e-mail experiment of 2008, as a Markdown table.

    python bench/uplift.py --data DIR [--plots DIR]

DIR holds hillstrom/campaign_experiment.parquet: 64,000 customers, a third of them sent the women's e-mail, a third the men's,
a third none. Protocol: four repeats of two-fold cross-fitting; learners are chosen within each training half, nothing is
set on the halves that are held out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from training.plots import save
from training.trial import Trial, measure_assignment, require_random_assignment
from training.uplift import cross_fit
from training.uplift_evidence import gather_uplift_evidence, uplift_reasons
from training.uplift_plots import effect_calibration, qini_curves

FILE = "hillstrom/campaign_experiment.parquet"
CONTROL = "No E-Mail"
ARMS = {"women's e-mail": "Womens E-Mail", "men's e-mail": "Mens E-Mail"}
OUTCOMES = ("visit", "conversion")
NUMBERS, KINDS = ("recency", "history", "mens", "womens", "newbie"), ("history_segment", "zip_code", "channel")
COLUMNS = (
    "e-mail",
    "outcome",
    "treated",
    "control",
    "Qini x 1000",
    "response model",
    "gain",
    "response model of the treated",
    "gain",
    "uplift in the top 30 %",
    "average effect",
    "chosen",
    "gate",
)


def trial_of(customers: pd.DataFrame, email: str, outcome: str) -> Trial:
    """One e-mail against none: numbers as they are, kinds as one column each."""
    chosen = customers[customers["segment"].isin([email, CONTROL])]
    features = chosen[list(NUMBERS)].join(pd.get_dummies(chosen[list(KINDS)]))
    return Trial(
        features.to_numpy(np.float64),
        tuple(features.columns),
        chosen[outcome].to_numpy(np.int8),
        (chosen["segment"] == email).to_numpy(bool),
        chosen.index.to_numpy(dtype=object),
    )


def table(customers: pd.DataFrame, plots: Path | None) -> list[str]:
    """The lines of the table; under it why the gate refused."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    refused = []
    for outcome in OUTCOMES:
        for name, email in ARMS.items():
            trial = trial_of(customers, email, outcome)
            assignment = measure_assignment(trial)
            require_random_assignment(assignment)
            evidence = gather_uplift_evidence(trial, cross_fit(trial))
            broken = [reason for reason in uplift_reasons(evidence, assignment) if not reason.passed]
            areas = [evidence.metrics["qini"], *(response[part] for response in evidence.responses.values() for part in ("qini", "gain"))]
            cells = [_interval(area, 1e3, 2) for area in areas]
            cells += [_interval(evidence.metrics[metric], 100, 2) + " %" for metric in ("uplift_30", "average_effect")]
            chosen = ", ".join(f"{learner} {times}x" for learner, times in evidence.learners.items())
            row = (name, outcome, f"{trial.treated.sum():,}", f"{(~trial.treated).sum():,}", *cells, chosen, "refused" if broken else "passed")
            lines.append("| " + " | ".join(row) + " |")
            refused += [f"- {name}, {outcome}: {reason.rule}: {reason.text}." for reason in broken]
            if plots:
                save(qini_curves(evidence), plots / f"qini_{email.split()[0].lower()}_{outcome}.png")
                save(effect_calibration(evidence), plots / f"calibration_{email.split()[0].lower()}_{outcome}.png")
    return [*lines, "", *refused]


def _interval(measured: dict[str, float | None], factor: float, digits: int) -> str:
    value, low, high = (f"{factor * (measured[part] or 0):.{digits}f}" for part in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if measured["low"] is not None else f"{value} (no interval)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {FILE}")
    parser.add_argument("--plots", type=Path, help="folder for the curves as PNG")
    asked = parser.parse_args()
    sys.stdout.write("\n".join(table(pd.read_parquet(asked.data / FILE), asked.plots)) + "\n")


if __name__ == "__main__":
    main()
