"""Requests that came over HTTP: `encore work` carries them out where the workspace lies."""

from __future__ import annotations

from typing import Any

from features.tombstones import NO_PROFILING
from features.workspace import Workspace
from serving.jobs import Job
from serving.ledger import Ledger
from serving.privacy.delete import RECEIPTS, delete
from serving.privacy.export import export
from serving.privacy.people import people_of
from serving.privacy.register import lift, suppress

EXPORTS = "privacy/exports"  # a folder for each request, to be handed over and then deleted


def privacy_job(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """Carry out one request; returns counts and where the receipt or the export lies, never an id."""
    asked, given = job.request, list(job.request.get("user_ids", ()))
    who, reason = str(asked["who"]), str(asked["reason"])
    if asked["request"] == "delete":
        receipt = delete(workspace, ledger, given, reason, who)
        if "request" not in receipt:  # its ids went with the try that was killed
            return {"receipts": [f"{RECEIPTS}/{request}.json" for request in receipt["receipts"]]}
        told = {name: receipt[name] for name in ("given", "unknown", "erased", "left", "models", "audit")}
        return {"receipt": f"{RECEIPTS}/{receipt['request']}.json", **told}
    if asked["request"] == "export":
        folder = workspace.root / EXPORTS / job.id
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.parent.chmod(0o700)
        return {"folder": f"{EXPORTS}/{job.id}", "rows": export(workspace, ledger, given[0], folder)}
    people, kind = people_of(workspace.log(workspace.shop()), given), str(asked["kind"])
    counted = {"given": people.given, "unknown": people.unknown}
    if asked["request"] == "suppress":
        counted["hashes_new"] = suppress(workspace, ledger, people.marks, kind, reason, who=who)
    else:
        counted["hashes_lifted"] = lift(workspace, ledger, people.marks, kind, who)
    if kind == NO_PROFILING:
        workspace.drop_derived()
    return counted
