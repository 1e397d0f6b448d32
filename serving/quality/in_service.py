"""Drift of what is in service: vectors and scores of the release, held against the training of its models."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np

from features.errors import NoRelease
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.pointer import current_id
from serving.quality import store
from serving.quality.announce import DRIFTED, emit
from serving.quality.rules import drifted
from serving.release import Release, load_release
from training.drift import measure_drift
from training.examples import Examples, thinned


def hold_against_training(workspace: Workspace, ledger: Ledger) -> None:
    """Hold the vectors and scores of the release in service against the training of its models, once for each release."""
    try:
        release = load_release(workspace.releases / current_id(workspace.releases))
    except NoRelease:
        return
    known = store.drifts(ledger)
    for task in release.bundles:
        if (release.id, task) in known:
            continue
        drift = measure_drift(release.bundles[task], _served_rows(release, task))
        told = [alert.describe() for alert in drifted(drift)]
        facts = json.loads(json.dumps(drift.describe(), default=float)) if drift else {"rows": 0, "unknown": "too few rows, or a model without a reference"}
        noted = store.NotedDrift(release.id, task, datetime.now(UTC), facts, told)
        with ledger.connection() as connection:
            store.note_drift(connection, noted)
            if told:
                emit(connection, DRIFTED, task, {"release": release.id, "alerts": told}, date.fromisoformat(release.manifest["as_of"]))


def _served_rows(release: Release, task: str) -> Examples:
    """The vectors of the users whom a release scored, a sample of them where they are many, without labels."""
    rows = release.withheld.without(np.flatnonzero(~np.isnan(release.scores[task].score)))
    as_of = np.full(len(rows), date.fromisoformat(release.manifest["as_of"]), dtype=object)
    users = np.array([user.decode() for user in release.users[rows]], dtype=object)
    few = thinned(Examples(np.empty((len(rows), 0)), (), np.zeros(len(rows), np.int8), users, as_of, {"row": rows.astype(np.float64)}))
    return Examples(release.vectors[few.facts["row"].astype(np.int64)], release.features, few.y, few.users, few.as_of)
