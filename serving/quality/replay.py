"""Replay: which release answered for a user at a moment, what it said, and the same computed again, to the bit.

From the release where it still lies there; else from the event log as it was known before the date of the features, and the model's
bundle in MLflow. What differs is named, with both numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from features.bought import with_bought
from features.errors import InvalidUse, NoRelease, NoUsableData, UnknownName
from features.tombstones import OUT
from features.vocabulary import STAGES
from features.workspace import Workspace
from serving.everybody import Scores, percentiles_among, score_everybody
from serving.pointer import directory_of, history
from serving.quality.outcome import asked_then
from serving.quality.runs import StoredRun, all_runs
from serving.reasons import Reason, reasons_of
from serving.release import Release, load_release
from serving.scorer import MOST_REASONS, band, shown
from serving.tombstones import joined, read_tombstones, tombstone
from training.bundle import Bundle
from training.tracking import Tracking

PERCENTILES = ("percentile", "stage_percentile")


@dataclass(frozen=True)
class Replay:
    """A past score and the same computed again.

    since: when its release came into service. stored: what was served, by name, from the score run where there is one (`run`), else
    from the release. again: the same names, computed now. source: from what. differs: name -> (stored, again) where the bits differ.
    reasons: of the score, computed now. notes: what may explain a difference.
    """

    user_id: str
    task: str
    release: str
    since: str
    as_of: str
    run: str | None
    stored: Mapping[str, Any] | None
    again: Mapping[str, Any] | None
    source: str
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> dict[str, tuple[Any, Any]]:
        if self.stored is None or self.again is None:
            return {} if self.stored == self.again else {"answer": (self.stored, self.again)}
        return {name: (told, self.again.get(name)) for name, told in self.stored.items() if not same_bits(told, self.again.get(name))}


def replay(workspace: Workspace, user_id: str, task: str, at: datetime) -> Replay:
    """What was answered for a user at a moment, and the same computed again.

    Raises:
        InvalidUse: the user is suppressed or deleted. NoRelease: nothing was in service then.
        UnknownName: the release had no such prediction. NoUsableData: neither the release nor a score run of it is left.
    """
    _refuse_withheld(workspace, user_id)
    since, release_id = in_service(workspace, at)
    run = next((run for run in all_runs(workspace) if run.release == release_id and task in run.predictions), None)
    release = _release(workspace, release_id)
    if release and task not in release.bundles:
        raise UnknownName("prediction", task, release.bundles)
    stored = _stored(run, task, user_id) if run else None
    told: dict[str, Any] = {"user_id": user_id, "task": task, "release": release_id, "since": since, "run": run.id if run else None}
    if release:
        again, reasons, before = _from_release(release, task, user_id)
        return Replay(**told, as_of=str(release.manifest["as_of"]), stored=stored if run else before, again=again, source="the release", reasons=reasons)
    if run is None:
        known = sorted({other.release for other in all_runs(workspace)})
        raise NoUsableData(
            f"{release_id} was in service then. Neither it nor a score run of it with '{task}' is left, so what it said is not known; "
            f"there are runs of: {', '.join(known) or 'none'}. Restore releases/{release_id} from a backup, and score after each publish: encore score"
        )
    again, reasons, notes = _from_log(workspace, run, task, user_id)
    source = "the event log as it was known then, and the bundle in MLflow"
    return Replay(**told, as_of=run.as_of.isoformat(), stored=stored, again=again, source=source, reasons=reasons, notes=notes)


def in_service(workspace: Workspace, at: datetime) -> tuple[str, str]:
    """Since when, and which release was in service at a moment.

    Raises:
        NoRelease: none was.
    """
    moves = [moved for moved in history(workspace.releases) if datetime.fromisoformat(moved["at"]) <= at.astimezone(UTC)]
    if not moves:
        first = next((moved["at"] for moved in history(workspace.releases)), None)
        raise NoRelease(f"Nothing was in service at {at.isoformat()}; " + (f"the first release came at {first}." if first else "nothing ever was."))
    return str(moves[-1]["at"]), str(moves[-1]["to"])


def same_bits(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last bit; NaN is NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other) or (one != one and other != other)
    return bool(one == other)


def _refuse_withheld(workspace: Workspace, user_id: str) -> None:
    lists = joined(workspace.log(workspace.shop()).manifest["tombstones"], read_tombstones(workspace.releases))
    if lists.get(tombstone(user_id.encode())) in OUT:
        raise InvalidUse("This user is suppressed or was deleted: no score of them is shown or computed again.")


def _release(workspace: Workspace, release_id: str) -> Release | None:
    """The release as it was, if its folder is whole."""
    with suppress(UnknownName):
        return load_release(directory_of(workspace.releases, release_id), anew=True)  # also of one that users were erased from since
    return None


def _stored(run: StoredRun, task: str, user_id: str) -> dict[str, Any] | None:
    """What a run says of a user: the numbers alone, as they were served."""
    row = run.row_of(task, user_id)
    if row is None:
        return None
    plain = {name: row[name] for name in ("probability", "value", "effect", "score", *PERCENTILES, "stage", "band")}
    return plain | {f"details.{name}": _number(value) for name, value in dict(row["details"] or ()).items()}


def _from_release(release: Release, task: str, user_id: str) -> tuple[dict[str, Any] | None, tuple[Reason, ...], dict[str, Any] | None]:
    """Computed again from the release's vectors; and as it lies in the release."""
    row = int(np.searchsorted(release.users, user_id.encode()))
    known, bundle = release.scores[task], release.bundles[task]
    if row >= len(release.users) or release.users[row] != user_id.encode() or np.isnan(known.score[row]):
        return None, (), None
    vector = release.vectors[[row]][:, bundle.align(release.features)]
    stages = release.stages
    score = bundle.scores(vector)
    everybody = known.score[~np.isnan(known.score)]
    alike = known.score[(stages == stages[row]) & ~np.isnan(known.score)]
    ranks = {"percentile": _percentile(everybody, score[0]), "stage_percentile": _percentile(alike, score[0])}
    details = {name: float(values[0]) for name, values in bundle.details(vector).items()}
    stored_ranks = {name: float(getattr(known, name)[row]) for name in PERCENTILES}
    stage = STAGES[stages[row]]
    currency = release.currency
    before = _answer(bundle, float(known.score[row]), stored_ranks, stage, {name: float(values[row]) for name, values in known.details.items()}, currency)
    return _answer(bundle, float(score[0]), ranks, stage, details, currency), reasons_of(bundle, vector, MOST_REASONS, currency)[0], before


