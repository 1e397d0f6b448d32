"""fit_task: from tiles to a candidate with its evidence. The one function that strings the steps together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import cast

from features.logs import step
from features.store import SnapshotStore
from features.tiles import Tiles
from training.baselines import Fit, baselines_of
from training.bundle import Bundle
from training.buying import Worth
from training.evidence import Evidence, gather_evidence
from training.examples import Examples, require_both_classes
from training.fit_uplift import fit_effect, gather_effect_evidence
from training.fit_value import fit_value
from training.fit_waiting import fit_hazard
from training.kinds import KINDS
from training.models import Recipe, fit
from training.nowcast import corrections, nowcasted
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
    like `served`. A nowcast that holds is in both, each by the latest window that it was fitted on; the evidence lets it keep
    up with the windows that are over at each test cutoff. indicative: fewer than 500 customers of one outcome stand behind it.
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
    asked, columns, rules = ready.asked, ready.train.names, baselines_of(ready.asked, ready.train)
    core = answer = core_of(asked, INDICATIVE if ready.indicative else BLEND)
    if asked.extrapolation:
        columns, core = rules.pop("bgnbd")
        answer = partial(_extrapolated, measured=core, days=asked.horizon)
    with step(f"{asked.name}: fit"):
        served = make_bundle(asked, ready.everything, tiles, columns, answer)
        evaluated = served if asked.kind == "effect" else make_bundle(asked, ready.train, tiles, columns, core)
        rivals = {name: make_bundle(asked, ready.train, tiles, columns, rule) for name, (columns, rule) in rules.items()}
        baselines = {name: make_bundle(asked, ready.everything, tiles, columns, rule, baseline=name) for name, (columns, rule) in rules.items()}
    if asked.extrapolation:  # of the rules, none is about the horizon
        baselines = {"bgnbd": served}
    with step(f"{asked.name}: evidence") as found:
        off = corrections(evaluated, ready.train, ready.test, ready.split.horizon) if asked.kind == "probability" else ()
        if any(correction.name == "nowcast" and correction.holds for correction in off):
            served, evaluated = nowcasted(served, ready.everything), nowcasted(evaluated, ready.train)
        evidence = (
            gather_effect_evidence(served, ready.test) if asked.kind == "effect" else gather_evidence(asked, evaluated, rivals, ready.train, ready.test, off)
        )
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


def _extrapolated(rows: Examples, measured: Fit, days: int) -> Worth:
    """BG/NBD x Gamma-Gamma at the level of the windows that are over, asked about a longer one."""
    return replace(cast("Worth", measured(rows)), horizon=days)
