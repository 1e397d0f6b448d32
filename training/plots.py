"""Pictures of an evaluation, each a matplotlib `Figure` for the report and the run log.

Where models are compared, `scores` names them: the first is the model, the others are baselines. Every curve is drawn
from `evaluate.gains`, so a picture cannot disagree with the numbers beside it. No pyplot: nothing global is opened or
left open. Colours are those of Okabe and Ito (2008), told apart by colour-blind readers and, with the line styles, in print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from features.errors import NoUsableData
from training.evaluate import Interval, calibration_table, gains

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

MODEL, NEGATIVE, REFERENCE, INK = "#0072B2", "#D55E00", "#7F7F7F", "#333333"
BASELINES = (("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", (0, (1, 1))), ("#E69F00", (0, (5, 1, 1, 1, 1, 1))))
DPI = 160
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a picture is the same on every machine
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": REFERENCE,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.edgecolor": "none",
    "legend.fontsize": 9,
}
METRIC_LABELS = {
    "gini": "normalised Gini (0 = chance)",
    "integrated_brier": "integrated Brier score (lower is better)",
    "auc": "AUC (0.5 = chance)",
    "average_precision": "average precision (chance = base rate)",
    "log_loss": "log-loss in nats (lower is better)",
    "brier": "Brier score (lower is better)",
    "ece": "calibration error (lower is better)",
    "mean_bias": "mean bias (0 = none)",
    "lift_5": "lift in the top 5 %",
    "lift_10": "lift in the top 10 %",
    "lift_20": "lift in the top 20 %",
    "lift_quality": "lift quality (%)",
    "base_rate": "base rate",
}
SMALLEST_TOP = 20
"""The rate of positives among fewer rows than this is chance and is not drawn."""


@rc_context(STYLE)
def roc(y: ArrayLike, scores: Mapping[str, ArrayLike]) -> Figure:
    """Share of positives found against share of negatives taken along; the area under it (AUC) is in the legend."""
    figure, axes = figure_with("ROC: positives found at the price of false alarms", _population(y))
    for name, curve, style in _curves(y, scores):
        area = np.trapezoid(curve["positives_share"], curve["negatives_share"])
        axes.plot(curve["negatives_share"], curve["positives_share"], label=f"{name} (AUC {area:.3f})", **style)
    axes.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", label="random (AUC 0.500)")
    _show_shares(axes, "false alarms: share of all negatives (%)", "found: share of all positives (%)")
    axes.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def precision_recall(y: ArrayLike, scores: Mapping[str, ArrayLike]) -> Figure:
    """Precision against recall, without tops under 20 rows; average precision (AP) is in the legend, chance is the base rate."""
    rate = _base_rate(y)
    figure, axes = figure_with("Precision and recall: how pure a selection stays as it grows", _population(y))
    for name, curve, style in _curves(y, scores):
        precision = rate * curve["lift"]
        average = (np.diff(curve["positives_share"]) * precision[1:]).sum()
        large = curve["rows_share"] * np.size(y) >= SMALLEST_TOP
        axes.plot(curve["positives_share"][large], precision[large], drawstyle="steps-pre", label=f"{name} (AP {average:.3f})", **style)
    axes.axhline(rate, color=REFERENCE, linestyle=":", label=f"random (AP {rate:.3f})")
    _show_shares(axes, "recall: share of all positives found (%)", "precision: positives among the selected (%)")
    axes.legend(loc="best")
    return figure


@rc_context(STYLE)
def reliability(y: ArrayLike, scores: Mapping[str, ArrayLike]) -> Figure:
    """Observed rate against predicted probability in 15 equal-mass bins; below it, how many rows have which probability.

    `scores` must be probabilities. The model carries Wilson 95 % bars, the baselines are lines.
    """
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _write_title(figure, axes, "Reliability: does it happen as often as predicted?", _population(y))
    tables = {name: calibration_table(y, p) for name, p in scores.items()}
    shown = np.asarray(next(iter(scores.values())), dtype=float)
    top = min(1.0, 1.05 * max(shown.max(), *(table[["predicted", "high"]].to_numpy().max() for table in tables.values())))
    for (name, table), style in zip(tables.items(), styles(), strict=False):
        axes.plot(table["predicted"], table["observed"], marker="o", markersize=4, label=name, **style)
    axes.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", label="perfectly calibrated")
    _draw_bars(axes, next(iter(tables.values())))
    counts.hist(shown, bins=np.linspace(0, top, 41).tolist(), color=MODEL, alpha=0.75)
    _show_shares(axes, "", "observed rate (%)", top)
    counts.set(xlabel="predicted probability (%)", ylabel="rows")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def gains_curve(y: ArrayLike, scores: Mapping[str, ArrayLike]) -> Figure:
    """Share of the positives reached when the best-scored share of customers is chosen, between random and perfect."""
    figure, axes = figure_with("Gains: share of all positives reached by choosing from the top", _population(y))
    for name, curve, style in _curves(y, scores):
        found = np.interp(0.2, curve["rows_share"], curve["positives_share"])
        axes.plot(curve["rows_share"], curve["positives_share"], label=f"{name} ({100 * found:.0f} % in the top 20 %)", **style)
    axes.plot([0, _base_rate(y), 1], [0, 1, 1], color=REFERENCE, linewidth=1, label="perfect model")
    axes.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", label="random choice")
    _show_shares(axes, "chosen: share of all rows, best scores first (%)", "reached: share of all positives (%)")
    axes.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def lift_curve(y: ArrayLike, scores: Mapping[str, ArrayLike]) -> Figure:
    """How many times the base rate the best-scored share of customers reaches; tops under 20 rows are left out."""
    figure, axes = figure_with("Lift: how many times better than a random choice", _population(y))
    share = np.linspace(min(1.0, max(0.01, SMALLEST_TOP / np.size(y))), 1, 200)
    for name, curve, style in _curves(y, scores):
        lift = np.interp(share, curve["rows_share"], curve["positives_share"]) / share
        top = np.interp(0.1, curve["rows_share"], curve["positives_share"]) / 0.1
        axes.plot(share, lift, label=f"{name} ({top:.1f} in the top 10 %)", **style)
    axes.axhline(1, color=REFERENCE, linestyle=":", label="random choice (1.0)")
    axes.set(xlim=(0, 1), xlabel="chosen: share of all rows, best scores first (%)", ylabel="lift (times the base rate)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="lower left")
    return figure


@rc_context(STYLE)
def score_distribution(y: ArrayLike, p: ArrayLike) -> Figure:
    """Distribution of one model's score among positives and among negatives, each adding up to 100 %."""
    outcome, score = np.asarray(y, dtype=float), np.asarray(p, dtype=float)
    figure, axes = figure_with("Scores of those who did and those who did not", _population(y))
    edges = np.histogram_bin_edges(score, bins=40)
    for value, name, (colour, line) in ((0, "negative", (NEGATIVE, "--")), (1, "positive", (MODEL, "-"))):
        chosen = score[outcome == value]
        height = np.histogram(chosen, edges)[0] / max(1, chosen.size)
        label = f"{name} ({chosen.size:,} rows, mean {chosen.mean():.2f})" if chosen.size else f"{name} (no rows)"
        axes.stairs(height, edges, fill=True, color=colour, alpha=0.18)
        axes.stairs(height, edges, color=colour, linestyle=line, linewidth=1.8, label=label)
    axes.set(xlabel="score of the model", ylabel="share of the rows of that outcome (%)", xlim=(edges[0], edges[-1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="upper right")
    return figure


@rc_context(STYLE)
def importance(weights: Mapping[str, float], meanings: Mapping[str, str], *, top: int = 15, unit: str = "mean absolute contribution (log-odds)") -> Figure:
    """The `top` features by size of weight, largest first, called by their meaning; a negative weight is in orange.

    `weights` maps a feature to its weight in `unit`; a feature without a meaning is called by its name.
    """
    chosen = sorted(weights.items(), key=lambda item: (-abs(item[1]), item[0]))[:top]
    figure, axes = figure_with(f"What the score rests on: {len(chosen)} of {len(weights)} features, largest first", "", height=1.2 + 0.36 * len(chosen))
    labels = [fill(meanings.get(name, name), 44) for name, _ in chosen]
    values = [weight for _, weight in chosen]
    bars = axes.barh(range(len(chosen)), values, color=[MODEL if value >= 0 else NEGATIVE for value in values], height=0.68)
    axes.bar_label(bars, fmt="%.3g", padding=4, fontsize=9, color=INK)
    axes.set_yticks(range(len(chosen)), labels, fontsize=9)
    axes.set(xlabel=unit)
    axes.margins(x=0.12, y=0.01)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return figure


@rc_context(STYLE)
def stability(results: Mapping[str, Mapping[date, Interval]], metric: str) -> Figure:
    """One metric at each test cutoff: the model with its 95 % interval, the baselines as lines beside it.

    `results` maps a model to cutoff -> {"value", "low", "high"}, as `evaluate` returns them for the metric.
    """
    cutoffs = sorted({cutoff for series in results.values() for cutoff in series})
    figure, axes = figure_with(f"Stability: {METRIC_LABELS.get(metric, metric)} at each cutoff", f"{len(cutoffs)} test cutoffs, model with 95 % interval")
    for (name, series), style in zip(results.items(), styles(), strict=False):
        values = [(cutoffs.index(cutoff), interval["value"]) for cutoff, interval in sorted(series.items()) if interval["value"] is not None]
        mean = sum(value for _, value in values) / max(1, len(values))
        axes.plot([place for place, _ in values], [value for _, value in values], marker="o", label=f"{name} (mean {mean:.3f})", **style)
    for cutoff, interval in next(iter(results.values()), {}).items():
        if interval["low"] is not None and interval["high"] is not None:
            axes.vlines(cutoffs.index(cutoff), interval["low"], interval["high"], color=MODEL, linewidth=6, alpha=0.25, zorder=1)
    axes.set_xticks(range(len(cutoffs)), [cutoff.isoformat() for cutoff in cutoffs], rotation=0 if len(cutoffs) < 7 else 45)
    axes.set(xlabel="cutoff (history before it, outcome from it on)", ylabel=METRIC_LABELS.get(metric, metric))
    axes.margins(x=0.08, y=0.15)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write a PNG of twice the size it is read at; the same figure gives the same bytes, as no time or version is written."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def figure_with(title: str, subtitle: str, height: float = 5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    _write_title(figure, axes, title, subtitle)
    return figure, axes


def _write_title(figure: Figure, axes: Axes, title: str, subtitle: str) -> None:
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(subtitle, loc="left", fontsize=9, color="#595959")


def _show_shares(axes: Axes, x: str, y: str, top: float = 1.0) -> None:
    axes.set(xlim=(0, top), ylim=(0, top * 1.01), xlabel=x, ylabel=y)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))


