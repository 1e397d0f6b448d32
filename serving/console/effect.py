"""Effect: each campaign's plan, what came of it against control and what it cost; while it runs, what is off. It is read from the ledger."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import date
from math import exp, floor, log, log10
from typing import Any

from serving.campaigns import store
from serving.campaigns.plan import TREATMENT, Plan
from serving.campaigns.store import FINAL, MONITOR, RUNNING, Campaign
from serving.console.charts import Line, curves
from serving.console.effect_figures import Drawn, figure
from serving.console.effect_said import alarm, warning
from serving.console.formats import Formats
from serving.console.rule_words import RuleWords
from serving.console.told import Told
from serving.console.words import Words
from serving.ledger import Ledger

MOST = 50  # campaigns in the list, the newest first
ALARM_ODDS = 100  # to one, from which on the monitor alarms: as `serving.campaigns.monitor.ALARM`, which loads what computes
LEAST_TENS, MOST_TENS = -2.0, 6.0  # powers of ten between which evidence is drawn


def overview(ledger: Ledger, words: Words, formats: Formats) -> list[dict[str, Any]]:
    """The newest campaigns with what is known of each.

    Raises:
        LedgerUnavailable.
    """
    found = []
    for of in store.campaigns(ledger)[: -MOST - 1 : -1]:
        report, drawn = store.last_report(ledger, of, FINAL), None
        if report:
            drawn = Drawn(report, words, _in_its_currency(report, words, formats))
        alarms = [] if report else (store.last_report(ledger, of, MONITOR) or {}).get("alarms", [])
        found.append({
            "name": of.plan.name,
            "elements": [part for part in (of.plan.channel, of.plan.incentive, of.plan.when) if part],
            "starts": of.plan.starts,
            "horizon": of.plan.horizon,
            "state": of.state,
            "verdict": drawn.verdict() if drawn else None,
            "ratio_off": bool(report and report["ratio"]["mismatch"]),
            "not_before": of.plan.ends(of.plan.starts),
            "alarms": len(alarms),
        })  # fmt: skip
    return found


def page(ledger: Ledger, key: str, told: Told | None, today: date, words: Words, formats: Formats) -> dict[str, Any]:
    """The page of one campaign.

    Args:
        told: the release in service, which names what a rule asks for; None where there is none. today: on the shop's clock.

    Raises:
        UnknownName: there is no such campaign. LedgerUnavailable.
    """
    of = store.campaign(ledger, key)
    report, seen = store.last_report(ledger, of, FINAL), store.last_report(ledger, of, MONITOR)
    # Of a campaign that is over, its report says of how many it speaks.
    sizes, closes = ({group: found["members"] for group, found in report["groups"].items()}, None) if report else store.entered(ledger, of)
    own = _in_its_currency(report or {}, words, formats)
    drawn = Drawn(report, words, own) if report else None
    return {
        "name": of.plan.name,
        "state": of.state,
        "plan": plan(of.plan, RuleWords(told, words, own), words, own),
        "sizes": [(group, size) for group, size in sizes.items()],
        "members": sum(sizes.values()),
        "closes": closes,
        "is_open": closes is not None and closes > _reached(seen, told, today),
        "has_control": any(of.plan.shares.get(group) or sizes[group] for group in sizes if group != TREATMENT),
        "in_shell": shlex.quote(of.plan.name),
        "report": drawn.page() if drawn else None,
        "warnings": [warning(one, words) for one in (report or {}).get("warnings", ())],
        "monitor": None if drawn else monitor(seen, of, words, own),
        "is_running": of.state == RUNNING,
    }


def plan(of: Plan, rules: RuleWords, words: Words, formats: Formats) -> list[tuple[str, str]]:
    """The plan as it was logged before the first outcome: its four elements, the goal, the lot and the money."""
    text = words.text
    goal = text("effect.spend") if of.counts_spend else words.known("event", of.goal) or of.goal
    costs = [
        text(f"effect.{name}_each", n=formats.units(value))
        for name, value in (("contact", of.contact_cost), ("coupon", of.coupon_cost), ("margin", of.margin))
        if value
    ]
    if of.margin_share:
        costs.append(text("effect.margin_share", n=formats.percent(of.margin_share, 0)))
    within = text("effect.goal_within", goal=goal, days=formats.number(of.horizon))
    lot = [f"{text(f'group.{group}')} {formats.percent(share, 0)}" for group, share in of.shares.items() if share]
    rows = [
        ("when", text("common.comma").join(part for part in (text("effect.from", day=formats.day(of.starts)), of.when) if part)),
        ("who", text("effect.audience_is", name=of.audience, rule=rules.rule(of.rule or {})) if of.audience else text("effect.drawn_elsewhere")),
        ("incentive", of.incentive),
        ("channel", of.channel),
        ("goal", f"{within} ({rules.condition(goal_condition(of.where))})" if of.where else within),
        ("lot", text("common.comma").join(lot)),
        ("money", text("common.comma").join(costs)),
        ("target", "" if of.target is None else formats.units(of.target) if of.counts_spend else formats.percent(of.target)),
    ]
    return [(name, told) for name, told in rows if told or name in ("incentive", "channel")]


def goal_condition(where: Mapping[str, Any]) -> dict[str, Any]:
    """Properties of a goal's event as a condition: what one asks of each, joined by and."""
    parts = [{"feature": name, **(asked if isinstance(asked, Mapping) else {"is": asked})} for name, asked in where.items()]
    return {"all": parts}


