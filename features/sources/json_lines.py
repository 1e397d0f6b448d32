"""Nested records, as JSON lines (plain or gzipped) or Parquet, as flat columns of text.

* A line that is not a JSON object is left out, with its number; the rest of the file is read.
* Everything comes as text, numbers with the shortest digits that mean the same: up to 15 significant digits are as they
  are in the file, so that an amount of money is read exactly.
* Files are read in pieces: what is kept in memory is the wanted fields, not the file.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import NoUsableData, unknown_name
from features.sources.batch import refused_rows

PIECE, SHARE = 40_000, 5_000  # records read at once, and by one thread
ENDINGS = (".json", ".jsonl", ".ndjson", ".gz", ".parquet")
NOT_JSON = "not a JSON object"
READ_TEXT = """SELECT line, good, {wanted} FROM (SELECT line, good, CASE WHEN good THEN json_transform(text, '{shape}') END AS m
    FROM (SELECT *, starts_with(text, '{{') AND json_valid(text) AS good FROM rows))"""
READ_TYPED = "SELECT line, true AS good, {wanted} FROM (SELECT line, struct_pack({fields}) AS m FROM rows)"
NAMES = "SELECT DISTINCT unnest(json_keys(text)) AS name FROM (SELECT text FROM rows WHERE json_valid(text) LIMIT 1000) ORDER BY name"


@dataclass(frozen=True)
class Lines:
    """The records of a file.

    Args:
        table: `line` (of Parquet the row; both from 1) and the wanted fields.
        refused: the lines that are not records, as in `Batch.refused`.
        names: the top-level fields that the first records have.
        problems: why the file as a whole cannot be accepted.
    """

    table: pa.Table
    refused: pd.DataFrame
    names: list[str]
    problems: list[str]

    def frame(self) -> pd.DataFrame:
        """The fields that are not lists, as text; blank is empty."""
        return _frame(self.table.select([field.name for field in self.table.schema if not pa.types.is_list(field.type)]))

    def elements(self, name: str) -> pd.DataFrame:
        """The objects in a list of every record: `row` is the record's place in `frame`."""
        column = self.table[name].combine_chunks()
        objects = pc.list_flatten(column)
        fields = pa.table(objects.flatten(), names=[field.name for field in objects.type])
        return _frame(fields).assign(row=pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype("int64"))

    def missing(self, *names: str) -> list[str]:
        """A problem per field that not one record has."""
        return [unknown_name("field", name, self.names) for name in names if self.table.num_rows and self.table[name].null_count == self.table.num_rows]


def read_lines(
    path: Path,
    paths: Mapping[str, str],
    lists: Mapping[str, tuple[str, Any]],
    expressions: Mapping[str, str] | None = None,
    used: Mapping[str, Any] | None = None,
) -> Lines:
    """Read the wanted fields of a file.

    Args:
        paths: name -> where the field is, such as "context.page.url".
        lists: name -> where the list of objects is, and the shape of its objects.
        expressions: name -> further fields, as the engine's own expressions over the record `m`.
        used: where a list of objects is that only expressions use -> the shape of its objects.

    Raises:
        NoUsableData: there is nothing in the file.
    """
    shape = _shape(paths.values(), [*lists.values(), *(used or {}).items()])
    places = {**paths, **{name: place for name, (place, _) in lists.items()}}
    columns = {name: "m." + ".".join(_quoted(part) for part in place.split(".")) for name, place in places.items()} | dict(expressions or {})
    wanted = ", ".join(f"{expression} AS {_quoted(name)}" for name, expression in columns.items())
    from_text = READ_TEXT.format(wanted=wanted, shape=json.dumps(shape).replace("'", "''"))
    problems, engine, names = _file_problems(path), duckdb.connect(), list[str]()
    tables = [_run(engine, from_text, _texts([], []))]
    try:
        if not problems and path.suffix == ".parquet":
            names = list(pq.read_schema(path).names)
        for piece in _pieces(path, shape, engine) if not problems else ():
            is_text = "text" in piece.column_names
            names = names or [str(name) for name in _run(engine, NAMES, piece)["name"].to_pylist()]
            query = from_text if is_text else READ_TYPED.format(wanted=wanted, fields=_typed_fields(shape, piece.column_names))
            tables.append(_run(engine, query, piece))
    except (pa.ArrowException, OSError, EOFError) as error:
        problems.append(f"the file is damaged or not what its ending says: {str(error).splitlines()[0]}")
    both = pa.concat_tables(tables)
    table, bad = both.filter(both["good"]).drop_columns("good"), both.filter(pc.invert(both["good"]))["line"].to_pandas()
    refused = refused_rows(path.name, bad, pd.Series(NOT_JSON, bad.index))
    if not problems and not table.num_rows:
        if refused.empty:
            raise NoUsableData(f"{path.name} has no records. Nothing was written.")
        problems.append("not one line is a JSON object; write one object a line (of a JSON array: jq -c '.[]')")
    return Lines(table, refused, names, problems)


