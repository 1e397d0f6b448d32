"""work: runs the jobs that the service queued in the ledger."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pyarrow as pa

from features.errors import UnknownName
from features.files import digest_of
from features.logs import log, step
from features.workspace import Workspace
from serving.audience import Rule, cut
from serving.destinations import DESTINATIONS
from serving.ledger import Job, Ledger
from serving.lookalikes import forget_lookalike, make_lookalike
from serving.release import current_id, load_release
from serving.scorer import Scorer


def work(workspace: Workspace, ledger: Ledger, *, once: bool, pause: float = 2.0) -> int:
    """Run queued jobs until none is left (`once`) or for ever; returns how many ran."""
    ran = 0
    while True:
        job = ledger.claim()
        if job is None:
            if once:
                return ran
            time.sleep(pause)
            continue
        run_job(workspace, ledger, job)
        ran += 1


def run_job(workspace: Workspace, ledger: Ledger, job: Job) -> None:
    """Run one job; a failure is written to the job and does not stop the worker."""
    try:
        if job.kind not in JOBS:
            raise UnknownName("kind of job", job.kind, JOBS)
        with step(f"job {job.kind}", job=job.id):
            result = JOBS[job.kind](workspace, ledger, job.request)
    except Exception as error:  # noqa: BLE001 - whatever a job does, the next one gets its turn
        log.error("job failed", extra={"facts": {"job": job.id, "reason": str(error)}})
        ledger.finish(job, "failed", {"reason": str(error)})
        return
    ledger.finish(job, "done", result)


def export(workspace: Workspace, ledger: Ledger, request: Mapping[str, Any]) -> dict[str, Any]:
    """Write an audience's members with their scores to the workspace's exports folder."""
    release = load_release(workspace.releases / current_id(workspace.releases))
    audience = cut(release, Rule(**request["rule"]))
    scores = Scorer(release, timedelta(days=1)).score(audience.rule.task, [user.decode() for user in release.users[audience.rows]])
    table = pa.table(
        {
            "user_id": pa.array([score.user_id for score in scores], pa.string()),
            "score": pa.array([score.score for score in scores], pa.float64()),
            "percentile": pa.array([score.percentile for score in scores], pa.float64()),
            "band": pa.array([score.band for score in scores], pa.string()),
        }
    )
    path = workspace.exports / f"{file_name(str(request['audience']))}-{release.id}.{request['format']}"
    DESTINATIONS[request["format"]](table, path, ("user_id",))
    return {"file": path.name, "rows": table.num_rows, "release": release.id}


def file_name(name: str) -> str:
    """An audience's name as any file system takes it; names that come out alike are told apart by a digest."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain == name else f"{plain}-{digest_of(name)[:6]}"


JOBS: dict[str, Callable[[Workspace, Ledger, Mapping[str, Any]], dict[str, Any]]] = {
    "export": export,
    "lookalike": make_lookalike,
    "forget_lookalike": forget_lookalike,
}
