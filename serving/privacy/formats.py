"""Files of any kind, searched for ids and freed of them: Parquet, Arrow, CSV, JSON, lines of JSON, text, each also under gzip and Zstandard.

What a file is is told by how it begins, not by its name. What is none of these is searched as bytes, and listed as such.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.files import ROW_GROUP, write_bytes
from serving.privacy.needles import Needles

BYTES = "bytes"  # the format of what cannot be decoded
TEXTS = ("csv", "json", "lines")
SQLITE = "sqlite"


@dataclass(frozen=True)
class Seen:
    """What a look into a file found. format: as it was read; hits: rows, values, lines or, of bytes, 1."""

    format: str
    hits: int


def look(path: Path, needles: Needles) -> Seen:
    """Search one file."""
    with path.open("rb") as file:
        kind = format_of(file.read(16), path.name)
    if kind == "parquet":
        return Seen(kind, sum(_hits(table, needles) for table in _parquet(path)))
    if kind == "arrow":
        return Seen(kind, _hits_in_arrow(path, needles))
    return Seen(*look_into(path.read_bytes(), path.name, needles))


def look_into(content: bytes, name: str, needles: Needles) -> tuple[str, int]:
    """Search the content of a file."""
    kind = format_of(content[:16], name)
    if kind in PACKED:
        inner, hits = look_into(PACKED[kind][0](content), _bare(name), needles)
        return f"{kind} of {inner}", hits
    if kind == "zip":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            return kind, sum(look_into(packed.read(member), member, needles)[1] for member in packed.namelist())
    if kind in ("parquet", "arrow"):
        source = pa.BufferReader(content)
        return kind, _hits(pq.read_table(source) if kind == "parquet" else pa.ipc.open_file(source).read_all(), needles)
    if kind in TEXTS:
        return kind, _erased(kind, content, needles)[1] or needles.words_in(content)
    return kind, int(needles.bytes_in(content))


def erase(path: Path, needles: Needles) -> int:
    """Write a file anew without the rows, lines or values that name somebody; returns how many there were. What cannot be decoded stays."""
    with path.open("rb") as file:
        kind = format_of(file.read(16), path.name)
    if kind == "parquet":
        return _erase_from_parquet(path, needles)
    if kind == "arrow":
        return _erase_from_arrow(path, needles)
    content = path.read_bytes()
    outer = [kind] if kind in PACKED else []
    plain, name = (PACKED[kind][0](content), _bare(path.name)) if outer else (content, path.name)
    inner = format_of(plain[:16], name)
    if inner not in TEXTS:
        return 0
    left, hits = _erased(inner, plain, needles)
    if hits and not left.strip():  # a source that is empty would be refused
        path.unlink()
    elif hits:
        write_bytes(path, PACKED[kind][1](left) if outer else left)
    return hits


def format_of(beginning: bytes, name: str) -> str:
    """What a file is by its first bytes; of texts the name tells csv from json."""
    for magic, kind in MAGIC.items():
        if beginning.startswith(magic):
            return kind
    try:
        beginning.decode()
    except UnicodeDecodeError as error:
        if error.start < len(beginning) - 3:  # not a letter that was cut in half
            return BYTES
    if b"\0" in beginning:
        return BYTES
    suffix = Path(name).suffix
    return "csv" if suffix in (".csv", ".tsv") else "json" if suffix == ".json" else "lines"


MAGIC = {
    b"PAR1": "parquet", b"ARROW1": "arrow", b"SQLite format 3\0": SQLITE, b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
    b"\x89PNG": BYTES, b"\x93NUMPY": BYTES, b"%PDF": BYTES,
}  # fmt: skip


def _unpack_zstd(content: bytes) -> bytes:
    return bytes(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())


def _pack_zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return bytes(sink.getvalue())


PACKED: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": (gzip.decompress, lambda content: gzip.compress(content, mtime=0)),
    "zstd": (_unpack_zstd, _pack_zstd),
}


def _bare(name: str) -> str:
    return name.rpartition(".")[0] if name.endswith((".gz", ".zst", ".zstd")) else name


def _parquet(path: Path) -> list[pa.Table]:
    """The columns of a file that could hold an id, a row group at a time."""
    file = pq.ParquetFile(path)
    numbers = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_temporal)
    texts = [field.name for field in file.schema_arrow if not any(is_number(field.type) for is_number in numbers)]
    return [file.read_row_group(group, columns=texts) for group in range(file.num_row_groups)] if texts else []


def _hits(table: pa.Table, needles: Needles) -> int:
    return int(pc.sum(needles.rows_of(table)).as_py() or 0)


def _hits_in_arrow(path: Path, needles: Needles) -> int:
    with pa.memory_map(str(path), "r") as source:
        table = pa.ipc.open_file(source).read_all()
    unused = sum(_hits(pa.table({field.name: table[field.name].chunk(0).dictionary}), needles) for field in table.schema if _is_coded(field, table))
    return max(_hits(table, needles), unused)


def _is_coded(field: pa.Field, table: pa.Table) -> bool:
    return bool(pa.types.is_dictionary(field.type) and table[field.name].num_chunks)


def _erase_from_parquet(path: Path, needles: Needles) -> int:
    if not any(_hits(table, needles) for table in _parquet(path)):
        return 0
    file = pq.ParquetFile(path)
    codec, sink, hits = file.metadata.row_group(0).column(0).compression.lower(), pa.BufferOutputStream(), 0
    with pq.ParquetWriter(sink, file.schema_arrow, compression="none" if codec == "uncompressed" else codec) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            mine = needles.rows_of(table)
            hits += int(pc.sum(mine).as_py() or 0)
            writer.write_table(table.filter(pc.invert(mine)), row_group_size=ROW_GROUP)
    write_bytes(path, bytes(sink.getvalue()))
    return hits


def _erase_from_arrow(path: Path, needles: Needles) -> int:
    hits = _hits_in_arrow(path, needles)
    if hits:
        with pa.memory_map(str(path), "r") as source:
            table = pa.ipc.open_file(source).read_all()
        kept, sink = fresh(table.filter(pc.invert(needles.rows_of(table)))), pa.BufferOutputStream()
        with pa.ipc.new_file(sink, kept.schema) as writer:
            writer.write_table(kept)
        write_bytes(path, bytes(sink.getvalue()))
    return hits


def fresh(table: pa.Table) -> pa.Table:
    """The same rows with dictionaries of the words that are used and no others."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field, table[field.name].cast(field.type.value_type).dictionary_encode().cast(field.type))
    return table


