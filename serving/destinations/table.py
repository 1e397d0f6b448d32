"""The table `predictive_scores`: one row for each user and prediction, and what became of each since the table before.

Its primary key is (user_id, model), so that reverse-ETL tools (Hightouch, Census, Segment) can compare two of them by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from serving.batch import texts
from serving.destinations.standings import ABSENT, Standings, changes
from serving.release import Release
from serving.score_texts import BANDS, rounded
from serving.scorer import HIGH, LOW, Scorer

NAME = "predictive_scores"
REASONS = ("reason_1", "reason_2", "reason_3")
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("percentile", pa.float64()),
        pa.field("band", pa.string()),
        *(pa.field(name, pa.string()) for name in REASONS),
        pa.field("scored_at", pa.timestamp("us", "UTC")),
        pa.field("features_as_of", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("changed", pa.bool_(), nullable=False),  # whether this row says anything else than that of the table before
    ]
)
GONE = pa.schema([SCHEMA.field("user_id"), SCHEMA.field("model")])
TEXTS = ("user_id", "model", "band", *REASONS, "features_as_of", "model_version")
SAME, ADDED, CHANGED = range(3)
BLOCK = 20_000  # users of a block: with their vectors and the shares of their features it takes some tens of megabytes


def blocks(scorer: Scorer, now: Standings, before: Standings | None) -> Iterator[tuple[pa.Table, npt.NDArray[np.int8]]]:
    """The rows of the table, as SCHEMA, prediction after prediction in the order of users, and of each row what became of it: SAME, ADDED
    or CHANGED.

    Args:
        now, before: what is told now, and what was told; the users of `now` are those of the scorer's release.
    """
    for task, codes in now.codes.items():
        kinds = _changes_by_row(now, before, task)
        for start in range(0, len(codes), BLOCK):
            rows = start + np.flatnonzero(codes[start : start + BLOCK] != ABSENT)
            if len(rows):
                yield _table(scorer, task, rows, kinds[rows] != SAME), kinds[rows]


def removed(now: Standings, before: Standings | None) -> Iterator[pa.Table]:
    """Who was in the table before and is not now, as GONE."""
    if before is None:
        return
    for block in changes(before, now):
        for task, new in block.new.items():
            gone = (new == ABSENT) & (block.old[task] != ABSENT)
            if gone.any():
                ids = pa.array([user.decode() for user in block.users[gone].tolist()], pa.string())
                yield pa.table([ids, pa.array([task] * len(ids), pa.string())], schema=GONE)


def members_table(release: Release, task: str | None, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Some users of a release in their order, with what a prediction says of each; null where it does not ask about them."""
    ids = {"user_id": texts(release.users[rows])}
    if task is None:
        return pa.table(ids)
    score, percentile, band = _said(release, task, rows)
    unasked = np.isnan(percentile)
    return pa.table({**ids, "score": pa.array(score, mask=unasked), "percentile": pa.array(percentile, mask=unasked), "band": band})


def _said(release: Release, task: str, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], pa.Array]:
    """Score, percentile and band of some users."""
    stored = release.scores[task]
    percentile = stored.percentile[rows]
    is_chance = release.bundles[task].kind in ("probability", "date")
    score = rounded(100 * stored.score[rows] if is_chance else percentile)
    places = pa.array((percentile >= LOW).astype(np.int8) + (percentile >= HIGH), mask=np.isnan(percentile))
    return score, percentile, pa.array(BANDS).take(places)


def _changes_by_row(now: Standings, before: Standings | None, task: str) -> npt.NDArray[np.int8]:
    """SAME, ADDED or CHANGED for each user of `now`."""
    kinds = np.zeros(len(now.users), dtype=np.int8)
    alone = Standings(now.users, {task: now.codes[task]})
    for block in changes(before and Standings(before.users, {task: before.codes[task]}), alone):
        mine = block.rows < len(kinds)
        old, rows = block.old[task][mine], block.rows[mine]
        kinds[rows] = np.where(old == ABSENT, ADDED, CHANGED)
    return kinds


def _table(scorer: Scorer, task: str, rows: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> pa.Table:
    release = scorer.release
    score, percentile, band = _said(release, task, rows)
    words = _reasons(scorer, task, rows)
    columns: dict[str, Any] = {
        "user_id": texts(release.users[rows]),
        "score": pa.array(score),
        "percentile": pa.array(percentile),
        "band": band,
        **{name: pa.array([reasons[place] if place < len(reasons) else None for reasons in words], pa.string()) for place, name in enumerate(REASONS)},
        "scored_at": pa.repeat(pa.scalar(scorer.scored_at, pa.timestamp("us", "UTC")), len(rows)),
        "changed": pa.array(changed),
    }
    same: Mapping[str, str] = {"model": task, "features_as_of": release.manifest["as_of"], "model_version": str(scorer.tasks[task]["version"])}
    columns |= {name: pa.repeat(pa.scalar(value, pa.string()), len(rows)) for name, value in same.items()}
    return pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)


def _reasons(scorer: Scorer, task: str, rows: npt.NDArray[np.int64]) -> list[Sequence[str]]:
    return [[reason.text for reason in found[: len(REASONS)]] for found in scorer.reasons(task, rows)]  # type: ignore[arg-type]
