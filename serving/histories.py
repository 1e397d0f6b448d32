"""Histories on disk: two files of the release, which worker processes map and share."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.files import digest_of
from features.histories import COLUMNS, Histories, Table
from serving.arrow import integers, read_arrow, write_arrow

HISTORIES, WORDS = "histories.arrow", "history_words.arrow"


def digest_of_histories(histories: Histories) -> str:
    """SHA-256 over all of them."""
    hashed = sha256()
    for table in COLUMNS:
        found = histories.tables[table]
        for values in (found.start, *[found.columns[name] for name in COLUMNS[table]]):
            hashed.update(str(values.dtype).encode())
            hashed.update(np.ascontiguousarray(values).data)
    return digest_of([hashed.hexdigest(), histories.day, *[column.to_pylist() for column in _words(histories).values()]])


def write_histories(histories: Histories, folder: Path) -> None:
    write_arrow(folder / HISTORIES, {name: _lists(histories.tables[name]) for name in COLUMNS})
    write_arrow(folder / WORDS, {**_words(histories), "day": pa.array([histories.day], pa.int64())})


def read_histories(folder: Path) -> Histories:
    """What `write_histories` wrote, mapped into memory.

    Raises:
        KeyError, ValueError, AttributeError: it is not that.
    """
    found, words = read_arrow(folder / HISTORIES), read_arrow(folder / WORDS)
    tables = {name: _table(found[name], COLUMNS[name]) for name in COLUMNS}
    keys, texts, names, products = (words[name].values for name in ("keys", "texts", "names", "products"))
    return Histories(words["day"][0].as_py(), tables, keys, texts, tuple(names.to_pylist()), integers(products))


def _lists(table: Table) -> pa.Array:
    """One list for each user."""
    rows = pa.StructArray.from_arrays([pa.array(column) for column in table.columns.values()], names=list(table.columns))
    return pa.LargeListArray.from_arrays(pa.array(table.start, pa.int64()), rows)


def _table(lists: pa.Array, names: tuple[str, ...]) -> Table:
    rows = lists.values
    return Table(integers(lists.offsets), {name: integers(rows.field(name)) for name in names})


def _words(histories: Histories) -> Mapping[str, Any]:
    """The lists of words, one row of a table."""
    lists = {"keys": histories.keys, "texts": histories.texts, "names": pa.array(histories.names, pa.string()), "products": pa.array(histories.products)}
    return {name: pa.LargeListArray.from_arrays(pa.array([0, len(words)], pa.int64()), words) for name, words in lists.items()}
