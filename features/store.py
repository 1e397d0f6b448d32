"""Snapshots on disk: Parquet and a manifest in one directory that is whole or absent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from threading import Condition
from typing import Any

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.bucket import TABLES
from features.engine import connect, read_parquet
from features.errors import NoUsableData, SnapshotRefused
from features.events import day_number
from features.files import new_directory, read_json, sha256_of, write_json
from features.logs import log as logger
from features.norms import Norms, norms_of
from features.relational import collected, integers
from features.sampling import lots
from features.snapshot import Snapshot, catalogue, describe, finish, needed_for_norms, parts_of, recipe_digest, vectors
from features.tiles import Tiles, supply_of
from features.view import Feature
from features.windows import Plan, Reader

GROUP = 8_192  # rows of a Parquet row group, whatever the buckets were, so that equal data give equal bytes
AT_ONCE = 6  # dates in one pass over the tiles: each keeps a Parquet writer open, some 60 MB in a large shop


class SnapshotStore:
    """The snapshots of one workspace, named by date and by what they were made from."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, as_of: date, recipe: str) -> Path:
        return self.directory / f"{as_of.isoformat()}-{recipe[:16]}"

    def get(self, tiles: Tiles, as_of: date, threads: int | None = None) -> Snapshot:
        """The snapshot as of a date: read when the same data and catalogue made it before, built and kept otherwise.

        Raises:
            NoUsableData: the log does not reach the date, or nobody is known before it.
        """
        return read_snapshot(self.build(tiles, [as_of], threads)[0])

    def build(self, tiles: Tiles, cutoffs: Sequence[date], threads: int | None = None, share: float = 1.0) -> list[Path]:
        """Make the snapshots of several dates that are not there yet, in one pass over the tiles; returns their folders.

        Args:
            share: of the users of each date, drawn by `sampling.lots`: a model of a large shop need not see every
                pair of user and date, and who is not drawn costs nothing.

        Raises:
            NoUsableData: the log does not reach a date, or nobody is known before it.
        """
        until = tiles.log.complete_until
        if late := [as_of for as_of in cutoffs if as_of > until]:
            raise NoUsableData(f"A snapshot as of {late[0]} would miss events: the log is complete only until {until}.")
        paths = {as_of: self.path(as_of, recipe_digest(tiles.log, tiles.shop, as_of, share)) for as_of in cutoffs}
        missing = [as_of for as_of, path in paths.items() if not path.exists()]
        for as_of in missing:
            self._say_restated(as_of, tiles)
        if missing:
            write_snapshots(tiles, {as_of: paths[as_of] for as_of in missing}, threads or os.cpu_count() or 1, share)
        return [paths[as_of] for as_of in cutoffs]

    def _say_restated(self, as_of: date, tiles: Tiles) -> None:
        older = [
            path.parent.name
            for path in self.directory.glob(f"{as_of.isoformat()}-*/manifest.json")
            if read_json(path)["data"] != tiles.log.digest_before(as_of)
        ]
        if older:
            logger.warning(
                "restated", extra={"facts": {"as_of": as_of, "reason": "what is known of the days before changed since it was built", "older": older}}
            )


def write_snapshots(tiles: Tiles, paths: Mapping[date, Path], threads: int, share: float) -> None:
    """Compute and write snapshots, some dates at a time: buckets in turn, each read once for all of them."""
    features = catalogue(tiles.shop, tiles.log.kinds)
    measured = measure(tiles, list(paths), features, threads)
    dates = list(paths)
    for first in range(0, len(dates), AT_ONCE):
        _write({as_of: paths[as_of] for as_of in dates[first : first + AT_ONCE]}, tiles, features, measured, threads, share)


def _write(paths: Mapping[date, Path], tiles: Tiles, features: Sequence[Feature], measured: Mapping[date, Norms], threads: int, share: float) -> None:
    out = frozenset(tiles.log.manifest["tombstones"])
    plan = Plan(parts_of(features), tiles.shop.interest)
    with ExitStack() as stack:
        folders = {as_of: stack.enter_context(new_directory(path)) for as_of, path in paths.items()}
        pool = stack.enter_context(ThreadPoolExecutor(threads))  # ends after the writers, so that after an error none waits for its turn
        writers = {as_of: stack.enter_context(VectorWriter(folder / "vectors.parquet")) for as_of, folder in folders.items()}
        waiting: list[Future[None]] = []
        for number in range(len(tiles)):
            loading = pool.submit(_reader, tiles, number, plan)

            def write(as_of: date, number: int = number, loading: Future[Reader] = loading) -> None:
                reader = loading.result()  # begun before this in the same pool, so it never waits for this
                drawn = None if share == 1 else np.flatnonzero(lots(reader.bucket.users.to_pylist(), day_number(as_of)) < share)
                users, parts = reader.parts_at(day_number(as_of), drawn)
                table = vectors(reader.bucket.users.take(pa.array(users)), parts, features, measured[as_of], out)
                writers[as_of].write(number, table)

            waiting += [pool.submit(write, as_of) for as_of in paths]
            while len(waiting) > max(len(paths), threads):  # no more buckets in memory than threads at work
                waiting.pop(0).result()
        for future in waiting:
            future.result()
        for as_of, folder in folders.items():
            _sign(folder, writers[as_of].close(), tiles, as_of, measured[as_of], share)


def _sign(folder: Path, rows: int, tiles: Tiles, as_of: date, measured: Norms, share: float = 1.0) -> None:
    if not rows:
        raise NoUsableData(f"No user is known before {as_of}; the log holds events up to {tiles.log.complete_until}.")
    manifest = describe(tiles.log, tiles.shop, as_of, measured, share)
    write_json(folder / "manifest.json", {**manifest, "rows": rows, "sha256": sha256_of(folder / "vectors.parquet")})


