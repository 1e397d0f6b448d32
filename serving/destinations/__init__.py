"""All destinations of an export, one file each. A new destination is a new file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from serving.destinations import files

DESTINATIONS: dict[str, Callable[[pa.Table, Path, Sequence[str]], None]] = {
    "csv": files.write_csv,
    "parquet": files.write_parquet,
}
