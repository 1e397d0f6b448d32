"""Bundle: a fitted model as text and JSON, with its feature names, its words and its golden rows.

Training, batch and service score with this module alone. It needs numpy and lightgbm, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from features.errors import BundleRefused
from features.files import canonical_json, read_json, sha256_of, sha256_of_bytes, write_bytes
from training.blend import Blend, Matrix, Vector
from training.buying import Buying, Returning, Worth
from training.hazard import Bands, Hazard
from training.lookalike.likeness import Likeness
from training.share import Share
from training.uplift_model import Uplift
from training.value import Rate, Value

FORMAT = 2


class Model(Protocol):
    """What a bundle can hold: numbers and LightGBM texts, and how they score rows x features (NaN for no value)."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The LightGBM models in it."""

    def describe(self) -> dict[str, Any]:
        """Everything else of it, as plain JSON values; `of(described, texts)` makes the model again."""

    def scores(self, rows: Matrix) -> Vector:
        """The number that ranks users, one per row."""

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """What else it says of each row, by name."""

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of what is explained; the last column is what everybody starts from."""


MODELS: dict[str, Any] = {
    "blend": Blend,
    "bgnbd": Buying,
    "value": Value,
    "rate": Rate,
    "bgnbd_gamma_gamma": Worth,
    "hazard": Hazard,
    "bands": Bands,
    "bgnbd_waiting": Returning,
    "uplift": Uplift,
    "share": Share,
    "likeness": Likeness,
}
"""Name in the file -> kind of model. A new kind is a new file and one line here."""


@dataclass(frozen=True)
class Bundle:
    """A model of one task.

    features: names in the order of the columns; about: task, provenance and words, as plain JSON values;
    reference: distribution of features and scores in training; golden: rows and their scores.
    """

    features: tuple[str, ...]
    model: Model
    about: Mapping[str, Any]
    reference: Mapping[str, Any]
    golden: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that makes the bundle."""
        return sha256_of_bytes(_header(self).encode())

    @property
    def task(self) -> str:
        return str(self.about["task"])

    @property
    def kind(self) -> str:
        """What its prediction is a prediction of: probability, rank, value, date or effect."""
        return str(self.about["kind"])

    @property
    def calibrated(self) -> bool:
        """Whether the scores are probabilities."""
        return bool(self.about["calibrated"])

    def scores(self, rows: Matrix) -> Vector:
        """The number that ranks users, one per row of rows x features in the order of `features`: a probability for most tasks."""
        return self.model.scores(self.checked(rows))

    def details(self, rows: Matrix) -> dict[str, Vector]:
        """What else the model says of each row, by name."""
        return self.model.details(self.checked(rows))

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of the log-odds (of another number where the model says so); the last
        column is what everybody starts from, and each row adds up."""
        return self.model.contributions(self.checked(rows))

    def checked(self, rows: Matrix) -> Matrix:
        """The rows as an array in memory order, with as many columns as there are features."""
        if rows.shape[1] != len(self.features):
            raise BundleRefused(f"Rows have {rows.shape[1]} columns, the model of '{self.task}' has {len(self.features)} features.")
        return np.ascontiguousarray(rows, dtype=np.float64)

    def align(self, names: Sequence[str]) -> list[int]:
        """Positions of the bundle's features among `names`: features are matched by name, never by place.

        Raises:
            BundleRefused: features that `names` lacks, all listed.
        """
        places = {name: position for position, name in enumerate(names)}
        missing = [name for name in self.features if name not in places]
        if missing:
            raise BundleRefused(
                f"The model of '{self.task}' needs {len(missing)} feature(s) that the snapshot lacks: {', '.join(missing)}. "
                "Publish a snapshot made with the catalogue that the model was trained on, or retrain."
            )
        return [places[name] for name in self.features]

    def check_golden_rows(self) -> None:
        """Score the rows that were kept at training time.

        Raises:
            BundleRefused: this machine gets other scores than training did.
        """
        rows = np.array([[np.nan if value is None else value for value in row] for row in self.golden["rows"]], dtype=np.float64)
        expected = np.array(self.golden["scores"])
        off = (np.abs(self.scores(rows) - expected) / np.maximum(np.abs(expected), 1e-9)).max(initial=0.0)
        if not off <= 1e-9:
            raise BundleRefused(f"The model of '{self.task}' does not reproduce its golden rows (off by {off:.3g}). Publish it again from its run.")


def golden_rows(bundle: Bundle, rows: Matrix) -> dict[str, Any]:
    """Some rows with the scores that the bundle gives them, as JSON values."""
    return {
        "rows": [[None if np.isnan(value) else float(value) for value in row] for row in rows],
        "scores": [float(value) for value in bundle.scores(rows)],
    }


def save_bundle(bundle: Bundle, directory: Path) -> None:
    """Write `bundle.json` and one text file per tree model."""
    for number, text in enumerate(bundle.model.texts):
        write_bytes(directory / f"trees_{number}.txt", text.encode())
    write_bytes(directory / "bundle.json", _header(bundle).encode())


def load_bundle(directory: Path, digest: str | None = None) -> Bundle:
    """Read a bundle; every file is held against its hash before LightGBM opens it, which would abort on a torn one.

    Args:
        digest: the bundle's own digest, where the caller knows which bundle it wants.

    Raises:
        BundleRefused: a file is missing, torn, changed or of another format.
    """
    try:
        header = read_json(directory / "bundle.json")
        seen = sha256_of(directory / "bundle.json")
        if digest is not None and seen != digest:
            raise BundleRefused(f"{directory.name}/bundle.json was changed after it was made (its hash differs).")
        if header["format"] != FORMAT:
            raise BundleRefused(f"{directory.name} has bundle format {header['format']}; this version of Encore reads format {FORMAT}.")
        trees = [_verified(directory / f"trees_{number}.txt", sha256) for number, sha256 in enumerate(header["trees"])]
        model = MODELS[header["kind"]].of(header["model"], trees)
        return Bundle(tuple(header["features"]), model, header["about"], header["reference"], header["golden"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise BundleRefused(f"Bundle {directory.name} cannot be read: {type(error).__name__}: {error}") from None


def _verified(path: Path, sha256: str) -> str:
    content = path.read_bytes()
    if sha256_of_bytes(content) != sha256:
        raise BundleRefused(f"{path.parent.name}/{path.name} was changed after it was made (its hash differs).")
    return content.decode()


def _header(bundle: Bundle) -> str:
    return canonical_json(
        {
            "format": FORMAT,
            "kind": next(name for name, kind in MODELS.items() if isinstance(bundle.model, kind)),
            "features": bundle.features,
            "model": bundle.model.describe(),
            "trees": [sha256_of_bytes(text.encode()) for text in bundle.model.texts],
            "about": bundle.about,
            "reference": bundle.reference,
            "golden": bundle.golden,
        }
    )
