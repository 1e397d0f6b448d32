"""Ids in databases: searched in every table, and erased from the ledger's, whatever tables it has."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving.campaigns import store as campaigns
from serving.ledger import METADATA, Ledger
from serving.migrations import all_tables
from serving.privacy.audit import AUDIT_LOG
from serving.privacy.needles import Needles
from serving.privacy.register import SUPPRESSIONS

USER = "user_id"  # what every column is called that holds one
CHUNK = 500  # ids in one statement


def erase_from_ledger(ledger: Ledger, needles: Needles) -> dict[str, int]:
    """Erase users from every table: the rows that are theirs, and in JSON, text and answers that are kept whatever names them.

    Returns table -> rows deleted or changed. A database gives free what it deletes (`vacuum`) only then.
    """
    all_tables()
    found = {}
    for table in METADATA.sorted_tables:
        if table in (AUDIT_LOG, SUPPRESSIONS):  # no id is ever written there, and what is written stays
            continue
        with ledger.connection() as connection:
            if rows := _erase_own(connection, table, needles) + _erase_named(connection, table, needles):
                found[table.name] = rows
                if table is campaigns.MEMBERS:
                    campaigns.count_again(connection)
    own = {table.name for table in METADATA.sorted_tables if USER in table.c} | {"jobs", "idempotency_keys"}
    ledger.vacuum(sorted(own | {*found}))  # in any case: what was killed may have deleted and not cleared
    return found


def rename_releases(ledger: Ledger, formerly: Mapping[str, str]) -> None:
    """Let every table that names a release name it by its new id. formerly: old id -> new id."""
    all_tables()
    with ledger.connection() as connection:
        for table in METADATA.sorted_tables:
            if "release" in table.c:
                for old, new in formerly.items():
                    still = table.c.state != "running" if "state" in table.c else sa.true()  # a delivery counts rows: it begins anew
                    connection.execute(table.update().where(table.c.release == old, still).values(release=new))


def rows_in_ledger(ledger: Ledger, needles: Needles) -> dict[str, list[Mapping[str, Any]]]:
    """Table -> the rows that are a user's or name one."""
    all_tables()
    found: dict[str, list[Mapping[str, Any]]] = {}
    with ledger.connection() as connection:
        for table in METADATA.sorted_tables:
            mine = [dict(row) for some in _chunks(needles) for row in connection.execute(_own(table, some)).mappings()] if USER in table.c else []
            named = [row for row, _ in _naming(connection, table, needles)]
            if rows := mine + [row for row in named if row not in mine]:
                found[table.name] = rows
    return found


def erase_from_sqlite(path: Path, needles: Needles) -> int:
    """Erase users from a SQLite file that somebody was given, table by table, and from its freed pages."""
    found = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        for table in tables:
            for column in [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]:
                wanted = sorted(needles.wanted(column))
                for first in range(0, len(wanted), CHUNK):
                    some = wanted[first : first + CHUNK]
                    found += connection.execute(f'DELETE FROM "{table}" WHERE "{column}" IN ({", ".join("?" * len(some))})', some).rowcount  # noqa: S608
        if found:
            connection.execute("VACUUM")
    return found


def hits_in(engine: sa.Engine, needles: Needles) -> dict[str, int]:
    """Table -> rows with an id in any column, of any database: every row is read."""
    found = {}
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for name in inspector.get_table_names():
            columns = [column["name"] for column in inspector.get_columns(name)]
            table = sa.table(name, *(sa.column(column) for column in columns))
            rows = connection.execute(sa.select(table)).mappings()
            if hits := sum(any(_is_in(value, column, needles) for column, value in row.items()) for row in rows):
                found[name] = hits
    return found


def _erase_own(connection: Connection, table: sa.Table, needles: Needles) -> int:
    if USER not in table.c:
        return 0
    return sum(connection.execute(table.delete().where(table.c[USER].in_(some))).rowcount for some in _chunks(needles))


def _erase_named(connection: Connection, table: sa.Table, needles: Needles) -> int:
    rows = list(_naming(connection, table, needles))
    key = list(table.primary_key.columns)
    for row, left in rows:
        this = sa.and_(*(column == row[column.name] for column in key))
        connection.execute(table.delete().where(this) if left is None else table.update().where(this).values(**left))
    return len(rows)


def _naming(connection: Connection, table: sa.Table, needles: Needles) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
    """The rows that name somebody elsewhere than in `user_id`, with what their columns of JSON become; None where the whole row goes."""
    columns = [column for column in table.c if column.name != USER and isinstance(column.type, sa.JSON | sa.LargeBinary | sa.Text | sa.String)]
    named = [column for column in columns if not column.primary_key or isinstance(column.type, sa.Text)]
    if not named:
        return
    for found in connection.execute(sa.select(table)).mappings().all():
        row: dict[str, Any] = dict(found)
        left: dict[str, Any] = {}
        for column in named:
            value = row[column.name]
            if isinstance(column.type, sa.JSON):
                kept, hits = needles.without(value, column.name)
                left |= {column.name: kept} if hits else {}
            elif _is_in(value, column.name, needles):
                yield row, None
                break
        else:
            if left:
                yield row, None if table.name == "idempotency_keys" else left


def _is_in(value: Any, column: str, needles: Needles) -> bool:
    if isinstance(value, bytes | memoryview):
        return bool(needles.words_in(bytes(value)))
    if not isinstance(value, str):
        return isinstance(value, dict | list) and needles.without(value, column)[1] > 0
    if needles.is_one(value, column) or needles.words_in(value.encode()):
        return True
    return value[:1] in ("{", "[") and any(name in value for name in needles.names) and _json_names(value, needles)


def _json_names(value: str, needles: Needles) -> bool:
    try:
        return needles.without(json.loads(value))[1] > 0
    except ValueError:
        return False


def _own(table: sa.Table, some: list[str]) -> sa.Select[Any]:
    return sa.select(table).where(table.c[USER].in_(some))


def _chunks(needles: Needles) -> list[list[str]]:
    names = sorted(needles.names)
    return [names[first : first + CHUNK] for first in range(0, len(names), CHUNK)]