def _reader(tiles: Tiles, number: int, plan: Plan, tables: Sequence[str] = TABLES) -> Reader:
    return Reader(tiles.bucket(number, tables), plan, tiles.products)


def measure(tiles: Tiles, cutoffs: Sequence[date], features: Sequence[Feature], threads: int | None = None) -> dict[date, Norms]:
    """The norms at each date, from the few columns that they are measured on, of those who bought."""
    wanted = needed_for_norms(features)
    plan = Plan(parts_of(wanted), tiles.shop.interest, everybody=False)

    def of_buyers(number: int) -> list[dict[str, Any]]:
        reader, found = _reader(tiles, number, plan, ("days",)), []
        for as_of in cutoffs:
            values = finish(wanted, reader.parts_at(day_number(as_of))[1], Norms())
            buys = values["orders_count"] > 0 if "orders_count" in values else slice(0)
            found.append({name: _compact(column[buys]) for name, column in values.items()})
        return found

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        by_bucket = list(pool.map(of_buyers, range(len(tiles))))
    names = [feature.name for feature in wanted]
    return {
        as_of: norms_of({name: np.concatenate([values[name] for values in parts]).astype(np.float64) for name in names}, tiles.shop.rfm)
        for as_of, parts in zip(cutoffs, zip(*by_bucket, strict=True), strict=True)
    }


def build_elsewhere(store: SnapshotStore, tiles: Tiles, cutoffs: Sequence[date], url: str) -> list[Path]:
    """The same snapshots with the counting done by another engine; see `engine.connect` for the url.

    Raises:
        UnknownName, MissingExtra: no such engine here.
    """
    backend, log, shop = connect(url), tiles.log, tiles.shop
    features = catalogue(shop, log.kinds)
    wanted, supply = list(dict.fromkeys(parts_of(features))), supply_of(tiles.products, shop)
    lasts = pa.array([supply.get(name, 0) for name in tiles.products["product_id"].to_pylist()], pa.int64())
    events, products = read_parquet(backend, log.parts), ibis.memtable(tiles.products.append_column("lasts", lasts))
    measured, out = measure(tiles, cutoffs, features), frozenset(log.manifest["tombstones"])
    paths = []
    for as_of in cutoffs:
        path = store.path(as_of, recipe_digest(log, shop, as_of))
        users, parts = collected(backend.to_pyarrow(integers(events, products, as_of, wanted, shop.interest)), wanted)
        with new_directory(path) as folder, VectorWriter(folder / "vectors.parquet") as writer:
            writer.write(0, vectors(users, parts, features, measured[as_of], out))
            _sign(folder, writer.close(), tiles, as_of, measured[as_of])
        paths.append(path)
    return paths


def _compact(values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Half the memory where nothing is lost: a column per date is kept of every buyer."""
    small = values.astype(np.float32)
    return small if np.array_equal(small, values, equal_nan=True) else values


class VectorWriter:
    """Parquet in row groups of GROUP rows, from tables that several threads hand over out of turn."""

    def __init__(self, path: Path) -> None:
        self.path, self._turn, self._next, self._rows = path, Condition(), 0, 0
        self._writer: pq.ParquetWriter | None = None
        self._left: list[pa.Table] = []

    def __enter__(self) -> VectorWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with self._turn:
            self._next = -1
            self._turn.notify_all()

    def write(self, number: int, table: pa.Table) -> None:
        """Append the table of bucket `number`, after those of all buckets before it."""
        with self._turn:
            self._turn.wait_for(lambda: self._next in (number, -1))
        if self._next == -1:
            return
        self._append(table)
        with self._turn:
            self._next = -1 if self._next == -1 else number + 1
            self._turn.notify_all()

    def _append(self, table: pa.Table) -> None:
        if self._writer is None:
            words = [field.name for field in table.schema if field.type == pa.string() and field.name != "user_id"]
            # Writing takes most of the time of a large training set: no dictionary and no statistics for numbers.
            self._writer = pq.ParquetWriter(self.path, table.schema, compression="lz4", use_dictionary=words, write_statistics=["user_id"])
        self._rows += table.num_rows
        self._left.append(table)
        if sum(part.num_rows for part in self._left) >= GROUP:
            rows = pa.concat_tables(self._left)
            whole = rows.num_rows - rows.num_rows % GROUP
            self._writer.write_table(rows.slice(0, whole), row_group_size=GROUP)
            self._left = [rows.take(pa.array(np.arange(whole, rows.num_rows)))]  # a slice would keep all of it in memory

    def close(self) -> int:
        """Write the rest; returns the number of rows."""
        if self._writer is not None:
            rows = pa.concat_tables(self._left)
            if rows.num_rows:
                self._writer.write_table(rows, row_group_size=GROUP)
            self._writer.close()
            self._writer, self._left = None, []  # the footer of a large file takes memory
        return self._rows


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot and hold it against its manifest.

    Raises:
        SnapshotRefused: it is missing, half written or changed since it was made.
    """
    try:
        manifest = read_json(path / "manifest.json")
        seen = sha256_of(path / "vectors.parquet")
    except (OSError, ValueError) as error:
        raise SnapshotRefused(f"Snapshot {path.name} cannot be read: {error}. Build it again: encore build") from None
    if seen != manifest["sha256"]:
        raise SnapshotRefused(f"Snapshot {path.name} was changed after it was made (its hash differs). Delete its folder, then: encore build")
    return Snapshot(pq.read_table(path / "vectors.parquet"), manifest)
