"""expand: from a seed to a proven model, an audience of the size that was asked for, and what changed since the last time.

The one function that strings the steps together. The model is fitted on the behaviour vectors as they were on the seed's date
and ranks the candidates as they are now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.bought import BOUGHT_CODE, with_bought, with_most_bought
from features.errors import NoUsableData
from features.files import code_digest, digest_of
from features.logs import step
from features.snapshot import Snapshot, recipe_digest
from features.tiles import Tiles
from features.workspace import Workspace
from training.blend import Vector
from training.bundle import Bundle
from training.eligible import eligible
from training.evidence import importance
from training.examples import Examples
from training.lookalike.afterwards import afterwards
from training.lookalike.base_rate import bands_of
from training.lookalike.contrast import Contrast, contrast_seed
from training.lookalike.defining import defining_features
from training.lookalike.methods import Rules, fit_likeness, in_blocks
from training.lookalike.population import Population, population
from training.lookalike.proof import Proof, prove
from training.lookalike.reach import Dial, reach_curve, similarity
from training.lookalike.recall import MAIN
from training.lookalike.seed import Seed, candidates_of, mask_of, named_now, spoken_of
from training.lookalike.seed_report import seed_report
from training.lookalike.seed_request import WITHIN
from training.models import fold_of
from training.pack import make_bundle
from training.task import AskedTask, Task

PREFIX = "lookalike-"  # of the task that a seed's model answers
PERCENTS = np.linspace(0, 1, 101)
FOLDS = 3  # for what models that have not seen them say of the seed users


@dataclass(frozen=True)
class Ranking:
    """The candidates as of a date. users, scores: what the model gives each; alike: that as 0 to 100; reach: the three dials beside each other."""

    as_of: date
    users: npt.NDArray[np.object_]
    scores: Vector
    alike: Vector
    reach: list[dict[str, Any]]


@dataclass(frozen=True)
class Expansion:
    """A seed's model and everything that is known of it.

    contrast: with the seed's report in it. importance: feature -> mean absolute share of the score. key: digest of all that
    shapes the model. afterwards: what the tenth of the candidates who were most alike on the seed's date did later.
    """

    seed: Seed
    bundle: Bundle
    proof: Proof
    contrast: Contrast
    importance: Mapping[str, float]
    ranking: Ranking
    key: str
    afterwards: Mapping[str, Any] | None


def task_of(seed: Seed) -> Task:
    """The prediction that a seed's model answers. Who is eligible depends on the seed's ids, which no task holds."""
    return Task(
        name=f"{PREFIX}{seed.name}",
        question=f"How much does this customer resemble the seed '{seed.name}' ({seed.how['words']})?",
        eligible=eligible(),
        eligible_in_words=f"{seed.how['candidates'] or 'everybody known'}, not in the seed",
        horizon=lambda cycle: 0,
        rule_in_words="RFM rule",
        seed=lambda users: pd.Series(users.index.isin(seed.users), users.index),
    )


def expand(workspace: Workspace, tiles: Tiles, seed: Seed, as_of: date) -> Expansion:
    """Contrast, prove and fit a seed; rank the candidates as of a date.

    Raises:
        NoUsableData: the seed is too small or nobody is left to rank, with what to do.
    """
    then = with_most_bought(workspace.snapshots.get(tiles, seed.as_of), tiles, " ".join(spoken_of(seed)))
    defining = defining_features(seed, then.feature_names, then, tiles)
    names = tuple(name for name in then.feature_names if name not in defining)
    with step("contrast", seed=seed.name):
        contrast = contrast_seed(seed, then, defining)
        contrast["seed_report"] = seed_report(seed, then, list(names))
    people = people_of(seed, then, names)
    with step("proof", candidates=int(people.unlabelled.sum()), seed_users=int(people.seed.sum())) as found:
        proof = prove(people)
        found |= {"chosen": proof.choice.chosen, "recall_at_10": round(proof.recall[proof.choice.chosen]["10"]["value"] or 0.0, 3)}
    with step("fit"):
        examples = Examples(
            np.asarray(people.X, dtype=np.float64), names, people.seed.astype(np.int8), people.users, np.full(len(people), seed.as_of, dtype=object)
        )
        asked = AskedTask(task_of(seed), 0, 0)
        bundle = make_bundle(asked, examples, tiles, names, lambda rows: fit_likeness(people, proof.choice.parts))
        of_seed = unseen_scores(people, proof.choice.parts)
    origin = {"name": seed.name, "digest": seed.digest, "as_of": seed.as_of.isoformat(), "users": len(seed.users), "negatives": len(seed.negatives)}
    before = in_blocks(bundle.scores, then.matrix(bundle.features)[candidates_of(seed, then)])
    more = {"seed": origin, "seed_scores": np.quantile(of_seed, PERCENTS).tolist(), "left_out": defining, "parts": list(proof.choice.parts)}
    more["bands"] = bands_of(before, of_seed).tolist()  # on the seed's date: later everybody's level may have moved
    bundle = replace(bundle, about={**bundle.about, **more})
    now, later = rank(workspace, tiles, seed, bundle, as_of), later_of(tiles, seed, then, bundle)
    return Expansion(seed, bundle, proof, contrast, importance(bundle, examples), now, key_of(seed, tiles), later)


def check_size(workspace: Workspace, tiles: Tiles, seed: Seed, as_of: date, size: int) -> None:
    """Raises NoUsableData where a seed has fewer candidates as of a date than the audience is to have."""
    now = with_bought(workspace.snapshots.get(tiles, as_of), tiles, spoken_of(seed))
    Dial(size=size).of(np.zeros(int(candidates_of(named_now(seed, tiles), now).sum())))


def rank(workspace: Workspace, tiles: Tiles, seed: Seed, bundle: Bundle, as_of: date) -> Ranking:
    """The candidates as they are at a date, by a model that was fitted before."""
    now = with_bought(workspace.snapshots.get(tiles, as_of), tiles, [*bundle.features, *spoken_of(seed)])
    rows = candidates_of(named_now(seed, tiles), now)
    if not rows.any():
        raise NoUsableData(f"Nobody is a candidate of seed '{seed.name}' as of {as_of}. Widen its candidate filter.")
    table, of_seed = now.matrix(bundle.features)[rows], np.array(bundle.about["seed_scores"])
    scores = in_blocks(bundle.scores, table)  # as the release does, to the bit
    return Ranking(as_of, now.frame.index.to_numpy(dtype=object)[rows], scores, similarity(scores, of_seed), reach_curve(scores, of_seed))


def later_of(tiles: Tiles, seed: Seed, then: Snapshot, bundle: Bundle) -> dict[str, Any] | None:
    """What the tenth of the candidates who were most alike on the seed's date did afterwards, against others like them; None where the log ends there."""
    candidates = candidates_of(seed, then)
    scores = np.full(len(candidates), -np.inf)
    scores[candidates] = in_blocks(bundle.scores, then.matrix(bundle.features)[candidates])
    chosen = np.zeros(len(candidates), dtype=bool)
    chosen[np.argsort(-scores, kind="stable")[: round(MAIN * int(candidates.sum()))]] = True
    return afterwards(tiles, then, chosen, candidates & ~chosen, seed.how, int(seed.how.get("within_days", WITHIN)))


