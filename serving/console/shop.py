"""Shop: who comes back, when, what customers are worth, how they move, where first orders come from. From the report that was made at publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.console.charts import Dots, Line, curves, intervals
from serving.console.formats import Formats
from serving.console.told import Told
from serving.console.words import Words

SHOWN_WITHIN = ("30", "90", "365")  # days, of the repeat curve
LONGEST = 8.0  # cycles that a curve is drawn over
MOST_MOVES, MOST_CATEGORIES, MOST_MONTHS = 12, 12, 13
TABLE_DAYS = (7, 14, 30, 60, 90, 180, 365)

Measured = Mapping[str, Any]


def page(told: Told, words: Words, formats: Formats) -> dict[str, Any] | None:
    """The page; None where the release has no report of the shop."""
    report = told.page("shop.json")
    if report is None:
        return None
    t, f = words.text, formats
    changed = report.get("changed") or {}
    return {
        "report": report,
        "basis": report["basis"],
        "repeat": _repeat(report["repeat_curve"], t, f),
        "cycle": _cycle(report["cycle"], t, f),
        "induction": report["cycle"]["induction"],
        "next_order": report["cycle"]["next_order"],
        "categories": report["cycle"]["by_category"][:MOST_CATEGORIES],
        "second": report["second_order"],
        "layers": _groups(report["layers"]["groups"]),
        "values": _groups(report["value_groups"]["groups"]),
        "visitors": report["layers"]["visitors"],
        "days": changed.get("days"),
        "since": changed.get("since"),
        "moves": moves(changed.get("moves")),
        "firsts": changed.get("first_orders"),
        "tiers": report.get("tiers"),
        "months": _months(report["months"], t, f),
    }


def _repeat(rows: Sequence[Measured], t: Any, f: Formats) -> dict[str, Any]:
    """Share with another order day after the n-th, within so many days."""
    looks = dict(zip(SHOWN_WITHIN, ("third", "main", "other"), strict=True))
    names = {days: t("shop.within", days=days) for days in SHOWN_WITHIN}
    groups = [Dots(names[days], [_point(row["within_days"][days]) for row in rows], looks[days]) for days in SHOWN_WITHIN]
    chart = intervals(t("shop.repeat"), groups, [str(row["number"]) for row in rows], lambda y: f.percent(y, 0), top=1.0, bottom=0.0)
    head = [t("shop.order_number"), t("common.customers"), t("shop.so_far"), *names.values()]
    told = [
        [
            str(row["number"]),
            f.number(row["customers"]),
            f.percent(row["share"]["value"]),
            *(f.percent(row["within_days"][days]["value"]) for days in SHOWN_WITHIN),
        ]
        for row in rows
    ]
    return {"chart": chart, "looks": [(names[days], f"{looks[days]} dot") for days in SHOWN_WITHIN], "head": head, "rows": told}


def _cycle(cycle: Measured, t: Any, f: Formats) -> dict[str, Any]:
    """The share that ordered again by days since an order, with those still waiting counted in, and the repurchase cycle by induction."""
    found, days = cycle["next_order"], cycle["induction"]["days_in_use"]
    end = max(60.0, min(max(found["after_any_order"]["days"], default=1), LONGEST * days))
    lines = []
    for name, look in (("after_first_order", "main"), ("after_any_order", "other")):
        points = [
            (day, *values)
            for day, *values in zip(*(found[name][key] for key in ("days", "value", "low", "high")), strict=True)
            if values[0] is not None and day <= end
        ]
        ribbon = [(day, low, high) for day, _, low, high in points if low is not None] if look == "main" else []
        lines.append(Line(t(f"shop.{name}"), [(day, value) for day, value, _, _ in points], look, ribbon))
    marks = [(days, t("shop.one_cycle")), (3 * days, t("shop.three_cycles"))]
    chart = curves(t("shop.cycle"), lines[::-1], lambda x: f.number(x), lambda y: f.percent(y, 0), top=1.0, end=end, marks=marks)
    rows = []
    for day in TABLE_DAYS:
        both = [found[name] for name in ("after_first_order", "after_any_order")]
        if all(day < len(one["days"]) for one in both):
            rows.append([f.number(day), *(f.percent(one["value"][day]) for one in both)])
    return {"chart": chart, "looks": [(line.name, line.look) for line in lines], "head": [t("common.days"), *(line.name for line in lines)], "rows": rows}


def _groups(groups: Sequence[Measured]) -> list[dict[str, Any]]:
    """Groups of customers, each with its shares as parts of the largest one."""
    most = max((max(group["share"], group["revenue_share"] or 0.0) for group in groups), default=1.0) or 1.0
    return [{**group, "share_bar": group["share"] / most, "revenue_bar": (group["revenue_share"] or 0.0) / most} for group in groups]


def moves(found: Measured | None) -> dict[str, Any] | None:
    """The largest moves between layers, and how many stayed; None where there is nothing to compare with."""
    if not found:
        return None
    names, counts = found["layers"], found["counts"]
    pairs = [(then, now, counts[row][column]) for row, then in enumerate(names) for column, now in enumerate(names) if row != column and counts[row][column]]
    pairs += [(None, name, count) for name, count in zip(names, found["new"], strict=True) if count]
    largest = sorted(pairs, key=lambda pair: (-pair[2], str(pair[0]), pair[1]))[:MOST_MOVES]
    most = max((count for _, _, count in largest), default=1)
    layers = [
        {
            "name": name,
            "stayed": counts[place][place],
            "came": sum(row[place] for row in counts) - counts[place][place] + found["new"][place],
            "left": sum(counts[place]) - counts[place][place],
        }
        for place, name in enumerate(names)
    ]
    return {"largest": [{"then": then, "now": now, "count": count, "bar": count / most} for then, now, count in largest], "layers": layers}


def _months(months: Sequence[Measured], t: Any, f: Formats) -> dict[str, Any]:
    """Revenue month by month, new and returning."""
    shown = months[-MOST_MONTHS:]
    most = max((month["revenue_cents"] for month in shown), default=1) or 1
    rows = [
        {
            "month": f.month(month["month"]),
            "is_whole": month["is_whole"],
            "revenue": f.money(month["revenue_cents"]),
            "bar": month["revenue_cents"] / most,
            "buyers": f.number(month["buyers"]),
            "new": f.number(month["new"]["customers"]),
            "conversion": f.percent((month["conversion"] or {}).get("value")),
            "order": f.money(month["average_order_cents"]),
            "refunds": f.money(month["refund_cents"]),
        }
        for month in shown
    ]
    return {"rows": rows}


def _point(measured: Measured) -> tuple[float, float | None, float | None] | None:
    return None if measured["value"] is None else (measured["value"], measured["low"], measured["high"])
