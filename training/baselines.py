"""What a model must beat: the one-column rule that people use today, the RFM logistic, BG/NBD, a beta-binomial share.

Each is a bundle, so any can be served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.blend import Matrix
from training.btyd import fit_bgnbd
from training.bundle import Model
from training.buying import HISTORY, WORTH, Buying, history_of
from training.examples import Examples
from training.fit_share import fit_share
from training.fit_value import fit_rate, fit_worth
from training.fit_waiting import fit_bands, fit_returning
from training.models import Recipe, fit, fit_platt
from training.task import AskedTask

Fit = Callable[[Examples], Model]
LOGISTIC = Recipe(trees=0, folds=0)


def baselines_of(asked: AskedTask, examples: Examples) -> dict[str, tuple[tuple[str, ...], Fit]]:
    """Baseline -> the columns that it sees and how it is fitted on them.

    A rule of one column is a logistic of that column: the same order, and a probability. A baseline may see what a short
    log hides from the model: the BG/NBD model knows that a tenure is cut off.
    """
    knows_history = asked.task.bgnbd and examples.buyers and all(examples.has(column) for column in (*HISTORY, WORTH))
    candidates = BASELINES[asked.kind](asked)
    return {
        name: (columns, how)
        for name, (columns, how) in candidates.items()
        if columns and all(examples.has(column) for column in columns) and (knows_history or not name.startswith("bgnbd"))
    }


def _of_probability(asked: AskedTask) -> dict[str, tuple[tuple[str, ...], Fit]]:
    rule, rfm = (asked.task.rule,), asked.task.rfm
    return {
        "rule": (rule, _logistic(rule)),
        "rfm": (rfm, _logistic(rfm)),
        "bgnbd": (HISTORY, lambda rows: fit_buying(_buyers(rows), asked.horizon, rows)),
        "share": (asked.task.share, lambda rows: fit_share(_buyers(rows)[:, len(HISTORY) + 1 :], rows, asked.task.share)),
    }


def _of_rank(asked: AskedTask) -> dict[str, tuple[tuple[str, ...], Fit]]:
    return {name: found for name, found in _of_probability(asked).items() if name in ("rule", "rfm")}


def _of_value(asked: AskedTask) -> dict[str, tuple[tuple[str, ...], Fit]]:
    columns = (*HISTORY, WORTH)
    return {
        "rule": ((asked.task.rule,), lambda rows: fit_rate(rows, asked.task.rule)),
        "bgnbd": (columns, lambda rows: fit_worth(_buyers(rows), asked.label_days, rows, columns)),
    }


def _of_date(asked: AskedTask) -> dict[str, tuple[tuple[str, ...], Fit]]:
    return {
        "rule": ((asked.task.rule,), lambda rows: fit_bands(rows, asked.task.rule)),
        "bgnbd": (HISTORY, lambda rows: fit_returning(_buyers(rows)[:, :3], rows)),
    }


def _of_effect(asked: AskedTask) -> dict[str, tuple[tuple[str, ...], Fit]]:
    return {}  # response models are measured with the trial; none of them could be served as an effect


BASELINES = {"probability": _of_probability, "rank": _of_rank, "value": _of_value, "date": _of_date, "effect": _of_effect}


def _buyers(rows: Examples) -> Matrix:
    """Everybody who bought before the last cutoff, eligible or not."""
    return rows.buyers[max(set(rows.as_of))]


def _logistic(columns: tuple[str, ...]) -> Fit:
    return lambda rows: fit(rows.of(columns), rows.y, rows.users, LOGISTIC)


def fit_buying(buyers: Matrix, horizon: int, rows: Examples) -> Buying:
    """BG/NBD of everybody who ever bought, and Platt's line on the examples.

    Raises:
        NoUsableData: nobody came back.
    """
    usual = tuple(float(value) for value in np.median(np.nan_to_num(buyers[:, :3]), axis=0))
    made = Buying(fit_bgnbd(*history_of(buyers[:, :3])), horizon, (1.0, 0.0), usual)
    return replace(made, platt=fit_platt(made.raw(rows.of(HISTORY)), rows.y))
