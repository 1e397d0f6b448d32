"""work: runs the jobs that the service queued in the ledger."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from features.errors import EncoreError, UnknownName
from features.logs import log, step
from features.workspace import Workspace
from serving.audiences.rules import Rule
from serving.campaigns.jobs import enrol_job, report_job
from serving.destinations.commands import deliver_job
from serving.destinations.files import FORMATS, file_name
from serving.destinations.outbox import send_if_told
from serving.destinations.table import members_table
from serving.destinations.told import audience_rule, members
from serving.jobs import Job, Jobs
from serving.ledger import Ledger
from serving.lookalikes import forget_lookalike, make_lookalike, note_export, refresh_lookalike
from serving.pointer import current_id
from serving.privacy.audit import note
from serving.privacy.jobs import privacy_job
from serving.release import load_release


def work(workspace: Workspace, ledger: Ledger, *, once: bool, pause: float = 2.0) -> int:
    """Run queued jobs until none is left (`once`) or for ever; returns how many ran."""
    jobs, ran = Jobs(ledger), 0
    while True:
        send_if_told(workspace, ledger)
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
    if state == "done" and job.kind in AUDITED:
        note(workspace, AUDITED[job.kind], {"job": job.id, **{name: result[name] for name in ("file", "rows", "release") if name in result}})
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
    """Write an audience's members with their scores to the workspace's exports folder; whom its hold-out keeps apart is not among them."""
    request, rule = job.request, Rule(**job.request["rule"])
    release = load_release(workspace.releases / current_id(workspace.releases))
    rows = members(release, ledger, audience_rule(ledger.audience(str(request["audience"])), request["rule"]))
    table = members_table(release, rule.task, rows)
    path = workspace.exports / export_name(rule, str(request["audience"]), release.id, str(request["format"]))
    FORMATS[request["format"]](table, path, ("user_id",))
    if rule.members and rule.task:
        note_export(workspace, rule.task, str(release.manifest["as_of"]))
    return {"file": path.name, "rows": table.num_rows, "release": release.id}


def export_name(rule: Rule, audience: str, release_id: str, format: str) -> str:
    """Exports of a look-alike's audience begin with the model's name and a dot, by which they are found when the seed is forgotten."""
    return f"{rule.task}.{release_id}.{format}" if rule.members else f"{file_name(audience)}-{release_id}.{format}"


AUDITED = {"export": "audience exported"}  # other jobs write to the audit log what they did
KINDS: dict[str, Callable[[Workspace, Ledger, Job], dict[str, Any]]] = {
    "export": export,
    "deliver": deliver_job,
    "lookalike": make_lookalike,
    "refresh_lookalike": refresh_lookalike,
    "forget_lookalike": forget_lookalike,
    "enrol_campaign": enrol_job,
    "report_campaign": report_job,
    "privacy": privacy_job,
}
