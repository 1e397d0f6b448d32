"""Work on campaigns that the service queues: the log of events is where `encore work` runs, not where the service does."""

from __future__ import annotations

from datetime import date
from typing import Any

from features.workspace import Workspace
from serving.campaigns import store
from serving.campaigns.enrol import enrol
from serving.jobs import Job
from serving.ledger import Ledger
from serving.pointer import current_id
from serving.release import load_release


def enrol_job(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """Enter the campaign's audience as the release in service gives it."""
    of = store.campaign(ledger, str(job.request["campaign"]))
    release = load_release(workspace.releases / current_id(workspace.releases))
    new = enrol(ledger, release, of, date.fromisoformat(str(job.request["on"])))
    return {"campaign": of.plan.name, "new": new, "groups": store.group_sizes(ledger, of), "release": release.id}


def report_job(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """Make the final report, or what the monitor says, and its page."""
    from serving.campaigns.report import make_monitor, make_report

    if job.request["kind"] == store.MONITOR:
        of, found = make_monitor(workspace, ledger, str(job.request["campaign"]))
        return {"campaign": of.plan.name, "alarms": found["alarms"]}
    from serving.campaigns.page import write_page

    of, report = make_report(workspace, ledger, str(job.request["campaign"]), job.request.get("factors"))
    write_page(report, workspace.root / "campaigns" / of.id)
    return {"campaign": of.plan.name, "claim": report["claim"], "verdict": report["verdict"], "folder": f"campaigns/{of.id}"}
