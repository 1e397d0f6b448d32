"""The one place that knows which engine computes: an embedded DuckDB, spoken to through Ibis."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import ibis
import pyarrow as pa
from ibis import Table
from ibis.backends.duckdb import Backend


class Engine:
    """A connection that reads Parquet and computes Ibis expressions; not shared between threads.

    Args:
        threads: worker threads; the results are the same bytes for any number.
        memory: the most memory the engine may take, such as "2GB".
    """

    def __init__(self, threads: int | None = None, memory: str | None = None) -> None:
        settings: dict[str, str | int] = {"threads": threads or os.cpu_count() or 1}
        if memory:
            settings["memory_limit"] = memory
        self._backend: Backend = ibis.duckdb.connect(**settings)
        self._compiled: dict[str, str] = {}

    def parquet(self, paths: Sequence[Path]) -> Table:
        """The rows of some Parquet files of one schema as a lazy table."""
        return self._backend.read_parquet([str(path) for path in paths])

    def arrow(self, table: pa.Table) -> Table:
        """An Arrow table in memory as a lazy table."""
        return self._backend.create_table(ibis.util.gen_name("arrow"), table, temp=True)

    def stage(self, name: str, expression: Table) -> Table:
        """Give an expression a fixed name, in place of the one that had the name."""
        return self._backend.create_view(name, expression, overwrite=True)

    def collect_staged(self, key: str, build: Callable[[], Table], order_by: Sequence[str]) -> pa.Table:
        """Compute an expression over staged names. It is built and compiled once per key: for a wide expression
        that takes ten times as long as computing it."""
        if key not in self._compiled:
            self._compiled[key] = str(self._backend.compile(build().order_by(list(order_by))))
        return self._backend.raw_sql(self._compiled[key]).to_arrow_table()

    def collect(self, expression: Table, order_by: Sequence[str]) -> pa.Table:
        """Compute an expression; rows come sorted by `order_by`, so that equal data give equal bytes."""
        return self._backend.to_pyarrow(expression.order_by(list(order_by)))
