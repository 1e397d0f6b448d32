"""The table `predictive_scores` in a database: whole and new, or as it was."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from features.errors import InvalidUse, MissingExtra
from features.files import sync_directory
from serving.destinations.table import NAME, SCHEMA

COLUMNS = tuple(SCHEMA.names)
KEY = ("user_id", "model")
_SQLITE = {"double": "real", "bool": "integer"}
_POSTGRES = {"double": "double precision", "bool": "boolean", "timestamp[us, tz=UTC]": "timestamptz"}


def write_sqlite(tables: Iterable[pa.Table], path: Path) -> int:
    """Write a SQLite file with the one table; it appears whole. Times are text in ISO 8601. Returns the number of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, rows = path.with_name(f".{path.name}.{os.getpid()}"), 0
    unfinished.unlink(missing_ok=True)
    try:
        connection = sqlite3.connect(unfinished, isolation_level=None)
        try:
            connection.execute("pragma journal_mode = off")
            connection.execute("begin")
            connection.execute(f"create table {NAME} ({_columns(_SQLITE)}, primary key ({', '.join(KEY)})) without rowid")
            statement = f"insert into {NAME} values ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - names of our own
            for table in tables:
                moments = table["scored_at"].cast(pa.string())
                plain = table.set_column(COLUMNS.index("scored_at"), "scored_at", moments)
                connection.executemany(statement, zip(*(column.to_pylist() for column in plain.columns), strict=True))
                rows += table.num_rows
            connection.execute("commit")
        finally:
            connection.close()
        unfinished.replace(path)
        sync_directory(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def write_postgresql(tables: Iterable[pa.Table], url: str) -> int:
    """Bring the table of a PostgreSQL database to what is given, in one transaction: readers see the old one or the new one.

    Rows are inserted, updated and deleted one by one, so that views, privileges and tools that follow changes keep what they have.

    Raises:
        InvalidUse: the database cannot be used, with its own words. MissingExtra.
    """
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise MissingExtra("postgres", error.name) from None
    columns, others = ", ".join(COLUMNS), [name for name in COLUMNS if name not in KEY]
    rows = 0
    try:
        with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), connect_timeout=5) as connection, connection.cursor() as cursor:
            cursor.execute(f"create table if not exists {NAME} ({_columns(_POSTGRES)}, primary key ({', '.join(KEY)}))")
            cursor.execute(f"lock table {NAME} in share row exclusive mode")
            cursor.execute(f"create temporary table arriving (like {NAME}) on commit drop")
            with cursor.copy(f"copy arriving ({columns}) from stdin") as copy:
                for table in tables:
                    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                        copy.write_row(row)
                    rows += table.num_rows
            cursor.execute(f"analyze arriving; create index on arriving ({', '.join(KEY)})")
            same = " and ".join(f"arriving.{name} = {NAME}.{name}" for name in KEY)
            cursor.execute(f"delete from {NAME} where not exists (select 1 from arriving where {same})")  # noqa: S608 - names of our own
            updates = ", ".join(f"{name} = excluded.{name}" for name in others)
            cursor.execute(f"insert into {NAME} ({columns}) select {columns} from arriving on conflict ({', '.join(KEY)}) do update set {updates}")  # noqa: S608
    except psycopg.Error as error:
        raise InvalidUse(f"The database of the export cannot be used: {type(error).__name__}. Look at its address and rights; nothing was changed.") from None
    return rows


def _columns(kinds: dict[str, str]) -> str:
    return ", ".join(f"{field.name} {kinds.get(str(field.type), 'text')}{'' if field.nullable else ' not null'}" for field in SCHEMA)
