"""batch: score everybody, Parquet out, in bounded memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import UnknownName
from features.files import sync_directory
from features.vocabulary import STAGES
from serving.scorer import Scorer, band, shown

BLOCK = 50_000  # users scored at once

# The primary key is (user_id, model). Reverse-ETL tools compare two such tables by themselves.
SCORE_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("probability", pa.float64()),
        pa.field("value", pa.float64()),
        pa.field("effect", pa.float64()),
        pa.field("score", pa.float64()),
        pa.field("percentile", pa.float64()),
        pa.field("stage_percentile", pa.float64()),
        pa.field("stage", pa.string()),
        pa.field("band", pa.string()),
        pa.field("details", pa.map_(pa.string(), pa.float64())),
        pa.field("features_as_of", pa.string()),
        pa.field("scored_at", pa.timestamp("us", "UTC")),
        pa.field("expires_at", pa.timestamp("us", "UTC")),
        pa.field("model_version", pa.string()),
        pa.field("release", pa.string()),
    ]
)


def score_to_parquet(scorer: Scorer, path: Path, tasks: tuple[str, ...] = ()) -> int:
    """Score all eligible users with the release's models and write one row for each; returns the number of rows.

    The file appears whole or not at all.

    Raises:
        UnknownName: the release has no model of a named task.
    """
    models = scorer.release.bundles
    for task in tasks:
        if task not in models:
            raise UnknownName("prediction", task, models)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    written = 0
    try:
        with pq.ParquetWriter(unfinished, SCORE_SCHEMA, compression="lz4") as writer:
            for task in dict.fromkeys(tasks or models):  # each once: (user_id, model) is the primary key
                eligible = np.flatnonzero(~np.isnan(scorer.release.scores[task].score))
                for block in np.array_split(eligible, max(1, -(-len(eligible) // BLOCK))):
                    writer.write_table(_score_block(scorer, task, block))
                    written += len(block)
        unfinished.replace(path)
        sync_directory(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return written


def _score_block(scorer: Scorer, task: str, rows: np.ndarray) -> pa.Table:
    release, bundle, stored = scorer.release, scorer.release.bundles[task], scorer.release.scores[task]
    score = bundle.scores(release.vectors[rows][:, bundle.align(release.features)])
    percentile = stored.percentile[rows]
    told = [shown(bundle.kind, raw, rank) for raw, rank in zip(score.tolist(), percentile.tolist(), strict=True)]
    details = {name: values[rows].tolist() for name, values in stored.details.items()}
    constants = {
        "model": task,
        "features_as_of": release.manifest["as_of"],
        "scored_at": scorer.scored_at,
        "expires_at": scorer.expires_at,
        "model_version": scorer.tasks[task]["version"],
        "release": release.id,
    }
    columns = {
        "user_id": [user.decode() for user in release.users[rows]],
        **{name: [one[name] for one in told] for name in ("probability", "value", "effect", "score")},
        "details": [list(zip(details, values, strict=True)) for values in zip(*details.values(), strict=True)] if details else [None] * len(rows),
        "percentile": percentile,
        "stage_percentile": stored.stage_percentile[rows],
        "stage": [STAGES[code] for code in release.stages[rows]],
        "band": [band(value) for value in percentile],
        **{name: [value] * len(rows) for name, value in constants.items()},
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SCORE_SCHEMA], schema=SCORE_SCHEMA)
