"""A look at the quality of what was served: runs whose time is over are judged, what is in service is held against training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

from features.errors import EncoreError, NoUsableData
from features.events import day_number
from features.files import digest_of, exclusive
from features.logs import log, step
from features.shopfile import Shop
from features.store import read_snapshot
from features.tiles import Tiles
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.quality import store
from serving.quality.announce import BELOW, emit
from serving.quality.in_service import hold_against_training
from serving.quality.measure import measured
from serving.quality.outcome import Outcome, asked_then, outcome_of, treated_in
from serving.quality.rules import Alert, below_expectation, label_drift, treatment_drift
from serving.quality.runs import StoredRun, all_runs, one_for_each_release
from serving.runs import RunChanged
from training.evaluate import Interval
from training.examples import MOST_ROWS
from training.intervals import share
from training.labels import people_now


@dataclass(frozen=True)
class Look:
    """What one look found.

    pending: what is not over yet. judged: judgements that this look made. problems: runs that could not be judged, in words.
    """

    pending: Sequence[store.NotedRun]
    judged: Sequence[store.Judgement]
    problems: Sequence[str]


@dataclass
class _Looking:
    """What is found out once for all runs of a look."""

    workspace: Workspace
    ledger: Ledger
    shop: Shop
    tiles: Tiles
    first: date
    reached: dict[tuple[date, date], frozenset[str]] = field(default_factory=dict)
    shares: dict[tuple[str, str, int], Interval] = field(default_factory=dict)

    @cached_property
    def happened(self) -> dict[int, str]:
        return self.tiles.log.happened(self.first)

    def treated(self, start: date, end: date) -> frozenset[str]:
        if (start, end) not in self.reached:
            self.reached[start, end] = treated_in(self.ledger, self.tiles, start, end)
        return self.reached[start, end]

    def window(self, run: StoredRun, task: str) -> str:
        """Digest of all that a judgement depends on: what the log says of the time, who is who, who is gone, whom our campaigns treated."""
        from serving.campaigns.store import treated

        start, end, manifest = run.as_of, run.closes(task), self.tiles.log.manifest
        days = {day: content for day, content in self.happened.items() if day_number(start) <= day < day_number(end)}
        known = [manifest[name] for name in ("links", "tombstones", "products")]
        return digest_of([sorted(days.items()), known, run.manifest["digest"], sorted(treated(self.ledger, start, end))])


def look(workspace: Workspace, ledger: Ledger) -> Look:
    """Judge every run whose time is over and whose days are not what they were when it was last judged; measure drift of the release in service.

    Raises:
        Locked: another look is being taken. NoUsableData: the log is empty.
    """
    with exclusive(workspace.root / ".quality.lock", "Another look at quality"):
        shop = workspace.shop()
        known = store.noted_runs(ledger)
        chosen = one_for_each_release(all_runs(workspace), frozenset(known))
        _note(ledger, [(run, task) for run, task in chosen if (run.id, task) not in known])
        until = workspace.log(shop).complete_until
        over = [(run, task) for run, task in chosen if run.closes(task) <= until]
        judged, problems = [], []
        if over:
            looking = _Looking(workspace, ledger, shop, workspace.tiles(shop), min(run.as_of for run, _ in over))
            last = store.latest_judgements(ledger)
            for run, task in over:
                try:
                    _require_unchanged(run, known.get((run.id, task)))
                    judged += _judge(looking, run, task, last.get((run.id, task)))
                except EncoreError as error:  # one damaged run does not hold up the others
                    problems.append(f"{task} of run {run.id}: {error}")
                    log.error("run not judged", extra={"facts": {"run": run.id, "task": task, "reason": str(error)}})
        hold_against_training(workspace, ledger)
        noted = store.noted_runs(ledger)
        return Look([noted[run.id, task] for run, task in chosen if run.closes(task) > until], judged, problems)


def _note(ledger: Ledger, new: Sequence[tuple[StoredRun, str]]) -> None:
    now, found = datetime.now(UTC), []
    for run, task in new:
        version, kind = str(run.manifest["versions"][task]), str(run.predictions[task]["kind"])
        found.append(store.NotedRun(run.id, task, run.release, version, kind, run.as_of, run.closes(task), run.manifest["digest"], now))
    store.note_runs(ledger, found)


def _require_unchanged(run: StoredRun, noted: store.NotedRun | None) -> None:
    if noted and noted.digest != run.manifest["digest"] and not run.manifest.get("erased"):
        raise RunChanged(f"Score run {run.id} is not the one that was noted on {noted.noted_at:%Y-%m-%d}. Restore its folder from a backup.")


def _judge(looking: _Looking, run: StoredRun, task: str, before: store.Judgement | None) -> list[store.Judgement]:
    """The judgement of a run, unless it would be the one before."""
    window = looking.window(run, task)
    if before and before.window == window:
        return []
    with step(f"{task} as of {run.as_of}: judge", run=run.id) as found:
        treated = looking.treated(run.as_of, run.closes(task))
        try:
            outcome = outcome_of(looking.workspace, run, task, looking.tiles, treated)
        except NoUsableData as error:
            alerts: list[Alert] = []
            content, facts = digest_of(str(error)), {"all": {"rows": 0, "customers": 0, "positives": 0, "unknown": str(error)}}
        else:
            content = outcome.digest
            if before and before.content == content:
                return []
            facts, alerts = _found(looking, run, task, outcome)
        found |= {"rows": facts["all"]["rows"], "alerts": len(alerts)}
    told = [alert.describe() for alert in alerts]
    plain = json.loads(json.dumps(facts, default=float))
    with looking.ledger.connection() as connection:
        made = store.append(connection, before, store.Judgement("", run.id, task, 0, window, content, datetime.now(UTC), plain, told))
        if told:
            emit(connection, BELOW, task, {"run": run.id, "release": run.release, "as_of": run.as_of.isoformat(), "alerts": told}, run.closes(task))
    return [made]


def _found(looking: _Looking, run: StoredRun, task: str, outcome: Outcome) -> tuple[dict[str, Any], list[Alert]]:
    then, kind = run.predictions[task], str(run.predictions[task]["kind"])
    facts = measured(outcome)
    rate, rate_alerts = label_drift(kind, facts, then)
    before = _treated_then(looking, run, task) if "treated" in facts else None
    treated, treated_alerts = treatment_drift(facts, before)
    drift = {"rate": {"now": rate, "then": then.get("base_rate")}, "treated": {"now": treated, "then": before}}
    alerts = [*below_expectation(kind, facts, then["metrics"]), *rate_alerts, *treated_alerts]
    return {**facts, "drift": drift, "evidence": then["metrics"]}, alerts


def _treated_then(looking: _Looking, run: StoredRun, task: str) -> Interval | None:
    """Of those whom the task would have asked at the model's last training cutoff: the share whom campaigns reached within the horizon."""
    told, tiles = run.predictions[task], looking.tiles
    asked = asked_then(looking.workspace, run, task)
    if "last_cutoff" not in told or asked.task.trigger:  # whom something reached is then what is asked about
        return None
    cutoff = date.fromisoformat(told["last_cutoff"])
    end = cutoff + (run.closes(task) - run.as_of)
    if end > tiles.log.complete_until:
        return None
    key = (task, told["last_cutoff"], asked.window)
    if key not in looking.shares:
        some = 0.5 ** max(0, math.ceil(math.log2(max(1, tiles.users) / MOST_ROWS)))
        frame = read_snapshot(looking.workspace.snapshots.build(tiles, [cutoff], share=some)[0]).frame
        people = people_now(tiles, frame.index[asked.eligible(frame).to_numpy(dtype=bool)])
        looking.shares[key] = share(int(people.isin(looking.treated(cutoff, end)).sum()), len(people))
    return looking.shares[key]
