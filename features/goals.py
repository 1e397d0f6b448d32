"""Goals: predictions that a shop declares in its encore.toml. Whom they are about, what counts, within how many days.

    [[goals]]
    name = "good_rating"
    question = "Will this buyer rate a product with four stars or more?"
    include = [{ feature = "orders_count", at_least = 1 }, { feature = "orders_recency", at_most = 90 }]
    exclude = [{ feature = "satisfaction_refunds_90d", at_least = 1 }]
    event = "rating"
    where = { level = { at_least = 4 } }
    absent = false
    horizon = 30

Rules speak of the behaviour vector, which ends before the cutoff; whatever speaks of the outcome is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from features.vocabulary import EVENTS, NUMBERS, PROPERTIES

KEYS = ("name", "question", "include", "exclude", "event", "where", "absent", "horizon")
OUTCOME = ("label", "outcome", "target", "goal", "y")
RULE = ("feature", "at_least", "at_most", "is", "known")


def goal_problems(goal: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a goal as it was read, in words."""
    problems = [_near(key, KEYS, "setting") for key in goal if key not in KEYS]
    if not isinstance(goal.get("name"), str) or not re.fullmatch(r"[a-z][a-z0-9_]{1,40}", goal["name"]):
        problems.append(f'"name" is {goal.get("name")!r}; it must be small letters, digits and _, such as "good_rating"')
    if goal.get("event") not in EVENTS:
        problems.append(_near(str(goal.get("event")), tuple(EVENTS), "event"))
    days = goal.get("horizon")
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 365:
        problems.append(f'"horizon" is {days!r}; it must be 1 to 365 days')
    if not isinstance(goal.get("absent", False), bool):
        problems.append(f'"absent" is {goal["absent"]!r}; it must be true (the event does not happen) or false')
    return problems + list(_rule_problems(goal)) + list(_where_problems(goal.get("where", {})))


def _rule_problems(goal: Mapping[str, Any]) -> Iterator[str]:
    for part in ("include", "exclude"):
        rules = goal.get(part, [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            yield f'"{part}" must be a list of conditions, such as [{{ feature = "orders_count", at_least = 1 }}]'
            continue
        for rule in rules:
            name = rule.get("feature")
            if name in (*OUTCOME, goal.get("name")) or "event" in rule:
                yield f'"{part}" speaks of the outcome ({name or rule.get("event")}): people must be known before the cutoff. Use a feature.'
            elif not isinstance(name, str):
                yield f'a condition of "{part}" names no "feature": {rule}'
            yield from (_near(key, RULE, f'word in "{part}"') for key in rule if key not in (*RULE, "event"))
            if not {"at_least", "at_most", "is", "known"} & set(rule):
                yield f"the condition on {name} says nothing; give at_least, at_most, is or known"


def _where_problems(where: Any) -> Iterator[str]:
    if not isinstance(where, Mapping):
        yield f'"where" is {where!r}; it must be a table such as {{ level = {{ at_least = 4 }} }}'
        return
    for name, allowed in where.items():
        if name not in PROPERTIES:
            yield _near(name, PROPERTIES, "property")
        elif name in NUMBERS:
            if not isinstance(allowed, Mapping) or not set(allowed) <= {"at_least", "at_most"} or not all(_is_number(value) for value in allowed.values()):
                yield f'"{name}" is a number: say {{ at_least = 4 }} or {{ at_most = 4 }}, not {allowed!r}'
        elif not (isinstance(allowed, str) or (isinstance(allowed, list) and all(isinstance(value, str) for value in allowed))):
            yield f'"{name}" is a text: give one or a list of them, not {allowed!r}'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _near(seen: str, allowed: tuple[str, ...], what: str) -> str:
    near = get_close_matches(seen, allowed, n=1)
    return f"unknown {what} '{seen}'.{f' Did you mean {near[0]!r}?' if near else ''} Known: {', '.join(allowed)}."
