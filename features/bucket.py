"""Bucket: the tiles of a range of users, as sorted arrays of integers.

Three tables. Days: a user's events of one day, one row per column of `tile_columns.DAY_COLUMNS` that is not zero. Keys: the
same per product, campaign, ... Changes: dated values of tiers, attributes and where visits came from. A row is keyed by
the day something happened and the day it became known, so that a cutoff can cut both exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import tile_kernels
from features.tile_columns import KEY_COLUMNS

Array = npt.NDArray[Any]

DAY_TYPES = {"user": np.int32, "day": np.int32, "known": np.int32, "column": np.int16, "value": np.int64}
KEY_TYPES = {"user": np.int32, "day": np.int32, "known": np.int32, "column": np.int16, "key": np.int32, "value": np.int64}
CHANGE_TYPES = {"user": np.int32, "name": np.int32, "moment": np.int64, "level": np.int64, "text": np.int32,
                "day": np.int32, "known": np.int32, "value": np.int64}  # fmt: skip
TYPES: Mapping[str, Mapping[str, Any]] = {"days": DAY_TYPES, "keys": KEY_TYPES, "changes": CHANGE_TYPES}
TABLES, WORDS = tuple(TYPES), ("users", "key_names", "names", "texts")
Rows = Mapping[str, Array]


@dataclass(frozen=True)
class Bucket:
    """The tiles of some users.

    users: their ids, sorted; `user` in the tables is a position in it. key_names, names, texts: the same for the keys of
    `keys` and for the names and texts of `changes`. Rows are sorted by user, then day; by user, day, column and key; by
    user, name and moment.
    """

    users: pa.Array
    days: Rows
    keys: Rows
    changes: Rows
    key_names: pa.Array
    names: pa.Array
    texts: pa.Array

    def starts(self, rows: Rows) -> Array:
        """First row of each user, and one more."""
        return np.searchsorted(rows["user"], np.arange(len(self.users) + 1, dtype=np.int32)).astype(np.int64)


def grouped(rows: Rows, keys: int) -> Rows:
    """Key rows sorted by user, day, column and key, equal ones added up."""
    group = _key_group(rows, keys)
    order = np.argsort(group, kind="stable")
    return _added_up({name: column[order] for name, column in rows.items()}, group[order])


def _added_up(rows: Rows, group: Array) -> Rows:
    keep, value = tile_kernels.add_equal(group, rows["known"], rows["value"])
    return {**{name: rows[name][keep] for name in ("user", "day", "known", "column", "key")}, "value": value}


def _key_group(rows: Rows, keys: int) -> Array:
    """One integer per user, day, column and key, in that order."""
    day = rows["day"].astype(np.int64)
    first = int(day.min()) if len(day) else 0
    span = int(day.max()) - first + 1 if len(day) else 1
    users = int(rows["user"].max()) + 1 if len(day) else 1
    if users * span * len(KEY_COLUMNS) * max(keys, 1) >= 2**63:
        raise OverflowError("a bucket has too many users, days and keys; use smaller ones")
    return ((rows["user"].astype(np.int64) * span + (day - first)) * len(KEY_COLUMNS) + rows["column"]) * max(keys, 1) + rows["key"]


def sorted_changes(rows: Rows) -> Rows:
    """Sorted by user, name and moment; of several values at one moment the one that became known last comes last."""
    owner = rows["user"].astype(np.int64) * (int(rows["name"].max(initial=0)) + 1) + rows["name"]
    order = np.argsort(owner, kind="stable")
    rows = {name: column[order] for name, column in rows.items()}
    for tie in (np.zeros(len(order), np.int64), None):
        since = _since(rows) if tie is None else tie
        within = tile_kernels.order_within(owner[order] if tie is not None else owner, rows["moment"], since, rows["level"], rows["text"], rows["known"])
        if within is None:  # not nearly in order: an ordinary sort
            within = np.lexsort([rows[name] for name in ("known", "text", "level")] + [since, rows["moment"], rows["name"], rows["user"]])
        rows = {name: column[within] for name, column in rows.items()}
        owner = rows["user"].astype(np.int64) * (int(rows["name"].max(initial=0)) + 1) + rows["name"]
    return rows


def _since(changes: Rows) -> Array:
    """When each row's statement first became known."""
    group = statements(changes)
    if not len(group):
        return group
    return np.minimum.reduceat(changes["known"], np.flatnonzero(np.diff(group, prepend=-1)))[group].astype(np.int64)


