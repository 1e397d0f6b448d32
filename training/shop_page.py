"""The shop report for people: Markdown with pictures, and the folder that holds it all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.files import write_bytes
from features.money import minor_digits, minor_units
from features.norms import ENOUGH_REPURCHASERS
from training.evaluate import Interval
from training.plots import save
from training.shop_plots import pictures
from training.shop_report import WITHIN, Report

MOST_CATEGORIES = 20  # on the page; report.json has all
MOST_REASONS = 10
NO_VISITS = (
    "The log has no sessions, page views or product views before this date, so a return visit and the conversion after it "
    "cannot be told apart. Ingest a source of visits (GA4, Segment, Sensors, WeChat) to see both."
)


def write_report(report: Report, folder: Path) -> None:
    """Write report.json, report.md and the pictures; the same report gives the same bytes."""
    write_bytes(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    for name, picture in pictures(report).items():
        save(picture, folder / name)
    write_bytes(folder / "report.md", shop_page(report).encode())


def shop_page(report: Report) -> str:
    """The report as Markdown; its pictures lie beside it."""
    parts = (_head, _repeat_curve, _cycle, _second_order, _value_groups, _layers, _months, _basis)
    return "\n\n".join(block for part in parts for block in part(report)) + "\n"


def headlines(report: Report) -> list[str]:
    """The main numbers, one line each."""
    curve, induction, second = report["repeat_curve"], report["cycle"]["induction"], report["second_order"]
    median, known = report["cycle"]["next_order"]["median_days"], report["basis"]
    lines = [
        f"{report['shop']} as of {report['as_of']}: {known['customers']:,} customers, {known['orders']:,} orders, {_money(known['revenue_cents'], report)}"
    ]
    lines += [f"came back after order day {row['number']}: {_percent(row['share'])} of {row['customers']:,}" for row in curve[:3]]
    lines.append(f"repurchase cycle: {_days(induction['days'])}, from {induction['repurchasers']:,} repurchasers; in use {induction['days_in_use']:.1f} days")
    lines.append(f"half of the order days are followed by another within: {_days(median)}")
    lines.append(f"second order within {second['horizon_days']} days: {_percent(second['second_order_rate'])} of {second['first_orders']:,}")
    if second["return_rate"]:
        lines.append(f"  = returned {_percent(second['return_rate'])} x converted {_percent(second['conversion_after_return'])}")
    return lines


def _head(report: Report) -> Iterable[str]:
    yield f"# {report['shop']}: shop report as of {report['as_of']}"
    yield (
        "Everything happened, and was known, before that date. An order is valid: paid, and not cancelled as far as was known. "
        "Brackets are 95 % intervals. `report.json` has every number in full."
    )
    yield "\n".join(f"- {line.strip()}" for line in headlines(report))


def _repeat_curve(report: Report) -> Iterable[str]:
    rows = report["repeat_curve"]
    yield "## Who comes back"
    yield (
        "Of the customers with an n-th **order day**, the share with another one. Several orders of one day are one order day; the last column counts "
        '**orders** instead, two of one day as two. "So far" is too low for a young or growing shop, as recent customers have had no time yet. '
        '"Within" counts those still waiting in (Kaplan-Meier); "-" where nobody was watched for so long. Who had ordered before the data begin '
        f"({report['basis']['first_order_day']}) is counted from the first order in them."
    )
    yield "![Repeat curve](repeat_curve.png)"
    yield _table(
        ["n", "customers", "came back", "so far", *(f"within {days} d" for days in WITHIN), "so far, by orders"],
        [
            [str(row["number"]), f"{row['customers']:,}", f"{row['returned']:,}", _percent(row["share"]),
             *(_percent(row["within_days"][str(days)]) for days in WITHIN), f"{_percent(row['by_orders']['share'])} of {row['by_orders']['customers']:,}"]
            for row in rows
        ],
    )  # fmt: skip


def _cycle(report: Report) -> Iterable[str]:
    cycle = report["cycle"]
    induction, following = cycle["induction"], cycle["next_order"]
    yield "## Repurchase cycle"
    yield "![Time to the next order](next_order.png)"
    enough = "" if induction["is_enough"] else f" Fewer than {ENOUGH_REPURCHASERS} repurchasers: {induction['days_in_use']:.0f} days are assumed instead."
    yield (
        f"**By induction** (a third of the 90th percentile of the mean gaps of those who came back): {_days(induction['days'])}, from "
        f"{induction['repurchasers']:,} repurchasers.{enough} Default horizons: {induction['repurchase_horizon_days']} days for the next order, "
        f"{induction['churn_horizon_days']} days for churn. It sees only those who came back, so it is biased short."
    )
    yield (
        f"**With those still waiting counted in** (Kaplan-Meier): half of the order days are followed by another within {_days(following['median_days'])}; "
        f"{following['orders']:,} order days, {following['followed']:,} followed so far. Frequent customers count once for each order day, "
        "and the interval takes these as independent; the curve after the first order counts each customer once."
    )
    if found := cycle["by_category"]:
        shown = [[row["category"], f"{row['days']:.1f}", f"{row['repurchasers']:,}"] for row in found[:MOST_CATEGORIES]]
        yield _table(["category", "cycle by induction, days", "repurchasers"], shown)
        yield f"The {len(shown)} of {len(found)} categories with the most repurchasers (at least {ENOUGH_REPURCHASERS})."
    if found := cycle["by_consumption"]:
        yield _table(["by consumption", "days that one purchase lasts"], [[row["of"], f"{row['days']:.1f}"] for row in found])


def _second_order(report: Report) -> Iterable[str]:
    second = report["second_order"]
    days = second["horizon_days"]
    yield "## The second order: return x conversion"
    yield (
        f"Of {second['first_orders']:,} first orders whose next {days} days are over ({second['still_open']:,} are still open and do not count), "
        f"in the {days} days after the day of the order:"
    )
    rows = [["second-order rate", _percent(second["second_order_rate"]), f"{second['ordered']:,} of {second['first_orders']:,}"]]
    if second["return_rate"] is not None:
        rows = [
            ["return-visit rate", _percent(second["return_rate"]), f"{second['returned']:,} of {second['first_orders']:,}"],
            ["x conversion after the return", _percent(second["conversion_after_return"]), f"{second['ordered']:,} of {second['returned']:,}"],
            ["= second-order rate", *rows[0][1:]],
        ]
    yield _table(["", "rate", "customers"], rows)
    if second["return_rate"] is None:
        yield NO_VISITS
    else:
        yield (
            f"Visits are known since {second['visits_known_since']}; earlier first orders do not count here. An order is a visit too: "
            f"{second['ordered_unseen']:,} of the second orders came without any recorded visit."
        )


def _value_groups(report: Report) -> Iterable[str]:
    found = report["value_groups"]
    at = found["split_at"]
    yield "## Value groups (RFM)"
    yield (
        f"Recent: last order at most {at['recency_days']:g} days ago. Frequent: more than {at['orders']:g} orders. "
        f"Spending: more than {_money(at['spend_cents'], report)}."
    )
    yield "![Value groups](value_groups.png)"
    yield _groups(found["groups"], report)


def _layers(report: Report) -> Iterable[str]:
    found = report["layers"]
    at = found["split_at"]
    yield "## Layers"
    discount = "" if at["discount_share"] is None else f" Discount-sensitive: more than {at['discount_share']:.0%} of orders with a coupon or a reduced price."
    active = f" and was active on {at['top_active_days_90d']:g} days or more of the last 90" if at["top_active_days_90d"] else ""
    yield (
        f"One order - new: at most {at['cycle_days']:.1f} days ago; cooling: longer ago; of high value above {_money(at['first_order_cents'], report)}. "
        f"More orders - lapsing: the last one over {at['lapsing_days']:.1f} days ago; lapsed: over {at['lapsed_days']:.1f} days. "
        f"Super user: spent {_money(at['top_spend_cents'], report)} or more{active}.{discount} "
        f"Beside the customers there are {found['visitors']:,} users without an order."
    )
    yield "![Layers](layers.png)"
    yield _groups(found["groups"], report)


def _groups(groups: Sequence[Mapping[str, Any]], report: Report) -> str:
    rows = [
        [group["name"], f"{group['customers']:,}", f"{group['share']:.1%}", "-" if group["revenue_share"] is None else f"{group['revenue_share']:.1%}",
         _number(group["mean_orders"], 1), "-" if group["mean_revenue_cents"] is None else _money(group["mean_revenue_cents"], report)]
        for group in groups
    ]  # fmt: skip
    return _table(["group", "customers", "share", "share of revenue", "mean orders", "mean revenue"], rows)


def _months(report: Report) -> Iterable[str]:
    months = report["months"]
    has_visits = any(month["visitors"] is not None for month in months)
    yield "## Month by month"
    yield (
        "Revenue = visitors x conversion x orders per buyer x average order value. "
        + ("Visitors are users who visited or ordered." if has_visits else "Visitors and conversion are unknown: the log has no visits.")
        + " A customer is new in the month of the first order in the data, and returning after it; the first months of a log count old customers as new. "
        "Revenue is of valid orders, before refunds."
    )
    yield "![Month by month](months.png)"
    head = ["month", *(["visitors", "conversion"] if has_visits else []), "buyers", "orders per buyer", "average order", "revenue", "refunds",
            "new customers", "their orders", "their revenue", "returning customers", "their orders", "their revenue"]  # fmt: skip
    yield _table(head, [_month(month, report, has_visits) for month in months])
    if not months[-1]["is_whole"]:
        yield f"{months[-1]['month']} is not over."


def _month(month: Mapping[str, Any], report: Report, has_visits: bool) -> list[str]:
    average, digits = month["average_order_cents"], minor_digits(report["currency"])
    visited = [] if not has_visits else ["-", "-"] if month["visitors"] is None else [f"{month['visitors']:,}", _percent(month["conversion"])]
    bought = [f"{month['buyers']:,}", _number(month["orders_per_buyer"], 2), "-" if average is None else _money(average, report, digits)]
    money = [_money(month["revenue_cents"], report), _money(month["refund_cents"], report)]
    who = [
        text
        for name in ("new", "returning")
        for text in (f"{month[name]['customers']:,}", f"{month[name]['orders']:,}", _money(month[name]["revenue_cents"], report))
    ]
    return [month["month"], *visited, *bought, *money, *who]


def _basis(report: Report) -> Iterable[str]:
    known = report["basis"]
    yield "## What the numbers rest on"
    visits = f"first recorded visit on {known['first_visit_day']}" if known["first_visit_day"] else "no visits recorded"
    lines = [
        f"Orders from {known['first_order_day']} to {known['last_order_day']}; {visits}. Sources: {', '.join(known['streams'])}.",
        f"{known['users']:,} users, {known['customers']:,} of them customers, with {known['orders']:,} valid orders on {known['order_days']:,} order days.",
        f"{known['days_without_order']:,} of {known['days']:,} days without any order" + _pauses(known) + ".",
        f"All amounts are in {report['currency']}; what came in another currency was converted when it was read, or left out, and is not told apart since.",
    ]
    most = sorted(known["left_out"].items(), key=lambda item: (-item[1], item[0]))[:MOST_REASONS]
    lines += [f"Left out by all ingests so far: {rows:,} rows ({reason})." for reason, rows in most]
    yield "\n".join(f"- {line}" for line in lines)


def _pauses(known: Mapping[str, Any]) -> str:
    if not known["days_without_order"]:
        return ""
    weekdays = ", ".join(f"{name} {days}" for name, days in known["without_order_by_weekday"].items())
    longest = ", ".join(f"{pause['days']} from {pause['from']}" for pause in known["longest_pauses"])
    return f" ({weekdays}; longest pauses in days: {longest})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])


def _percent(rate: Interval) -> str:
    value, low, high = rate["value"], rate["low"], rate["high"]
    if value is None or low is None or high is None:
        return "-"
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _days(days: Interval) -> str:
    digits = 0 if isinstance(days["value"], int) else 1
    return "unknown" if days["value"] is None else f"{days['value']:.{digits}f} days [{_number(days['low'], digits)}, {_number(days['high'], digits)}]"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _money(cents: float, report: Report, digits: int = 0) -> str:
    return f"{cents / minor_units(report['currency']):,.{digits}f} {report['currency']}"
