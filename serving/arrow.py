"""Arrow files that a service maps into memory: worker processes share their pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa


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
    width = column.type.byte_width
    return np.frombuffer(column.buffers()[1], dtype=f"S{width}", count=len(column), offset=column.offset * width)


def numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """A column without nulls, not copied."""
    return np.asarray(column.to_numpy(zero_copy_only=True))
