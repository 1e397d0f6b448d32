"""LightGBM's C library without its Python package, which brings pandas and scikit-learn: a second and 140 MB.

Scoring goes through here in training, batch and service alike, so that the last bit agrees. A torn model text ends the
process: hold it against its hash before it comes here.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path
from weakref import finalize

import numpy as np
import numpy.typing as npt

from features.errors import BundleRefused, MissingExtra

Matrix = npt.NDArray[np.float64]

# Of the C API, https://lightgbm.readthedocs.io/en/stable/C-API.html
RAW_SCORE, CONTRIBUTIONS = 1, 3
FLOAT64, ROW_MAJOR, FROM_THE_FIRST, ALL_TREES = 1, 1, 0, -1
ONE_THREAD = b"num_threads=1 verbosity=-1"  # LightGBM's default on a busy machine costs milliseconds a row


@cache
def library() -> ctypes.CDLL:
    """The library that lies inside the installed package, which is not imported.

    Raises:
        MissingExtra: LightGBM is not installed.
    """
    package = importlib.util.find_spec("lightgbm")
    places = list(package.submodule_search_locations or ()) if package else []
    found = [file for place in places for file in sorted(Path(place).glob("*/lib_lightgbm.*"))]
    if not found:
        raise MissingExtra("serve", "lightgbm")
    opened = ctypes.CDLL(str(found[0]))
    opened.LGBM_GetLastError.restype = ctypes.c_char_p
    for name, *types in _SIGNATURES:
        getattr(opened, name).argtypes = types
    return opened


_HANDLE, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_OUT_HANDLE, _OUT_INT, _OUT_LENGTH = ctypes.POINTER(_HANDLE), ctypes.POINTER(_INT), ctypes.POINTER(ctypes.c_int64)
_SIGNATURES = (
    ("LGBM_BoosterLoadModelFromString", _TEXT, _OUT_INT, _OUT_HANDLE),
    ("LGBM_BoosterFree", _HANDLE),
    ("LGBM_BoosterGetNumFeature", _HANDLE, _OUT_INT),
    ("LGBM_BoosterPredictForMat", _HANDLE, _HANDLE, _INT, ctypes.c_int32, ctypes.c_int32, _INT, _INT, _INT, _INT, _TEXT, _OUT_LENGTH, _HANDLE),
    ("LGBM_BoosterPredictForMatSingleRowFastInit", _HANDLE, _INT, _INT, _INT, _INT, ctypes.c_int32, _TEXT, _OUT_HANDLE),
    ("LGBM_BoosterPredictForMatSingleRowFast", _HANDLE, _HANDLE, _OUT_LENGTH, _HANDLE),
    ("LGBM_FastConfigFree", _HANDLE),
)


class Booster:
    """A fitted model, to be asked.

    Args:
        model_str: LightGBM's text, verified.

    Raises:
        BundleRefused: LightGBM cannot read the text, or rows have another number of columns than the model has features.
    """

    def __init__(self, model_str: str) -> None:
        handle, features, rounds = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        _checked(library().LGBM_BoosterLoadModelFromString(model_str.encode(), rounds, handle))
        finalize(self, library().LGBM_BoosterFree, handle)
        _checked(library().LGBM_BoosterGetNumFeature(handle, features))
        self._handle, self.features = handle, features.value
        self._score_one, self._share_one = self._prepared(RAW_SCORE), self._prepared(CONTRIBUTIONS)
        self._ask_one = library().LGBM_BoosterPredictForMatSingleRowFast

    def _prepared(self, what: int) -> ctypes.c_void_p:
        """A question for one row that is parsed once; LightGBM lets one thread at a time through it."""
        made = ctypes.c_void_p()
        _checked(library().LGBM_BoosterPredictForMatSingleRowFastInit(self._handle, what, FROM_THE_FIRST, ALL_TREES, FLOAT64, self.features, ONE_THREAD, made))
        finalize(self, library().LGBM_FastConfigFree, made)
        return made

    def raw(self, rows: Matrix) -> npt.NDArray[np.float64]:
        """The sum of the leaves of each row of rows x features."""
        rows = self._shaped(rows)
        if len(rows) != 1:
            return self._ask(rows, RAW_SCORE, 1).ravel()
        score, length = ctypes.c_double(), ctypes.c_int64()
        place = rows.__array_interface__["data"][0]  # `rows.ctypes.data` takes as long as some trees
        _checked(self._ask_one(self._score_one, place, length, ctypes.byref(score)))
        return np.array([score.value])

    def contributions(self, rows: Matrix) -> Matrix:
        """Rows x (features + 1), adding up to `raw`: TreeSHAP; the last column is the mean over the training rows."""
        rows = self._shaped(rows)
        if len(rows) != 1:
            return self._ask(rows, CONTRIBUTIONS, self.features + 1)
        shares, length = np.empty((1, self.features + 1)), ctypes.c_int64()
        _checked(self._ask_one(self._share_one, rows.ctypes.data, length, shares.ctypes.data))
        return shares

    def _ask(self, rows: Matrix, what: int, width: int) -> Matrix:
        answers, length = np.empty((len(rows), width)), ctypes.c_int64()
        if not len(rows):
            return answers
        _checked(
            library().LGBM_BoosterPredictForMat(
                self._handle,
                rows.ctypes.data,
                FLOAT64,
                len(rows),
                self.features,
                ROW_MAJOR,
                what,
                FROM_THE_FIRST,
                ALL_TREES,
                ONE_THREAD,
                length,
                answers.ctypes.data,
            )
        )
        if length.value != answers.size:
            raise BundleRefused(f"LightGBM gave {length.value} numbers for {len(rows)} row(s) where {answers.size} are due.")
        return answers

    def _shaped(self, rows: Matrix) -> Matrix:
        if rows.ndim != 2 or rows.shape[1] != self.features:  # the library would read beyond the rows
            raise BundleRefused(f"Rows of shape {rows.shape} for trees that were fitted on {self.features} features.")
        return np.ascontiguousarray(rows, dtype=np.float64)


def _checked(code: int) -> None:
    if code != 0:
        raise BundleRefused(f"LightGBM refused: {library().LGBM_GetLastError().decode(errors='replace')}")
