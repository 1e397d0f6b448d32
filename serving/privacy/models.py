"""Which models were trained with somebody's data, from what the runs recorded; the weights themselves name nobody and stay."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.calendar import day_of
from features.errors import EncoreError
from features.events import EventLog
from features.workspace import Workspace

NEXT = "served until the next `encore retrain`, which no longer has them"


def first_seen(log: EventLog, names: frozenset[str]) -> date | None:
    """The first day on which the log knows something of somebody; None where it knows nothing."""
    days = []
    for part in log.parts:
        table = pq.read_table(part, columns=["given_id", "user_id", "known_day", "day"], filters=pc.field("given_id").isin(list(names)))
        if table.num_rows:
            days.append(pc.min(pc.max_element_wise(table["day"], table["known_day"])).as_py())
    return day_of(min(days)) if days else None


def trained_with(workspace: Workspace, since: date | None) -> list[dict[str, Any]]:
    """The registered models whose examples may hold somebody who is known since a date: those with a later cutoff.

    A run records its cutoffs and never a user, so this says who may be among the examples: eligibility at each cutoff is not kept. Where
    MLflow cannot be asked, one line says so.
    """
    if since is None:
        return []
    try:
        from training.registry import CHAMPION
        from training.tracking import Tracking

        tracking, found = Tracking(workspace, workspace.shop().name), []
        for task in tracking.tasks():
            champion = tracking.with_alias(task, CHAMPION)
            for version in tracking.versions(task):
                cutoffs = _cutoffs(tracking.params(version.run_id)) or [version.tags.get("encore.as_of", "")]
                if max(cutoffs) > since.isoformat():
                    served = champion is not None and champion.number == version.number
                    told = {"task": task, "version": version.number, "champion": served, "run": version.run_id}
                    found.append({**told, "first_cutoff": min(cutoffs), "last_cutoff": max(cutoffs), "ages_out": NEXT if served else "not served"})
        return found
    except (EncoreError, ModuleNotFoundError) as error:
        return [{"unknown": f"MLflow could not be asked: {type(error).__name__}. Every model with a cutoff after {since} may have been trained with them."}]


def _cutoffs(params: dict[str, str]) -> list[str]:
    told = ", ".join(params.get(name, "") for name in ("train_cutoffs", "test_cutoffs", "seed_as_of"))
    return [text for text in (part.strip() for part in told.split(",")) if text]
