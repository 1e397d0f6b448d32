"""retrain: idempotent, locked, resumable, for a schedule."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from features.cycle import repurchase_cycle
from features.errors import LabelWindowOpen, NoUsableData
from features.files import code_digest, digest_of, exclusive
from features.logs import log, step
from features.shopfile import Shop
from features.snapshot import recipe_digest
from features.tiles import Tiles
from features.workspace import Workspace
from training.card import metrics_table
from training.eligible import Eligible
from training.heartbeat import heartbeat, task_state
from training.judge import Outcome, judge, keep
from training.kinds import KINDS
from training.side_by_side import fit_tasks
from training.task import AskedTask
from training.tasks import tasks_for
from training.tracking import CHAMPION, Tracking

CODE = code_digest(Path(__file__).parent)


def retrain(
    workspace: Workspace, shop: Shop, as_of: date | None = None, names: tuple[str, ...] = (), promote: bool = True, wait: bool = False
) -> list[Outcome]:
    """Train the tasks on what is known before `as_of`, log everything, and let the gate decide who is champion.

    The same data, date and settings are trained once: a second call finds the finished runs. A call after a crash
    takes up with the first task that has none. Refused challengers are logged and registered like promoted ones.

    Args:
        as_of: the end of the last label window; by default, as far as the log is complete. Corrections of outcomes that
            became known later count: they are what happened.
        promote: False leaves every alias as it is.
        wait: for another retrain of this workspace, or of this shop on another host, to end.

    Raises:
        Locked: another one runs and `wait` is false, or took over while this one was stopped. LabelWindowOpen: the log does not reach `as_of`.
        TrackingUnavailable: MLflow is down; champions stay what they were.
    """
    lock = workspace.root / ".retrain.lock"
    with exclusive(lock, "A retrain of this workspace", wait=wait), heartbeat(workspace.root):
        tracking = Tracking(workspace, shop.name)
        with tracking.alone(lock, wait=wait):
            return _retrain(workspace, tracking, shop, as_of, names, promote)


def _retrain(workspace: Workspace, tracking: Tracking, shop: Shop, as_of: date | None, names: tuple[str, ...], promote: bool) -> list[Outcome]:
    if stale := tracking.close_stale():
        log.warning("closed runs that a killed process had left open", extra={"facts": {"runs": stale}})
    tiles = workspace.tiles(shop)
    until = as_of or tiles.log.complete_until
    if until > tiles.log.complete_until:
        raise LabelWindowOpen(until, until, tiles.log.complete_until)
    todo, outcomes = [], []
    for asked in asked_tasks(tiles, until, names):
        key = work_key(asked, until, tiles, promote)
        if run_id := tracking.finished(key) or _made_champion(tracking, asked.name, key):
            outcomes.append(Outcome(asked.name, "already done", f"run {run_id} did this work", run_id))
            task_state(workspace.root, asked.name, "already done")
        else:
            todo.append((asked, key))
    if todo:
        outcomes += _train(workspace, tracking, tiles, until, todo, promote)
    return outcomes


def asked_tasks(tiles: Tiles, until: date, names: tuple[str, ...] = ()) -> list[AskedTask]:
    """The tasks to train, with the horizons that the shop's repurchase cycle gives them."""
    cycle = repurchase_cycle(tiles, until)
    return [task.at(tiles.shop, cycle) for task in tasks_for(tiles.shop, tiles.log.kinds, names)]


def work_key(asked: AskedTask, until: date, tiles: Tiles, promote: bool) -> str:
    """Digest of everything that shapes a trained task: what is asked, of which data, by which recipe, and whether it may be promoted."""
    eligible = asked.task.eligible
    code = [CODE, eligible.condition if isinstance(eligible, Eligible) else code_digest(Path(inspect.getfile(eligible)))]
    return digest_of(
        [asked.describe(), until, recipe_digest(tiles.log, tiles.shop, until), tiles.log.digest, code, promote, tiles.shop.signed_off, tiles.shop.on_drift]
    )


def _made_champion(tracking: Tracking, task: str, key: str) -> str | None:
    """The run that did this work and was killed after it had promoted; promoting again would lose the way back."""
    champion = tracking.with_alias(task, CHAMPION)
    return champion.run_id if champion and champion.tags.get("encore.key") == key else None


def _train(workspace: Workspace, tracking: Tracking, tiles: Tiles, until: date, todo: Sequence[tuple[AskedTask, str]], promote: bool) -> list[Outcome]:
    outcomes, cards = [], []
    summary: dict[str, float] = {}
    with tracking.run(f"retrain {until}", {"encore.as_of": until.isoformat(), "encore.data": tiles.log.digest}) as parent:
        fitted = fit_tasks([asked for asked, _ in todo], until, tiles, workspace.snapshots)
        for (asked, key), candidate in zip(todo, fitted, strict=True):
            if isinstance(candidate, NoUsableData):
                outcomes.append(Outcome(asked.name, "no usable data", str(candidate)))
                task_state(workspace.root, asked.name, "no usable data")
                continue
            with step(f"{asked.name}: gate and log") as found:
                judgement = judge(tracking, candidate, until, tiles.shop)
                outcome = keep(tracking, candidate, judgement, parent, key, promote)
                found["decision"] = outcome.state
            outcomes.append(outcome)
            task_state(workspace.root, asked.name, outcome.state, outcome.drifted)
            measured = candidate.evidence.metrics.items()
            main = KINDS[asked.kind].main
            summary |= {f"{asked.name}.{main}" if who == "model" else f"{asked.name}.{who}.{main}": values[main]["value"] for who, values in measured}
            cards.append(
                f"## {asked.name}: {outcome.state}\n\n{candidate.served.about['question']}\n\n{metrics_table(candidate)}\n\n```\n{judgement.decision.text}\n```"
            )
        tracking.log(parent, {"as_of": until, "data": tiles.log.digest}, summary, {"mlflow.note.content": f"# Retrain as of {until}\n\n" + "\n\n".join(cards)})
    return outcomes
