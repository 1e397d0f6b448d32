"""bench/MODELS.md, from what the rows measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models_rows import Experiment, Figure

from training.kinds import KINDS

HEAD = """# How good the predictions are

`python bench/models.py --data DIR`: the product's own pipeline (event log, tiles, snapshots, examples, model and baselines) at the
cutoffs of a fixed protocol. One model a row, trained on label windows that end on or before the first test cutoff; nothing is set on
the test cutoffs. Figures are pooled over the test cutoffs; intervals are 95 %, from 400 bootstraps of whole customers. A cutoff is
midnight; day N is day N of 2017. "Reference" is what earlier experiments on the same data reported; there a model was usually trained
anew for each test cutoff.
"""
UPLIFT = "hillstrom"
UPLIFT_WORDS = (
    "`bench/uplift.py`: four repeats of two-fold cross-fitting. Goal for the women's e-mail and visits: Qini x 1000 of 7.0, stretch 7.6 "
    "(seen 7.2, response model 2.3); for the men's e-mail and for conversions: that the gate refuses."
)
WORDS = {
    "auc": "AUC",
    "brier": "Brier",
    "log_loss": "log-loss",
    "ece_above_floor": "ECE above its floor",
    "integrated_brier": "integrated Brier",
    "integrated_brier_to_bgnbd": "integrated Brier over that of BG/NBD",
    "restricted_mae_to_bgnbd": "restricted MAE over that of BG/NBD",
    "restricted_mae": "restricted MAE, days",
    "gini": "normalised Gini",
    "decile_mape": "decile MAPE",
    "lift_10": "lift at 10 %",
}
MODELS = {False: "blend", True: "logistic alone (fewer than 500 customers of one outcome)"}
BASELINES = {"rfm": "RFM logistic", "bgnbd": "BG/NBD"}
SOURCES = {
    "brands": "15 brands of CJ",
    "complete_journey": "CJ",
    "complete_journey_tiers": "CJ, simulated levels",
    "uci_online_retail": "UCI",
    "cdnow": "CDNOW",
}


def page(rows: Sequence[Experiment], results: Mapping[str, Any]) -> str:
    """Markdown: figures to beat, then everything measured, then how each row was run."""
    done = [row for row in rows if row.name in results]
    missing = [row.name for row in rows if row.name not in results] + [name for name in (UPLIFT,) if name not in results]
    parts = [HEAD, _against_goals(done, results), _everything(done, results), _protocols(done, results)]
    if UPLIFT in results:
        parts.append(f"## Uplift on Hillstrom\n\n{UPLIFT_WORDS}\n\n" + "\n".join(results[UPLIFT]["lines"]) + "\n")
    return "\n".join(parts) + (f"\nNot run: {', '.join(missing)}.\n" if missing else "")


def _against_goals(rows: list[Experiment], results: Mapping[str, Any]) -> str:
    lines = ["| row | task, data | metric | our baselines | ours [95 %] | reference | goal | stretch | reached |", "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        for figure in row.figures:
            lines.append(_figure(row, figure, results[row.name]["metrics"]))
    return "\n".join(lines) + "\n"


def _figure(row: Experiment, figure: Figure, metrics: Mapping[str, Any]) -> str:
    rivals = {name: found[figure.metric]["value"] for name, found in metrics.items() if name != "model" and figure.metric in found}
    others = ", ".join(f"{_called(name, row)} {_number(value)}" for name, value in rivals.items())
    ours = metrics["model"][figure.metric]
    limits = [_number(limit) if limit is not None else "" for limit in (figure.goal, figure.stretch)]
    sign = "" if figure.more else "at most "
    cells = [row.name, f"{row.title}, {SOURCES[row.source]}", WORDS[figure.metric], others, f"**{_number(ours['value'])}** {_range(ours)}", figure.reference]
    return "| " + " | ".join([*cells, f"{sign}{limits[0]}", limits[1], figure.reached(ours["value"])]) + " |"


def _everything(rows: list[Experiment], results: Mapping[str, Any]) -> str:
    lines = ["## All measures of the models, and the gain over each baseline in the main one\n"]
    for row in rows:
        found = results[row.name]
        kind = KINDS["probability" if "auc" in found["metrics"]["model"] else "value" if "gini" in found["metrics"]["model"] else "date"]
        ours = found["metrics"]["model"]
        shown = ", ".join(f"{name} {_number(ours[name]['value'])}" for name in (*kind.shown, "ece_floor", "mean_bias") if name in ours)
        if not found["gains"]:
            continue
        gains = "; ".join(f"over {_called(name, row)} {gain['value']:+.4f} {_range(gain, '+.4f')}" for name, gain in found["gains"].items())
        cutoffs = ", ".join(f"{cutoff} {_number(values['model'])}" for cutoff, values in found["by_cutoff"].items())
        lines.append(f"- **{row.name}**: {shown}. Gain in {WORDS[kind.main]} (above 0 is better): {gains}. By cutoff: {cutoffs}.")
    return "\n".join(lines) + "\n"


def _protocols(rows: list[Experiment], results: Mapping[str, Any]) -> str:
    lines = [
        "## How each row was run\n",
        "| row | eligible | horizon, days | trained at | tested at | rows, train / test | positive | features | model | note |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        found = results[row.name]
        train = found["train_cutoffs"]
        trained = f"{len(train)} cutoffs, {train[0]} to {train[-1]}" if train else f"{row.folds} folds of customers"
        counts = f"{found['rows']['train']:,} / {found['rows']['test']:,}"
        cells = [row.name, found["eligible"], str(found["horizon_days"]), trained, ", ".join(found["test_cutoffs"]), counts]
        lines.append("| " + " | ".join([*cells, f"{found['base_rate']:.3f}", str(found["features"]), MODELS[found["indicative"]], row.note]) + " |")
    return "\n".join(lines) + "\n"


def _called(name: str, row: Experiment) -> str:
    if name == "bgnbd" and row.task.kind == "value":
        return "BG/NBD x Gamma-Gamma"
    return row.task.rule_in_words if name == "rule" else BASELINES.get(name, name)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"


def _range(measured: Mapping[str, Any], form: str = "") -> str:
    if measured["low"] is None:
        return "(no interval)"
    low, high = (format(measured[part], form) if form else _number(measured[part]) for part in ("low", "high"))
    return f"[{low}, {high}]"