def _draw_bars(axes: Axes, table: pd.DataFrame) -> None:
    axes.vlines(table["predicted"], table["low"], table["high"], color=MODEL, linewidth=1.4, alpha=0.6)


def styles() -> Iterator[dict[str, Any]]:
    """Line styles: the model strong and on top, then the baselines in turn."""
    yield {"color": MODEL, "linewidth": 2.4, "zorder": 3}
    for colour, line in cycle(BASELINES):
        yield {"color": colour, "linestyle": line, "linewidth": 1.5}


def _curves(y: ArrayLike, scores: Mapping[str, ArrayLike]) -> Iterator[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """Name, gains curve with negatives_share beside it, and line style of each model."""
    rate = _base_rate(y)
    for (name, p), style in zip(scores.items(), styles(), strict=False):
        curve = gains(y, p)
        yield name, curve.assign(negatives_share=(curve["rows_share"] - rate * curve["positives_share"]) / (1 - rate)), style


def _base_rate(y: ArrayLike) -> float:
    rate = float(np.mean(np.asarray(y, dtype=float)))
    if not 0 < rate < 1:
        raise NoUsableData(f"A curve needs positives and negatives; the share of positives is {rate:g}. Choose another cutoff or a longer horizon.")
    return rate


def _population(y: ArrayLike) -> str:
    outcome = np.asarray(y, dtype=float)
    return f"{outcome.size:,} rows, {int(outcome.sum()):,} of them positive ({100 * outcome.mean():.1f} %)"
