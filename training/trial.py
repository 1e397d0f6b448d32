"""Trial: a randomised treatment, its control group and their outcome; and whether it looks randomised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from features.errors import NoUsableData
from training.blend import Blend, Matrix, Vector, signed_log
from training.evidence import area_under_curve
from training.gates import Reason
from training.models import fit_logistic, fit_trees, fold_of

LEAST_OUTCOMES = 30
LARGEST_DIFFERENCE, LARGEST_AUC = 0.1, 0.52
CHANCE = 0.001  # share of properly randomised trials that may be refused by each rule
FOLDS, TREES = 3, 60


@dataclass(frozen=True)
class Trial:
    """Customers who were treated or not by lot, and what they did.

    X: rows x features from before the treatment, NaN for no value; names: the features; y: 0 or 1; treated: true for
    the treatment, false for control; users: the customer of each row.
    """

    X: Matrix
    names: tuple[str, ...]
    y: npt.NDArray[np.int8]
    treated: npt.NDArray[np.bool_]
    users: npt.NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Trial:
        """Some rows, by mask or by position."""
        return Trial(self.X[rows], self.names, self.y[rows], self.treated[rows], self.users[rows])

    def sorted(self) -> Trial:
        """The same rows in the one order that their values give: what is fitted does not depend on the order of arrival."""
        _, customer = np.unique(self.users.astype(str), return_inverse=True)
        return self.take(np.lexsort((*self.X.T, self.y, self.treated, customer)))


def require_outcomes(trial: Trial) -> None:
    """Refuse a trial that is too small to say anything.

    Raises:
        NoUsableData: fewer than 30 customers with a yes, or with a no, in one arm; with all four counts.
    """
    counts = [len(set(trial.users[(trial.treated == arm) & (trial.y == outcome)])) for arm in (True, False) for outcome in (1, 0)]
    if min(counts) < LEAST_OUTCOMES:
        raise NoUsableData(
            f"The treated: {counts[0]} customers with the outcome and {counts[1]} without; control: {counts[2]} and {counts[3]}. "
            f"At least {LEAST_OUTCOMES} of each are needed to learn an effect. Wait for more outcomes, or hold out a larger control group next time."
        )


@dataclass(frozen=True)
class Assignment:
    """How far the treated differ from control before the treatment.

    differences: feature -> standardised mean difference, largest first; limit: what chance explains of the largest.
    auc: of predicting from the features who is treated, on customers not learned from; auc_limit: what chance explains.
    """

    differences: dict[str, float]
    limit: float
    auc: float
    auc_limit: float

    @property
    def reasons(self) -> list[Reason]:
        name, difference = next(iter(self.differences.items()))
        return [
            Reason(
                "balanced arms", abs(difference) <= self.limit, f"largest standardised mean difference {difference:+.3f} ({name}); at most {self.limit:.3f}"
            ),
            Reason("random assignment", self.auc <= self.auc_limit, f"AUC of predicting who is treated {self.auc:.3f}; at most {self.auc_limit:.3f}"),
        ]


def measure_assignment(trial: Trial) -> Assignment:
    """Hold the arms against each other on what was known before the treatment.

    A standardised mean difference up to .1 is negligible by convention (Austin 2009, https://doi.org/10.1002/sim.3697) and
    an AUC up to .52 is here; small trials may exceed both by chance, so the limits are at least what one randomised trial
    in a thousand exceeds.
    """
    trial = trial.sorted()
    arms = [len(set(trial.users[trial.treated == arm])) for arm in (True, False)]
    tests = 2 * len(trial.names)  # two sides for each feature
    largest = float(norm.isf(CHANCE / tests) * np.sqrt(1 / arms[0] + 1 / arms[1]))
    spread = float(norm.isf(CHANCE) * np.sqrt((sum(arms) + 1) / (12 * arms[0] * arms[1])))  # of the AUC of a random order
    return Assignment(_differences(trial), max(LARGEST_DIFFERENCE, largest), _assignment_auc(trial), max(LARGEST_AUC, 0.5 + spread))


def require_random_assignment(assignment: Assignment) -> None:
    """Refuse data in which somebody chose whom to treat: the treated were different before, so the difference after is not the effect.

    Raises:
        NoUsableData: the arms differ by more than chance explains.
    """
    broken = [reason.text for reason in assignment.reasons if not reason.passed]
    if broken:
        raise NoUsableData(
            f"The treated and the control customers differed before the treatment: {'; '.join(broken)}. So it was not given by lot, and no effect can be "
            "learned from it. Send the next campaign to a random part of its audience, keep the rest as control and record both; "
            "if several campaigns were put together, take one at a time, and leave out features that were measured after the treatment."
        )


def _differences(trial: Trial) -> dict[str, float]:
    """Standardised mean differences of the features as a logistic sees them, and of the share without a value; the larger of the two."""
    missing = np.isnan(trial.X)
    empty = missing.all(axis=0)
    median = np.zeros(len(trial.names))
    median[~empty] = np.nanmedian(trial.X[:, ~empty], axis=0)
    values = _standardised_difference(signed_log(trial.X, list(median)), trial.treated)
    absent = _standardised_difference(missing.astype(np.float64), trial.treated)
    larger = np.where(np.abs(absent) > np.abs(values), absent, values)
    return {trial.names[place]: float(larger[place]) for place in np.argsort(-np.abs(larger), kind="stable")}


def _standardised_difference(values: Matrix, treated: npt.NDArray[np.bool_]) -> Vector:
    ours, theirs = values[treated], values[~treated]
    spread = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / 2)
    difference = ours.mean(axis=0) - theirs.mean(axis=0)
    # Constant within each arm: no difference at all, or one that tells the arms apart for certain.
    certain = np.where(np.abs(difference) > 1e-12, np.copysign(np.inf, difference), 0.0)
    return np.where(spread > 1e-12, difference / np.maximum(spread, 1e-12), certain)


def _assignment_auc(trial: Trial) -> float:
    """Mean over folds of customers, each predicted by a blend that has not seen them."""
    label = trial.treated.astype(np.int8)
    folds = fold_of(trial.users, FOLDS)
    areas = []
    for fold in range(FOLDS):
        unseen = folds == fold
        blend = Blend(fit_logistic(trial.X[~unseen], label[~unseen]), fit_trees(trial.X[~unseen], label[~unseen], TREES, (0,)))
        areas.append(area_under_curve(label[unseen], blend.raw(trial.X[unseen])))
    return float(np.mean(areas))
