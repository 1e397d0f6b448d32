"""The loops over tiles: compiled by numba, or run as they stand.

A batch compiles them. The service makes the vector of one user at a time, for which Python's own pace is enough, and does without
numba's memory and without compiling, which takes half a minute where nothing is cached: it says `interpret()` before it loads them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Loop = Callable[..., Any]
_interpreted = False


def interpret() -> bool:
    """Leave the loops of this process as they are written; returns whether they are. Too late once they are loaded."""
    global _interpreted
    if "features.kernels" not in sys.modules and "features.tile_kernels" not in sys.modules:
        _interpreted = True
    return _interpreted


def njit(*, nogil: bool, cache: bool) -> Callable[[Loop], Loop]:
    """numba's decorator, or none at all."""
    if _interpreted:
        return lambda function: function
    from numba import njit as compiling

    return compiling(nogil=nogil, cache=cache)
