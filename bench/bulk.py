"""Everybody scored: what `encore score` takes, Parquet to Parquet, beside LightGBM's own `Booster.predict` on the same rows.

    python bench/bulk.py DIR [--users 200000] [--rounds 3]

Encore runs the models once, when a release is published (`publication` below: scores and ranks), and `encore score` writes what the
release has prepared: 16 columns a row. `Booster.predict` is timed bare (rows in memory, LightGBM's own threads) and the whole way
(vectors read from Parquet, predicted, ids and scores written to Parquet). The ways take turns and medians are compared.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from service_release import NAMES, make, snapshot

from serving.everybody import score_everybody
from serving.pointer import POINTER, current_id
from serving.release import Release, load_release
from serving.runs import score_run
from serving.scorer import Scorer

Way = Callable[[], object]


def ways(release: Release, task: str, folder: Path) -> dict[str, Way]:
    """Name -> one way to score everybody."""
    bundle, rows = release.bundles[task], np.ascontiguousarray(release.vectors)
    boosters = [lgb.Booster(model_str=text) for text in bundle.model.texts]
    everybody, table = np.ones(len(rows), dtype=bool), snapshot(len(rows))
    vectors = folder / f"{task}-vectors.parquet"
    pq.write_table(table.table.select(["user_id", *NAMES]), vectors, compression="lz4")

    def bare() -> None:
        for booster in boosters:
            booster.predict(rows, raw_score=True)

    def whole() -> None:
        read = pq.read_table(vectors)
        matrix = np.column_stack([read[name].to_numpy() for name in NAMES])
        scores = np.mean([booster.predict(matrix, raw_score=True) for booster in boosters], axis=0)
        pq.write_table(pa.table({"user_id": read["user_id"], "score": scores}), folder / "whole.parquet", compression="lz4")

    def encore() -> None:
        shutil.rmtree(folder / "scores", ignore_errors=True)
        score_run(Scorer(release, timedelta(hours=48)), folder / "scores", [task])

    return {
        "`Booster.predict`, bare": bare,
        "`Booster.predict`, Parquet to Parquet": whole,
        "publication: model and ranks": lambda: score_everybody(bundle, table, everybody),
        "`encore score`, Parquet out": encore,
    }


def timed(way: Way) -> tuple[float, float]:
    """Seconds on the wall and of CPU, of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - wall, time.process_time() - cpu


def table(release: Release, task: str, rounds: int, folder: Path) -> list[str]:
    """A line for each way: the medians of the rounds."""
    all_ways = ways(release, task, folder)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in all_ways}
    for _ in range(rounds):
        for name, way in all_ways.items():
            found[name].append(timed(way))
    middle = {name: tuple(statistics.median(column) for column in zip(*times, strict=True)) for name, times in found.items()}
    users, (bare, bare_cpu) = len(release.users), middle["`Booster.predict`, bare"]
    lines = []
    for name, (wall, cpu) in middle.items():
        lines.append(f"| {task} | {name} | {wall:.2f} | {cpu:.2f} | {users / wall:,.0f} | {bare / wall:.2f}x | {bare_cpu / cpu:.2f}x |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path, help="Where the release lies or will lie.")
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    root = told.workspace / "releases"
    release = load_release(root / (current_id(root) if (root / POINTER).exists() else make(root, told.users)))
    lines = ["| model | way | wall s | CPU s | rows/s | times bare, wall | times bare, CPU |", "|---|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        for task in ("shipped", "deep"):
            lines += table(release, task, told.rounds, Path(name))
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
