"""What the console shows beside scores, collected when a release is published: files of its folder `pages`, hashed like the rest.

The service knows neither MLflow nor the log, so whatever a page tells of evidence, of the shop or of a seed is here. No user is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from features.errors import EncoreError
from features.logs import log, step
from features.snapshot import Snapshot
from features.tiles import Tiles
from features.workspace import Workspace
from training.bundle import Bundle
from training.kinds import KINDS
from training.prepare import first_day
from training.shop_moves import moves_and_firsts, tiers
from training.shop_report import left_out_rows, shop_report
from training.tasks import all_tasks
from training.tracking import CHAMPION, PREVIOUS, Tracking, Version

ABOUT = (
    "task", "question", "eligible", "horizon_days", "window_days", "kind", "calibrated", "baseline", "baselines",
    "rows", "positives", "base_rate", "first_cutoff", "last_cutoff", "extrapolation", "nowcast", "declared",
)  # fmt: skip
MOST_VERSIONS = 30  # of a history, latest first


def pages_of(workspace: Workspace, tracking: Tracking, tiles: Tiles, snapshot: Snapshot, champions: Mapping[str, tuple[Version, Bundle]]) -> dict[str, bytes]:
    """Name of a file -> its content. A page that cannot be made is left out and logged; it holds up no release.

    Args:
        champions: prediction -> what is published of it.
    """
    with step("publish: pages") as found:
        makers: dict[str, Callable[[], Any]] = {"shop.json": lambda: _shop(workspace, tiles, snapshot), "features.json": lambda: _features(snapshot)}
        makers |= {f"evidence.{task}.json": _later(tracking, tiles, version, bundle) for task, (version, bundle) in champions.items()}
        pages = {}
        for name, make in makers.items():
            try:
                pages[name] = json.dumps(make(), ensure_ascii=False, allow_nan=False).encode()
            except (EncoreError, ValueError) as error:
                log.warning("a page of the console is left out", extra={"facts": {"page": name, "reason": str(error)}})
        found["pages"] = len(pages)
    return pages


def _later(tracking: Tracking, tiles: Tiles, version: Version, bundle: Bundle) -> Callable[[], dict[str, Any]]:
    return lambda: _evidence(tracking, tiles, version, bundle)


def _evidence(tracking: Tracking, tiles: Tiles, version: Version, bundle: Bundle) -> dict[str, Any]:
    """Everything that is known of a model's quality, beside what it is and who judged it."""
    about = bundle.about
    told = {
        "about": {name: about[name] for name in ABOUT if name in about},
        "grade": version.tags.get("encore.grade", ""),
        "decision": version.tags.get("encore.reasons", ""),
        "drift_text": version.tags.get("encore.drift"),
        "versions": _history(tracking, version.task),
        "place": {"uri": tracking.shown_uri, "experiment": tracking.experiment, "run_id": version.run_id},
        "limits": _limits(bundle, tiles),
        **tracking.told(version, ("evidence", "curves", "drift", "contrast")),
    }
    if "seed" in about:
        return {**told, "seed": about["seed"], "parts": about.get("parts", []), "left_out": about.get("left_out", {})}
    kind = KINDS[bundle.kind]
    return {**told, "shown": kind.shown, "main": kind.main, "more_is_better": kind.more_is_better}


def _history(tracking: Tracking, task: str) -> list[dict[str, Any]]:
    """The versions of a model, latest first, each with what the gate said of it."""
    marked = {alias: tracking.with_alias(task, alias) for alias in (CHAMPION, PREVIOUS)}
    names = {version.number: alias for alias, version in marked.items() if version}
    return [
        {
            "number": version.number,
            "run_id": version.run_id,
            "alias": names.get(version.number),
            **{name: version.tags.get(f"encore.{name}") for name in ("as_of", "kind", "decision", "reasons", "grade", "drift")},
        }
        for version in reversed(tracking.versions(task)[-MOST_VERSIONS:])
    ]


def _limits(bundle: Bundle, tiles: Tiles) -> list[str]:
    """When not to use it, as names of sentences: the console has them in its languages."""
    task = all_tasks(tiles.shop).get(bundle.task)
    found = ["others", "prices"]
    found += ["extrapolation"] if bundle.about.get("extrapolation") else []
    found += ["rank"] if bundle.kind == "rank" else []
    found += ["campaigns"] if task and task.trigger else []
    return [*found, "cause"]


def _shop(workspace: Workspace, tiles: Tiles, snapshot: Snapshot) -> dict[str, Any]:
    report = shop_report(tiles, snapshot, left_out_rows(workspace.quarantine))
    changed = moves_and_firsts(tiles, workspace.snapshots, snapshot, first_day(tiles))
    return {**report, "changed": changed, "tiers": tiers(snapshot.frame)}


def _features(snapshot: Snapshot) -> dict[str, Any]:
    """The dictionary of the features and labels that a user's page shows."""
    return {
        name: {entry["name"]: {key: entry[key] for key in ("family", "meaning", "unit", "actionable")} for entry in snapshot.manifest[name]}
        for name in ("features", "labels")
    }