def _shape(texts: Iterable[str], lists: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    shape: dict[str, Any] = {}
    for place, kind in (*((place, "VARCHAR") for place in texts), *((place, [fields]) for place, fields in lists)):
        *parents, last = place.split(".")
        inner = shape
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = kind
    return shape


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _file_problems(path: Path) -> list[str]:
    if not path.is_file():
        near = [file.name for file in path.parent.iterdir() if file.suffix in ENDINGS] if path.parent.is_dir() else []
        return [unknown_name("file", path.name, sorted(near)).replace("Known:", "Beside it:")]
    return [] if path.suffix in ENDINGS else [f"'{path.suffix}' files cannot be read; give one of {', '.join(ENDINGS)}"]


def _pieces(path: Path, shape: Mapping[str, Any], engine: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    """Tables of `line` and `text`, one JSON text per record, or of Parquet that has the shape of `line` and its columns."""
    if path.suffix == ".parquet":
        yield from _parquet_pieces(pq.ParquetFile(path), shape, engine)
        return
    start = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        while piece := list(islice(lines, PIECE)):
            written = [(number, line) for number, line in enumerate(piece, start + 1) if line.strip()]
            yield _texts([number for number, _ in written], [_decoded(line) for _, line in written])
            start += len(piece)


def _parquet_pieces(file: pq.ParquetFile, shape: Mapping[str, Any], engine: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    schema, start = file.schema_arrow, 0
    names = [name for name in schema.names if name in shape]
    if not names:
        yield pa.table({"line": pa.array(range(1, file.metadata.num_rows + 1), pa.int64())})
        return
    is_typed = all(_fits(schema.field(name).type, shape[name]) for name in names)
    for batch in file.iter_batches(PIECE, columns=names):
        rows = pa.Table.from_batches([batch])
        lines = list(range(start + 1, start + 1 + rows.num_rows))
        # What has another shape is written as JSON and read from there, which takes three times as long.
        text = None if is_typed else _run(engine, "SELECT to_json(rows)::VARCHAR AS text FROM rows", rows)["text"]
        yield rows.add_column(0, "line", pa.array(lines, pa.int64())) if text is None else pa.table({"line": pa.array(lines, pa.int64()), "text": text})
        start += rows.num_rows


def _fits(kind: pa.DataType, shape: Any) -> bool:
    """Whether the engine can cast a type to a shape, by the names of its fields."""
    if isinstance(shape, list):
        return bool(pa.types.is_list(kind)) and _fits(kind.value_type, shape[0])
    if isinstance(shape, str):
        return not pa.types.is_nested(kind)
    inside = [name for name in shape if pa.types.is_struct(kind) and kind.get_field_index(name) >= 0]
    return bool(inside) and all(_fits(kind.field(name).type, shape[name]) for name in inside)


def _typed_fields(shape: Mapping[str, Any], present: Sequence[str]) -> str:
    return ", ".join(f"{_quoted(name)} := CAST({_quoted(name) if name in present else 'NULL'} AS {_sql_type(kind)})" for name, kind in shape.items())


def _sql_type(shape: Any) -> str:
    if isinstance(shape, list):
        return f"{_sql_type(shape[0])}[]"
    return shape if isinstance(shape, str) else f"STRUCT({', '.join(f'{_quoted(name)} {_sql_type(kind)}' for name, kind in shape.items())})"


def _run(engine: duckdb.DuckDBPyConnection, query: str, rows: pa.Table) -> pa.Table:
    return engine.register("rows", rows).execute(query).to_arrow_table()


def _texts(lines: Sequence[int], texts: Sequence[str]) -> pa.Table:
    whole = pa.table({"line": pa.array(lines, pa.int64()), "text": pa.array(texts, pa.string())})
    return pa.Table.from_batches(whole.to_batches(max_chunksize=SHARE), whole.schema)


def _decoded(line: bytes) -> str:
    """What is not UTF-8 becomes text that is not JSON either."""
    try:
        return line.strip().decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""


def _frame(table: pa.Table) -> pd.DataFrame:
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_string(column.type):
            trimmed = pc.utf8_trim_whitespace(column)
            column = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
        columns[name] = column
    found: pd.DataFrame = pa.table(columns).to_pandas(types_mapper={pa.string(): pd.StringDtype()}.get)
    return found