def statements(changes: Rows) -> Array:
    """A number per statement: rows of the same user, name, moment and value, which may be said, moved and taken back."""
    if not len(changes["user"]):
        return np.zeros(0, np.int64)
    new = np.zeros(len(changes["user"]), np.bool_)
    for name in ("user", "name", "moment", "level", "text"):
        new[1:] |= changes[name][1:] != changes[name][:-1]
    return np.cumsum(new).astype(np.int64)


def merged(left: Bucket, right: Bucket) -> Bucket:
    """Two buckets of the same range of users as one. The right one is usually a day: whom it does not name is only copied."""
    users, key_names, names, texts = (
        pc.unique(pa.chunked_array([getattr(left, field), getattr(right, field)], pa.string())).sort() for field in ("users", "key_names", "names", "texts")
    )
    left, right = (_recoded(side, users, key_names, names, texts) for side in (left, right))
    touched = np.zeros(len(users), np.bool_)
    for table in TABLES:
        touched[getattr(right, table)["user"]] = True

    def with_new(table: str, add: Callable[[Rows, Rows], Rows]) -> Rows:
        old = getattr(left, table)
        mine = touched[old["user"]]
        return _spliced(old, add({name: column[mine] for name, column in old.items()}, getattr(right, table)), touched)

    days = with_new("days", lambda old, new: _merged(old, new, lambda rows: (rows["user"].astype(np.int64) << 32) | (rows["day"].astype(np.int64) + 2**20)))
    keys = with_new("keys", lambda old, new: grouped(_stacked(old, new), len(key_names)))
    changes = with_new("changes", lambda old, new: sorted_changes(_stacked(old, new)))
    return Bucket(users, days, keys, changes, key_names, names, texts)


def _spliced(old: Rows, new: Rows, touched: Array) -> Rows:
    """The rows of `new` for the touched users, those of `old` for the others."""
    users = np.arange(len(touched) + 1, dtype=np.int32)
    old_start, new_start = (np.searchsorted(rows["user"], users).astype(np.int64) for rows in (old, new))
    return {name: tile_kernels.splice(touched, old_start, new_start, old[name], new[name]) for name in old}


def _stacked(*tables: Rows) -> Rows:
    return {name: np.concatenate([rows[name] for rows in tables]) for name in tables[0]}


def _merged(left: Rows, right: Rows, key: Callable[[Rows], Array]) -> Rows:
    """Two tables, each sorted by a key, as one sorted table."""
    order = tile_kernels.merge_order(key(left), key(right))
    return {name: column[order] for name, column in _stacked(left, right).items()}


def _recoded(bucket: Bucket, users: pa.Array, key_names: pa.Array, names: pa.Array, texts: pa.Array) -> Bucket:
    def moved(codes: Array, old: pa.Array, new: pa.Array) -> Array:
        if old.equals(new.slice(0, len(old))):
            return codes
        place: Array = np.append(pc.index_in(old, new).to_numpy(zero_copy_only=False).astype(np.int32), np.int32(-1))
        return place[codes]

    days, keys, changes = ({**rows, "user": moved(rows["user"], bucket.users, users)} for rows in (bucket.days, bucket.keys, bucket.changes))
    keys["key"] = moved(keys["key"], bucket.key_names, key_names)
    changes["name"], changes["text"] = moved(changes["name"], bucket.names, names), moved(changes["text"], bucket.texts, texts)
    return Bucket(users, days, keys, changes, key_names, names, texts)


def write_bucket(bucket: Bucket, folder: Path) -> None:
    """One NumPy file per column, to be mapped and not parsed, and Parquet for the lists of words."""
    folder.mkdir(parents=True)
    for table in TABLES:
        for name, column in getattr(bucket, table).items():
            np.save(folder / f"{table}.{name}.npy", column)
    for name in WORDS:
        pq.write_table(pa.table({"word": getattr(bucket, name)}), folder / f"{name}.parquet", compression="lz4")


def read_bucket(folder: Path, tables: Sequence[str] = TABLES) -> Bucket:
    """What `write_bucket` wrote; tables that are not asked for are empty."""
    found: dict[str, Any] = {}
    for table, types in TYPES.items():
        # Copy-on-write, since the kernels are compiled for arrays that may be written to; nothing writes.
        found[table] = {
            name: np.asarray(np.load(folder / f"{table}.{name}.npy", mmap_mode="c")) if table in tables else np.zeros(0, kind) for name, kind in types.items()
        }
    return Bucket(**found, **{name: _words(folder / f"{name}.parquet") for name in WORDS})


def _words(path: Path) -> pa.Array:
    column = pq.read_table(path)["word"].combine_chunks()
    return column if isinstance(column, pa.Array) else pa.array([], pa.string())
