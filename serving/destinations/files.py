"""Exports as files, for people and for tools that take an upload."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.files import appearing, digest_of, parquet_bytes, write_bytes
from features.sheets import csv_writer, write_csv

__all__ = ["FORMATS", "csv_writer", "file_name", "parquet_writer", "write_lines"]


def write_parquet(table: pa.Table, path: Path, text_columns: Sequence[str]) -> None:
    """Write Parquet; it has no formulas to guard against."""
    write_bytes(path, parquet_bytes(table))


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema, text_columns: Sequence[str]) -> Iterator[Callable[[pa.Table], None]]:
    """Write Parquet table by table, by what it gives; the file appears whole when the block ends well."""
    with appearing(path) as file, pq.ParquetWriter(file, schema, compression="lz4") as writer:
        yield writer.write_table


def write_lines(lines: Iterable[bytes], path: Path) -> int:
    """Write lines; the file appears whole. Returns how many were given."""
    number = 0
    with appearing(path) as file:
        for line in lines:
            file.write(line + b"\n")
            number += 1
    return number


def file_name(name: str) -> str:
    """An audience's name as any file system takes it; names that come out alike are told apart by a digest."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain == name else f"{plain}-{digest_of(name)[:6]}"


FORMATS: dict[str, Callable[[pa.Table, Path, Sequence[str]], None]] = {"csv": write_csv, "parquet": write_parquet}
"""What `POST /v1/audiences/{key}/exports` writes."""
