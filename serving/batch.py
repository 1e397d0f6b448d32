"""batch: everybody's scores of a release as Parquet, column by column from what the release has prepared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.files import sync_directory
from features.money import minor_units
from features.vocabulary import STAGES
from serving.everybody import Scores
from serving.score_texts import BANDS, rounded
from serving.scorer import HIGH, LOW, Scorer

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
REPEATED = ("model", "stage", "band", "features_as_of", "model_version", "release")  # few words: in memory and in the file each stands once
IN_MEMORY = pa.schema([field.with_type(pa.dictionary(pa.int8(), pa.string())) if field.name in REPEATED else field for field in SCORE_SCHEMA])


def score_table(scorer: Scorer, task: str, start: int, stop: int) -> pa.Table:
    """One row, as IN_MEMORY, for each user in these rows of the release whom the task asks about and who is not withheld."""
    release, stored = scorer.release, scorer.release.scores[task]
    rows = release.withheld.without(start + np.flatnonzero(~np.isnan(stored.score[start:stop])))
    raw, percentile = stored.score[rows], stored.percentile[rows]
    kind = release.bundles[task].kind
    is_chance, none = kind in ("probability", "date"), pa.nulls(len(rows), pa.float64())
    columns = {
        "user_id": texts(release.users[rows]),
        "probability": pa.array(raw) if is_chance else none,
        "value": pa.array(raw / minor_units(release.currency)) if kind == "value" else none,
        "effect": pa.array(raw) if kind == "effect" else none,
        "score": pa.array(rounded(100 * raw if is_chance else percentile)),
        "percentile": pa.array(percentile),
        "stage_percentile": pa.array(stored.stage_percentile[rows]),
        "stage": _words(release.stages[rows], STAGES),
        "band": _words((percentile >= LOW).astype(np.int8) + (percentile >= HIGH), BANDS),
        "details": _details(stored, rows),
        "scored_at": pa.repeat(pa.scalar(scorer.scored_at, pa.timestamp("us", "UTC")), len(rows)),
        "expires_at": pa.repeat(pa.scalar(scorer.expires_at, pa.timestamp("us", "UTC")), len(rows)),
    }
    same = {"model": task, "features_as_of": release.manifest["as_of"], "model_version": scorer.tasks[task]["version"], "release": release.id}
    columns |= {name: _words(np.zeros(len(rows), np.int8), [value]) for name, value in same.items()}
    return pa.table([columns[field.name] for field in IN_MEMORY], schema=IN_MEMORY)


def write_scores(scorer: Scorer, tasks: Sequence[str], start: int, stop: int, path: Path) -> int:
    """Write the scores of some users, task after task; returns the number of rows. The file appears whole or not at all."""
    written = 0
    with score_writer(path, IN_MEMORY) as writer:
        for task in tasks:
            table = score_table(scorer, task, start, stop)
            writer.write_table(table)
            written += table.num_rows
    return written


@contextmanager
def score_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Write tables of scores; the file appears when the block ends well, and is on the disk by then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Without Arrow's own schema a reader sees plain text columns. Of numbers that all differ neither dictionary nor statistics help.
        settings = {"compression": "lz4", "use_dictionary": list(REPEATED), "write_statistics": ["user_id", "model"], "store_schema": False}
        with pq.ParquetWriter(unfinished, schema, **settings) as writer:
            yield writer
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_directory(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def texts(ids: npt.NDArray[np.bytes_]) -> pa.StringArray:
    """Ids of one width, filled up with zero bytes, as text: no id has a zero byte of its own."""
    letters = np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), ids.itemsize)
    there = letters != 0
    ends = np.zeros(len(ids) + 1, dtype=np.int32)
    np.cumsum(there.sum(axis=1), out=ends[1:])
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(letters[there]))


def _words(places: npt.NDArray[np.int8], words: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int8()), pa.array(words, pa.string()))


def _details(stored: Scores, rows: npt.NDArray[np.int64]) -> pa.Array:
    kind = SCORE_SCHEMA.field("details").type
    if not stored.details:
        return pa.nulls(len(rows), kind)
    number = len(stored.details)
    names = pa.DictionaryArray.from_arrays(pa.array(np.tile(np.arange(number, dtype=np.int8), len(rows))), pa.array(stored.details, pa.string()))
    values = np.column_stack([column[rows] for column in stored.details.values()]).ravel()
    return pa.MapArray.from_arrays(pa.array(np.arange(len(rows) + 1, dtype=np.int32) * number), names.cast(pa.string()), pa.array(values)).cast(kind)
