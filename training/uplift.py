"""Uplift: learn from a randomised trial who is changed by the treatment, and not merely who says yes.

Several learners of the field compete by cross-fitted Qini on the training data; a randomised share of treated customers
is what makes each of them right on average, so data without it are refused (`training.trial`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import lightgbm as lgb
import numpy as np
from sklearn.linear_model import RidgeCV
from threadpoolctl import threadpool_limits

from training.blend import Logistic, Vector
from training.models import TREES, fit_logistic, fold_of
from training.trial import Trial, require_outcomes
from training.uplift_evidence import HeldOut, qini
from training.uplift_model import Uplift, with_treatment

PENALTIES = np.logspace(-3, 1, 9)  # ridge penalty per row, chosen by leave-one-out error
FOLDS, REPEATS = 3, 2
RESPONSES = ("response model", "response model of the treated")
ROUNDS = 200
S_TREES = {**TREES, "feature_fraction": 1.0}  # every tree may split on the treatment


def t_logistic(trial: Trial) -> Uplift:
    """T-learner: one logistic for each arm. Source: Künzel et al. 2019, https://doi.org/10.1073/pnas.1804597116"""
    return Uplift("T-logistic", tuple(fit_logistic(trial.X[rows], trial.y[rows]) for rows in (trial.treated, ~trial.treated)))


def x_linear(trial: Trial) -> Uplift:
    """X-learner: each arm's outcome minus what the other arm's logistic expects of it, explained by a ridge regression.

    Source: Künzel et al. 2019, as above; the two regressions are weighted by the share of treated, known by design.
    """
    base = fit_logistic(trial.X, trial.y)
    treated, control = t_logistic(trial).lines
    gained = trial.y - _probability(control, trial)
    missed = _probability(treated, trial) - trial.y
    share = float(trial.treated.mean())
    ones = np.ones(len(trial))
    of_treated = _ridge(base, trial.take(trial.treated), gained[trial.treated], ones[trial.treated])
    of_control = _ridge(base, trial.take(~trial.treated), missed[~trial.treated], ones[~trial.treated])
    return Uplift("X-linear", (_mixed(of_control, of_treated, share),))


def r_linear(trial: Trial) -> Uplift:
    """R-learner: what is left of the outcome explained by what is left of the treatment, by a ridge regression.

    Source: Nie and Wager 2021, https://doi.org/10.1093/biomet/asaa076; the expected outcome is cross-fitted over
    customers, the share of treated is known by design.
    """
    expected = np.zeros(len(trial))
    folds = fold_of(trial.users, FOLDS)
    for fold in range(FOLDS):
        seen = folds != fold
        expected[~seen] = _probability(fit_logistic(trial.X[seen], trial.y[seen]), trial.take(~seen))
    excess = trial.treated - trial.treated.mean()
    return Uplift("R-linear", (_ridge(fit_logistic(trial.X, trial.y), trial, (trial.y - expected) / excess, excess**2),))


def s_trees(trial: Trial) -> Uplift:
    """S-learner: shallow boosted trees with the treatment as one more feature."""
    data = lgb.Dataset(with_treatment(trial.X, trial.treated), label=trial.y, params=S_TREES)
    booster = lgb.train({**S_TREES, "bagging_seed": 0, "feature_fraction_seed": 0}, data, num_boost_round=ROUNDS)
    return Uplift("S-trees", texts=(str(booster.model_to_string()),))


LEARNERS: Mapping[str, Callable[[Trial], Uplift]] = {"T-logistic": t_logistic, "X-linear": x_linear, "R-linear": r_linear, "S-trees": s_trees}
"""Name -> learner; the simplest first, which wins a tie."""


@dataclass(frozen=True)
class Fitted:
    """The chosen model, and the cross-fitted Qini of every learner that it was chosen by."""

    model: Uplift
    qini: Mapping[str, float]


def fit_uplift(trial: Trial) -> Fitted:
    """Choose the learner by cross-fitted Qini and fit it on all rows. The order of the rows does not matter.

    Raises:
        NoUsableData: fewer than 30 customers with or without the outcome in one arm.
    """
    require_outcomes(trial)
    trial = trial.sorted()
    found = dict.fromkeys(LEARNERS, 0.0)
    for repeat in range(REPEATS):
        folds = fold_of(trial.users, FOLDS, seed=repeat)
        for fold in range(FOLDS):
            seen, unseen = trial.take(folds != fold), trial.take(folds == fold)
            for name, learner in LEARNERS.items():
                found[name] += qini(unseen.y, unseen.treated, learner(seen).effect(unseen.X)) / (REPEATS * FOLDS)
    return Fitted(LEARNERS[max(found, key=lambda name: found[name])](trial), found)


def cross_fit(trial: Trial, *, fit: Callable[[Trial], Fitted] = fit_uplift, repeats: int = 4, folds: int = 2) -> list[HeldOut]:
    """Score every customer `repeats` times with models that were chosen and fitted without them.

    Beside the effect stand the scores of two response models, logistics of P(yes) and of P(yes | treated): whom people
    target who ask who will say yes, and not who is changed.
    """
    parts = []
    for repeat in range(repeats):
        fold = fold_of(trial.users, folds, seed=1_000 + repeat)  # not the folds of the choice
        for number in range(folds):
            seen, rows = trial.take(fold != number).sorted(), np.flatnonzero(fold == number)
            X, fitted, treated = trial.X[rows], fit(seen), seen.take(seen.treated)
            responses = {name: fit_logistic(learned.X, learned.y).logits(X) for name, learned in zip(RESPONSES, (seen, treated), strict=True)}
            parts.append(HeldOut(rows, fitted.model.effect(X), fitted.model.learner, responses))
    return parts


def _probability(logistic: Logistic, trial: Trial) -> Vector:
    return np.asarray(1.0 / (1.0 + np.exp(-logistic.logits(trial.X))))


def _ridge(base: Logistic, trial: Trial, target: Vector, weight: Vector) -> Logistic:
    """A line for the target on the inputs of `base`, with the penalty that leave-one-out error prefers."""
    with threadpool_limits(1):
        line = RidgeCV(alphas=PENALTIES * weight.sum()).fit(base.inputs(trial.X), target, sample_weight=weight)
    return replace(base, coef=tuple(float(value) for value in line.coef_), intercept=float(line.intercept_))


def _mixed(first: Logistic, second: Logistic, share: float) -> Logistic:
    """`share` of the first line and the rest of the second; both have the same inputs."""
    coef = tuple(share * one + (1 - share) * other for one, other in zip(first.coef, second.coef, strict=True))
    return replace(first, coef=coef, intercept=share * first.intercept + (1 - share) * second.intercept)
