"""Preparing: the examples of a task, split by time, and what can be said of them before anything is fitted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np

from features.errors import NoUsableData
from features.events import day_of
from features.store import SnapshotStore
from features.tiles import Tiles
from training.examples import ENOUGH_POSITIVES, Examples, customers, make_examples, thinned, trigger_days
from training.split import Split, calendar, closed, longest_window, split_by_time
from training.task import AskedTask


@dataclass(frozen=True)
class Prepared:
    """What a task learns from and is judged on.

    asked: the task; where it extrapolates, with the days that its labels are about. everything: the examples of all cutoffs,
    for the model that is served.
    """

    asked: AskedTask
    split: Split
    train: Examples
    test: Examples
    everything: Examples

    @property
    def outcomes(self) -> tuple[int, int]:
        """Positives and negatives to learn from: customers, who come back at every cutoff, or offers, each of which is a question of its own."""
        positives = int(self.train.y.sum())
        return (positives, len(self.train) - positives) if self.asked.task.trigger else customers(self.train)

    @property
    def indicative(self) -> bool:
        """Too few of either outcome for more than a simple model with wide intervals; amounts and dates are learned from those who did it."""
        return (self.outcomes[0] if self.asked.task.amount else min(self.outcomes)) < ENOUGH_POSITIVES


def prepare(asked: AskedTask, until: date, tiles: Tiles, store: SnapshotStore) -> Prepared:
    """The examples of a task from everything known before `until`.

    Raises:
        NoUsableData: events that the task needs are not in the log, or too short a span.
    """
    asked, split = planned(asked, until, tiles)
    examples = make_examples(asked, split.cutoffs, first_day(tiles), tiles, store)
    if asked.task.seed:  # a fifth of the customers is hidden, chosen by a hash of their id: the same ones at every retrain
        hidden = np.array([_hidden(user) for user in examples.users], dtype=bool)
        return Prepared(asked, split, examples.take(~hidden), examples.take(hidden), examples)
    everything = thinned(examples)
    if asked.kind == "effect":  # lots are few: held-out customers, not later ones, show whether it holds
        return Prepared(asked, split, everything, everything, everything)
    return Prepared(asked, split, thinned(examples.at(split.train)), thinned(examples.at(split.test)), everything)


def planned(asked: AskedTask, until: date, tiles: Tiles) -> tuple[AskedTask, Split]:
    """The task, where it extrapolates with the days that its labels are about, and the cutoffs that it learns from and is judged on.

    Raises:
        NoUsableData: events that the task needs are not in the log, or too short a span.
    """
    if lacking := sorted(set(asked.task.needs) - tiles.log.kinds):
        raise NoUsableData(f"{asked.name} needs events that the log does not have: {', '.join(lacking)}. Ingest a source that brings them.")
    if asked.task.seed:
        return asked, Split((until,), (until,))
    first = first_day(tiles)
    if asked.kind == "effect":
        days = tuple(closed(trigger_days(asked, tiles), first, until, asked.horizon))
        if not days:
            raise NoUsableData(
                f"{asked.name} needs a campaign whose window of {asked.horizon} days is over and from which a lot kept some customers (held_out). "
                "Hold out a control group in the next campaign and ingest both."
            )
        return asked, Split(days, days, asked.horizon)
    if asked.task.extrapolates and (possible := longest_window(first, until, asked.horizon)) < asked.horizon:
        asked = replace(asked, measured_on=possible)
    return asked, split_by_time(cutoffs_of(asked, first, until, tiles), asked.label_days)


def _hidden(user: Any) -> bool:
    return hashlib.sha256(f"hidden seed {user}".encode()).digest()[0] % 5 == 0


def cutoffs_of(asked: AskedTask, first: date, until: date, tiles: Tiles) -> list[date]:
    """The cutoffs whose label windows are over at `until`: on the calendar, or where the task's trigger happened."""
    if asked.task.trigger is None:
        return calendar(first, until, asked.label_days)
    return closed(trigger_days(asked, tiles), first, until, asked.label_days)


@lru_cache(maxsize=1)
def first_day(tiles: Tiles) -> date:
    """The day of the first order: what came before it is not yet a shop's history."""
    days = tiles.ever().days("orders")["day"]
    if days.empty:
        raise NoUsableData("The log has no order; every prediction needs some. Ingest the shop's orders first.")
    return day_of(int(days.min()))
