"""Ways to rank people by likeness to a seed: the rules that people use, the folk methods, and ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import joblib
import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from training.blend import Logistic, Matrix, Trees, Vector, signed_log, standardise
from training.lookalike.likeness import Likeness, Part
from training.lookalike.population import Mask, Population, Table

STRENGTH = 0.001  # C of the logistic: a seed says little, many features say the same
MOST_UNLABELLED = 200_000  # to fit on; everybody is scored
MOST_FOR_SCALES = 50_000
NEIGHBOURS = 10
BLOCK = 1 << 15  # rows scored at a time: a block of doubles stays in the cache's reach
BAGS, PER_SEED_USER = 20, 2
FOLDS = 5
TREES = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 7,
    "min_child_samples": 10,
    "feature_fraction": 0.3,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
ROUNDS = 40
