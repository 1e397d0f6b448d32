"""The score runs of a workspace, as they lie on disk: what each served, of whom, and when its questions are answered.

Nothing here is ever deleted by Encore: no retention, no sweep. Users are erased from runs for privacy alone (`serving.runs.without_users`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import EncoreError
from features.files import read_json, sha256_of
from features.logs import log
from features.money import minor_units
from features.workspace import Workspace
from serving.release import load_release
from serving.runs import MANIFEST, RunChanged, known_then

SCORES = "scores"
SERVED = {"probability": "probability", "date": "probability", "value": "value", "effect": "effect", "rank": "percentile"}


@dataclass(frozen=True)
class Served:
    """What one run says of its users for one prediction, in the order of the file.

    score: a probability, minor units of the currency, an effect, or for a rank the percentile. details: what else was served, by name; NaN where there is none.
    """

    users: npt.NDArray[np.object_]
    score: npt.NDArray[np.float64]
    details: Mapping[str, npt.NDArray[np.float64]]

    def take(self, rows: npt.NDArray[np.bool_]) -> Served:
        return Served(self.users[rows], self.score[rows], {name: values[rows] for name, values in self.details.items()})


@dataclass(frozen=True)
class StoredRun:
    """A finished score run.

    predictions: task -> what it asked (kind, horizon_days, ...) and what was known of its quality then (metrics).
    """

    folder: Path
    manifest: Mapping[str, Any]
    predictions: Mapping[str, Mapping[str, Any]]

    @property
    def id(self) -> str:
        return str(self.manifest["id"])

    @property
    def release(self) -> str:
        return str(self.manifest["release"])

    @property
    def as_of(self) -> date:
        return date.fromisoformat(self.manifest["snapshot"]["as_of"])

    @property
    def _minor_units(self) -> int:
        """How many its values are to be multiplied by; runs from before they named their currency had hundredths of any."""
        return minor_units(self.manifest["currency"]) if "currency" in self.manifest else 100

    def closes(self, task: str) -> date:
        """The first day on which everything that the prediction was about is over."""
        return self.as_of + timedelta(days=int(self.predictions[task]["horizon_days"]))

    def served(self, task: str) -> Served:
        """The rows of a prediction, from parts that are what the run says they are.

        Raises:
            RunChanged: a part is missing or was changed after the run was done.
        """
        self.check()
        tables = [pq.read_table(self.folder / part["file"], filters=pc.field("model") == task) for part in self.manifest["parts"]]
        table = pa.concat_tables(tables)
        kind = str(self.predictions[task]["kind"])
        score = table[SERVED[kind]].to_numpy().astype(np.float64)
        return Served(table["user_id"].to_numpy(), score * self._minor_units if kind == "value" else score, _details(table["details"].combine_chunks()))

    def row_of(self, task: str, user_id: str) -> Mapping[str, Any] | None:
        """Everything that is written of one user, if they are in the run."""
        self.check()
        for part in self.manifest["parts"]:
            found = pq.read_table(self.folder / part["file"], filters=(pc.field("model") == task) & (pc.field("user_id") == user_id))
            if found.num_rows:
                return dict(found.to_pylist()[0])
        return None

    def check(self) -> None:
        """Hold the parts against their hashes."""
        for part in self.manifest["parts"]:
            path = self.folder / part["file"]
            if not path.exists() or sha256_of(path) != part["sha256"]:
                raise RunChanged(f"Score run {self.id}: {path.name} is missing or was changed after it was served. Restore the folder from a backup.")


def all_runs(workspace: Workspace) -> list[StoredRun]:
    """Every finished score run, by the date of its features, then by id; those that nobody can read are left out loudly."""
    found = []
    for path in sorted((workspace.root / SCORES).glob(f"[0-9]*/{MANIFEST}")):
        try:
            manifest = read_json(path)
            found.append(_with_predictions(StoredRun(path.parent, manifest, manifest.get("predictions", {})), workspace.releases))
        except (OSError, ValueError, KeyError, TypeError, EncoreError) as error:
            log.warning("score run left out", extra={"facts": {"run": path.parent.name, "reason": f"{type(error).__name__}: {error}"}})
    return sorted(found, key=lambda run: (run.as_of, run.id))


def one_for_each_release(runs: Sequence[StoredRun], known: frozenset[tuple[str, str]]) -> list[tuple[StoredRun, str]]:
    """Run and task, each task of a release once: runs of the same release that differ in who was withheld served the same numbers.

    Args:
        known: run and task of those that were chosen before, and stay so.
    """
    chosen: dict[tuple[str, str], StoredRun] = {}
    for run in sorted(runs, key=lambda run: run.id):
        for task in run.predictions:
            if (run.release, task) not in chosen or (run.id, task) in known:
                chosen[run.release, task] = run
    return sorted(((run, task) for (_, task), run in chosen.items()), key=lambda item: (item[0].as_of, item[0].id, item[1]))


def _with_predictions(run: StoredRun, releases: Path) -> StoredRun:
    """Runs from before they said it themselves: their release says it, as long as it is there."""
    if run.predictions:
        return run
    release = load_release(releases / run.release)
    return replace(run, predictions={task: known_then(release, task) for task in run.manifest["versions"]})


def _details(column: pa.MapArray) -> dict[str, npt.NDArray[np.float64]]:
    """What the maps of some rows hold, as one column for each key; rows of one prediction have the same keys or none."""
    names = pc.unique(column.keys).to_pylist() if len(column) else []
    return {str(name): np.array(pc.map_lookup(column, name, "first").to_numpy(zero_copy_only=False), dtype=np.float64) for name in names}
