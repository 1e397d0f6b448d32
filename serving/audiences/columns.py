"""Columns of a release as conditions ask for them: features in one piece, labels and bands as places among their words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.vocabulary import STAGES
from serving.audiences.memory import is_remembered, remembered
from serving.release import Release

Floats = npt.NDArray[np.float64]

BANDS = ("low", "medium", "high")
LOW, HIGH = 20, 80  # percentiles between which the medium band lies, as `serving.scorer` has them
SHORT = {"layer": "layers_layer", "group": "layers_rfm_group"}  # as in the rules of seeds
BLOCK = 20_000  # users whose vectors are walked through at once


def words_of(release: Release) -> list[str]:
    """The columns that hold words."""
    return ["stage", *release.labels]


def column_of(name: str, release: Release) -> str | None:
    """The column that a name means: its own, a short word for it, or the name of an attribute."""
    known = {*words_of(release), *release.features}
    return next((one for one in (name, SHORT.get(name, name), f"attributes_{name}") if one in known), None)


def label_places(column: str, release: Release) -> tuple[npt.NDArray[Any], list[str]]:
    if column == "stage":
        return release.stages, list(STAGES)
    label = release.labels[column]
    return remembered(release, ("label", column), lambda: _places(label)), [str(word) for word in label.dictionary.to_pylist()]


def _places(label: pa.DictionaryArray) -> npt.NDArray[Any]:
    places = label.indices.fill_null(-1) if label.indices.null_count else label.indices
    return np.frombuffer(places.buffers()[1], dtype=f"i{places.type.bit_width // 8}", count=len(places), offset=places.offset * places.type.bit_width // 8)


def band_places(release: Release, task: str) -> npt.NDArray[np.int8]:
    percentile = release.scores[task].percentile
    codes = (percentile >= LOW).astype(np.int8) + (percentile >= HIGH)
    codes[np.isnan(percentile)] = -1
    return codes.astype(np.int8)


def feature(release: Release, name: str) -> Floats:
    """A feature of all users, in one piece: in the release it lies strewn over the vectors, which takes a walk through all of them."""
    place = release.features.index(name)
    return remembered(release, ("feature", name), lambda: np.ascontiguousarray(release.vectors[:, place]))


def fetch(release: Release, names: Sequence[str]) -> None:
    """Take several features out of the vectors in one walk, block by block, so that each part of them is read once."""
    wanted = [name for name in names if not is_remembered(release, ("feature", name))]
    if len(wanted) < 2:
        return
    places, taken = [release.features.index(name) for name in wanted], np.empty((len(wanted), len(release.users)))
    for start in range(0, len(release.users), BLOCK):
        taken[:, start : start + BLOCK] = release.vectors[start : start + BLOCK, places].T
    for name, values in zip(wanted, taken, strict=True):
        remembered(release, ("feature", name), values.copy)
