"""Score runs on Spark: its machines write the parts, with the code that writes them here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path

import pyarrow as pa

from features.engine import connect
from features.errors import ReleaseRefused, UnknownName
from serving.release import load_release
from serving.runs import Engine, Run, write_part
from serving.scorer import Scorer


def on_spark(url: str, releases: Path) -> Engine:
    """Write parts on Spark; all its machines must see the folders of releases and of runs, and have Encore's `serve` part.

    Args:
        url: such as `spark://local[2]`.

    Raises:
        UnknownName: no such engine. MissingExtra: Spark is not installed.
    """
    if not url.startswith("spark://"):
        raise UnknownName("engine", url, ["spark://local[2]"])

    def write(scorer: Scorer, run: Run, parts: Sequence[int]) -> None:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        folder, good_for, tombstones = releases / scorer.release.id, scorer.expires_at - scorer.scored_at, dict(scorer.release.withheld.tombstones)
        wanted = list(parts)

        def on_a_machine(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                places = batch.column(0).to_pylist()
                rows = [write_part(_opened(folder, good_for, frozenset(tombstones.items())), run, wanted[place]) for place in places]
                yield pa.record_batch([pa.array(rows, pa.int64())], ["rows"])

        # A task for each part, so that one that fails is done again alone.
        connect(url)._session.range(0, len(wanted), 1, len(wanted)).mapInArrow(on_a_machine, "rows long").collect()

    return write


@cache
def _opened(folder: Path, good_for: timedelta, tombstones: frozenset[tuple[str, str]]) -> Scorer:
    known: Mapping[str, str] = dict(tombstones)
    release = load_release(folder).withholding(known)
    if release.withheld.tombstones != known:
        raise ReleaseRefused("Users were suppressed or deleted since this run began. Run again: that is another run.")
    return Scorer(release, good_for)
