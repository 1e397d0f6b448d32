"""A user's page: scores with reasons, audiences, history, behaviour vector, and what a tool would receive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from features.calendar import day_of
from features.histories import KEPT_DAYS
from features.tile_columns import DAY_COLUMNS
from features.vocabulary import EVENTS, STAGES
from serving.console.charts import Dots, intervals
from serving.console.formats import Formats
from serving.console.told import Told
from serving.console.words import Words
from serving.schemas import score_body
from serving.scorer import Score, Status

MOST_DAYS, SHOWN_DAYS = 60, 12  # of a history, latest first; and before somebody asks for more
WEEKS = KEPT_DAYS // 7  # of the picture
COUNTED = {column: event for event, (column, _) in EVENTS.items()}  # column of the days -> event
QUIET = ("order_item", "identified", "list_view")  # events that say nothing beside others
SAID = ("OK", "STALE")


def page(told: Told, user_id: str, words: Words, formats: Formats) -> dict[str, Any]:
    """What is known of one user; of one who is suppressed, deleted or unknown only that nothing is said."""
    row = told.scorer.row(user_id)
    if row is None:
        return {"user_id": user_id, "absent": told.scorer.absence(user_id).value}
    now = datetime.now(UTC)
    scores = [told.scorer.score(task, [user_id], now, reasons=True)[0] for task in told.release.bundles]
    scored = [_score(told, score, words, formats) for score in scores if score.status in SAID]
    return {
        "user_id": user_id,
        "absent": None,
        "stage": STAGES[told.release.stages[row]],
        "labels": _labels(told, row),
        "scores": scored,
        "not_asked": [score.task for score in scores if score.status == Status.NOT_ELIGIBLE],
        "levers": _levers(told, scores),
        "history": _history(told, row, words, formats),
        "families": _families(told, row, formats),
        "json": json.dumps({"scores": [score_body(score).model_dump(mode="json") for score in scores]}, indent=2, ensure_ascii=False),
    }


def _score(told: Told, score: Score, words: Words, formats: Formats) -> dict[str, Any]:
    kind = told.release.bundles[score.task].kind
    if score.probability is not None:
        main = formats.percent(score.probability)
    elif score.value is not None:
        main = formats.units(score.value)
    elif score.effect is not None:
        main = ("+" if score.effect > 0 else "") + formats.percent(score.effect)
    else:
        main = formats.number(score.percentile)
    reasons = score.reasons or ()
    most = max((abs(reason.contribution) for reason in reasons), default=1.0)
    return {
        "task": score.task,
        "kind": kind,
        "main": main,
        "percentile": formats.number(score.percentile),
        "share": (score.percentile or 0.0) / 100,
        "band": score.band,
        "stale": score.status == Status.STALE,
        "parts": _parts(told, score, words, formats),
        "reasons": [
            {
                "meaning": told.feature(reason.feature)["meaning"],
                "value": formats.value(reason.value, told.feature(reason.feature)["unit"]),
                "swing": reason.contribution / most,
                "contribution": reason.contribution,
                "effect": reason.effect,
                "actionable": reason.actionable,
            }
            for reason in reasons
        ],
    }


def _parts(told: Told, score: Score, words: Words, formats: Formats) -> str:
    """What a score is made of, in a sentence; none where there is nothing to add."""
    known = score.details or {}
    if "median_days" in known:
        midnight = date.fromisoformat(told.manifest["as_of"])
        later = words.text("person.later", day=formats.day(midnight + timedelta(days=int(told.release.bundles[score.task].about["horizon_days"]))))
        if known["earliest_days"] is None:  # nine in ten wait longer than the horizon
            return words.text("person.likely_later", later=later)
        days = {name: known[f"{name}_days"] for name in ("earliest", "median", "latest")}
        return words.text("person.parts_date", **{name: later if n is None else formats.day(midnight + timedelta(days=int(n))) for name, n in days.items()})
    if "cents_if_any" in known:
        return words.text("person.parts_value", chance=formats.percent(known["probability"]), amount=formats.money(known["cents_if_any"]))
    if "cents_per_order" in known:
        return words.text("person.parts_orders", n=formats.number(known["expected_orders"], 1), amount=formats.money(known["cents_per_order"]))
    if "if_treated" in known:
        return words.text("person.parts_effect", treated=formats.percent(known["if_treated"]), control=formats.percent(known["if_control"]))
    return ""


def _levers(told: Told, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """What marketing can change and now holds a score of this user down."""
    found: dict[str, set[str]] = {}
    for score in scores:
        for reason in score.reasons or ():
            if reason.actionable and reason.effect == "lowers" and score.task != "churn":
                found.setdefault(reason.feature, set()).add(score.task)
    return [{"meaning": told.feature(name)["meaning"], "tasks": sorted(tasks)} for name, tasks in found.items()]


def _labels(told: Told, row: int) -> list[dict[str, str]]:
    """Words for people, such as the layer."""
    about = (told.page("features.json") or {}).get("labels", {})
    found = {name: values[row].as_py() for name, values in told.release.labels.items()}
    return [{"meaning": about.get(name, {}).get("meaning", name), "value": value} for name, value in found.items() if value is not None]


def _families(told: Told, row: int, formats: Formats) -> list[dict[str, Any]]:
    """The behaviour vector by families of features."""
    families: dict[str, list[dict[str, Any]]] = {}
    for name, value in zip(told.release.features, told.release.vectors[row].tolist(), strict=True):
        about = told.feature(name)
        shown = formats.value(value, about["unit"])
        families.setdefault(about["family"], []).append(
            {"name": name, "meaning": about["meaning"], "value": shown, "unit": about["unit"], "empty": value != value}
        )
    return [{"name": name, "features": rows, "known": sum(not one["empty"] for one in rows)} for name, rows in families.items()]


def _history(told: Told, row: int, words: Words, formats: Formats) -> dict[str, Any] | None:
    """The days on which something happened, latest first, and activity by week; None where the release keeps no histories."""
    histories = told.release.histories
    if histories is None:
        return None
    table = histories.tables["days"].of(row)
    days: dict[int, dict[str, int]] = {}
    for day, column, value in zip(table["day"].tolist(), table["column"].tolist(), table["value"].tolist(), strict=True):
        days.setdefault(int(day), {})[DAY_COLUMNS[int(column)].name] = int(value)
    listed = [
        {"day": formats.day(day_of(day)), "told": events, "money": counts.get("revenue_cents")}
        for day, counts in sorted(days.items(), reverse=True)
        if (events := [one for one in _events(counts) if one[0] == "order" or histories.day - day <= KEPT_DAYS])  # older ones may be sums
    ]
    shown, rest = listed[:SHOWN_DAYS], listed[SHOWN_DAYS:MOST_DAYS]
    return {"days": shown, "rest": rest, "more": max(0, len(listed) - MOST_DAYS), "within": WEEKS, "weeks": _weeks(days, histories.day, words, formats)}


def _events(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """What happened on a day: event and how often, orders first."""
    found = [(COUNTED[name], count) for name, count in counts.items() if name in COUNTED and count > 0 and COUNTED[name] not in QUIET]
    order = list(EVENTS)
    return sorted(found, key=lambda one: (one[0] != "order", order.index(one[0])))


def _weeks(days: Mapping[int, Mapping[str, int]], end: int, words: Words, formats: Formats) -> dict[str, Any] | None:
    """Orders and other activity in each of the last weeks: a picture and its numbers; None where there were neither."""
    orders, actions = [0] * WEEKS, [0] * WEEKS
    for day, counts in days.items():
        week = WEEKS - 1 - (end - 1 - day) // 7
        if 0 <= week < WEEKS:
            orders[week] += counts.get("orders", 0)
            actions[week] += sum(count for event, count in _events(counts) if event != "order")
    if not any(orders) and not any(actions):
        return None
    starts = [formats.short_day((day_of(end) - timedelta(days=7 * (WEEKS - week))).isoformat()) for week in range(WEEKS)]
    groups = [
        Dots(words.text("person.activity"), [(value, None, None) if value else None for value in actions], "other"),
        Dots(words.text("person.orders"), [(value, None, None) if value else None for value in orders], "main"),
    ]
    chart = intervals(words.text("person.weeks", n=WEEKS), groups, starts, lambda y: formats.number(y), bottom=0.0, height=200)
    rows = [(start, formats.number(bought), formats.number(done)) for start, bought, done in zip(starts, orders, actions, strict=True)]
    return {"chart": chart, "rows": rows}
