"""Pictures of a campaign's report, drawn from its numbers alone, so that a picture cannot disagree with the table beside it.

In the manner of `training.plots`, whose style and colours these share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from serving.campaigns.effect import Vector
from training.plots import INK, MODEL, NEGATIVE, REFERENCE, STYLE, figure_with

WORDS = {"entered": "entered", "triggered": "triggered\n(sent)", "reached": "reached\n(opened or answered)", "goal": "goal\n(of the reached)"}
GROUP_STYLES = {"treatment": (MODEL, "-"), "control": (NEGATIVE, "--"), "business_as_usual": ("#009E73", "-.")}


def pictures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """File name -> picture, in the order in which the page shows them."""
    drawn = {"funnel.png": funnel_plot(report)}
    if report["claim"]:
        drawn["effect.png"] = effect_plot(report)
    if report["target"]:
        drawn["target.png"] = target_plot(report)
    return {**drawn, "days.png": days_plot(report)}


@rc_context(STYLE)
def funnel_plot(report: Mapping[str, Any]) -> Figure:
    """How many of the treatment group came to each step, and the share of the step before."""
    steps = report["funnel"]
    figure, axes = figure_with("Funnel of the treatment group", "bars: members; below each the share of the step before it, with a 95 % interval")
    users = [step["users"] or 0 for step in steps]
    bars = axes.bar(range(len(steps)), users, color=[MODEL if step["users"] is not None else "none" for step in steps], width=0.62)
    for bar, step in zip(bars, steps, strict=True):
        text = "not measured" if step["users"] is None else f"{step['users']:,}"
        axes.annotate(text, (bar.get_x() + bar.get_width() / 2, bar.get_height()), xytext=(0, 4), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(steps)), [f"{WORDS[step['step']]}\n{_share(step)}" for step in steps])
    axes.set(ylabel="members", ylim=(0, max(users) * 1.12 or 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=False, axis="x")
    return figure


def _share(step: Mapping[str, Any]) -> str:
    found = step["share"]
    if step["step"] == "entered" or found is None or found["value"] is None:
        return ""
    return f"{found['value']:.1%}\n({found['low']:.1%} to {found['high']:.1%})"


@rc_context(STYLE)
def effect_plot(report: Mapping[str, Any]) -> Figure:
    """The difference to control by tenth of the score, each with its interval, and the adjusted one of all as a band."""
    effect, parts = report["effect"]["adjusted"], report["deciles"]
    factor = 1 if _is_money(report) else 100
    figure, axes = figure_with(
        "What the campaign added, by score at entry", f"treated less {report['against'].replace('_', ' ')}; bars are 95 % intervals, each of its own part alone"
    )
    axes.axhspan(effect["low"] * factor, effect["high"] * factor, color=MODEL, alpha=0.15, linewidth=0, label="all members: adjusted, 95 % interval")
    axes.axhline(effect["value"] * factor, color=MODEL, linewidth=2, label=f"all members: {_amount(effect['value'], report)}")
    axes.axhline(0, color=INK, linewidth=1)
    places = [part["part"] for part in parts]
    values = np.array([part["difference"]["value"] for part in parts]) * factor
    ends = np.array([[part["difference"][name] for part in parts] for name in ("low", "high")]) * factor
    if parts:
        axes.errorbar(places, values, yerr=np.abs(ends - values), fmt="o", color=NEGATIVE, capsize=3, label="part of the members: plain difference")
        axes.set_xticks(places, [f"{part['part']}\n{part['score'][0]:.2f} to\n{part['score'][1]:.2f}" for part in parts], fontsize=8)
    else:
        axes.set_xticks([])
    axes.set(xlabel="score at entry, lowest part first", ylabel=f"{report['currency']} a member" if _is_money(report) else "percentage points")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


@rc_context(STYLE)
def target_plot(report: Mapping[str, Any]) -> Figure:
    """Target and actual of the treatment group, and what control did beside them."""
    target, money = report["target"], _is_money(report)
    figure, axes = figure_with("Target against actual", f"treatment group: target {target['verdict']}", height=3.2)
    actual, control = target["actual"], report["groups"].get(report["against"])
    rows = [("target", target["target"], None, REFERENCE), ("actual", actual["value"], actual, MODEL)]
    if control and control["members"]:
        rate = control["rate"]
        rows.append((report["against"].replace("_", " "), control["spend_per_member"] if money else rate["value"], None if money else rate, NEGATIVE))
    for place, (_, value, interval, colour) in enumerate(rows):
        axes.barh(place, value, color=colour, height=0.6)
        if interval:
            axes.errorbar(value, place, xerr=[[value - interval["low"]], [interval["high"] - value]], color=INK, capsize=3)
        text = f"{value:,.2f}" if money else f"{value:.1%}"
        axes.annotate(text, ((interval or {"high": value})["high"], place), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"{report['currency']} a member" if money else "share who reached the goal (%)")
    if not money:
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.margins(x=0.14)
    axes.grid(visible=False, axis="y")
    return figure


@rc_context(STYLE)
def days_plot(report: Mapping[str, Any]) -> Figure:
    """Days with the goal per 1,000 members, from the ordinary weeks before entry to the end of the horizon; means of a week around each day."""
    days = report["days"]
    figure, axes = figure_with("Campaign days against ordinary days", "days with the goal per 1,000 members; thin: each day, thick: mean of seven days")
    before = days["ordinary_days"]
    axes.axvspan(-0.5, days["campaign_days"] - 0.5, color=REFERENCE, alpha=0.12, linewidth=0, label="outcome window")
    for group, found in days["groups"].items():
        colour, line = GROUP_STYLES.get(group, (INK, ":"))
        series = np.array(found["series"])
        offsets = np.arange(len(series)) - before
        axes.plot(offsets, series, color=colour, linewidth=0.6, alpha=0.5)
        said = f"{group.replace('_', ' ')}: {found['ordinary']:.1f} before, {found['campaign']:.1f} in it"
        _smooth(axes, offsets[:before], series[:before], colour, line, said)
        _smooth(axes, offsets[before:], series[before:], colour, line, None)
    axes.set(xlabel="days since entry", ylabel="per 1,000 members")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _smooth(axes: Axes, offsets: Vector, series: Vector, colour: str, line: str, label: str | None) -> None:
    width = min(7, len(series))
    means = np.convolve(series, np.ones(width) / width, mode="valid")
    start = (width - 1) // 2
    axes.plot(offsets[start : start + len(means)], means, color=colour, linestyle=line, linewidth=2.2, label=label)


def _is_money(report: Mapping[str, Any]) -> bool:
    return bool(report["campaign"]["goal"] == "spend")


def _amount(value: float, report: Mapping[str, Any]) -> str:
    return f"{value:+,.2f} {report['currency']} a member" if _is_money(report) else f"{100 * value:+.2f} points"
