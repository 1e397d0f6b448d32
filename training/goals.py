"""Custom goals: the predictions that a shop declares itself, as tasks like any other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from features.happened import Window
from features.vocabulary import EVENTS
from training.eligible import eligible
from training.task import Task


def task_of(goal: Mapping[str, Any]) -> Task:
    """A goal of the shop file as a task; what is wrong with the goal itself was said when the file was read."""
    event, days, absent = str(goal["event"]), int(goal["horizon"]), bool(goal.get("absent", False))
    does = "not " if absent else ""
    return Task(
        name=goal["name"],
        question=goal.get("question", f"Will this {does}happen within {{horizon}} days: {EVENTS[event][1]}?").replace("?", "") + "?",
        eligible=eligible(*goal.get("include", ()), exclude=tuple(goal.get("exclude", ()))),
        eligible_in_words=_in_words(goal),
        outcome=partial(_did, event=event, where=goal.get("where", {})),
        absence=absent,
        horizon=partial(_days, days=days),
        needs=(event,),
        rule="activity_recency",
        rule_in_words="recency rule",
        declared={name: value for name, value in goal.items() if name != "question"},
    )


def _days(_: object, days: int) -> int:
    return days


def _did(window: Window, event: str, where: Mapping[str, Any]) -> pd.Series[str]:
    return window.events(event, where)["user_id"]


def _in_words(goal: Mapping[str, Any]) -> str:
    said = [_condition(rule) for rule in goal.get("include", ())] + ["not " + _condition(rule) for rule in goal.get("exclude", ())]
    return " and ".join(said) or "everybody known"


def _condition(rule: Mapping[str, Any]) -> str:
    words = {"at_least": "at least", "at_most": "at most", "is": "is"}
    told = [f"{words[key]} {rule[key]}" for key in words if key in rule] or ["known" if rule.get("known", True) else "unknown"]
    return f"{rule['feature']} {' and '.join(told)}"
