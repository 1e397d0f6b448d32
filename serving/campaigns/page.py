"""A campaign's report for people: Markdown with pictures, and the folder that holds it all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.files import write_bytes
from serving.campaigns.pictures import pictures
from training.plots import save

Report = Mapping[str, Any]


def write_page(report: Report, folder: Path) -> None:
    """Write report.json, report.md and the pictures; the same report gives the same bytes."""
    write_bytes(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    for name, picture in pictures(report).items():
        save(picture, folder / name)
    write_bytes(folder / "report.md", page(report).encode())


def page(report: Report) -> str:
    """The report as Markdown; its pictures lie beside it."""
    parts = (_head, _groups, _funnel, _effect, _money, _target, _days, _factors, _basis)
    return "\n\n".join(block for part in parts for block in part(report)) + "\n"


def _head(report: Report) -> Iterable[str]:
    plan = report["campaign"]
    yield f"# Campaign {plan['name']}: did it work?"
    yield f"**{report['verdict']}**"
    if report["warnings"]:
        yield "\n".join(f"- Warning: {warning}" for warning in report["warnings"])
    goal = "spend, net of refunds" if plan["goal"] == "spend" else plan["goal"] + (f" with {json.dumps(plan['where'])}" if plan["where"] else "")
    rule = json.dumps({name: value for name, value in (plan["rule"] or {}).items() if value is not None})
    yield _table(
        ["element", ""],
        [
            ["when", f"from {plan['starts']}{', ' + plan['when'] if plan['when'] else ''}"],
            ["who", f"{plan['audience']}: `{rule}`" if plan["audience"] else "drawn elsewhere, by the log"],
            ["incentive", plan["incentive"] or "-"],
            ["channel", plan["channel"] or "-"],
            ["goal", f"{goal} within {plan['horizon']} days of entry"],
            ["hold-out", ", ".join(f"{group.replace('_', ' ')} {share:.0%}" for group, share in plan["shares"].items())],
        ],
    )


def _groups(report: Report) -> Iterable[str]:
    yield "## What each group did"
    rows = []
    for group, found in report["groups"].items():
        expected = found["expected"]
        said = f"{expected['value']:,.1f} ({expected['low']:,.1f} to {expected['high']:,.1f})" if expected else "-"
        spend = "-" if found["spend_per_member"] is None else f"{found['spend_per_member']:,.2f}"
        rows.append([group.replace("_", " "), f"{found['members']:,}", f"{found['converted']:,}", _percent(found["rate"]), said, spend])
    yield _table(["group", "members", "reached the goal", "rate", "expected without the campaign", f"{report['currency']} a member"], rows)
    if any(found["expected"] for found in report["groups"].values()):
        yield "Expected is what the scores at entry promised for people left alone, with an interval for chance alone: control shows how well the model knew."


def _funnel(report: Report) -> Iterable[str]:
    yield "## Funnel"
    yield "![Funnel](funnel.png)"
    rows = [
        [step["step"], "not measured" if step["users"] is None else f"{step['users']:,}", _percent(step["share"]), _percent(step["of_entered"])]
        for step in report["funnel"]
    ]
    yield _table(["step", "members", "of the step before", "of all who entered"], rows)
    yield f"Of everybody who entered, reached or not, {report['funnel'][-1]['goal_of_all']:,} came to the goal. {report['note']}"


def _effect(report: Report) -> Iterable[str]:
    yield "## Effect"
    if not report["claim"]:
        yield report["verdict"]
        return
    effect, against = report["effect"], report["against"].replace("_", " ")
    rows = [[name, _amount(effect[name], report), f"{effect[name]['p']:.3g}", effect[name]["method"]] for name in ("adjusted", "plain")]
    for other, found in report["others"].items():
        rows.append([f"adjusted, against {other.replace('_', ' ')}", _amount(found, report), f"{found['p']:.3g}", found["method"]])
    yield _table([f"treated less {against}", "a member", "p", "how"], rows)
    yield (
        f"Everybody counts in the group that the lot gave them (intent to treat). The adjusted line is the answer; it takes the score at entry and the "
        f"orders and spend of the {effect['pre_days']} days before into account, which is worth {effect['worth']:.2f} times the members. The plain one "
        "stands beside it as a check: both are right on average, and the adjusted one is closer."
    )
    beside = report["beside"]
    factor, unit = (100, "points") if beside["outcome"] == "conversions" else (1, f"{report['currency']} a member")
    yield (
        f"Beside the goal: {beside['outcome']} {factor * beside['value']:+.2f} {unit} ({factor * beside['low']:+.2f} to {factor * beside['high']:+.2f}). "
        "It was not what the campaign was for, so take it as a hint."
    )
    yield "![Effect by score](effect.png)"
    if report["deciles"]:
        yield _table(
            ["part", "score", "treated", "control", "treated", "control", "difference"],
            [
                [f"{part['part']} of {part['of']}", f"{part['score'][0]:.3f} to {part['score'][1]:.3f}", f"{part['treated']:,}", f"{part['control']:,}",
                 _mean(part["treated_mean"], report), _mean(part["control_mean"], report), _amount(part["difference"], report)]
                for part in report["deciles"]
            ],
        )  # fmt: skip
        yield f"{len(report['deciles'])} intervals are shown: that one of them lies apart from the others is to be expected by chance."


def _money(report: Report) -> Iterable[str]:
    if not report["claim"]:
        return
    found, costs, money = report["economics"], report["costs"], report["currency"]
    yield "## What it cost, and what came of it"
    added = found["added"]
    rows = [
        ["added, all treated together", f"{added['value']:+,.1f} {report['unit']} ({added['low']:+,.1f} to {added['high']:+,.1f})"],
        [
            "cost",
            f"{costs['total']:,.2f} {money}: {costs['messages']:,} messages {costs['contact']:,.2f}, {costs['redemptions']:,} coupons {costs['coupons']:,.2f}",
        ],
    ]
    if costs["total"]:
        each = found["cost_per_added"]
        value, low, high = ("no limit" if each[name] is None else f"{each[name]:,.2f}" for name in ("value", "low", "high"))
        rows.append(["cost of one more", f"{value if each['value'] is not None else '-'} {money} ({low} to {high})"])
    for name, unit, digits in (("profit", f" {money}", 2), ("roi", "", 2)):
        if found[name]:
            part = found[name]
            words = "profit that the campaign added" if name == "profit" else "return: profit per unit of cost"
            rows.append([words, f"{part['value']:+,.{digits}f}{unit} ({part['low']:+,.{digits}f} to {part['high']:+,.{digits}f})"])
    yield _table(["", ""], rows)
    yield (
        "The cost is a fact; what was added is an estimate, and its interval goes through all lines below it. This is what came of this incentive "
        "by this channel, and says nothing of another."
    )


def _target(report: Report) -> Iterable[str]:
    if report["target"]:
        found = report["target"]
        yield "## Target against actual"
        yield "![Target](target.png)"
        yield (
            f"Target {_mean(found['target'], report)}, actual {_mean(found['actual']['value'], report)}: **{found['verdict']}**. "
            "A target that is met says nothing about the effect: control may have met it, too."
        )


def _days(report: Report) -> Iterable[str]:
    days = report["days"]
    yield "## Campaign days against ordinary days"
    yield "![Days](days.png)"
    rows = [
        [group.replace("_", " "), f"{found['ordinary']:.2f}", f"{found['campaign']:.2f}", "-" if found["ratio"] is None else f"{found['ratio']:.2f}"]
        for group, found in days["groups"].items()
    ]
    yield _table(["group", "ordinary days", "campaign days", "ratio"], rows)
    yield (
        f"Days with the goal per 1,000 members and day: {days['campaign_days']} campaign days against the same weekdays of the {days['ordinary_days']} days "
        "before. Members were chosen as of entry, so their days before and after differ without any campaign; control shows by how much."
    )


def _factors(report: Report) -> Iterable[str]:
    if not report["factors"]:
        return
    yield "## By factor"
    yield (
        "Two questions of each factor: do its levels convert differently among the treated, and did the campaign do more for one than for another? "
        "p-values are Holm's, corrected over the factors."
    )
    for factor in report["factors"]:
        tests = [(words, factor[name]) for words, name in (("levels differ", "differs"), ("effect differs", "effect_differs"))]
        said = "; ".join(f"{words}: {_test(one)}" for words, one in tests)
        yield f"**{factor['factor']}**: {said}"
        yield _table(
            ["level", "treated", "control", "treated", "control", "difference"],
            [
                [row["level"], f"{row['treated']:,}", f"{row['control']:,}", _mean(row["treated_mean"], report), _mean(row["control_mean"], report),
                 _amount(row["difference"], report) if row["difference"] else "too few"]
                for row in factor["levels"]
            ],
        )  # fmt: skip


def _basis(report: Report) -> Iterable[str]:
    ratio = report["ratio"]
    yield "## What it rests on"
    drawn = f"sizes of the groups against the lot: p = {ratio['p']:.3g}" if ratio["p"] is not None else "no second group was drawn"
    yield f"The log, complete until {report['complete_until']}; {drawn}. Brackets are 95 % intervals. `report.json` has every number in full."


def _test(found: Mapping[str, Any]) -> str:
    return "not tested" if found["p"] is None else f"p = {found['p_corrected']:.3g} ({found['test']})"


def _is_money(report: Report) -> bool:
    return bool(report["campaign"]["goal"] == "spend")


def _amount(found: Mapping[str, Any], report: Report) -> str:
    factor, unit = (1, "") if _is_money(report) else (100, " points")
    return f"{factor * found['value']:+.2f}{unit} ({factor * found['low']:+.2f} to {factor * found['high']:+.2f})"


def _mean(value: float | None, report: Report) -> str:
    return "-" if value is None else f"{value:,.2f}" if _is_money(report) else f"{value:.1%}"


def _percent(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None or found["value"] is None else f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
