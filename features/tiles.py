"""Tiles: what a user did on a day, in integers. The only thing that reads raw events.

Tiles are kept in buckets, each a range of user ids, so that memory is bounded by the bucket and not by the shop. They
follow the log: parts that came since the tiles were made are tiled on their own and merged when a bucket is read.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import bucket, tile_columns, tile_kernels, tiling, vocabulary
from features.bucket import TABLES, Bucket, merged, read_bucket, write_bucket
from features.errors import InvalidShopFile, LabelWindowOpen
from features.events import EventLog, day_number
from features.files import code_digest, digest_of, new_directory, read_json, write_json
from features.happened import Window
from features.shopfile import Shop
from features.tiling import READ, TEXTS, bucket_of

TILES_CODE = code_digest(*(Path(str(module.__file__)) for module in (bucket, tile_columns, tile_kernels, tiling, vocabulary)), Path(__file__))
BUCKET_EVENTS = 1_500_000  # rows of the log that become one bucket; about 200 bytes of memory each
WORTH_MERGING = 0.25  # of the log: with more new rows than that, all tiles are made anew
LEAST_MEMORY = 0.8e9  # bytes: the program, its libraries and what it keeps of every buyer
BYTES_PER_EVENT = 2_500  # of work on a bucket, at most
WORTH_A_THREAD = 200_000  # rows of the log
KEPT = 3  # tile folders left on disk: another process may still read an older one


def bucket_size(memory: str | None) -> int:
    """Rows of the log per bucket so that the work stays below some memory, such as "1.5GB".

    Raises:
        InvalidShopFile: it is not an amount of memory, or less than the program itself takes.
    """
    if memory is None:
        return BUCKET_EVENTS
    amount = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])B", memory.strip(), re.IGNORECASE)
    size = float(amount[1]) * {"M": 1e6, "G": 1e9}[amount[2].upper()] if amount else 0.0
    if size < LEAST_MEMORY:
        raise InvalidShopFile("--memory", [f"{memory!r} must be an amount such as 1.5GB, at least {LEAST_MEMORY / 1e9:.1f}GB"])
    return max(100_000, min(BUCKET_EVENTS, round((size - LEAST_MEMORY) / BYTES_PER_EVENT) + 100_000))


@dataclass(frozen=True, eq=False)  # known by identity, so that its buckets can be remembered
class Tiles:
    """The tiles of one log.

    folders: the tiles of most of the log, and where there are any, of its newer parts. splits: the user ids at which the
    buckets begin, the first of them "".
    """

    log: EventLog
    shop: Shop
    folders: tuple[Path, ...]
    splits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.splits)

    def bucket(self, number: int, tables: Sequence[str] = TABLES) -> Bucket:
        """One bucket, with all that the log has of its users; tables that are not asked for are empty."""
        parts = [read_bucket(folder / f"{number:04d}", tables) for folder in self.folders]
        return parts[0] if len(parts) == 1 else merged(*parts)

    @cached_property
    def users(self) -> int:
        """How many users the log names."""
        return sum(len(self.bucket(number, ()).users) for number in range(len(self)))

    @cached_property
    def current_ids(self) -> dict[str, str]:
        """Linked id -> the user it belongs to by all that is known now."""
        return self.log.current_ids()

    @cached_property
    def products(self) -> pa.Table:
        return self.log.products()

    def between(self, start: date, end: date) -> Window:
        """What happened in `start <= day < end`, whenever it became known, to users as they are known now.

        Raises:
            LabelWindowOpen: the window is not over in the data.
        """
        if end > self.log.complete_until:
            raise LabelWindowOpen(start, end, self.log.complete_until)
        return Window(self, day_number(start), day_number(end))

    def before(self, as_of: date) -> Window:
        """Everything that had happened and was known before `as_of`."""
        return Window(self, -(2**31), day_number(as_of), day_number(as_of))

    def ever(self) -> Window:
        """Everything that ever happened: for reports and the choice of cutoffs, never for features."""
        return Window(self, -(2**31), 2**31 - 1)


def open_tiles(log: EventLog, shop: Shop, directory: Path, bucket_events: int = BUCKET_EVENTS) -> Tiles:
    """The tiles of the log as it is now; what is not on disk yet is made.

    Args:
        directory: where tiles are kept.
        bucket_events: rows of the log that become one bucket.
    """
    log.complete_until  # noqa: B018 - an empty log is an error here, not an empty table
    rows = {part["file"]: part["rows"] for part in log.manifest["parts"]}
    recipe = digest_of([TILES_CODE, supply_of(log.products(), shop)])
    small_enough = [found for found in _usable(directory, recipe, set(rows)) if found[1]["bucket_events"] <= bucket_events]
    base = max(small_enough, key=lambda found: sum(rows[part] for part in found[1]["parts"]), default=None)
    if base is None or sum(rows[part] for part in set(rows) - set(base[1]["parts"])) > WORTH_MERGING * sum(rows.values()):
        base = _make(log, shop, directory, recipe, sorted(rows), _splits(log, sum(rows.values()), bucket_events), bucket_events)
    folders = [base[0]]
    if newer := sorted(set(rows) - set(base[1]["parts"])):
        folders.append(_make(log, shop, directory, recipe, newer, base[1]["splits"], base[1]["bucket_events"], onto=base[0].name)[0])
    _prune(directory, folders)
    return Tiles(log, shop, tuple(folders), tuple(base[1]["splits"]))


Found = tuple[Path, dict[str, Any]]


def _usable(directory: Path, recipe: str, parts: set[str]) -> list[Found]:
    found = [(path.parent, dict(read_json(path))) for path in sorted(directory.glob("*/manifest.json"))]
    return [(path, manifest) for path, manifest in found if manifest["recipe"] == recipe and manifest["onto"] is None and set(manifest["parts"]) <= parts]


def _make(
    log: EventLog, shop: Shop, directory: Path, recipe: str, parts: Sequence[str], splits: Sequence[str], bucket_events: int, onto: str | None = None
) -> Found:
    """Tile some parts of the log, bucket by bucket."""
    manifest = {"recipe": recipe, "parts": list(parts), "splits": list(splits), "bucket_events": bucket_events, "onto": onto}
    folder = directory / digest_of(manifest)[:16]
    if folder.exists():
        return folder, manifest
    supply, paths = supply_of(log.products(), shop), [log.directory / "parts" / part for part in parts]

    def make(number: int, low: str, high: str | None) -> None:
        write_bucket(bucket_of(read_users(paths, low, high), supply), new / f"{number:04d}")

    with new_directory(folder) as new, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(make, range(len(splits)), splits, [*splits[1:], None]))
        write_json(new / "manifest.json", manifest)
    return folder, manifest


def read_users(paths: Sequence[Path], low: str, high: str | None) -> pa.Table:
    """The columns READ of the rows of users `low <= user_id < high`; each file is sorted by user_id."""
    tables = []
    for path in paths:
        file = pq.ParquetFile(path, read_dictionary=list(TEXTS))
        place = file.schema_arrow.names.index("user_id")
        groups = [file.metadata.row_group(number).column(place).statistics for number in range(file.num_row_groups)]
        mine = [number for number, group in enumerate(groups) if (high is None or group.min < high) and group.max >= low]
        if not mine:
            continue
        table = file.read_row_groups(mine, columns=list(READ), use_threads=False).unify_dictionaries()
        if groups[mine[0]].min < low or (high is not None and groups[mine[-1]].max >= high):
            wanted = _between(table["user_id"], low, high)
            table = table.slice(pc.index(wanted, True).as_py() if pc.any(wanted).as_py() else 0, pc.sum(wanted).as_py())
        tables.append(table)
    if not tables:
        return vocabulary.LOG_SCHEMA.empty_table().select(READ)
    return tables[0] if len(tables) == 1 else pa.concat_tables([table.cast(_plain_schema()) for table in tables])


def _plain_schema() -> pa.Schema:
    return pa.schema([vocabulary.LOG_SCHEMA.field(name) for name in READ])


def _between(ids: pa.ChunkedArray, low: str, high: str | None) -> pa.ChunkedArray:
    chunks = []
    for chunk in ids.chunks:
        words = chunk.dictionary
        wanted = pc.greater_equal(words, low) if high is None else pc.and_(pc.greater_equal(words, low), pc.less(words, high))
        chunks.append(wanted.take(chunk.indices))
    return pa.chunked_array(chunks, pa.bool_())


def _splits(log: EventLog, rows: int, bucket_events: int) -> list[str]:
    """User ids that divide the log into buckets of about equal size, by where the row groups of its largest part begin."""
    cores = os.cpu_count() or 1
    busy = min(2 * cores, rows // WORTH_A_THREAD)  # so that no core waits, where there is work for all
    wanted = max(-(-rows // bucket_events), busy)
    wanted += -wanted % cores if wanted >= cores else 0
    if wanted <= 1:
        return [""]
    largest = max(log.manifest["parts"], key=lambda part: part["rows"])
    file = pq.ParquetFile(log.directory / "parts" / largest["file"])
    place = file.schema_arrow.names.index("user_id")
    if file.num_row_groups >= 2 * wanted:
        ids = [file.metadata.row_group(number).column(place).statistics.min for number in range(file.num_row_groups)]
    else:
        ids = file.read(columns=["user_id"])["user_id"]
    chosen = [str(ids[len(ids) * number // wanted]) for number in range(1, wanted)]
    return ["", *(after for before, after in pairwise(["", *chosen]) if after != before)]


def supply_of(products: pa.Table, shop: Shop) -> dict[str, int]:
    """Product -> minutes that one piece lasts, from the daily use that the shop file gives for it or for its category."""
    if not shop.daily_use:
        return {}
    categories = dict(zip(products["product_id"].to_pylist(), products["category"].to_pylist(), strict=True))
    named = {product: shop.daily_use.get(product, shop.daily_use.get(str(category))) for product, category in categories.items()}
    known = {**{name: use for name, use in shop.daily_use.items() if name not in named}, **named}
    return {product: round(1440 / use) for product, use in sorted(known.items()) if use}


def _prune(directory: Path, used: Sequence[Path]) -> None:
    folders = sorted((path.parent for path in directory.glob("*/manifest.json")), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in [path for path in folders if path not in used][KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
