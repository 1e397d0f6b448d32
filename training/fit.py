"""fit_task: from tiles to a candidate with its evidence. The one function that strings the steps together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from features.logs import step
from features.store import SnapshotStore
from features.tiles import Tiles
from training.baselines import Fit, baselines_of
from training.bundle import Bundle
from training.evidence import Evidence, gather_evidence
from training.examples import Examples, require_both_classes
from training.fit_uplift import fit_effect, gather_effect_evidence
from training.fit_value import fit_value
from training.fit_waiting import fit_hazard
from training.kinds import KINDS
from training.models import Recipe, fit
from training.pack import make_bundle
from training.prepare import prepare
from training.split import Split
from training.task import AskedTask

BLEND = Recipe()
INDICATIVE = Recipe(trees=0)  # too few customers for trees: a regularised logistic, calibrated


@dataclass(frozen=True)
class Candidate:
    """A trained task.

    served: fitted on every closed label window. evaluated: the same recipe fitted on the training cutoffs alone; the
    evidence is its, and later challengers are compared with it on windows that neither has seen. baselines: fitted
    like `served`. indicative: fewer than 500 customers of one outcome stand behind it.
    """

    asked: AskedTask
    split: Split
    served: Bundle
    evaluated: Bundle
    baselines: Mapping[str, Bundle]
    evidence: Evidence
    test: Examples
    indicative: bool


def fit_task(asked: AskedTask, until: date, tiles: Tiles, store: SnapshotStore) -> Candidate:
    """Train one task on everything known before `until` and judge it on its last cutoffs.

    Raises:
        NoUsableData: events that the task needs are not in the log, too short a span, fewer than 30 positives or negatives.
    """
    with step(f"{asked.name}: examples") as found:
        ready = prepare(asked, until, tiles, store)
        found |= {"rows": len(ready.train), "test_rows": len(ready.test), "test_base_rate": round(float(ready.test.y.mean()), 4)}
    require_both_classes(ready.train, f"{asked.name}, training cutoffs")
    require_both_classes(ready.test, f"{asked.name}, test cutoffs")
    core, rules = core_of(asked, INDICATIVE if ready.indicative else BLEND), baselines_of(asked, ready.train)
    with step(f"{asked.name}: fit"):
        served = make_bundle(asked, ready.everything, tiles, ready.everything.names, core)
        evaluated = served if asked.kind == "effect" else make_bundle(asked, ready.train, tiles, ready.train.names, core)
        rivals = {name: make_bundle(asked, ready.train, tiles, columns, rule) for name, (columns, rule) in rules.items()}
        baselines = {name: make_bundle(asked, ready.everything, tiles, columns, rule, baseline=name) for name, (columns, rule) in rules.items()}
    with step(f"{asked.name}: evidence") as found:
        evidence = gather_effect_evidence(served, ready.test) if asked.kind == "effect" else gather_evidence(asked, evaluated, rivals, ready.train, ready.test)
        found |= {name: round(evidence.metrics["model"][name]["value"], 4) for name in KINDS[asked.kind].headline}
    return Candidate(asked, ready.split, served, evaluated, baselines, evidence, ready.test, ready.indicative)


def core_of(asked: AskedTask, recipe: Recipe) -> Fit:
    """How the model of a task is fitted: by a recipe for the blend, or its like for amounts and dates."""
    if asked.kind == "value":
        return lambda rows: fit_value(rows, recipe)
    if asked.kind == "effect":
        return fit_effect
    if asked.kind == "date":
        return lambda rows: fit_hazard(rows, recipe)
    if asked.kind == "rank":  # a seed is small by nature and has no base rate to calibrate to
        recipe = replace(BLEND if recipe == INDICATIVE else recipe, folds=0)
    return lambda rows: fit(rows.X, rows.y, rows.users, recipe)
