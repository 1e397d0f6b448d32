"""Examples: as-of dates x eligible users x label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import NoUsableData
from features.events import day_number, day_of
from features.sampling import lots
from features.snapshot import Snapshot
from features.store import SnapshotStore, read_snapshot
from features.tiles import Tiles
from training.task import AskedTask

LEAST_POSITIVES, ENOUGH_POSITIVES = 30, 500
MOST_PAIRS = 4_000_000  # of user and cutoff: of a larger shop a sample is computed
MOST_ROWS = 200_000  # to fit on; more rows taught the models nothing


@dataclass(frozen=True)
class Examples:
    """Rows to learn from or to be judged on.

    X: rows x features, NaN for no value; names: the features; y: 0 or 1; users: user_id; as_of: the cutoff.
    """

    X: npt.NDArray[np.float64]
    names: tuple[str, ...]
    y: npt.NDArray[np.int8]
    users: npt.NDArray[np.object_]
    as_of: npt.NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: npt.NDArray[np.bool_]) -> Examples:
        """The rows where the mask is true."""
        return Examples(self.X[rows], self.names, self.y[rows], self.users[rows], self.as_of[rows])

    def at(self, cutoffs: Sequence[date]) -> Examples:
        """The rows of some cutoffs."""
        return self.take(np.isin(self.as_of, np.array(list(cutoffs), dtype=object)))

    def column(self, name: str) -> npt.NDArray[np.float64]:
        return self.X[:, self.names.index(name)]


def make_examples(asked: AskedTask, cutoffs: Sequence[date], first_day: date, tiles: Tiles, store: SnapshotStore) -> Examples:
    """Feature vectors before each cutoff, labels from [cutoff, cutoff + horizon).

    A feature that looks back further than the log reaches at the first cutoff means something else at each cutoff
    and is left out until the log is long enough.

    Raises:
        LabelWindowOpen: a window is not over in the data.
        NoUsableData: nobody is eligible at any cutoff.
    """
    visible = (cutoffs[0] - first_day).days
    share = 1.0 if asked.task.seed else share_of(tiles.users * len(cutoffs))  # a seed is small: none of it is left out
    parts = [_at_cutoff(asked, read_snapshot(path), visible, tiles) for path in store.build(tiles, cutoffs, share=share)]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise NoUsableData(f"Nobody is eligible for {asked.name} ({asked.describe()['eligible']}) at any of {len(cutoffs)} cutoff(s).")
    return Examples(
        np.concatenate([part.X for part in parts]),
        parts[0].names,
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.users for part in parts]),
        np.concatenate([part.as_of for part in parts]),
    )


def share_of(pairs: int) -> float:
    """The share of the pairs of user and cutoff to compute: halved until few enough are left, so that tasks can share snapshots."""
    return 0.5 ** max(0, math.ceil(math.log2(max(pairs, 1) / MOST_PAIRS)))


def thinned(examples: Examples, most: int = MOST_ROWS) -> Examples:
    """At most so many rows, drawn by lots: the same ones on every run."""
    if len(examples) <= most:
        return examples
    drawn = np.empty(len(examples))
    for cutoff in sorted(set(examples.as_of)):
        rows = examples.as_of == cutoff
        drawn[rows] = lots(examples.users[rows], -day_number(cutoff))  # another lot than the one that chose whom to compute
    return examples.take(drawn <= np.partition(drawn, most - 1)[most - 1])


def trigger_days(asked: AskedTask, tiles: Tiles) -> list[date]:
    """The days on which the task's trigger happened."""
    if asked.task.trigger is None:
        return []
    return [day_of(number) for number in sorted(tiles.ever().days(asked.task.trigger)["day"].unique().tolist())]


def require_both_classes(examples: Examples, what: str) -> None:
    """Refuse to learn from next to nothing. Customers are counted, not rows: the same one at ten cutoffs is one.

    Raises:
        NoUsableData: fewer than 30 positives or 30 negatives, with the counts.
    """
    positives, negatives = (len(set(examples.users[examples.y == label])) for label in (1, 0))
    if min(positives, negatives) < LEAST_POSITIVES:
        raise NoUsableData(
            f"{what}: {positives} positives and {negatives} negatives (customers); at least {LEAST_POSITIVES} of each are needed "
            f"(below {ENOUGH_POSITIVES} a model is only indicative). Collect more data, or widen the horizon."
        )


def usable_features(asked: AskedTask, snapshot: Snapshot, visible: int) -> tuple[str, ...]:
    """The snapshot's features that the task's model may see when the log reaches back `visible` days."""
    described = snapshot.manifest["features"]
    return tuple(feature["name"] for feature in described if feature["looks_back_days"] <= visible and not feature["name"].startswith(asked.task.left_out))


def _at_cutoff(asked: AskedTask, snapshot: Snapshot, visible: int, tiles: Tiles) -> Examples:
    frame, as_of = snapshot.frame, snapshot.as_of
    asked_about = asked.eligible(frame).to_numpy(dtype=bool)
    # A visitor of then may be known by another id now, and what they did next is kept under it.
    people = frame.index.map(lambda user: tiles.current_ids.get(user, user)) if tiles.current_ids else frame.index
    if asked.task.trigger:
        asked_about = asked_about & people.isin(_triggered(asked.task.trigger, tiles, as_of))
    if asked.task.seed:
        # The seed is known in full: it is asked about whether or not a member is still active.
        label = asked.task.seed(frame).to_numpy(dtype=bool)
        asked_about = asked_about | label
    else:
        label = people.isin(_did(asked, tiles, as_of)) ^ asked.task.absence
    names = usable_features(asked, snapshot, visible)
    rows = np.flatnonzero(asked_about)
    return Examples(
        snapshot.matrix(names)[rows],
        names,
        label[rows].astype(np.int8),
        frame.index.to_numpy(dtype=object)[rows],
        np.full(len(rows), as_of, dtype=object),
    )


def _triggered(trigger: str, tiles: Tiles, as_of: date) -> pd.Index:
    found: pd.Index = pd.Index(tiles.between(as_of, as_of + timedelta(days=1)).days(trigger)["user_id"].unique())
    return found


def _did(asked: AskedTask, tiles: Tiles, as_of: date) -> pd.Index:
    if asked.task.outcome is None:
        raise TypeError(f"task '{asked.name}' has neither an outcome nor a seed")
    window = tiles.between(as_of, as_of + timedelta(days=asked.horizon))
    found: pd.Index = pd.Index(asked.task.outcome(window).unique())
    return found
