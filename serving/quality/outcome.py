"""What came of the scores of a run: the answers, by the task's own functions over the event log, and who was treated meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import NoUsableData, UnknownName
from features.identity import tombstone
from features.tiles import Tiles
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.quality.runs import Served, StoredRun
from training.goals import task_of
from training.labels import Labels, labels_at, people_now
from training.task import AskedTask
from training.tasks import all_tasks

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """Rows of a run whose question has an answer, row by row.

    people: who they are now; y: what happened; amount: cents or days, where the task predicts such; arm: of a lot, for an effect;
    treated: whether a campaign reached them, or enrolled them, in the outcome window.
    """

    asked: AskedTask
    served: Served
    people: npt.NDArray[np.object_]
    y: Mask
    amount: npt.NDArray[np.float64] | None
    arm: Mask | None
    treated: Mask

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Mask) -> Outcome:
        amount, arm = (None if values is None else values[rows] for values in (self.amount, self.arm))
        return Outcome(self.asked, self.served.take(rows), self.people[rows], self.y[rows], amount, arm, self.treated[rows])  # type: ignore[arg-type]

    @property
    def digest(self) -> str:
        """Changes when, and only when, an answer or a treatment does."""
        content = sha256("\0".join(self.people).encode())
        for values in (self.y, self.amount, self.arm, self.treated):
            content.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
        return content.hexdigest()


def asked_then(workspace: Workspace, run: StoredRun, task: str) -> AskedTask:
    """The question as it was asked: a goal as it was declared then, whatever the shop file says of it now.

    Raises:
        NoUsableData: it has no outcome, or the shop no such prediction any more.
    """
    told = run.predictions[task]
    if "seed" in told:
        raise NoUsableData(f"{task} is a look-alike of a list: its score ranks by likeness, and there is no outcome to hold it against.")
    try:
        known = all_tasks(workspace.shop())
        if "declared" not in told and task not in known:
            raise UnknownName("prediction", task, known)
        definition = task_of(told["declared"]) if "declared" in told else known[task]
    except UnknownName as error:
        raise NoUsableData(f"What {task} asked is not known any more. {error}") from None
    return AskedTask(definition, int(told["horizon_days"]), int(told["window_days"]))


def outcome_of(workspace: Workspace, run: StoredRun, task: str, tiles: Tiles, treated: frozenset[str]) -> Outcome:
    """What came of a run's scores of one prediction; users who were suppressed or deleted since are left out.

    Args:
        treated: users reached in the outcome window, see `treated_in`.

    Raises:
        LabelWindowOpen: the horizon is not over in the data. RunChanged. NoUsableData: nobody has an answer.
    """
    asked, served = asked_then(workspace, run, task), run.served(task)
    users = pd.Index(served.users)
    people = people_now(tiles, users)
    labels = _joined(workspace, run, asked, tiles, people) if asked.task.seed else labels_at(asked, tiles, run.as_of, people)
    y = labels.y
    if asked.edges and labels.amount is not None:  # what was served is the chance by an edge near half of the horizon
        y = np.nan_to_num(labels.amount, nan=np.inf) < within(asked)
    whole = Outcome(asked, served, people.to_numpy(dtype=object), y, labels.amount, labels.treated, np.asarray(people.isin(treated)))
    some = whole.take(labels.asked & ~_withheld(tiles.log.manifest["tombstones"], users, people))
    if not len(some):
        raise NoUsableData(f"{task} as of {run.as_of}: of {len(users)} users scored nobody has an answer ({asked.describe()['question']}).")
    return some


def within(asked: AskedTask) -> int:
    """Of a date: the days within which the served probability promises the event, as `Examples.within`."""
    return min(asked.edges, key=lambda edge: abs(edge - asked.edges[-1] / 2))


def treated_in(ledger: Ledger, tiles: Tiles, start: date, end: date) -> frozenset[str]:
    """Users whom a campaign reached in `start <= day < end` by the log's events, or enrolled as treatment by our own campaigns.

    Raises:
        LabelWindowOpen: the window is not over in the data.
    """
    reached = set(tiles.between(start, end).days("campaigns")["user_id"].unique())
    from serving.campaigns.store import treated  # a room that knows scores, too

    return frozenset(reached | {tiles.current_ids.get(user, user) for user in treated(ledger, start, end)})


def _joined(workspace: Workspace, run: StoredRun, asked: AskedTask, tiles: Tiles, people: pd.Index) -> Labels:
    """Of a look-alike by a rule: who has become one of those whom it looked like, by the vectors at the end of the horizon."""
    if asked.task.seed is None:
        raise TypeError(f"task '{asked.name}' has no seed")
    tiles.between(run.as_of, run.closes(asked.name))  # raises while the horizon is open
    then = workspace.snapshots.get(tiles, run.closes(asked.name)).frame
    members = then.index[asked.task.seed(then).to_numpy(dtype=bool)]
    return Labels(np.ones(len(people), dtype=bool), np.asarray(people.isin(members)))


def _withheld(tombstones: Mapping[str, str], users: pd.Index, people: pd.Index) -> Mask:
    if not tombstones:
        return np.zeros(len(users), dtype=bool)
    return np.array([tombstone(user) in tombstones or tombstone(person) in tombstones for user, person in zip(users, people, strict=True)])
