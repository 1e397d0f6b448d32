"""Tables and queries of a database, for `kind = "table"`: `url` and `query` or `table` in place of `path`.

* `duckdb:///shop.duckdb` is a file beside the shop file, `duckdb:////srv/shop.duckdb` (four slashes) any file.
* `postgresql://encore:${PGPASSWORD}@db.example/shop` is a PostgreSQL database; it needs Encore's part `postgres`.
* `${NAME}` stands for an environment variable, so that no password stands in the shop file. Its characters that mean
  something in an address, such as @ and /, are escaped here; a `url` that is nothing but one variable is taken as it is.
* Only the mapped columns are read, in chunks, in a transaction that cannot write. Times without a zone need `time_zone`.
* `known_at` is the mapped column, or else the moment of the event; what contradicts an earlier reading became known now.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pandas as pd
import pyarrow as pa

from features.errors import MissingExtra, unknown_name

SCHEMES = ("duckdb", "postgresql")
CHUNK = 50_000  # rows at a time
PATIENCE = 10  # seconds until a database that does not answer is given up
VARIABLE = re.compile(r"\$\{(\w+)\}")
VISIBLE = """select case when table_schema = 'public' then '' else table_schema || '.' end || table_name
from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') order by 1"""
Opened = tuple[pd.DataFrame, list[str]]


