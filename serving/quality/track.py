"""Realised quality in MLflow: in the run of the model that served, with the day of its features as the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.errors import TrackingUnavailable
from features.events import day_number
from features.logs import log
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.quality import store
from serving.quality.runs import all_runs
from training.tracking import Tracking


def track(workspace: Workspace, ledger: Ledger) -> None:
    """Log to MLflow what it does not have yet, into the run of the model that served; what fails now is logged by the next look."""
    noted = store.noted_runs(ledger)
    runs = {run.id: run for run in all_runs(workspace)}
    todo = [one for one in store.judgements(ledger) if one.tracked_at is None and one.run in runs]
    try:
        tracking = Tracking(workspace, workspace.shop().name) if todo else None
        for one in todo:
            if tracking:
                day = day_number(noted[one.run, one.task].as_of)
                tracking.log(runs[one.run].predictions[one.task]["run_id"], {}, _metrics(one.facts), {}, steps=day)
                store.note_tracked(ledger, one)
    except TrackingUnavailable as error:
        log.warning("realised quality not in MLflow yet", extra={"facts": {"reason": str(error)}})


def _metrics(facts: Mapping[str, Any]) -> dict[str, float]:
    """`realised.untreated.auc`, `realised.untreated.auc.low`, `promised.untreated.auc`, ..."""
    flat: dict[str, float] = {}
    for stratum, told in facts.items():
        for word, name in (("realised", "metrics"), ("promised", "promised")):
            for metric, interval in (told.get(name) or {}).items() if isinstance(told, dict) else ():
                ends = {"": interval["value"], ".low": interval["low"], ".high": interval["high"]}
                flat |= {f"{word}.{stratum}.{metric}{end}": float(value) for end, value in ends.items() if value is not None}
    return flat
