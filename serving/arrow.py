"""Arrow files that a service maps into memory: worker processes share their pages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def write_arrow(path: Path, columns: Mapping[str, pa.Array]) -> None:
    """Write columns as one uncompressed record batch, so that a reader maps them without a copy."""
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_arrow(path: Path) -> dict[str, pa.Array]:
    """Map the columns of a file written by `write_arrow`."""
    with pa.memory_map(str(path), "r") as source:
        batch = pa.ipc.open_file(source).get_batch(0)
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def id_array(column: pa.Array) -> npt.NDArray[np.bytes_]:
    """Ids of one width as numpy searches them."""
    return _mapped(column, f"S{column.type.byte_width}", pa.binary(column.type.byte_width))


def numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """A column of float64."""
    return _mapped(column, np.float64, pa.float64())


def codes(column: pa.Array) -> npt.NDArray[np.int8]:
    """A column of int8."""
    return _mapped(column, np.int8, pa.int8())


def whole_numbers(column: pa.Array) -> npt.NDArray[np.uint64]:
    """A column of uint64."""
    return _mapped(column, np.uint64, pa.uint64())


def integers(column: pa.Array) -> npt.NDArray[Any]:
    """A column of whole numbers of any width."""
    return _mapped(column, np.dtype(str(column.type)), column.type)


def dictionary(words: pa.ChunkedArray) -> pa.DictionaryArray:
    """Words as the places of the different ones among them in order: a byte for each user where they are few."""
    different = pc.unique(words).drop_null().sort()
    width = next(kind for kind in (pa.int8(), pa.int16(), pa.int32()) if len(different) < 2 ** (kind.bit_width - 1))
    places = pc.index_in(words, different).combine_chunks().cast(width)
    return pa.DictionaryArray.from_arrays(places, different)


def _mapped(column: pa.Array, dtype: npt.DTypeLike, stored: pa.DataType) -> npt.NDArray[Any]:
    """A column without nulls where it lies: Arrow's own `to_numpy` imports pandas, which takes 80 MB.

    Raises:
        ValueError: it has nulls or is of another type.
    """
    if column.null_count or column.type != stored:
        raise ValueError(f"a column of {column.type} with {column.null_count} nulls where {stored} without any is due")
    width = np.dtype(dtype).itemsize
    return np.frombuffer(column.buffers()[1] or b"", dtype=dtype, count=len(column), offset=column.offset * width)


class _NoPandas(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def arrow_without_pandas() -> None:
    """Arrow looks for pandas when it first hands an array to NumPy, and imports it: 24 MB and a third of a second for nothing that is used here.
    It looks once, so let it find none; where pandas is loaded already nothing changes."""
    if "pandas" in sys.modules:
        return
    nowhere = _NoPandas()
    sys.meta_path.insert(0, nowhere)
    try:
        pa.array([0]).to_numpy()
    finally:
        sys.meta_path.remove(nowhere)