def connection_problems(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with `url`, `query` and `table`."""
    given = [name for name in ("query", "table") if name in settings]
    if "url" not in settings:
        return [f'{name} needs url, such as url = "postgresql://encore:${{PGPASSWORD}}@db.example/shop"' for name in given]
    problems = []
    if "path" in settings:
        problems.append("both url and path are given; keep the one that is meant")
    if len(given) != 1:
        problems.append(f'url needs either query = "select ..." or table = "name"{"; both are given" if given else ""}')
    url = str(settings["url"])
    unset = [name for name in VARIABLE.findall(url) if not os.environ.get(name)]
    problems += [f"the environment variable {name}, which url names, is not set" for name in unset]
    scheme = _expanded(url).partition("://")[0]
    if not unset and scheme not in SCHEMES:
        problems.append(unknown_name("kind of database in url", scheme, SCHEMES))
    return problems


def name_of(settings: Mapping[str, Any]) -> str:
    """What reports call the rows."""
    return str(settings.get("table", "query"))


def open_query(settings: Mapping[str, Any], wanted: Sequence[str], folder: Path) -> Opened:
    """The wanted columns that exist, and what is wrong: no connection, no such table, missing columns.

    Raises:
        MissingExtra: the driver of the database is not installed.
    """
    if connection_problems(settings):
        return pd.DataFrame(), []
    url, statement = _expanded(str(settings["url"])), _statement(settings)
    if url.startswith("duckdb://"):
        return _read_duckdb(url.removeprefix("duckdb://").removeprefix("/"), statement, wanted, folder)
    rows, problems = _read_postgres(url, statement, wanted)
    return rows, [_without_secrets(problem, str(settings["url"])) for problem in problems]


def _read_duckdb(name: str, statement: str, wanted: Sequence[str], folder: Path) -> Opened:
    path = folder / name
    if not path.is_file():
        near = sorted(file.name for file in path.parent.iterdir() if file.suffix in (".duckdb", ".db", ".ddb")) if path.parent.is_dir() else []
        absolute = f" For the file /{name} write four slashes: duckdb:////{name}." if (Path("/") / name).is_file() else ""
        return pd.DataFrame(), [unknown_name("file", path.name, near).replace("Known:", "Beside it:") + absolute]
    try:
        opened = duckdb.connect(str(path), read_only=True, config={"autoinstall_known_extensions": "false"})
    except duckdb.Error as error:
        return pd.DataFrame(), [f"{path.name} cannot be opened: {_first_line(error)}"]
    with closing(opened) as connection:
        try:
            known = [str(column[0]) for column in connection.execute(_none_of(statement)).description]
            missing, present = _divided(wanted, known)
            if missing or not present:
                return pd.DataFrame(), missing
            batches = list(connection.execute(_columns_of(statement, present)).to_arrow_reader(CHUNK))
        except duckdb.Error as error:
            lost = re.search(r"Table with name (\S+) does not exist", str(error))
            if lost:
                tables = connection.execute("select table_name from information_schema.tables order by 1").fetchall()
                return pd.DataFrame(), [unknown_name("table", lost[1], [table for (table,) in tables])]
            return pd.DataFrame(), [f"the database cannot answer the query: {_first_line(error)}"]
    if not batches:
        return pd.DataFrame(columns=present), []
    whole = {kind: pd.Int64Dtype() for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())}
    return pa.Table.from_batches(batches).to_pandas(types_mapper=whole.get), []


def _read_postgres(url: str, statement: str, wanted: Sequence[str]) -> Opened:
    try:
        import psycopg
    except ImportError:
        raise MissingExtra("postgres", "psycopg") from None
    waits: dict[str, Any] = {} if "connect_timeout=" in url else {"connect_timeout": PATIENCE}
    try:
        opened = psycopg.connect(url, **waits)
    except psycopg.Error as error:
        advice = "Is it running there, may this machine reach it, and are user and password right?"
        return pd.DataFrame(), [f"no connection to the database: {_first_line(error)}. {advice}"]
    with closing(opened) as connection:
        connection.read_only = True
        try:
            known = [column.name for column in connection.execute(_none_of(statement)).description or ()]
            missing, present = _divided(wanted, known)
            if missing or not present:
                return pd.DataFrame(), missing
            frames = [pd.DataFrame(columns=present, dtype=object)]
            with connection.cursor("encore") as cursor:
                cursor.execute(_columns_of(statement, present))
                while rows := cursor.fetchmany(CHUNK):
                    # As objects: whole numbers beside empty values would become floats.
                    frames.append(pd.DataFrame(rows, columns=present, dtype=object))
            return pd.concat(frames, ignore_index=True), []
        except psycopg.errors.UndefinedTable as error:
            connection.rollback()
            lost = re.search(r'"(.+?)"', error.diag.message_primary or "")
            tables = connection.execute(VISIBLE).fetchall()
            return pd.DataFrame(), [unknown_name("table", lost[1] if lost else "", [str(table) for (table,) in tables])]
        except psycopg.Error as error:
            hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
            return pd.DataFrame(), [f"the database cannot answer the query: {error.diag.message_primary or _first_line(error)}.{hint}"]


def _expanded(url: str) -> str:
    if VARIABLE.fullmatch(url):
        return os.environ.get(url[2:-1], "")
    is_address = not url.startswith("duckdb:")
    return VARIABLE.sub(lambda found: quote(os.environ.get(found[1], ""), safe="") if is_address else os.environ.get(found[1], ""), url)


def _without_secrets(text: str, url: str) -> str:
    """A driver may quote the address with the password in it."""
    values = [os.environ.get(name, "") for name in VARIABLE.findall(url)] + re.findall(r"//[^:/@]*:([^@]+)@", _expanded(url))
    for secret in {written for value in values for written in (value, quote(value, safe="")) if written}:
        text = text.replace(secret, "***")
    return text


def _statement(settings: Mapping[str, Any]) -> str:
    if "table" in settings:
        return f"select * from {'.'.join(_quoted(part) for part in str(settings['table']).split('.'))}"  # noqa: S608 - quoted
    return str(settings["query"]).strip().rstrip(";")


def _none_of(statement: str) -> Any:
    return f"select * from ({statement}\n) as encore limit 0"  # noqa: S608 - the shop file's own query


def _columns_of(statement: str, names: Sequence[str]) -> Any:
    return f"select {', '.join(map(_quoted, names))} from ({statement}\n) as encore"  # noqa: S608 - quoted


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _divided(wanted: Sequence[str], known: Sequence[str]) -> tuple[list[str], list[str]]:
    return [unknown_name("column", name, known) for name in wanted if name not in known], [name for name in wanted if name in known]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
