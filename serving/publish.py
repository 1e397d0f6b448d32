"""publish: champions and the latest snapshot become the release in service. Needs the training part (mlflow)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from features.bought import with_bought
from features.conditions import Condition, features_in
from features.errors import BundleRefused, NoUsableData, UnknownName
from features.files import exclusive
from features.logs import log, step
from features.snapshot import Snapshot
from features.tiles import Tiles
from features.workspace import Workspace
from serving.audiences.refresh import refresh_published
from serving.facts import facts_of, histories_behind
from serving.members import Kinds, refreshed_members, tell_ledger
from serving.pages import pages_of
from serving.pointer import activate
from serving.privacy.audit import note
from serving.release import write_release
from serving.tombstones import write_tombstones
from training.bundle import Bundle
from training.lookalike.retire import end_seeds
from training.lookalike.seed import candidates_of, named_now, spoken_of
from training.lookalike.seed_request import open_seed
from training.task import AskedTask, Task
from training.tasks import all_tasks
from training.tracking import Tracking, Version

Mask = npt.NDArray[np.bool_]


def publish(workspace: Workspace, as_of: date | None = None) -> str:
    """Publish every champion with the snapshot as of a date (default: as far as the log is complete).

    Returns the id of the release. Whatever fails, what was served stays served.

    Raises:
        NoUsableData: there is no champion yet. TrackingUnavailable: MLflow is down.
        BundleRefused, ReleaseRefused: a file is torn, or scores differ from those in training.
    """
    shop = workspace.shop()
    tracking, tasks = Tracking(workspace, shop.name), all_tasks(shop)
    gone = end_seeds(workspace, tracking, datetime.now(UTC).date())  # published nightly: no seed outlives its time for want of another command
    with step("publish: champions") as found:
        champions = {version.task: (version, tracking.load(version)) for version in tracking.champions()}
        found["tasks"] = ", ".join(champions)
    if not champions:
        raise NoUsableData("No model is champion yet. Run: encore retrain")
    tiles = workspace.tiles(shop)
    snapshot = workspace.snapshots.get(tiles, as_of or tiles.log.complete_until)
    snapshot = with_bought(snapshot, tiles, [name for _, bundle in champions.values() for name in bundle.features])
    with step("publish: score everybody, write, check") as found, exclusive(workspace.root / ".publish.lock", "A publication", wait=True):
        models: dict[str, tuple[Bundle, Mask, Mapping[str, Any]]] = {}
        members: dict[str, Kinds] = {}
        for task, (version, bundle) in champions.items():
            try:
                bundle.align(snapshot.feature_names)
                if "seed" in bundle.about:
                    eligible, condition = seed_candidates(workspace, tiles, bundle, snapshot), None
                else:
                    eligible, condition = asked_about(bundle, tasks, snapshot)
                audience = refreshed_members(workspace, bundle, snapshot, eligible) if "seed" in bundle.about else None
            except (UnknownName, BundleRefused, NoUsableData) as error:  # left out loudly; it does not hold up the others
                log.error("champion left out of the release", extra={"facts": {"task": task, "reason": str(error)}})
                continue
            told = {**_facts(bundle, version, tracking), "asks": condition, **({"audience": audience[1]} if audience else {})}
            models[task] = (bundle, eligible, told)
            members |= {task: audience[0]} if audience else {}
        if not models:
            raise NoUsableData("No champion fits the shop as it is now. Run: encore retrain")
        buried = tiles.log.manifest["tombstones"]
        write_tombstones(workspace.releases, buried)
        about = {"scored_at": datetime.now(UTC).isoformat(timespec="seconds")}
        pages = pages_of(workspace, tracking, tiles, snapshot, {task: champions[task] for task in models})
        facts = facts_of(tiles, snapshot)
        histories = histories_behind(tiles, snapshot, facts, models)
        release_id = write_release(workspace.releases, snapshot, models, about, members, facts, buried, pages, histories)
        activate(workspace.releases, release_id)
        found |= {"release": release_id, "users": snapshot.table.num_rows}
    tell_ledger(workspace, members, [f"lookalike-{name}" for name in gone])
    note(workspace, "release published", {"release": release_id, "tasks": sorted(models), "users": snapshot.table.num_rows})
    refresh_published(workspace, release_id)
    return release_id


def asked_about(bundle: Bundle, tasks: Mapping[str, Task], snapshot: Snapshot) -> tuple[Mask, Condition | None]:
    """Whom a prediction is about, among the users of a snapshot, and as a condition on features, where it is one.

    Raises:
        UnknownName: the shop has no such prediction any more.
    """
    if bundle.task not in tasks:
        raise UnknownName("task", bundle.task, tasks)
    asked = AskedTask(tasks[bundle.task], int(bundle.about["horizon_days"]), int(bundle.about["window_days"]))
    condition = asked.condition(snapshot.frame)
    if condition is not None and not {*features_in(condition)} <= {*snapshot.feature_names}:  # it speaks of labels, which no vector has
        condition = None
    return asked.eligible(snapshot.frame).to_numpy(dtype=bool), condition


def seed_candidates(workspace: Workspace, tiles: Tiles, bundle: Bundle, snapshot: Snapshot) -> Mask:
    """Who may be a look-alike of a seed, among the users of a snapshot.

    Raises:
        UnknownName: the seed was forgotten. NoUsableData: it expired.
    """
    seed = open_seed(workspace, tiles, bundle.about["seed"]["name"], datetime.now(UTC).date())
    return candidates_of(named_now(seed, tiles), with_bought(snapshot, tiles, spoken_of(seed)))


def _facts(bundle: Bundle, version: Version, tracking: Tracking) -> Mapping[str, Any]:
    evidence, served = tracking.evidence(version), bundle.about["baseline"] or "model"
    off = {cutoff: told[served]["mean_bias"]["value"] for cutoff, told in evidence.get("by_cutoff", {}).items() if "mean_bias" in told.get(served, {})}
    return {
        "version": version.number,
        "run_id": version.run_id,
        "kind": version.tags["encore.kind"],
        "decision": version.tags["encore.reasons"],
        "metrics": _beside_its_baselines(evidence["metrics"], bundle.about["baseline"]),
        "bias_by_cutoff": off,  # how far the mean probability was off in each period that the model had not seen
    }


def _beside_its_baselines(metrics: Mapping[str, Any], baseline: str | None) -> Mapping[str, Any]:
    """What was measured, with what is served under `model`: a baseline's own figures when a baseline serves."""
    if baseline is None:
        return metrics
    others = {name: measured for name, measured in metrics.items() if name not in ("model", baseline)}
    return {"model": metrics[baseline], **others, "refused challenger": metrics["model"]}
