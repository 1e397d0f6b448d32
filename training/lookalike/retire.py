"""The end of a seed: its ids, audiences and exports go at once, its model leaves the service and stays in the registry."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from features.errors import TrackingUnavailable
from features.files import read_json
from features.logs import log
from features.workspace import Workspace
from training.lookalike.seed_request import seeds_folder
from training.lookalike.seed_store import RETIRED, changing, delete_seed, drop_expired, manifests
from training.tracking import CHALLENGER, CHAMPION, Tracking


def forget_seed(workspace: Workspace, name: str) -> None:
    """Delete a seed and take its model out of service; where MLflow is down, the next publication does the latter.

    Raises:
        UnknownName: no such seed.
    """
    delete_seed(seeds_folder(workspace), name)
    if pending(workspace):
        try:
            retire(workspace, Tracking(workspace, workspace.shop().name))
        except TrackingUnavailable as error:
            log.warning("its model leaves the service at the next publication", extra={"facts": {"seed": name, "reason": str(error)}})


def end_seeds(workspace: Workspace, tracking: Tracking, today: date) -> list[str]:
    """Delete the seeds whose time is over and take the models of all that are gone out of service; returns the names of these."""
    drop_expired(seeds_folder(workspace), today)
    return retire(workspace, tracking)


def retire(workspace: Workspace, tracking: Tracking) -> list[str]:
    """Take the aliases from the models of seeds that were deleted; the versions stay, tagged `encore.retired`. Returns the names of the seeds."""
    names = []
    for marker in pending(workspace):
        gone, root = read_json(marker), seeds_folder(workspace)
        task = f"lookalike-{gone['name']}"
        version = tracking.with_alias(task, CHAMPION) or tracking.with_alias(task, CHALLENGER)
        with changing(root):
            kept = manifests(root).get(gone["name"])
            known = {kept["digest"], *kept["formerly"]} if kept else set()
            if version and version.tags.get("encore.seed") in {*gone["digests"]} - known:  # not that of a seed made anew under its name
                tracking.retire(version, datetime.now(UTC).date().isoformat())
                names.append(gone["name"])
            marker.unlink(missing_ok=True)
    if names:
        log.info("models of deleted seeds left the service", extra={"facts": {"seeds": ", ".join(names)}})
    return names


def pending(workspace: Workspace) -> list[Path]:
    """A file for each deleted seed whose model was not retired yet."""
    return sorted((seeds_folder(workspace) / RETIRED).glob("*.json"))
