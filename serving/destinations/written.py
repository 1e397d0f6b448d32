"""Exports that are files or tables: the table and its changes, lines for an import, hashed lists."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.exports import LINES, LISTS
from features.workspace import Workspace
from serving.destinations import lists, segment, sensors, sql, table
from serving.destinations.contacts import read_contacts
from serving.destinations.export import Export, account_of
from serving.destinations.files import csv_writer, parquet_writer, write_lines
from serving.destinations.items import Naming, items
from serving.destinations.standings import IN, changes
from serving.destinations.told import Told
from serving.destinations.tool import Account
from serving.scorer import Scorer

LINE = {"segment-lines": segment.encode, "sensors": sensors.encode}
WRITERS = {"csv": csv_writer, "parquet": parquet_writer}


def write(workspace: Workspace, export: Export, found: Told) -> int:
    """Write an export that is a file or a table; returns the number of rows or people."""
    folder, stem = workspace.exports, export.stem
    for unfinished in folder.glob(f".{stem}.*"):  # of a process that was killed: nobody else writes them now
        unfinished.unlink()
    if export.destination in LINES:
        encode = LINE[export.destination]
        account = Account("", made_at=found.release.manifest["scored_at"])
        told = items(changes(found.before, found.now, found.again), Naming(export.attributes, bool(export.audience)))
        return write_lines((encode(item, account) for item in told), folder / f"{stem}.{export.destination}.{found.release.id}.ndjson")
    if export.destination in LISTS:
        return _write_list(export, found, folder, stem)
    scorer = Scorer(found.release, timedelta(days=1))
    if export.destination in WRITERS:
        return _write_table(export.destination, folder, stem, scorer, found)
    rows = (rows for rows, _ in table.blocks(scorer, found.now, found.before))
    if export.destination == "postgresql":
        return sql.write_postgresql(rows, account_of(export).url)
    return sql.write_sqlite(rows, folder / f"{stem}.{table.NAME}.sqlite")


def _write_table(destination: str, folder: Path, stem: str, scorer: Scorer, found: Told) -> int:
    """The whole table, and beside it what was added, changed and removed since the last time: each appears whole."""
    number = 0
    with ExitStack() as stack:

        def to(name: str, schema: pa.Schema) -> Callable[[pa.Table], None]:
            texts = [column for column in table.TEXTS if column in schema.names]
            return stack.enter_context(WRITERS[destination](folder / f"{stem}.{name}.{destination}", schema, texts))

        everything, added, changed = (to(name, table.SCHEMA) for name in (table.NAME, "added", "changed"))
        gone = to("removed", table.GONE)
        for rows, kinds in table.blocks(scorer, found.now, found.before):
            everything(rows)
            number += rows.num_rows
            for writer, kind in ((added, table.ADDED), (changed, table.CHANGED)):
                if (kinds == kind).any():
                    writer(rows.filter(pa.array(kinds == kind)))
        for rows in table.removed(found.now, found.before):
            gone(rows)
    return number


def _write_list(export: Export, found: Told, folder: Path, stem: str) -> int:
    contacts = read_contacts(export.contacts or {}, export.folder, found.release)
    members = np.flatnonzero(found.now.codes[str(export.audience)] == IN)
    rows = lists.people(found.release, members, contacts, found.value_of)
    writer = lists.write_meta if export.destination == "meta" else lists.write_google
    _, number = writer(rows, folder, f"{stem}.{export.destination}")
    lists.warn_of_few(number, export.destination)
    return number
