"""Conditions on the behaviour vector, as data: whom a prediction, a goal or an audience is about.

    { "all": [{ "feature": "orders_count", "at_least": 2 }, { "not": { "feature": "satisfaction_refunds_90d", "at_least": 1 } }] }

A condition names a feature and says at_least, at_most, is (a value or a list of them) or known of it; `all`, `any` and `not` join
conditions. What has no value fulfils no condition but `"known": false`; `not` is the complement. One code reads them for a table of
everybody and for one user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Condition = Mapping[str, Any]
Mask = npt.NDArray[np.bool_]


def holds(condition: Condition, of_leaf: Callable[[Condition], Mask]) -> Mask:
    """Who fulfils a condition: one truth for each user.

    Args:
        of_leaf: the same for a condition that joins no others.
    """
    if "not" in condition:
        return ~holds(condition["not"], of_leaf)
    for join, together in (("all", np.logical_and), ("any", np.logical_or)):
        if join in condition:
            return np.asarray(together.reduce([holds(part, of_leaf) for part in condition[join]]))
    return of_leaf(condition)


def of_values(condition: Condition, values: npt.NDArray[np.float64] | np.float64) -> Mask:
    """Which values, NaN for none, fulfil what a condition says of them."""
    is_known = ~np.isnan(values)
    mask = is_known if condition.get("known", True) else ~is_known
    if "at_least" in condition:
        mask = mask & (values >= condition["at_least"])
    if "at_most" in condition:
        mask = mask & (values <= condition["at_most"])
    if "is" in condition:
        allowed = condition["is"]
        mask = mask & np.logical_or.reduce([values == float(one) for one in (allowed if isinstance(allowed, list | tuple) else [allowed])])
    return np.asarray(mask)


def leaves(condition: Condition) -> Iterator[Condition]:
    """The conditions that join no others."""
    if "not" in condition:
        yield from leaves(condition["not"])
    elif parts := condition.get("all", condition.get("any")):
        for part in parts:
            yield from leaves(part)
    elif "feature" in condition:
        yield condition


def features_in(condition: Condition) -> tuple[str, ...]:
    """The features that a condition speaks of, each once."""
    return tuple(dict.fromkeys(str(leaf["feature"]) for leaf in leaves(condition)))
