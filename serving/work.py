"""work: runs the jobs that the service queued in the ledger."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.errors import EncoreError, UnknownName
from features.files import digest_of
from features.logs import log, step
from features.workspace import Workspace
from serving.audience import Rule, cut
from serving.destinations import DESTINATIONS
from serving.jobs import Job, Jobs
from serving.ledger import Ledger
from serving.lookalikes import forget_lookalike, make_lookalike, note_export, refresh_lookalike
from serving.pointer import current_id
from serving.release import load_release
from serving.scorer import Scorer


def work(workspace: Workspace, ledger: Ledger, *, once: bool, pause: float = 2.0) -> int:
    """Run queued jobs until none is left (`once`) or for ever; returns how many ran."""
    jobs, ran = Jobs(ledger), 0
    while True:
        job = jobs.claim()
        if job is None:
            if once:
                return ran
            time.sleep(pause)
            continue
        run_job(workspace, ledger, job)
        ran += 1


def run_job(workspace: Workspace, ledger: Ledger, job: Job) -> None:
    """Run one job; a failure is written to the job and does not stop the worker. The claim is renewed while it runs."""
    jobs = Jobs(ledger)
    try:
        if job.kind not in KINDS:
            raise UnknownName("kind of job", job.kind, KINDS)
        with step(f"job {job.kind}", job=job.id, tries=job.tries), jobs.held(job):
            state, result = "done", KINDS[job.kind](workspace, ledger, job)
    except Exception as error:  # noqa: BLE001 - whatever a job does, the next one gets its turn
        state, result = "failed", {"reason": _reason(error)}
        log.error("job failed", extra={"facts": {"job": job.id, **result}})
    if not jobs.finish(job, state, result):
        log.warning("job was deleted, or taken over by another worker, while it ran", extra={"facts": {"job": job.id, "state": state}})


def _reason(error: Exception) -> str:
    """What a job's failure says to whoever asked for it. Only our own errors are told in their words: others may quote an id."""
    if isinstance(error, EncoreError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"A fault of Encore itself: {type(error).__name__}{where}."


def export(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """Write an audience's members with their scores to the workspace's exports folder."""
    request = job.request
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
    path = workspace.exports / export_name(audience.rule, str(request["audience"]), release.id, str(request["format"]))
    DESTINATIONS[request["format"]](table, path, ("user_id",))
    if audience.rule.members:
        note_export(workspace, audience.rule.task, str(release.manifest["as_of"]))
    return {"file": path.name, "rows": table.num_rows, "release": release.id}


def export_name(rule: Rule, audience: str, release_id: str, format: str) -> str:
    """Exports of a look-alike's audience begin with the model's name and a dot, by which they are found when the seed is forgotten."""
    return f"{rule.task}.{release_id}.{format}" if rule.members else f"{file_name(audience)}-{release_id}.{format}"


def file_name(name: str) -> str:
    """An audience's name as any file system takes it; names that come out alike are told apart by a digest."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain == name else f"{plain}-{digest_of(name)[:6]}"


KINDS: dict[str, Callable[[Workspace, Ledger, Job], dict[str, Any]]] = {
    "export": export,
    "lookalike": make_lookalike,
    "refresh_lookalike": refresh_lookalike,
    "forget_lookalike": forget_lookalike,
}
