"""Many scores as JSON text, column by column: Arrow writes a thousand numbers in the time in which Python writes a hundred."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import to_json

from features.money import minor_units
from features.vocabulary import STAGES
from serving.scorer import HIGH, LOW

BANDS = ("low", "medium", "high")
Columns = Sequence[npt.NDArray[Any]]  # score, percentile, stage_percentile, place of the stage, details
Text = Any  # a pa.Array of one JSON value for each user, of texts without their quotes; pyarrow has no types
WORDS = ("user_id", "stage", "band")  # the fields that are texts


def written_together(alike: Mapping[str, Any], kind: str, details: Sequence[str], columns: Columns, currency: str) -> list[bytes]:
    """One JSON object for each user who has a score.

    Args:
        alike: what is the same for everybody, by name and in the order of the fields; "user_id" has their ids.
        kind: of the prediction. details: names of what else it says. columns: of those users. currency: the shop's.
    """
    raw, percentile, stage_percentile, stages, *more = columns
    if not len(raw):
        return []
    fields = {"user_id": _ids(alike["user_id"]), "percentile": _numbers(percentile), "stage_percentile": _numbers(stage_percentile)}
    fields |= _shown(kind, raw, percentile, currency)
    bands = np.searchsorted((LOW, HIGH), percentile, "right")
    fields |= {"stage": pa.array(STAGES).take(_plain(stages.astype(np.int64))), "band": pa.array(BANDS).take(_plain(bands))}
    if details:
        fields["details"] = _object(dict(zip(details, map(_numbers, more), strict=True)))
    rows: list[bytes] = _object({name: fields.get(name, value) for name, value in alike.items()}, WORDS).cast(pa.binary()).to_pylist()
    return rows


def _shown(kind: str, raw: npt.NDArray[np.float64], percentile: npt.NDArray[np.float64], currency: str) -> dict[str, Any]:
    """What `scorer.shown` says of each."""
    is_chance = kind in ("probability", "date")
    numbers = _numbers(raw / minor_units(currency) if kind == "value" else raw)
    said = {"probability": is_chance, "value": kind == "value", "effect": kind == "effect"}
    return {name: numbers if is_said else None for name, is_said in said.items()} | {"score": _numbers(rounded(100 * raw if is_chance else percentile))}


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`round(value, 2)` of each, to the bit."""
    with np.errstate(over="ignore", invalid="ignore"):
        hundredfold = 100 * values
        found = np.rint(hundredfold) / 100
        near = np.abs(hundredfold - np.floor(hundredfold) - 0.5) < 1e-6
    # Multiplying may have moved a value over the middle between two hundredths, and huge ones by more than a hundredth: these are left to Python.
    unsure = np.flatnonzero(near | ~(np.abs(values) < 1e6))
    found[unsure] = [round(value, 2) for value in values[unsure].tolist()]
    return found


def _ids(ids: Sequence[str]) -> Text:
    together = "".join(ids)  # ids of known users have no control characters
    plain = '"' not in together and "\\" not in together
    return pa.array(ids if plain else [to_json(user).decode()[1:-1] for user in ids], pa.string())


def _numbers(values: npt.NDArray[np.float64]) -> Text:
    """As Arrow writes them: the shortest text that is the same number; null for what is none."""
    numbers = _plain(values)
    texts = numbers.cast(pa.string())
    return texts if np.isfinite(values).all() else pc.if_else(pc.is_finite(numbers), texts, "null")


def _plain(values: npt.NDArray[Any]) -> pa.Array:
    """Numbers where they lie."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _object(fields: Mapping[str, Any], words: Collection[str] = ()) -> Text:
    """One object for each user; a field is the same for everybody unless it is an array. words: the arrays that need quotes."""
    pieces: list[Any] = []
    text = "{"
    for place, (name, value) in enumerate(fields.items()):
        quote = '"' if name in words else ""
        text += f"{',' if place else ''}{to_json(name).decode()}:"
        if isinstance(value, pa.Array):
            pieces += [text + quote, value]
            text = quote
        else:
            text += to_json(value).decode()
    return pc.binary_join_element_wise(*pieces, text + "}", "")
