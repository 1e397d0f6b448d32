"""Labels: who has an answer to a task's question as of a date, and what the answer was, by what happened in the outcome window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.happened import Window
from features.tiles import Tiles
from training.task import AskedTask


@dataclass(frozen=True)
class Labels:
    """Of some people, in their order.

    asked: whether the question could be asked of them: the trigger happened to them, they were in the lot, its condition came true.
    y: the answer. amount: cents spent or days waited, where the task predicts such. treated: which arm of a lot, where it asks for an effect.
    """

    asked: npt.NDArray[np.bool_]
    y: npt.NDArray[np.bool_]
    amount: npt.NDArray[np.float64] | None = None
    treated: npt.NDArray[np.bool_] | None = None


def labels_at(asked: AskedTask, tiles: Tiles, as_of: date, people: pd.Index) -> Labels:
    """Labels of people by the task's own functions.

    Args:
        people: their ids as they are known now, see `people_now`.

    Raises:
        LabelWindowOpen: the window is not over in the data.
    """
    has_answer = np.ones(len(people), dtype=bool)
    arms = drawn(tiles, as_of) if asked.kind == "effect" else None
    if arms is not None:
        has_answer &= people.isin(arms.index)
    elif asked.task.trigger:
        has_answer &= people.isin(_triggered(asked.task.trigger, tiles, as_of))
    if asked.task.given:
        has_answer &= people.isin(asked.task.given(_window(asked, tiles, as_of)).unique())
    if asked.task.amount:
        amount = _amounts(asked, tiles, as_of, people)
        return Labels(has_answer, np.nan_to_num(amount, nan=-1.0) >= (0 if asked.edges else 1), amount)
    y = people.isin(_did(asked, tiles, as_of)) ^ asked.task.absence
    return Labels(has_answer, y, treated=None if arms is None else arms.reindex(people, fill_value=False).to_numpy(bool))


def people_now(tiles: Tiles, users: pd.Index) -> pd.Index:
    """Users as they are known now: a visitor of then may be known by another id, and what they did next is kept under it."""
    return users.map(lambda user: tiles.current_ids.get(user, user)) if tiles.current_ids else users


def drawn(tiles: Tiles, as_of: date) -> pd.Series[bool]:
    """user_id -> whether the campaign was received, of everybody in a lot of that day: campaigns that some got and some were kept out of."""
    window = tiles.between(as_of, as_of + timedelta(days=1))
    got, kept = window.keys("received"), window.keys("kept_out")
    lots_of = set(got["key"]) & set(kept["key"])
    both = pd.concat([got.assign(treated=True), kept.assign(treated=False)])
    mine = both[both["key"].isin(lots_of)].drop_duplicates(["user_id", "treated"])
    found: pd.Series[bool] = mine[~mine["user_id"].duplicated(keep=False)].set_index("user_id")["treated"]  # who is in both arms says nothing
    return found


def _triggered(trigger: str, tiles: Tiles, as_of: date) -> pd.Index:
    found: pd.Index = pd.Index(tiles.between(as_of, as_of + timedelta(days=1)).days(trigger)["user_id"].unique())
    return found


def _amounts(asked: AskedTask, tiles: Tiles, as_of: date, people: pd.Index) -> npt.NDArray[np.float64]:
    if asked.task.amount is None:
        raise TypeError(f"task '{asked.name}' has no amount")
    found = asked.task.amount(_window(asked, tiles, as_of)).reindex(people)
    last = asked.edges[-1] if asked.edges else 0  # the steps may end some days before the horizon
    kept = found.where(found < last) if asked.edges else found.fillna(0.0)
    return np.asarray(kept, dtype=np.float64)


def _did(asked: AskedTask, tiles: Tiles, as_of: date) -> pd.Index:
    if asked.task.outcome is None:
        raise TypeError(f"task '{asked.name}' has neither an outcome nor a seed")
    found: pd.Index = pd.Index(asked.task.outcome(_window(asked, tiles, as_of)).unique())
    return found


def _window(asked: AskedTask, tiles: Tiles, as_of: date) -> Window:
    return tiles.between(as_of, as_of + timedelta(days=asked.label_days))
