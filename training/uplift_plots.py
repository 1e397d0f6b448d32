"""Pictures of an uplift evaluation, in the style of `training.plots`."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.evaluate import Interval
from training.plots import BASELINES, MODEL, REFERENCE, STYLE
from training.uplift_evidence import UpliftEvidence


@rc_context(STYLE)
def qini_curves(evidence: UpliftEvidence) -> Figure:
    """Incremental outcomes against the share treated: the model with its 95 % band, the response models, a random choice."""
    curve, metrics = evidence.curve, evidence.metrics
    figure, axes = _figure("Qini: what is gained by treating the most persuadable first", f"average effect {_percent(metrics['average_effect'])}")
    axes.fill_between(curve["share"], curve["low"], curve["high"], color=MODEL, alpha=0.15, linewidth=0)
    axes.plot(curve["share"], curve["model"], color=MODEL, linewidth=2.4, zorder=3, label=f"uplift model (Qini x 1000: {_thousandths(metrics['qini'])})")
    for (name, measured), (colour, line) in zip(evidence.responses.items(), BASELINES, strict=False):
        label = f"{name} ({_thousandths(measured['qini'])})"
        axes.plot(curve["share"], curve[name], color=colour, linestyle=line, linewidth=1.5, label=label)
    axes.plot(curve["share"], curve["random"], color=REFERENCE, linestyle=":", label="random choice (0)")
    axes.set(xlim=(0, 1), xlabel="treated: share of all customers, best scores first (%)", ylabel="incremental outcomes (per 100 customers of the treated arm)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def effect_calibration(evidence: UpliftEvidence) -> Figure:
    """Observed against predicted effect, tenth by tenth of the customers, with 95 % intervals."""
    table = evidence.calibration
    figure, axes = _figure("Effect as predicted and as observed", "ten groups of customers by predicted effect, 95 % intervals")
    ends = [table["predicted"].min(), table["predicted"].max()]
    axes.plot(ends, ends, color=REFERENCE, linestyle=":", label="as predicted")
    axes.axhline(0, color=REFERENCE, linewidth=0.8)
    axes.vlines(table["predicted"], table["low"], table["high"], color=MODEL, linewidth=1.4, alpha=0.6)
    axes.plot(table["predicted"], table["observed"], color=MODEL, marker="o", linestyle="none", label="observed")
    axes.set(xlabel="predicted effect (percentage points)", ylabel="observed effect: treated minus control (percentage points)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="lower right")
    return figure


def _figure(title: str, subtitle: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(subtitle, loc="left", fontsize=9, color="#595959")
    return figure, axes


def _thousandths(measured: Interval) -> str:
    return _with_interval(measured, 1e3, ".1f")


def _percent(measured: Interval) -> str:
    return _with_interval(measured, 1e2, ".2f") + " percentage points"


def _with_interval(measured: Interval, factor: float, form: str) -> str:
    value, low, high = (measured[part] for part in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "no interval"
    return f"{factor * value:{form}} [{factor * low:{form}}, {factor * high:{form}}]"
