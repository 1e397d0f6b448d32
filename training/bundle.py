"""Bundle: a fitted model as text and JSON, and the arithmetic that turns feature rows into scores.

Training, batch and service score with this module alone. Additions happen in one fixed order, so that a user's score
is the same to the last bit whether the user is scored alone or among millions. It needs numpy and lightgbm, nothing
else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from features.errors import BundleRefused
from features.files import canonical_json, read_json, sha256_of, sha256_of_bytes, write_bytes

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

CLIP = 4.0  # standardised inputs beyond this carry no more weight: it keeps a logistic sane on heavy tails
FORMAT = 1


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on imputed, sign-logged, standardised and clipped columns.

    columns: positions in the bundle's features; median, mean, scale, coef: one value per column; intercept.
    """

    columns: tuple[int, ...]
    median: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coef: tuple[float, ...]
    intercept: float

    def inputs(self, rows: Matrix) -> Matrix:
        """Rows x columns as the regression sees them."""
        return standardise(rows[:, list(self.columns)], self.median, self.mean, self.scale)

    def logits(self, rows: Matrix) -> Vector:
        """Column after column: a dot product would add up in another order for another number of rows."""
        total = np.full(len(rows), self.intercept)
        for coefficient, values in zip(self.coef, self.inputs(rows).T, strict=True):
            total += coefficient * values
        return total


@dataclass(frozen=True)
class Bundle:
    """A model of one task: the mean of a logistic's and some boosted trees' logits, then Platt's line.

    features: names in the order of the columns; trees: LightGBM models as text, whose logits are averaged;
    platt: (slope, offset) of the calibration; about: task, provenance and words, as plain JSON values;
    reference: distribution of features and scores in training; golden: rows and their logits.
    """

    features: tuple[str, ...]
    logistic: Logistic
    trees: tuple[str, ...]
    platt: tuple[float, float]
    about: Mapping[str, Any]
    reference: Mapping[str, Any]
    golden: Mapping[str, Any]

    @cached_property
    def boosters(self) -> list[lgb.Booster]:
        return [lgb.Booster(model_str=text) for text in self.trees]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that makes the bundle."""
        return sha256_of_bytes(_header(self).encode())

    @property
    def task(self) -> str:
        return str(self.about["task"])

    @property
    def calibrated(self) -> bool:
        """Whether the scores are probabilities (else ranks)."""
        return bool(self.about["calibrated"])

    def logits(self, rows: Matrix) -> Vector:
        """Calibrated log-odds of rows x features (NaN for no value), in the order of `features`."""
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        if rows.shape[1] != len(self.features):
            raise BundleRefused(f"Rows have {rows.shape[1]} columns, the model of '{self.task}' has {len(self.features)} features.")
        slope, offset = self.platt
        return slope * blend_logits(rows, self.logistic, self.boosters) + offset

    def scores(self, rows: Matrix) -> Vector:
        """Probabilities (for a look-alike: numbers that only rank), one per row."""
        return 1.0 / (1.0 + np.exp(-self.logits(rows)))

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1): exact signed shares of the log-odds; the last column is what everybody starts from.

        Trees: TreeSHAP (Lundberg et al. 2020, https://doi.org/10.1038/s42256-019-0138-9) as LightGBM computes it;
        logistic: coefficient x standardised value, whose mean over the training rows is about zero. Each row adds up
        to its log-odds.
        """
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        linear = np.zeros((len(rows), len(self.features) + 1))
        inputs = self.logistic.inputs(rows)
        for position, coefficient, values in zip(self.logistic.columns, self.logistic.coef, inputs.T, strict=True):
            linear[:, position] += coefficient * values
        linear[:, -1] = self.logistic.intercept
        trees = [np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1)) for booster in self.boosters]
        slope, offset = self.platt
        shares: Matrix = slope * _blend(linear, trees)
        shares[:, -1] += offset
        return shares

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
        off = np.abs(self.logits(rows) - np.array(self.golden["logits"])).max(initial=0.0)
        if not off <= 1e-9:
            raise BundleRefused(f"The model of '{self.task}' does not reproduce its golden rows (off by {off:.3g}). Publish it again from its run.")


def standardise(values: Matrix, median: Sequence[float], mean: Sequence[float], scale: Sequence[float]) -> Matrix:
    """Impute the median, take the signed logarithm, standardise, clip."""
    return np.clip((signed_log(values, median) - mean) / scale, -CLIP, CLIP)


def signed_log(values: Matrix, median: Sequence[float]) -> Matrix:
    """Impute the median and take the signed logarithm."""
    filled = np.where(np.isnan(values), median, values)
    return np.sign(filled) * np.log1p(np.abs(filled))


def blend_logits(rows: Matrix, logistic: Logistic, boosters: Sequence[lgb.Booster]) -> Vector:
    """Uncalibrated log-odds: the mean of the logistic's and the mean of the trees'."""
    return _blend(logistic.logits(rows), [np.asarray(booster.predict(rows, raw_score=True, num_threads=1)) for booster in boosters])


def golden_rows(bundle: Bundle, rows: Matrix) -> dict[str, Any]:
    """Some rows with the logits that the bundle gives them, as JSON values."""
    return {
        "rows": [[None if np.isnan(value) else float(value) for value in row] for row in rows],
        "logits": [float(value) for value in bundle.logits(rows)],
    }


def save_bundle(bundle: Bundle, directory: Path) -> None:
    """Write `bundle.json` and one text file per tree model."""
    for number, text in enumerate(bundle.trees):
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
        logistic: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in header["logistic"].items()}
        return Bundle(
            features=tuple(header["features"]),
            logistic=Logistic(**logistic),
            trees=tuple(trees),
            platt=(header["platt"][0], header["platt"][1]),
            about=header["about"],
            reference=header["reference"],
            golden=header["golden"],
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
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
            "features": bundle.features,
            "logistic": vars(bundle.logistic),
            "trees": [sha256_of_bytes(text.encode()) for text in bundle.trees],
            "platt": bundle.platt,
            "about": bundle.about,
            "reference": bundle.reference,
            "golden": bundle.golden,
        }
    )


def _blend(linear: Matrix, trees: Sequence[Matrix]) -> Matrix:
    if not trees:
        return linear
    total = trees[0].copy()
    for part in trees[1:]:
        total += part
    return 0.5 * linear + 0.5 * (total / len(trees))
