"""fit_task: from tiles to a candidate with its evidence. The one function that strings the steps together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import NoUsableData
from features.events import day_of
from features.logs import step
from features.snapshot import catalogue
from features.store import SnapshotStore
from features.tiles import Tiles
from training.baselines import baseline_recipes
from training.bundle import Bundle, golden_rows
from training.evidence import Evidence, gather_evidence
from training.examples import Examples, make_examples, require_both_classes, thinned, trigger_days
from training.models import Recipe, fit
from training.split import Split, calendar, closed, split_by_time
from training.task import AskedTask

BLEND = Recipe()
GOLDEN_ROWS = 20


@dataclass(frozen=True)
class Candidate:
    """A trained task.

    served: fitted on every closed label window. evaluated: the same recipe fitted on the training cutoffs alone; the
    evidence is its, and later challengers are compared with it on windows that neither has seen. baselines: fitted
    like `served`.
    """

    asked: AskedTask
    split: Split
    served: Bundle
    evaluated: Bundle
    baselines: Mapping[str, Bundle]
    evidence: Evidence
    test: Examples


def fit_task(asked: AskedTask, until: date, tiles: Tiles, store: SnapshotStore) -> Candidate:
    """Train one task on everything known before `until` and judge it on its last cutoffs.

    Raises:
        NoUsableData: events that the task needs are not in the log, too short a span, fewer than 30 positives or negatives.
    """
    if lacking := sorted(set(asked.task.needs) - tiles.log.kinds):
        raise NoUsableData(f"{asked.name} needs events that the log does not have: {', '.join(lacking)}. Ingest a source that brings them.")
    first = first_day(tiles)
    with step(f"{asked.name}: examples") as found:
        if asked.task.seed:
            examples = make_examples(asked, [until], first, tiles, store)
            train, test, split = split_by_customer(examples, until)
        else:
            split = split_by_time(_cutoffs(asked, first, until, tiles), asked.horizon)
            examples = make_examples(asked, (*split.train, *split.test), first, tiles, store)
            train, test = thinned(examples.at(split.train)), examples.at(split.test)
            examples = thinned(examples)
        found |= {"rows": len(train), "test_rows": len(test), "test_base_rate": round(float(test.y.mean()), 4)}
    require_both_classes(train, f"{asked.name}, training cutoffs")
    require_both_classes(test, f"{asked.name}, test cutoffs")
    recipes = baseline_recipes(asked, examples.names)
    with step(f"{asked.name}: fit"):
        evaluated = make_bundle(asked, train, BLEND, tiles)
        rivals = {name: make_bundle(asked, train, recipe, tiles) for name, recipe in recipes.items()}
        served = make_bundle(asked, examples, BLEND, tiles)
        baselines = {name: make_bundle(asked, examples, recipe, tiles, baseline=name) for name, recipe in recipes.items()}
    with step(f"{asked.name}: evidence") as found:
        evidence = gather_evidence(asked, evaluated, rivals, train, test)
        found |= {name: round(evidence.metrics["model"][name]["value"], 4) for name in ("auc", "lift_10")}
    return Candidate(asked, split, served, evaluated, baselines, evidence, test)


def make_bundle(asked: AskedTask, examples: Examples, recipe: Recipe, tiles: Tiles, baseline: str | None = None) -> Bundle:
    """Fit a recipe and pack it with its words, its reference distribution and its golden rows."""
    # Ranks need no calibration, and a look-alike's seed has no base rate to calibrate to.
    parts = fit(examples.X, examples.y, examples.users, recipe if asked.calibrated else replace(recipe, folds=0))
    known = {feature.name: feature.describe() for feature in catalogue(tiles.shop, tiles.log.kinds)}
    about: dict[str, Any] = {
        **asked.describe(),
        "baseline": baseline,
        "rows": len(examples),
        "positives": int(examples.y.sum()),
        "base_rate": float(examples.y.mean()),
        "first_cutoff": min(examples.as_of).isoformat(),
        "last_cutoff": max(examples.as_of).isoformat(),
        "data": tiles.log.digest,
        "features": {name: known[name] for name in examples.names},
    }
    bundle = Bundle(examples.names, parts.logistic, parts.trees, parts.platt, about, {}, {})
    reference = reference_distribution(bundle, examples)
    return replace(bundle, reference=reference, golden=golden_rows(bundle, made_up_rows(reference)))


def reference_distribution(bundle: Bundle, examples: Examples) -> dict[str, Any]:
    """Deciles of every feature and of the score in training, and each feature's share of rows without a value."""
    levels = np.linspace(0, 1, 11)
    columns = {
        name: {
            "deciles": [float(edge) for edge in np.nanquantile(values, levels)] if not np.isnan(values).all() else None,
            "missing": float(np.isnan(values).mean()),
        }
        for name, values in zip(examples.names, examples.X.T, strict=True)
    }
    return {"features": columns, "score_deciles": [float(edge) for edge in np.quantile(bundle.scores(examples.X), levels)]}


def made_up_rows(reference: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Rows to test a bundle with, drawn feature by feature from the deciles: of nobody, and none of a user's own."""
    random = np.random.default_rng(GOLDEN_ROWS)
    columns = []
    for told in reference["features"].values():
        values = random.choice(told["deciles"] or [np.nan], GOLDEN_ROWS)
        columns.append(np.where(random.random(GOLDEN_ROWS) < told["missing"], np.nan, values))
    return np.column_stack(columns)


def split_by_customer(examples: Examples, as_of: date) -> tuple[Examples, Examples, Split]:
    """Hide a fifth of the customers, chosen by a hash of their id, so that every retrain hides the same ones."""
    hidden = np.array([_hidden(user) for user in examples.users], dtype=bool)
    return examples.take(~hidden), examples.take(hidden), Split((as_of,), (as_of,))


def _hidden(user: Any) -> bool:
    return hashlib.sha256(f"hidden seed {user}".encode()).digest()[0] % 5 == 0


def _cutoffs(asked: AskedTask, first: date, until: date, tiles: Tiles) -> list[date]:
    if asked.task.trigger is None:
        return calendar(first, until, asked.horizon)
    return closed(trigger_days(asked, tiles), first, until, asked.horizon)


def first_day(tiles: Tiles) -> date:
    """The day of the first order: what came before it is not yet a shop's history."""
    days = tiles.ever().days("orders")["day"]
    if days.empty:
        raise NoUsableData("The log has no order; every prediction needs some. Ingest the shop's orders first.")
    return day_of(int(days.min()))
