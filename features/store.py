"""Snapshots on disk: Parquet and a manifest in one directory that is whole or absent."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from features.engine import Engine
from features.errors import NoUsableData, SnapshotRefused
from features.files import new_directory, parquet_bytes, read_json, sha256_of, sha256_of_bytes, write_bytes, write_json
from features.snapshot import Snapshot, build_snapshot, recipe_digest
from features.tiles import Tiles


class SnapshotStore:
    """The snapshots of one workspace, named by date and by what they were made from."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, as_of: date, recipe: str) -> Path:
        return self.directory / f"{as_of.isoformat()}-{recipe[:16]}"

    def get(self, tiles: Tiles, as_of: date, engine: Engine) -> Snapshot:
        """The snapshot as of a date: read when the same data and catalogue made it before, built and kept otherwise.

        Raises:
            NoUsableData: the log does not reach the date.
        """
        if as_of > tiles.log.complete_until:
            raise NoUsableData(f"A snapshot as of {as_of} would miss events: the log is complete only until {tiles.log.complete_until}.")
        path = self.path(as_of, recipe_digest(tiles.log, tiles.shop))
        return read_snapshot(path) if path.exists() else self.put(build_snapshot(tiles, as_of, engine))

    def put(self, snapshot: Snapshot) -> Snapshot:
        """Write a snapshot; one of the same date and recipe stays as it is."""
        content = parquet_bytes(snapshot.table)
        manifest = {**snapshot.manifest, "sha256": sha256_of_bytes(content)}
        with new_directory(self.path(snapshot.as_of, manifest["recipe"])) as new:
            write_bytes(new / "vectors.parquet", content)
            write_json(new / "manifest.json", manifest)
        return Snapshot(snapshot.table, manifest)


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
