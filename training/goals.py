"""Custom goals: the predictions that a shop declares itself, as tasks like any other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from features.errors import UnknownName
from features.happened import Window
from features.vocabulary import EVENTS
from training.task import Task


def task_of(goal: Mapping[str, Any]) -> Task:
    """A goal of the shop file as a task; what is wrong with the goal itself was said when the file was read."""
    event, days, absent = str(goal["event"]), int(goal["horizon"]), bool(goal.get("absent", False))
    does = "not " if absent else ""
    return Task(
        name=goal["name"],
        question=goal.get("question", f"Will this {does}happen within {{horizon}} days: {EVENTS[event][1]}?").replace("?", "") + "?",
        eligible=partial(_eligible, include=goal.get("include", ()), exclude=goal.get("exclude", ())),
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


def _eligible(users: pd.DataFrame, window: int, include: tuple[Mapping[str, Any], ...], exclude: tuple[Mapping[str, Any], ...]) -> pd.Series[bool]:
    chosen = pd.Series(True, users.index)
    for rule in include:
        chosen &= _holds(users, rule)
    for rule in exclude:
        chosen &= ~_holds(users, rule)
    return chosen


def _holds(users: pd.DataFrame, rule: Mapping[str, Any]) -> pd.Series[bool]:
    """Whether a condition holds; a feature without a value fulfils none but `known = false`."""
    if rule["feature"] not in users:
        raise UnknownName("feature", rule["feature"], users.columns)
    values = users[rule["feature"]]
    holds: pd.Series[bool] = values.notna() if rule.get("known", True) else values.isna()
    if "at_least" in rule:
        holds &= values >= rule["at_least"]
    if "at_most" in rule:
        holds &= values <= rule["at_most"]
    if "is" in rule:
        holds &= values.isin(np.atleast_1d(rule["is"]).tolist())
    return holds


def _in_words(goal: Mapping[str, Any]) -> str:
    said = [_condition(rule) for rule in goal.get("include", ())] + ["not " + _condition(rule) for rule in goal.get("exclude", ())]
    return " and ".join(said) or "everybody known"


def _condition(rule: Mapping[str, Any]) -> str:
    words = {"at_least": "at least", "at_most": "at most", "is": "is"}
    told = [f"{words[key]} {rule[key]}" for key in words if key in rule] or ["known" if rule.get("known", True) else "unknown"]
    return f"{rule['feature']} {' and '.join(told)}"
