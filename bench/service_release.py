"""A release as large as a real one, with planted behaviour: what bench/service.py asks the service for.

    python bench/service_release.py DIR --users 1000000

Two predictions over the same 60 features: `shipped` is the blend as Encore fits it (a logistic and 3 x 200 trees of 7 leaves),
`deep` a logistic and 500 trees of 63 leaves, as other services are usually measured with.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa

from features.files import digest_of
from features.snapshot import Snapshot
from serving.pointer import activate
from serving.release import write_release
from training.blend import Blend
from training.bundle import Bundle, golden_rows
from training.models import Recipe, fit

USERS, FEATURES, ROWS = 1_000_000, 60, 20_000
DEEP = {"objective": "binary", "num_leaves": 63, "learning_rate": 0.05, "min_child_samples": 20, "deterministic": True, "num_threads": 1, "verbosity": -1}
NAMES = tuple(f"behaviour_{number:02d}" for number in range(FEATURES))
AS_OF = "2026-11-01"


def behaviour(users: int, seed: int) -> np.ndarray:
    """Skewed counts with gaps, as behaviour is."""
    random = np.random.default_rng(seed)
    rows = np.floor(random.exponential(8.0, size=(users, FEATURES)))
    rows[random.random(rows.shape) < 0.1] = np.nan
    return rows


def outcomes(rows: np.ndarray, seed: int) -> np.ndarray:
    """Who did it: a planted chance with an interaction, so that trees have something to find."""
    known = np.nan_to_num(rows)
    log_odds = -1.5 + 0.08 * known[:, 0] - 0.06 * known[:, 1] + 0.04 * np.minimum(known[:, 2], known[:, 3]) + 0.3 * (known[:, 4] > 10)
    return (np.random.default_rng(seed).random(len(rows)) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)


def bundle(task: str, blend: Blend, rows: np.ndarray) -> Bundle:
    words = {name: {"name": name, "meaning": f"planted behaviour {name[-2:]}", "unit": "count", "actionable": True} for name in NAMES}
    about = {
        "task": task,
        "kind": "probability",
        "calibrated": True,
        "question": "Will the planted event happen?",
        "eligible": "everybody",
        "features": words,
        "horizon_days": 30,
        "last_cutoff": AS_OF,
        "rows": ROWS,
        "positives": 0,
    }
    made = Bundle(NAMES, blend, about, {}, {})
    return Bundle(NAMES, blend, about, {}, golden_rows(made, rows[:20]))


def snapshot(users: int) -> Snapshot:
    rows = behaviour(users, seed=1)
    columns = {"user_id": pa.array([f"user-{number:07d}" for number in range(users)]), "stage": pa.array(["repeat"] * users)}
    columns |= {name: pa.array(rows[:, place]) for place, name in enumerate(NAMES)}
    manifest = {
        "recipe": digest_of([users, FEATURES]),
        "as_of": AS_OF,
        "complete_until": AS_OF,
        "zone": "UTC",
        "currency": "EUR",
        "features": [{"name": name} for name in NAMES],
        "labels": [],
    }
    return Snapshot(pa.table(columns), manifest)


def models() -> dict[str, Bundle]:
    """Both predictions, fitted."""
    rows = behaviour(ROWS, seed=2)
    y = outcomes(rows, seed=3)
    shipped = fit(rows, y, np.arange(ROWS).astype(object), Recipe())
    text = lgb.train(DEEP, lgb.Dataset(rows, label=y, params=DEEP), num_boost_round=500).model_to_string()
    return {"shipped": bundle("shipped", shipped, rows), "deep": bundle("deep", Blend(shipped.logistic, (text,), shipped.platt), rows)}


def make(root: Path, users: int, version: str = "1") -> str:
    """Write and publish the release under `root`; returns its id. Another version is another release of the same scores."""
    facts = {"version": version, "run_id": "bench", "kind": "model", "decision": "Planted.", "metrics": {}}
    everybody = np.ones(users, dtype=bool)
    parts = {task: (found, everybody, facts) for task, found in models().items()}
    release_id = write_release(root, snapshot(users), parts, {"scored_at": datetime.now(UTC).isoformat(timespec="seconds")})
    activate(root, release_id)
    return release_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--users", type=int, default=USERS)
    told = parser.parse_args()
    make(told.workspace / "releases", told.users)


if __name__ == "__main__":
    main()
