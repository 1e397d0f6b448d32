"""Segment rules: whom a line of words means, such as `super users` or `orders_count >= 3 and layer is not lapsed`.

A rule is one condition or several joined by `and`. A condition is a segment by its name (a layer or a value group, or
`loyal`, which is both kinds of loyal layer) or `feature op value`: >=, <=, >, <, =, != and a number for a feature; is, is not
and one or more words joined by `or` for a label; `is known`, `is unknown` for both. Amounts are in cents, as features are. A
feature without a value fulfils no condition but `is unknown`. Nothing is evaluated: a rule is matched against this and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import unknown_name
from features.snapshot import Snapshot
from features.views.layers import GROUPS
from features.vocabulary import STAGES
from training.shop_value import LAYERS

Mask = npt.NDArray[np.bool_]

SHORT = {"layer": "layers_layer", "group": "layers_rfm_group"}
WORDS = {"layers_layer": LAYERS, "layers_rfm_group": GROUPS, "stage": STAGES}
LOYAL = ("loyal", "loyal full-price")
AND = re.compile(r"""\s+and\s+(?=(?:[^"]*"[^"]*")*[^"]*$)""", re.IGNORECASE)
CONDITION = re.compile(r"(?P<name>[^\s<>=!]+)\s*(?P<op>>=|<=|!=|==|=|>|<|\s+is\s+not\s+|\s+is\s+)\s*(?P<value>.+)", re.IGNORECASE)
COMPARES: dict[str, Callable[[npt.NDArray[np.float64], float], Mask]] = {
    ">=": np.greater_equal,
    "<=": np.less_equal,
    ">": np.greater,
    "<": np.less,
    "is": np.equal,
    "is not": np.not_equal,
}


@dataclass(frozen=True)
class Condition:
    """column: of the snapshot; op: a key of COMPARES; value: a number, the words of a label, or None for `is (not) known`."""

    column: str
    op: str
    value: float | tuple[str, ...] | None


def conditions_of(rule: str, snapshot: Snapshot) -> tuple[list[Condition], list[str]]:
    """The conditions of a rule, and everything that is wrong with it, in words."""
    found: list[Condition] = []
    problems: list[str] = []
    for text in AND.split(rule.strip()):
        read = _condition(text.strip(), snapshot)
        (problems if isinstance(read, str) else found).append(read)  # type: ignore[arg-type]
    return found, problems


def holds(conditions: Sequence[Condition], snapshot: Snapshot) -> Mask:
    """Which users of the snapshot fulfil all conditions."""
    mask = np.ones(snapshot.table.num_rows, dtype=bool)
    for condition in conditions:
        mask &= _holds(condition, snapshot)
    return mask


def _holds(condition: Condition, snapshot: Snapshot) -> Mask:
    column = snapshot.table[condition.column]
    if condition.column not in snapshot.feature_names:
        is_known = np.asarray(pc.is_valid(column))
        if condition.value is None:
            return np.asarray(is_known if condition.op == "is" else ~is_known)
        is_one = np.asarray(pc.fill_null(pc.is_in(column.cast("string"), _texts(condition.value)), False))
        return np.asarray(is_one if condition.op == "is" else is_known & ~is_one)
    values = column.to_numpy(zero_copy_only=False)
    is_known = ~np.isnan(values)
    if condition.value is None:
        return np.asarray(is_known if condition.op == "is" else ~is_known)
    return np.asarray(is_known & COMPARES[condition.op](values, float(condition.value)))  # type: ignore[arg-type]


def _texts(words: float | tuple[str, ...]) -> pa.Array:
    return pa.array(list(words) if isinstance(words, tuple) else [str(words)], pa.string())


def _condition(text: str, snapshot: Snapshot) -> Condition | str:
    parts = CONDITION.fullmatch(text)
    if parts is None:
        return _segment(text, snapshot)
    name, op = parts["name"], " ".join(parts["op"].lower().split())
    op = {"=": "is", "==": "is", "!=": "is not"}.get(op, op)
    column = column_of(name, snapshot)
    if column is None:
        return unknown_name("feature", name, [*SHORT, *labels_of(snapshot), *snapshot.feature_names])
    words = tuple(word.strip().strip('"') for word in re.split(r"\s+or\s+", parts["value"].strip()))
    if op in ("is", "is not") and words in (("known",), ("unknown",)):
        return Condition(column, "is" if (op == "is") == (words == ("known",)) else "is not", None)
    return _of_label(column, op, words, snapshot) if column in labels_of(snapshot) else _of_feature(column, op, parts["value"].strip())


def labels_of(snapshot: Snapshot) -> list[str]:
    """The columns that hold words."""
    return ["stage", *snapshot.label_names]


def column_of(name: str, snapshot: Snapshot) -> str | None:
    """The snapshot's column that a name means: its own, a short word for it, or the name of an attribute."""
    known = {*labels_of(snapshot), *snapshot.feature_names}
    return next((one for one in (name, SHORT.get(name, name), f"attributes_{name}") if one in known), None)


def _of_label(column: str, op: str, words: tuple[str, ...], snapshot: Snapshot) -> Condition | str:
    if op not in ("is", "is not"):
        return f"'{column}' holds words: say `{column} is WORD` or `{column} is not WORD`, not '{op}'"
    known = _values(column, snapshot)
    wrong = [word for word in words if word not in known]
    return unknown_name(f"value of '{column}'", wrong[0], known) if wrong else Condition(column, op, words)


def _of_feature(column: str, op: str, value: str) -> Condition | str:
    try:
        number = float(value)
    except ValueError:
        return f"'{column}' is a number: say `{column} {op} 3`, not '{value}'. Amounts are in minor units (cents); conditions are joined by `and`"
    return Condition(column, op, number) if np.isfinite(number) else f"'{column} {op} {value}': the value must be a finite number"


def _segment(text: str, snapshot: Snapshot) -> Condition | str:
    """A layer or value group by its name, one or many of them: "super users"."""
    segments = {word: Condition(column, "is", (word,)) for column in SHORT.values() if column in snapshot.label_names for word in _values(column, snapshot)}
    if "layers_layer" in snapshot.label_names:
        segments = {"loyal": Condition("layers_layer", "is", LOYAL), "super user": Condition("layers_layer", "is", ("super user",))} | segments
        segments["loyal"] = Condition("layers_layer", "is", LOYAL)
    asked = text.strip('"').lower()
    for name in (asked, asked.removesuffix("s")):
        if name in segments:
            return segments[name]
    return unknown_name("segment", text, sorted(segments)) + " Or a condition such as `orders_count >= 3`."


def _values(column: str, snapshot: Snapshot) -> list[str]:
    """The words that occur, and those of layers and groups that could."""
    found = {word for word in pc.unique(snapshot.table[column].cast("string")).to_pylist() if word is not None}
    return sorted(found | {*WORDS.get(column, ())})
