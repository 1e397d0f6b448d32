"""CSV that a spreadsheet may open: no text in it can run as a formula."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from features.files import write_bytes

# A spreadsheet runs a cell that begins with one of these. Numbers have columns of their own type and stay as they are.
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_csv(table: pa.Table, path: Path, text_columns: Sequence[str]) -> None:
    """Write a CSV in which no text can run as a formula.

    Args:
        text_columns: columns whose content comes from outside; a phone number such as +86... is one only if its
            column is declared as text here.
    """
    for name in text_columns:
        safe = [None if value is None else f"'{value}" if value.startswith(RISKY) else value for value in table[name].to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(safe, pa.string()))
    sink = io.BytesIO()
    pacsv.write_csv(table, sink)
    write_bytes(path, sink.getvalue())
