"""Do a peer's numbers agree with ours? python bench/agree.py OURS.parquet THEIRS.parquet"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq


def disagreements(ours: Path, theirs: Path) -> dict[str, int]:
    """Shared column -> users for whom the values differ by more than a rounding; columns without such users are left out.

    Raises:
        SystemExit: the users are not the same.
    """
    left, right = (pq.read_table(path).to_pandas(ignore_metadata=True).set_index("user_id").sort_index() for path in (ours, theirs))
    if not left.index.equals(right.index):
        raise SystemExit(f"{theirs} has {len(right):,} users, ours has {len(left):,}, {len(left.index.intersection(right.index)):,} of them the same")
    found = {name: _different(left[name], right[name]) for name in right.columns if name in left}
    return {name: count for name, count in found.items() if count}


def _different(left: pd.Series, right: pd.Series) -> int:
    if pd.api.types.is_float_dtype(left.dtype):
        # Ours rounds n ln n to a millionth, hence entropies differ in the sixth digit.
        return int((~np.isclose(left.to_numpy(), right.to_numpy(np.float64), rtol=1e-9, atol=2e-5, equal_nan=True)).sum())
    return int((left.astype("str").fillna("") != right.astype("str").fillna("")).sum())


if __name__ == "__main__":
    print(disagreements(Path(sys.argv[1]), Path(sys.argv[2])) or "all shared columns agree")  # noqa: T201