def key_of(seed: Seed, tiles: Tiles) -> str:
    """Digest of the seed, of the data before its date, and of how models are made."""
    code = code_digest(Path(__file__).parent, Path(__file__).parents[1])
    return digest_of([seed.digest, recipe_digest(tiles.log, tiles.shop, seed.as_of), BOUGHT_CODE, code])


def people_of(seed: Seed, snapshot: Snapshot, names: tuple[str, ...]) -> Population:
    """The seed, its negatives and the candidates, as they were."""
    rows = candidates_of(seed, snapshot) | mask_of(seed.users, snapshot) | mask_of(seed.negatives, snapshot)
    rules = [name for name in (Rules().spend, *Rules().rfm) if name in snapshot.feature_names and name not in names]
    facts = {name: snapshot.frame[name].to_numpy(np.float64)[rows] for name in rules}  # the rules that people use see what defines the seed
    return population(snapshot.matrix(names)[rows], names, snapshot.frame.index.to_numpy(dtype=object)[rows], seed.users, seed.negatives, facts)


def unseen_scores(people: Population, parts: tuple[str, ...]) -> Vector:
    """What the seed users are given by models that have not seen them."""
    members = np.flatnonzero(people.seed)
    folds, scores = fold_of(people.users[members], FOLDS), np.empty(len(members))
    for fold in range(FOLDS):
        hidden = np.zeros(len(people), dtype=bool)
        hidden[members[folds == fold]] = True
        scores[folds == fold] = fit_likeness(people.hiding(hidden), parts).scores(np.asarray(people.X[hidden], dtype=np.float64))
    return scores
