"""Examples: as-of dates x eligible users x label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt

from features.errors import NoUsableData
from features.events import day_number, day_of
from features.sampling import lots
from features.snapshot import Snapshot
from features.store import SnapshotStore, read_snapshot
from features.tiles import Tiles
from training.buying import HISTORY, WORTH
from training.labels import Labels, labels_at, people_now
from training.slices import slices_of
from training.task import AskedTask

LEAST_POSITIVES, ENOUGH_POSITIVES = 30, 500
MOST_PAIRS = 4_000_000  # of user and cutoff: of a larger shop a sample is computed
MOST_ROWS = 200_000  # to fit on; more rows taught the models nothing


@dataclass(frozen=True)
class Examples:
    """Rows to learn from or to be judged on.

    X: rows x features, NaN for no value; names: the features; y: 0 or 1; users: user_id; as_of: the cutoff.
    facts: numbers of each row that only baselines see, by name. slices: texts of each row by which evidence is cut.
    amount: cents spent (0 for none), or days waited (NaN for those who did not come), where the task predicts such.
    treated: of a trial: who got the campaign, the others were kept out of it by lot.
    edges, within: of a date: the days at which its steps end, and the one of them that the score is about.
    buyers: cutoff -> HISTORY, the mean order value and what a share is counted from, of everybody who had bought by then, eligible or not.
    """

    X: npt.NDArray[np.float64]
    names: tuple[str, ...]
    y: npt.NDArray[np.int8]
    users: npt.NDArray[np.object_]
    as_of: npt.NDArray[np.object_]
    facts: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    slices: Mapping[str, npt.NDArray[np.object_]] = field(default_factory=dict)
    buyers: Mapping[date, npt.NDArray[np.float64]] = field(default_factory=dict)
    amount: npt.NDArray[np.float64] | None = None
    edges: tuple[int, ...] = ()
    treated: npt.NDArray[np.bool_] | None = None

    @property
    def within(self) -> int:
        """The edge nearest to half of the horizon."""
        return min(self.edges, key=lambda edge: abs(edge - self.edges[-1] / 2))

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: npt.NDArray[np.bool_]) -> Examples:
        """The rows where the mask is true."""
        amount = None if self.amount is None else self.amount[rows]
        treated = None if self.treated is None else self.treated[rows]
        facts, slices = {name: values[rows] for name, values in self.facts.items()}, {name: values[rows] for name, values in self.slices.items()}
        return Examples(self.X[rows], self.names, self.y[rows], self.users[rows], self.as_of[rows], facts, slices, self.buyers, amount, self.edges, treated)

    def at(self, cutoffs: Sequence[date]) -> Examples:
        """The rows of some cutoffs."""
        return self.take(np.isin(self.as_of, np.array(list(cutoffs), dtype=object)))

    def has(self, name: str) -> bool:
        return name in self.names or name in self.facts

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """A number of each row, whether the model sees it or not."""
        return self.X[:, self.names.index(name)] if name in self.names else self.facts[name]

    def of(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Rows x named columns."""
        return self.X if tuple(names) == self.names else np.column_stack([self.column(name) for name in names])


def make_examples(asked: AskedTask, cutoffs: Sequence[date], first_day: date, tiles: Tiles, store: SnapshotStore) -> Examples:
    """Feature vectors before each cutoff, labels from [cutoff, cutoff + horizon).

    A feature that looks back further than the log reaches at the first cutoff means something else at each cutoff
    and is left out until the log is long enough.

    Raises:
        LabelWindowOpen: a window is not over in the data.
        NoUsableData: nobody is eligible at any cutoff.
    """
    visible = (cutoffs[0] - first_day).days
    is_seed = asked.task.seed is not None  # which is small: none of it is left out
    most = 2 * MOST_ROWS // len(cutoffs)  # to fit and to test on; the rest need not lie in memory until then
    parts = []
    for path in store.build(tiles, cutoffs, share=1.0 if is_seed else share_of(tiles.users * len(cutoffs))):
        part = _at_cutoff(asked, read_snapshot(path), visible, tiles)
        if len(part):
            parts.append(part if is_seed else thinned(part, most))
    if not parts:
        raise NoUsableData(f"Nobody is eligible for {asked.name} ({asked.describe()['eligible']}) at any of {len(cutoffs)} cutoff(s).")
    return Examples(
        np.concatenate([part.X for part in parts]),
        parts[0].names,
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.users for part in parts]),
        np.concatenate([part.as_of for part in parts]),
        {name: np.concatenate([part.facts[name] for part in parts]) for name in parts[0].facts},
        {name: np.concatenate([part.slices[name] for part in parts]) for name in parts[0].slices},
        {cutoff: buyers for part in parts for cutoff, buyers in part.buyers.items()},
        None if parts[0].amount is None else np.concatenate([part.amount for part in parts if part.amount is not None]),
        asked.edges,
        None if parts[0].treated is None else np.concatenate([part.treated for part in parts if part.treated is not None]),
    )


def share_of(pairs: int) -> float:
    """The share of the pairs of user and cutoff to compute: halved until few enough are left, so that tasks can share snapshots."""
    return 0.5 ** max(0, math.ceil(math.log2(max(pairs, 1) / MOST_PAIRS)))


def thinned(examples: Examples, most: int = MOST_ROWS) -> Examples:
    """At most so many rows, drawn by lots: the same ones on every run, and a smaller number is a part of a larger one."""
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


def customers(examples: Examples) -> tuple[int, int]:
    """How many customers are a positive at some cutoff, and how many a negative."""
    return len(set(examples.users[examples.y == 1])), len(set(examples.users[examples.y == 0]))


def require_both_classes(examples: Examples, what: str) -> None:
    """Refuse to learn from next to nothing. Customers are counted, not rows: the same one at ten cutoffs is one.

    Raises:
        NoUsableData: fewer than 30 positives or 30 negatives, with the counts.
    """
    positives, negatives = customers(examples)
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
    if asked.task.seed:
        # The seed is known in full: it is asked about whether or not a member is still active.
        known = Labels(np.ones(len(frame), dtype=bool), asked.task.seed(frame).to_numpy(dtype=bool))
        asked_about = asked_about | known.y
    else:
        known = labels_at(asked, tiles, as_of, people_now(tiles, frame.index))
        asked_about = asked_about & known.asked
    names = usable_features(asked, snapshot, visible)
    rows = np.flatnonzero(asked_about)
    for_baselines = dict.fromkeys((asked.task.rule, *asked.task.rfm, *HISTORY, WORTH, *asked.task.share))
    unseen = [name for name in for_baselines if name in snapshot.feature_names and name not in names]
    facts = {name: frame[name].to_numpy(np.float64)[rows] for name in unseen}
    is_buyer = (frame["orders_count"] > 0).to_numpy() if asked.task.bgnbd or asked.task.share else np.zeros(len(frame), bool)
    return Examples(
        snapshot.matrix(names)[rows],
        names,
        known.y[rows].astype(np.int8),
        frame.index.to_numpy(dtype=object)[rows],
        np.full(len(rows), as_of, dtype=object),
        facts,
        {name: values[rows] for name, values in slices_of(frame).items()},
        {as_of: frame.loc[is_buyer, [*HISTORY, WORTH, *asked.task.share]].to_numpy(np.float64)} if is_buyer.any() else {},
        None if known.amount is None else known.amount[rows],
        asked.edges,
        None if known.treated is None else known.treated[rows],
    )