def monitor(seen: Mapping[str, Any] | None, of: Campaign, words: Words, formats: Formats) -> dict[str, Any] | None:
    """What has happened so far, and what is off. It says nothing of the effect."""
    if seen is None:
        return None
    drawn, conversions = Drawn({"campaign": of.plan.described(), "currency": formats.currency, **seen}, words, formats), seen["conversions"]
    return {
        "until": seen["complete_until"],
        "over": seen["members_observed_to_the_end"],
        "groups": drawn.groups(),
        "funnel": drawn.funnel(),
        "actual": conversions["actual"],
        "expected": conversions["expected"],
        "evidence": evidence(conversions["series"], words, formats),
        "ratio": words.text("effect.ratio_evidence", odds=odds(seen["ratio"]["evidence"], words, formats), limit=formats.number(ALARM_ODDS)),
        "source": None if conversions["expected"] is None else "target" if "target" in conversions["source"] else "scores",
        "alarms": [alarm(one, words) for one in seen["alarms"]],
    }


def evidence(series: Sequence[float], words: Words, formats: Formats) -> dict[str, Any] | None:
    """Evidence that conversions are far under expectation, by days since entry, beside the line of alarm. series: log e-values; None where there are none."""
    if len(series) < 2:
        return None

    def tens(value: float) -> float:
        return min(max(value / log(10), LEAST_TENS), MOST_TENS)

    alarm_at, last = log10(ALARM_ODDS), len(series) - 1
    line = Line(words.text("effect.evidence_is"), [(day, tens(value)) for day, value in enumerate(series)])
    limit = Line(words.text("effect.evidence_alarm"), [(0, alarm_at), (last, alarm_at)], "second")
    top = max(alarm_at + 1, *(y for _, y in line.points))
    show = lambda y: formats.number(10**y, max(0, -floor(y)))  # noqa: E731 - two words of a chart
    chart = curves(words.text("effect.evidence"), [limit, line], lambda day: formats.number(day), show, top=top, bottom=LEAST_TENS, height=220)
    rows = [[formats.number(day), odds(exp(min(value, 500.0)), words, formats)] for day, value in enumerate(series)]
    looks, head = [(one.name, one.look) for one in (line, limit)], [words.text("effect.days_in"), line.name]
    return figure(words.text("effect.evidence"), words.text("effect.evidence_note"), chart, looks, head, rows)


def odds(value: float, words: Words, formats: Formats) -> str:
    """Odds to one, as far as anybody reads them."""
    if value > 1e6:
        return words.text("alarm.millions")
    return formats.number(value, 0 if value >= 10 else 2 if value >= 0.01 else 4)


def _reached(seen: Mapping[str, Any] | None, told: Told | None, today: date) -> date:
    """How far the log reaches, as far as anything here says so; else today."""
    known = [date.fromisoformat(day) for day in ((seen or {}).get("complete_until"), told.manifest["as_of"] if told else None) if day]
    return min(max(known, default=today), today)


def _in_its_currency(report: Mapping[str, Any], words: Words, formats: Formats) -> Formats:
    return Formats(words.language, report.get("currency", formats.currency), formats.zone.key)
