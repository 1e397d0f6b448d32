"""Where each prediction stands: its last judged run, those before it, what is not over yet, and the alerts that hold now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from serving.ledger import Ledger
from serving.quality import store

LEAST = 30  # of either outcome in a stratum that is judged: as `training.examples.LEAST_POSITIVES`, which loads what computes


@dataclass(frozen=True)
class Standing:
    """One prediction.

    judged: run and last judgement of it, by the date of its features; those without a single row that has an answer are not among them.
    unanswered: such runs, with the reason. pending: runs whose time is not over. drift: of the newest release that was looked at.
    """

    task: str
    judged: Sequence[tuple[store.NotedRun, store.Judgement]]
    unanswered: Sequence[tuple[store.NotedRun, str]]
    pending: Sequence[store.NotedRun]
    drift: store.NotedDrift | None

    @property
    def last(self) -> tuple[store.NotedRun, store.Judgement] | None:
        return self.judged[-1] if self.judged else None

    @property
    def alerts(self) -> list[Mapping[str, str]]:
        """Of the last judged run, and of what is in service."""
        return [*(self.last[1].alerts if self.last else ()), *(self.drift.alerts if self.drift else ())]

    @property
    def next_closes(self) -> date | None:
        """When the next run can be judged, if the log is complete until then."""
        return min((run.closes for run in self.pending), default=None)


def standings(ledger: Ledger, release: str | None = None, only: str | None = None) -> dict[str, Standing]:
    """Task -> where it stands.

    Args:
        release: the one in service; alerts of drift are about it. None: about the newest that was looked at. only: the one task to look up.
    """
    runs, last, drifts = store.noted_runs(ledger), store.latest_judgements(ledger, only), store.drifts(ledger)
    newest = release or max(drifts.values(), key=lambda drift: drift.measured_at).release if drifts else release
    tasks = sorted({run.task for run in runs.values()} | {task for of, task in drifts if of == newest})
    if only is not None:
        tasks = [only] if only in tasks else []
    found = {}
    for task in tasks:
        mine = [run for run in runs.values() if run.task == task]
        known = [(run, last[run.run, task]) for run in mine if (run.run, task) in last]
        found[task] = Standing(
            task,
            [(run, one) for run, one in known if one.facts["all"]["rows"]],
            [(run, str(one.facts["all"]["unknown"])) for run, one in known if not one.facts["all"]["rows"]],
            [run for run in mine if (run.run, task) not in last],
            drifts.get((newest, task)) if newest else None,
        )
    return found


def judged_stratum(facts: Mapping[str, Any]) -> str | None:
    """The stratum that the rules judge: the untreated, everybody where those are too few, none where these are."""
    for name in ("untreated", "all"):
        found = facts.get(name, {})
        if "metrics" in found and min(found["positives"], found["rows"] - found["positives"]) >= LEAST:
            return name
    return None


def headline(kind: str, told: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The metric that a kind is known by: its name, what was realised in a stratum, and what was expected of these very rows where scores promise it."""
    name = {"value": "gini", "effect": "qini"}.get(kind, "auc")
    return name, (told.get("metrics") or {}).get(name), (told.get("promised") or {}).get(name)