def _from_log(workspace: Workspace, run: StoredRun, task: str, user_id: str) -> tuple[dict[str, Any] | None, tuple[Reason, ...], tuple[str, ...]]:
    """Computed again from what had happened and was known before the date of the features."""
    shop = workspace.shop()
    tracking = Tracking(workspace, shop.name)
    wanted, told = str(run.manifest["versions"][task]), run.predictions[task]
    version = next((version for version in tracking.versions(task) if version.number == wanted), None)
    if version is None:
        raise UnknownName(f"version of '{task}' in MLflow", wanted, [version.number for version in tracking.versions(task)])
    bundle = tracking.load(version)
    tiles = workspace.tiles(shop)
    snapshot = with_bought(workspace.snapshots.get(tiles, run.as_of), tiles, bundle.features)
    notes = []
    if bundle.digest != told["bundle"]:
        notes.append(f"the bundle of version {wanted} is not the one that served (digest {bundle.digest[:12]}, then {told['bundle'][:12]})")
    if snapshot.manifest["recipe"] != run.manifest["snapshot"]["recipe"]:
        notes.append(
            "the snapshot is not made as it was then: another catalogue or shop file, other products, users erased since, "
            f"or days before {run.as_of} that were restated (recipe {snapshot.manifest['recipe'][:12]}, then {run.manifest['snapshot']['recipe'][:12]})"
        )
    names = snapshot.user_ids
    if user_id not in names:
        return None, (), tuple(notes)
    scores = score_everybody(bundle, snapshot, asked_then(workspace, run, task).eligible(snapshot.frame).to_numpy(dtype=bool))
    row = int(names.get_indexer(pd.Index([user_id]))[0])
    if np.isnan(scores.score[row]):
        return None, (), tuple(notes)
    vector = snapshot.matrix(bundle.features)[[row]]
    again = _of_scores(bundle, scores, row, str(snapshot.table["stage"][row]), shop.currency)
    return again, reasons_of(bundle, vector, MOST_REASONS, shop.currency)[0], tuple(notes)


def _of_scores(bundle: Bundle, scores: Scores, row: int, stage: str, currency: str) -> dict[str, Any]:
    ranks = {name: float(getattr(scores, name)[row]) for name in PERCENTILES}
    return _answer(bundle, float(scores.score[row]), ranks, stage, {name: float(values[row]) for name, values in scores.details.items()}, currency)


def _answer(bundle: Bundle, raw: float, ranks: Mapping[str, float], stage: str, details: Mapping[str, float], currency: str) -> dict[str, Any]:
    """By the names of a run's row."""
    told = {**shown(bundle.kind, raw, ranks["percentile"], currency), **ranks, "stage": stage, "band": band(ranks["percentile"])}
    return told | {f"details.{name}": value for name, value in details.items()}


def _percentile(known: Any, score: float) -> float:
    return float(percentiles_among(np.sort(known), len(known), np.array([score]))[0])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
