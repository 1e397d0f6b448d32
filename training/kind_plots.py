"""Pictures of predictions that are not yes or no: amounts and dates; and of any prediction, part by part of the users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from features.money import minor_units
from training.plots import METRIC_LABELS, MODEL, NEGATIVE, REFERENCE, STYLE, figure_with, styles

GROUPS = 10
THIRDS = (("soonest third", "#0072B2"), ("middle third", "#009E73"), ("latest third", "#D55E00"))


@rc_context(STYLE)
def spend_captured(spent: ArrayLike, told: Mapping[str, ArrayLike]) -> Figure:
    """Share of all spend that the best share of customers by prediction brought, beside the best order there is."""
    amounts = np.asarray(spent, dtype=float)
    figure, axes = figure_with("Spend captured: how early the spenders are found", f"{amounts.size:,} rows, {(amounts > 0).sum():,} of which spent something")
    share = np.linspace(0, 1, amounts.size + 1)
    for (name, p), style in zip(told.items(), styles(), strict=False):
        axes.plot(share, _captured(amounts, np.asarray(p, dtype=float)), label=name, **style)
    axes.plot(share, _captured(amounts, amounts), color=REFERENCE, linewidth=1, label="perfect order")
    axes.plot([0, 1], [0, 1], color=REFERENCE, linestyle=":", label="random order")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="share of customers, highest prediction first (%)", ylabel="share of all spend (%)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def spend_by_tenth(spent: ArrayLike, predicted: ArrayLike, currency: str) -> Figure:
    """Mean predicted and observed spend, given in minor units of the currency, of ten equal groups by prediction."""
    amounts, told = (np.asarray(values, dtype=float) / minor_units(currency) for values in (spent, predicted))
    groups = np.array_split(np.argsort(told, kind="stable"), GROUPS)
    figure, axes = figure_with("Spend as predicted and as observed", "ten equal groups of customers by prediction, lowest first")
    places = np.arange(1, len(groups) + 1)
    axes.bar(places - 0.2, [told[rows].mean() for rows in groups], 0.4, color=MODEL, label="predicted")
    axes.bar(places + 0.2, [amounts[rows].mean() for rows in groups], 0.4, color=NEGATIVE, label="observed")
    axes.set(xlabel="tenth of the customers", ylabel=f"mean spend per customer ({currency})", xticks=places)
    axes.legend(loc="upper left")
    return figure


@rc_context(STYLE)
def waiting_curves(waited: ArrayLike, curve: ArrayLike, edges: Sequence[int]) -> Figure:
    """Share still waiting over time, predicted and observed, in three groups by predicted waiting."""
    days, told = np.nan_to_num(np.asarray(waited, dtype=float), nan=np.inf), np.asarray(curve, dtype=float)
    figure, axes = figure_with("Waiting for the next order", f"{days.size:,} rows in three groups by predicted waiting; dots are what happened")
    grid = [0, *edges]
    for rows, (name, colour) in zip(np.array_split(np.argsort(told.sum(axis=1), kind="stable"), len(THIRDS)), THIRDS, strict=True):
        axes.plot(grid, [1, *told[rows].mean(axis=0)], color=colour, linewidth=2, label=f"{name}, predicted")
        axes.plot(edges, [(days[rows] >= edge).mean() for edge in edges], color=colour, marker="o", linestyle="none", markersize=5)
    axes.set(xlim=(0, grid[-1]), ylim=(0, 1.01), xlabel="days after the cutoff", ylabel="still without an order (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="upper right")
    return figure


@rc_context(STYLE)
def by_slice(slices: Mapping[str, Mapping[str, Any]], metric: str, overall: float) -> Figure:
    """A metric with its 95 % interval in each part of the users, beside that of all."""
    lines = [(f"{name}: {value}", measured[metric], measured["rows"]["value"]) for name, found in slices.items() for value, measured in found.items()]
    figure, axes = figure_with("Where it is better and where worse", "parts of the users at the test cutoffs, 95 % intervals", height=1.6 + 0.26 * len(lines))
    for place, (_, measured, _) in enumerate(lines):
        if measured["low"] is not None:
            axes.hlines(place, measured["low"], measured["high"], color=MODEL, linewidth=1.6, alpha=0.6)
        axes.plot(measured["value"], place, marker="o", color=MODEL, markersize=5)
    axes.axvline(overall, color=REFERENCE, linestyle=":", label="all users")
    axes.set_yticks(range(len(lines)), [f"{name} ({rows:,.0f})" for name, _, rows in lines])
    axes.invert_yaxis()
    axes.set_xlabel(METRIC_LABELS.get(metric, metric))
    axes.legend(loc="best")
    return figure


def _captured(amounts: np.ndarray, order_by: np.ndarray) -> np.ndarray:
    spend = np.cumsum(amounts[np.argsort(-order_by, kind="stable")])
    return np.append(0, spend / spend[-1])
