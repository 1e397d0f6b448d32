"""The one place that knows which engine computes: an embedded DuckDB, spoken to through Ibis."""

from __future__ import annotations

import os
from collections.abc import Sequence
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

    def parquet(self, paths: Sequence[Path]) -> Table:
        """The rows of some Parquet files of one schema as a lazy table."""
        return self._backend.read_parquet([str(path) for path in paths])

    def arrow(self, table: pa.Table) -> Table:
        """An Arrow table in memory as a lazy table."""
        return self._backend.create_table(ibis.util.gen_name("arrow"), table, temp=True)

    def collect(self, expression: Table, order_by: Sequence[str]) -> pa.Table:
        """Compute an expression; rows come sorted by `order_by`, so that equal data give equal bytes."""
        return self._backend.to_pyarrow(expression.order_by(list(order_by)))
