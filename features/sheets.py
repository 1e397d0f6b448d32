"""CSV that a spreadsheet may open: no text in it can run as a formula."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from features.files import appearing, write_bytes

# A spreadsheet runs a cell that begins with one of these. Numbers have columns of their own type and stay as they are.
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")
BEGINS_RISKY = r"\A[=+\-@\t\r\n]"
PHONE = r"\A\+[0-9]{7,15}\z"


def write_csv(table: pa.Table, path: Path, text_columns: Sequence[str], phone_columns: Sequence[str] = ()) -> None:
    """Write a CSV in which no text can run as a formula.

    Args:
        text_columns: columns whose content comes from outside. phone_columns: those of them in which a phone number such as
            +8613800138000 stays as it is; whatever is no phone number is treated as text there, too.
    """
    sink = io.BytesIO()
    pacsv.write_csv(harmless(table, text_columns, phone_columns), sink)
    write_bytes(path, sink.getvalue())


@contextmanager
def csv_writer(path: Path, schema: pa.Schema, text_columns: Sequence[str]) -> Iterator[Callable[[pa.Table], None]]:
    """As `write_csv`, table by table, by what it gives; the file appears whole when the block ends well."""
    with appearing(path) as file, pacsv.CSVWriter(file, harmless(schema.empty_table(), text_columns).schema) as writer:
        yield lambda table: writer.write_table(harmless(table, text_columns))


def harmless(table: pa.Table, text_columns: Sequence[str], phone_columns: Sequence[str] = ()) -> pa.Table:
    """A table whose texts begin with an apostrophe where a spreadsheet would run them."""
    for name in text_columns:
        values = table[name].cast(pa.string())
        risky = pc.match_substring_regex(values, BEGINS_RISKY)
        if name in phone_columns:
            risky = pc.and_not(risky, pc.match_substring_regex(values, PHONE))
        safe = pc.if_else(risky, pc.binary_join_element_wise("'", values, ""), values)
        table = table.set_column(table.column_names.index(name), pa.field(name, pa.string()), safe)
    return table
