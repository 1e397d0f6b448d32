"""The pieces of work that are measured, one per process: python bench/jobs.py NAME DATA [--cutoffs N] ..."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from generate import END, SHOP
from logs import monthly, open_log
from measure import report, timed

from features.events import day_number
from features.files import read_json
from features.store import SnapshotStore
from features.tiles import BUCKET_EVENTS, bucket_size, open_tiles

# What the features need of a row; the plain scan reads these.
TEXTS_AND_MOMENT = ("user_id", "event", "product_id", "campaign", "detail", "channel", "source", "medium", "occurred_at")
NUMBERS = ("day", "known_day", "hour", "sign", "value_cents", "discount_cents", "coupon_cents", "quantity", "level")
NEEDED = (*TEXTS_AND_MOMENT, *NUMBERS)
Facts = dict[str, Any]


def build(log_directory: Path, cutoffs: Sequence[date], workspace: Path, bucket_events: int, threads: int | None) -> Facts:
    """From the log's parts to snapshots on disk."""
    facts: Facts = {}
    with timed("seconds", facts):
        with timed("tiles", facts):
            tiles = open_tiles(open_log(log_directory), SHOP, workspace / "tiles", bucket_events)
        with timed("snapshots", facts):
            folders = SnapshotStore(workspace / "snapshots").build(tiles, cutoffs, threads)
    manifests = [read_json(folder / "manifest.json") for folder in folders]
    facts["rows"] = sum(manifest["rows"] for manifest in manifests)
    facts["features"] = len(manifests[0]["features"]) + len(manifests[0]["labels"])
    facts["buckets"], facts["written_mb"], facts["tiles_mb"] = len(tiles), _megabytes(workspace / "snapshots"), _megabytes(workspace / "tiles")
    return facts


def refresh(data: Path, workspace: Path, threads: int | None) -> Facts:
    """The last day's part, when the tiles and the snapshot of the day before are there."""
    build(data / "yesterday", [END - timedelta(days=1)], workspace, BUCKET_EVENTS, threads)
    return build(data / "today", [END], workspace, BUCKET_EVENTS, threads)


def scan_duckdb(log_directory: Path, cutoff: date, texts: bool) -> Facts:
    """One pass over the year before the cutoff; every needed column is decoded and aggregated, nothing is grouped."""
    facts: Facts = {}
    cut, connection = day_number(cutoff), duckdb.connect()
    files = [str(path) for path in open_log(log_directory).parts]
    values = ", ".join([f"max({name})" for name in TEXTS_AND_MOMENT if texts] + [f"sum({name})" for name in NUMBERS])
    with timed("seconds", facts):
        query = f"SELECT count(*), {values} FROM read_parquet(?) WHERE day >= {cut - 365} AND day < {cut}"  # noqa: S608
        facts["rows"] = connection.execute(query, [files]).to_arrow_table()[0][0].as_py()
    return facts


def scan_pyarrow(log_directory: Path, cutoff: date) -> Facts:
    """The same with pyarrow: the needed columns of the year as Arrow batches, each column counted and nothing kept."""
    facts: Facts = {"rows": 0}
    cut = day_number(cutoff)
    with timed("seconds", facts):
        found = ds.dataset([str(path) for path in open_log(log_directory).parts])
        for batch in found.to_batches(columns=list(NEEDED), filter=(pc.field("day") >= cut - 365) & (pc.field("day") < cut)):
            for column in batch.columns:
                pc.count(column) if pa.types.is_string(column.type) else pc.max(column)
            facts["rows"] += batch.num_rows
    return facts


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("build", "refresh", "scan_duckdb", "scan_pyarrow"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--cutoffs", type=int, default=1)
    parser.add_argument("--end", action="store_true", help="one cutoff, the end of the log")
    parser.add_argument("--memory", help="as encore's own setting, such as 1.5GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--numbers-only", action="store_true", help="scan no texts")
    parser.add_argument("--keep", type=Path, help="keep the workspace here")
    chosen = parser.parse_args()
    data, cutoffs = chosen.data, [END] if chosen.end else monthly()[-chosen.cutoffs :]
    work: dict[str, Callable[[Path, Path], Facts]] = {
        "build": lambda data, workspace: build(data / "whole", cutoffs, workspace, bucket_size(chosen.memory), chosen.threads),
        "refresh": lambda data, workspace: refresh(data, workspace, chosen.threads),
        "scan_duckdb": lambda data, workspace: scan_duckdb(data / "whole", cutoffs[-1], not chosen.numbers_only),
        "scan_pyarrow": lambda data, workspace: scan_pyarrow(data / "whole", cutoffs[-1]),
    }
    for place in (data.parent / "tiny", data):  # a hundred users first: compiled loops and libraries are loaded
        workspace = Path(tempfile.mkdtemp(dir=data, prefix=".work-")) if chosen.keep is None or place != data else chosen.keep
        facts = work[chosen.name](place, workspace)
        if workspace != chosen.keep:
            shutil.rmtree(workspace)
    report(facts)


if __name__ == "__main__":
    main()
