"""publish: champions and the latest snapshot become the release in service. Needs the training part (mlflow)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import BundleRefused, NoUsableData, UnknownName
from features.files import exclusive
from features.logs import log, step
from features.snapshot import Snapshot
from features.workspace import Workspace
from serving.release import activate, write_release
from training.bundle import Bundle
from training.task import AskedTask, Task
from training.tasks import all_tasks
from training.tracking import Tracking, Version


def publish(workspace: Workspace, as_of: date | None = None) -> str:
    """Publish every champion with the snapshot as of a date (default: as far as the log is complete).

    Returns the id of the release. Whatever fails, what was served stays served.

    Raises:
        NoUsableData: there is no champion yet. TrackingUnavailable: MLflow is down.
        BundleRefused, ReleaseRefused: a file is torn, or scores differ from those in training.
    """
    shop = workspace.shop()
    tracking, tasks = Tracking(workspace, shop.name), all_tasks(shop)
    with step("publish: champions") as found:
        champions = {version.task: (version, tracking.load(version)) for version in tracking.champions()}
        found["tasks"] = ", ".join(champions)
    if not champions:
        raise NoUsableData("No model is champion yet. Run: encore retrain")
    tiles = workspace.tiles(shop)
    snapshot = workspace.snapshots.get(tiles, as_of or tiles.log.complete_until)
    with step("publish: score everybody, write, check") as found, exclusive(workspace.root / ".publish.lock", "A publication", wait=True):
        fitting = {task: found for task, found in champions.items() if _fits(found[1], snapshot, tasks)}
        models = {task: _model(bundle, snapshot, version, tracking, tasks[task]) for task, (version, bundle) in fitting.items()}
        if not models:
            raise NoUsableData("No champion fits the shop as it is now. Run: encore retrain")
        release_id = write_release(workspace.releases, snapshot, models, {"scored_at": datetime.now(UTC).isoformat(timespec="seconds")})
        activate(workspace.releases, release_id)
        found |= {"release": release_id, "users": snapshot.table.num_rows}
    return release_id


def _fits(bundle: Bundle, snapshot: Snapshot, tasks: Mapping[str, Task]) -> bool:
    """Whether a champion can be served; one that cannot is left out loudly, and does not hold up the others."""
    try:
        if bundle.task not in tasks:
            raise UnknownName("task", bundle.task, tasks)
        bundle.align(snapshot.feature_names)
    except (UnknownName, BundleRefused) as error:
        log.error("champion left out of the release", extra={"facts": {"task": bundle.task, "reason": str(error)}})
        return False
    return True


def _model(bundle: Bundle, snapshot: Snapshot, version: Version, tracking: Tracking, task: Task) -> tuple[Bundle, npt.NDArray[np.bool_], Mapping[str, Any]]:
    asked = AskedTask(task, int(bundle.about["horizon_days"]), int(bundle.about["window_days"]))
    eligible = asked.eligible(snapshot.frame).to_numpy(dtype=bool)
    facts = {
        "version": version.number,
        "run_id": version.run_id,
        "kind": version.tags["encore.kind"],
        "decision": version.tags["encore.reasons"],
        "metrics": _beside_its_baselines(tracking.evidence(version)["metrics"], bundle.about["baseline"]),
    }
    return bundle, eligible, facts


def _beside_its_baselines(metrics: Mapping[str, Any], baseline: str | None) -> Mapping[str, Any]:
    """What was measured, with what is served under `model`: a baseline's own figures when a baseline serves."""
    if baseline is None:
        return metrics
    others = {name: measured for name, measured in metrics.items() if name not in ("model", baseline)}
    return {"model": metrics[baseline], **others, "refused challenger": metrics["model"]}
