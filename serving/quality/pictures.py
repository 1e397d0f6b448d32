"""Pictures of realised quality, drawn from judgements alone, in the manner of `training.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from serving.quality.standing import Standing, headline
from training.plots import INK, METRIC_LABELS, MODEL, NEGATIVE, REFERENCE, STYLE

STRATA = (("untreated", MODEL, "o", -0.12), ("treated", NEGATIVE, "s", 0.12))  # colour, marker, shift of a bar
PROMISE = "#009E73"
RUNS_SHOWN = 30


@rc_context(STYLE)
def by_run(standing: Standing) -> Figure:
    """Expected against realised, run by run: the metric that ranks, and how many did it, with 95 % intervals; the newest runs."""
    runs = standing.judged[-RUNS_SHOWN:]
    kind, where = runs[-1][0].kind, np.arange(len(runs), dtype=float)
    figure = Figure(figsize=(8, 7), layout="constrained")
    ranks, counts = figure.subplots(2, 1, sharex=True)
    name = headline(kind, {})[0]
    for stratum, colour, marker, shift in STRATA if kind != "effect" else (("all", MODEL, "o", 0.0),):
        told = [judgement.facts.get(stratum, {}) for _, judgement in runs]
        _bars(ranks, where + shift, [headline(kind, one)[1] for one in told], colour, marker, f"realised, {stratum}")
        if stratum != "treated":
            _bars(ranks, where + shift - 0.12, [headline(kind, one)[2] for one in told], PROMISE, "_", f"promised by the scores, {stratum}")
        _level(counts, where + shift, told, kind, colour, marker, stratum)
    evidence = (runs[-1][1].facts.get("evidence") or {}).get(name)
    if evidence and evidence["low"] is not None:
        ranks.axhspan(evidence["low"], evidence["high"], color=REFERENCE, alpha=0.25, linewidth=0, label="measured before it served")
    ranks.set_title(f"{standing.task}: what was served against what was expected of it", loc="left", fontsize=12, color=INK)
    ranks.set_ylabel(METRIC_LABELS.get(name, name))
    counts.set_ylabel("actual / expected" if kind != "effect" else "")
    counts.axhline(1, color=REFERENCE, linestyle=":")
    counts.set_xticks(where, [run.as_of.isoformat() for run, _ in runs], rotation=30, ha="right")
    counts.set(xlabel="date of the features", xlim=(-0.6, len(runs) - 0.4))
    for axes in (ranks, counts):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
    return figure


@rc_context(STYLE)
def reliability(standing: Standing) -> Figure | None:
    """Of the last judged run: observed rate against served probability, untreated and treated apart, with Wilson 95 % bars."""
    if standing.last is None:
        return None
    run, judgement = standing.last
    tables = {stratum: judgement.facts.get(stratum, {}).get("reliability") for stratum, *_ in STRATA}
    if not any(tables.values()):
        return None
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    top = 0.0
    for stratum, colour, marker, _ in STRATA:
        rows = tables[stratum] or []
        if not rows:
            continue
        predicted, observed = ([row[name] for row in rows] for name in ("predicted", "observed"))
        spread = np.array([[row["observed"] - row["low"], row["high"] - row["observed"]] for row in rows]).T.clip(0)
        count = judgement.facts[stratum]["rows"]
        axes.errorbar(predicted, observed, yerr=spread, color=colour, marker=marker, markersize=4, capsize=2, label=f"{stratum} ({count:,} rows)")
        top = max(top, *predicted, *(row["high"] for row in rows))
    axes.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", label="as promised")
    axes.set_title(f"{standing.task}: did it happen as often as was served?\nfeatures of {run.as_of}, over on {run.closes}", loc="left", fontsize=12, color=INK)
    axes.set(xlim=(0, min(1.0, 1.05 * top)), ylim=(0, min(1.0, 1.05 * top)), xlabel="served probability (%)", ylabel="observed rate (%)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=""))
        axis.set_major_locator(MaxNLocator(6))
    axes.legend(loc="upper left")
    return figure


def _bars(axes: Axes, where: Any, found: Sequence[Mapping[str, Any] | None], colour: str, marker: str, label: str) -> None:
    known = [(place, one) for place, one in zip(where, found, strict=True) if one and one["value"] is not None]
    if not known:
        return
    values = np.array([one["value"] for _, one in known])
    ends = np.array([[one["value"] - _or(one["low"], one["value"]), _or(one["high"], one["value"]) - one["value"]] for _, one in known]).T.clip(0)
    axes.errorbar([place for place, _ in known], values, yerr=ends, color=colour, marker=marker, markersize=5, capsize=3, linestyle="none", label=label)


def _level(axes: Axes, where: Any, told: Sequence[Mapping[str, Any]], kind: str, colour: str, marker: str, stratum: str) -> None:
    """How many did it over how many were expected to; the bar is what chance alone gives such probabilities."""
    if kind in ("effect", "rank"):
        return
    for number, (place, one) in enumerate(zip(where, told, strict=True)):
        expected = one.get("expected")
        if not expected or not expected["value"]:
            continue
        ratio, half = one["actual"] / expected["value"], (_or(expected["high"], expected["value"]) - expected["value"]) / expected["value"]
        label = None if number else f"{stratum}; the bar is what chance allows"
        axes.errorbar([place], [ratio], yerr=half, color=colour, marker=marker, markersize=5, capsize=3, linestyle="none", label=label)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
