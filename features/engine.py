"""The one place that knows which engine runs SQL: the embedded DuckDB, Spark or a warehouse."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
from ibis.backends.sql import SQLBackend

from features.errors import MissingExtra, UnknownName

ENGINES = ("duckdb", "spark")
COMPILED_ONLY = ("bigquery", "snowflake")  # SQL is made and parsed for these; nothing here has run it
SPARK = {
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",  # hundreds of aggregates in one method are more than the JVM compiles
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "2g",
}


class Engine:
    """The embedded DuckDB, for the queries that the log asks of itself; not shared between threads.

    Args:
        threads: worker threads; the results are the same for any number.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._connection = duckdb.connect(config={"threads": threads or os.cpu_count() or 1})

    def sql(self, query: str, **tables: pa.Table | Sequence[Path]) -> pa.Table:
        """Run a query over tables in memory and Parquet files, each under its name.

        A list of no files is a mistake of the caller's: it has no columns.
        """
        cursor = self._connection.cursor()
        for name, rows in tables.items():
            cursor.register(name, rows if isinstance(rows, pa.Table) else cursor.read_parquet([str(path) for path in rows]))
        return cursor.execute(query).to_arrow_table()


def connect(url: str) -> SQLBackend:
    """An engine for `relational`: `duckdb://` or `spark://local[2]` (any Spark master).

    Raises:
        UnknownName: no such engine. MissingExtra: Spark is not installed.
    """
    kind, _, rest = url.partition("://")
    if kind not in ENGINES:
        raise UnknownName("engine", kind or url, ENGINES)
    if kind == "duckdb":
        return ibis.duckdb.connect()
    return _spark(rest or "local[*]")


def read_parquet(backend: SQLBackend, paths: Sequence[Path]) -> ibis.Table:
    """The rows of some Parquet files of one schema, on an engine of `connect`; all its machines must see the files."""
    names = [str(path) for path in paths]
    if backend.name == "duckdb":
        return backend.read_parquet(names)
    backend._session.read.parquet(*names).createOrReplaceTempView("encore_log")  # Ibis reads one file at a time here
    return backend.table("encore_log")


def compiled(expression: ibis.Table, dialect: str) -> str:
    """The SQL of an expression for an engine or a warehouse.

    Raises:
        UnknownName: no such dialect.
    """
    known = {"duckdb": "duckdb", "spark": "pyspark", **{name: name for name in COMPILED_ONLY}}
    if dialect not in known:
        raise UnknownName("dialect", dialect, known)
    return str(ibis.to_sql(expression, dialect=known[dialect]))


def _spark(master: str) -> Any:
    try:
        from pyspark.sql import SparkSession
    except ModuleNotFoundError:
        raise MissingExtra("spark", "pyspark") from None
    if not master.startswith(("local", "yarn", "k8s")):
        master = f"spark://{master}"
    builder = SparkSession.builder.master(master).appName("encore")
    for name, value in SPARK.items():
        builder = builder.config(name, value)
    return ibis.pyspark.connect(builder.getOrCreate())