def _erased(kind: str, content: bytes, needles: Needles) -> tuple[bytes, int]:
    """A text without what names somebody, and how much that was."""
    if kind == "csv":
        return _erased_from_csv(content, needles)
    if kind == "json":
        with suppress(ValueError):
            left, hits = needles.without(json.loads(content))
            return (json.dumps(left, indent=2, ensure_ascii=False).encode() + b"\n", hits) if hits else (content, 0)
    lines = content.splitlines(keepends=True)
    kept = [line for line in lines if not _names_somebody(line, needles)]
    return b"".join(kept), len(lines) - len(kept)


def _erased_from_csv(content: bytes, needles: Needles) -> tuple[bytes, int]:
    text = content.decode("utf-8", "surrogateescape")
    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    names = rows[0] if rows else []
    gone = [any(needles.is_one(cell, name) for name, cell in zip(names, row, strict=False)) for row in rows]
    if not any(gone):
        return content, 0
    sink = io.StringIO(newline="")
    quoting: Literal[0, 1] = csv.QUOTE_ALL if text.startswith('"') else csv.QUOTE_MINIMAL
    ending = "\r\n" if "\r\n" in text else "\n"
    csv.writer(sink, delimiter=separator, quoting=quoting, lineterminator=ending).writerows(row for row, mine in zip(rows, gone, strict=True) if not mine)
    return sink.getvalue().encode("utf-8", "surrogateescape"), sum(gone)


def _names_somebody(line: bytes, needles: Needles) -> bool:
    if needles.words_in(line):
        return True
    if line[:1] in b"{[" and any(name.encode() in line for name in needles.names):
        with suppress(ValueError):
            return needles.without(json.loads(line))[1] > 0
    return False
