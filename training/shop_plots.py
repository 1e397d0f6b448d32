"""Pictures of the shop report, drawn from its numbers alone, so that a picture cannot disagree with the table beside it.

In the manner of `plots`, whose style and colours these share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from features.money import minor_units
from training.evaluate import Interval
from training.plots import INK, MODEL, NEGATIVE, REFERENCE, STYLE

GREEN = "#009E73"
CYCLES_SHOWN = 8
SHOWN_WITHIN = (("90", GREEN, "s"), ("365", NEGATIVE, "^"))  # days, colour, marker


def pictures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """File name -> picture, in the order in which the page shows them."""
    return {
        "repeat_curve.png": repeat_curve(report["repeat_curve"]),
        "next_order.png": next_order(report["cycle"]),
        "value_groups.png": worth(report["value_groups"]["groups"], "Value groups by recency, frequency and money"),
        "layers.png": worth(report["layers"]["groups"], "Layers of new and existing customers"),
        "months.png": monthly(report["months"], report["currency"]),
    }


@rc_context(STYLE)
def repeat_curve(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Share with another order day after the n-th: so far, and estimated within 90 and 365 days; all with 95 % bars."""
    figure, axes = _figure(
        "Who comes back: share with another order day after the n-th", "points with 95 % intervals; below each n the customers who got that far"
    )
    numbers = np.arange(len(rows))
    _draw(axes, numbers - 0.13, [row["share"] for row in rows], MODEL, "o", "so far (recent customers had less time)")
    for (days, colour, marker), shift in zip(SHOWN_WITHIN, (0.0, 0.13), strict=True):
        _draw(axes, numbers + shift, [row["within_days"][days] for row in rows], colour, marker, f"within {days} days, those still waiting counted in")
    axes.set_xticks(numbers, [f"{row['number']}\n{row['customers']:,}" for row in rows])
    axes.set(xlabel="n-th order day, and customers who reached it", ylabel="share with another one (%)", ylim=(0, 1.04), xlim=(-0.5, len(rows) - 0.5))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    figure.legend(loc="outside lower center", ncols=1)
    return figure


@rc_context(STYLE)
def next_order(cycle: Mapping[str, Any]) -> Figure:
    """Kaplan-Meier share that ordered again by days since an order, with the repurchase cycle and three of it marked."""
    found = cycle["next_order"]
    figure, axes = _figure(
        "When they come back: time to the next order day", f"{found['orders']:,} order days, {found['followed']:,} followed by another so far"
    )
    for name, label, colour, line in (("after_first_order", "after the first order", MODEL, "-"), ("after_any_order", "after any order", NEGATIVE, "--")):
        points = [(day, *values) for day, *values in _columns(found[name]) if values[0] is not None]
        days, value, low, high = (np.array(column, float) for column in zip(*points, strict=True)) if points else (np.empty(0),) * 4
        axes.step(days, value, where="post", color=colour, linestyle=line, linewidth=2, label=label)
        if name == "after_first_order":  # one row per customer; of the other the rows are not independent
            axes.fill_between(days, low, high, step="post", color=colour, alpha=0.18, linewidth=0, label="its 95 % interval")
    days_in_use = cycle["induction"]["days_in_use"]
    for times, line in ((1, "-."), (3, ":")):
        word = "repurchase cycle" if times == 1 else "three cycles"
        axes.axvline(times * days_in_use, color=INK, linestyle=line, linewidth=1.2, label=f"{word}: {times * days_in_use:.1f} days")
    last = min(max(found["after_any_order"]["days"][-1], 3.2 * days_in_use), max(60, CYCLES_SHOWN * days_in_use))
    axes.set(xlim=(0, last), ylim=(0, 1.02), xlabel="days since the order", ylabel="ordered again (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@rc_context(STYLE)
def worth(groups: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Share of customers beside share of revenue for each group, with their sizes."""
    total = sum(group["customers"] for group in groups)
    figure, axes = _figure(title, f"{total:,} customers; revenue of valid orders", 1.6 + 0.52 * len(groups))
    places = np.arange(len(groups))
    for shift, name, colour, label in ((-0.2, "share", REFERENCE, "share of customers"), (0.2, "revenue_share", MODEL, "share of revenue")):
        bars = axes.barh(places + shift, [group[name] or 0.0 for group in groups], height=0.38, color=colour, label=label)
        axes.bar_label(bars, [f"{100 * (group[name] or 0.0):.1f} %" for group in groups], padding=3, fontsize=8, color=INK)
    axes.set_yticks(places, [f"{group['name']}\n{group['customers']:,}" for group in groups], fontsize=9)
    axes.set(xlabel="share (%)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.margins(x=0.12, y=0.01)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@rc_context(STYLE)
def monthly(months: Sequence[Mapping[str, Any]], currency: str) -> Figure:
    """Revenue and customers by month, new and returning; a month that is not over is paler."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    money, people = figure.subplots(2, 1, sharex=True)
    figure.suptitle("Month by month: new and returning customers", x=0.02, ha="left", fontsize=12, fontweight="bold")
    money.set_title("new: in the month of the first order in the data" + ("" if months[-1]["is_whole"] else "; the last month is not over"),
                    loc="left", fontsize=9, color="#595959")  # fmt: skip
    places, pale = np.arange(len(months)), [1.0 if month["is_whole"] else 0.45 for month in months]
    for axes, name, by in ((money, "revenue_cents", minor_units(currency)), (people, "customers", 1)):
        returning, new = (np.array([month[who][name] for month in months]) / by for who in ("returning", "new"))
        for height, bottom, colour, label in ((returning, 0 * new, MODEL, "returning"), (new, returning, "#E69F00", "new")):
            bars = axes.bar(places, height, bottom=bottom, color=colour, width=0.8, label=label)
            for bar, alpha in zip(bars, pale, strict=True):
                bar.set_alpha(alpha)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(visible=False, axis="x")
    step = -(-len(months) // 13)
    people.set_xticks(places[::step], [month["month"] for month in months][::step], rotation=45, ha="right")
    money.set(ylabel=f"revenue ({currency})")
    people.set(ylabel="customers who ordered")
    figure.legend(*money.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw(axes: Axes, places: np.ndarray[Any, Any], points: Sequence[Interval], colour: str, marker: str, label: str) -> None:
    known = [(float(place), point["value"], point["low"], point["high"]) for place, point in zip(places, points, strict=True) if point["value"] is not None]
    if not known:
        return
    x, value, low, high = (np.array(column, float) for column in zip(*known, strict=True))
    axes.errorbar(
        x, value, yerr=[value - low, high - value], color=colour, marker=marker, markersize=5, linewidth=1.4, elinewidth=1.2, capsize=2.5, label=label
    )


def _columns(points: Mapping[str, list[Any]]) -> list[tuple[Any, ...]]:
    return list(zip(points["days"], points["value"], points["low"], points["high"], strict=True))


def _figure(title: str, subtitle: str, height: float = 5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(subtitle, loc="left", fontsize=9, color="#595959")
    return figure, axes
