"""Exports as files, for people and for tools that take an upload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from features.files import parquet_bytes, write_bytes
from features.sheets import write_csv

__all__ = ["write_csv", "write_parquet"]


def write_parquet(table: pa.Table, path: Path, text_columns: Sequence[str]) -> None:
    """Write Parquet; it has no formulas to guard against."""
    write_bytes(path, parquet_bytes(table))
