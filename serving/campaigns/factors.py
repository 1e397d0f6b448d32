"""By factor: do members of one kind convert otherwise than those of another, and does the campaign do more for them? With tests, corrected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import alexandergovern, chi2, chi2_contingency, fisher_exact

from features.errors import UnknownName
from serving.campaigns.effect import LEAST_CONTROL, LEAST_OUTCOMES, Mask, Vector, plain_effect
from serving.campaigns.outcomes import Outcomes
from serving.campaigns.plan import Plan

BY_DEFAULT = ("membership_tier x membership_to_next_tier", "membership_visits_30d", "stage", "layers_layer")
LEAST_MEMBERS, MOST_LEVELS = 30, 8
OTHERS, UNKNOWN = "others", "unknown"


def by_factor(outcomes: Outcomes, plan: Plan, described: pd.DataFrame, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Each factor: its levels with members, rate or spend of each group and the difference; a test for each of two questions.

    differs: do members of the levels convert (or spend) otherwise, in the treatment group? Chi-square, Fisher's exact test where a count of under 5
    is expected, Alexander and Govern's for spend. effect_differs: is the difference to control another one? Cochran's Q. `p_corrected` are Holm's
    (1979, Scandinavian Journal of Statistics 6:65-70) over the factors, for each question apart.

    Args:
        described: features and labels of the members as they were at entry, in their order. names: features or labels, two of them joined by
            " x " for their combination; None for the usual ones that there are.

    Raises:
        UnknownName: no such feature or label.
    """
    chosen = names if names is not None else [name for name in BY_DEFAULT if set(name.split(" x ")) <= set(described.columns)]
    y, control = outcomes.measured(plan), ~outcomes.treated
    found: list[dict[str, Any]] = []
    for name in chosen:
        level = levels_of(described, name)
        rows = [_level(word, level == word, y, outcomes.treated, control) for word in dict.fromkeys(sorted(level))]
        found.append({"factor": name, "levels": rows, "differs": _differs(y[outcomes.treated], level[outcomes.treated]), "effect_differs": _effects(rows)})
    for question in ("differs", "effect_differs"):
        tested = [factor[question] for factor in found if factor[question]["p"] is not None]
        for one, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
            one["p_corrected"] = p
    return found


def levels_of(described: pd.DataFrame, name: str) -> npt.NDArray[np.str_]:
    """A factor's level of each member, in words: labels as they are, numbers by value if there are few, else "0" and above, else in thirds.
    Levels of under 30 members are put together.

    Raises:
        UnknownName: no such feature or label.
    """
    words: npt.NDArray[np.object_] = np.array([""] * len(described), dtype=object)
    for part in name.split(" x "):
        if part not in described:
            raise UnknownName("feature or label", part, [str(column) for column in described.columns])
        own = _words(described[part])
        words = own if not words[0] else words + ", " + own
    rare = pd.Series(words).map(pd.Series(words).value_counts()).to_numpy() < LEAST_MEMBERS
    common = pd.Series(words[~rare]).value_counts().index[:MOST_LEVELS]
    return np.where(np.isin(words, list(common)), words, OTHERS).astype(str)


def _words(column: pd.Series[Any]) -> npt.NDArray[np.object_]:
    if not pd.api.types.is_numeric_dtype(column):
        return column.astype(object).where(column.notna(), UNKNOWN).astype(str).to_numpy(dtype=object)
    known = column.dropna()
    unknown = column.isna().to_numpy()
    if known.nunique() <= 4:
        words = column.map(lambda value: f"{value:g}").to_numpy(dtype=object)
    elif (known == 0).mean() > 1 / 3:
        words = np.where(column.to_numpy() > 0, "above 0", "0").astype(object)
    else:
        edges = known.quantile([1 / 3, 2 / 3]).to_numpy()
        names = np.array([f"up to {edges[0]:.4g}", f"{edges[0]:.4g} to {edges[1]:.4g}", f"above {edges[1]:.4g}"], dtype=object)
        words = names[np.searchsorted(edges, column.fillna(0).to_numpy())]
    words[unknown] = UNKNOWN
    return words


def _level(word: str, mine: Mask, y: Vector, treated: Mask, control: Mask) -> dict[str, Any]:
    ours, theirs = y[mine & treated], y[mine & control]
    effect = plain_effect(y[mine], treated[mine]) if min(len(ours), len(theirs)) >= LEAST_CONTROL else None
    return {
        "level": word,
        "treated": len(ours),
        "control": len(theirs),
        "treated_mean": float(ours.mean()) if len(ours) else None,
        "control_mean": float(theirs.mean()) if len(theirs) else None,
        "difference": None if effect is None else effect.times(1),
        "error": None if effect is None else float(np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))),
    }


def _differs(y: Vector, level: npt.NDArray[np.str_]) -> dict[str, Any]:
    words = list(dict.fromkeys(level))
    parts = [y[level == word] for word in words]
    if len(parts) < 2 or y.min() == y.max():
        return {"test": None, "p": None, "p_corrected": None}
    if not np.isin(y, (0.0, 1.0)).all():
        known = [part for part in parts if len(part) > 1 and part.std() > 0]
        p = float(alexandergovern(*known).pvalue) if len(known) > 1 else None
        return {"test": "Alexander-Govern", "p": p, "p_corrected": None}
    table = np.array([[part.sum(), len(part) - part.sum()] for part in parts])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    if expected.min() >= LEAST_OUTCOMES or len(table) > 2:
        return {"test": "chi-square", "p": float(chi2_contingency(table, correction=False).pvalue), "p_corrected": None}
    return {"test": "Fisher", "p": float(fisher_exact(table).pvalue), "p_corrected": None}


def _effects(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Cochran's Q (1954, Biometrics 10:101-129): whether the differences of the levels are further apart than chance explains."""
    told = [row for row in rows if row["difference"] is not None and row["error"]]
    if len(told) < 2:
        return {"test": None, "p": None, "p_corrected": None}
    values, weights = np.array([row["difference"]["value"] for row in told]), np.array([row["error"] for row in told]) ** -2.0
    q = float((weights * (values - np.average(values, weights=weights)) ** 2).sum())
    return {"test": "Cochran's Q", "p": float(chi2.sf(q, len(told) - 1)), "p_corrected": None}


def holm(p: Sequence[float]) -> list[float]:
    """p-values so corrected that the chance of any false finding stays below the level; see `by_factor`."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate([min(1.0, (len(p) - place) * p[row]) for place, row in enumerate(order)]) if len(p) else np.empty(0)
    corrected: Vector = np.empty(len(p))
    corrected[order] = stepped
    return [float(value) for value in corrected]
