"""Conditions in words, as the rules of seeds are written, such as `super users` or `orders_count >= 3 and layer is not lapsed`.

They become the same conditions that JSON says. For the command line: the rules of seeds need the training part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from features.conditions import Condition
from features.errors import MissingExtra
from features.vocabulary import STAGES
from serving.audiences.conditions import Mistake
from serving.audiences.rules import InvalidRule
from serving.release import Release


@dataclass(frozen=True)
class _Columns:
    """What the rules of seeds ask of a snapshot."""

    feature_names: list[str]
    label_names: list[str]
    table: dict[str, Any]


def condition_of(text: str, release: Release) -> Condition:
    """A condition given as JSON or in words.

    Raises:
        InvalidRule: it is neither; everything that is wrong is listed. MissingExtra: words without the training part.
    """
    if text.lstrip().startswith("{"):
        try:
            return cast(Condition, json.loads(text))
        except ValueError as error:
            raise InvalidRule("The condition cannot be read.", (Mistake("where", f"is no JSON: {error}"),)) from None
    try:
        from training.lookalike.rules import conditions_of
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    columns = _Columns(list(release.features), list(release.labels), {**release.labels, "stage": pa.array(STAGES)})
    found, problems = conditions_of(text, cast(Any, columns))
    if problems:
        raise InvalidRule(f"The condition has {len(problems)} mistake(s):", tuple(Mistake("where", problem) for problem in problems))
    parts = [_as_json(one.column, one.op, one.value) for one in found]
    return parts[0] if len(parts) == 1 else {"all": parts}


def _as_json(column: str, op: str, value: float | tuple[str, ...] | None) -> Condition:
    if value is None:
        return {"feature": column, "known": op == "is"}
    if op in (">=", "<="):
        return {"feature": column, "at_least" if op == ">=" else "at_most": value}
    is_this: Condition = {"feature": column, "is": list(value) if isinstance(value, tuple) else value}
    if op == "is":
        return is_this
    other: Condition = is_this if op == "is not" else {"feature": column, "at_most" if op == ">" else "at_least": value}
    return {"all": [{"feature": column, "known": True}, {"not": other}]}
