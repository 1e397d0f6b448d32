"""Evidence: what is known about a model's quality before anybody may be scored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from training.blend import Blend, Matrix, Vector
from training.bundle import Bundle
from training.examples import Examples
from training.kinds import KINDS, RESAMPLES, SEED, Kind, Measured
from training.models import fit_logistic, fit_trees
from training.slices import measurable
from training.task import AskedTask

if TYPE_CHECKING:
    from training.gates import Reason
    from training.nowcast import Correction
    from training.uplift_evidence import UpliftEvidence

SHUFFLES, SHUFFLE_ROWS, SHUFFLE_TREES = 20, 4_000, 40

FEW = 100  # resamples of a part


@dataclass(frozen=True)
class Evidence:
    """Everything the gate, the model card and the pages say about a model.

    metrics: model and baseline -> metric -> value with its 95 % interval, pooled over the test cutoffs.
    gains: baseline -> metric -> model minus baseline. by_cutoff: cutoff -> model and baseline -> metric -> value.
    slices: slice -> value -> metric -> value, of the model. importance: feature -> mean absolute share of the log-odds.
    alone: feature -> AUC that it has by itself, best first. shuffled: mean AUC of models trained on shuffled labels, and its
    standard error. scores: model and baseline -> what they predict of the test rows; kept in memory, never logged.
    uplift, reasons: of an effect: its curves, and what the gate says of them.
    corrections: of a probability whose mean is off: nowcast and season, backtested. A nowcast that holds is in the model's scores.
    """

    metrics: Mapping[str, Measured]
    gains: Mapping[str, Measured]
    by_cutoff: Mapping[str, Mapping[str, Measured]]
    slices: Mapping[str, Mapping[str, Measured]]
    importance: Mapping[str, float]
    alone: Mapping[str, float]
    shuffled: tuple[float, float]
    scores: Mapping[str, Matrix]
    uplift: UpliftEvidence | None = None
    reasons: tuple[Reason, ...] = ()
    corrections: tuple[Correction, ...] = ()

    def describe(self) -> dict[str, Any]:
        """All of it that may be stored: no row of any user."""
        return {
            "metrics": self.metrics,
            "gains": self.gains,
            "by_cutoff": self.by_cutoff,
            "slices": self.slices,
            **({"uplift": self.uplift.describe()} if self.uplift else {}),
            **{correction.name: correction.describe() for correction in self.corrections},
            "importance": self.importance,
            "auc_alone": dict(list(self.alone.items())[:20]),
            "shuffled_labels": {"mean_auc": self.shuffled[0], "standard_error": self.shuffled[1], "shuffles": SHUFFLES},
        }


def gather_evidence(
    asked: AskedTask, model: Bundle, baselines: Mapping[str, Bundle], train: Examples, test: Examples, corrections: tuple[Correction, ...] = ()
) -> Evidence:
    """Let the model and its baselines predict the test rows and measure everything; the model with its nowcast, where that holds."""
    kind = KINDS[asked.kind]
    told = {name: kind.predict(bundle, test.of(bundle.features)) for name, bundle in {"model": model, **baselines}.items()}
    for correction in corrections:
        if correction.name == "nowcast" and correction.holds:
            told["model"] = correction.scores
    by_cutoff = {}
    for cutoff in sorted(set(test.as_of)):
        rows = test.as_of == cutoff
        if 0 < test.y[rows].sum() < rows.sum():
            by_cutoff[cutoff.isoformat()] = {name: kind.evaluate(test.take(rows), values[rows], FEW) for name, values in told.items()}
    return Evidence(
        metrics={name: kind.evaluate(test, values, RESAMPLES) for name, values in told.items()},
        gains={name: kind.difference(test, told["model"], told[name]) for name in baselines},
        by_cutoff=by_cutoff,
        slices=by_slice(kind, test, told["model"]),
        importance=importance(model, test),
        alone=auc_alone(train),
        shuffled=shuffled_auc(train, test),
        scores=told,
        corrections=corrections,
    )


def by_slice(kind: Kind, test: Examples, told: Matrix) -> dict[str, dict[str, Measured]]:
    """The metrics of each part of the users that is large enough to say something about."""
    parts = {name: measurable(values, test.y) for name, values in test.slices.items()}
    return {name: {value: kind.evaluate(test.take(rows), told[rows], FEW) for value, rows in found.items()} for name, found in parts.items() if found}


def importance(model: Bundle, test: Examples, rows: int = 200) -> dict[str, float]:
    """Mean absolute contribution to the log-odds on a sample of rows, largest first."""
    chosen = np.linspace(0, len(test) - 1, min(rows, len(test))).astype(int)
    shares = np.abs(model.contributions(test.of(model.features)[chosen])[:, :-1]).mean(axis=0)
    return {model.features[place]: float(shares[place]) for place in np.argsort(-shares, kind="stable")}


def auc_alone(train: Examples) -> dict[str, float]:
    """How well each feature separates the outcomes by itself, in either direction, best first; above .9 it smells of a leak."""
    ranks = np.apply_along_axis(lambda values: rankdata(np.where(np.isnan(values), -np.inf, values)), 0, train.X)
    positives = int(train.y.sum())
    negatives = len(train) - positives
    areas = (ranks[train.y == 1].sum(axis=0) - positives * (positives + 1) / 2) / (positives * negatives)
    areas = np.maximum(areas, 1 - areas)
    return {train.names[place]: float(areas[place]) for place in np.argsort(-areas, kind="stable")}


def shuffled_auc(train: Examples, test: Examples) -> tuple[float, float]:
    """Mean AUC, and its standard error, of small models whose labels were shuffled within each cutoff, in train and test.

    It proves the harness: anything but chance means that fitting or measuring uses labels it should not have. A leak
    in a feature it cannot see; for that there is `strongest_feature`.
    """
    random = np.random.default_rng(SEED)
    areas = []
    for number in range(SHUFFLES):
        rows = random.choice(len(train), size=min(len(train), SHUFFLE_ROWS), replace=False)
        y, y_test = shuffle_within(train.y, train.as_of, random)[rows], shuffle_within(test.y, test.as_of, random)
        if y.min() == y.max():
            continue
        blend = Blend(fit_logistic(train.X[rows], y), fit_trees(train.X[rows], y, SHUFFLE_TREES, (number,)))
        areas.append(area_within(y_test, blend.raw(test.X), test.as_of))
    return float(np.mean(areas)), float(np.std(areas, ddof=1) / np.sqrt(len(areas)))


def area_within(y: npt.NDArray[np.int8], scores: Vector, groups: npt.NDArray[np.object_]) -> float:
    """AUC over pairs of the same group: base rates that differ from cutoff to cutoff teach it nothing."""
    areas, pairs = [], []
    for group in sorted(set(groups)):
        labels = y[groups == group]
        if 0 < labels.sum() < len(labels):
            areas.append(area_under_curve(labels, scores[groups == group]))
            pairs.append(labels.sum() * (len(labels) - labels.sum()))
    return float(np.average(areas, weights=pairs))


def area_under_curve(y: npt.NDArray[np.int8], scores: Vector) -> float:
    """AUC by ranks; ties count half."""
    positives = int(y.sum())
    return float((rankdata(scores)[y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives)))


def shuffle_within(y: npt.NDArray[np.int8], groups: npt.NDArray[np.object_], random: np.random.Generator) -> npt.NDArray[np.int8]:
    """Labels shuffled among the rows of one group, so that each cutoff keeps its base rate."""
    shuffled = y.copy()
    for group in sorted(set(groups)):
        rows = np.flatnonzero(groups == group)
        shuffled[rows] = y[random.permutation(rows)]
    return shuffled
